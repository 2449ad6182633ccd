//! Nodes in a line, each on a thread whose allocations are counted on order.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    thread::JoinHandle,
};

use alloc_tracker::{Operation, Session};
use amop::{
    config::Config,
    identity::Credentials,
    node::Node,
    telemetry::{client as admin, status::Addresses},
};
use amop_client::{Client, Options};
use amop_testkit::{
    ca::{Consortium, Institution},
    wait,
};
use tempfile::TempDir;
use tokio::{
    runtime::Builder,
    sync::{mpsc, oneshot},
};

use super::Role;

/// Linked nodes of one consortium, each of an institution of its own.
pub(crate) struct Line {
    nodes: Vec<CountedNode>,
    dir: TempDir,
    certificates: AtomicUsize,
}

/// A node that has a thread for itself.
struct CountedNode {
    institution: Institution,
    addresses: Addresses,
    orders: mpsc::Sender<Order>,
    thread: Option<JoinHandle<()>>,
}

/// To count what the node allocates from now on, until told that it is enough.
struct Order {
    operation: Operation,
    units: u64,
    begun: oneshot::Sender<()>,
    enough: oneshot::Receiver<()>,
    counted: oneshot::Sender<()>,
}

/// Counting under way at all nodes.
pub(crate) struct Counting(Vec<(oneshot::Sender<()>, oneshot::Receiver<()>)>);

impl Line {
    /// Starts them with the default configuration and waits until each knows all.
    pub(crate) async fn start(nodes: usize) -> Self {
        let consortium = Consortium::new();
        let dir = tempfile::tempdir().expect("a directory");
        let mut line = Self { nodes: Vec::new(), dir, certificates: AtomicUsize::new(0) };
        for index in 0..nodes {
            let institution = consortium.institution(&format!("bank-{index}"));
            let leaf = institution.node(&format!("node-{index}"));
            let credentials =
                Credentials::new(&[leaf.root()], leaf.chain(), leaf.key()).expect("credentials");
            let mut config = Config::defaults(line.dir.path());
            config.client_port.listeners[0].listen = ([127, 0, 0, 1], 0).into();
            config.overlay.listen = ([127, 0, 0, 1], 0).into();
            config.admin.listen = ([127, 0, 0, 1], 0).into();
            config.overlay.peers = line.nodes.last().map(|last| last.addresses.overlay).into_iter().collect();
            line.nodes.push(CountedNode::start(institution, config, credentials).await);
        }
        for node in &line.nodes {
            wait::until("all nodes to be linked", async || {
                admin::status(node.admin()).await.expect("the admin port answers").nodes == nodes - 1
            })
            .await;
        }
        line
    }

    /// A new client at the node at `index`.
    pub(crate) async fn client(&self, index: usize) -> Client {
        let node = &self.nodes[index];
        let certificate = self.certificate(&node.institution);
        let options = Options::new([node.addresses.channel.to_string()], certificate);
        Client::connect(options).await.expect("a connection")
    }

    fn certificate(&self, institution: &Institution) -> PathBuf {
        let name = format!("client-{}", self.certificates.fetch_add(1, Ordering::Relaxed));
        let dir = self.dir.path().join(&name);
        institution.client(&name).write_client_dir(&dir);
        dir
    }

    /// Begins to count at each node; `units` is what its figures are per.
    pub(crate) async fn count(&self, session: &Session, units: impl Fn(usize) -> u64) -> Counting {
        let mut counting = Vec::new();
        for (index, node) in self.nodes.iter().enumerate() {
            let (begun, has_begun) = oneshot::channel();
            let (is_enough, enough) = oneshot::channel();
            let (counted, is_counted) = oneshot::channel();
            let operation = session.operation(self.role(index).to_string());
            let order = Order { operation, units: units(index), begun, enough, counted };
            node.orders.send(order).await.expect("the node runs");
            has_begun.await.expect("the node runs");
            counting.push((is_enough, is_counted));
        }
        Counting(counting)
    }

    fn role(&self, index: usize) -> Role {
        match index {
            0 => Role::Origin,
            last if last == self.nodes.len() - 1 => Role::Destination,
            _ => Role::Relay,
        }
    }
}

impl Counting {
    /// Ends it.
    pub(crate) async fn end(self) {
        for (enough, counted) in self.0 {
            enough.send(()).expect("the node runs");
            counted.await.expect("the node runs");
        }
    }
}

impl CountedNode {
    async fn start(institution: Institution, config: Config, credentials: Credentials) -> Self {
        let (started, has_started) = oneshot::channel();
        let (orders, received) = mpsc::channel(1);
        let run = move || run(config, credentials, started, received);
        let thread = std::thread::Builder::new().name("node".into()).spawn(run).expect("a thread");
        let addresses = has_started.await.expect("it starts");
        Self { institution, addresses, orders, thread: Some(thread) }
    }

    fn admin(&self) -> SocketAddr {
        self.addresses.admin.expect("an admin port")
    }
}

impl Drop for CountedNode {
    fn drop(&mut self) {
        // No more orders: so it stops.
        self.orders = mpsc::channel(1).0;
        if let Some(thread) = self.thread.take() {
            // A node that has panicked has said so.
            let _ = thread.join();
        }
    }
}

/// One node, on this thread alone.
fn run(
    config: Config,
    credentials: Credentials,
    started: oneshot::Sender<Addresses>,
    mut orders: mpsc::Receiver<Order>,
) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut node = runtime.block_on(Node::start(config, credentials)).expect("a node");
    started.send(node.addresses().clone()).expect("somebody waits");
    while let Some(order) = runtime.block_on(orders.recv()) {
        let counting = order.operation.measure_thread().no_peak().iterations(order.units);
        order.begun.send(()).expect("somebody waits");
        let _ = runtime.block_on(order.enough);
        drop(counting);
        order.counted.send(()).expect("somebody waits");
    }
    runtime.block_on(node.shutdown());
}

/// Allocations and their bytes, per message or delivery.
pub(crate) fn per_unit(session: &Session, role: Role) -> (f64, f64) {
    let (name, report) = (role.to_string(), session.to_report());
    let (_, counted) = report.operations().find(|(of, _)| *of == name).expect("it was counted");
    let units = counted.total_iterations() as f64;
    (counted.total_allocations_count() as f64 / units, counted.total_bytes_allocated() as f64 / units)
}
