//! Messages that failed at a session here and may be asked for again, for another.

use std::time::Duration;

use bytes::Bytes;

use super::{Delivery, outcome::Ended};
use crate::{Time, broker::dedup::MessageKey};

impl Delivery {
    /// Nobody has the message now. Whoever asks for the next session brings it along again, so it
    /// is not kept; what has been tried is.
    pub(super) fn rest(&mut self, now: Time, key: MessageKey) {
        let until = now + self.config.retention();
        let Some(reception) = self.received.running(key) else { return };
        reception.push = None;
        reception.payload = Bytes::new();
        reception.hold = None;
        reception.rests_until = until;
        if !std::mem::replace(&mut reception.listed, true) {
            self.resting.push_back((until, key));
        }
        // Others decide how many messages nobody here takes; so many are remembered, and no more.
        for _ in self.config.received.entries.max(1)..self.resting.len() {
            self.lapse_oldest(now, Time::from_start(Duration::MAX));
        }
    }

    /// Receptions that nobody has asked about for long enough become memories.
    pub(super) fn lapse_resting(&mut self, now: Time) {
        while self.resting.front().is_some_and(|(until, _)| *until <= now) {
            self.lapse_oldest(now, now);
        }
    }

    /// Takes the oldest reception off the list. If it still rests, and not beyond `limit`, it
    /// becomes a memory; if it does beyond, it is listed again.
    fn lapse_oldest(&mut self, now: Time, limit: Time) {
        let Some((_, key)) = self.resting.pop_front() else { return };
        let Some(reception) = self.received.running(key) else { return };
        reception.listed = false;
        if reception.push.is_some() {
            return;
        }
        let until = reception.rests_until;
        if until > limit {
            reception.listed = true;
            self.resting.push_back((until, key));
        } else {
            let ended = Ended::plain(reception.worst, [0, reception.lost]);
            self.received.end(key, ended, 0, now + self.config.retention());
        }
    }
}
