//! The clock of this process: nanoseconds since it was first read.

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Nanoseconds since the first reading in this process, never 0: a moment that fits into a payload.
pub fn now() -> u64 {
    nanos(EPOCH.elapsed()).saturating_add(1)
}

/// A duration in nanoseconds; one beyond 584 years is that.
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What has passed since a moment of [`now`]; nothing for one to come.
pub fn since(moment: u64) -> Duration {
    Duration::from_nanos(now().saturating_sub(moment))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_never_zero_and_never_go_back() {
        let first = now();
        let second = now();
        assert!(first > 0 && second >= first);
        assert_eq!(since(second + 1_000_000_000_000), Duration::ZERO);
    }
}
