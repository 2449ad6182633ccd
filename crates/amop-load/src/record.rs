//! Latencies, in histograms of three significant digits.

use std::{fmt, time::Duration};

use hdrhistogram::Histogram;
use serde::{Serialize, Serializer, ser::SerializeStruct};

use crate::clock;

/// Longer ones are recorded as this: an hour, in nanoseconds.
const MOST: u64 = 3_600_000_000_000;
/// The quantiles that every report has.
pub const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// How long things took: from 1 ns to an hour, to three significant digits.
///
/// An empty one takes no memory; one that has recorded something at most 300 KiB.
#[derive(Clone, Default)]
pub struct Latencies(Option<Histogram<u64>>);

impl Latencies {
    /// Records one. What is longer than an hour counts as an hour.
    pub fn record(&mut self, took: Duration) {
        self.histogram().saturating_record(clock::nanos(took).clamp(1, MOST));
    }

    /// Adds all of another.
    pub fn merge(&mut self, other: &Self) {
        if let Some(other) = &other.0 {
            // It fails only if values of `other` do not fit, and both have the same bounds.
            let _ = self.histogram().add(other);
        }
    }

    /// How many were recorded.
    pub fn samples(&self) -> u64 {
        self.0.as_ref().map_or(0, Histogram::len)
    }

    /// The value that this part (0 to 1) of all does not exceed; zero if there are none.
    pub fn quantile(&self, part: f64) -> Duration {
        Duration::from_nanos(self.0.as_ref().map_or(0, |histogram| histogram.value_at_quantile(part)))
    }

    /// The longest; zero if there are none.
    pub fn max(&self) -> Duration {
        self.quantile(1.0)
    }

    /// The shortest; zero if there are none.
    pub fn min(&self) -> Duration {
        Duration::from_nanos(self.0.as_ref().map_or(0, Histogram::min))
    }

    /// The mean; zero if there are none.
    pub fn mean(&self) -> Duration {
        Duration::from_nanos(self.0.as_ref().map_or(0.0, Histogram::mean) as u64)
    }

    fn histogram(&mut self) -> &mut Histogram<u64> {
        self.0.get_or_insert_with(|| {
            Histogram::new_with_bounds(1, MOST, 3).expect("invariant: bounds and digits are allowed")
        })
    }
}

/// In microseconds, which is what people think in here.
impl Serialize for Latencies {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let micros = |duration: Duration| duration.as_nanos() as f64 / 1e3;
        let mut fields = serializer.serialize_struct("Latencies", 8)?;
        fields.serialize_field("samples", &self.samples())?;
        fields.serialize_field("min_us", &micros(self.min()))?;
        fields.serialize_field("mean_us", &micros(self.mean()))?;
        fields.serialize_field("p50_us", &micros(self.quantile(0.5)))?;
        fields.serialize_field("p90_us", &micros(self.quantile(0.9)))?;
        fields.serialize_field("p99_us", &micros(self.quantile(0.99)))?;
        fields.serialize_field("p99_9_us", &micros(self.quantile(0.999)))?;
        fields.serialize_field("max_us", &micros(self.max()))?;
        fields.end()
    }
}

impl fmt::Debug for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (samples, p50) = (self.samples(), self.quantile(0.5));
        f.debug_struct("Latencies").field("samples", &samples).field("p50", &p50).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_exact_to_three_digits_and_survive_merging() {
        let mut halves = [Latencies::default(), Latencies::default()];
        for micros in 1..=10_000_u64 {
            halves[(micros % 2) as usize].record(Duration::from_micros(micros));
        }
        let [mut all, odd] = halves;
        all.merge(&odd);
        all.merge(&Latencies::default());
        assert_eq!(all.samples(), 10_000);
        for (part, micros) in
            [(0.5, 5_000.0), (0.9, 9_000.0), (0.99, 9_900.0), (0.999, 9_990.0), (1.0, 10_000.0)]
        {
            let found = all.quantile(part).as_secs_f64() * 1e6;
            assert!((found - micros).abs() / micros < 0.002, "{part}: {found}");
        }
        assert!(all.min() <= Duration::from_micros(1));
    }

    #[test]
    fn nothing_is_lost_at_the_ends() {
        let mut latencies = Latencies::default();
        assert_eq!(
            (latencies.samples(), latencies.max(), latencies.mean()),
            (0, Duration::ZERO, Duration::ZERO)
        );
        latencies.record(Duration::ZERO);
        latencies.record(Duration::MAX);
        assert_eq!(latencies.samples(), 2);
        assert!(latencies.max() >= Duration::from_secs(3_599));
    }
}
