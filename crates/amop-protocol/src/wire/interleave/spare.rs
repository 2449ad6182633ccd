//! Queues that have run empty, kept for whoever is next.

use std::collections::VecDeque;

/// Most queues kept.
const QUEUES: usize = 64;
/// Most that a queue that is kept has room for. Of frames, all of them together take 72 KiB.
const ROOM: usize = 16;

/// Mostly a frame finds nothing before it in its flow, and a flow nothing of its sender: with these, its
/// queue is not made for it and thrown away after it.
#[derive(Debug)]
pub(super) struct Spare<T>(Vec<VecDeque<T>>);

impl<T> Spare<T> {
    /// An empty queue.
    pub(super) fn take(&mut self) -> VecDeque<T> {
        self.0.pop().unwrap_or_default()
    }

    /// Keeps an empty queue, if it is there, not a large one, and not one of too many.
    pub(super) fn keep(&mut self, queue: Option<VecDeque<T>>) {
        self.0.extend(queue.filter(|queue| queue.capacity() <= ROOM && self.0.len() < QUEUES));
    }
}

impl<T> Default for Spare<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded() {
        let mut spare = Spare::<u64>::default();
        for room in 0..1_000 {
            spare.keep(Some(VecDeque::with_capacity(room)));
        }
        spare.keep(None);
        let rooms: Vec<usize> = std::iter::repeat_with(|| spare.take().capacity()).take(1_000).collect();
        assert_eq!(rooms.iter().max(), Some(&ROOM), "no large ones");
        for _ in 0..1_000 {
            spare.keep(Some(VecDeque::new()));
        }
        assert_eq!(spare.0.len(), QUEUES);
    }
}
