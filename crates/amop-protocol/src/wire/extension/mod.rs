//! Extension frames of the client port: `proto/amop/v1/client.proto` as messages that are valid.
//!
//! A body is a two-byte header length, the protobuf header, the payload raw. Lists of topics
//! can be longer than a header, so `Subscribe` and `Subscribed` are the payload, after an empty header.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use prost::Message;

use crate::{
    Cause, ClientIdentity, Fingerprint, NodeId, Retry, Seq, Status, Topic, TraceContext,
    message::{Hop, Mode, Sender, Wishes},
    topic,
    wire::{
        channel::{Encoded, Frame, Type},
        generated as pb,
    },
};

pub use self::deliver::Recent;

/// The extension version this build speaks: the `version` of the handshake's member `amop`.
pub const VERSION: u32 = 1;

/// What an extension client tells its node. The frame's seq stands beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromClient {
    /// The whole topic set; names are checked one by one, so that a bad one is refused singly.
    Subscribe {
        /// Names as sent, valid or not.
        topics: Vec<String>,
    },
    /// A message.
    Publish {
        /// To one or to all.
        mode: Mode,
        /// Where to.
        topic: Topic,
        /// The publisher's own deadline, at least a millisecond; `None`: the node's default.
        deadline: Option<Duration>,
        /// What else is asked for; `None` if nothing is.
        wishes: Option<Box<Wishes>>,
        /// The message.
        payload: Bytes,
    },
    /// The `Deliver` with the same seq, and all before it, have arrived.
    Received,
    /// The answer to the `Deliver` with the same seq.
    Answer {
        /// 0, or the subscriber's own error.
        result: i32,
        /// The answer.
        payload: Bytes,
    },
}

/// What a node tells an extension client. The frame's seq stands beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromNode {
    /// The topics of the `Subscribe` with the same seq are in force.
    Subscribed {
        /// How many.
        accepted: u32,
        /// Names that are not topics; the first of them, if there are very many.
        refused: Vec<String>,
        /// Whether all reachable nodes know them.
        complete: bool,
    },
    /// How the `Publish` with the same seq ended.
    PublishResult {
        /// The documented code.
        status: Status,
        /// Why; unspecified if a newer node gave one that this version does not know.
        cause: Cause,
        /// With 103: when to try again.
        retry_after: Option<Duration>,
        /// Whether to try again; never with success.
        retry: Retry,
        /// Where it failed.
        hop: Option<Box<Hop>>,
        /// The answer to a unicast, or the recipients of a multicast if they were asked for.
        payload: Bytes,
    },
    /// A subscriber was handed the message of the `Publish` with the same seq.
    HandedOver,
    /// A message.
    Deliver {
        /// Whether an answer is expected.
        mode: Mode,
        /// The topic it was sent to.
        topic: Topic,
        /// Who sent it.
        sender: Sender,
        /// How long an answer is waited for; zero for a multicast.
        answer_within: Duration,
        /// The seq its publisher gave it; an older node does not say.
        message: Option<Seq>,
        /// The trace that it is part of, if its publisher named one.
        context: Option<TraceContext>,
        /// The message.
        payload: Bytes,
    },
    /// The node drains.
    Goodbye {
        /// How long it still finishes what is in flight.
        grace: Duration,
    },
}

