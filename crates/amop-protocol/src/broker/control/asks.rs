//! Who is asked for what: one neighbour at a time for the records of a node.
//!
//! A neighbour *claims* to hold something newer of a node, by its vector, its heartbeat, or by
//! sending a record that cannot be used yet. One of those who claim it is asked. If it does not
//! answer in time the next one is, in turn, and a claim is worth one question: so claims that
//! nothing stands behind cost no more than they took to make, and keep nobody from hearing of the
//! truth for longer than [`PATIENCE`] per liar.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    time::Duration,
};

use crate::{NodeId, Time, Version, broker::announce::Versions, wire::generated::RecordKind};

/// How long one neighbour may keep silent before another is asked: 400 ms, so that one whose link is
/// dead without anybody having noticed delays nothing by a second.
pub const PATIENCE: Duration = Duration::from_millis(400);
/// How long one neighbour is asked at most, however much it sends: 30 s.
pub const LONGEST_ANSWER: Duration = Duration::from_secs(30);
/// Records that could not be used when they came and are remembered, per neighbour and node.
const MAX_PUSHED: usize = 64;

/// Claims, and the questions under way.
#[derive(Debug)]
pub(super) struct Asks {
    /// By neighbour, then node.
    claims: BTreeMap<NodeId, BTreeMap<NodeId, Claim>>,
    under_way: BTreeMap<NodeId, Ask>,
    /// When the first question under way should have been answered.
    due: Option<Time>,
    /// Nodes of which one neighbour may claim something.
    most: usize,
}

#[derive(Debug, Default)]
struct Claim {
    versions: Versions,
    /// Versions of the topics that the neighbour has sent and waits for to settle.
    pushed: Vec<Version>,
    /// What of it was asked for; more may have been claimed since.
    asked: Option<Versions>,
}

/// A question, or, without neighbour, a pause.
#[derive(Debug)]
struct Ask {
    peer: Option<NodeId>,
    until: Time,
    at_most: Time,
}

impl Asks {
    pub(super) fn new(most: usize) -> Self {
        Self { claims: BTreeMap::new(), under_way: BTreeMap::new(), due: None, most }
    }

    /// Changes how many nodes one neighbour may claim something of.
    pub(super) fn set_most(&mut self, most: usize) {
        self.most = most;
    }

    /// A neighbour claims something new of a node. Whoever claims more than there may be is not heard.
    pub(super) fn claim(&mut self, peer: NodeId, node: NodeId, versions: Versions, pushed: Option<Version>) {
        let claims = self.claims.entry(peer).or_default();
        let full = claims.len() >= self.most;
        let claim = match claims.entry(node) {
            Entry::Occupied(claim) => claim.into_mut(),
            Entry::Vacant(_) if full => return,
            Entry::Vacant(new) => new.insert(Claim::default()),
        };
        claim.versions = claim.versions.and(versions);
        if claim.pushed.len() < MAX_PUSHED {
            claim.pushed.extend(pushed);
        }
    }

    /// Whether somebody was asked about this node, or nobody is to be, until later.
    pub(super) fn is_waiting(&self, now: Time, node: &NodeId) -> bool {
        self.under_way.get(node).is_some_and(|ask| ask.until > now)
    }

    /// Ends the question under way. True if it was not answered: then that claim is void.
    pub(super) fn give_up(&mut self, node: &NodeId) -> (Option<NodeId>, bool) {
        let Some(peer) = self.under_way.remove(node).and_then(|ask| ask.peer) else { return (None, false) };
        let claims = self.claims.get_mut(&peer);
        let unanswered = claims.is_some_and(|claims| {
            let asked = claims.get(node).is_some_and(|claim| claim.asked.is_some());
            asked && claims.remove(node).is_some()
        });
        (Some(peer), unanswered)
    }

    /// Who claims something of a node, and what; beginning after `last`.
    pub(super) fn claimants(&self, node: &NodeId, last: Option<NodeId>) -> Vec<(NodeId, Versions)> {
        let claims = self.claims.iter();
        let all = claims.filter_map(|(peer, claims)| Some((*peer, claims.get(node)?.versions)));
        let (after, before): (Vec<_>, Vec<_>) =
            all.partition(|(peer, _)| last.is_none_or(|last| *peer > last));
        after.into_iter().chain(before).collect()
    }

