//! How sends ended of late: the counters of outcomes, looked at every second.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use amop_protocol::Cause;
use parking_lot::Mutex;

use crate::telemetry::overview::Ended;

/// How long an ending is recent.
const RECENT: Duration = Duration::from_secs(600);
/// How often the counters are kept: what is recent is this much too long at most.
const KEEP: Duration = Duration::from_secs(15);

/// What the counters were.
#[derive(Debug, Default)]
pub(super) struct Endings(Mutex<History>);

#[derive(Debug, Default)]
struct History {
    /// The counters every [`KEEP`], the oldest first, just out of [`RECENT`] or the first there was.
    kept: VecDeque<(Instant, Vec<u64>)>,
    /// The counters when they were last looked at.
    seen: Vec<u64>,
    /// When each was last seen to grow.
    grew: Vec<Option<Instant>>,
}

impl Endings {
    /// Notes the counters, which are in order of the causes' numbers. Called every second.
    pub(super) fn sample(&self, now: Instant, counts: Vec<u64>) {
        let mut history = self.0.lock();
        let before = |at: usize| history.seen.get(at).copied().unwrap_or_default();
        let grew = counts.iter().enumerate().map(|(at, count)| match *count > before(at) {
            true => Some(now),
            false => history.grew.get(at).copied().flatten(),
        });
        history.grew = grew.collect();
        if history.kept.back().is_none_or(|(at, _)| now.saturating_duration_since(*at) >= KEEP) {
            // Before the first look nothing had happened, whatever it finds.
            let first = if history.kept.is_empty() { vec![0; counts.len()] } else { counts.clone() };
            history.kept.push_back((now, first));
        }
        let is_old = |history: &History| {
            history.kept.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= RECENT)
        };
        while is_old(&history) {
            history.kept.pop_front();
        }
        history.seen = counts;
    }

    /// Every cause that was seen, the last first; `counts` as they are now.
    pub(super) fn show(&self, now: Instant, counts: &[u64]) -> Vec<Ended> {
        let history = self.0.lock();
        let then = |at: usize| history.kept.front().and_then(|(_, counts)| counts.get(at)).copied();
        let ended = |(at, total): (usize, &u64)| {
            let cause = Cause::try_from(i32::try_from(at).ok()?).ok().filter(|_| *total > 0)?;
            let unseen = *total > history.seen.get(at).copied().unwrap_or_default();
            let grew = if unseen { Some(now) } else { history.grew.get(at).copied().flatten() };
            Some(Ended {
                code: cause.status().code(),
                cause: cause.as_str_name().to_owned(),
                text: cause.explain().to_owned(),
                total: *total,
                recent: total.saturating_sub(then(at).unwrap_or_default()),
                last_seconds: grew.map(|at| now.saturating_duration_since(at).as_secs()),
            })
        };
        let mut all: Vec<Ended> = counts.iter().enumerate().filter_map(ended).collect();
        all.sort_by_key(|ended| (ended.last_seconds, ended.code));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE: usize = Cause::Deadline as usize;

    fn counts(late: u64) -> Vec<u64> {
        let mut counts = vec![0; 65];
        counts[LATE] = late;
        counts
    }

    #[test]
    fn what_is_recent_grows_old() {
        let (endings, start) = (Endings::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(endings.show(start, &counts(0)).is_empty());
        endings.sample(at(0), counts(2));
        let show = |seconds, total| {
            let shown = endings.show(at(seconds), &counts(total)).remove(0);
            assert_eq!((shown.code, &*shown.cause, shown.total), (102, "CAUSE_DEADLINE", total));
            (shown.recent, shown.last_seconds)
        };
        assert_eq!(show(5, 2), (2, Some(5)));
        assert_eq!(show(5, 3), (3, Some(0)), "not looked at since");
        for second in 1..=620 {
            endings.sample(at(second), counts(3));
        }
        assert_eq!(show(620, 3), (0, Some(619)));
        assert!(endings.0.lock().kept.len() <= 42);
    }
}
