//! Cases, and how each is put to a system.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use amop_load::{
    report::Report,
    system::{Cluster, System},
    work::{
        Error, Pacing, Progress, Traffic,
        bulk::{self, Bulk},
        fan_out,
        idle::{self, Idle},
        requests,
        start::{self, Start},
    },
};
use tokio::time::sleep;

use super::figures::{Figures, Metric};

/// How long a started system may take until it serves.
const SERVE: Duration = Duration::from_secs(20);
/// From one look whether it does to the next.
const AGAIN: Duration = Duration::from_millis(5);
/// In an open loop, messages under way at most.
const OPEN: usize = 8_192;
/// Requests in flight that a system's highest rate is measured with.
const MOST: usize = 256;
/// The node counts that show what a node more costs.
const LINES: [usize; 3] = [2, 3, 4];
/// Messages published ahead of the slowest subscriber.
const WINDOW: usize = 256;

/// A work with its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Case {
    /// Requests over two nodes, closed loop.
    Requests {
        /// Bytes of each.
        payload: usize,
        /// So many under way.
        in_flight: usize,
    },
    /// Requests over two nodes at half of the highest rate that the same system had just before, open loop.
    Half {
        /// Bytes of each.
        payload: usize,
    },
    /// Multicast to subscribers at two nodes in turn.
    FanOut {
        /// Bytes of each message.
        payload: usize,
        /// How many there are.
        subscribers: usize,
    },
    /// Acknowledged chunks of 256 KiB, eight under way.
    Bulk {
        /// MiB in all.
        mib: u64,
    },
    /// Clients that do nothing, at one node.
    Idle {
        /// How many.
        clients: usize,
    },
    /// From the start of two nodes to the first answer, median of five.
    Start,
    /// What each node more costs: requests in lines of two, three and four nodes.
    Hops {
        /// Bytes of each.
        payload: usize,
        /// So many under way.
        in_flight: usize,
    },
}

impl Case {
    /// What is told of it, the most important first.
    pub fn metrics(self) -> &'static [Metric] {
        use Metric::*;
        match self {
            Self::Requests { in_flight: 1, .. } => &[P50, P99, NodesCpu, ClientsCpu],
            Self::Requests { .. } => &[Rate, NodesCpu, ClientsCpu, P50, P99],
            Self::Half { .. } => &[P99, P50, Rate, NodesCpu],
            Self::FanOut { .. } => &[Deliveries, NodesCpu, ClientsCpu],
            Self::Bulk { .. } => &[Throughput, CpuPerGib, Peak],
            Self::Idle { .. } => &[PerClient, CpuPerConnect, Connects],
            Self::Start => &[Metric::Start],
            Self::Hops { .. } => &[HopP50, HopCpu],
        }
    }

    /// With how many nodes a system is started for it.
    pub fn lines(self) -> &'static [usize] {
        match self {
            Self::Hops { .. } => &LINES,
            _ => &LINES[..1],
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Requests { payload, in_flight } => write!(f, "request, {payload} B, {in_flight} in flight"),
            Self::Half { payload } => write!(f, "request, {payload} B, open loop at half the highest rate"),
            Self::FanOut { payload, subscribers } => write!(f, "multicast, {payload} B, to {subscribers}"),
            Self::Bulk { mib } => write!(f, "{mib} MiB in chunks"),
            Self::Idle { clients } => write!(f, "{clients} idle clients"),
            Self::Start => write!(f, "start of two nodes to the first answer"),
            Self::Hops { payload, in_flight } => write!(f, "a node more, {payload} B, {in_flight} in flight"),
        }
    }
}

/// How long is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// Load before measuring.
    pub warm_up: Duration,
    /// How long is measured, where the work does not say.
    pub duration: Duration,
    /// From the first answer to the warm-up.
    pub settle: Duration,
}

impl Scale {
    fn traffic(self, payload: usize, pacing: Pacing) -> Traffic {
        let Self { warm_up, duration, settle } = self;
        Traffic { payload, pacing, warm_up, duration, settle, ..Traffic::default() }
    }
}

