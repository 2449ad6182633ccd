//! Data messages between nodes: protobuf ⇄ what delivery works with, validated.

mod decode;
mod encode;
mod subject;

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

pub use self::subject::{Carries, Subject, subject, topic};
use super::{
    fields::{entry, entry_len, length, skim},
    link::{Kind, LinkFrame},
};
use crate::{
    Cause, ClientIdentity, Fingerprint, NodeId, Seq, SessionId, Topic, TraceContext, limits::MAX_HOPS,
};

/// Most destinations one fan-out frame may name; a header stays below 64 KiB.
pub const MAX_DESTINATIONS: usize = 1024;

/// Nodes that a data frame is for: nearly always one or a few, which take no allocation.
pub type Destinations = SmallVec<[NodeId; 4]>;

/// Where a data frame is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// One node, or several while a fan-out has not branched; never empty.
    pub destinations: Destinations,
    /// Remaining hops of a source route, next one first; empty: by each relay's own table.
    pub path: Vec<NodeId>,
}

/// A data message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataMessage {
    /// Who made it.
    pub origin: NodeId,
    /// The epoch of whoever made it.
    pub origin_epoch: u64,
    /// What it says.
    pub body: Body,
}

/// What a data message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A message towards one subscriber of the destination.
    Attempt {
        /// Which send of the origin.
        send: u64,
        /// Which attempt of that send; a resend repeats it.
        number: u32,
        /// The message but for its payload.
        envelope: Envelope,
        /// How long the subscriber has to answer.
        push_timeout_ms: u32,
    },
    /// The attempt was written to a subscriber.
    Handed {
        /// Which send.
        send: SendRef,
        /// Which attempt of it.
        number: u32,
    },
    /// The attempt ended; with success, the frame's payload is the answer's.
    Outcome {
        /// Which send.
        send: SendRef,
        /// Which attempt of it.
        number: u32,
        /// How.
        cause: Cause,
        /// No other candidate may be tried.
        is_final: bool,
        /// This destination has no other candidate for the send.
        exhausted: bool,
        /// See `AnswerBody::prefix`.
        answer_prefix: Bytes,
    },
    /// A message to every subscriber of every destination.
    FanOut {
        /// Which send of the origin.
        send: u64,
        /// The message but for its payload.
        envelope: Envelope,
        /// Whether to report each recipient.
        recipients: bool,
    },
    /// How a fan-out fares at one destination.
    FanOutReport {
        /// Which send.
        send: SendRef,
        /// Subscribers that were handed the message.
        handed: u32,
        /// Subscribers that could not be.
        failed: u32,
        /// The most telling failure.
        cause: Cause,
        /// Nobody there is waited for any longer.
        complete: bool,
    },
    /// A node on the way has no room, or no bandwidth, to pass a message on.
    Refused {
        /// Which send.
        send: SendRef,
        /// Which attempt of it; 0 for a fan-out.
        number: u32,
        /// For whom it was not passed on: 1 to [`MAX_DESTINATIONS`].
        destinations: Vec<NodeId>,
        /// Which limit is used up.
        cause: Cause,
        /// When to try again, in milliseconds.
        retry_after_ms: u32,
    },
    /// A question about what became of a message, or the answer to one; see [`crate::wire::inquiry`] for the payload.
    Inquiry {
        /// Names the question; its answer repeats it.
        id: u64,
        /// Whether this is the answer.
        is_answer: bool,
    },
}

/// A send of the node a report goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendRef {
    /// The epoch in which it began.
    pub epoch: u64,
    /// Its number in that epoch.
    pub id: u64,
}

/// A client's message but for its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Who published it.
    pub publisher: Arc<ClientIdentity>,
    /// The publisher's name for it.
    pub seq: Seq,
    /// Where to.
    pub topic: Topic,
    /// Only to subscribers with this certificate; `None`: to any.
    pub client: Option<Fingerprint>,
    /// Of a reserved name: the very sessions it is for; nobody at a node that is not named.
    pub audience: Vec<Audience>,
    /// The running application that publishes it, if it named one; never 0. Its other sessions are
    /// not among the subscribers.
    pub instance: Option<u128>,
    /// The trace that it is part of, if its publisher named one.
    pub context: Option<TraceContext>,
}

/// Sessions of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audience {
    /// The node.
    pub node: NodeId,
    /// The epoch in which it numbers its sessions so.
    pub epoch: u64,
    /// Their numbers, in order, each once.
    pub sessions: Vec<SessionId>,
}

impl Envelope {
    /// The sessions of `node` that a message to a reserved name is for.
    pub fn sessions_at(&self, node: &NodeId, epoch: u64) -> &[SessionId] {
        let here = self.audience.iter().find(|part| part.node == *node && part.epoch == epoch);
        here.map_or(&[], |part| &part.sessions)
    }
}

