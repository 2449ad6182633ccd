//! Data messages between nodes: protobuf ⇄ what delivery works with, validated.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use super::{
    generated as pb,
    link::{Kind, LinkFrame},
};
use crate::{Cause, ClientIdentity, Fingerprint, NodeId, Seq, Topic, limits::MAX_HOPS};

/// Most destinations one fan-out frame may name; a header stays below 64 KiB.
pub const MAX_DESTINATIONS: usize = 1024;

/// Where a data frame is to go: all that a relay reads of it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct RouteFields {
    #[prost(bytes = "bytes", repeated, tag = "3")]
    destinations: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "4")]
    path: Vec<Bytes>,
}

/// Where a data frame is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// One node, or several while a fan-out has not branched; never empty.
    pub destinations: Vec<NodeId>,
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
}

/// A data frame that breaks the protocol; the link it came over is closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// The header is not the protobuf it should be.
    #[error("the header of a data frame does not decode")]
    Protobuf(#[source] prost::DecodeError),
    /// A field that must be there is missing, or has the wrong length or value.
    #[error("the header of a data frame has no valid `{0}`")]
    Field(&'static str),
}

/// Reads where a data frame is to go, and nothing else of it.
///
/// # Errors
/// When the header does not decode, or names no destination, too many, or malformed ones.
pub fn decode_route(header: &Bytes) -> Result<Route, DataError> {
    let fields = RouteFields::decode(header.clone()).map_err(DataError::Protobuf)?;
    if fields.destinations.is_empty() || fields.destinations.len() > MAX_DESTINATIONS {
        return Err(DataError::Field("destinations"));
    }
    if fields.path.len() > usize::from(MAX_HOPS) {
        return Err(DataError::Field("path"));
    }
    Ok(Route {
        destinations: nodes(&fields.destinations, "destinations")?,
        path: nodes(&fields.path, "path")?,
    })
}

/// The header of the same frame with another route.
///
/// # Errors
/// When the header does not decode.
pub fn reroute(header: &Bytes, route: &Route) -> Result<Bytes, DataError> {
    let mut data = pb::Data::decode(header.clone()).map_err(DataError::Protobuf)?;
    data.destinations = ids(&route.destinations);
    data.path = ids(&route.path);
    Ok(data.encode_to_vec().into())
}

/// Reads a data message.
///
/// # Errors
/// When the header does not decode or a field of it is not valid.
pub fn decode(header: &Bytes) -> Result<DataMessage, DataError> {
    let data = pb::Data::decode(header.clone()).map_err(DataError::Protobuf)?;
    Ok(DataMessage {
        origin: NodeId::from_slice(&data.origin).ok_or(DataError::Field("origin"))?,
        origin_epoch: data.origin_epoch,
        body: body(data.body.ok_or(DataError::Field("body"))?)?,
    })
}

/// Builds the frame of a data message.
pub fn encode(message: &DataMessage, route: &Route, flow: u32, payload: Bytes) -> LinkFrame {
    let data = pb::Data {
        origin: id(&message.origin),
        origin_epoch: message.origin_epoch,
        destinations: ids(&route.destinations),
        path: ids(&route.path),
        mac: Bytes::new(),
        body: Some(to_pb(&message.body)),
    };
    LinkFrame { kind: Kind::Data, hops: MAX_HOPS, flow, header: data.encode_to_vec().into(), payload }
}

fn body(body: pb::data::Body) -> Result<Body, DataError> {
    use pb::data::Body as P;
    Ok(match body {
        P::Attempt(m) => Body::Attempt {
            send: m.send_id,
            number: m.number,
            envelope: envelope(m.envelope)?,
            push_timeout_ms: m.push_timeout_ms,
        },
        P::Handed(m) => {
            Body::Handed { send: SendRef { epoch: m.send_epoch, id: m.send_id }, number: m.number }
        }
        P::Outcome(m) => Body::Outcome {
            send: SendRef { epoch: m.send_epoch, id: m.send_id },
            number: m.number,
            cause: m.cause(),
            is_final: m.r#final,
            exhausted: m.exhausted,
            answer_prefix: prefix(m.answer_prefix)?,
        },
        P::FanOut(m) => Body::FanOut { send: m.send_id, envelope: envelope(m.envelope)? },
        P::FanOutReport(m) => Body::FanOutReport {
            send: SendRef { epoch: m.send_epoch, id: m.send_id },
            handed: m.handed,
            failed: m.failed,
            cause: m.cause(),
            complete: m.complete,
        },
    })
}

fn to_pb(body: &Body) -> pb::data::Body {
    use pb::data::Body as P;
    match body {
        Body::Attempt { send, number, envelope, push_timeout_ms } => P::Attempt(pb::Attempt {
            send_id: *send,
            number: *number,
            envelope: Some(envelope_to_pb(envelope)),
            push_timeout_ms: *push_timeout_ms,
        }),
        Body::Handed { send, number } => {
            P::Handed(pb::Handed { send_id: send.id, number: *number, send_epoch: send.epoch })
        }
        Body::Outcome { send, number, cause, is_final, exhausted, answer_prefix } => {
            P::Outcome(pb::Outcome {
                send_id: send.id,
                number: *number,
                cause: (*cause).into(),
                r#final: *is_final,
                exhausted: *exhausted,
                answer_prefix: answer_prefix.clone(),
                send_epoch: send.epoch,
            })
        }
        Body::FanOut { send, envelope } => {
            P::FanOut(pb::FanOut { send_id: *send, envelope: Some(envelope_to_pb(envelope)) })
        }
        Body::FanOutReport { send, handed, failed, cause, complete } => P::FanOutReport(pb::FanOutReport {
            send_id: send.id,
            send_epoch: send.epoch,
            handed: *handed,
            failed: *failed,
            cause: (*cause).into(),
            complete: *complete,
        }),
    }
}

fn envelope(envelope: Option<pb::Envelope>) -> Result<Envelope, DataError> {
    let envelope = envelope.ok_or(DataError::Field("envelope"))?;
    let publisher = envelope.publisher.ok_or(DataError::Field("publisher"))?;
    let fingerprint =
        Fingerprint::from_slice(&publisher.fingerprint).ok_or(DataError::Field("fingerprint"))?;
    Ok(Envelope {
        publisher: Arc::new(ClientIdentity { fingerprint, name: publisher.name.into() }),
        seq: Seq(envelope.seq[..].try_into().map_err(|_| DataError::Field("seq"))?),
        topic: Topic::parse(&envelope.topic).map_err(|_| DataError::Field("topic"))?,
    })
}

fn envelope_to_pb(envelope: &Envelope) -> pb::Envelope {
    pb::Envelope {
        publisher: Some(pb::ClientIdentity {
            fingerprint: Bytes::copy_from_slice(envelope.publisher.fingerprint.as_bytes()),
            name: envelope.publisher.name.to_string(),
        }),
        seq: Bytes::copy_from_slice(&envelope.seq.0),
        topic: envelope.topic.to_string(),
    }
}

/// A malformed prefix would crash SDKs that decode the answer; it must be a length byte and its topic.
fn prefix(prefix: Bytes) -> Result<Bytes, DataError> {
    match prefix.first() {
        None => Ok(prefix),
        Some(&n) if usize::from(n) == prefix.len() => Ok(prefix),
        Some(_) => Err(DataError::Field("answer_prefix")),
    }
}

fn nodes(raw: &[Bytes], field: &'static str) -> Result<Vec<NodeId>, DataError> {
    raw.iter().map(|bytes| NodeId::from_slice(bytes).ok_or(DataError::Field(field))).collect()
}

fn ids(nodes: &[NodeId]) -> Vec<Bytes> {
    nodes.iter().map(id).collect()
}

fn id(node: &NodeId) -> Bytes {
    Bytes::copy_from_slice(node.as_bytes())
}

#[cfg(test)]
mod tests;