/// Why a frame is not an extension message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExtensionError {
    /// Not a type that goes this way; ignored, as unknown types are.
    #[error("frame type {0} is not an extension message in this direction")]
    Unknown(Type),
    /// The header length does not fit the body.
    #[error("the header of an extension frame runs past its end")]
    Truncated,
    /// The header is not the protobuf message of this type.
    #[error("the header of an extension frame cannot be decoded")]
    Header(#[from] prost::DecodeError),
    /// Not a topic name.
    #[error("bad topic in an extension frame")]
    Topic(#[from] topic::ParseError),
    /// A field that must be there is absent or cannot be.
    #[error("field {0} of an extension frame is missing or not valid")]
    Field(&'static str),
}

impl FromClient {
    /// Reads a client's frame.
    ///
    /// # Errors
    /// When it is not an extension message of a client, or not a valid one.
    pub fn decode(frame: &Frame) -> Result<Self, ExtensionError> {
        let (header, payload) = split(frame)?;
        Ok(match frame.kind {
            Type::SUBSCRIBE => Self::Subscribe { topics: pb::Subscribe::decode(payload)?.topics },
            Type::PUBLISH => {
                let publish = pb::Publish::decode(header)?;
                Self::Publish {
                    mode: mode(publish.mode)?,
                    topic: Topic::parse(&publish.topic)?,
                    deadline: millis(publish.deadline_ms),
                    wishes: detail::wishes(publish)?,
                    payload,
                }
            }
            Type::RECEIVED => {
                pb::Received::decode(header)?;
                Self::Received
            }
            Type::DELIVER_ANSWER => {
                pb::Answer::decode(header)?;
                Self::Answer { result: frame.result, payload }
            }
            other => return Err(ExtensionError::Unknown(other)),
        })
    }

    /// The frame of this message.
    pub fn encode(self, seq: Seq) -> Encoded {
        match self {
            Self::Subscribe { topics } => list(Type::SUBSCRIBE, seq, &pb::Subscribe { topics }),
            Self::Publish { mode, topic, deadline, wishes, payload } => {
                let header = pb::Publish {
                    mode: pb::Mode::from(mode).into(),
                    topic: topic.as_str().to_owned(),
                    // A deadline under a millisecond must not become "the default".
                    deadline_ms: deadline.map_or(0, |d| to_millis(d).max(1)),
                    ..wishes.map_or_else(pb::Publish::default, |wishes| detail::asking_for(&wishes))
                };
                encode(Type::PUBLISH, seq, 0, &header, payload)
            }
            Self::Received => encode(Type::RECEIVED, seq, 0, &pb::Received {}, Bytes::new()),
            Self::Answer { result, payload } => {
                encode(Type::DELIVER_ANSWER, seq, result, &pb::Answer {}, payload)
            }
        }
    }
}

impl FromNode {
    /// Reads a node's frame.
    ///
    /// # Errors
    /// When it is not an extension message of a node, or not a valid one.
    pub fn decode(frame: &Frame) -> Result<Self, ExtensionError> {
        Self::decode_after(frame, &mut Recent::default())
    }

    /// As [`FromNode::decode`], for one frame of a session after the other.
    ///
    /// # Errors
    /// As [`FromNode::decode`].
    pub fn decode_after(frame: &Frame, recent: &mut Recent) -> Result<Self, ExtensionError> {
        let (header, payload) = split(frame)?;
        Ok(match frame.kind {
            Type::SUBSCRIBED => {
                let pb::Subscribed { accepted, refused, complete } = pb::Subscribed::decode(payload)?;
                Self::Subscribed { accepted, refused, complete }
            }
            Type::PUBLISH_RESULT => {
                detail::publish_result(frame.result, pb::PublishResult::decode(header)?, payload)?
            }
            Type::DELIVER => {
                let deliver::Header { mode, topic, sender, answer_within, message, context } =
                    deliver::read(header, recent)?;
                Self::Deliver { mode, topic, sender, answer_within, message, context, payload }
            }
            Type::HANDED_OVER => {
                pb::HandedOver::decode(header)?;
                Self::HandedOver
            }
            Type::GOODBYE => {
                let goodbye = pb::Goodbye::decode(header)?;
                Self::Goodbye { grace: Duration::from_millis(goodbye.grace_ms.into()) }
            }
            other => return Err(ExtensionError::Unknown(other)),
        })
    }

    /// The frame of this message.
    pub fn encode(self, seq: Seq) -> Encoded {
        match self {
            Self::Subscribed { accepted, refused, complete } => {
                list(Type::SUBSCRIBED, seq, &pb::Subscribed { accepted, refused, complete })
            }
            Self::PublishResult { status, cause, retry_after, retry, hop, payload } => {
                let header = pb::PublishResult {
                    cause: cause.into(),
                    retry_after_ms: retry_after.map_or(0, to_millis),
                    hop: hop.as_deref().map(detail::from_hop),
                    retry: if status == Status::Success { 0 } else { retry.into() },
                };
                encode(Type::PUBLISH_RESULT, seq, status.code(), &header, payload)
            }
            Self::HandedOver => encode(Type::HANDED_OVER, seq, 0, &pb::HandedOver {}, Bytes::new()),
            Self::Deliver { mode, topic, sender, answer_within, message, context, payload } => {
                let own = (to_millis(answer_within), message.as_ref(), context.as_ref());
                let header = deliver::header(mode, &topic, &sender, own);
                Encoded::new(Type::DELIVER, seq, 0, &header, payload)
            }
            Self::Goodbye { grace } => {
                let header = pb::Goodbye { grace_ms: to_millis(grace) };
                encode(Type::GOODBYE, seq, 0, &header, Bytes::new())
            }
        }
    }
}

fn split(frame: &Frame) -> Result<(&[u8], Bytes), ExtensionError> {
    let (len, rest) = frame.body.split_first_chunk().ok_or(ExtensionError::Truncated)?;
    let header = rest.get(..usize::from(u16::from_be_bytes(*len))).ok_or(ExtensionError::Truncated)?;
    Ok((header, frame.body.slice(len.len() + header.len()..)))
}

/// Headers hold a topic and a few names, each bounded far below what the length field can say;
/// a list goes through [`list`].
fn encode(kind: Type, seq: Seq, result: i32, header: &impl Message, payload: Bytes) -> Encoded {
    let len = header.encoded_len();
    let prefix = |head: &mut Vec<u8>| {
        head.extend_from_slice(&u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes());
        header.encode(head).expect("invariant: a Vec grows");
    };
    Encoded::with_prefix(kind, seq, result, 2 + len, prefix, payload)
}

fn list(kind: Type, seq: Seq, message: &impl Message) -> Encoded {
    Encoded::new(kind, seq, 0, &[0, 0], message.encode_to_vec().into())
}

fn sender(sender: pb::Sender) -> Result<Sender, ExtensionError> {
    let client = sender.client.ok_or(ExtensionError::Field("sender.client"))?;
    Ok(Sender {
        institution: sender.institution.into(),
        node: NodeId::from_hex(&sender.node).ok_or(ExtensionError::Field("sender.node"))?,
        client: Arc::new(ClientIdentity {
            fingerprint: Fingerprint::from_slice(&client.fingerprint)
                .ok_or(ExtensionError::Field("sender.client.fingerprint"))?,
            name: client.name.into(),
        }),
    })
}

impl From<Mode> for pb::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Unicast => Self::Unicast,
            Mode::Multicast => Self::Multicast,
        }
    }
}

fn mode(mode: i32) -> Result<Mode, ExtensionError> {
    match pb::Mode::try_from(mode) {
        Ok(pb::Mode::Unicast) => Ok(Mode::Unicast),
        Ok(pb::Mode::Multicast) => Ok(Mode::Multicast),
        Ok(pb::Mode::Unspecified) | Err(_) => Err(ExtensionError::Field("mode")),
    }
}

fn message(seq: &[u8]) -> Result<Option<Seq>, ExtensionError> {
    match seq {
        [] => Ok(None),
        seq => Ok(Some(Seq(seq.try_into().map_err(|_| ExtensionError::Field("message"))?))),
    }
}

fn millis(millis: u32) -> Option<Duration> {
    (millis > 0).then(|| Duration::from_millis(millis.into()))
}

fn to_millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

mod deliver;
mod detail;
#[cfg(test)]
mod tests;