/// Puts a case to systems of as many nodes as [`Case::lines`] says.
pub(super) async fn put<S: System>(systems: &[S], case: Case, scale: Scale) -> Result<Figures, Error> {
    if let Case::Hops { payload, in_flight } = case {
        return hops(systems, scale.traffic(payload, Pacing::Closed { in_flight })).await;
    }
    let Some(system) = systems.first() else { return Err(Error::Setting("no system".into())) };
    let progress = Progress::default();
    if case == Case::Start {
        let report = start::run(system, &Start::default(), &progress).await?;
        let median = report.latencies.quantile(0.5).as_secs_f64() * 1e3;
        return Ok(Figures::default().with(Metric::Start, median));
    }
    let cluster = serving(system).await?;
    match case {
        Case::Requests { payload, in_flight } => {
            let traffic = scale.traffic(payload, Pacing::Closed { in_flight });
            Ok(of_requests(&requests::run(&cluster, &traffic, &progress).await?))
        }
        Case::Half { payload } => {
            let traffic = scale.traffic(payload, Pacing::Closed { in_flight: MOST });
            let rate = requests::run(&cluster, &traffic, &progress).await?.rate() / 2.0;
            let traffic = scale.traffic(payload, Pacing::Open { rate, in_flight: OPEN });
            Ok(of_requests(&requests::run(&cluster, &traffic, &progress).await?))
        }
        Case::FanOut { payload, subscribers } => {
            let traffic = scale.traffic(payload, Pacing::Closed { in_flight: WINDOW });
            let report = fan_out::run(&cluster, &Traffic { subscribers, ..traffic }, &progress).await?;
            Ok(with_cpu(&report).with(Metric::Deliveries, report.rate()))
        }
        Case::Bulk { mib } => {
            let bulk = Bulk { bytes: mib << 20, settle: scale.settle, ..Bulk::default() };
            Ok(of_bulk(&bulk::run(&cluster, &bulk, &progress).await?))
        }
        Case::Idle { clients } => {
            let idle = Idle { clients, settle: scale.duration, duration: scale.duration, ..Idle::default() };
            Ok(of_idle(&idle::run(&cluster, &idle, &progress).await?))
        }
        Case::Start | Case::Hops { .. } => Ok(Figures::default()),
    }
}

/// Starts it and waits until clients can connect to the first node and the last, once each: what pipes join is
/// one of either.
async fn serving<S: System>(system: &S) -> Result<Arc<S::Cluster>, Error> {
    let cluster = Arc::new(system.start().await.map_err(Error::Start)?);
    let began = Instant::now();
    for node in [0, cluster.nodes().saturating_sub(1)] {
        while let Err(failure) = cluster.idle(node).await {
            cluster.alive().map_err(Error::Died)?;
            if began.elapsed() > SERVE {
                return Err(Error::Start(failure));
            }
            sleep(AGAIN).await;
        }
    }
    Ok(cluster)
}

/// What each node more adds, by the line that fits best.
async fn hops<S: System>(systems: &[S], traffic: Traffic) -> Result<Figures, Error> {
    let (mut latency, mut cpu, mut foreign) = (Vec::new(), Vec::new(), 0.0_f64);
    for (system, nodes) in systems.iter().zip(LINES) {
        let cluster = serving(system).await?;
        let figures = of_requests(&requests::run(&cluster, &traffic, &Progress::default()).await?);
        let at = |metric| figures.value(metric).map(|value| (nodes as f64, value));
        latency.extend(at(Metric::P50));
        cpu.extend(at(Metric::NodesCpu));
        foreign = foreign.max(figures.foreign);
    }
    let figures = Figures::default().with(Metric::HopP50, slope(&latency)).with(Metric::HopCpu, slope(&cpu));
    Ok(Figures { foreign, ..figures })
}

/// Of the line of least squares.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / count, y + point.1 / count));
    let (above, below) = points.iter().fold((0.0, 0.0), |(above, below), point| {
        (above + (point.0 - x) * (point.1 - y), below + (point.0 - x) * (point.0 - x))
    });
    above / below
}

fn of_requests(report: &Report) -> Figures {
    let micros = |part| report.latencies.quantile(part).as_secs_f64() * 1e6;
    with_cpu(report)
        .with(Metric::Rate, report.rate())
        .with(Metric::P50, micros(0.5))
        .with(Metric::P99, micros(0.99))
}

fn of_bulk(report: &Report) -> Figures {
    let gib = report.count as f64 / f64::from(1 << 30);
    let peak = report.memory.iter().map(|memory| memory.after.peak_kib).max();
    base(report)
        .with(Metric::Throughput, report.rate() / f64::from(1 << 20))
        .with(Metric::CpuPerGib, report.usage.nodes.map(|cpu| cpu / gib))
        .with(Metric::Peak, peak.map(|kib| kib as f64 / 1024.0))
}

fn of_idle(report: &Report) -> Figures {
    let each = report.usage.nodes.map(|cpu| cpu / report.count as f64 * 1e3);
    base(report)
        .with(Metric::PerClient, report.idle.and_then(|idle| idle.resident_per_client_kib))
        .with(Metric::CpuPerConnect, each)
        .with(Metric::Connects, report.rate())
}

fn with_cpu(report: &Report) -> Figures {
    let each = |cpu: Option<f64>| cpu.map(|cpu| cpu / report.count as f64 * 1e6);
    base(report)
        .with(Metric::NodesCpu, each(report.usage.nodes))
        .with(Metric::ClientsCpu, each(report.usage.clients))
}

fn base(report: &Report) -> Figures {
    let failed = report.errors.total() + report.unfinished + report.not_sent;
    Figures { foreign: report.usage.foreign.unwrap_or(0.0), failed, ..Figures::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes() {
        assert_eq!(slope(&[(2.0, 10.0), (3.0, 14.0), (4.0, 18.0)]), 4.0);
        assert!(slope(&[(2.0, 10.0)]).is_nan());
    }
}
