//! The node processes: started, watched, stopped together.
//!
//! Each has a pipe of ours as standard input and ends when that closes
//! ([`STOP_WITH_STDIN`]): so they stop in order when told to, and also when this process is
//! killed and can tell nobody. Each is a process group of its own, so that Ctrl-C reaches us first.

use std::{
    collections::BTreeMap,
    fs::File,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::Context;
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    process::{Child, ChildStdin, Command},
    time::{Instant, sleep, timeout_at},
};

use crate::{
    cli::{
        devnet::{START_TIMEOUT, STOP_TIMEOUT, layout::Layout, plan::Plan},
        node::STOP_WITH_STDIN,
    },
    telemetry::{client, status::Status},
};

/// How often a starting node is asked how far it is.
const POLL: Duration = Duration::from_millis(10);
/// How much of a log is shown when a node cannot start.
const LOG_LINES: usize = 8;

/// The node processes.
pub(super) struct Nodes {
    /// Open as long as a node is to run.
    stdin: BTreeMap<String, ChildStdin>,
    pids: BTreeMap<String, u32>,
    logs: BTreeMap<String, std::path::PathBuf>,
    node_ids: BTreeMap<String, String>,
    exits: FuturesUnordered<BoxFuture<'static, Exit>>,
    kill: tokio_util::sync::CancellationToken,
}

/// A process that has ended.
pub(super) struct Exit {
    /// Which node it was.
    pub(super) name: String,
    /// In words.
    pub(super) how: String,
    graceful: bool,
}

/// What is known of a node only once it runs.
pub(super) struct Identity {
    /// 128 hex digits, as the node itself says.
    pub(super) node_id: String,
    /// Its process.
    pub(super) pid: u32,
}

impl Nodes {
    /// Starts `program node --config …` for every node of the plan.
    pub(super) fn start(program: &Path, layout: &Layout, plan: &Plan) -> anyhow::Result<Self> {
        let mut nodes = Self {
            stdin: BTreeMap::new(),
            pids: BTreeMap::new(),
            logs: BTreeMap::new(),
            node_ids: BTreeMap::new(),
            exits: FuturesUnordered::new(),
            kill: tokio_util::sync::CancellationToken::new(),
        };
        for node in &plan.nodes {
            let log = layout.log(&node.name);
            let mut child = spawn(program, &layout.config(&node.name), &log)
                .with_context(|| format!("cannot start {}", node.name))?;
            nodes.pids.insert(node.name.clone(), child.id().unwrap_or_default());
            nodes.logs.insert(node.name.clone(), log);
            nodes.stdin.extend(child.stdin.take().map(|stdin| (node.name.clone(), stdin)));
            nodes.exits.push(Box::pin(watch(node.name.clone(), child, nodes.kill.clone())));
        }
        Ok(nodes)
    }

    /// Resolves when every node serves and has all its links; fails when one dies before that.
    pub(super) async fn linked(&mut self, plan: &Plan) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        let all = futures::future::join_all(plan.nodes.iter().map(|node| {
            let links = plan.neighbours(node.index).count();
            let others = plan.nodes.len() - 1;
            async move { (node.name.clone(), until_linked(node.admin, links, others).await.node_id) }
        }));
        let linked = tokio::select! {
            biased;
            Some(exit) = self.exits.next() => {
                let log = self.logs.get(&exit.name).map(|path| last_lines(path)).unwrap_or_default();
                anyhow::bail!("{} has not started: {}; the end of its log:\n{log}", exit.name, exit.how);
            }
            linked = timeout_at(deadline, all) => linked,
        };
        let seconds = START_TIMEOUT.as_secs();
        self.node_ids = linked
            .with_context(|| format!("the nodes are not all linked after {seconds} s; see their logs"))?
            .into_iter()
            .collect();
        Ok(())
    }

    /// Process and node id of every node, by name.
    pub(super) fn identities(&self) -> BTreeMap<&str, Identity> {
        self.pids
            .iter()
            .filter_map(|(name, &pid)| {
                let node_id = self.node_ids.get(name)?.clone();
                Some((name.as_str(), Identity { node_id, pid }))
            })
            .collect()
    }

    /// Resolves when a node has died. Cancel safe.
    pub(super) async fn died(&mut self) -> Exit {
        match self.exits.next().await {
            Some(exit) => {
                self.stdin.remove(&exit.name);
                exit
            }
            None => std::future::pending().await,
        }
    }

    /// Stops all nodes together; kills what is left after the grace, or at once when `hurry` resolves.
    /// Returns those that did not stop in order.
    pub(super) async fn stop(mut self, hurry: impl Future<Output = ()>) -> Vec<Exit> {
        self.stdin.clear();
        let kill = self.kill.clone();
        let deadline = async {
            tokio::select! {
                () = hurry => {}
                () = sleep(STOP_TIMEOUT) => {}
            }
            kill.cancel();
            std::future::pending::<()>().await;
        };
        let exits = self.exits.filter(|exit| std::future::ready(!exit.graceful)).collect();
        tokio::select! {
            biased;
            exits = exits => exits,
            () = deadline => Vec::new(),
        }
    }
}

fn spawn(program: &Path, config: &Path, log: &Path) -> anyhow::Result<Child> {
    let log = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let child = Command::new(program)
        .arg("node")
        .arg("--config")
        .arg(config)
        .env(STOP_WITH_STDIN, "1")
        .stdin(Stdio::piped())
        .stdout(log.try_clone().context("cannot share a log file")?)
        .stderr(log)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    Ok(child)
}

async fn watch(name: String, mut child: Child, kill: tokio_util::sync::CancellationToken) -> Exit {
    let status = tokio::select! {
        status = child.wait() => status,
        () = kill.cancelled() => {
            // It fails only if the process has ended already, which is what is wanted.
            let _ = child.start_kill();
            child.wait().await
        }
    };
    match status {
        Ok(status) => Exit { name, how: describe(status), graceful: status.success() },
        Err(error) => Exit { name, how: format!("lost: {error}"), graceful: false },
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

async fn until_linked(admin: std::net::SocketAddr, links: usize, others: usize) -> Status {
    loop {
        match client::status(admin).await {
            Ok(status) if status.ready && status.links >= links && status.nodes >= others => return status,
            _ => sleep(POLL).await,
        }
    }
}

fn last_lines(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}