    /// This neighbour is asked now.
    pub(super) fn ask(&mut self, now: Time, peer: NodeId, node: NodeId) {
        if let Some(claim) = self.claims.get_mut(&peer).and_then(|claims| claims.get_mut(&node)) {
            claim.asked = Some(claim.versions);
        }
        self.wait(node, Some(peer), now + PATIENCE, now + LONGEST_ANSWER);
    }

    /// Nobody is asked about this node until then.
    pub(super) fn pause(&mut self, node: NodeId, until: Time) {
        self.wait(node, None, until, until);
    }

    fn wait(&mut self, node: NodeId, peer: Option<NodeId>, until: Time, at_most: Time) {
        self.under_way.insert(node, Ask { peer, until, at_most });
        self.due = Some(self.due.map_or(until, |due| due.min(until)));
    }

    /// A neighbour has sent something of this node: if it was asked, there may be more to come.
    pub(super) fn heard(&mut self, now: Time, peer: NodeId, node: &NodeId) {
        if let Some(ask) = self.under_way.get_mut(node).filter(|ask| ask.peer == Some(peer)) {
            ask.until = (now + PATIENCE).min(ask.at_most);
        }
    }

    /// Forgets claims that tell nothing new. True if all has come that was asked for.
    pub(super) fn settle(&mut self, node: &NodeId, is_news: impl Fn(&Versions) -> bool) -> bool {
        let asked = self.under_way.get(node).and_then(|ask| ask.peer);
        let mut answered = false;
        self.claims.retain(|peer, claims| {
            if let Entry::Occupied(mut claim) = claims.entry(*node) {
                if claim.get().asked.is_some_and(|asked| !is_news(&asked)) {
                    claim.get_mut().asked = None;
                    answered |= asked == Some(*peer);
                }
                if !is_news(&claim.get().versions) {
                    claim.remove();
                }
            }
            !claims.is_empty()
        });
        if answered {
            self.under_way.remove(node);
        }
        answered
    }

    /// Neighbours that hold, by their own word, something of a node in this epoch or a newer one, and
    /// this record of it in that sequence or a newer one.
    pub(super) fn holders(
        &self,
        node: &NodeId,
        epoch: u64,
        record: Option<(RecordKind, u64)>,
    ) -> Vec<NodeId> {
        let holds = |claim: &Claim| {
            let theirs = claim.versions;
            let held = match record {
                Some((RecordKind::Identity, sequence)) => theirs.identity.max(1) >= sequence,
                Some((RecordKind::Links, sequence)) => theirs.links >= sequence,
                Some((_, sequence)) => theirs.topics >= sequence,
                None => true,
            };
            theirs.epoch > epoch || theirs.epoch == epoch && held
        };
        let claims = self.claims.iter();
        claims.filter(|(_, claims)| claims.get(node).is_some_and(holds)).map(|(peer, _)| *peer).collect()
    }

    /// Who sent a version up to this one before it could be used, and has yet to hear that it settled.
    pub(super) fn take_pushed(&mut self, node: &NodeId, version: Version) -> Vec<(NodeId, Version)> {
        let mut pushed = Vec::new();
        for (peer, claims) in &mut self.claims {
            if let Some(claim) = claims.get_mut(node) {
                let up_to = claim.pushed.extract_if(.., |pushed| *pushed <= version);
                pushed.extend(up_to.map(|pushed| (*peer, pushed)));
            }
        }
        pushed
    }

    /// A link is lost; gives the nodes about which that neighbour was asked.
    pub(super) fn lost(&mut self, peer: &NodeId) -> Vec<NodeId> {
        self.claims.remove(peer);
        let asked = self.under_way.extract_if(.., |_, ask| ask.peer == Some(*peer));
        asked.map(|(node, _)| node).collect()
    }

    /// When [`Asks::overdue`] is to be asked.
    pub(super) fn due(&self) -> Option<Time> {
        self.due
    }

    /// Nodes about which another neighbour is to be asked now.
    pub(super) fn overdue(&mut self, now: Time) -> Vec<NodeId> {
        if self.due.is_none_or(|due| due > now) {
            return Vec::new();
        }
        self.due = self.under_way.values().map(|ask| ask.until).filter(|until| *until > now).min();
        let overdue = self.under_way.iter().filter(|(_, ask)| ask.until <= now);
        overdue.map(|(node, _)| *node).collect()
    }

    /// Whether nothing is claimed and nothing asked.
    pub(super) fn is_idle(&self) -> bool {
        self.claims.is_empty() && self.under_way.is_empty()
    }

