//! Records, pushed or pulled: taken in if they are new and genuine, and passed on.

use std::collections::BTreeSet;

use super::Control;
use crate::{
    NodeId, Time, Version,
    broker::{
        announce::{Identity, Known, PeerFault, Unverified},
        lists::Topics,
    },
    mutations::{self, Mutation},
    wire::generated::{self as pb, RecordKind, SignedRecord, record::Content},
};

/// How far above an epoch it met a node may rise; microseconds, if epochs are taken from a clock.
const EPOCH_SPREAD: u64 = 1 << 20;

/// Whether a record told anything.
pub(super) enum Heard {
    /// It was taken in, or is kept until it can be.
    New,
    /// It was not.
    Nothing,
}

impl Control {
    /// A record of whatever kind.
    pub(super) fn record(&mut self, now: Time, from: NodeId, signed: SignedRecord) {
        let taken = Unverified::decode(signed).and_then(|record| {
            let node = record.node;
            let heard = self.take(now, from, record)?;
            self.answered(now, from, node, matches!(heard, Heard::New));
            Ok(())
        });
        if let Err(fault) = taken {
            self.counters.refused += 1;
            self.blame(from, fault);
        }
    }

    fn take(&mut self, now: Time, from: NodeId, record: Unverified) -> Result<Heard, PeerFault> {
        if record.node == self.own.id() {
            return self.own_record(now, from, &record);
        }
        if record.kind == RecordKind::Identity {
            return self.take_identity(now, from, record);
        }
        let known = self.known.get(&record.node);
        let Some(known) = known.filter(|known| known.epoch > record.version.epoch || known.is_alive(&record))
        else {
            // First who it is of; then the list will be asked for too.
            self.claim_by(now, from, &record);
            return Ok(Heard::Nothing);
        };
        let news = match record.kind {
            RecordKind::Links => known.links.lacks(record.version.sequence),
            _ => known.topics.wants(record.version.sequence),
        };
        if known.epoch > record.version.epoch || !news {
            return Ok(self.seen_again(from, &record));
        }
        match record.kind {
            RecordKind::Links => self.take_links(now, from, &record),
            _ => self.take_topics(now, from, &record),
        }
    }

    /// Whoever sends a record that cannot be used holds what it takes to use it.
    pub(super) fn claim_by(&mut self, now: Time, from: NodeId, record: &Unverified) {
        let (theirs, pushed) = record.shows();
        self.claim(now, from, record.node, theirs, pushed);
    }

    /// Whether the node has not changed more often than is taken. If it has, its newest state is
    /// asked for when it is time.
    pub(super) fn keeps_pace(&mut self, now: Time, from: NodeId, record: &Unverified) -> bool {
        let resumes = self.known.get(&record.node).map_or(now, |known| known.pace.resumes(now));
        if resumes > now {
            self.counters.paced += 1;
            self.claim_by(now, from, record);
        }
        resumes <= now
    }

    /// Checks the signature on a list, under the identity that is held.
    pub(super) fn verify(&mut self, now: Time, record: &Unverified) -> Result<(), PeerFault> {
        let SignedRecord { body, signature } = &record.signed;
        let identity = self.known.get(&record.node).and_then(|known| known.identity.as_ref());
        let verified = identity.filter(|id| self.authenticator.verify(&id.info.key, body, signature));
        verified.ok_or(PeerFault::Signature(record.node))?;
        if let Some(known) = self.known.get_mut(&record.node) {
            known.pace.charge(now, record.kind, body.len(), self.config.burst);
        }
        Ok(())
    }

    /// A record of our own: from an earlier start with a higher epoch, or an echo of the present.
    /// Who brings the echo, having it from others first, waits for us too.
    fn own_record(&mut self, now: Time, from: NodeId, record: &Unverified) -> Result<Heard, PeerFault> {
        if record.version.epoch <= self.own.epoch {
            self.counters.stale += 1;
            if record.kind == RecordKind::Topics && record.version.epoch == self.own.epoch {
                self.send_settled(from, record.node, record.version);
            }
            return Ok(Heard::Nothing);
        }
        let SignedRecord { body, signature } = &record.signed;
        if !self.authenticator.verify(&self.own.info.key, body, signature) {
            return Err(PeerFault::Signature(record.node));
        }
        self.raise_epoch(now, record.version.epoch);
        Ok(Heard::New)
    }

    /// Above the epoch met, and not just above: an earlier start may have risen from there too.
    fn raise_epoch(&mut self, now: Time, met: u64) {
        self.counters.epochs_raised += 1;
        let epoch = met.saturating_add(1 + self.seed % EPOCH_SPREAD);
        self.own.begin_epoch(epoch, &*self.authenticator);
        self.verification.handle_own_epoch(now, epoch);
        self.settling.forget(&self.own.id());
        let identity = self.own.identity.clone();
        self.spread(&[identity], &BTreeSet::new());
        self.announce_links();
        self.announce_topics(now);
        self.publish_routing(true);
        self.put_questions();
    }

