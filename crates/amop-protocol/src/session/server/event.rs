//! What a session is made with, and what comes of a client's frames.

use std::time::Duration;

use bytes::Bytes;

use crate::{
    Cause, Seq, Topic,
    broker::{
        event::{Answer, Mode, PushId},
        wishes::Wishes,
    },
    session::{
        handshake::{About, HandshakeError},
        startup,
        verification::Verdict,
    },
    wire::channel::Encoded,
};

/// Bounds of a session and what the node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Answers to what SDKs ask at start-up.
    pub startup: startup::Config,
    /// Who the node is, for clients that ask for extensions.
    pub about: About,
    /// Most topics of one session. More: the session is closed.
    pub max_topics: usize,
    /// Most sends of one session that have no outcome yet. More: refused with 103.
    pub max_in_flight: usize,
    /// A session is closed after this long without a byte in either direction.
    pub idle: Duration,
}

/// What a client's frame comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Write this to the client.
    Reply(Encoded),
    /// A send cannot be admitted, and why; write its outcome to the client.
    Refused(Encoded, Cause),
    /// A JSON-RPC call; [`Server::answer_call`](super::Server::answer_call) answers it from the facts of the moment.
    Call {
        /// Names the call.
        seq: Seq,
        /// The call.
        body: Bytes,
    },
    /// The session's topics are now these. No later frame is handled before they are in force.
    Report(Report),
    /// A message to send; its outcome is to come back, once.
    Publish(Published),
    /// The answer to a push, and pushes before it that have arrived, as it says.
    Answer(PushId, Answer, Vec<PushId>),
    /// These pushes have arrived.
    Received(Vec<PushId>),
    /// A publisher says what came of a question it was asked. No later frame is handled before that
    /// is in force.
    Verdict(Verdict),
    /// Nothing is to be done.
    Ignored(Ignored),
}

/// A session's complete topic set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Valid topics, each once, in order.
    pub topics: Vec<Topic>,
    /// How many names were none, and dropped.
    pub refused: u64,
    /// An extension client waits for [`Server::subscribed`](super::Server::subscribed) under this seq.
    pub acknowledge: Option<Acknowledge>,
}

/// What an acknowledgement of a subscription repeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledge {
    pub(super) seq: Seq,
    pub(super) accepted: u32,
    pub(super) refused: Vec<String>,
}

/// A message as its client sent it; the driver adds who that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The publisher's name for the message.
    pub seq: Seq,
    /// To one or to all.
    pub mode: Mode,
    /// Where to.
    pub topic: Topic,
    /// The message.
    pub payload: Bytes,
    /// The publisher's own deadline, if it gave one.
    pub deadline: Option<Duration>,
    /// What else an extension client asks for.
    pub wishes: Option<Box<Wishes>>,
}

/// Why a frame led to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// A heartbeat that the session's version does not answer.
    Heartbeat,
    /// A type that nobody knows, or that this session has not negotiated.
    UnknownType,
    /// A body that is not what its type says.
    Malformed,
    /// An answer to nothing this node asked.
    UnknownAnswer,
    /// Part of the verification of private topics.
    Verification,
}

/// Why a session is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Close {
    /// No common version.
    #[error(transparent)]
    Incompatible(HandshakeError),
    /// Too many topics.
    #[error("the client reported more than {0} topics; report fewer, or raise the limit")]
    TooManyTopics(usize),
    /// Silence.
    #[error("no byte passed in either direction for {0:?}; send heartbeats")]
    Idle(Duration),
}