    /// Claims that are remembered.
    pub(super) fn len(&self) -> usize {
        self.claims.values().map(BTreeMap::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> NodeId {
        NodeId::new([n; 32])
    }

    fn topics(sequence: u64) -> Versions {
        Versions { epoch: 1, topics: sequence, ..Versions::default() }
    }

    /// Who is asked next about node 9, if anybody.
    fn next(asks: &mut Asks, now: Time) -> Option<NodeId> {
        if asks.is_waiting(now, &id(9)) {
            return None;
        }
        let (last, _) = asks.give_up(&id(9));
        let (peer, _) = *asks.claimants(&id(9), last).first()?;
        asks.ask(now, peer, id(9));
        Some(peer)
    }

    #[test]
    fn claimants_are_asked_one_after_the_other_and_once_per_claim() {
        let (mut asks, mut now) = (Asks::new(8), Time::ZERO);
        (1..4).for_each(|n| asks.claim(id(n), id(9), topics(5), None));
        for expected in [1, 2, 3] {
            assert_eq!(next(&mut asks, now), Some(id(expected)));
            assert_eq!(next(&mut asks, now), None, "one at a time");
            asks.claim(id(1), id(8), topics(1), None);
            now += PATIENCE;
            assert_eq!(asks.overdue(now), [id(9)]);
        }
        assert_eq!(next(&mut asks, now), None, "nobody has said anything new");
        asks.claim(id(2), id(9), topics(5), None);
        assert_eq!(next(&mut asks, now), Some(id(2)));
    }

    #[test]
    fn one_who_lies_again_and_again_does_not_keep_others_from_being_asked() {
        let (mut asks, mut now, mut asked) = (Asks::new(8), Time::ZERO, Vec::new());
        asks.claim(id(2), id(9), topics(5), None);
        for _ in 0..2 {
            asks.claim(id(1), id(9), topics(u64::MAX), None);
            asked.extend(next(&mut asks, now));
            now += PATIENCE;
        }
        assert_eq!(asked, [id(1), id(2)]);
    }

    #[test]
    fn what_has_been_heard_is_no_longer_asked_for() {
        let mut asks = Asks::new(8);
        (1..4).for_each(|n| asks.claim(id(n), id(9), topics(n.into()), None));
        next(&mut asks, Time::ZERO);
        assert!(asks.settle(&id(9), |theirs| theirs.topics > 1));
        assert_eq!(next(&mut asks, Time::ZERO), Some(id(2)));
        assert!(asks.settle(&id(9), |_| false) && asks.is_idle());
    }

    #[test]
    fn what_is_claimed_while_a_question_is_under_way_is_asked_for_after_it() {
        let mut asks = Asks::new(8);
        asks.claim(id(1), id(9), Versions { links: 1, ..topics(0) }, None);
        next(&mut asks, Time::ZERO);
        asks.claim(id(1), id(9), topics(5), None);
        assert!(!asks.settle(&id(9), |theirs| theirs.links > 0));
        assert!(asks.settle(&id(9), |theirs| theirs.topics > 0));
        assert_eq!(next(&mut asks, Time::ZERO), Some(id(1)));
    }

    #[test]
    fn a_neighbour_claims_no_more_than_there_may_be() {
        let mut asks = Asks::new(2);
        (10..20).for_each(|n| asks.claim(id(1), id(n), topics(1), None));
        asks.claim(id(2), id(10), topics(1), None);
        assert_eq!(asks.len(), 3);
        next(&mut asks, Time::ZERO);
        assert_eq!(asks.lost(&id(1)), []);
        assert_eq!(asks.len(), 1);
    }

    #[test]
    fn who_sent_what_could_not_be_used_is_remembered() {
        let mut asks = Asks::new(2);
        let version = |sequence| Version { epoch: 1, sequence };
        (3..6).for_each(|n| asks.claim(id(1), id(9), topics(n), Some(version(n))));
        let holders = |sequence| asks.holders(&id(9), 1, Some((RecordKind::Topics, sequence)));
        assert_eq!((holders(5), holders(6)), (vec![id(1)], vec![]));
        assert_eq!(asks.take_pushed(&id(9), version(4)), [(id(1), version(3)), (id(1), version(4))]);
        assert_eq!(asks.take_pushed(&id(9), version(9)), [(id(1), version(5))]);
    }
}
