//! One step of a message, in an entry of fixed size.

use std::{fmt, time::Duration};

use crate::{
    Cause, NodeId, Seq, SessionId, Time, Topic, TraceContext,
    broker::event::{Mode, Publish},
    ident::hex,
    wire::{
        inquiry::{BRIEF_BYTES, Subject},
        peer::{Carries, SendRef},
    },
};

/// The first bytes of a node's id: enough to know it among those that are reachable.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Brief(pub [u8; BRIEF_BYTES]);

impl From<NodeId> for Brief {
    fn from(node: NodeId) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = *node.as_bytes();
        Self([a, b, c, d, e, f, g, h])
    }
}

impl Brief {
    /// All 16 hex digits.
    pub fn to_hex(self) -> String {
        hex(&self.0)
    }
}

impl fmt::Debug for Brief {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0[..4]))
    }
}

/// Which message a step belongs to: a send of its publisher's node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The publisher's node.
    pub origin: Brief,
    /// The low bits of the epoch in which that node began it.
    pub epoch: u32,
    /// Its number there; 0 if it was refused before it had one.
    pub send: u64,
}

impl Key {
    /// That of a send of `origin`.
    pub fn new(origin: NodeId, send: SendRef) -> Self {
        Self { origin: origin.into(), epoch: send.epoch as u32, send: send.id }
    }

    /// That of the message which is asked about, if the question names it by its key.
    pub fn asked(subject: &Subject) -> Option<Self> {
        match *subject {
            Subject::Send { origin, epoch, send } => Some(Self { origin: origin.into(), epoch, send }),
            Subject::Seq(_) => None,
        }
    }
}

/// How many bytes of a topic an entry keeps as they are.
const HEAD: usize = 14;

/// A topic, as far as there is room for one: its length, its beginning, and a sum over the rest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name {
    len: u8,
    head: [u8; HEAD],
    rest: [u8; 8],
}

impl Name {
    /// What an entry keeps of this topic.
    pub fn of(topic: &Topic) -> Self {
        let bytes = topic.as_str().as_bytes();
        let (head, rest) = bytes.split_at_checked(HEAD).unwrap_or((bytes, &[]));
        let mut name = Self { len: bytes.len() as u8, head: [0; HEAD], rest: [0; 8] };
        name.head[..head.len()].copy_from_slice(head);
        if !rest.is_empty() {
            name.rest = sum(rest).to_le_bytes();
        }
        name
    }

    /// The topic, if the entry has all of it; else its beginning.
    pub fn known(&self) -> Result<&str, &str> {
        known(self.len.into(), &self.head)
    }
}

/// The text that `kept` begins with, all of it if it is no longer than that.
fn known(len: usize, kept: &[u8]) -> Result<&str, &str> {
    let head = &kept[..len.min(kept.len())];
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // It was cut within a character.
        Err(error) => std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default(),
    };
    if len <= kept.len() { Ok(text) } else { Err(text) }
}

/// How many bytes of a topic stand beside a trace context.
const LABEL: usize = 37;

/// A topic for those who record traces: its length, and more of its beginning than a [`Name`] has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Label {
    len: u8,
    text: [u8; LABEL],
}

impl Label {
    /// What an entry keeps of this topic.
    pub fn of(topic: &Topic) -> Self {
        let bytes = topic.as_str().as_bytes();
        let kept = bytes.len().min(LABEL);
        let mut label = Self { len: bytes.len() as u8, text: [0; LABEL] };
        label.text[..kept].copy_from_slice(&bytes[..kept]);
        label
    }

    /// The topic, if the entry has all of it; else its beginning.
    pub fn known(&self) -> Result<&str, &str> {
        known(self.len.into(), &self.text)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.known().unwrap_or_else(|cut| cut).fmt(f)
    }
}

