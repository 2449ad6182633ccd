//! This node's own list: signed whole, or as a change of what was announced before.

use prost::Message as _;

use super::{Bounds, Changes, Entries, Entry, List, ListHash, MAX_PIECES, size};
use crate::wire::generated::{SignedRecord, TopicCount, TopicsContent, TopicsDelta, record::Content};

/// What this node announces of its topics.
#[derive(Debug)]
pub(in crate::broker) struct OwnList {
    list: List,
    /// Bytes of all entries, encoded.
    bytes: usize,
}

impl OwnList {
    /// Nothing, in sequence 0, which is never announced.
    pub(in crate::broker) fn new() -> Self {
        Self { list: List::new(0, Vec::new(), Entries::default(), ListHash::default()), bytes: 0 }
    }

    /// The sequence announced last.
    pub(in crate::broker) fn sequence(&self) -> u64 {
        self.list.sequence
    }

    /// All topics announced, but for reserved names.
    #[cfg(test)]
    pub(in crate::broker) fn counts(&self) -> impl Iterator<Item = (&crate::Topic, u32)> {
        self.list.entries.counts.iter().map(|(topic, count)| (topic, *count))
    }

    /// Changes that leave nothing of the list.
    pub(in crate::broker) fn withdrawal(&self) -> Vec<TopicCount> {
        self.list.entries.iter().map(|entry| Entry { subscribers: 0, ..entry }.to_count()).collect()
    }

    /// What somebody lacks who holds the list in sequence `have`.
    pub(in crate::broker) fn since(&self, have: u64) -> impl Iterator<Item = &SignedRecord> {
        self.list.since(have)
    }

    /// Goes on to the next sequence, each topic, or session that holds a reserved name, named once
    /// with its new count (0: gone). Gives the records that tell others.
    pub(in crate::broker) fn advance(
        &mut self,
        changes: impl IntoIterator<Item = impl Into<TopicCount>>,
        bounds: &Bounds,
        sign: impl Fn(u64, Content) -> SignedRecord,
    ) -> Vec<SignedRecord> {
        let from = self.list.sequence;
        let changes: Vec<TopicCount> = changes.into_iter().map(Into::into).collect();
        let (hash, _) = self.list.after(&changes);
        for change in &changes {
            self.set(change);
        }
        (self.list.hash, self.list.sequence) = (hash, from + 1);
        let delta = TopicsDelta { from, changes, hash: hash.to_bytes().to_vec().into() };
        if !self.is_worth(&delta, bounds) {
            return self.anew(bounds, sign);
        }
        let record = sign(from + 1, Content::TopicsDelta(delta));
        self.list.delta_bytes += size(&record);
        self.list.deltas.push((from, record.clone()));
        vec![record]
    }

    fn set(&mut self, change: &TopicCount) {
        let before = self.list.entries.find(change.into());
        if before.subscribers > 0 {
            self.bytes -= encoded_len(&before.to_count());
        }
        if change.subscribers > 0 {
            self.bytes += encoded_len(change);
        }
        self.list.entries.set(change, &mut Changes::default());
    }

    /// Whether a change costs less than the list, and what is kept of changes has room for it.
    fn is_worth(&self, delta: &TopicsDelta, bounds: &Bounds) -> bool {
        let len = delta.encoded_len();
        let based = self.list.base_sequence > 0;
        based && len < self.bytes && len <= bounds.piece_bytes && !self.list.is_full(len, bounds, 1)
    }

    /// Signs the whole list, in pieces.
    fn anew(&mut self, bounds: &Bounds, sign: impl Fn(u64, Content) -> SignedRecord) -> Vec<SignedRecord> {
        // However small the pieces are to be, there are never more than anybody takes.
        let room = bounds.piece_bytes.max(self.bytes / (MAX_PIECES as usize / 4));
        let (mut pieces, mut bytes) = (vec![Vec::new()], 0);
        for entry in self.list.entries.iter() {
            let entry = entry.to_count();
            let len = encoded_len(&entry);
            if bytes > 0 && bytes + len > room {
                pieces.push(Vec::new());
                bytes = 0;
            }
            bytes += len;
            if let Some(piece) = pieces.last_mut() {
                piece.push(entry);
            }
        }
        let (sequence, hash, count) = (self.list.sequence, self.list.hash, pieces.len() as u32);
        let piece = |(piece, topics)| {
            let hash = hash.to_bytes().to_vec().into();
            sign(sequence, Content::Topics(TopicsContent { topics, piece, pieces: count, hash }))
        };
        let base: Vec<SignedRecord> = (0..).zip(pieces).map(piece).collect();
        let entries = std::mem::take(&mut self.list.entries);
        self.list = List::new(sequence, base.clone(), entries, hash);
        base
    }
}

/// With what goes before it in a list.
fn encoded_len(entry: &TopicCount) -> usize {
    let len = entry.encoded_len();
    1 + prost::length_delimiter_len(len) + len
}
