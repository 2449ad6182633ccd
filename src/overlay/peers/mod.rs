//! Which addresses to dial, and when: without IO, clock or randomness of its own.
//!
//! A configured address is dialled until a node answers, rests while that node is linked (by
//! whatever connection), and is dialled again when the link is lost: at once, then with jittered
//! pauses that double. A learned address is given up after [`LEARNED_ATTEMPTS`] failures.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use amop_protocol::NodeId;

use super::config::{Address, Config};

/// Failures in a row after which a learned address is forgotten.
const LEARNED_ATTEMPTS: u32 = 6;
/// A link that lasted less than this does not count as having been up: its loss is a failure, so
/// that two nodes that always disagree do not dial each other in a tight loop.
const STABLE: Duration = Duration::from_secs(1);

/// Names one address to dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Target(u64);

/// The addresses and their state.
#[derive(Debug)]
pub(super) struct Peers {
    entries: BTreeMap<Target, Entry>,
    next: u64,
    back_off: (Duration, Duration),
    back_off_known: Duration,
    max: usize,
}

#[derive(Debug)]
struct Entry {
    address: Address,
    origin: Origin,
    state: State,
    /// The node that answered there last.
    node: Option<NodeId>,
    /// Failures since it was last up.
    failures: u32,
    /// What the last of them was.
    error: Option<String>,
    history: History,
}

/// A configured peer, as it is with it at some moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Where it is to be found.
    pub address: Address,
    /// How far the node is with it.
    pub state: WantedState,
    /// Attempts in a row that failed.
    pub failures: u32,
    /// Why the last of them did, if it did.
    pub error: Option<String>,
}

/// How far a node is with a configured peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WantedState {
    /// The node that answered there is linked.
    Linked,
    /// It is being dialled, or greeted.
    Busy,
    /// It is dialled again after a pause.
    Waiting,
    /// It is this very node.
    Own,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Configured,
    Learned,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum History {
    NeverUp,
    WasUp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Due(Instant),
    /// Dialled, or connected and not yet linked.
    Busy,
    /// Its node is linked.
    Resting,
    /// It is ourselves.
    GivenUp,
}

/// What became of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Learned {
    /// It is dialled when its time comes.
    Taken,
    /// There are too many.
    Ignored,
}

/// How a failure should be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tell {
    /// A configured peer was not reached for the first time in a row.
    Operator,
    /// Again, or an address learned on the way.
    Nobody,
}

impl Peers {
    pub(super) fn new(config: &Config, now: Instant) -> Self {
        let mut peers = Self {
            entries: BTreeMap::new(),
            next: 0,
            back_off: config.back_off,
            back_off_known: config.back_off_known,
            max: config.max_addresses.max(config.peers.len()),
        };
        peers.configure(config, now);
        peers
    }

    /// Dials these configured addresses from now on and no others; gives those that were taken out.
    pub(super) fn configure(&mut self, config: &Config, now: Instant) -> BTreeSet<Target> {
        let gone =
            |entry: &Entry| entry.origin == Origin::Configured && !config.peers.contains(&entry.address);
        let dropped: BTreeSet<Target> =
            self.entries.iter().filter(|(_, entry)| gone(entry)).map(|(target, _)| *target).collect();
        self.entries.retain(|target, _| !dropped.contains(target));
        self.max = config.max_addresses.max(config.peers.len());
        for address in &config.peers {
            match self.entries.values_mut().find(|entry| entry.address == *address) {
                Some(entry) if entry.origin == Origin::Learned => entry.origin = Origin::Configured,
                Some(_) => {}
                None => self.insert(address.clone(), Origin::Configured, now),
            }
        }
        dropped
    }

    /// Adds an address learned at run time, unless it is known or there are too many.
    pub(super) fn learn(&mut self, address: Address, now: Instant) -> Learned {
        if self.entries.values().any(|known| known.address == address) {
            return Learned::Taken;
        }
        if self.entries.len() >= self.max {
            return Learned::Ignored;
        }
        self.insert(address, Origin::Learned, now);
        Learned::Taken
    }

    fn insert(&mut self, address: Address, origin: Origin, now: Instant) {
        let state = State::Due(now);
        let (node, history) = (None, History::NeverUp);
        self.entries.insert(
            Target(self.next),
            Entry { address, origin, state, node, failures: 0, error: None, history },
        );
        self.next += 1;
    }

