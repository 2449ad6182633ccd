//! The list of another node: what is in force, and what is being put together.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;

use super::{Bounds, Changes, Entries, List, ListHash, MAX_PIECES, Misfit, size};
use crate::{
    Topic,
    wire::generated::{SignedRecord, TopicsContent, TopicsDelta},
};

/// What is held of the topics of one node in its present epoch.
#[derive(Clone, Debug, Default)]
pub(in crate::broker) struct Topics {
    /// The highest sequence that was ever in force; no list below it comes into force again.
    newest: u64,
    list: Option<List>,
    /// A change did not fit the list: its origin signed two lists under one sequence.
    misfits: bool,
    /// Pieces that have come of a base.
    coming: Option<Coming>,
    /// A whole list that is older than `newest`, and waits for the changes since.
    building: Option<List>,
}

/// A base of which pieces lack.
#[derive(Clone, Debug)]
struct Coming {
    sequence: u64,
    pieces: u32,
    hash: ListHash,
    /// Each with its content as it was signed.
    got: BTreeMap<u32, (SignedRecord, Bytes)>,
    bytes: usize,
    topics: usize,
}

/// What became of a record.
#[derive(Debug)]
pub(in crate::broker) enum Taken {
    /// It tells nothing that is not known.
    Known,
    /// A newer list is being put together.
    Outrun,
    /// It is kept; more must come before it says anything.
    Kept,
    /// It changed the list in force.
    Changed(Changes),
    /// It completed a list, which replaces the former.
    Replaced(Changes),
    /// It follows a version that is not held.
    Gap,
}

impl Topics {
    /// The sequence of the list in force; 0 if none is.
    pub(in crate::broker) fn present(&self) -> u64 {
        self.list.as_ref().map_or(0, |list| list.sequence)
    }

    /// Whether a list in this sequence would tell anything new.
    pub(in crate::broker) fn lacks(&self, sequence: u64) -> bool {
        sequence > self.present() && sequence >= self.newest
    }

    /// Whether a record of this sequence may help to something new.
    pub(in crate::broker) fn wants(&self, sequence: u64) -> bool {
        let built = self.building.as_ref().map_or(0, |list| list.sequence);
        self.lacks(sequence) || self.rebuilds() && sequence > built
    }

    /// What to say one holds when asking for more: changes since then suffice.
    pub(in crate::broker) fn have(&self) -> u64 {
        match &self.building {
            Some(built) => built.sequence,
            None if self.misfits => 0,
            None => self.present(),
        }
    }

    /// Invalid entries in the list in force.
    pub(in crate::broker) fn strange(&self) -> usize {
        self.list.as_ref().map_or(0, |list| list.entries.strange())
    }

    /// All topics of the list in force, but for reserved names.
    pub(in crate::broker) fn counts(&self) -> impl Iterator<Item = (&Topic, u32)> {
        self.list.iter().flat_map(|list| &list.entries.counts).map(|(topic, count)| (topic, *count))
    }

    /// What somebody lacks who holds the list in sequence `have`.
    pub(in crate::broker) fn since(&self, have: u64) -> impl Iterator<Item = &SignedRecord> {
        self.list.iter().flat_map(move |list| list.since(have))
    }

    /// Bytes of what is not in force yet.
    pub(in crate::broker) fn unfinished(&self) -> usize {
        let coming = self.coming.as_ref().map_or(0, |coming| coming.bytes);
        coming + self.building.as_ref().map_or(0, |list| list.base_bytes + list.delta_bytes)
    }

    /// Gives up what is not in force yet.
    pub(in crate::broker) fn drop_unfinished(&mut self) {
        (self.coming, self.building) = (None, None);
    }

    /// Forgets the list but not how new it was.
    pub(in crate::broker) fn bury(&mut self) {
        *self = Self { newest: self.newest, ..Self::default() };
    }

