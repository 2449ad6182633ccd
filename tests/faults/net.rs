//! Nodes as processes, and the lines between them.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use amop::telemetry::{client as admin, status::Status};
use amop_client::{Client, Options};
use amop_testkit::{
    ca::{Consortium, Institution},
    process::{NodeProcess, amop},
    wait,
};
use tempfile::TempDir;
use tokio::{
    sync::{Mutex, MutexGuard},
    task::block_in_place,
};

use crate::proxy::Proxy;

/// Scenarios run one after the other: their figures are of a machine that does nothing else.
pub(crate) static TURN: Mutex<()> = Mutex::const_new(());

/// A consortium in which every institution has one node: the first `bank-0` with `node-0`.
pub(crate) struct Net {
    pub(crate) nodes: Vec<Node>,
    /// The nodes at their ends, the one that dials first.
    lines: Vec<([usize; 2], Proxy)>,
    dir: TempDir,
    certificates: AtomicUsize,
    _turn: MutexGuard<'static, ()>,
}

pub(crate) struct Node {
    institution: Institution,
    dir: PathBuf,
    /// Its configuration but for its ports, which it keeps when it is restarted.
    config: String,
    process: Option<NodeProcess>,
    pub(crate) channel: SocketAddr,
    overlay: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Net {
    /// Four nodes in a ring.
    pub(crate) async fn ring() -> Self {
        Self::new(4, true, Duration::ZERO).await
    }

    /// Four nodes in a ring of slow lines. A line that becomes slow later is another thing: until yamux measures it
    /// again, after up to 10 s, large messages take several round trips on it.
    pub(crate) async fn slow_ring(delay: Duration) -> Self {
        Self::new(4, true, delay).await
    }

    /// Nodes in a line.
    pub(crate) async fn line(nodes: usize) -> Self {
        Self::new(nodes, false, Duration::ZERO).await
    }

    /// Nodes in a line of slow lines.
    pub(crate) async fn slow_line(nodes: usize, delay: Duration) -> Self {
        Self::new(nodes, false, delay).await
    }

    async fn new(nodes: usize, closed: bool, delay: Duration) -> Self {
        let turn = TURN.lock().await;
        let consortium = Consortium::new();
        let dir = tempfile::tempdir().expect("a directory");
        let certificates = AtomicUsize::new(0);
        let mut net = Self { nodes: Vec::new(), lines: Vec::new(), dir, certificates, _turn: turn };
        for index in 0..nodes {
            let before = index.checked_sub(1);
            let first = (closed && index > 1 && index == nodes - 1).then_some(0);
            let mut peers = Vec::new();
            for other in before.into_iter().chain(first) {
                let line = Proxy::new(net.nodes[other].overlay).await;
                line.change(|weather| weather.delay = delay);
                peers.push(line.address.to_string());
                net.lines.push(([index, other], line));
            }
            let institution = consortium.institution(&format!("bank-{index}"));
            let dir = net.dir.path().join(format!("node-{index}"));
            institution.node(&format!("node-{index}")).write_node_dir(&dir);
            net.nodes.push(Node::start(institution, dir, format!("overlay.peers = {peers:?}\n")));
        }
        net.linked().await;
        net
    }

    /// Waits until every running node has its links to running nodes and reaches all of them.
    /// Says how long that took.
    pub(crate) async fn linked(&self) -> Duration {
        let began = Instant::now();
        let others = self.nodes.iter().filter(|node| node.runs()).count() - 1;
        for (index, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.runs()) {
            let links = self
                .lines
                .iter()
                .filter(|(ends, _)| ends.contains(&index) && ends.iter().all(|end| self.nodes[*end].runs()));
            let links = links.count();
            wait::until("all nodes to be linked", async || {
                admin::status(node.admin)
                    .await
                    .is_ok_and(|status| (status.links, status.nodes) == (links, others))
            })
            .await;
        }
        began.elapsed()
    }

    /// Waits until each of these nodes has lost a link.
    pub(crate) async fn lost_links(&self, nodes: &[usize]) {
        for index in nodes {
            let links = self.lines.iter().filter(|(ends, _)| ends.contains(index)).count();
            let fewer = async || self.nodes[*index].status().await.links < links;
            wait::until("a lost link", fewer).await;
        }
    }

    /// Cuts a line, and waits until there is a new link over it.
    pub(crate) async fn cut(&self, line: usize) {
        let ([dialler, _], proxy) = &self.lines[line];
        let opened = async || self.nodes[*dialler].counted("overlay_links_opened").await;
        let before = opened().await;
        proxy.reset();
        wait::until("a new link", async || opened().await > before).await;
    }

    /// All lines.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &Proxy> {
        self.lines.iter().map(|(_, line)| line)
    }

