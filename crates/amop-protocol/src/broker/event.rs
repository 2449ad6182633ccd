//! What goes in and out of delivery: closed, plain, valid.

use std::{borrow::Cow, fmt, ops::Deref, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{routing::Routing, wishes::Wishes};
pub use crate::message::{Hop, Mode, Sender};
use crate::{
    Cause, ClientIdentity, NodeId, Retry, Seq, SessionId, Topic, TraceContext,
    wire::{channel::Encoded, extension::FromNode, link::LinkFrame},
};

/// A client's wish to send.
#[derive(Clone, Debug)]
pub struct Publish {
    /// The session it came from; the outcome goes there.
    pub session: SessionId,
    /// Whose session that is.
    pub client: Arc<ClientIdentity>,
    /// The running application, if it named one; its other sessions are no subscribers of the message.
    pub instance: Option<u128>,
    /// The publisher's name for the message; the outcome repeats it.
    pub seq: Seq,
    /// To one or to all.
    pub mode: Mode,
    /// Where to.
    pub topic: Topic,
    /// The message.
    pub payload: Bytes,
    /// The publisher's own deadline, if it gave one.
    pub deadline: Option<Duration>,
    /// What else it asks for; seldom anything.
    pub wishes: Option<Box<Wishes>>,
}

impl Publish {
    /// Whether the publisher wants to be told when a subscriber was handed the message.
    pub(super) fn tell_handed(&self) -> bool {
        self.wishes.as_ref().is_some_and(|wishes| wishes.tell_handed)
    }

    /// Whether the publisher wants to be told of each recipient.
    pub(super) fn wants_recipients(&self) -> bool {
        self.mode == Mode::Multicast && self.wishes.as_ref().is_some_and(|wishes| wishes.recipients)
    }
}

/// Who is at the other end of a session of this node: what delivery needs to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscriber {
    /// As TLS verified it.
    pub client: Arc<ClientIdentity>,
    /// The running application, if it named one: sessions with one certificate and one instance are
    /// one subscriber.
    pub instance: Option<u128>,
}

impl Subscriber {
    /// Whether both are sessions of one running application.
    pub fn is_same(&self, other: &Self) -> bool {
        self.instance.is_some()
            && self.instance == other.instance
            && self.client.fingerprint == other.client.fingerprint
    }
}

impl Hop {
    /// What this node knows of another, or of itself.
    pub fn of(routing: &Routing, node: NodeId) -> Self {
        let known = routing.find(&node);
        let text =
            |of: fn(&super::routing::Node) -> &Arc<str>| known.map_or_else(|| "".into(), |n| of(n).clone());
        Self { node, name: text(|n| &n.name), institution: text(|n| &n.institution) }
    }
}

/// Names one push of one message to one session of this node; never used twice by a node process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PushId(pub u64);

impl PushId {
    /// The seq of the frame that carries this push.
    pub fn to_seq(self) -> Seq {
        Seq::from_u128(u128::from(self.0))
    }

    /// The push whose frame had this seq, if it can have been one.
    pub fn from_seq(seq: Seq) -> Option<Self> {
        seq.to_u128().and_then(|value| u64::try_from(value).ok()).map(Self)
    }
}

impl fmt::Debug for PushId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "push {:x}", self.0)
    }
}

/// A message to be written to a session of this node.
#[derive(Clone, Debug)]
pub struct Push {
    /// The subscriber.
    pub session: SessionId,
    /// What it is handed; the same for all that are handed a multicast.
    pub handout: Arc<Handout>,
}

impl Deref for Push {
    type Target = Handout;

    fn deref(&self) -> &Handout {
        &self.handout
    }
}

/// What subscribers are handed of a message.
#[derive(Clone, Debug)]
pub struct Handout {
    /// Names the push; the frame's seq is [`PushId::to_seq`].
    pub id: PushId,
    /// Whether an answer is expected.
    pub mode: Mode,
    /// The topic it was sent to.
    pub topic: Topic,
    /// The message.
    pub payload: Bytes,
    /// Who sent it.
    pub sender: Sender,
    /// How long an answer is waited for.
    pub answer_within: Duration,
    /// The seq its publisher gave it.
    pub message: Seq,
    /// The trace that it is part of, if its publisher named one.
    pub context: Option<TraceContext>,
    /// Its frame for extension clients, made once where there are several. It has no session in it.
    pub frame: Option<Encoded>,
}

impl Handout {
    /// The `Deliver` frame that hands it to an extension client.
    pub fn to_frame(&self) -> Cow<'_, Encoded> {
        if let Some(frame) = &self.frame {
            return Cow::Borrowed(frame);
        }
        let answer_within = match self.mode {
            Mode::Unicast => self.answer_within,
            Mode::Multicast => Duration::ZERO,
        };
        let deliver = FromNode::Deliver {
            mode: self.mode,
            topic: self.topic.clone(),
            sender: self.sender.clone(),
            answer_within,
            message: Some(self.message),
            context: self.context,
            payload: self.payload.clone(),
        };
        Cow::Owned(deliver.encode(self.id.to_seq()))
    }
}

/// The body of a subscriber's answer, in two pieces so that no payload is ever copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnswerBody {
    /// Length byte and topic of a topic body (channel spec, 2.1). Empty if the body is empty, or
    /// if the answer came without a valid one: then whoever writes it to a 2.x publisher puts
    /// the request's topic before the payload.
    pub prefix: Bytes,
    /// What follows it.
    pub payload: Bytes,
}

/// A subscriber's answer to a unicast push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// 0, or the subscriber's own error.
    pub result: i32,
    /// Empty unless the result is 0.
    pub body: AnswerBody,
}

/// The one end of a send, for its publisher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The publisher's session.
    pub session: SessionId,
    /// The publisher's name for the message.
    pub seq: Seq,
    /// What kind of send ended.
    pub mode: Mode,
    /// Where it was sent to; a successful 0x31 carries it.
    pub topic: Option<Topic>,
    /// Why it ended so; [`Cause::status`] is its code.
    pub cause: Cause,
    /// The answer to a unicast that succeeded; of a multicast what each recipient fared, if that was
    /// asked for; else empty.
    pub body: AnswerBody,
    /// With 103: when to try again.
    pub retry_after: Duration,
    /// With a failure: whether to try again.
    pub retry: Retry,
    /// With a failure: where it was found out.
    pub hop: Option<Box<Hop>>,
}

/// Why a push could not be queued or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushError {
    /// The session is closed.
    Gone,
    /// Its queue is full.
    Full,
    /// The connection failed before all bytes were written.
    WriteFailed,
}

/// What delivery asks its driver to do.
#[derive(Clone, Debug)]
pub enum Action {
    /// Queue this for a session; report the result to `handle_pushed`.
    Push(Push),
    /// Tell a publisher how its send ended.
    Outcome(Outcome),
    /// Tell a publisher that a subscriber was handed its message; the outcome follows.
    Handed {
        /// The publisher's session.
        session: SessionId,
        /// The publisher's name for the message.
        seq: Seq,
    },
    /// Put this on the link to a neighbour; a frame that cannot be queued is dropped and counted.
    Forward {
        /// The neighbour.
        to: NodeId,
        /// The frame.
        frame: LinkFrame,
    },
}
