//! Many nodes on one machine.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use amop::telemetry::client as admin;
use amop_load::meter::{self, Meter};
use anyhow::Context;
use serde::Serialize;
use serde_json::Value;
use tempfile::TempDir;

use super::{Row, mib};

pub(crate) const HEADER: &[&str] = &[
    "TOPOLOGY",
    "NODES",
    "LINKS",
    "SERVING AFTER",
    "CPU TILL THEN",
    "RESIDENT, MEAN",
    "MOST",
    "IDLE CPU, NODE",
];
pub(crate) const TOPOLOGIES: [&str; 4] = ["line", "ring", "star", "full"];

/// From when all serve until they are left alone.
const SETTLE: Duration = Duration::from_secs(3);
/// For how long they are left alone.
const IDLE: Duration = Duration::from_secs(10);
/// Longer than devnet itself waits.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(2);

/// What so many nodes cost.
#[derive(Debug, Serialize)]
pub(crate) struct Nodes {
    topology: &'static str,
    nodes: usize,
    /// Between two nodes each.
    links: usize,
    /// From the start of `amop devnet`, certificates included, until all are linked and serve.
    serving_after_s: f64,
    /// Of the nodes alone.
    cpu_until_then_s: f64,
    resident_kib: f64,
    resident_most_kib: u64,
    /// Of one node, in a second.
    idle_cpu_ms_per_s: f64,
}

impl Row for Nodes {
    fn cells(&self) -> Vec<String> {
        vec![
            self.topology.to_owned(),
            self.nodes.to_string(),
            self.links.to_string(),
            format!("{:.2} s", self.serving_after_s),
            format!("{:.1} s", self.cpu_until_then_s),
            mib(self.resident_kib),
            mib(self.resident_most_kib as f64),
            format!("{:.2} ms/s", self.idle_cpu_ms_per_s),
        ]
    }
}

pub(crate) async fn row(nodes: usize, topology: &'static str) -> anyhow::Result<Nodes> {
    let began = Instant::now();
    let devnet = Devnet::start(nodes, topology).await?;
    let serving_after_s = began.elapsed().as_secs_f64();
    let pids = devnet.pids()?;
    let cpu_until_then_s = meter::since_start(&pids).context("the CPU time of the nodes")?;
    tokio::time::sleep(SETTLE).await;
    let idle = Meter::start(&pids);
    tokio::time::sleep(IDLE).await;
    let idle = idle.stop();
    let idle_cpu = idle.nodes.context("the CPU time of the nodes")?;
    let resident = |pid: &u32| meter::memory(*pid).map(|memory| memory.resident_kib);
    let resident: Vec<u64> = pids.iter().filter_map(resident).collect();
    Ok(Nodes {
        topology,
        nodes,
        links: devnet.links().await?,
        serving_after_s,
        cpu_until_then_s,
        resident_kib: resident.iter().sum::<u64>() as f64 / resident.len() as f64,
        resident_most_kib: resident.iter().max().copied().unwrap_or(0),
        idle_cpu_ms_per_s: idle_cpu * 1e3 / idle.seconds / nodes as f64,
    })
}

/// A devnet without demo, on free ports; stopped when dropped.
struct Devnet {
    child: Child,
    announcement: Value,
    _dir: TempDir,
}

impl Devnet {
    async fn start(nodes: usize, topology: &str) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let net = dir.path().join("net");
        let child = Command::new(env!("CARGO_BIN_EXE_amop"))
            .args(["devnet", "--no-demo", "--base-port", "0", "--nodes", &nodes.to_string()])
            .args(["--topology", topology, "--dir"])
            .arg(&net)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut devnet = Self { child, announcement: Value::Null, _dir: dir };
        devnet.announcement = devnet.announced(net.join("devnet.json")).await?;
        Ok(devnet)
    }

    /// What it writes once all nodes are linked and serve.
    async fn announced(&mut self, path: PathBuf) -> anyhow::Result<Value> {
        let deadline = Instant::now() + PATIENCE;
        while !path.exists() {
            anyhow::ensure!(self.child.try_wait()?.is_none(), "the devnet has ended");
            anyhow::ensure!(Instant::now() < deadline, "the devnet does not serve in time");
            tokio::time::sleep(LOOK).await;
        }
        Ok(serde_json::from_slice(&fs::read(path)?)?)
    }

    fn nodes(&self) -> anyhow::Result<&[Value]> {
        Ok(self.announcement["nodes"].as_array().context("its nodes")?)
    }

    fn pids(&self) -> anyhow::Result<Vec<u32>> {
        let pid = |node: &Value| Some(node["pid"].as_u64()? as u32);
        self.nodes()?.iter().map(pid).collect::<Option<_>>().context("the processes of its nodes")
    }

    /// Between two nodes each.
    async fn links(&self) -> anyhow::Result<usize> {
        let mut ends = 0;
        for node in self.nodes()? {
            let admin: SocketAddr = node["admin"].as_str().context("an admin port")?.parse()?;
            ends += admin::status(admin).await?.links;
        }
        Ok(ends / 2)
    }
}

impl Drop for Devnet {
    fn drop(&mut self) {
        // In order, so that its nodes are gone before others are measured.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}
