//! Whole nodes in this process, linked over loopback with real TLS, and clients of all kinds.
//!
//! Each node has a runtime of its own: so it can be aborted, sockets and all, as if its machine
//! had been switched off.

mod plain;
mod served;

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
};

use amop::{
    config::Config,
    identity::Credentials,
    node::{Node, NodeHandle, Report},
    telemetry::{
        client as admin,
        status::{Addresses, Status},
    },
};
use amop_client::{Client, Options};
use amop_protocol::NodeId;
use amop_testkit::{
    ca::{Consortium, Institution},
    wait,
};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

pub(crate) use self::{
    plain::{Plain, client_config, message},
    served::Served,
};

/// Who is linked to whom. A ring has at least three nodes; nodes apart are linked by something else.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Topology {
    Line,
    Ring,
    Apart,
}

/// A consortium in which every institution has one node: the first `bank-0` with `node-0`.
pub(crate) struct Mesh {
    pub(crate) consortium: Consortium,
    pub(crate) nodes: Vec<MeshNode>,
    topology: Topology,
    dir: TempDir,
    certificates: AtomicUsize,
}

/// A node of the mesh; it may have been stopped.
pub(crate) struct MeshNode {
    pub(crate) institution: Institution,
    pub(crate) addresses: Addresses,
    config: Config,
    credentials: Credentials,
    running: Option<(Runtime, NodeHandle)>,
}

impl Mesh {
    /// Nodes with the default configuration.
    pub(crate) async fn line(nodes: usize) -> Self {
        Self::new(nodes, Topology::Line, |_, _| {}).await
    }

    /// Nodes, each with what `change` makes of the default configuration; all of them linked.
    pub(crate) async fn new(nodes: usize, topology: Topology, change: impl Fn(usize, &mut Config)) -> Self {
        let mut mesh = Self {
            consortium: Consortium::new(),
            nodes: Vec::new(),
            topology,
            dir: tempfile::tempdir().expect("a directory"),
            certificates: AtomicUsize::new(0),
        };
        for index in 0..nodes {
            let peers: Vec<SocketAddr> = match topology {
                Topology::Apart => Vec::new(),
                Topology::Ring if index > 1 && index == nodes - 1 => {
                    vec![mesh.overlay(index - 1), mesh.overlay(0)]
                }
                _ => index.checked_sub(1).map(|previous| mesh.overlay(previous)).into_iter().collect(),
            };
            let institution = mesh.consortium.institution(&format!("bank-{index}"));
            let leaf = institution.node(&format!("node-{index}"));
            let credentials =
                Credentials::new(&[leaf.root()], leaf.chain(), leaf.key()).expect("credentials");
            let mut config = Config::defaults(mesh.dir.path());
            config.client_port.listeners[0].listen = ([127, 0, 0, 1], 0).into();
            config.overlay.listen = ([127, 0, 0, 1], 0).into();
            config.admin.listen = ([127, 0, 0, 1], 0).into();
            config.overlay.peers = peers;
            change(index, &mut config);
            let (runtime, handle) = start(config.clone(), credentials.clone()).await;
            let addresses = handle.addresses().clone();
            let running = Some((runtime, handle));
            mesh.nodes.push(MeshNode { institution, addresses, config, credentials, running });
        }
        mesh.linked().await;
        mesh
    }

    fn overlay(&self, index: usize) -> SocketAddr {
        self.nodes[index].addresses.overlay
    }

    /// Waits until every running node has its links to running nodes and reaches all of them.
    pub(crate) async fn linked(&self) {
        let running: Vec<usize> = (0..self.nodes.len()).filter(|index| self.runs(*index)).collect();
        let others = if self.topology == Topology::Apart { 0 } else { running.len() - 1 };
        for index in &running {
            let links = self.neighbours(*index).into_iter().filter(|other| self.runs(*other)).count();
            wait::until("all nodes to be linked", async || {
                let status = self.nodes[*index].status().await;
                status.links == links && status.nodes == others
            })
            .await;
        }
    }

    fn runs(&self, index: usize) -> bool {
        self.nodes[index].running.is_some()
    }

    fn neighbours(&self, index: usize) -> Vec<usize> {
        let last = self.nodes.len() - 1;
        let (before, after) = match self.topology {
            Topology::Apart => (None, None),
            Topology::Ring => (Some(index.checked_sub(1).unwrap_or(last)), Some((index + 1) % (last + 1))),
            Topology::Line => (index.checked_sub(1), Some(index + 1).filter(|after| *after <= last)),
        };
        before.into_iter().chain(after).collect()
    }

