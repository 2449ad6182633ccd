//! What became of messages here: a bounded ring of steps, so that somebody may ask later.
//!
//! A step is written where it happens, under the lock that is held anyway, into an entry of fixed size: nothing is
//! allocated, hashed or formatted for it, and the oldest entry gives way. Whoever looks something up reads the ring
//! in portions ([`Journal::read`]), so that no message waits behind a long search.
//!
//! **Invariant**: nothing reads a journal to decide what becomes of a message.

mod entry;

pub use self::entry::{Brief, Entry, Key, Label, Name, Step, Why};
use crate::Time;

/// Bytes of one entry; what `[trace] entries` costs is so many times its number.
pub const ENTRY_BYTES: usize = size_of::<Entry>();
const _: () = assert!(ENTRY_BYTES <= 96);

/// A ring of the latest steps.
#[derive(Debug, Default)]
pub struct Journal {
    entries: Vec<Entry>,
    /// Most entries; 0 writes nothing down.
    bound: usize,
    /// Entries written since the start, those that gave way included.
    written: u64,
    /// Where the next one goes: behind all others until the ring is full.
    next: usize,
    now: Time,
}

impl Journal {
    /// An empty one that holds so many entries; with 0 it stays empty. Memory is taken as it fills.
    pub fn new(bound: usize) -> Self {
        Self { bound, ..Self::default() }
    }

    /// What is written from now on happened at `now`.
    pub fn set_now(&mut self, now: Time) {
        self.now = now;
    }

    /// Whether anything is written down at all.
    pub fn is_on(&self) -> bool {
        self.bound > 0
    }

    /// Writes down one step of a message; its `attempt` is 0 where there are none.
    #[inline]
    pub fn note(&mut self, key: Key, attempt: u32, step: Step) {
        if self.bound == 0 {
            return;
        }
        let entry = Entry::new(self.now, key, attempt, step);
        match self.entries.get_mut(self.next) {
            Some(oldest) => *oldest = entry,
            None => self.append(entry),
        }
        self.written += 1;
        self.next += 1;
        if self.next == self.bound {
            self.next = 0;
        }
    }

    /// While it fills. All of its room is asked for at once: what was never written to costs no memory, and no
    /// message waits while half a journal is moved.
    #[cold]
    fn append(&mut self, entry: Entry) {
        if self.entries.capacity() == 0 {
            self.entries.reserve_exact(self.bound);
        }
        self.entries.push(entry);
    }

    /// Entries written since the start; the next one has this number.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The number of the oldest entry that is left.
    pub fn oldest(&self) -> u64 {
        self.written - self.entries.len() as u64
    }

    /// Entries that are there.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Reads at most `most` entries, oldest first, beginning with number `from` or the oldest that is left. Returns
    /// the number to go on with; [`Journal::written`] when all have been read.
    pub fn read(&self, from: u64, most: usize, mut each: impl FnMut(&Entry)) -> u64 {
        let oldest = self.oldest();
        let from = from.max(oldest);
        let until = self.written.min(from.saturating_add(most as u64));
        for number in from..until {
            let at =
                (number - oldest) as usize + if self.entries.len() == self.bound { self.next } else { 0 };
            if let Some(entry) = self.entries.get(at % self.entries.len()) {
                each(entry);
            }
        }
        until.max(from)
    }
}

#[cfg(test)]
mod tests;
