//! Many topics in one overlay.

use std::{
    fs::File,
    process::Command,
    time::{Duration, Instant},
};

use amop::telemetry::client as admin;
use amop_client::{Client, Options, Subscription};
use amop_load::meter::{self, Meter};
use amop_testkit::{
    ca::{Consortium, Institution},
    process::NodeProcess,
    wait,
};
use anyhow::Context;
use futures::future;
use serde::Serialize;
use tempfile::TempDir;
use tokio::time::timeout;

use super::{Row, mib};

pub(crate) const HEADER: &[&str] = &[
    "TOPICS",
    "NODES",
    "ACKNOWLEDGED",
    "KNOWN TO ALL",
    "RESIDENT, MEAN",
    "PER TOPIC, NODE",
    "CPU, ALL NODES",
    "PER TOPIC, NODE",
];

/// Each may have 100,000 topics of its own clients.
const NODES: usize = 10;
/// Of one client at most, as nodes allow by default.
const PER_CLIENT: usize = 10_000;
/// Longer is not waited.
const PATIENCE: Duration = Duration::from_secs(180);
/// How often a node that does not know a topic is asked again.
const LOOK: Duration = Duration::from_millis(100);
/// From when all are known until memory is read: what was needed for a moment is given back.
const REST: Duration = Duration::from_secs(2);

/// What so many topics cost.
#[derive(Debug, Serialize)]
pub(crate) struct Topics {
    topics: usize,
    nodes: usize,
    /// From the first subscription until the last is acknowledged, which a node does after 5 s at the latest.
    acknowledged_s: f64,
    /// From the first subscription until a client at each node has reached the last topic of every subscriber.
    known_to_all_s: Option<f64>,
    /// Before the first topic; mean of the nodes.
    resident_before_kib: f64,
    resident_kib: f64,
    resident_most_kib: u64,
    resident_per_topic_bytes: f64,
    cpu_all_nodes_s: f64,
    cpu_per_topic_and_node_us: f64,
}

impl Row for Topics {
    fn cells(&self) -> Vec<String> {
        vec![
            self.topics.to_string(),
            self.nodes.to_string(),
            format!("{:.2} s", self.acknowledged_s),
            self.known_to_all_s.map_or_else(|| "not in time".into(), |seconds| format!("{seconds:.2} s")),
            mib(self.resident_kib),
            format!("{:.0} B", self.resident_per_topic_bytes),
            format!("{:.1} s", self.cpu_all_nodes_s),
            format!("{:.1} µs", self.cpu_per_topic_and_node_us),
        ]
    }
}

pub(crate) async fn row(topics: usize) -> anyhow::Result<Topics> {
    let overlay = Overlay::start().await;
    let (mut clients, mut askers) = (Vec::new(), Vec::new());
    for (node, range) in shares(topics) {
        clients.push((overlay.client(node).await?, range));
    }
    for node in 0..NODES {
        askers.push(overlay.client(node).await?);
    }
    tokio::time::sleep(REST).await;
    let pids: Vec<u32> = overlay.nodes.iter().map(|node| node.child.id()).collect();
    let (before, _) = resident(&pids)?;
    let (meter, began) = (Meter::start(&pids), Instant::now());
    let subscribed = async {
        let all = clients.iter().map(|(client, range)| subscribe(client, range.clone()));
        let held: Vec<Subscription> = future::try_join_all(all).await?;
        anyhow::Ok((held, began.elapsed().as_secs_f64()))
    };
    let last: Vec<String> = clients.iter().map(|(_, range)| name(range.end - 1)).collect();
    let known = async {
        let all = future::join_all(askers.iter().map(|asker| reach(asker, &last)));
        timeout(PATIENCE, all).await.ok().map(|_| began.elapsed().as_secs_f64())
    };
    let (subscribed, known_to_all_s) = tokio::join!(subscribed, known);
    // Held, so that the topics stay.
    let (_held, acknowledged_s) = subscribed?;
    tokio::time::sleep(REST).await;
    let cpu_all_nodes_s = meter.stop().nodes.context("the CPU time of the nodes")?;
    let (resident_kib, resident_most_kib) = resident(&pids)?;
    Ok(Topics {
        topics,
        nodes: NODES,
        acknowledged_s,
        known_to_all_s,
        resident_before_kib: before,
        resident_kib,
        resident_most_kib,
        resident_per_topic_bytes: (resident_kib - before) * 1024.0 / topics as f64,
        cpu_all_nodes_s,
        cpu_per_topic_and_node_us: cpu_all_nodes_s * 1e6 / (topics * NODES) as f64,
    })
}

