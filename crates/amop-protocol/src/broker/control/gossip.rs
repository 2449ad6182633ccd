//! Announce → compare → pull → apply: how what nodes know becomes the same.
//!
//! Changes are pushed. Every gossip period neighbours compare digests; on a difference the vector
//! of versions follows, and whoever is behind pulls, or is sent, exactly the records it lacks.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::Hasher,
};

use bytes::Bytes;
use siphasher::sip::SipHasher13;

use super::{Action, Control};
use crate::{
    NodeId, Time, Topic, Version,
    broker::{
        announce::{Held, Identity, Known, PeerFault, Unverified},
        subscriptions::Counts,
    },
    limits::GOSSIP_PERIOD,
    mutations::{self, Mutation},
    wire::generated::{self as pb, RecordKind, SignedRecord, control::Message, record::Content},
};

/// How far above an epoch it met a node may rise; microseconds, if epochs are taken from a clock.
const EPOCH_SPREAD: u64 = 1 << 20;

impl Control {
    /// Once a period: compare with every neighbour, prefer better ways, drop what is out of reach.
    pub(super) fn gossip(&mut self, now: Time) {
        let heartbeat = pb::Heartbeat { own: Some(self.own.versions()), digest: self.digest() };
        for peer in self.neighbours_but(None) {
            self.send(peer, Message::Heartbeat(heartbeat.clone()));
        }
        if self.topology.review() {
            self.routes_changed();
        }
        self.expire(now);
    }

    /// The versions of all reachable nodes, this one included, in order of id.
    fn reachable_versions(&self) -> BTreeMap<NodeId, pb::Versions> {
        let known =
            self.topology.ways().keys().filter_map(|id| Some((*id, self.known.get(id)?.versions(*id))));
        known.chain([(self.own.id(), self.own.versions())]).collect()
    }

    fn digest(&self) -> u64 {
        let mut hasher = SipHasher13::new();
        for (node, versions) in self.reachable_versions() {
            hasher.write(node.as_bytes());
            for number in [versions.epoch, versions.links, versions.topics] {
                hasher.write_u64(number);
            }
        }
        hasher.finish()
    }

    pub(super) fn vector(&self) -> pb::Vector {
        pb::Vector { entries: self.reachable_versions().into_values().collect(), partial: false }
    }

    /// Neighbours that started while these nodes were out of reach have never heard of them, and
    /// no record of theirs need have changed.
    pub(super) fn tell_of_newcomers(&mut self, before: &BTreeSet<NodeId>) {
        let newcomers = self.topology.ways().keys().filter(|id| !before.contains(id));
        let entries: Vec<_> = newcomers.filter_map(|id| Some(self.known.get(id)?.versions(*id))).collect();
        if entries.is_empty() {
            return;
        }
        let vector = pb::Vector { entries, partial: true };
        for peer in self.neighbours_but(None) {
            self.send(peer, Message::Vector(vector.clone()));
        }
    }

    pub(super) fn heartbeat(&mut self, now: Time, from: NodeId, heartbeat: &pb::Heartbeat) {
        if let Some(own) = &heartbeat.own {
            self.pull_what_lacks(from, own);
        }
        if heartbeat.digest == self.digest() {
            let long_ago = Time::ZERO + now.since(Time::ZERO + GOSSIP_PERIOD);
            self.settling.caught_up(&from, long_ago);
        } else {
            self.send(from, Message::Vector(self.vector()));
        }
    }

    /// A neighbour's vector: pull what it has and we lack. What it lacks it pulls by ours.
    pub(super) fn compare(&mut self, from: NodeId, vector: &pb::Vector) {
        // The neighbour itself, and as many others as it may know.
        let most = self.config.max_nodes.saturating_add(1);
        if vector.entries.len() > most {
            let count = vector.entries.len();
            return self
                .blame(from, PeerFault::TooMany { node: from, what: "nodes in a vector", count, most });
        }
        for versions in &vector.entries {
            if versions.node.len() != 32 {
                return self.blame(from, PeerFault::Malformed("vector"));
            }
            self.pull_what_lacks(from, versions);
        }
    }

