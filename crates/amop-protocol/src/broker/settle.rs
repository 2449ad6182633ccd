//! The echo: when does everybody hold a topics record?
//!
//! A node that takes a new record sends it on to all neighbours but the one it came from, and
//! owes that one a `Settled` until all others have settled or were lost. A neighbour that held
//! the very record already answers at once, so that no two nodes wait for each other: who waits
//! for whom is the tree of first arrivals. One that has nothing but a newer record answers when
//! that has settled: waiting always leads to newer records, never back.
//!
//! **Invariant**: an answer is for the version it names only. The trees of two versions differ,
//! so a newer one may have settled behind a neighbour before an older one has.

use std::collections::{BTreeMap, BTreeSet};

use crate::{NodeId, Time, Version};

/// Answers that joined announcements may owe; beyond, a neighbour learns at its next heartbeat.
const MAX_OWED: usize = 1_024;

/// The announcements under way, of all nodes.
#[derive(Debug, Default)]
pub(super) struct Settling {
    waves: BTreeMap<NodeId, Vec<Wave>>,
    /// Whose waves may have settled since it was last asked.
    touched: BTreeSet<NodeId>,
    joined: u64,
}

/// A neighbour is to be told that this version of this node's topics has settled.
pub(super) type Answer = (NodeId, NodeId, Version);

#[derive(Debug)]
struct Wave {
    version: Version,
    since: Time,
    /// Who has yet to settle what; another version than this one's only if waves were joined.
    waiting: BTreeSet<(NodeId, Version)>,
    owed: BTreeSet<(NodeId, Version)>,
}

impl Settling {
    /// Announcements that were joined because there were too many.
    pub(super) fn joined(&self) -> u64 {
        self.joined
    }

    /// A new record of `origin` was sent to `waiting`; those `owed` are to hear when it has settled,
    /// first the one it came from.
    pub(super) fn start(
        &mut self,
        now: Time,
        origin: NodeId,
        version: Version,
        waiting: BTreeSet<NodeId>,
        owed: BTreeSet<(NodeId, Version)>,
        max_waves: usize,
    ) {
        self.touched.insert(origin);
        let waves = self.waves.entry(origin).or_default();
        if waves.len() >= max_waves.max(1) {
            let oldest = waves.remove(0);
            self.joined += 1;
            match waves.first_mut() {
                Some(next) => next.join(oldest),
                None => waves.push(oldest),
            }
        }
        let waiting = waiting.into_iter().map(|peer| (peer, version)).collect();
        waves.push(Wave { version, since: now, waiting, owed });
    }

    /// The record of this wave was sent to one more neighbour.
    pub(super) fn sent(&mut self, origin: &NodeId, version: Version, to: NodeId) {
        let wave =
            self.waves.get_mut(origin).and_then(|waves| waves.iter_mut().find(|w| w.version == version));
        if let Some(wave) = wave.filter(|wave| !wave.owed.contains(&(to, version))) {
            wave.waiting.insert((to, version));
        }
    }

    /// `from` sent a record that is not new. True if it is to be answered at once.
    pub(super) fn repeated(&mut self, origin: &NodeId, version: Version, from: NodeId) -> bool {
        let Some(wave) = self.waves.get_mut(origin).and_then(|w| w.iter_mut().find(|w| w.version >= version))
        else {
            return true;
        };
        if wave.version == version {
            return !wave.owed.contains(&(from, version));
        }
        wave.owed.insert((from, version));
        false
    }

    /// A neighbour has settled this version.
    pub(super) fn settled(&mut self, origin: &NodeId, version: Version, from: NodeId) {
        for wave in self.waves.get_mut(origin).into_iter().flatten() {
            if wave.waiting.remove(&(from, version)) {
                self.touched.insert(*origin);
            }
        }
    }

    /// A neighbour is gone: it neither answers nor waits.
    pub(super) fn lost(&mut self, peer: &NodeId) {
        for wave in self.waves.values_mut().flatten() {
            wave.stop_waiting(peer);
            wave.owed.retain(|(to, _)| to != peer);
        }
        self.touched.extend(self.waves.keys());
    }

    /// A neighbour holds all that this node holds: what was sent to it before `since` has settled
    /// there, or a link's loss has eaten the word of it. Returns how many waited for it.
    pub(super) fn caught_up(&mut self, peer: &NodeId, since: Time) -> u64 {
        self.touched.extend(self.waves.keys());
        let old = self.waves.values_mut().flatten().filter(|wave| wave.since < since);
        old.map(|wave| wave.stop_waiting(peer)).sum()
    }

    /// The node began a new epoch: nobody waits for the records of the old one.
    pub(super) fn forget(&mut self, origin: &NodeId) {
        self.waves.remove(origin);
    }

    /// How many announcements of this node somebody is waited for to hold.
    pub(super) fn under_way(&self, origin: &NodeId) -> usize {
        self.waves.get(origin).map_or(0, Vec::len)
    }

    /// Announcements under way, of all nodes.
    pub(super) fn len(&self) -> usize {
        self.waves.values().map(Vec::len).sum()
    }