/// A data frame that breaks the protocol; the link it came over is closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// The header is not the protobuf it should be.
    #[error("the header of a data frame does not decode")]
    Protobuf(#[source] prost::DecodeError),
    /// The header ends within a field, or has a field of no known form.
    #[error("the header of a data frame does not end where its fields do")]
    Truncated,
    /// A field that must be there is missing, or has the wrong length or value.
    #[error("the header of a data frame has no valid `{0}`")]
    Field(&'static str),
}

/// Tags of the fields of `Data` that make a route.
const DESTINATIONS: u8 = 3;
const PATH: u8 = 4;
const MACS: u8 = 5;
/// Tags of the bodies that carry a client's message.
const ATTEMPT: u64 = 8;
const FAN_OUT: u64 = 11;
/// Tags of the other bodies; see `peer.proto` for those of their fields.
const HANDED: u64 = 9;
const OUTCOME: u64 = 10;
const FAN_OUT_REPORT: u64 = 12;
const REFUSED: u64 = 13;
const INQUIRY: u64 = 14;

/// Reads where a data frame is to go, and nothing else of it.
///
/// # Errors
/// When the header does not decode, or names no destination, too many, or malformed ones.
pub fn decode_route(header: &[u8]) -> Result<Route, DataError> {
    let mut route = Route { destinations: Destinations::new(), path: Vec::new() };
    for field in skim(header) {
        let field = field.ok_or(DataError::Truncated)?;
        let node = |listed: usize, most: usize, name: &'static str| {
            let node = field.value.and_then(NodeId::from_slice).filter(|_| listed < most);
            node.ok_or(DataError::Field(name))
        };
        let Route { destinations, path } = &mut route;
        match u8::try_from(field.tag) {
            Ok(DESTINATIONS) => {
                destinations.push(node(destinations.len(), MAX_DESTINATIONS, "destinations")?)
            }
            Ok(PATH) => path.push(node(path.len(), usize::from(MAX_HOPS), "path")?),
            _ => {}
        }
    }
    if route.destinations.is_empty() {
        return Err(DataError::Field("destinations"));
    }
    Ok(route)
}

/// A MAC over a data message.
pub type Mac = [u8; 16];
/// Bytes of a node's id that say whose a MAC is.
const MAC_OWNER: usize = 8;
/// Bytes of a header's field with a MAC.
const MAC_LEN: usize = 2 + MAC_OWNER + size_of::<Mac>();

/// The fields of a header that no relay may change, as they are encoded.
pub fn authenticated(header: &[u8]) -> impl Iterator<Item = &[u8]> {
    let route = [DESTINATIONS, PATH, MACS].map(u64::from);
    skim(header).flatten().filter(move |field| !route.contains(&field.tag)).map(|field| field.raw)
}

/// The MAC for this destination, if there is one.
///
/// # Errors
/// When the header does not decode.
pub fn mac_for(header: &[u8], node: &NodeId) -> Result<Option<Mac>, DataError> {
    for field in skim(header) {
        let field = field.ok_or(DataError::Truncated)?;
        if field.tag == u64::from(MACS)
            && let Some((owner, mac)) = field.value.and_then(|value| value.split_at_checked(MAC_OWNER))
            && owner == &node.as_bytes()[..MAC_OWNER]
        {
            return Ok(mac.try_into().ok());
        }
    }
    Ok(None)
}

/// Whether a data frame carries a client's message, and not a report about one.
pub fn carries_message(header: &[u8]) -> bool {
    skim(header).flatten().any(|field| [ATTEMPT, FAN_OUT].contains(&field.tag))
}

/// Whether a relay that has used up its limit may refuse a data frame: a client's message, a question about one,
/// or the answer. For reports somebody waits who would only ask again.
pub fn may_be_refused(header: &[u8]) -> bool {
    skim(header).flatten().any(|field| [ATTEMPT, FAN_OUT, INQUIRY].contains(&field.tag))
}

/// The header of the same frame with another route; all else stays as it is.
///
/// # Errors
/// When the header does not decode.
pub fn reroute(header: &[u8], route: &Route) -> Result<Bytes, DataError> {
    let mut out = Vec::with_capacity(header.len() + route_len(route));
    for field in skim(header) {
        let field = field.ok_or(DataError::Truncated)?;
        if ![u64::from(DESTINATIONS), u64::from(PATH)].contains(&field.tag) {
            out.extend_from_slice(field.raw);
        }
    }
    put_route(&mut out, route);
    Ok(out.into())
}

/// Reads a data message.
///
/// # Errors
/// When the header does not decode or a field of it is not valid.
pub fn decode(header: &Bytes) -> Result<DataMessage, DataError> {
    decode::message(header)
}

/// Builds the frame of a data message.
pub fn encode(message: &DataMessage, route: &Route, flow: u32, payload: Bytes) -> LinkFrame {
    encode_sealed(message, route, flow, payload, |_, _, _| None)
}

/// The same with MACs: `mac` makes that of a destination, if it needs one, of the header without any and the payload.
pub fn encode_sealed(
    message: &DataMessage,
    route: &Route,
    flow: u32,
    payload: Bytes,
    mut mac: impl FnMut(&NodeId, &[u8], &[u8]) -> Option<Mac>,
) -> LinkFrame {
    let mut header = encode::header(message, route);
    let end = header.len();
    for node in &route.destinations {
        if let Some(mac) = mac(node, &header[..end], &payload) {
            length(&mut header, MACS, MAC_OWNER + mac.len());
            header.extend_from_slice(&node.as_bytes()[..MAC_OWNER]);
            header.extend_from_slice(&mac);
        }
    }
    LinkFrame { kind: Kind::Data, hops: MAX_HOPS, flow, header: header.into(), payload }
}

fn route_len(route: &Route) -> usize {
    (route.destinations.len() + route.path.len()) * entry_len(32)
}

fn put_route(out: &mut Vec<u8>, route: &Route) {
    for node in &route.destinations {
        entry(out, DESTINATIONS, node.as_bytes());
    }
    for node in &route.path {
        entry(out, PATH, node.as_bytes());
    }
}

#[cfg(test)]
mod tests;
