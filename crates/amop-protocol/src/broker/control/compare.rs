//! Compare and pull: how neighbours find out that they know different things, and even it out.
//!
//! Every gossip period they compare digests; on a difference the vector of versions follows, and
//! whoever is behind pulls exactly what it lacks, from one neighbour at a time (see `asks`).

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::Hasher,
};

use bytes::Bytes;
use siphasher::sip::SipHasher13;

use super::{Control, asks::Asks};
use crate::{
    NodeId, Time, Version,
    broker::announce::{Known, PeerFault, Versions},
    limits::GOSSIP_PERIOD,
    wire::generated::{self as pb, RecordKind, SignedRecord, control::Message},
};

/// Nodes in one `Vector`; of more it takes several.
const VECTOR_ENTRIES: usize = 4_096;

impl Control {
    /// Once a period: compare with every neighbour, prefer better ways, drop what is out of reach.
    pub(super) fn gossip(&mut self, now: Time) {
        let heartbeat = pb::Heartbeat { own: Some(self.own.versions()), digest: self.digest() };
        for peer in self.neighbours() {
            self.send(peer, Message::Heartbeat(heartbeat.clone()));
        }
        if self.topology.review() {
            self.routes_changed(now);
        }
        self.expire(now);
    }

    /// The versions of all reachable nodes, this one included, in order of id.
    fn reachable_versions(&self) -> BTreeMap<NodeId, pb::Versions> {
        let known =
            self.topology.ways().keys().filter_map(|id| Some((*id, self.known.get(id)?.present().of(*id))));
        known.chain([(self.own.id(), self.own.versions())]).collect()
    }

    pub(super) fn versions_digest(&self) -> u64 {
        let (me, mut own) = (self.own.id(), Some(self.own.held()));
        let mut hasher = SipHasher13::new();
        let mut add = |node: &NodeId, held: Versions| {
            hasher.write(node.as_bytes());
            // Nodes that know nothing of renewed identities agree as long as there is none.
            let numbers = [held.epoch, held.links, held.topics];
            for number in numbers.into_iter().chain(held.renewed()) {
                hasher.write_u64(number);
            }
        };
        for node in self.topology.ways().keys() {
            own.take_if(|_| me < *node).into_iter().for_each(|own| add(&me, own));
            self.known.get(node).into_iter().for_each(|known| add(node, known.present()));
        }
        own.into_iter().for_each(|own| add(&me, own));
        hasher.finish()
    }

    pub(super) fn send_vector(&mut self, to: NodeId) {
        let entries: Vec<_> = self.reachable_versions().into_values().collect();
        let partial = entries.len() > VECTOR_ENTRIES;
        for entries in entries.chunks(VECTOR_ENTRIES) {
            self.send(to, Message::Vector(pb::Vector { entries: entries.to_vec(), partial }));
        }
    }

    /// Neighbours that started while these nodes were out of reach have never heard of them, and
    /// no record of theirs need have changed.
    pub(super) fn tell_of_newcomers(&mut self, before: &BTreeSet<NodeId>) {
        let newcomers = self.topology.ways().keys().filter(|id| !before.contains(id));
        let entries: Vec<_> =
            newcomers.filter_map(|id| Some(self.known.get(id)?.present().of(*id))).collect();
        for entries in entries.chunks(VECTOR_ENTRIES) {
            let vector = pb::Vector { entries: entries.to_vec(), partial: true };
            for peer in self.neighbours() {
                self.send(peer, Message::Vector(vector.clone()));
            }
        }
    }

    pub(super) fn heartbeat(&mut self, now: Time, from: NodeId, heartbeat: &pb::Heartbeat) {
        if let Some(own) = &heartbeat.own {
            self.claimed(now, from, own);
        }
        if heartbeat.digest == self.digest() {
            let long_ago = Time::ZERO + now.since(Time::ZERO + GOSSIP_PERIOD);
            self.settling.caught_up(&from, long_ago);
        } else {
            self.send_vector(from);
        }
    }

    /// A neighbour's vector: pull what it has and we lack. What it lacks it pulls by ours.
    pub(super) fn compare(&mut self, now: Time, from: NodeId, vector: &pb::Vector) {
        // The neighbour itself, and as many others as it may know.
        let most = self.config.max_nodes.max(self.indices.len()).saturating_add(1);
        if vector.entries.len() > most {
            let count = vector.entries.len();
            return self
                .blame(from, PeerFault::TooMany { node: from, what: "nodes in a vector", count, most });
        }
        for versions in &vector.entries {
            if versions.node.len() != 32 {
                return self.blame(from, PeerFault::Malformed("vector"));
            }
            self.claimed(now, from, versions);
        }
    }

    /// A neighbour claims to hold this of a node.
    fn claimed(&mut self, now: Time, from: NodeId, theirs: &pb::Versions) {
        let Some(node) = NodeId::from_slice(&theirs.node) else { return };
        if node == self.own.id() {
            return self.claimed_of_us(from, theirs);
        }
        self.claim(now, from, node, theirs.into(), None);
        self.correct(from, node, theirs.epoch);
    }

    /// A neighbour claims, or has shown by a record that could not be used, to hold this of a node.
    pub(super) fn claim(
        &mut self,
        now: Time,
        from: NodeId,
        node: NodeId,
        theirs: Versions,
        pushed: Option<Version>,
    ) {
        if !self.lacking(&node, &theirs).is_empty() {
            self.asks.claim(from, node, theirs, pushed);
            self.ask(now, node);
        }
    }

