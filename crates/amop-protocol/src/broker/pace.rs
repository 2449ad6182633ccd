//! How fast one node may change what it announces.
//!
//! A member that changes its records thousands of times a second would have every node verify,
//! apply and pass on all of them. What goes beyond the pace is left out; when the pace allows it
//! again, the newest state is asked for, in which all changes in between have become one.

use std::time::Duration;

use crate::{Time, wire::generated::RecordKind};

/// Work that must have become possible before a node that went beyond its pace is heard again.
pub const PAUSE: Duration = Duration::from_secs(1);
/// Bytes of topics records of one node taken per second in the long run: 4 MiB.
pub const BYTES_PER_SECOND: usize = 4 * 1024 * 1024;
/// Time that the smallest change of topics stands for: 2.5 ms, so 400 a second in the long run. An
/// honest node waits twice as long between announcements.
pub const TOPICS_COST: Duration = Duration::from_micros(2_500);
/// Time that a change of links stands for: all routes are worked out anew.
pub const LINKS_COST: Duration = Duration::from_millis(50);
/// Time that a restart stands for.
pub const IDENTITY_COST: Duration = Duration::from_millis(500);

/// The pace of one node. Only what it truly signed counts, so nobody else can use it up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// When all work so far would be done at the pace allowed.
    done: Time,
    /// Until when nothing is heard.
    silent: Time,
}

impl Pace {
    /// When the next record may be taken: now, or later.
    pub(super) fn resumes(&self, now: Time) -> Time {
        self.silent.max(now)
    }

    /// A record was taken. `burst` is how much work ahead of the pace is taken at once.
    pub(super) fn charge(&mut self, now: Time, kind: RecordKind, bytes: usize, burst: Duration) {
        let cost = match kind {
            RecordKind::Identity => IDENTITY_COST,
            RecordKind::Links => LINKS_COST,
            RecordKind::Topics | RecordKind::Unspecified => {
                TOPICS_COST.max(Duration::from_micros(bytes as u64 * 1_000_000 / BYTES_PER_SECOND as u64))
            }
        };
        self.done = self.done.max(now) + cost;
        if self.done.since(now) > burst {
            self.silent = now + (self.done.since(now) - burst) + PAUSE;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BURST: Duration = Duration::from_secs(10);

    #[test]
    fn a_burst_is_taken_then_the_rate() {
        let (mut pace, mut now) = (Pace::default(), Time::ZERO + Duration::from_secs(1));
        let mut taken = 0;
        for _ in 0..60_000 {
            if pace.resumes(now) == now {
                pace.charge(now, RecordKind::Topics, 200, BURST);
                taken += 1;
            }
            now += Duration::from_millis(1);
        }
        assert!((27_000..29_000).contains(&taken), "4,000, and 400 a second for a minute: {taken}");
    }

    #[test]
    fn one_who_keeps_the_pace_is_never_silenced() {
        let (mut pace, mut now) = (Pace::default(), Time::ZERO);
        for _ in 0..10_000 {
            assert_eq!(pace.resumes(now), now);
            pace.charge(now, RecordKind::Topics, 500, BURST);
            now += Duration::from_millis(5);
        }
    }

    #[test]
    fn a_list_as_long_as_may_be_fits_the_burst() {
        let mut pace = Pace::default();
        for _ in 0..128 {
            assert_eq!(pace.resumes(Time::ZERO), Time::ZERO);
            pace.charge(Time::ZERO, RecordKind::Topics, 256 * 1024, BURST);
        }
    }
}
