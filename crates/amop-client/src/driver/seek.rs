//! Which node is dialled next, and when.
//!
//! The nodes stand in a ring, in the order of the options; a loss goes on to the next. One that
//! cannot be connected, or is lost soon after, rests for a while that doubles; when a connection
//! ends or is about to, all that rest are tried again at once.

use std::{collections::HashSet, sync::Arc, time::Duration};

use rand::RngExt;
use tokio::time::Instant;

use crate::{Options, Reconnect};

pub(super) struct Seek {
    nodes: Vec<Known>,
    next: usize,
    wanted: usize,
    reconnect: Reconnect,
}

struct Known {
    address: Arc<str>,
    state: State,
    /// Attempts in vain since it was last connected for a while.
    failures: u32,
    /// It can only be connected when no other is.
    alone: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// To be dialled, but not before this.
    Idle(Instant),
    Dialling,
    Connected,
}

impl Seek {
    pub(super) fn new(options: &Options, now: Instant) -> Self {
        let mut known = HashSet::new();
        let addresses = options.nodes.iter().filter(|address| known.insert(*address));
        let nodes: Vec<Known> = addresses
            .map(|address| Known {
                address: address.as_str().into(),
                state: State::Idle(now),
                failures: 0,
                alone: false,
            })
            .collect();
        Self {
            wanted: options.homes.clamp(1, nodes.len().max(1)),
            nodes,
            next: 0,
            reconnect: options.reconnect,
        }
    }

    /// Connections there should be.
    pub(super) fn wanted(&self) -> usize {
        self.wanted
    }

    pub(super) fn address(&self, node: usize) -> Arc<str> {
        self.nodes[node].address.clone()
    }

    /// The node to dial now, while so many connections are `usable` or beyond need.
    pub(super) fn next(&mut self, usable: usize, now: Instant) -> Option<usize> {
        if !self.is_short(usable) {
            return None;
        }
        let ring = (0..self.nodes.len()).map(|step| (self.next + step) % self.nodes.len());
        let node = ring.into_iter().find(|node| {
            let known = &self.nodes[*node];
            known.is_due(now) && known.suits(usable)
        })?;
        self.next = node + 1;
        self.nodes[node].state = State::Dialling;
        Some(node)
    }

    /// When [`Seek::next`] may name another node.
    pub(super) fn next_wake(&self, usable: usize) -> Option<Instant> {
        let suited = self.nodes.iter().filter(|node| node.suits(usable));
        let resting = suited.filter_map(|node| match node.state {
            State::Idle(until) => Some(until),
            State::Dialling | State::Connected => None,
        });
        resting.min().filter(|_| self.is_short(usable))
    }

    /// Whether a node may be connected soon: one is being dialled, or there is one to dial.
    pub(super) fn is_hopeful(&self, now: Instant) -> bool {
        self.nodes.iter().any(|node| node.state == State::Dialling || node.is_due(now))
    }

    pub(super) fn connected(&mut self, node: usize) {
        self.nodes[node].state = State::Connected;
    }

    /// A node cannot be connected beside others; it is not dialled again while there are any.
    pub(super) fn only_alone(&mut self, node: usize, now: Instant) {
        self.nodes[node].alone = true;
        self.nodes[node].state = State::Idle(now);
    }

    /// A node could not be connected.
    pub(super) fn failed(&mut self, node: usize, now: Instant) {
        let Reconnect { first, most } = self.reconnect;
        let known = &mut self.nodes[node];
        let pause = first.saturating_mul(1 << known.failures.min(20)).min(most);
        known.failures = known.failures.saturating_add(1);
        known.state = State::Idle(now + pause.mul_f64(rand::rng().random_range(0.5..=1.0)));
    }

    /// A connection that lasted this long ended. One that did not last rests like one that failed.
    pub(super) fn lost(&mut self, node: usize, lasted: Duration, now: Instant) {
        if lasted < self.reconnect.most {
            self.failed(node, now);
        } else {
            self.nodes[node].failures = 0;
            self.nodes[node].state = State::Idle(now);
        }
        self.hurry(now, Some(node));
    }

    /// Ends the rest of all nodes but this one: a connection is needed now.
    pub(super) fn hurry(&mut self, now: Instant, but: Option<usize>) {
        let others = self.nodes.iter_mut().enumerate().filter(|(node, _)| Some(*node) != but);
        for (_, known) in others {
            if let State::Idle(until) = &mut known.state {
                *until = now.min(*until);
            }
        }
    }

    fn is_short(&self, usable: usize) -> bool {
        let dialling = self.nodes.iter().filter(|node| node.state == State::Dialling).count();
        usable + dialling < self.wanted
    }
}

impl Known {
    fn suits(&self, usable: usize) -> bool {
        usable == 0 || !self.alone
    }

    fn is_due(&self, now: Instant) -> bool {
        matches!(self.state, State::Idle(until) if until <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seek(nodes: &[&str], homes: usize, now: Instant) -> Seek {
        let mut options = Options::new(nodes.iter().copied(), "nowhere");
        options.homes = homes;
        options.reconnect = Reconnect { first: Duration::from_secs(1), most: Duration::from_secs(4) };
        Seek::new(&options, now)
    }

    #[test]
    fn as_many_as_wanted_are_dialled_and_a_loss_goes_on_to_the_next() {
        let now = Instant::now();
        let mut seek = seek(&["a", "b", "c", "a"], 2, now);
        assert_eq!((seek.next(0, now), seek.next(0, now), seek.next(0, now)), (Some(0), Some(1), None));
        seek.connected(0);
        seek.connected(1);
        assert_eq!(seek.next(2, now), None);
        seek.lost(0, Duration::from_secs(60), now);
        assert_eq!(&*seek.address(2), "c");
        assert_eq!(seek.next(1, now), Some(2));
        seek.failed(2, now);
        assert_eq!(seek.next(1, now), Some(0), "the ring goes on");
    }

    #[test]
    fn who_fails_rests_ever_longer_until_it_is_needed() {
        let now = Instant::now();
        let mut seek = seek(&["a"], 2, now);
        assert_eq!(seek.wanted(), 1);
        for least in [500, 1000, 2000, 2000] {
            let until = seek.next_wake(0).expect("a time to try");
            assert_eq!(seek.next(0, until), Some(0));
            assert!(seek.is_hopeful(until));
            seek.failed(0, until);
            assert!(!seek.is_hopeful(until), "there is nobody else");
            assert!(seek.next_wake(0) >= Some(until + Duration::from_millis(least)));
        }
        seek.hurry(now, None);
        assert_eq!(seek.next(0, now), Some(0));
    }

    #[test]
    fn who_does_not_suit_others_is_dialled_when_there_are_none() {
        let now = Instant::now();
        let mut seek = seek(&["a", "b"], 2, now);
        assert_eq!((seek.next(0, now), seek.next(0, now)), (Some(0), Some(1)));
        seek.connected(0);
        seek.only_alone(1, now);
        assert_eq!((seek.next(1, now), seek.next_wake(1)), (None, None));
        seek.lost(0, Duration::ZERO, now);
        assert_eq!(seek.next(0, now), Some(1));
    }

    #[test]
    fn a_node_that_hangs_up_at_once_is_not_dialled_at_once() {
        let now = Instant::now();
        let mut seek = seek(&["a"], 1, now);
        seek.next(0, now);
        seek.connected(0);
        seek.lost(0, Duration::from_millis(1), now);
        assert_eq!(seek.next(0, now), None);
        assert!(seek.next_wake(0) >= Some(now + Duration::from_millis(500)));
    }
}
