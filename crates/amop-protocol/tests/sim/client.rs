//! The client's end: frames of a 2.x SDK, or of ours, written and read without the SDK's help.

use std::time::Duration;

use amop_protocol::{
    Cause, Retry, Seq, Status, Topic,
    broker::event::Mode,
    session::client::{Deliver, Push},
    wire::{
        channel::{Decoder, Encoded, Frame, TopicBody, Type},
        extension::{FromClient, FromNode},
    },
};
use bytes::{Bytes, BytesMut};

use crate::{
    plan::{Behaviour, Dialect, Receipts},
    wants::Wants,
};

/// An application connected to a node.
pub struct Client {
    pub node: usize,
    pub dialect: Dialect,
    pub behaviour: Behaviour,
    pub receipts: Receipts,
    /// The application, if it has sessions at other nodes too.
    pub instance: Option<usize>,
    next_report: u128,
}

/// What a frame from the node tells a client.
#[derive(Clone, Debug)]
pub enum Told {
    Message {
        push: Seq,
        mode: Mode,
        message: u64,
        /// All that an extension client is told.
        deliver: Option<Box<Deliver>>,
    },
    Outcome {
        message: u64,
        ended: Ended,
        /// How the recipients of a multicast fared, if that was asked for.
        report: Bytes,
    },
    /// A subscriber was handed this message.
    HandedOver { message: u64 },
    /// Whether all nodes know everything that it has reported so far.
    Subscribed { complete: bool },
    /// Goodbyes, and replies to the handshake.
    Other,
}

/// How a node says that a send ended; a 2.x client learns no cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    pub status: Status,
    pub cause: Option<Cause>,
    /// Whether to send again.
    pub retry: Option<Retry>,
    /// The message that was answered, and who answered.
    pub answer: Option<(u64, usize)>,
}

/// Reports are named above all messages.
const REPORTS: u128 = 1 << 64;

impl Client {
    pub fn new(
        node: usize,
        dialect: Dialect,
        behaviour: Behaviour,
        receipts: Receipts,
        instance: Option<usize>,
    ) -> Self {
        Self { node, dialect, behaviour, receipts, instance, next_report: REPORTS }
    }

    /// The first frame, unless this client sends none.
    pub fn greeting(&self) -> Option<Encoded> {
        let instance = self.instance.map_or(String::new(), |number| format!("{number:032x}"));
        let body = match self.dialect {
            Dialect::V1 => return None,
            Dialect::V3 => r#"{"minimumSupport":1,"maximumSupport":3,"clientType":"java-sdk"}"#.to_owned(),
            Dialect::Extended => format!(
                r#"{{"minimumSupport":1,"maximumSupport":3,"clientType":"sim","amop":{{"version":1,"instance":"{instance}"}}}}"#
            ),
        };
        Some(Encoded::new(Type::HANDSHAKE, Seq::from_u128(0), 0, &[], Bytes::from(body)))
    }

    pub fn subscribe(&mut self, topics: &[Topic]) -> Encoded {
        let seq = Seq::from_u128(self.next_report);
        self.next_report += 1;
        let topics: Vec<String> = topics.iter().map(Topic::to_string).collect();
        if self.dialect == Dialect::Extended {
            return FromClient::Subscribe { topics }.encode(seq);
        }
        Encoded::new(Type::TOPICS, seq, 0, &[], serde_json::Value::from(topics).to_string().into())
    }

    pub fn publish(
        &self,
        message: u64,
        mode: Mode,
        topic: Topic,
        deadline: Option<Duration>,
        wants: Wants,
    ) -> Encoded {
        let seq = Seq::from_u128(message.into());
        let mut payload = message.to_be_bytes().to_vec();
        payload.resize(wants.bytes.max(payload.len()), 0);
        let payload = Bytes::from(payload);
        match (self.dialect, mode) {
            (Dialect::Extended, _) => {
                FromClient::Publish { mode, topic, deadline, wishes: wants.wishes(), payload }.encode(seq)
            }
            (_, Mode::Unicast) => Encoded::with_topic(Type::UNICAST, seq, 0, &topic, payload),
            (_, Mode::Multicast) => Encoded::with_topic(Type::MULTICAST, seq, 0, &topic, payload),
        }
    }

    /// Whether its node counts what was written as handed over, or waits for its word.
    pub fn says_received(&self) -> bool {
        self.dialect == Dialect::Extended
    }

    /// What it says of having received this, and how long after it has read it.
    pub fn receipt(&self, push: Seq) -> Option<(Duration, Encoded)> {
        match self.receipts {
            Receipts::After(after) if self.says_received() => {
                Some((after, FromClient::Received.encode(push)))
            }
            _ => None,
        }
    }