    /// When the next address is to be dialled.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let due = |entry: &Entry| match entry.state {
            State::Due(at) => Some(at),
            _ => None,
        };
        self.entries.values().filter_map(due).min()
    }

    /// An address whose time has come and whose node is not linked; it is busy from now on.
    pub(super) fn poll_dial(
        &mut self,
        now: Instant,
        linked: impl Fn(&NodeId) -> bool,
    ) -> Option<(Target, Address, u32)> {
        for (target, entry) in &mut self.entries {
            match entry.state {
                State::Due(at) if at <= now => {}
                _ => continue,
            }
            if entry.node.as_ref().is_some_and(&linked) {
                entry.state = State::Resting;
                continue;
            }
            entry.state = State::Busy;
            return Some((*target, entry.address.clone(), entry.failures));
        }
        None
    }

    /// The address as it was given, for messages.
    pub(super) fn address(&self, target: Target) -> Option<&Address> {
        self.entries.get(&target).map(|entry| &entry.address)
    }

    /// This node answered there; whether it is linked shows later.
    pub(super) fn handle_answer(&mut self, target: Target, node: NodeId) {
        if let Some(entry) = self.entries.get_mut(&target) {
            entry.node = Some(node);
        }
    }

    /// What went wrong with it.
    pub(super) fn note(&mut self, target: Target, error: &str) {
        if let Some(entry) = self.entries.get_mut(&target) {
            entry.error = Some(error.to_owned());
        }
    }

    /// The configured ones.
    pub(super) fn wanted(&self) -> Vec<Wanted> {
        let configured = self.entries.values().filter(|entry| entry.origin == Origin::Configured);
        let wanted = |entry: &Entry| Wanted {
            address: entry.address.clone(),
            state: match entry.state {
                State::Resting => WantedState::Linked,
                State::Busy => WantedState::Busy,
                State::Due(_) => WantedState::Waiting,
                State::GivenUp => WantedState::Own,
            },
            failures: if entry.state == State::Resting { 0 } else { entry.failures },
            error: entry.error.clone().filter(|_| entry.state != State::Resting),
        };
        configured.map(wanted).collect()
    }

    /// No link came of it. `jitter` is between 0 and 1.
    pub(super) fn handle_failure(&mut self, target: Target, now: Instant, jitter: f64) -> Tell {
        let Some(entry) = self.entries.get_mut(&target) else { return Tell::Nobody };
        if entry.state != State::Busy {
            return Tell::Nobody;
        }
        entry.failures = entry.failures.saturating_add(1);
        if entry.origin == Origin::Learned && entry.failures >= LEARNED_ATTEMPTS {
            self.entries.remove(&target);
            return Tell::Nobody;
        }
        let longest = match (entry.origin, entry.history) {
            (Origin::Configured, History::WasUp) => self.back_off_known,
            _ => self.back_off.1,
        };
        let doubled = self.back_off.0.saturating_mul(1_u32 << (entry.failures - 1).min(16));
        // Between half and all of the pause, so that nodes that failed together part ways.
        let pause = doubled.min(longest).mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0);
        entry.state = State::Due(now + pause);
        let first = entry.failures == 1 && entry.origin == Origin::Configured;
        if first { Tell::Operator } else { Tell::Nobody }
    }

    /// The address leads to ourselves. Gives it back the first time.
    pub(super) fn handle_self(&mut self, target: Target) -> Option<Address> {
        let entry = self.entries.get_mut(&target)?;
        entry.state = State::GivenUp;
        Some(entry.address.clone())
    }

    /// The connection was given up in favour of another one to the same node.
    pub(super) fn handle_duplicate(&mut self, target: Target, now: Instant) {
        if let Some(entry) = self.entries.get_mut(&target)
            && entry.state == State::Busy
        {
            // Looked at again shortly: it rests if the other connection became a link.
            entry.state = State::Due(now + self.back_off_known);
        }
    }

    /// A link to this node is up.
    pub(super) fn handle_up(&mut self, node: NodeId) {
        for entry in self.entries.values_mut().filter(|entry| entry.node == Some(node)) {
            entry.state = State::Resting;
        }
    }

    /// The link to this node is down, after `lasted`, and no other takes its place.
    pub(super) fn handle_down(&mut self, node: NodeId, lasted: Duration, now: Instant, jitter: f64) {
        let resting = |entry: &Entry| entry.node == Some(node) && entry.state == State::Resting;
        let targets: Vec<_> =
            self.entries.iter().filter(|(_, entry)| resting(entry)).map(|(target, _)| *target).collect();
        for target in targets {
            let Some(entry) = self.entries.get_mut(&target) else { continue };
            if lasted >= STABLE {
                entry.failures = 0;
                entry.history = History::WasUp;
                entry.state = State::Due(now);
            } else {
                entry.state = State::Busy;
                self.handle_failure(target, now, jitter);
            }
        }
    }

    /// Dials nobody any more.
    pub(super) fn stop(&mut self) {
        self.entries.clear();
    }
}