    fn pull_what_lacks(&mut self, from: NodeId, theirs: &pb::Versions) {
        let Some(node) = NodeId::from_slice(&theirs.node) else { return };
        if node == self.own.id() {
            return self.claimed_of_us(from, theirs);
        }
        let unknown = Known::default();
        let known = self.known.get(&node).unwrap_or(&unknown);
        let kinds = known.lacking(theirs);
        if !kinds.is_empty() {
            self.pull(from, node, &kinds);
        }
        self.correct(from, node, theirs.epoch);
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
    fn correct(&mut self, from: NodeId, node: NodeId, epoch: u64) {
        if let Some(known) = self.known.get(&node).filter(|known| epoch > 0 && epoch < known.epoch)
            && let Some(identity) = known.signed_identity().cloned()
        {
            self.send(from, Message::Record(identity));
        }
    }

    fn pull(&mut self, from: NodeId, node: NodeId, kinds: &[RecordKind]) {
        let kinds = kinds.iter().map(|kind| (*kind).into()).collect();
        self.send(from, Message::Pull(pb::Pull { node: Bytes::copy_from_slice(node.as_bytes()), kinds }));
    }

    /// A neighbour asks for records.
    pub(super) fn pulled(&mut self, from: NodeId, pull: &pb::Pull) {
        let Some(node) = NodeId::from_slice(&pull.node) else {
            return self.blame(from, PeerFault::Malformed("pull"));
        };
        let asked: BTreeSet<i32> = pull.kinds.iter().copied().collect();
        for kind in [RecordKind::Identity, RecordKind::Links, RecordKind::Topics] {
            if asked.contains(&kind.into())
                && let Some(record) = self.record_of(node, kind)
            {
                self.send(from, Message::Record(record));
                if kind == RecordKind::Topics {
                    self.also_waits(from, node);
                }
            }
        }
    }

    /// A neighbour that pulls a list of topics has yet to settle it.
    fn also_waits(&mut self, from: NodeId, node: NodeId) {
        let version = match self.known.get(&node) {
            Some(known) => Version { epoch: known.epoch, sequence: known.topics.sequence },
            None => self.own.announced_version(),
        };
        self.settling.sent(&node, version, from);
    }

    fn record_of(&self, node: NodeId, kind: RecordKind) -> Option<SignedRecord> {
        if node == self.own.id() {
            return match kind {
                RecordKind::Identity => Some(self.own.identity.clone()),
                RecordKind::Links => Some(self.own.links.clone()),
                RecordKind::Topics => Some(self.own.topics.clone()),
                RecordKind::Unspecified => None,
            };
        }
        let known = self.known.get(&node)?;
        match kind {
            RecordKind::Identity => known.identity.as_ref().map(|identity| identity.record.clone()),
            RecordKind::Links => known.links.record.clone(),
            RecordKind::Topics => known.topics.record.clone(),
            RecordKind::Unspecified => None,
        }
    }

    /// A record, pushed or pulled: taken in if it is new and genuine, and passed on.
    pub(super) fn record(&mut self, now: Time, from: NodeId, signed: SignedRecord) {
        let taken = Unverified::decode(signed).and_then(|record| self.take(now, from, record));
        if let Err(fault) = taken {
            self.counters.refused += 1;
            self.blame(from, fault);
        }
    }

    fn take(&mut self, now: Time, from: NodeId, record: Unverified) -> Result<(), PeerFault> {
        if record.node == self.own.id() {
            return self.own_record(now, from, &record);
        }
        match record.kind {
            RecordKind::Identity => self.take_identity(now, from, record),
            _ => self.take_list(now, from, record),
        }
    }

    /// A record of our own: from an earlier start with a higher epoch, or an echo of the present.
    /// Who brings the echo, having it from others first, waits for us too.
    fn own_record(&mut self, now: Time, from: NodeId, record: &Unverified) -> Result<(), PeerFault> {
        if record.version.epoch <= self.own.epoch {
            self.counters.stale += 1;
            if record.kind == RecordKind::Topics && record.version.epoch == self.own.epoch {
                self.send_settled(from, record.node, record.version);
            }
            return Ok(());
        }
        let SignedRecord { body, signature } = &record.signed;
        if !self.authenticator.verify(&self.own.info.key, body, signature) {
            return Err(PeerFault::Signature(record.node));
        }
        self.raise_epoch(now, record.version.epoch);
        Ok(())
    }

    /// Above the epoch met, and not just above: an earlier start may have risen from there too.
    fn raise_epoch(&mut self, now: Time, met: u64) {
        self.counters.epochs_raised += 1;
        let epoch = met.saturating_add(1 + self.seed % EPOCH_SPREAD);
        self.own.begin_epoch(epoch, &*self.authenticator);
        self.settling.forget(&self.own.id());
        let identity = self.own.identity.clone();
        self.flood(&identity, None);
        self.announce_links();
        self.announce_topics(now);
        self.publish_routing(true);
    }

    fn take_identity(&mut self, now: Time, from: NodeId, record: Unverified) -> Result<(), PeerFault> {
        let (node, version) = (record.node, record.version);
        let known = self.known.get(&node);
        let present = known.is_some_and(|known| known.identity.is_some());
        if known.is_some_and(|known| version.epoch < known.epoch || version.epoch == known.epoch && present) {
            self.counters.stale += 1;
            self.correct(from, node, version.epoch);
            return Ok(());
        }
        let full = !present && self.indices.len() > self.config.max_nodes;
        let gone = if full { self.longest_gone(now) } else { None };
        if full && gone.is_none() {
            self.counters.over_capacity += 1;
            return Ok(());
        }
        let Content::Identity(identity) = record.content()? else {
            return Err(PeerFault::Malformed("content"));
        };
        let signed = record.signed;
        let info = self.authenticator.verify_chain(&identity.chain).filter(|info| info.key.id() == node);
        let info = info.ok_or(PeerFault::Chain(node))?;
        if !self.authenticator.verify(&info.key, &signed.body, &signed.signature) {
            return Err(PeerFault::Signature(node));
        }
        let seal = self.own.mac.share(&self.own.id(), &node, &identity.x25519_key);
        let seal = seal.ok_or(PeerFault::Malformed("x25519_key"))?;
        if let Some(gone) = gone {
            self.bury(gone);
        }
        self.counters.accepted += 1;
        self.flood(&signed, Some(from));
        let entry = self.known.entry(node).or_default();
        if version.epoch > entry.epoch {
            // A restart: what the node said before says nothing any more.
            let stale = mutations::on(Mutation::SequenceWithoutEpoch);
            let topics = if stale { std::mem::take(&mut entry.topics) } else { Held::default() };
            *entry = Known { epoch: version.epoch, topics, ..Known::default() };
            self.settling.forget(&node);
        }
        entry.tombstone = None;
        entry.identity = Some(Identity { info, address: identity.address.into(), seal, record: signed });
        entry.unreachable_since = Some(now);
        let index = self.index_of(node);
        if self.known[&node].links.record.is_none() {
            self.topology.announced(node, BTreeSet::new());
            self.subscriptions.announce(index, node, Counts::new());
        }
        self.routes_changed();
        Ok(())
    }

    fn take_list(&mut self, now: Time, from: NodeId, record: Unverified) -> Result<(), PeerFault> {
        let (node, version, kind) = (record.node, record.version, record.kind);
        let Some(known) = self.known.get_mut(&node) else {
            self.pull(from, node, &[RecordKind::Identity, kind]);
            return Ok(());
        };
        let Some(identity) = known.identity.as_ref().filter(|_| known.epoch >= version.epoch) else {
            if version.epoch >= known.epoch {
                self.pull(from, node, &[RecordKind::Identity, kind]);
            } else {
                self.correct(from, node, version.epoch);
            }
            return Ok(());
        };
        let key = identity.info.key;
        if known.epoch > version.epoch || !known.held(kind).lacks(version.sequence) {
            self.counters.stale += 1;
            self.correct(from, node, version.epoch);
            self.seen_again(from, node, kind, version);
            return Ok(());
        }
        if !self.authenticator.verify(&key, &record.signed.body, &record.signed.signature) {
            return Err(PeerFault::Signature(node));
        }
        let list = self.parse(node, record.content()?)?;
        let signed = record.signed;
        self.counters.accepted += 1;
        if let Some(known) = self.known.get_mut(&node) {
            known.held(kind).store(version.sequence, signed.clone());
        }
        let passed_on = self.flood(&signed, Some(from));
        match list {
            List::Links(neighbours) => {
                self.topology.announced(node, neighbours);
                self.routes_changed();
            }
            List::Topics(counts) => {
                let index = self.index_of(node);
                self.subscriptions.announce(index, node, counts);
                self.publish_routing(false);
                self.settling.start(now, node, version, passed_on, Some(from), self.config.max_waves);
            }
        }
        Ok(())
    }

    /// A neighbour sends what is known already: it may wait for us, whoever brought it first.
    fn seen_again(&mut self, from: NodeId, origin: NodeId, kind: RecordKind, version: Version) {
        if kind == RecordKind::Topics && self.settling.repeated(&origin, version, from) {
            self.send_settled(from, origin, version);
        }
    }

    fn parse(&mut self, node: NodeId, content: Content) -> Result<List, PeerFault> {
        let bound = |what, count, most| {
            if count > most { Err(PeerFault::TooMany { node, what, count, most }) } else { Ok(()) }
        };
        match content {
            Content::Links(links) => {
                bound("links", links.neighbours.len(), self.config.max_links)?;
                let ids = links.neighbours.iter().map(|bytes| NodeId::from_slice(bytes));
                let ids: Option<BTreeSet<NodeId>> = ids.collect();
                Ok(List::Links(ids.ok_or(PeerFault::Malformed("neighbours"))?))
            }
            Content::Topics(topics) => {
                bound("topics", topics.topics.len(), self.config.max_topics)?;
                let wanted = topics.topics.iter().filter(|entry| entry.subscribers > 0);
                let mut counts = Counts::new();
                for entry in wanted {
                    match Topic::parse(&entry.topic) {
                        Ok(topic) => _ = counts.insert(topic, entry.subscribers),
                        Err(_) => self.counters.bad_topics += 1,
                    }
                }
                Ok(List::Topics(counts))
            }
            Content::Identity(_) => Err(PeerFault::Malformed("content")),
        }
    }

    pub(super) fn settled_by(&mut self, from: NodeId, settled: &pb::Settled) {
        let Some(node) = NodeId::from_slice(&settled.node) else {
            return self.blame(from, PeerFault::Malformed("settled"));
        };
        let version = Version { epoch: settled.epoch, sequence: settled.sequence };
        self.settling.settled(&node, version, from);
    }

    /// The node that has been out of reach the longest: it gives way to a newcomer.
    fn longest_gone(&self, now: Time) -> Option<NodeId> {
        let known = self.known.iter().filter(|(_, known)| known.identity.is_some());
        let gone = known.filter(|(id, _)| !self.topology.ways().contains_key(*id));
        gone.min_by_key(|(_, known)| known.unreachable_since.unwrap_or(now)).map(|(id, _)| *id)
    }

    fn bury(&mut self, node: NodeId) {
        if let Some(known) = self.known.get_mut(&node) {
            known.bury();
        }
        self.counters.expired += 1;
        self.forget(node);
    }

    /// Lists of nodes that have been out of reach for long are dropped; their versions stay.
    fn expire(&mut self, now: Time) {
        let mut expired = Vec::new();
        for (id, known) in self.known.iter_mut().filter(|(_, known)| known.identity.is_some()) {
            if self.topology.ways().contains_key(id) {
                known.unreachable_since = None;
            } else if now.since(*known.unreachable_since.get_or_insert(now)) >= self.config.expiry {
                expired.push(*id);
            }
        }
        let any = !expired.is_empty();
        expired.into_iter().for_each(|node| self.bury(node));
        self.bound_tombstones();
        if any {
            self.topology.recompute();
            self.publish_routing(true);
        }
    }

    fn bound_tombstones(&mut self) {
        let tombstones = self.known.len() + 1 - self.indices.len().min(self.known.len() + 1);
        let buried: Vec<NodeId> =
            self.known.iter().filter(|(_, known)| known.identity.is_none()).map(|(id, _)| *id).collect();
        for node in buried.into_iter().take(tombstones.saturating_sub(self.config.max_tombstones)) {
            self.known.remove(&node);
            self.counters.tombstones_forgotten += 1;
        }
    }

    fn blame(&mut self, peer: NodeId, fault: PeerFault) {
        self.actions.push_back(Action::PeerFault { peer, fault });
    }
}

/// A list that verified.
enum List {
    Links(BTreeSet<NodeId>),
    Topics(Counts),
}