/// A node and a range of topics for each client.
fn shares(topics: usize) -> impl Iterator<Item = (usize, std::ops::Range<usize>)> {
    let each = PER_CLIENT.min(topics.div_ceil(NODES));
    let clients = topics.div_ceil(each);
    (0..clients).map(move |client| (client % NODES, client * each..topics.min((client + 1) * each)))
}

async fn subscribe(client: &Client, range: std::ops::Range<usize>) -> anyhow::Result<Subscription> {
    Ok(client.subscribe_all(range.map(name)).await?)
}

fn name(topic: usize) -> String {
    format!("settlement/instrument-{topic:07}")
}

/// Publishes to each topic until its subscriber has had it: so the asker's node knows it.
async fn reach(asker: &Client, topics: &[String]) {
    for topic in topics {
        while asker.publish(topic, "do you know it?").await.is_err() {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Mean and most.
fn resident(pids: &[u32]) -> anyhow::Result<(f64, u64)> {
    let each: Option<Vec<u64>> =
        pids.iter().map(|pid| meter::memory(*pid).map(|memory| memory.resident_kib)).collect();
    let each = each.context("the memory of the nodes, from /proc")?;
    let most = each.iter().max().copied().unwrap_or(0);
    Ok((each.iter().sum::<u64>() as f64 / each.len() as f64, most))
}

/// Nodes in a line, each of an institution of its own.
struct Overlay {
    nodes: Vec<NodeProcess>,
    institutions: Vec<Institution>,
    dir: TempDir,
}

impl Overlay {
    async fn start() -> Self {
        let (consortium, dir) = (Consortium::new(), tempfile::tempdir().expect("a directory"));
        let mut overlay = Self { nodes: Vec::new(), institutions: Vec::new(), dir };
        for index in 0..NODES {
            let institution = consortium.institution(&format!("bank-{index}"));
            let dir = overlay.dir.path().join(format!("node-{index}"));
            institution.node(&format!("node-{index}")).write_node_dir(&dir);
            let peer = overlay.nodes.last().map(|last| last.port("overlay"));
            let peers = peer.map(|peer| format!("overlay.peers = [\"{peer}\"]\n")).unwrap_or_default();
            let log = File::create(dir.join("node.log")).expect("a file");
            let program = Command::new(env!("CARGO_BIN_EXE_amop"));
            let mut node = NodeProcess::spawn_by(program, &dir, &peers, log.into());
            node.serves();
            overlay.nodes.push(node);
            overlay.institutions.push(institution);
        }
        for node in &overlay.nodes {
            let reaches = async || {
                admin::status(node.port("admin")).await.is_ok_and(|status| status.nodes == NODES - 1)
            };
            wait::until("all nodes to be linked", reaches).await;
        }
        overlay
    }

    /// A new client there.
    async fn client(&self, node: usize) -> anyhow::Result<Client> {
        let dir = self.dir.path().join(format!("client-{node}"));
        if !dir.exists() {
            self.institutions[node].client("client").write_client_dir(&dir);
        }
        let mut options = Options::new([self.nodes[node].port("channel").to_string()], dir);
        options.subscribe_timeout = PATIENCE;
        Ok(Client::connect(options).await?)
    }
}
