//! Delivery's times and bounds.

use std::time::Duration;

use crate::broker::dedup::Bounds;

/// Which of several subscribers a unicast goes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preference {
    /// Each subscriber is equally likely, wherever it is.
    #[default]
    Even,
    /// One of those with the fewest hops to them.
    Nearest,
}

/// Delivery's times and bounds. Bounds hold for one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Deadline of a send whose publisher gave none (every 2.x client): 30 s.
    pub default_deadline: Duration,
    /// Longest deadline a publisher may ask for; longer ones are cut to it. 120 s.
    pub max_deadline: Duration,
    /// How long to wait for the word "handed" before an attempt is sent again. 500 ms, doubled with
    /// every resend, and longer for large payloads.
    pub path_timeout: Duration,
    /// Shortest time a subscriber gets to answer, while the deadline allows: 1 s.
    pub push_timeout_min: Duration,
    /// Longest time a subscriber gets to answer: 5 s.
    pub push_timeout_max: Duration,
    /// Payload bytes per second that timeouts allow for on the slowest path: 4 MiB.
    pub slowest_path: usize,
    /// Which subscriber a unicast goes to.
    pub preference: Preference,
    /// The seen-window of messages that clients of this node sent.
    pub sent: Bounds,
    /// The seen-window of messages that came for clients of this node. As many entries again may
    /// be of messages that nobody here has taken yet; beyond, the oldest counts as ended.
    pub received: Bounds,
    /// Entries of the journal: 16,384, of [`ENTRY_BYTES`](crate::broker::journal::ENTRY_BYTES) each; 0 keeps none.
    pub journal: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            default_deadline: Duration::from_secs(30),
            max_deadline: Duration::from_secs(120),
            path_timeout: Duration::from_millis(500),
            push_timeout_min: Duration::from_secs(1),
            push_timeout_max: Duration::from_secs(5),
            slowest_path: 4 << 20,
            preference: Preference::Even,
            sent: Bounds { entries: 100_000, bytes: 4 << 20 },
            received: Bounds { entries: 100_000, bytes: 4 << 20 },
            journal: 16_384,
        }
    }
}

impl Config {
    /// How long an ended message is remembered: longer than any send can last.
    pub fn retention(&self) -> Duration {
        self.max_deadline + Duration::from_secs(10)
    }

    /// Extra time for moving a payload of this size.
    pub(super) fn transfer(&self, payload: usize) -> Duration {
        Duration::from_secs_f64(payload as f64 / self.slowest_path as f64)
    }

    /// The wait before the resend after `resends` of them.
    pub(super) fn resend_after(&self, payload: usize, resends: u32) -> Duration {
        let wait = self.path_timeout * (1 << resends.min(4));
        wait.min(self.push_timeout_max) + self.transfer(payload)
    }
}
