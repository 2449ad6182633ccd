//! How many large messages may be on their way: the others wait with whoever sends them, so that they
//! stand in nobody else's way.

use std::sync::Arc;

use amop_protocol::session::lanes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::Options;

/// What one permit stands for.
const UNIT: usize = 1024;

/// The room for large messages.
#[derive(Debug)]
pub(crate) struct Admission {
    room: Arc<Semaphore>,
    all: u32,
    /// The least that a message takes, so that large ones leave places for small ones.
    least: u32,
}

/// What a large message takes of it; given back when dropped.
#[derive(Debug)]
pub(crate) struct Room(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl Admission {
    pub(crate) fn new(options: &Options) -> Self {
        let most = Semaphore::MAX_PERMITS.min(u32::MAX as usize);
        let all = (options.max_in_flight_bytes / UNIT).clamp(1, most);
        let places = (options.max_in_flight - options.max_in_flight / 4).max(1);
        let least = all.div_ceil(places);
        // Both are at most `most`.
        Self { room: Arc::new(Semaphore::new(all)), all: all as u32, least: least as u32 }
    }

    /// Waits until there is room for a message of this size, if it is large. Cancel safe; whoever waits
    /// first is served first.
    pub(crate) async fn admit(&self, bytes: usize) -> Option<Room> {
        if bytes <= lanes::SMALL {
            return None;
        }
        let takes = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).clamp(self.least, self.all);
        // Never closed.
        self.room.clone().acquire_many_owned(takes).await.ok().map(Room)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn admission(bytes: usize, messages: usize) -> Admission {
        let mut options = Options::new(["localhost:1"], "nowhere");
        (options.max_in_flight_bytes, options.max_in_flight) = (bytes, messages);
        Admission::new(&options)
    }

    fn taken(admission: &Admission, bytes: usize) -> Vec<Room> {
        std::iter::from_fn(|| admission.admit(bytes).now_or_never().flatten()).collect()
    }

    #[test]
    fn large_ones_leave_places_for_small_ones() {
        let admission = admission(64 << 20, 1024);
        assert_eq!(taken(&admission, 256 * 1024).len(), 256);
        let small_of_the_large = taken(&admission, lanes::SMALL + 1).len();
        assert!((700..=768).contains(&small_of_the_large), "{small_of_the_large}");
    }

    #[test]
    fn one_is_always_admitted_and_small_ones_need_not_ask() {
        for (bytes, messages) in [(0, 0), (1, 1), (usize::MAX, usize::MAX), (1024, 4)] {
            let admission = admission(bytes, messages);
            let held = admission.admit(100 << 20).now_or_never().flatten();
            assert!(held.is_some());
            assert!(admission.admit(lanes::SMALL).now_or_never().expect("at once").is_none());
        }
    }
}
