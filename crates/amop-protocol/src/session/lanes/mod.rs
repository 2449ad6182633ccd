//! The order in which what waits for one connection is written.
//!
//! Small items pass large ones, so that a transfer delays nothing else of its session. Large ones take
//! turns by flow.
//!
//! **Invariant**: ordered flows stay in order: while a large item waits, small ones of its flow behind it wait too.
//! **Invariant**: a large item never passes a small one that was there before it, and a small one passes
//! another only if that waits behind a large item of its flow.
//! **Invariant**: nothing starves: small items that pass large ones take as many bytes as those do, and
//! `SMALL_TURN` ahead at most.

use std::collections::{BTreeMap, VecDeque};

/// Up to this an item is small. Links cut frames into fragments of as much.
pub const SMALL: usize = 16 * 1024;
/// What small items may take at once while large ones wait.
const SMALL_TURN: usize = 64 * 1024;
/// What a flow may take in its turn, the last item in full.
const TURN: usize = 256 * 1024;

/// Something that waits.
pub trait Queued {
    /// What large items take turns by.
    type Flow: Clone + Ord;

    /// Bytes that it counts for.
    fn cost(&self) -> usize;

    /// The flow that it belongs to.
    fn flow(&self) -> Self::Flow;

    /// Whether its flow is to stay in order. In others small items pass large ones.
    fn is_ordered(&self) -> bool;
}

/// What waits, in lanes: one of what is small, and one for each flow that has something large.
///
/// It keeps to no bound; whoever fills it does.
#[derive(Debug)]
pub struct Lanes<T: Queued> {
    /// Each with its number, which says what was there before what.
    small: VecDeque<(u64, T)>,
    flows: BTreeMap<T::Flow, VecDeque<(u64, T)>>,
    /// The flows of `flows`, in turn.
    turns: VecDeque<T::Flow>,
    /// What the first of them may still take.
    turn: usize,
    /// What small items may still take before a large one that was there before them.
    credit: usize,
    next: u64,
}

impl<T: Queued> Default for Lanes<T> {
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
    /// Adds an item: behind its flow if something large of it waits, else behind what is small.
    pub fn push(&mut self, item: T) {
        let is_small = item.cost() <= SMALL;
        let entry = (self.next, item);
        self.next += 1;
        if is_small && self.flows.is_empty() {
            return self.small.push_back(entry);
        }
        let flow = entry.1.flow();
        let passes = is_small && !entry.1.is_ordered();
        match self.flows.get_mut(&flow) {
            Some(lane) if !passes => lane.push_back(entry),
            _ if is_small => self.small.push_back(entry),
            _ => {
                self.turns.push_back(flow.clone());
                self.flows.insert(flow, VecDeque::from([entry]));
            }
        }
    }

    /// The item whose turn it is.
    pub fn first(&self) -> Option<&T> {
        let entry = if self.is_turn_of_small() {
            self.small.front()
        } else {
            self.flows.get(self.turns.front()?)?.front()
        };
        entry.map(|(_, item)| item)
    }

    /// Takes the item whose turn it is.
    pub fn pop(&mut self) -> Option<T> {
        if self.is_turn_of_small() { self.pop_small() } else { self.pop_large() }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.small.is_empty() && self.turns.is_empty()
    }

    /// Whether anything large waits, or something behind it.
    pub fn has_large(&self) -> bool {
        !self.turns.is_empty()
    }

    /// All that waits; of each flow in order.
    pub fn into_items(self) -> impl Iterator<Item = T> {
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