    /// Takes out what others are to be told now, and the newest own version that has settled.
    pub(super) fn finish(&mut self, me: &NodeId) -> (Vec<Answer>, Option<Version>) {
        let mut answers = Vec::new();
        let mut own = None;
        for origin in std::mem::take(&mut self.touched) {
            let Some(waves) = self.waves.get_mut(&origin) else { continue };
            if origin == *me {
                let done = waves.iter().take_while(|wave| wave.waiting.is_empty()).count();
                own = waves.drain(..done).next_back().map(|wave| wave.version);
            }
            waves.retain(|wave| {
                let done = wave.waiting.is_empty() && origin != *me;
                if done {
                    answers.extend(wave.owed.iter().map(|(to, version)| (*to, origin, *version)));
                }
                !done
            });
            if waves.is_empty() {
                self.waves.remove(&origin);
            }
        }
        (answers, own)
    }
}

impl Wave {
    /// Takes over what an older wave waits for, of each neighbour only the newest, and owes.
    fn join(&mut self, older: Self) {
        let newest = Version { epoch: u64::MAX, sequence: u64::MAX };
        for (peer, version) in older.waiting {
            if self.waiting.range((peer, version)..=(peer, newest)).next().is_none() {
                self.waiting.insert((peer, version));
            }
        }
        self.owed.extend(older.owed);
        while self.owed.len() > MAX_OWED {
            self.owed.pop_first();
        }
    }

    /// How many answers of this neighbour were waited for until now.
    fn stop_waiting(&mut self, peer: &NodeId) -> u64 {
        let before = self.waiting.len();
        self.waiting.retain(|(waiting, _)| waiting != peer);
        (before - self.waiting.len()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> NodeId {
        NodeId::new([n; 32])
    }

    fn version(sequence: u64) -> Version {
        Version { epoch: 1, sequence }
    }

    fn start(settling: &mut Settling, sequence: u64, waiting: &[u8], from: u8) {
        let waiting = waiting.iter().map(|n| id(*n)).collect();
        let owed = BTreeSet::from([(id(from), version(sequence))]);
        settling.start(Time::ZERO, id(1), version(sequence), waiting, owed, 2);
    }

    #[test]
    fn an_answer_waits_for_all_others() {
        let mut settling = Settling::default();
        start(&mut settling, 1, &[3, 4], 2);
        assert!(settling.repeated(&id(1), version(1), id(5)), "held already");
        assert!(!settling.repeated(&id(1), version(1), id(2)), "owed to it anyway");
        settling.settled(&id(1), version(1), id(3));
        assert_eq!(settling.finish(&id(9)).0, []);
        settling.lost(&id(4));
        assert_eq!(settling.finish(&id(9)).0, [(id(2), id(1), version(1))]);
        assert_eq!(settling.finish(&id(9)).0, [], "once");
    }

    #[test]
    fn a_newer_record_stands_for_the_older() {
        let mut settling = Settling::default();
        start(&mut settling, 3, &[3], 2);
        assert!(!settling.repeated(&id(1), version(2), id(4)), "skipped: waits for the newer");
        settling.settled(&id(1), version(3), id(3));
        assert_eq!(settling.finish(&id(9)).0, [(id(2), id(1), version(3)), (id(4), id(1), version(2))]);
    }

    #[test]
    fn a_newer_version_may_settle_behind_a_neighbour_before_an_older() {
        let mut settling = Settling::default();
        start(&mut settling, 1, &[3], 2);
        start(&mut settling, 2, &[3], 2);
        settling.settled(&id(1), version(2), id(3));
        assert_eq!(settling.finish(&id(9)).0, [(id(2), id(1), version(2))], "says nothing of the older");
        settling.settled(&id(1), version(1), id(3));
        assert_eq!(settling.finish(&id(9)).0, [(id(2), id(1), version(1))]);
    }

    #[test]
    fn who_waits_for_a_newer_record_is_answered_at_once_about_that_one_itself() {
        let mut settling = Settling::default();
        start(&mut settling, 3, &[3], 2);
        assert!(!settling.repeated(&id(1), version(2), id(4)));
        assert!(settling.repeated(&id(1), version(3), id(4)), "or two nodes could wait for each other");
    }

    #[test]
    fn own_announcements_settle_in_order() {
        let mut settling = Settling::default();
        start(&mut settling, 1, &[3], 2);
        start(&mut settling, 2, &[4], 2);
        settling.settled(&id(1), version(2), id(4));
        assert_eq!(settling.finish(&id(1)).1, None);
        settling.lost(&id(3));
        assert_eq!(settling.finish(&id(1)).1, Some(version(2)));
    }

    #[test]
    fn too_many_waves_are_joined() {
        let mut settling = Settling::default();
        (1..=3).for_each(|n| start(&mut settling, n, &[3], 2));
        assert_eq!(settling.joined(), 1);
        settling.settled(&id(1), version(3), id(3));
        settling.settled(&id(1), version(2), id(3));
        let answers = [version(1), version(2), version(3)].map(|version| (id(2), id(1), version));
        assert_eq!(settling.finish(&id(9)).0, answers);
    }
}
