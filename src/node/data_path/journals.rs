//! What was written down of messages, and questions about it. `trace` reads and asks here.

use std::iter;

use amop_protocol::{
    Cause, NodeId,
    broker::{
        deliver::Delivery,
        event::Publish,
        inquiry,
        journal::{Entry, Journal, Key, Name, Step},
    },
    wire::peer::{Body, SendRef},
};
use bytes::Bytes;

use super::{DataPath, SHARDS};

/// Entries of a journal that are read under one lock: tens of microseconds.
const PORTION: usize = 1024;

impl DataPath {
    /// A send that never reached a shard.
    pub(super) fn note_refused(&self, publish: &Publish, cause: Cause) {
        let key = Key::new(self.routing.load().me(), SendRef { epoch: self.incarnation, id: 0 });
        let step = Step::AtOnce { seq: publish.seq, topic: Name::of(&publish.topic), cause };
        self.relayed.own(self.now(), key, iter::once(step).chain(Step::context_of(publish)));
    }

    /// Shows every step that is written down, oldest first within each journal, with the shard it was in if it was
    /// in one. Journals are locked for a portion at a time, so that no message waits for all of it.
    pub(in crate::node) fn read_journals(&self, mut each: impl FnMut(&Entry, Option<&Delivery>)) {
        for shard in 0..SHARDS {
            self.read_shard(shard, 0, &mut each);
        }
        for journal in 0..self.relayed.len() {
            let mut place = Some(0);
            while let Some(from) = place {
                place = self.relayed.read(journal, from, PORTION, |entry| each(entry, None));
            }
        }
    }

    /// The same of one shard, from entry number `from` on; says where to go on.
    pub(in crate::node) fn read_shard(
        &self,
        shard: usize,
        mut from: u64,
        each: &mut impl FnMut(&Entry, Option<&Delivery>),
    ) -> u64 {
        let Some(shard) = self.shards.get(shard) else { return from };
        loop {
            let delivery = shard.lock();
            from = delivery.journal().read(from, PORTION, |entry| each(entry, Some(&*delivery)));
            if from >= delivery.journal().written() {
                return from;
            }
        }
    }

    /// Entries that reading all journals once looks at.
    pub(in crate::node) fn entries(&self) -> usize {
        let own = self.shards.iter().map(|shard| shard.lock().journal().len());
        own.sum::<usize>() + self.relayed.entries()
    }

    /// How far each shard's journal has been written.
    pub(in crate::node) fn journals_written(&self) -> Vec<u64> {
        self.shards.iter().map(|shard| shard.lock().journal().written()).collect()
    }

    /// Journals there are: those of delivery, then those of what is relayed.
    pub(in crate::node) fn journals(&self) -> usize {
        SHARDS + self.relayed.len()
    }

    /// How far one of them has been written.
    pub(in crate::node) fn journal_written(&self, journal: usize) -> u64 {
        match self.shards.get(journal) {
            Some(shard) => shard.lock().journal().written(),
            None => self.relayed.get(journal - SHARDS).map_or(0, |journal| journal.written()),
        }
    }

    /// Shows entries of one of them from number `from` on, as many as are read under one lock and none from `until`
    /// on. Says where to go on, and how many were gone already.
    pub(in crate::node) fn read_on(
        &self,
        journal: usize,
        (from, until): (u64, u64),
        mut each: impl FnMut(&Entry, Option<&Delivery>),
    ) -> (u64, u64) {
        let most = PORTION.min(usize::try_from(until.saturating_sub(from)).unwrap_or(PORTION));
        let gone = |journal: &Journal| journal.oldest().saturating_sub(from);
        if let Some(shard) = self.shards.get(journal) {
            let delivery = shard.lock();
            let journal = delivery.journal();
            return (journal.read(from, most, |entry| each(entry, Some(&*delivery))), gone(journal));
        }
        match self.relayed.get(journal - SHARDS) {
            Some(journal) => (journal.read(from, most, |entry| each(entry, None)), gone(&journal)),
            None => (until, 0),
        }
    }

    /// Sends a question about a message, or an answer; false if there is no way or no room.
    pub(in crate::node) fn inquire(&self, to: NodeId, body: Body, payload: Bytes) -> bool {
        let frame = inquiry::frame(&self.routing.load(), self.incarnation, to, body, payload);
        frame.is_some_and(|(next, frame)| self.links.send(next, frame))
    }
}
