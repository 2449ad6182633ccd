//! What a session is made with, and what it says to its driver.

use std::time::Duration;

use bytes::Bytes;

use crate::{
    Cause, Retry, Seq, Status, Topic, TraceContext,
    broker::{
        event::{Hop, Mode, Sender},
        wishes::Wishes,
    },
    limits::MAX_CHANNEL_FRAME,
    session::verification::Inquiry,
    wire::extension::ExtensionError,
};

/// What a session needs to know beforehand.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the client calls itself: `clientType` in the handshake.
    pub client_type: String,
    /// The same for all connections of one client, so that a message reaches it once.
    pub instance: u128,
    /// How often the node is asked for a sign of life.
    pub heartbeat: Duration,
    /// A node that sends nothing for this long is dead.
    pub silence: Duration,
    /// How long a send waits for its outcome when it names no deadline of its own.
    pub patience: Duration,
    /// Largest frame that is sent.
    pub max_frame: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            client_type: concat!("amop-rust/", env!("CARGO_PKG_VERSION")).into(),
            instance: 0,
            heartbeat: Duration::from_secs(3),
            silence: Duration::from_secs(10),
            patience: Duration::from_secs(35),
            max_frame: MAX_CHANNEL_FRAME,
        }
    }
}

/// Which frames a node understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// The 2.x frames, with this protocol version (1 to 3).
    Plain(u8),
    /// Extension frames.
    Extended,
}

/// One send, by the seq of its message: the same for all connections it is sent through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SendId(pub Seq);

/// A message to send.
#[derive(Clone, Debug)]
pub struct Message {
    /// To one or to all.
    pub mode: Mode,
    /// Where to.
    pub topic: Topic,
    /// The message.
    pub payload: Bytes,
    /// How long its outcome may take; `None`: as long as the node allows.
    pub deadline: Option<Duration>,
    /// What else is asked for; a plain node cannot be asked.
    pub wishes: Option<Box<Wishes>>,
}

/// How a send ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The documented code.
    pub status: Status,
    /// Why; unspecified if the node did not say.
    pub cause: Cause,
    /// With 103: when to try again.
    pub retry_after: Option<Duration>,
    /// Whether to try again.
    pub retry: Retry,
    /// Where it failed, if the node says.
    pub hop: Option<Box<Hop>>,
    /// The answer to a unicast; `Recipients` of a multicast, if they were asked for.
    pub payload: Bytes,
}

/// Names a delivery that awaits an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    pub(super) seq: Seq,
    pub(super) topic: Topic,
}

impl Push {
    /// The push in the frame with this seq.
    pub fn new(seq: Seq, topic: Topic) -> Self {
        Self { seq, topic }
    }
}

/// A message that came for this client.
#[derive(Clone, Debug)]
pub struct Deliver {
    /// For [`Session::answer`](super::Session::answer), if it is a unicast.
    pub push: Push,
    /// Whether an answer is expected.
    pub mode: Mode,
    /// The topic it was sent to.
    pub topic: Topic,
    /// Who sent it, as its node verified it; a plain node does not say.
    pub sender: Option<Sender>,
    /// How long the node waits for an answer, if it says.
    pub answer_within: Option<Duration>,
    /// The seq its publisher gave it, if the node says.
    pub message: Option<Seq>,
    /// The trace that it is part of, if its publisher named one.
    pub context: Option<TraceContext>,
    /// The message.
    pub payload: Bytes,
}

/// What the session asks its driver to do.
#[derive(Clone, Debug)]
pub enum Action {
    /// Tell the publisher how its send ended.
    Ended(SendId, Ended),
    /// A subscriber was handed the message of this send; it ends later.
    Handed(SendId),
    /// The topics of this report, and of all before it, are in force.
    Reported {
        /// From [`Session::report`](super::Session::report).
        report: ReportId,
        /// Names the node did not accept.
        refused: Vec<String>,
        /// Whether all reachable nodes know them; never from a plain node.
        complete: bool,
    },
    /// Hand this to its subscriber.
    Deliver(Deliver),
    /// Say whether this subscriber of a private topic may have it, by
    /// [`Session::decide`](super::Session::decide). The node knows that this client was asked.
    Asked(Inquiry),
    /// The node drains: finish within this time, then connect elsewhere.
    Drain(Duration),
}

/// One report of the whole topic set; later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReportId(pub(super) u64);

/// The node broke the protocol or died: close the connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// An extension frame that cannot be read.
    #[error("the node sent an extension frame that cannot be read")]
    Extension(#[from] ExtensionError),
    /// Nothing came for too long.
    #[error("the node sent nothing for {0:?}, not even an answer to a heartbeat")]
    Silent(Duration),
}

/// A message cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// It does not fit a frame.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// It is for certain subscribers only, and the node would give it to others.
    #[error("the node speaks plain 2.x frames and cannot be told which subscriber a message is for")]
    NotAddressable,
}

/// A message does not fit a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message takes a frame of {len} bytes, the largest allowed is {max}; send it in pieces")]
pub struct TooLarge {
    /// What it would take.
    pub len: usize,
    /// What is allowed.
    pub max: usize,
}
