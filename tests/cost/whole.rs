//! Instructions of whole nodes, from the system call that reads to the one that writes, TLS included.
//!
//! Real `amop node` processes under callgrind, with clients that are not. Without bounds, and not in CI: how many frames
//! come in one read, and how often a thread looks for work in vain, differs with what else the machine does, by up to a
//! tenth. It is what figures of the core are compared with.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
};

use amop::telemetry::client as admin;
use amop_client::{Client, Options};
use amop_testkit::{
    ca::{Consortium, Institution},
    process::{NodeProcess, amop},
    wait,
};
use tempfile::TempDir;

use super::{say, work::Work};

/// Prints what each node takes of each work.
pub(crate) fn show() {
    say(format_args!("{:<46} INSTRUCTIONS OF EACH NODE, PER MESSAGE OR DELIVERY", "WORK"));
    for work in [
        Work::request(2, 1),
        Work::request(3, 1),
        Work::multicast(2, 1),
        Work::request(2, 64),
        Work::request(3, 64),
        Work::multicast(2, 64),
    ] {
        let counted: Vec<_> = count(work).iter().map(|node| format!("{node:9.0}")).collect();
        say(format_args!("{:<46} {}", work.to_string(), counted.join(" ")));
    }
}

/// Instructions of each node of the work, per message, or per delivery where receivers are.
fn count(work: Work) -> Vec<f64> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let mut counted = Vec::new();
    runtime.expect("a runtime").block_on(async {
        let line = Line::start(work.nodes).await;
        let begin = async || line.nodes.iter().for_each(|node| node.order("-z"));
        let end = async |()| counted = line.nodes.iter().map(Node::counted).collect();
        work.run(async |index| line.client(index).await, begin, end).await;
    });
    counted.iter().enumerate().map(|(index, all)| *all as f64 / work.units(index) as f64).collect()
}

/// Linked nodes of one consortium, each of an institution of its own.
struct Line {
    nodes: Vec<Node>,
    dir: TempDir,
    certificates: AtomicUsize,
}

struct Node {
    institution: Institution,
    process: NodeProcess,
    dir: PathBuf,
}

impl Line {
    async fn start(nodes: usize) -> Self {
        let consortium = Consortium::new();
        let dir = tempfile::tempdir().expect("a directory");
        let mut line = Self { nodes: Vec::new(), dir, certificates: AtomicUsize::new(0) };
        for index in 0..nodes {
            let institution = consortium.institution(&format!("bank-{index}"));
            let dir = line.dir.path().join(format!("node-{index}"));
            institution.node(&format!("node-{index}")).write_node_dir(&dir);
            let peer =
                line.nodes.last().map(|last| format!("{:?}", last.process.port("overlay").to_string()));
            let peers = format!("overlay.peers = [{}]", peer.unwrap_or_default());
            let process = NodeProcess::start_by(counted(&dir), &dir, &peers);
            line.nodes.push(Node { institution, process, dir });
        }
        for node in &line.nodes {
            wait::until("all nodes to be linked", async || {
                let status = admin::status(node.process.port("admin")).await;
                status.expect("the admin port answers").nodes == nodes - 1
            })
            .await;
        }
        line
    }

    async fn client(&self, index: usize) -> Client {
        let node = &self.nodes[index];
        let name = format!("client-{}", self.certificates.fetch_add(1, Ordering::Relaxed));
        let dir = self.dir.path().join(&name);
        node.institution.client(&name).write_client_dir(&dir);
        let options = Options::new([node.process.port("channel").to_string()], dir);
        Client::connect(options).await.expect("a connection")
    }
}

impl Node {
    /// What has been counted since the counts were set to zero.
    fn counted(&self) -> u64 {
        self.order("-d");
        let counts = fs::read_to_string(self.dir.join("counts.1")).expect("what callgrind wrote");
        let totals = counts.lines().find_map(|line| line.strip_prefix("totals: "));
        totals.expect("a sum").trim().parse().expect("a number")
    }

    fn order(&self, what: &str) {
        let pid = self.process.child.id().to_string();
        let told = Command::new("callgrind_control").args([what, &pid]).output();
        let told = told.expect("callgrind_control, which comes with valgrind");
        assert!(
            told.status.success(),
            "callgrind takes no orders: {}",
            String::from_utf8_lossy(&told.stderr)
        );
    }
}

/// The program, counted.
fn counted(dir: &Path) -> Command {
    let mut command = Command::new("valgrind");
    command.arg("--tool=callgrind").arg(format!("--callgrind-out-file={}", dir.join("counts").display()));
    command.arg(amop().get_program());
    command
}
