//! What is measured.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Which way a figure is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// Rates.
    More,
    /// Times, CPU, memory.
    Less,
}

/// A kind of figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Metric {
    /// Messages answered a second.
    Rate,
    /// Microseconds from sending, or from when it was due, to the answer.
    P50,
    /// The same, of all but one in a hundred.
    P99,
    /// Deliveries to subscribers a second.
    Deliveries,
    /// MiB a second.
    Throughput,
    /// CPU microseconds of all nodes for a message or delivery.
    NodesCpu,
    /// CPU microseconds of this process, the clients, for the same.
    ClientsCpu,
    /// CPU seconds of all nodes for a GiB.
    CpuPerGib,
    /// The highest peak of resident memory of a node, MiB.
    Peak,
    /// Resident memory for each idle client, KiB.
    PerClient,
    /// CPU milliseconds of the nodes for a connection.
    CpuPerConnect,
    /// Connections a second.
    Connects,
    /// Milliseconds from the start of the processes to the first answer.
    Start,
    /// Microseconds of the median that each further node adds.
    HopP50,
    /// CPU microseconds of all nodes that each further node adds to a message.
    HopCpu,
}

impl Metric {
    /// As the head of a column, with its unit.
    pub fn title(self) -> &'static str {
        match self {
            Self::Rate => "messages/s",
            Self::P50 => "p50 µs",
            Self::P99 => "p99 µs",
            Self::Deliveries => "deliveries/s",
            Self::Throughput => "MiB/s",
            Self::NodesCpu => "nodes' CPU µs each",
            Self::ClientsCpu => "clients' CPU µs each",
            Self::CpuPerGib => "nodes' CPU s/GiB",
            Self::Peak => "peak RSS of a node MiB",
            Self::PerClient => "RSS KiB/client",
            Self::CpuPerConnect => "nodes' CPU ms/connect",
            Self::Connects => "connects/s",
            Self::Start => "ms",
            Self::HopP50 => "p50 µs/node more",
            Self::HopCpu => "CPU µs/node more",
        }
    }

    /// Which way it is good.
    pub fn better(self) -> Better {
        match self {
            Self::Rate | Self::Deliveries | Self::Throughput | Self::Connects => Better::More,
            _ => Better::Less,
        }
    }

    pub(super) fn decimals(self, value: f64) -> usize {
        match value.abs() {
            0.0..1.0 => 3,
            1.0..10.0 => 2,
            10.0..100.0 => 1,
            _ => 0,
        }
    }
}

/// Figures of one system in one case of one round.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    pub(super) values: BTreeMap<Metric, f64>,
    /// Which part of the machine others used meanwhile, 0 to 1.
    pub foreign: f64,
    /// Messages that failed.
    pub failed: u64,
}

impl Figures {
    /// Adds one, if it is known and a number.
    #[must_use]
    pub fn with(mut self, metric: Metric, value: impl Into<Option<f64>>) -> Self {
        if let Some(value) = value.into().filter(|value| value.is_finite()) {
            self.values.insert(metric, value);
        }
        self
    }

    /// One of them.
    pub fn value(&self, metric: Metric) -> Option<f64> {
        self.values.get(&metric).copied()
    }

    /// All.
    pub fn iter(&self) -> impl Iterator<Item = (Metric, f64)> {
        self.values.iter().map(|(metric, value)| (*metric, *value))
    }
}

/// The middle of them, or of the two in the middle; `None` of nothing.
pub(super) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        1 => values.get(middle).copied(),
        _ => Some((values.get(middle.checked_sub(1)?)? + values.get(middle)?) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median([]), None);
        assert_eq!(median([3.0]), Some(3.0));
        assert_eq!(median([9.0, 1.0]), Some(5.0));
        assert_eq!(median([9.0, 1.0, 2.0]), Some(2.0));
    }

    #[test]
    fn what_is_no_number_is_no_figure() {
        let figures =
            Figures::default().with(Metric::P50, f64::NAN).with(Metric::Rate, None).with(Metric::P99, 1.0);
        assert_eq!(figures.iter().collect::<Vec<_>>(), [(Metric::P99, 1.0)]);
    }
}