    /// The line between two nodes, and whether the first of them dialled it.
    pub(crate) fn between(&self, one: usize, other: usize) -> (&Proxy, bool) {
        let found = self.lines.iter().find(|(ends, _)| ends.contains(&one) && ends.contains(&other));
        let (ends, line) = found.expect("a line between them");
        (line, ends[0] == one)
    }

    /// The neighbour through which messages from one node to another go.
    pub(crate) async fn via(&self, from: usize, to: usize) -> usize {
        let name = format!("node-{to}");
        let peers = admin::peers(self.nodes[from].admin).await.expect("the admin port answers");
        let via = peers.into_iter().find(|peer| peer.name == name).expect("reachable").via.expect("a relay");
        let index = via.strip_prefix("node-").and_then(|index| index.parse().ok());
        index.expect("one of ours")
    }

    /// A new client of the institution at the first of these nodes, which it connects to in turn.
    pub(crate) async fn client(&self, nodes: &[usize]) -> Client {
        let dir = self.certificate(nodes[0]);
        let addresses = nodes.iter().map(|index| self.nodes[*index].channel.to_string());
        Client::connect(Options::new(addresses, dir)).await.expect("a connection")
    }

    /// The directory with the certificate of a new client of a node's institution.
    pub(crate) fn certificate(&self, node: usize) -> PathBuf {
        let name = format!("client-{}", self.certificates.fetch_add(1, Ordering::Relaxed));
        let dir = self.dir.path().join(&name);
        self.nodes[node].institution.client(&name).write_client_dir(&dir);
        dir
    }
}

impl Node {
    fn start(institution: Institution, dir: PathBuf, config: String) -> Self {
        let process = block_in_place(|| NodeProcess::start(&dir, &config));
        let [channel, overlay, admin] = ["channel", "overlay", "admin"].map(|name| process.port(name));
        Self { institution, dir, config, process: Some(process), channel, overlay, admin }
    }

    fn runs(&self) -> bool {
        self.process.is_some()
    }

    pub(crate) async fn status(&self) -> Status {
        admin::status(self.admin).await.expect("the admin port answers")
    }

    /// The counter of this name, without its `amop_` and `_total`.
    pub(crate) async fn counted(&self, name: &str) -> u64 {
        let page = admin::get(self.admin, "/metrics").await.expect("the admin port answers");
        let (text, name) = (String::from_utf8_lossy(&page), format!("amop_{name}_total "));
        let value = text.lines().find_map(|line| line.strip_prefix(&name));
        value.expect("such a counter").parse().expect("a number")
    }

    /// Whether it knows a subscriber of the topic.
    pub(crate) async fn knows(&self, topic: &str) -> bool {
        let topics = admin::topics(self.admin).await.expect("the admin port answers");
        topics.iter().any(|known| known.topic == topic)
    }

    /// Sends the process a signal.
    pub(crate) fn signal(&self, signal: &str) {
        self.process.as_ref().expect("it runs").send(signal);
    }

    /// Kills the process, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.send("-KILL");
        block_in_place(|| process.end());
    }

    /// Stops the process in order. It must say that it did.
    pub(crate) fn stop(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.send("-TERM");
        let status = block_in_place(|| process.end());
        assert_eq!(status.code(), Some(0), "the node did not stop in order");
    }

    /// Starts the process again, on the same ports, and waits until it serves.
    pub(crate) async fn restart(&mut self) {
        self.restart_as(amop()).await;
    }

    /// As [`Node::restart`], with another program.
    pub(crate) async fn restart_as(&mut self, program: Command) {
        let config = self.fixed("");
        self.process = Some(block_in_place(|| NodeProcess::start_by(program, &self.dir, &config)));
    }

    /// The versions of the overlay protocol that it has spoken with neighbours since it was started, as it says.
    pub(crate) fn versions_spoken(&self) -> impl Iterator<Item = u64> {
        let lines = self.process.as_ref().expect("it runs").lines_of("link up");
        lines.into_iter().map(|line| line["fields"]["version"].as_u64().expect("a number"))
    }

    /// As [`Node::restart`], run by `command` if one is given, with this for standard error, and
    /// `more` configuration.
    pub(crate) async fn restart_by(&mut self, command: Option<Command>, errors: Stdio, more: &str) {
        let command = command.unwrap_or_else(amop);
        self.process = Some(NodeProcess::spawn_by(command, &self.dir, &self.fixed(more), errors));
        wait::until("a serving node", async || admin::get(self.admin, "/readyz").await.is_ok()).await;
    }

    fn fixed(&self, more: &str) -> String {
        let Self { channel, overlay, admin, config, .. } = self;
        format!(
            "{config}client_port.listen = \"{channel}\"\noverlay.listen = \"{overlay}\"\nadmin.listen = \"{admin}\"\n{more}"
        )
    }
}

/// Something a test does meanwhile.
#[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
pub(crate) fn spawn<T: Send + 'static>(
    task: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio::spawn(task)
}