/// Tells long names with the same beginning apart. Names that collide can be made; they would only be shown as one
/// another, to the operator of the node that carried both.
fn sum(bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(0, |sum: u64, word| {
        let mut number = [0; 8];
        number[..word.len()].copy_from_slice(word);
        (sum.rotate_left(5) ^ u64::from_le_bytes(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    })
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.known().unwrap_or_else(|cut| cut).fmt(f)
    }
}

/// Why a message was sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its destination had not confirmed it in time.
    Unconfirmed,
    /// The way there changed.
    Rerouted,
    /// A node on the way refused it.
    Refused,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Origin: a client published it.
    Published {
        /// The publisher's name for it.
        seq: Seq,
        /// Where to.
        topic: Name,
        /// To one or to all.
        mode: Mode,
    },
    /// Origin: it was published again while it was under way; both publishers will have its outcome.
    Repeated {
        /// The publisher's name for it.
        seq: Seq,
    },
    /// Origin: it ended at once: refused, or known already.
    AtOnce {
        /// The publisher's name for it.
        seq: Seq,
        /// Where to.
        topic: Name,
        /// How.
        cause: Cause,
    },
    /// Origin: an attempt was sent to a node; of a multicast, to so many nodes by one way.
    Sent {
        /// The node, or the first of them.
        to: Brief,
        /// The neighbour it goes through.
        via: Brief,
        /// How many nodes.
        nodes: u32,
    },
    /// Origin: the same again.
    Resent {
        /// The node.
        to: Brief,
        /// The neighbour it goes through.
        via: Brief,
        /// Why.
        why: Why,
    },
    /// Origin or destination: there was no way to this node at the moment.
    NoWay {
        /// The node.
        to: Brief,
    },
    /// Origin: a destination says that a subscriber was handed it.
    Confirmed {
        /// The destination.
        by: Brief,
    },
    /// Origin: an attempt, or of a multicast a destination, has failed for good.
    Failed {
        /// Where.
        at: Brief,
        /// Why.
        cause: Cause,
    },
    /// Origin: how a destination of a multicast fares.
    Counted {
        /// The destination.
        by: Brief,
        /// Subscribers that were handed it.
        handed: u32,
        /// Subscribers that could not be.
        failed: u32,
        /// Whether that is all.
        complete: bool,
    },
    /// Origin: a node on the way says that it did not pass it on.
    Refused {
        /// That node.
        by: Brief,
        /// Why.
        cause: Cause,
    },
    /// Origin: a publisher was told the outcome.
    Told {
        /// Its session.
        session: SessionId,
        /// The outcome.
        cause: Cause,
    },
    /// Destination: it came.
    Arrived {
        /// The publisher's name for it.
        seq: Seq,
        /// Where to.
        topic: Name,
        /// The neighbour that brought it.
        over: Brief,
    },
    /// Destination: it came once more; nobody was handed it again for that.
    Again {
        /// The neighbour that brought it.
        over: Brief,
    },
    /// Destination: it was queued for a session.
    Pushed {
        /// The session.
        session: SessionId,
    },
    /// Destination: it was queued for so many sessions.
    PushedAll {
        /// How many.
        sessions: u32,
    },
    /// Destination: every byte was written to a session, or the session says that it has it.
    Handed {
        /// The session.
        session: SessionId,
    },
    /// Destination: a session could not be handed it, or did not answer.
    NotHanded {
        /// The session; 0 if it is gone.
        session: SessionId,
        /// Why.
        cause: Cause,
    },
    /// Destination: a session answered.
    Answered {
        /// The session.
        session: SessionId,
        /// Delivered, or that it refused.
        cause: Cause,
    },
    /// Destination: the publisher's node is told how the attempt ended.
    Reported {
        /// How.
        cause: Cause,
    },
    /// Relay: passed on.
    Relayed {
        /// What the frame carries.
        what: Carries,
        /// The neighbour that brought it.
        from: Brief,
        /// The neighbour it goes to.
        to: Brief,
    },
    /// Relay, or origin: not passed on; the origin is told if this node could tell it.
    Stopped {
        /// What the frame carries.
        what: Carries,
        /// The neighbour it was to go to; none if there is no way.
        to: Brief,
        /// Why.
        cause: Cause,
    },
    /// Its publisher named the trace it is part of, in W3C's form. Stands behind the first step of a message at its
    /// origin or destination, and, if the trace is recorded, behind every one that a relay passes on.
    Context {
        /// That trace.
        context: TraceContext,
        /// Where the message was sent to.
        topic: Label,
    },
}

impl Step {
    /// The trace that a client's message is part of, if it said so.
    pub fn context_of(publish: &Publish) -> Option<Self> {
        let context = publish.wishes.as_ref()?.context?;
        Some(Self::Context { context, topic: Label::of(&publish.topic) })
    }
}

/// One step of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    nanos: u64,
    origin: Brief,
    send: u64,
    epoch: u32,
    attempt: u16,
    /// What happened.
    pub step: Step,
}

impl Entry {
    pub(super) fn new(now: Time, key: Key, attempt: u32, step: Step) -> Self {
        let since = now.since_start();
        let nanos = since.as_secs().wrapping_mul(1_000_000_000).wrapping_add(u64::from(since.subsec_nanos()));
        let Key { origin, epoch, send } = key;
        Self { nanos, origin, send, epoch, attempt: attempt.min(u32::from(u16::MAX)) as u16, step }
    }

    /// When it happened.
    pub fn at(&self) -> Time {
        Time::from_start(Duration::from_nanos(self.nanos))
    }

    /// Which message it happened to.
    pub fn key(&self) -> Key {
        Key { origin: self.origin, epoch: self.epoch, send: self.send }
    }

    /// Which attempt of it; 0 if it is not about one.
    pub fn attempt(&self) -> u32 {
        self.attempt.into()
    }

    /// The publisher's name for the message, where the step has it.
    pub fn seq(&self) -> Option<&Seq> {
        match &self.step {
            Step::Published { seq, .. }
            | Step::Repeated { seq }
            | Step::AtOnce { seq, .. }
            | Step::Arrived { seq, .. } => Some(seq),
            _ => None,
        }
    }

    /// The session of this node that the step is about, if it is about one.
    pub fn session(&self) -> Option<SessionId> {
        match &self.step {
            Step::Told { session, .. }
            | Step::Pushed { session }
            | Step::Handed { session }
            | Step::NotHanded { session, .. }
            | Step::Answered { session, .. } => Some(*session),
            _ => None,
        }
    }

    /// Where the message was sent to, where the step has it.
    pub fn topic(&self) -> Option<&Name> {
        match &self.step {
            Step::Published { topic, .. } | Step::AtOnce { topic, .. } | Step::Arrived { topic, .. } => {
                Some(topic)
            }
            _ => None,
        }
    }
}
