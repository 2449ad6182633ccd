//! A send in flight, as its publisher's node holds it.

use std::{hash::Hasher, time::Duration};

use siphasher::sip::SipHasher13;

use super::fan_out::FanOut;
use crate::{
    Cause, NodeId, Seq, SessionId, Time,
    broker::{budget::Hold, dedup::MessageKey, event::Publish, routing::Node},
    mutations::{self, Mutation},
    wire::peer::Envelope,
};

/// A send in flight.
#[derive(Debug)]
pub(super) struct Send {
    pub(super) key: MessageKey,
    pub(super) publish: Publish,
    pub(super) deadline: Time,
    pub(super) waiters: Vec<(SessionId, Seq)>,
    pub(super) armed: Time,
    pub(super) progress: Progress,
    pub(super) _hold: Hold,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all sends are unicasts, and need no allocation more")]
pub(super) enum Progress {
    Unicast(Unicast),
    FanOut(FanOut),
}

#[derive(Debug, Default)]
pub(super) struct Unicast {
    pub(super) attempt: Option<Attempt>,
    pub(super) attempts: u32,
    /// Nodes, in the epoch they had, with no candidate left for this send.
    pub(super) spent: Vec<(NodeId, u64)>,
    /// Nodes that did not confirm in time; asked again when nobody else is left.
    pub(super) unconfirmed: Vec<(NodeId, u64)>,
    pub(super) asked: Vec<NodeId>,
    pub(super) worst: Option<Cause>,
    /// The longest wait that a node which refused asked for.
    pub(super) retry_after: Duration,
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
}

impl Unicast {
    pub(super) fn is_out(&self, node: &Node) -> bool {
        if mutations::on(Mutation::RetryPicksTheFailed) {
            return false;
        }
        let this = (node.id, node.epoch);
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

    pub(super) fn envelope(&self) -> Envelope {
        Envelope {
            publisher: self.publish.client.clone(),
            seq: self.publish.seq,
            topic: self.publish.topic.clone(),
        }
    }

    /// Frames of one publisher session keep their order on a link.
    pub(super) fn flow(&self) -> u32 {
        let mut hasher = SipHasher13::new();
        hasher.write(self.publish.client.fingerprint.as_bytes());
        hasher.write_u64(self.publish.session.0);
        hasher.finish() as u32
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
