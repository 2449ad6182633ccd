//! Connections: set up, and dropped again, as fast as it goes.

use std::{sync::Arc, time::Duration};

use crate::{
    meter::Meter,
    report::{Report, Setting, Unit},
    system::{Cluster, Failure},
    work::{
        Error, Pacing, Phase, Progress, Traffic, ends,
        loops::{Sender, Senders, Stage},
    },
};

/// How clients connect.
#[derive(Clone, Debug, PartialEq)]
pub struct Connect {
    /// So many at a time, each node in turn; at least 1.
    pub at_once: usize,
    /// Connecting before measuring.
    pub warm_up: Duration,
    /// How long is measured; more than nothing.
    pub duration: Duration,
    /// How long a connection may take.
    pub patience: Duration,
}

impl Default for Connect {
    fn default() -> Self {
        let (warm_up, duration) = (Duration::from_secs(1), Duration::from_secs(5));
        Self { at_once: 1, warm_up, duration, patience: Duration::from_secs(15) }
    }
}

/// Connects idle clients, each with a full handshake, and disconnects each as soon as it is connected: CPU and rate are those of both.
///
/// # Errors
/// When `connect` cannot be, or a node dies. Connections that fail are no errors but counted.
pub async fn run<C: Cluster>(
    cluster: &Arc<C>,
    connect: &Connect,
    progress: &Progress,
) -> Result<Report, Error> {
    let traffic = Traffic {
        pacing: Pacing::Closed { in_flight: connect.at_once },
        warm_up: connect.warm_up,
        duration: connect.duration,
        patience: connect.patience,
        ..Traffic::default()
    };
    traffic.check()?;
    let stage = Arc::new(Stage::default());
    let callers: Vec<Caller<C>> =
        (0..cluster.nodes()).map(|node| Caller { cluster: cluster.clone(), node }).collect();
    let senders = Senders::closed(&callers, connect.at_once, &traffic, &stage);
    ends::watch(&**cluster, progress, Phase::WarmUp, connect.warm_up).await?;
    let meter = Meter::start(cluster.servers());
    stage.measure();
    ends::watch(&**cluster, progress, Phase::Measuring, connect.duration).await?;
    stage.end();
    let mut report = Report::new("connect", &**cluster, Unit::Connection, Setting::of_connect(connect));
    report.usage = meter.stop();
    progress.enter(Phase::Finishing, 0);
    let (tally, _) = ends::while_alive(&**cluster, senders.finish()).await?;
    report.count = tally.in_time;
    report.latencies = tally.latencies;
    report.errors = tally.errors;
    report.unfinished = tally.unfinished;
    Ok(report)
}

/// Connects to a node, and disconnects.
struct Caller<C> {
    cluster: Arc<C>,
    node: usize,
}

impl<C> Clone for Caller<C> {
    fn clone(&self) -> Self {
        Self { cluster: self.cluster.clone(), node: self.node }
    }
}

impl<C: Cluster> Sender for Caller<C> {
    async fn send(&self, _due: u64, _measured: bool) -> Result<(), Failure> {
        self.cluster.idle(self.node).await.map(drop)
    }
}
