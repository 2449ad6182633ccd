//! What passes through this node for others, written down beside delivery's own journals.

use std::iter;

use amop_protocol::{
    Cause, NodeId, Time, TraceContext,
    broker::journal::{Brief, Entry, Journal, Key, Label, Step},
    wire::peer,
};
use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};

/// Journals that tasks seldom meet at: as many as there are shards of delivery, by the number of the send.
#[derive(Debug)]
pub(in crate::node) struct Relayed {
    journals: Vec<Mutex<Journal>>,
    is_on: bool,
}

impl Relayed {
    /// So many journals of so many entries each.
    pub(in crate::node) fn new(journals: usize, entries: usize) -> Self {
        let journals = (0..journals).map(|_| Mutex::new(Journal::new(entries)));
        Self { journals: journals.collect(), is_on: entries > 0 }
    }

    /// A frame from `from` goes on to `to`.
    pub(in crate::node) fn passed(&self, now: Time, from: NodeId, to: NodeId, header: &Bytes) {
        self.note(now, header, |what| Step::Relayed { what, from: from.into(), to: to.into() });
    }

    /// A frame does not go on, to `to` if there is a way.
    pub(in crate::node) fn stopped(&self, now: Time, to: Option<NodeId>, header: &Bytes, cause: Cause) {
        let to = to.map_or_else(Brief::default, Brief::from);
        self.note(now, header, |what| Step::Stopped { what, to, cause });
    }

    /// Steps of a message that has no send of this node yet; nothing comes between them.
    pub(in crate::node) fn own(&self, now: Time, key: Key, steps: impl IntoIterator<Item = Step>) {
        self.write(now, key, 0, steps);
    }

    /// One of them.
    pub(in crate::node) fn get(&self, journal: usize) -> Option<MutexGuard<'_, Journal>> {
        self.journals.get(journal).map(Mutex::lock)
    }

    /// Journals there are.
    pub(in crate::node) fn len(&self) -> usize {
        self.journals.len()
    }

    /// Entries that are in them.
    pub(in crate::node) fn entries(&self) -> usize {
        self.journals.iter().map(|journal| journal.lock().len()).sum()
    }

    /// As [`Journal::read`], of one of them.
    pub(in crate::node) fn read(
        &self,
        journal: usize,
        from: u64,
        most: usize,
        each: impl FnMut(&Entry),
    ) -> Option<u64> {
        let journal = self.journals.get(journal)?.lock();
        let next = journal.read(from, most, each);
        (next < journal.written()).then_some(next)
    }

    fn note(&self, now: Time, header: &Bytes, step: impl FnOnce(peer::Carries) -> Step) {
        if self.is_on
            && let Some(subject) = peer::subject(header)
        {
            let key = Key::new(subject.origin, subject.send);
            let sampled = subject.context.filter(TraceContext::is_sampled);
            let context = sampled
                .and_then(|context| Some(Step::Context { context, topic: Label::of(&peer::topic(header)?) }));
            self.write(now, key, subject.number, iter::once(step(subject.what)).chain(context));
        }
    }

    fn write(&self, now: Time, key: Key, attempt: u32, steps: impl IntoIterator<Item = Step>) {
        if let Some(journal) = self.journals.get(key.send as usize % self.journals.len().max(1)) {
            let mut journal = journal.lock();
            journal.set_now(now);
            steps.into_iter().for_each(|step| journal.note(key, attempt, step));
        }
    }
}
