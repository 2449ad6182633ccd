//! Log lines that strangers can cause: each is worth having, thousands of them are not.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

const PERIOD: Duration = Duration::from_secs(1);

/// Admits a bounded number of lines in each second.
#[derive(Debug)]
pub struct Throttle {
    started: Instant,
    /// The period that counts, in the upper half; lines asked for in it, in the lower.
    state: AtomicU64,
}

impl Default for Throttle {
    fn default() -> Self {
        Self { started: Instant::now(), state: AtomicU64::new(0) }
    }
}

impl Throttle {
    /// Lines that may come in one second; so many are enough to see who is refused and why.
    pub const LINES: usize = 20;

    /// Runs `log` if there is room for its line, and first says how many lines were left out before.
    pub fn line(&self, log: impl FnOnce()) {
        if let Some(left_out) = self.admit(self.started.elapsed()) {
            if left_out > 0 {
                tracing::warn!(
                    left_out,
                    "more refusals than are logged one by one; metrics count all of them"
                );
            }
            log();
        }
    }

    /// Whether a line may be written, and how many could not in the last period that had any.
    fn admit(&self, elapsed: Duration) -> Option<u64> {
        let period = (elapsed.as_millis() / PERIOD.as_millis()) as u64 & 0xffff_ffff;
        let next = |state: u64| {
            let (counted, asked) = (state >> 32, state & 0xffff_ffff);
            let asked = if counted == period { asked.saturating_add(1).min(0xffff_ffff) } else { 1 };
            period << 32 | asked
        };
        let before = self.state.update(Ordering::Relaxed, Ordering::Relaxed, next);
        let (counted, asked) = (before >> 32, before & 0xffff_ffff);
        match counted == period {
            true => (asked < Self::LINES as u64).then_some(0),
            false => Some(asked.saturating_sub(Self::LINES as u64)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_leaves_some_lines_and_their_number() {
        let throttle = Throttle::default();
        let at = Duration::from_millis;
        let admitted = (0..1_000).filter(|n| throttle.admit(at(n / 2)).is_some()).count();
        assert_eq!(admitted, Throttle::LINES);
        assert_eq!(throttle.admit(at(1_500)), Some(1_000 - Throttle::LINES as u64), "said once");
        assert_eq!(throttle.admit(at(1_500)), Some(0));
        assert_eq!(throttle.admit(at(9_000)), Some(0));
    }
}