    /// A piece of a whole list, signed by its origin; `encoded` is where the record holds it.
    pub(in crate::broker) fn take_piece(
        &mut self,
        sequence: u64,
        content: &TopicsContent,
        encoded: Bytes,
        record: SignedRecord,
        bounds: &Bounds,
    ) -> Result<Taken, Misfit> {
        if content.pieces > MAX_PIECES {
            return Err(Misfit::Bytes);
        }
        let Some(hash) = ListHash::from_bytes(&content.hash) else { return Err(Misfit::Hash) };
        let fits = |coming: &Coming| coming.pieces == content.pieces && coming.hash == hash;
        match &self.coming {
            Some(coming) if coming.sequence > sequence => return Ok(Taken::Outrun),
            Some(coming) if coming.sequence == sequence && fits(coming) => {}
            _ => self.coming = Some(Coming::new(sequence, content.pieces, hash)),
        }
        let Some(mut coming) = self.coming.take() else { return Ok(Taken::Known) };
        if coming.got.contains_key(&content.piece) {
            self.coming = Some(coming);
            return Ok(Taken::Known);
        }
        coming.add(content, encoded, record, bounds)?;
        if coming.got.len() < coming.pieces as usize {
            self.coming = Some(coming);
            return Ok(Taken::Kept);
        }
        Ok(self.consider(coming.complete(bounds)?))
    }

    /// A change, signed by its origin.
    pub(in crate::broker) fn take_delta(
        &mut self,
        sequence: u64,
        delta: &TopicsDelta,
        record: SignedRecord,
        bounds: &Bounds,
    ) -> Result<Taken, Misfit> {
        let follows = |list: &List| list.sequence == delta.from;
        if let Some(mut list) = self.building.take_if(|list| follows(list)) {
            list.apply(sequence, delta, record, bounds)?;
            return Ok(self.consider(list));
        }
        let Some(list) = self.list.as_mut().filter(|list| follows(list) && !self.misfits) else {
            return Ok(Taken::Gap);
        };
        match list.apply(sequence, delta, record, bounds) {
            Ok(changed) => {
                self.newest = sequence;
                self.coming = self.coming.take().filter(|coming| coming.sequence > sequence);
                Ok(Taken::Changed(changed))
            }
            Err(misfit) => {
                self.misfits = misfit == Misfit::Hash;
                Err(misfit)
            }
        }
    }

    /// Whether this change follows on a list that is held.
    pub(in crate::broker) fn follows(&self, delta: &TopicsDelta) -> bool {
        let lists = self.building.iter().chain(self.list.iter().filter(|_| !self.misfits));
        lists.into_iter().any(|list| list.sequence == delta.from)
    }

    /// Whether a base below what was once in force is of use.
    fn rebuilds(&self) -> bool {
        self.list.is_none() || self.misfits
    }

    /// A list is complete: it comes into force if nothing newer ever was.
    fn consider(&mut self, list: List) -> Taken {
        if !self.lacks(list.sequence) {
            self.building = Some(list).filter(|_| self.rebuilds());
            return Taken::Kept;
        }
        let before = self.list.take().map(|list| list.entries).unwrap_or_default();
        let changed = before.differences(&list.entries);
        self.newest = list.sequence;
        (self.misfits, self.building) = (false, None);
        self.coming = self.coming.take().filter(|coming| coming.sequence > list.sequence);
        self.list = Some(list);
        Taken::Replaced(changed)
    }
}

impl Coming {
    fn new(sequence: u64, pieces: u32, hash: ListHash) -> Self {
        Self { sequence, pieces, hash, got: BTreeMap::new(), bytes: 0, topics: 0 }
    }

    fn add(
        &mut self,
        content: &TopicsContent,
        encoded: Bytes,
        record: SignedRecord,
        bounds: &Bounds,
    ) -> Result<(), Misfit> {
        self.bytes += size(&record);
        self.topics += content.topics.len();
        if self.topics > bounds.max_topics {
            return Err(Misfit::Topics(self.topics));
        }
        if self.bytes > bounds.max_list_bytes {
            return Err(Misfit::Bytes);
        }
        self.got.insert(content.piece, (record, encoded));
        Ok(())
    }

    fn complete(self, bounds: &Bounds) -> Result<List, Misfit> {
        let mut entries = Entries::default();
        let mut base = Vec::with_capacity(self.got.len());
        for (record, encoded) in self.got.into_values() {
            base.push(record);
            // It was decoded once already, when it came.
            let topics = TopicsContent::decode(encoded).map_err(|_| Misfit::Hash)?.topics;
            for entry in topics.iter().filter(|entry| entry.subscribers > 0) {
                entries.set(entry, &mut Changes::default());
            }
        }
        match entries.len() {
            len if len > bounds.max_topics => Err(Misfit::Topics(len)),
            _ if ListHash::of(entries.iter()) != self.hash => Err(Misfit::Hash),
            _ => Ok(List::new(self.sequence, base, entries, self.hash)),
        }
    }
}
