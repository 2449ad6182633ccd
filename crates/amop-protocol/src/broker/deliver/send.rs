//! A send in flight, as its publisher's node holds it.

use std::{hash::Hasher, time::Duration};

use siphasher::sip::SipHasher13;

use super::{fan_out::FanOut, outcome::Ending, private};
use crate::{
    Cause, NodeId, Retry, Seq, SessionId, Status, Time,
    broker::{
        budget::Hold,
        dedup::MessageKey,
        event::Publish,
        private::Recipient,
        routing::{Node, Routing},
        wishes::Address,
    },
    mutations::{self, Mutation},
    wire::{
        interleave::flow_of,
        peer::{Audience, Envelope},
    },
};

/// A send in flight.
#[derive(Debug)]
pub(super) struct Send {
    pub(super) key: MessageKey,
    pub(super) publish: Publish,
    pub(super) deadline: Time,
    pub(super) waiters: Vec<Waiter>,
    /// Whether a subscriber was handed the message.
    pub(super) handed: bool,
    pub(super) armed: Time,
    pub(super) progress: Progress,
    pub(super) _hold: Hold,
}

/// Somebody who waits for the outcome.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiter {
    pub(super) who: (SessionId, Seq),
    /// It also waits to hear that a subscriber was handed the message.
    pub(super) tell_handed: bool,
}

impl Waiter {
    pub(super) fn of(publish: &Publish) -> Self {
        Self { who: (publish.session, publish.seq), tell_handed: publish.tell_handed() }
    }
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all sends are unicasts, and need no allocation more")]
pub(super) enum Progress {
    Unicast(Unicast),
    FanOut(FanOut),
}

/// A node in the epoch it had, and of a reserved name one session there.
pub(super) type Target = (NodeId, u64, Option<SessionId>);

#[derive(Debug, Default)]
pub(super) struct Unicast {
    pub(super) attempt: Option<Attempt>,
    pub(super) attempts: u32,
    /// How many of these found nobody at their node: it is as if they had never been.
    pub(super) found_nobody: u32,
    /// Targets with no candidate left for this send.
    pub(super) spent: Vec<Target>,
    /// Targets that did not confirm in time; asked again when nobody else is left.
    pub(super) unconfirmed: Vec<Target>,
    pub(super) asked: Vec<NodeId>,
    pub(super) failures: Failures,
}

/// How attempts of one send have failed so far.
#[derive(Debug, Default)]
pub(super) struct Failures {
    /// The failure to report, and where it happened.
    worst: Option<(Cause, NodeId)>,
    /// Some attempt may have been handed over.
    pub(super) may_have_run: bool,
    /// The longest wait that a node which refused asked for.
    pub(super) retry_after: Duration,
}

impl Failures {
    pub(super) fn add(&mut self, cause: Cause, at: NodeId) {
        self.may_have_run |= cause.retry() != Retry::Safe;
        match self.worst {
            Some((worst, _)) if worst.worse(cause) == worst => {}
            _ => self.worst = Some((cause, at)),
        }
    }

    /// The end of a send that has failed.
    pub(super) fn ending(&self) -> Ending {
        let Some((cause, at)) = self.worst else { return Cause::NoSubscriber.into() };
        let retry = match cause.retry() {
            Retry::Safe if self.may_have_run => Retry::MayRepeat,
            retry => retry,
        };
        let retry_after = if cause.status() == Status::Refused { self.retry_after } else { Duration::ZERO };
        Ending { retry, retry_after, at: Some(at), ..cause.into() }
    }
}

/// How one attempt failed for good.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failed {
    pub(super) cause: Cause,
    /// Where: at its destination, at a node on the way, or here.
    pub(super) at: NodeId,
    /// Nobody else at its destination can take the message.
    pub(super) spent: bool,
}

