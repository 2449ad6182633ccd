//! The order in which what waits for one client is written.
//!
//! Small items pass large ones, so that a transfer delays nothing else of its session. Large ones take
//! turns by flow: messages by topic, outcomes by topic, replies together.
//!
//! **Invariant**: messages on one topic stay in order: while a large one waits, small ones behind it wait too.
//! **Invariant**: a large item never passes a small one that was there before it, and small ones of
//! different flows never pass each other: a send's hand-over is told before its outcome.
//! **Invariant**: nothing starves: small items that pass large ones take as many bytes as those do, and
//! [`SMALL_TURN`] ahead at most.

use std::collections::{BTreeMap, VecDeque};

use amop_protocol::Topic;

/// Up to this an item is small. Links cut frames into fragments of as much.
pub(super) const SMALL: usize = 16 * 1024;
/// What small items may take at once while large ones wait.
const SMALL_TURN: usize = 64 * 1024;
/// What a flow may take in its turn, the last item in full.
const TURN: usize = 256 * 1024;

/// What large items take turns by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Flow {
    /// Messages to the client. The only ones whose order is promised.
    Messages(Topic),
    /// Outcomes of what the client sent; of some the topic is not known.
    Outcomes(Option<Topic>),
    /// All else.
    Replies,
}

/// Something that waits.
pub(super) trait Queued {
    /// Bytes that it counts for.
    fn cost(&self) -> usize;
    /// The flow that it belongs to.
    fn flow(&self) -> Flow;
}

/// What waits, in lanes: one of what is small, and one for each flow that has something large.
#[derive(Debug)]
pub(super) struct Lanes<T> {
    /// Each with its number, which says what was there before what.
    small: VecDeque<(u64, T)>,
    flows: BTreeMap<Flow, VecDeque<(u64, T)>>,
    /// The flows of `flows`, in turn.
    turns: VecDeque<Flow>,
    /// What the first of them may still take.
    turn: usize,
    /// What small items may still take before a large one that was there before them.
    credit: usize,
    next: u64,
}

impl<T> Default for Lanes<T> {
    fn default() -> Self {
        Self {
            small: VecDeque::new(),
            flows: BTreeMap::new(),
            turns: VecDeque::new(),
            turn: TURN,
            credit: SMALL_TURN,
            next: 0,
        }
    }
}

impl<T: Queued> Lanes<T> {
    pub(super) fn push(&mut self, item: T) {
        let is_small = item.cost() <= SMALL;
        let entry = (self.next, item);
        self.next += 1;
        if is_small && self.flows.is_empty() {
            return self.small.push_back(entry);
        }
        let flow = entry.1.flow();
        let passes = is_small && !matches!(flow, Flow::Messages(_));
        match self.flows.get_mut(&flow) {
            Some(lane) if !passes => lane.push_back(entry),
            _ if is_small => self.small.push_back(entry),
            _ => {
                self.turns.push_back(flow.clone());
                self.flows.insert(flow, VecDeque::from([entry]));
            }
        }
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        if self.is_turn_of_small() { self.pop_small() } else { self.pop_large() }
    }

    /// All that waits; of each flow in order.
    pub(super) fn into_items(self) -> impl Iterator<Item = T> {
        let Self { small, flows, .. } = self;
        small.into_iter().chain(flows.into_values().flatten()).map(|(_, item)| item)
    }

    fn is_turn_of_small(&self) -> bool {
        let Some((small, item)) = self.small.front() else { return false };
        let large = self.turns.front().and_then(|flow| self.flows.get(flow)?.front());
        large.is_none_or(|(large, _)| small < large || item.cost() <= self.credit)
    }

    fn pop_small(&mut self) -> Option<T> {
        let (_, item) = self.small.pop_front()?;
        if !self.turns.is_empty() {
            self.credit = self.credit.saturating_sub(item.cost());
        }
        Some(item)
    }

    /// The next of the flow whose turn it is.
    fn pop_large(&mut self) -> Option<T> {
        let lane = self.flows.get_mut(self.turns.front()?)?;
        let (_, item) = lane.pop_front()?;
        let is_emptied = lane.is_empty();
        let cost = item.cost();
        self.credit = if self.small.is_empty() { cost.max(SMALL_TURN) } else { self.credit + cost };
        self.turn = self.turn.saturating_sub(cost);
        if is_emptied || self.turn == 0 {
            self.turn = TURN;
            let flow = self.turns.pop_front()?;
            if is_emptied {
                self.flows.remove(&flow);
            } else {
                self.turns.push_back(flow);
            }
        }
        Some(item)
    }
}

#[cfg(test)]
mod tests;