    /// A publication whose body is no topic body.
    pub fn publish_malformed(&self, message: u64) -> Encoded {
        let kind = if self.dialect == Dialect::Extended { Type::PUBLISH } else { Type::UNICAST };
        Encoded::new(kind, Seq::from_u128(message.into()), 0, &[], Bytes::from_static(b"\0\xff"))
    }

    /// An answer: the message and who answers. Some 2.x clients send it without the topic before it.
    pub fn answer(&self, push: Seq, result: i32, message: u64, client: usize, topic: &Topic) -> Encoded {
        let payload = Self::answer_payload(message, client);
        match self.dialect {
            Dialect::Extended => FromClient::Answer { result, payload }.encode(push),
            _ if result != 0 => Encoded::empty(Type::ANSWER, push, result),
            Dialect::V1 => Encoded::new(Type::ANSWER, push, result, &[], payload),
            Dialect::V3 => Encoded::with_topic(Type::ANSWER, push, result, topic, payload),
        }
    }

    /// The message that is answered, and who answers it.
    pub fn answer_payload(message: u64, client: usize) -> Bytes {
        Bytes::from([message.to_be_bytes(), (client as u64).to_be_bytes()].concat())
    }

    fn newest_report(&self) -> Seq {
        Seq::from_u128(self.next_report - 1)
    }

    /// Reads a frame from the node; what a client of this kind could not read is an error.
    pub fn read(&self, frame: Frame) -> Result<Told, String> {
        match (self.dialect, frame.kind) {
            (_, Type::HANDSHAKE) => Ok(Told::Other),
            (Dialect::Extended, _) => read_extension(&frame, self.newest_report()),
            (_, Type::UNICAST) => Ok(message(frame.seq, Mode::Unicast, &topic_body(frame.body)?)),
            (_, Type::MULTICAST) => Ok(message(frame.seq, Mode::Multicast, &topic_body(frame.body)?)),
            (_, Type::ANSWER) => read_answer(frame),
            (_, kind) => Err(format!("a 2.x client was sent a frame of type {kind}")),
        }
    }
}

fn read_extension(frame: &Frame, newest_report: Seq) -> Result<Told, String> {
    let seq = frame.seq;
    Ok(match FromNode::decode(frame).map_err(|error| error.to_string())? {
        // Said of an older report it tells nothing about what has changed since.
        FromNode::Subscribed { complete, .. } => {
            Told::Subscribed { complete: complete && seq == newest_report }
        }
        FromNode::HandedOver => Told::HandedOver { message: number_of(seq) },
        FromNode::Goodbye { .. } => Told::Other,
        FromNode::Deliver { mode, topic, sender, answer_within, message, context, payload } => {
            Told::Message {
                push: seq,
                mode,
                message: number(&payload).unwrap_or_default(),
                deliver: Some(Box::new(Deliver {
                    push: Push::new(seq, topic.clone()),
                    mode,
                    topic,
                    sender: Some(sender),
                    answer_within: Some(answer_within),
                    message,
                    context,
                    payload,
                })),
            }
        }
        FromNode::PublishResult { status, cause, retry, payload, .. } => {
            if cause.status() != status {
                return Err(format!("{cause:?} came with code {status}"));
            }
            outcome(seq, status, Some((cause, retry)), payload)
        }
    })
}

fn read_answer(frame: Frame) -> Result<Told, String> {
    let status = Status::from_code(frame.result).ok_or(format!("there is no code {}", frame.result))?;
    if status != Status::Success {
        let empty = frame.body.is_empty();
        return if empty {
            Ok(outcome(frame.seq, status, None, Bytes::new()))
        } else {
            Err("an error has a body".into())
        };
    }
    Ok(outcome(frame.seq, status, None, topic_body(frame.body)?))
}

fn topic_body(body: Bytes) -> Result<Bytes, String> {
    let body = TopicBody::parse(body).map_err(|error| error.to_string())?;
    body.topic().map_err(|error| error.to_string())?;
    Ok(body.payload)
}

fn message(push: Seq, mode: Mode, payload: &[u8]) -> Told {
    Told::Message { push, mode, message: number(payload).unwrap_or_default(), deliver: None }
}

fn outcome(seq: Seq, status: Status, why: Option<(Cause, Retry)>, payload: Bytes) -> Told {
    let answer = payload.get(8..).and_then(|rest| Some((number(&payload)?, number(rest)? as usize)));
    let (cause, retry) = why.unzip();
    Told::Outcome { message: number_of(seq), ended: Ended { status, cause, retry, answer }, report: payload }
}

fn number_of(seq: Seq) -> u64 {
    seq.to_u128().map_or(0, |seq| seq as u64)
}

/// The number of the message with this payload.
pub fn number(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

/// What the other end of a connection reads.
pub fn over_the_wire(frame: &Encoded) -> Frame {
    let mut bytes = BytesMut::with_capacity(frame.wire_len());
    frame.put(&mut bytes);
    Decoder::default().decode(&mut bytes).expect("a valid length").expect("a whole frame")
}