    fn lacking(&self, node: &NodeId, theirs: &Versions) -> Vec<RecordKind> {
        self.known.get(node).unwrap_or(&Known::default()).lacking(theirs)
    }

    /// Asks one of those who claim something new of a node, unless one has been asked.
    pub(super) fn ask(&mut self, now: Time, node: NodeId) {
        if self.asks.is_waiting(now, &node) {
            return;
        }
        let resumes = self.known.get(&node).map_or(now, |known| known.pace.resumes(now));
        if resumes > now {
            return self.asks.pause(node, resumes);
        }
        let (last, unanswered) = self.asks.give_up(&node);
        self.counters.unanswered += u64::from(unanswered);
        let claims = self.asks.claimants(&node, last).into_iter();
        let asked = claims.map(|(peer, theirs)| (peer, self.lacking(&node, &theirs)));
        let Some((peer, kinds)) = asked.into_iter().find(|(_, kinds)| !kinds.is_empty()) else { return };
        self.asks.ask(now, peer, node);
        self.pull(peer, node, &kinds);
    }

    /// A record of a node was looked at: perhaps nothing of it is lacking any more.
    pub(super) fn answered(&mut self, now: Time, from: NodeId, node: NodeId, was_new: bool) {
        if self.asks.is_idle() {
            return;
        }
        if was_new {
            self.asks.heard(now, from, &node);
        }
        let unknown = Known::default();
        let known = self.known.get(&node).unwrap_or(&unknown);
        if self.asks.settle(&node, |theirs| !known.lacking(theirs).is_empty()) {
            self.ask(now, node);
        }
    }

    /// Somebody claims to hold records of ours that we know nothing of. A claim is nothing; the
    /// records themselves, signed by us in an earlier start, would be.
    fn claimed_of_us(&mut self, from: NodeId, theirs: &pb::Versions) {
        if theirs.epoch > self.own.epoch {
            self.pull(from, self.own.id(), &[RecordKind::Identity]);
        }
    }

    /// Whoever believes in an older epoch of a node is shown the newer one; so the node itself
    /// learns of it if its clock was set back.
    pub(super) fn correct(&mut self, from: NodeId, node: NodeId, epoch: u64) {
        if let Some(known) = self.known.get(&node).filter(|known| epoch > 0 && epoch < known.epoch)
            && let Some(identity) = known.signed_identity().cloned()
        {
            self.send(from, Message::Record(identity));
        }
    }

    fn pull(&mut self, from: NodeId, node: NodeId, kinds: &[RecordKind]) {
        self.counters.pulls += 1;
        let (epoch, topics) =
            self.known.get(&node).map_or((0, 0), |known| (known.epoch, known.topics.have()));
        let kinds = kinds.iter().map(|kind| (*kind).into()).collect();
        let node = Bytes::copy_from_slice(node.as_bytes());
        self.send(from, Message::Pull(pb::Pull { node, kinds, epoch, topics }));
    }

    /// A neighbour asks for records.
    pub(super) fn pulled(&mut self, from: NodeId, pull: &pb::Pull) {
        let Some(node) = NodeId::from_slice(&pull.node) else {
            return self.blame(from, PeerFault::Malformed("pull"));
        };
        let asked: BTreeSet<i32> = pull.kinds.iter().copied().collect();
        for kind in [RecordKind::Identity, RecordKind::Links, RecordKind::Topics] {
            if asked.contains(&kind.into()) {
                self.give(from, node, kind, pull);
            }
        }
    }

    fn give(&mut self, to: NodeId, node: NodeId, kind: RecordKind, pull: &pb::Pull) {
        let records = self.records_of(node, kind, pull);
        if kind == RecordKind::Topics && !records.is_empty() {
            // It has yet to settle them.
            let version = match self.known.get(&node) {
                Some(known) => Version { epoch: known.epoch, sequence: known.topics.present() },
                None => self.own.announced_version(),
            };
            self.settling.sent(&node, version, to);
        }
        for record in records {
            self.send(to, Message::Record(record));
        }
    }

    fn records_of(&self, node: NodeId, kind: RecordKind, pull: &pb::Pull) -> Vec<SignedRecord> {
        let have = |epoch| if epoch == pull.epoch { pull.topics } else { 0 };
        if node == self.own.id() {
            let own = &self.own;
            return match kind {
                RecordKind::Identity => vec![own.identity.clone()],
                RecordKind::Links => vec![own.links.clone()],
                RecordKind::Topics => own.topics.since(have(own.epoch)).cloned().collect(),
                RecordKind::Unspecified => Vec::new(),
            };
        }
        let Some(known) = self.known.get(&node) else { return Vec::new() };
        match kind {
            RecordKind::Identity => known.identity.iter().map(|identity| identity.record.clone()).collect(),
            RecordKind::Links => known.links.record.iter().cloned().collect(),
            RecordKind::Topics => known.topics.since(have(known.epoch)).cloned().collect(),
            RecordKind::Unspecified => Vec::new(),
        }
    }

    /// A neighbour is gone: what it was asked for another may have.
    pub(super) fn ask_others(&mut self, now: Time, gone: &NodeId) {
        for node in self.asks.lost(gone) {
            self.ask(now, node);
        }
    }

    /// Whoever has not answered in time is not waited for.
    pub(super) fn ask_again(&mut self, now: Time) {
        for node in Asks::overdue(&mut self.asks, now) {
            self.ask(now, node);
        }
    }
}