/// What is known of the frames sent towards one destination, and not refused on the way; some may
/// be lost.
#[derive(Debug, Default)]
pub(super) struct Transmissions {
    /// Sent by the relays' own tables, so that any node may have met them.
    pub(super) by_table: u32,
    /// Ways of those that went by a way of our choosing: only the nodes on it can have met them.
    pub(super) by_path: Vec<Vec<NodeId>>,
    /// Nodes that refused; later ways lead around them.
    pub(super) around: Vec<NodeId>,
}

#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) to: NodeId,
    pub(super) epoch: u64,
    pub(super) way: u64,
    pub(super) push_timeout: Duration,
    pub(super) handed: bool,
    pub(super) resends: u32,
    pub(super) transmissions: Transmissions,
    pub(super) resend_at: Time,
    pub(super) give_up_at: Time,
    /// The other candidate subscribers there were when it began.
    pub(super) others: u32,
    /// Of a reserved name: the very session it is for.
    pub(super) recipient: Option<Recipient>,
}

impl Attempt {
    pub(super) fn target(&self) -> Target {
        (self.to, self.epoch, self.recipient.as_ref().map(|to| to.holder().session))
    }
}

impl Unicast {
    pub(super) fn is_out(&self, node: &Node, session: Option<SessionId>) -> bool {
        if mutations::on(Mutation::RetryPicksTheFailed) {
            return false;
        }
        let this = (node.id, node.epoch, session);
        self.spent.contains(&this) || self.unconfirmed.contains(&this)
    }

    /// Where the current attempt is to go, as long as its destination has not confirmed it.
    pub(super) fn unconfirmed_attempt(&mut self) -> Option<(NodeId, &mut Transmissions)> {
        let attempt = self.attempt.as_mut().filter(|attempt| !attempt.handed)?;
        Some((attempt.to, &mut attempt.transmissions))
    }
}

impl Send {
    pub(super) fn is_told(&self) -> bool {
        matches!(&self.progress, Progress::FanOut(fan_out) if fan_out.is_told())
    }

    /// Whom the message is for, if not for any subscriber.
    pub(super) fn address(&self) -> Option<&Address> {
        self.publish.wishes.as_ref().map(|wishes| &wishes.address)
    }

    pub(super) fn envelope(&self, audience: Vec<Audience>) -> Envelope {
        Envelope {
            publisher: self.publish.client.clone(),
            seq: self.publish.seq,
            topic: self.publish.topic.clone(),
            client: self.address().and_then(|address| address.client),
            audience,
            instance: self.publish.instance,
            context: self.publish.wishes.as_ref().and_then(|wishes| wishes.context),
        }
    }

    /// The envelope of the attempt under way: on a reserved name it is for one session, as long as
    /// that is allowed.
    pub(super) fn attempt_envelope(&self, routing: &Routing, attempt: &Attempt) -> Envelope {
        let audience = attempt
            .target()
            .2
            .map(|session| private::still_allowed(routing, self, (attempt.to, attempt.epoch), &[session]));
        self.envelope(audience.into_iter().collect())
    }

    /// Frames of one publisher session on one topic keep their order on a link; together its topics
    /// have no more of it than other sessions.
    pub(super) fn flow(&self) -> u32 {
        let Publish { client, session, topic, .. } = &self.publish;
        let mut hasher = SipHasher13::new();
        hasher.write(client.fingerprint.as_bytes());
        hasher.write_u64(session.0);
        let sender = hasher.finish();
        hasher.write(topic.as_str().as_bytes());
        flow_of(sender as u32, hasher.finish() as u32)
    }

    pub(super) fn next_wake(&self) -> Time {
        match &self.progress {
            Progress::Unicast(unicast) => {
                unicast.attempt.as_ref().map_or(self.deadline, |a| a.resend_at.min(self.deadline))
            }
            Progress::FanOut(fan_out) => {
                fan_out.next_resend().map_or(self.deadline, |at| at.min(self.deadline))
            }
        }
    }
}