    /// Whether the node at `index` knows a subscriber of the topic.
    pub(crate) async fn knows(&self, index: usize, topic: &str) -> bool {
        let topics = admin::topics(self.nodes[index].admin()).await.expect("the admin port answers");
        topics.iter().any(|known| known.topic == topic)
    }

    /// The id of the node at `index`.
    pub(crate) fn id(&self, index: usize) -> NodeId {
        self.nodes[index].credentials.node_key().id()
    }

    /// A new client of the institution at `index`, connected to its node.
    pub(crate) async fn client(&self, index: usize) -> Client {
        self.connect(&[index], self.certificate(index)).await
    }

    /// A client with this certificate at these nodes.
    pub(crate) async fn connect(&self, nodes: &[usize], certificate: PathBuf) -> Client {
        let addresses = nodes.iter().map(|index| self.nodes[*index].addresses.channel.to_string());
        Client::connect(Options::new(addresses, certificate)).await.expect("a connection")
    }

    /// A new client certificate of the institution at `index`, in a directory of its own.
    pub(crate) fn certificate(&self, index: usize) -> PathBuf {
        let name = format!("client-{}", self.certificates.fetch_add(1, Ordering::Relaxed));
        let dir = self.dir.path().join(&name);
        self.nodes[index].institution.client(&name).write_client_dir(&dir);
        dir
    }

    /// Switches a node off: no goodbyes, its connections break.
    pub(crate) fn abort(&mut self, index: usize) {
        let (runtime, handle) = self.nodes[index].running.take().expect("it runs");
        runtime.shutdown_background();
        drop(handle);
    }

    /// Stops a node in order.
    pub(crate) async fn stop(&mut self, index: usize) -> Report {
        let (runtime, mut handle) = self.nodes[index].running.take().expect("it runs");
        let report = runtime.spawn(async move { handle.shutdown().await }).await.expect("no panic");
        runtime.shutdown_background();
        report
    }

    /// Starts a node again where it was, with the same certificate.
    pub(crate) async fn restart(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        assert!(node.running.is_none(), "it still runs");
        // Switched off, it may hold its ports for a moment.
        for port in [node.addresses.channel, node.addresses.overlay] {
            wait::until("the port to be free", async || TcpListener::bind(port).is_ok()).await;
        }
        let mut config = node.config.clone();
        config.client_port.listeners[0].listen = node.addresses.channel;
        config.overlay.listen = node.addresses.overlay;
        let (runtime, handle) = start(config, node.credentials.clone()).await;
        node.addresses = handle.addresses().clone();
        node.running = Some((runtime, handle));
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        for (runtime, _) in self.nodes.iter_mut().filter_map(|node| node.running.take()) {
            runtime.shutdown_background();
        }
    }
}

impl MeshNode {
    /// What its admin port says.
    pub(crate) async fn status(&self) -> Status {
        admin::status(self.admin()).await.expect("the admin port answers")
    }

    /// The counter of this name, without its `amop_` and `_total`.
    pub(crate) async fn counted(&self, name: &str) -> u64 {
        self.series(&format!("amop_{name}_total ")).await.expect("such a counter")
    }

    /// The same with this label; 0 if it was never counted.
    pub(crate) async fn counted_with(&self, name: &str, label: &str) -> u64 {
        self.series(&format!("amop_{name}_total{{{label}}} ")).await.unwrap_or(0)
    }

    async fn series(&self, name: &str) -> Option<u64> {
        let page = admin::get(self.admin(), "/metrics").await.expect("the admin port answers");
        let text = String::from_utf8_lossy(&page);
        let value = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(value.parse().expect("a number"))
    }

    /// Where its client port is, as options name it.
    pub(crate) fn channel(&self) -> String {
        self.addresses.channel.to_string()
    }

    /// Where its admin port is.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.addresses.admin.expect("an admin port")
    }
}

async fn start(config: Config, credentials: Credentials) -> (Runtime, NodeHandle) {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let handle = runtime.spawn(Node::start(config, credentials)).await.expect("no panic").expect("a node");
    (runtime, handle)
}

/// Something a test does meanwhile.
#[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
pub(crate) fn spawn<T: Send + 'static>(
    task: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio::spawn(task)
}
