//! The long answers to start-up calls, kept for all sessions: whoever asks again and again, while
//! topics come and go, cannot have them made again and again.

use std::time::{Duration, Instant};

use amop_protocol::{
    broker::routing::Routing,
    session::startup::{Listed, Listing, Listings},
};
use parking_lot::Mutex;

use crate::tasks;

/// Percent of the time that may be spent on making one of them: a list that took a millisecond is
/// made again 50 ms later at the earliest, if what it shows has changed.
pub(super) const SHARE: usize = 2;

/// The last of each.
#[derive(Debug, Default)]
pub(super) struct Kept {
    peers: Mutex<Slot>,
    own_info: Mutex<Slot>,
}

#[derive(Debug, Default)]
struct Slot {
    made: Option<Made>,
    /// Somebody makes a new one; others take the last.
    is_being_made: bool,
}

#[derive(Debug)]
struct Made {
    listed: Listed,
    revision: u64,
    at: Instant,
    took: Duration,
}

impl Listings for Kept {
    fn get(&self, listing: Listing, routing: &Routing) -> Listed {
        let slot = match listing {
            Listing::Peers => &self.peers,
            Listing::OwnInfo => &self.own_info,
        };
        if let Some(listed) = slot.lock().take(routing.revision(), Instant::now()) {
            return listed;
        }
        let began = Instant::now();
        let listed = tasks::at_length(|| listing.make(routing));
        let (at, revision) = (Instant::now(), routing.revision());
        let made = Made { listed: listed.clone(), revision, at, took: at - began };
        *slot.lock() = Slot { made: Some(made), is_being_made: false };
        listed
    }
}

impl Slot {
    /// What was made before, if that will do; otherwise whoever asks is to make it.
    fn take(&mut self, revision: u64, now: Instant) -> Option<Listed> {
        let will_do = |made: &&Made| {
            let rests_until = made.at + made.took * (100 / SHARE as u32);
            made.revision >= revision || now < rests_until || self.is_being_made
        };
        let listed = self.made.as_ref().filter(will_do).map(|made| made.listed.clone());
        self.is_being_made |= listed.is_none();
        listed
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_list_is_made_again_when_something_changed_and_not_too_often() {
        let now = Instant::now();
        let took = Duration::from_millis(1);
        let mut slot = Slot::default();
        assert_eq!(slot.take(1, now), None);
        let listed = Bytes::from("a").into();
        slot = Slot { made: Some(Made { listed, revision: 1, at: now, took }), is_being_made: false };
        let at = |millis| now + Duration::from_millis(millis);
        assert!(slot.take(1, at(1_000)).is_some(), "nothing has changed");
        assert!(slot.take(2, at(49)).is_some(), "made just now");
        assert_eq!(slot.take(2, at(51)), None);
        assert!(slot.take(2, at(52)).is_some(), "another makes it");
    }
}
