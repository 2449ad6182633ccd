//! The nodes that are attacked, what they may use, and what they have used.

use std::{
    fs,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use amop::telemetry::client as admin;
use amop_client::{Client, Options};
use amop_testkit::{
    ca::{Consortium, Institution, Leaf},
    process::NodeProcess,
    wait,
};
use tempfile::TempDir;

/// What the nodes may hold; small, so that the ceiling means something.
const LIMITS: &str = "\
client_port.queue = \"4 MiB\"
client_port.partial_frames = \"128 MiB\"
client_port.max_clients = 300
client_port.max_topics = 20000
overlay.link_queue = \"64 MiB\"
overlay.partial_frames = \"256 MiB\"
overlay.max_nodes = 16
delivery.seen_entries = 100000
delivery.seen_bytes = \"16 MiB\"
limits.payloads = \"256 MiB\"
";

/// What those limits add up to, in bytes.
pub(crate) const CEILING: usize = {
    let queues = 64 * (4 << 20);
    let frames = (128 << 20) + (256 << 20) + (64 << 20);
    let below_the_count = 300 * (64 << 10) * 2;
    let links = 2 * ((64 << 20) + (32 << 20));
    let window = (16 << 20) + 100_000 * 512;
    // Of three hostile nodes: topics, what they signed of them, and what is not complete.
    let lists = 3 * (100_000 * 512 + (32 << 20)) + (64 << 20);
    PROGRAM + queues + frames + below_the_count + links + window + lists + (256 << 20)
};
/// The program itself, its TLS sessions, and what the allocator keeps.
const PROGRAM: usize = 96 << 20;

/// Two nodes of two banks, linked, perhaps through others.
pub(crate) struct Net {
    pub(crate) nodes: Vec<NodeProcess>,
    banks: [Institution; 2],
    /// The certificate of clients that come anew.
    pub(crate) newcomer: Leaf,
    mallory: Institution,
    dir: TempDir,
    certificates: AtomicUsize,
}

impl Net {
    /// Raises them in a line, the attacked one first, the far one last, so many others between
    /// them. `more` is added to their configuration.
    pub(crate) async fn start(more: &str, between: usize) -> Self {
        let consortium = Consortium::new();
        let banks = ["bank-0", "bank-1"].map(|name| consortium.institution(name));
        let dir = tempfile::tempdir().expect("a directory");
        let mut nodes: Vec<NodeProcess> = Vec::new();
        for index in 0..between + 2 {
            let path = dir.path().join(format!("node-{index}"));
            banks[index.min(1)].node(&format!("node-{index}")).write_node_dir(&path);
            let peers = nodes.last().map(|last| last.port("overlay").to_string());
            let peers = peers.map(|peer| format!("overlay.peers = [\"{peer}\"]\n")).unwrap_or_default();
            nodes.push(NodeProcess::start(&path, &format!("{LIMITS}{more}{peers}")));
        }
        // The attacked one and the far one.
        let far = nodes.pop().expect("two at least");
        nodes.insert(1, far);
        let mallory = consortium.institution("mallory");
        let newcomer = banks[0].client("newcomer");
        let net = Self { nodes, banks, newcomer, mallory, dir, certificates: AtomicUsize::new(0) };
        wait::until("the links", async || {
            let status = admin::status(net.nodes[0].port("admin")).await;
            status.is_ok_and(|status| status.nodes == between + 1)
        })
        .await;
        net
    }

    /// A client of the bank at `index`, connected to its node.
    pub(crate) async fn client(&self, index: usize) -> Client {
        let name = format!("client-{}", self.certificates.fetch_add(1, Ordering::Relaxed));
        let certificate = self.dir.path().join(&name);
        self.banks[index].client(&name).write_client_dir(&certificate);
        let node = self.nodes[index].port("channel").to_string();
        Client::connect(Options::new([node], certificate)).await.expect("a connection")
    }

    /// The attacked node's metrics.
    pub(crate) async fn metrics(&self) -> Metrics {
        let page = admin::get(self.nodes[0].port("admin"), "/metrics").await.expect("the admin port answers");
        Metrics(String::from_utf8(page.to_vec()).expect("text"))
    }

    /// The most memory that a node has had resident, in bytes.
    pub(crate) fn peak(&self, index: usize) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.nodes[index].child.id()));
        let status = status.expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") << 10
    }

    /// Shows what the nodes have logged, but for clients that come and go.
    #[expect(clippy::print_stdout, reason = "a scenario that fails is told with what its nodes said")]
    pub(crate) fn tell(&self) {
        for (index, node) in self.nodes.iter().enumerate() {
            let log = node.log();
            let lines = log.lines().filter(|line| !line.contains("\"client connected\""));
            for line in lines.filter(|line| !line.contains("\"client disconnected\"")) {
                println!("node-{index}: {line}");
            }
        }
    }

    /// What an attacker knows.
    pub(crate) fn target(&self) -> Target {
        Target {
            channels: [0, 1].map(|index| self.nodes[index].port("channel")),
            overlay: self.nodes[0].port("overlay"),
            far_overlay: self.nodes[1].port("overlay"),
            leaf: Arc::new(self.mallory.client("mallory")),
            nodes: ["mallory", "mallory-2", "mallory-3"].map(|name| Arc::new(self.mallory.node(name))),
        }
    }
}

/// Where to attack, and with which certificates.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) channels: [SocketAddr; 2],
    pub(crate) overlay: SocketAddr,
    pub(crate) far_overlay: SocketAddr,
    pub(crate) leaf: Arc<Leaf>,
    pub(crate) nodes: [Arc<Leaf>; 3],
}

/// A page of metrics.
pub(crate) struct Metrics(String);

impl Metrics {
    /// The value of the metric with this name, without `amop_`, labels included.
    pub(crate) fn value(&self, name: &str) -> u64 {
        let value =
            self.0.lines().find_map(|line| line.strip_prefix("amop_")?.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("there is no amop_{name}")).parse().expect("a number")
    }
}
