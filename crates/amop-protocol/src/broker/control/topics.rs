//! Lists of topics: what other nodes say, and what this one does.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{Action, Control, take::Heard};
use crate::{
    NodeId, Time, Version,
    broker::{
        announce::{PeerFault, Unverified},
        lists::{Changes, Misfit, Taken},
    },
    wire::generated::{self as pb, RecordKind, SignedRecord, control::Message, record::Content},
};

impl Control {
    /// A piece of a list, or a change of one, that tells something new.
    pub(super) fn take_topics(
        &mut self,
        now: Time,
        from: NodeId,
        record: &Unverified,
    ) -> Result<Heard, PeerFault> {
        let content = record.content()?;
        check(&content)?;
        if let (Content::TopicsDelta(delta), Some(known)) = (&content, self.known.get(&record.node))
            && !known.topics.follows(delta)
        {
            self.claim_by(now, from, record);
            return Ok(Heard::Nothing);
        }
        if !self.keeps_pace(now, from, record) {
            return Ok(Heard::Nothing);
        }
        self.verify(now, record)?;
        match self.fit(record, &content) {
            // Nothing has settled: the last piece of those that come now finds the list complete.
            Ok(Taken::Known) => return Ok(Heard::Nothing),
            // Whoever sent it waits to hear that it has settled: that is when the newer list has.
            Ok(Taken::Outrun) => {
                let (theirs, pushed) = record.shows();
                self.asks.claim(from, record.node, theirs, pushed);
                return Ok(Heard::Nothing);
            }
            Ok(Taken::Kept) => self.bound_unfinished(),
            Ok(Taken::Gap) => self.claim_by(now, from, record),
            Ok(Taken::Changed(changes)) => {
                self.counters.deltas += 1;
                let records = [record.signed.clone()];
                self.changed(now, from, record, changes, &records);
            }
            Ok(Taken::Replaced(changes)) => {
                self.counters.lists += 1;
                let list = self.known.get(&record.node).into_iter().flat_map(|known| known.topics.since(0));
                let records: Vec<SignedRecord> = list.cloned().collect();
                self.changed(now, from, record, changes, &records);
            }
            Err(misfit) => return self.misfit(now, from, record, misfit),
        }
        Ok(Heard::New)
    }

    fn fit(&mut self, record: &Unverified, content: &Content) -> Result<Taken, Misfit> {
        let Some(known) = self.known.get_mut(&record.node) else { return Ok(Taken::Gap) };
        let (sequence, signed, bounds) = (record.version.sequence, record.signed.clone(), &self.config.lists);
        let before = known.topics.strange();
        let taken = match content {
            Content::Topics(piece) => {
                known.topics.take_piece(sequence, piece, record.content.clone(), signed, bounds)
            }
            Content::TopicsDelta(delta) => known.topics.take_delta(sequence, delta, signed, bounds),
            Content::Identity(_) | Content::Links(_) => Ok(Taken::Known),
        };
        self.counters.bad_topics += known.topics.strange().saturating_sub(before) as u64;
        taken
    }

    /// Its origin signed what does not go together. Whoever passed it on holds something else than
    /// this node, so the whole list is asked for; if that does not fit either, nothing is.
    fn misfit(
        &mut self,
        now: Time,
        from: NodeId,
        record: &Unverified,
        misfit: Misfit,
    ) -> Result<Heard, PeerFault> {
        self.counters.misfits += 1;
        if let Misfit::Topics(count) = misfit {
            let (node, most) = (record.node, self.config.lists.max_topics);
            return Err(PeerFault::TooMany { node, what: "topics", count, most });
        }
        self.claim_by(now, from, record);
        Ok(Heard::Nothing)
    }

    /// A list is in force in a new version: use it, pass it on.
    fn changed(
        &mut self,
        now: Time,
        from: NodeId,
        record: &Unverified,
        changes: Changes,
        records: &[SignedRecord],
    ) {
        let node = record.node;
        let Some(known) = self.known.get(&node) else { return };
        let version = Version { epoch: known.epoch, sequence: known.topics.present() };
        self.counters.accepted += 1;
        let but = self.but(from, node, version.epoch, Some((RecordKind::Topics, version.sequence)));
        let passed_on = self.spread(records, &but);
        let mut owed: BTreeSet<_> = self.asks.take_pushed(&node, version).into_iter().collect();
        owed.insert((from, record.version));
        let index = self.index_of(node);
        self.subscriptions.announce(index, node, changes.counts);
        self.verify_others(now, node, changes.holders);
        self.publish_routing(false);
        self.put_questions();
        self.settling.start(now, node, version, passed_on, owed, self.config.max_waves);
    }

    /// Lists that wait for what is missing of them do not take more room than there is.
    fn bound_unfinished(&mut self) {
        loop {
            let unfinished = self.known.values().map(|known| known.topics.unfinished());
            if unfinished.sum::<usize>() <= self.config.lists.max_unfinished_bytes {
                return;
            }
            let largest = self.known.values_mut().max_by_key(|known| known.topics.unfinished());
            largest.into_iter().for_each(|known| known.topics.drop_unfinished());
            self.counters.unfinished += 1;
        }
    }

    /// Announces what has changed of this node's own topics.
    pub(super) fn announce_topics(&mut self, now: Time) {
        let records = self.own.next_topics(&mut self.subscriptions, &mut self.holders, &*self.authenticator);
        let neighbours = self.spread(&records, &BTreeSet::new());
        let (me, version) = (self.own.id(), self.own.version());
        self.settling.start(now, me, version, neighbours, BTreeSet::new(), self.config.max_waves);
        self.tell_settled();
    }

    pub(super) fn settled_by(&mut self, from: NodeId, settled: &pb::Settled) {
        let Some(node) = NodeId::from_slice(&settled.node) else {
            return self.blame(from, PeerFault::Malformed("settled"));
        };
        let version = Version { epoch: settled.epoch, sequence: settled.sequence };
        self.settling.settled(&node, version, from);
    }

    pub(super) fn tell_settled(&mut self) {
        let (answers, own) = self.settling.finish(&self.own.id());
        for (to, origin, version) in answers {
            self.send_settled(to, origin, version);
        }
        if let Some(version) = own {
            self.actions.push_back(Action::Settled { version });
        }
    }

    pub(super) fn send_settled(&mut self, to: NodeId, origin: NodeId, version: Version) {
        let node = Bytes::copy_from_slice(origin.as_bytes());
        let settled = pb::Settled { node, epoch: version.epoch, sequence: version.sequence };
        self.send(to, Message::Settled(settled));
    }
}

/// What every list and change must have.
fn check(content: &Content) -> Result<(), PeerFault> {
    let hash = match content {
        Content::Topics(piece) if piece.piece >= piece.pieces => return Err(PeerFault::Malformed("piece")),
        Content::Topics(piece) => &piece.hash,
        Content::TopicsDelta(delta) => &delta.hash,
        Content::Identity(_) | Content::Links(_) => return Err(PeerFault::Malformed("content")),
    };
    if hash.len() == 32 { Ok(()) } else { Err(PeerFault::Malformed("hash")) }
}
