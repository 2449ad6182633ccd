//! A set of chunks, as few ranges: what is missing of a file.

use std::collections::BTreeMap;

use amop_protocol::wire::files::{CHUNK, MAX_RANGES, Range, chunks};

/// Chunk numbers, kept as disjoint ranges that do not touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges {
    /// From the first of a range to the one behind its last.
    ranges: BTreeMap<u64, u64>,
    count: u64,
}

impl Ranges {
    /// All below `count`.
    pub(super) fn all(count: u64) -> Self {
        let mut all = Self::default();
        all.insert(0, count);
        all
    }

    /// What the other end names, as far as the file has it.
    pub(super) fn of(wire: &[Range], count: u64) -> Self {
        let mut ranges = Self::default();
        for Range { first, count: len } in wire {
            ranges.insert(*first, first.saturating_add(*len).min(count));
        }
        ranges
    }

    /// As a frame carries it: of more ranges than one may name, all from the last one on are one.
    pub(super) fn to_wire(&self) -> Vec<Range> {
        let range = |(first, end): (&u64, &u64)| Range { first: *first, count: end - first };
        let mut wire: Vec<Range> = self.ranges.iter().take(MAX_RANGES).map(range).collect();
        if let (Some(last), Some((_, end))) = (wire.last_mut(), self.ranges.last_key_value()) {
            last.count = if self.ranges.len() > MAX_RANGES { end - last.first } else { last.count };
        }
        wire
    }

    /// How many bytes they are of a file of `size` bytes, whose last chunk may be shorter.
    pub(super) fn bytes(&self, size: u64) -> u64 {
        let count = chunks(size);
        let short = if count > 0 && self.contains(count - 1) { count * CHUNK - size } else { 0 };
        self.count * CHUNK - short
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether this one is among them.
    pub(super) fn contains(&self, index: u64) -> bool {
        self.ranges.range(..=index).next_back().is_some_and(|(_, end)| index < *end)
    }

    /// Adds those from `first` to before `end`; none if there are no such.
    pub(super) fn insert(&mut self, mut first: u64, mut end: u64) {
        if first >= end {
            return;
        }
        let touching: Vec<(u64, u64)> = self
            .ranges
            .range(..=end)
            .rev()
            .take_while(|(_, to)| **to >= first)
            .map(|(from, to)| (*from, *to))
            .collect();
        for (from, to) in touching {
            self.ranges.remove(&from);
            self.count -= to - from;
            (first, end) = (first.min(from), end.max(to));
        }
        self.ranges.insert(first, end);
        self.count += end - first;
    }

    /// Takes one out; whether it was in.
    pub(super) fn remove(&mut self, index: u64) -> bool {
        let Some((first, end)) = self.ranges.range(..=index).next_back().map(|(first, end)| (*first, *end))
        else {
            return false;
        };
        if index >= end {
            return false;
        }
        self.ranges.remove(&first);
        self.count -= end - first;
        self.insert(first, index);
        self.insert(index + 1, end);
        true
    }

    /// Takes out the lowest.
    pub(super) fn pop_first(&mut self) -> Option<u64> {
        let first = *self.ranges.keys().next()?;
        self.remove(first);
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn it_is_the_set_it_says_to_be() {
        let mut rng = StdRng::seed_from_u64(1);
        let (mut ranges, mut model) = (Ranges::default(), BTreeSet::new());
        for _ in 0..20_000 {
            let first = rng.random_range(0..200_u64);
            match rng.random_range(0..4) {
                0 => {
                    let end = first + rng.random_range(0..20);
                    ranges.insert(first, end);
                    model.extend(first..end);
                }
                1 => assert_eq!(ranges.pop_first(), model.pop_first()),
                _ => assert_eq!(ranges.remove(first), model.remove(&first)),
            }
            assert_eq!(ranges.count, model.len() as u64);
            assert_eq!(ranges.contains(first), model.contains(&first));
            assert_eq!(Ranges::of(&ranges.to_wire(), u64::MAX), ranges, "and comes back");
        }
    }

    #[test]
    fn more_ranges_than_a_frame_names_are_joined_at_the_end() {
        let mut ranges = Ranges::all(4 * MAX_RANGES as u64);
        (0..2 * MAX_RANGES as u64).for_each(|index| assert!(ranges.remove(index * 2)));
        let wire = ranges.to_wire();
        assert_eq!(wire.len(), MAX_RANGES);
        assert_eq!(wire[0], Range { first: 1, count: 1 });
        let last = wire[MAX_RANGES - 1];
        assert_eq!(last.first + last.count, 4 * MAX_RANGES as u64);
    }

    #[test]
    fn the_last_chunk_may_be_shorter() {
        for size in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
            let mut ranges = Ranges::all(chunks(size));
            assert_eq!(ranges.bytes(size), size);
            if let Some(last) = chunks(size).checked_sub(1) {
                ranges.remove(last);
                assert_eq!(ranges.bytes(size), last * CHUNK);
            }
        }
    }

    #[test]
    fn what_the_file_has_not_is_not_missing() {
        let wire = [Range { first: 2, count: 3 }, Range { first: 9, count: 5 }];
        let ranges = Ranges::of(&wire, 4);
        assert_eq!((ranges.count, ranges.contains(4)), (2, false));
    }
}