    fn take_identity(&mut self, now: Time, from: NodeId, record: Unverified) -> Result<Heard, PeerFault> {
        let (node, version) = (record.node, record.version);
        let known = self.known.get(&node);
        let held = known.and_then(|known| known.identity.as_ref()).map(|identity| identity.sequence);
        let (present, known_epoch) = (held.is_some(), known.map(|known| known.epoch));
        let is_old = |held| version.sequence <= held;
        if known.is_some_and(|known| {
            version.epoch < known.epoch || version.epoch == known.epoch && held.is_some_and(is_old)
        }) {
            return Ok(self.seen_again(from, &record));
        }
        if !self.keeps_pace(now, from, &record) {
            return Ok(Heard::Nothing);
        }
        let full = !present && self.indices.len() > self.config.max_nodes;
        let gone = if full { self.longest_gone(now) } else { None };
        if full && gone.is_none() {
            self.counters.over_capacity += 1;
            return Ok(Heard::Nothing);
        }
        let identity = self.read_identity(&record)?;
        if let Some(gone) = gone {
            self.bury(now, gone);
        }
        self.counters.accepted += 1;
        let but = self.but(from, node, version.epoch, Some((RecordKind::Identity, version.sequence)));
        self.spread(std::slice::from_ref(&record.signed), &but);
        if present && known_epoch == Some(version.epoch) {
            self.renewed_by(now, node, identity, record.signed.body.len());
            return Ok(Heard::New);
        }
        self.begins(now, node, version.epoch, record.signed.body.len());
        let index = self.index_of(node);
        let known = self.known.entry(node).or_default();
        known.tombstone = None;
        known.identity = Some(identity);
        known.unreachable_since = Some(now);
        self.renewed = true;
        if known.links.record.is_none() {
            self.topology.announced(node, BTreeSet::new());
            self.subscriptions.announce(index, node, []);
        }
        self.links_changed(now);
        Ok(Heard::New)
    }

    /// What an identity says, if its chain and its signature are right.
    fn read_identity(&self, record: &Unverified) -> Result<Identity, PeerFault> {
        let node = record.node;
        let Content::Identity(content) = record.content()? else {
            return Err(PeerFault::Malformed("content"));
        };
        let SignedRecord { body, signature } = &record.signed;
        let info = self.authenticator.verify_chain(&content.chain).filter(|info| info.key.id() == node);
        let info = info.ok_or(PeerFault::Chain(node))?;
        if !self.authenticator.verify(&info.key, body, signature) {
            return Err(PeerFault::Signature(node));
        }
        let seal = self.own.mac.share(&self.own.id(), &node, &content.x25519_key);
        let seal = seal.ok_or(PeerFault::Malformed("x25519_key"))?;
        let (sequence, address) = (record.version.sequence, content.address.into());
        Ok(Identity { sequence, info, address, seal, record: record.signed.clone() })
    }

    /// A new epoch: what the node said before says nothing any more.
    fn begins(&mut self, now: Time, node: NodeId, epoch: u64, bytes: usize) {
        let index = self.index_of(node);
        let known = self.known.entry(node).or_default();
        known.pace.charge(now, RecordKind::Identity, bytes, self.config.burst);
        if epoch <= known.epoch {
            return;
        }
        let gone: Vec<_> = known.topics.counts().map(|(topic, _)| (topic.clone(), 0)).collect();
        let stale = mutations::on(Mutation::SequenceWithoutEpoch);
        let topics = if stale { std::mem::take(&mut known.topics) } else { Topics::default() };
        *known = Known { epoch, topics, pace: known.pace, ..Known::default() };
        self.subscriptions.announce(index, node, gone);
        self.verification.handle_node_gone(now, node);
        self.settling.forget(&node);
    }

    fn take_links(&mut self, now: Time, from: NodeId, record: &Unverified) -> Result<Heard, PeerFault> {
        if !self.keeps_pace(now, from, record) {
            return Ok(Heard::Nothing);
        }
        self.verify(now, record)?;
        let neighbours = self.read_links(record)?;
        self.counters.accepted += 1;
        if let Some(known) = self.known.get_mut(&record.node) {
            known.links.store(record.version.sequence, record.signed.clone());
        }
        let Version { epoch, sequence } = record.version;
        self.spread(
            std::slice::from_ref(&record.signed),
            &self.but(from, record.node, epoch, Some((RecordKind::Links, sequence))),
        );
        self.topology.announced(record.node, neighbours);
        self.links_changed(now);
        Ok(Heard::New)
    }

    fn read_links(&self, record: &Unverified) -> Result<BTreeSet<NodeId>, PeerFault> {
        let Content::Links(pb::LinksContent { neighbours }) = record.content()? else {
            return Err(PeerFault::Malformed("content"));
        };
        let (node, count, most) = (record.node, neighbours.len(), self.config.max_links);
        if count > most {
            return Err(PeerFault::TooMany { node, what: "links", count, most });
        }
        let ids: Option<BTreeSet<NodeId>> =
            neighbours.iter().map(|bytes| NodeId::from_slice(bytes)).collect();
        ids.ok_or(PeerFault::Malformed("neighbours"))
    }

    /// A neighbour sends what is known already: of a list of topics it may wait for us, whoever
    /// brought it first.
    pub(super) fn seen_again(&mut self, from: NodeId, record: &Unverified) -> Heard {
        self.counters.stale += 1;
        self.correct(from, record.node, record.version.epoch);
        let is_topics = record.kind == RecordKind::Topics;
        if is_topics && self.settling.repeated(&record.node, record.version, from) {
            self.send_settled(from, record.node, record.version);
        }
        Heard::Nothing
    }
}
