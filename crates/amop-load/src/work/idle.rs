//! Idle clients: what each takes of its node's memory, and what all take of its time.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;

use crate::{
    clock,
    meter::{self, Meter},
    record::Latencies,
    report::{Idleness, Report, Setting, Unit},
    system::Cluster,
    work::{Error, Phase, Progress, ends, traffic},
};

/// Connected before the memory is read: the first pay for what is made once.
const FIRST: usize = 10;

/// How many clients, and how long they are idle.
#[derive(Clone, Debug, PartialEq)]
pub struct Idle {
    /// Clients, all at the first node; at least 1.
    pub clients: usize,
    /// So many connect at a time.
    pub at_once: usize,
    /// From the last connection until memory is read.
    pub settle: Duration,
    /// How long the node's CPU is watched then.
    pub duration: Duration,
}

impl Default for Idle {
    fn default() -> Self {
        let three = Duration::from_secs(3);
        Self { clients: 2_000, at_once: ends::AT_ONCE, settle: three, duration: three }
    }
}

/// Connects the clients, and lets them be. Count, rate, latencies and CPU are those of connecting, without disconnecting.
///
/// # Errors
/// When `idle` cannot be, a client cannot be connected, or a node dies.
pub async fn run<C: Cluster>(cluster: &Arc<C>, idle: &Idle, progress: &Progress) -> Result<Report, Error> {
    for (what, number) in [("clients", idle.clients), ("at once", idle.at_once)] {
        if !(1..=traffic::MOST).contains(&number) {
            return Err(Error::Setting(format!("{what}: {number} cannot be; use 1 to {}", traffic::MOST)));
        }
    }
    progress.enter(Phase::Connecting, idle.clients as u64);
    let latencies = Arc::new(Mutex::new(Latencies::default()));
    let connect = |count| {
        ends::connect("client", count, idle.at_once, progress, |_| {
            let (cluster, latencies, began) = (cluster.clone(), latencies.clone(), clock::now());
            async move {
                let client = cluster.idle(0).await?;
                latencies.lock().record(clock::since(began));
                Ok(client)
            }
        })
    };
    let _first = connect(FIRST).await?;
    *latencies.lock() = Latencies::default();
    ends::watch(&**cluster, progress, Phase::Reaching, idle.settle / 6).await?;
    let node = cluster.servers().first().copied();
    let servers = node.as_slice();
    let before: Vec<_> = servers.iter().map(|pid| meter::memory(*pid)).collect();
    progress.enter(Phase::Connecting, idle.clients as u64);
    let meter = Meter::start(servers);
    let _clients = ends::while_alive(&**cluster, connect(idle.clients)).await??;
    let usage = meter.stop();
    ends::watch(&**cluster, progress, Phase::WarmUp, idle.settle).await?;
    let mut report = Report::new("idle", &**cluster, Unit::Connection, Setting::of_idle(idle));
    report.memory_since(servers, &before);
    let meter = Meter::start(servers);
    ends::watch(&**cluster, progress, Phase::Measuring, idle.duration).await?;
    let quiet = meter.stop();
    (report.count, report.usage) = (idle.clients as u64, usage);
    report.latencies = std::mem::take(&mut *latencies.lock());
    let grown = report.memory.first().map(|memory| memory.grown_kib() / idle.clients as f64);
    let cores = quiet.nodes.map(|cpu| cpu / quiet.seconds);
    report.idle = Some(Idleness { resident_per_client_kib: grown, node_cores: cores });
    Ok(report)
}
