//! Whose turn it is: senders in turn, and the flows of each in turn.

use std::collections::{BTreeMap, VecDeque};

use super::spare::Spare;

/// Low bits of a flow that tell the flows of one sender apart.
const LANE_BITS: u32 = 12;

/// The flow of what a sender sends in one lane: frames of a flow stay in order, the flows of a sender
/// together have the turns and the room of one.
pub fn flow_of(sender: u32, lane: u32) -> u32 {
    sender << LANE_BITS | lane & ((1 << LANE_BITS) - 1)
}

/// Whose flow this is.
pub(super) fn sender_of(flow: u32) -> u32 {
    flow >> LANE_BITS
}

/// Flows that wait. One whose turn it is, is taken; its sender gets no other turn until
/// [`Turns::again`].
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Senders that have a flow waiting, and are not having their turn.
    senders: VecDeque<u32>,
    /// The flows of each; empty only during the sender's turn.
    flows: BTreeMap<u32, VecDeque<u32>>,
    spare: Spare<u32>,
}

impl Turns {
    /// Whether nobody can be given a turn.
    pub(super) fn is_empty(&self) -> bool {
        self.senders.is_empty()
    }

    /// A flow gets in line.
    pub(super) fn push(&mut self, flow: u32) {
        let sender = sender_of(flow);
        let flows = self.flows.entry(sender).or_insert_with(|| {
            self.senders.push_back(sender);
            self.spare.take()
        });
        flows.push_back(flow);
    }

    /// Whose turn is next.
    pub(super) fn first(&self) -> Option<u32> {
        self.flows.get(self.senders.front()?)?.front().copied()
    }

    /// Gives a flow its turn.
    pub(super) fn pop(&mut self) -> Option<u32> {
        self.flows.get_mut(&self.senders.pop_front()?)?.pop_front()
    }

    /// The turn of this flow is over.
    pub(super) fn again(&mut self, flow: u32) {
        let sender = sender_of(flow);
        match self.flows.get(&sender) {
            Some(flows) if flows.is_empty() => self.spare.keep(self.flows.remove(&sender)),
            Some(_) => self.senders.push_back(sender),
            None => {}
        }
    }
}
