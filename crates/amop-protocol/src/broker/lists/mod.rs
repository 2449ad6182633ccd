//! Lists of topics as they travel: whole, in signed pieces, and then change by change.
//!
//! A list is its *base*, the pieces of one sequence, and the signed changes since; whoever holds it
//! can give it on, whole or what is lacking of it. When the changes have grown as long as the base
//! the origin signs a new base, so what is held and given is never more than twice the list, and
//! what was sent never more than twice the changes.
//!
//! **Invariant**: a list holds what its origin signed, and its hash is the one that was signed.

mod entries;
mod hash;
mod own;
mod received;

use std::collections::BTreeMap;

use self::entries::Entries;
pub(super) use self::{
    entries::Changes,
    own::OwnList,
    received::{Taken, Topics},
};
pub use self::{
    entries::{Entry, HolderChange, Holders, MAX_CLIENT_NAME},
    hash::ListHash,
};
use crate::{
    SessionId,
    wire::generated::{SignedRecord, TopicCount, TopicsDelta},
};

/// Pieces of which one list may consist: 1,024. Of a list with more nothing is taken.
pub const MAX_PIECES: u32 = 1_024;

/// Bounds of lists and their pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Entries in one list, topics and sessions that hold reserved names: 100,000. A longer one is a fault of the neighbour that brings it.
    pub max_topics: usize,
    /// Entries of one piece, encoded, of this node's own list: 256 KiB, or one entry. A change that
    /// is longer travels as a whole list.
    pub piece_bytes: usize,
    /// Changes of this node's own list before it is sent whole again: 64. Of others' twice as many are kept.
    pub max_deltas: usize,
    /// Bytes of changes before the list is sent whole again, unless its base is longer: 4 KiB. Of
    /// others' twice as many are kept.
    pub delta_bytes: usize,
    /// Bytes of the signed pieces of one list: 32 MiB. Of a longer one nothing more is taken.
    pub max_list_bytes: usize,
    /// Bytes of lists, of all nodes, that are not complete: 64 MiB. Beyond, the largest is dropped.
    pub max_unfinished_bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            max_topics: 100_000,
            piece_bytes: 256 * 1024,
            max_deltas: 64,
            delta_bytes: 4 * 1024,
            max_list_bytes: 32 * 1024 * 1024,
            max_unfinished_bytes: 64 * 1024 * 1024,
        }
    }
}

/// Why a list or a change is not taken, though its origin signed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    /// The result has another hash than was signed.
    Hash,
    /// It would be longer than is allowed; so many topics.
    Topics(usize),
    /// More changes, pieces or bytes than anybody keeps.
    Bytes,
}

/// A whole list, with what its origin signed of it.
#[derive(Clone, Debug)]
pub(super) struct List {
    sequence: u64,
    base_sequence: u64,
    base: Vec<SignedRecord>,
    base_bytes: usize,
    /// Changes since the base, in order, each with the sequence it follows.
    deltas: Vec<(u64, SignedRecord)>,
    delta_bytes: usize,
    entries: Entries,
    hash: ListHash,
}

/// Bytes of a signed record.
fn size(record: &SignedRecord) -> usize {
    record.body.len() + record.signature.len()
}

impl List {
    /// A list of entries that were signed as these pieces.
    fn new(sequence: u64, base: Vec<SignedRecord>, entries: Entries, hash: ListHash) -> Self {
        let base_bytes = base.iter().map(size).sum();
        Self {
            sequence,
            base_sequence: sequence,
            base,
            base_bytes,
            deltas: Vec::new(),
            delta_bytes: 0,
            entries,
            hash,
        }
    }

    /// The records that somebody needs who holds the list in sequence `have`; 0 for one who holds none.
    fn since(&self, have: u64) -> impl Iterator<Item = &SignedRecord> {
        // Only sequences at which a change begins can be gone on from.
        let known = have == self.sequence || self.deltas.iter().any(|(from, _)| *from == have);
        let whole = have < self.base_sequence || !known;
        let base = self.base.iter().take(if whole { usize::MAX } else { 0 });
        base.chain(
            self.deltas.iter().filter(move |(from, _)| whole || *from >= have).map(|(_, record)| record),
        )
    }

    /// Whether as many changes are kept as may be, `slack` times.
    fn is_full(&self, more: usize, bounds: &Bounds, slack: usize) -> bool {
        let bytes = self.base_bytes.max(bounds.delta_bytes);
        self.deltas.len() >= bounds.max_deltas * slack || self.delta_bytes + more > bytes * slack
    }

    /// The hash after a change, and how many entries there would be.
    fn after(&self, changes: &[TopicCount]) -> (ListHash, usize) {
        let key = |change: &TopicCount| change.holder.as_ref().map(|holder| SessionId(holder.session));
        let staged: BTreeMap<(&str, Option<SessionId>), &TopicCount> =
            changes.iter().map(|change| ((change.topic.as_str(), key(change)), change)).collect();
        let (mut hash, mut len) = (self.hash, self.entries.len());
        for after in staged.into_values().map(Entry::from) {
            let before = self.entries.find(after);
            hash.remove(before);
            hash.add(after);
            len = len + usize::from(after.subscribers > 0) - usize::from(before.subscribers > 0);
        }
        (hash, len)
    }

    /// Applies a change that follows this very sequence; gives what it altered.
    fn apply(
        &mut self,
        sequence: u64,
        delta: &TopicsDelta,
        record: SignedRecord,
        bounds: &Bounds,
    ) -> Result<Changes, Misfit> {
        if self.is_full(size(&record), bounds, 2) {
            return Err(Misfit::Bytes);
        }
        let (hash, len) = self.after(&delta.changes);
        if hash.to_bytes()[..] != delta.hash[..] {
            return Err(Misfit::Hash);
        }
        if len > bounds.max_topics {
            return Err(Misfit::Topics(len));
        }
        self.hash = hash;
        self.sequence = sequence;
        self.delta_bytes += size(&record);
        self.deltas.push((delta.from, record));
        let mut changes = Changes::default();
        delta.changes.iter().for_each(|change| self.entries.set(change, &mut changes));
        Ok(changes)
    }
}

#[cfg(test)]
mod tests;
