//! A token bucket that may go into debt by one message.

use std::time::Duration;

use crate::Time;

/// Grants bytes at a rate. A message is granted whenever there is no debt, whatever its size, so
/// that a large one is never unsendable; it is paid off before the next is granted.
#[derive(Clone, Debug)]
pub struct Bandwidth {
    bytes_per_second: f64,
    /// Bytes that may be sent now; negative while in debt.
    credit: f64,
    refilled: Time,
}

impl Bandwidth {
    /// A bucket for a limit in Mbit/s (1 Mbit = 131,072 bytes, as FISCO BCOS counts), one second deep.
    pub fn from_mbit(limit: f64) -> Self {
        let bytes_per_second = limit * 131_072.0;
        Self { bytes_per_second, credit: bytes_per_second, refilled: Time::ZERO }
    }

    /// Takes `bytes`, or says when to try again.
    ///
    /// # Errors
    /// While in debt: the time until it is paid off.
    pub fn take(&mut self, now: Time, bytes: usize) -> Result<(), Duration> {
        let earned = now.since(self.refilled).as_secs_f64() * self.bytes_per_second;
        self.credit = (self.credit + earned).min(self.bytes_per_second);
        self.refilled = now;
        if self.credit < 0.0 {
            return Err(Duration::from_secs_f64(-self.credit / self.bytes_per_second));
        }
        self.credit -= bytes as f64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::from_start(Duration::from_millis(millis))
    }

    #[test]
    fn one_message_may_go_into_debt_and_the_next_waits() {
        let mut bucket = Bandwidth::from_mbit(8.0);
        assert_eq!(bucket.take(at(0), 10 << 20), Ok(()), "ten times the credit");
        let wait = bucket.take(at(0), 1).unwrap_err();
        assert!((8.9..9.1).contains(&wait.as_secs_f64()), "{wait:?}");
        assert!(bucket.take(at(8_900), 1).is_err());
        assert_eq!(bucket.take(at(9_100), 1), Ok(()));
    }

    #[test]
    fn the_rate_holds_over_time() {
        let mut bucket = Bandwidth::from_mbit(1.0);
        let granted = (0..10_000).filter(|millis| bucket.take(at(*millis), 1311).is_ok()).count();
        assert!((1080..=1110).contains(&granted), "ten seconds and the initial credit: {granted}");
    }
}
