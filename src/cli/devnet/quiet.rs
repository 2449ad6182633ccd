//! A devnet for other commands: in a directory of its own, without a word, gone when it is stopped or dropped.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Context;
use tempfile::TempDir;

use crate::{
    cli::devnet::{
        layout::Layout,
        nodes::Nodes,
        plan::{Node, Plan, Topology},
    },
    identity::Profile,
};

/// Nodes in a line, each a process of its own.
pub(in crate::cli) struct Quiet {
    // Dropped in this order: processes first, then what they have on disk.
    nodes: Nodes,
    plan: Plan,
    layout: Layout,
    _dir: TempDir,
}

/// Where clients of a node connect, and as whom.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Endpoint {
    /// The node's client port.
    pub(in crate::cli) node: SocketAddr,
    /// Certificates of a client of its institution.
    pub(in crate::cli) certs: PathBuf,
}

impl Quiet {
    /// Starts `count` nodes in a line, each for so many clients, and waits until they serve.
    ///
    /// # Errors
    /// When a node cannot be started, or they do not find each other.
    pub(in crate::cli) async fn start(count: u16, max_clients: Option<usize>) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("amop-bench")
            .tempdir()
            .context("cannot make a directory for the nodes; set TMPDIR to one that can be written")?;
        let plan = Plan { max_clients, ..Plan::new(count, Topology::Line, Profile::Default, 0)? };
        let layout = Layout::create(dir.path(), &plan)?;
        let program = std::env::current_exe().context("cannot find out which program this is")?;
        let nodes = Nodes::start(&program, &layout, &plan)?;
        let mut quiet = Self { nodes, plan, layout, _dir: dir };
        quiet.nodes.linked(&quiet.plan).await?;
        Ok(quiet)
    }

    /// For clients, in the order of the nodes.
    pub(in crate::cli) fn endpoints(&self) -> Vec<Endpoint> {
        let endpoint = |node: &Node| Endpoint { node: node.channel, certs: self.layout.client_dir(node) };
        self.plan.nodes.iter().map(endpoint).collect()
    }

    /// The processes, in the order of the nodes.
    pub(in crate::cli) fn pids(&self) -> Vec<u32> {
        let known = self.nodes.identities();
        self.plan.nodes.iter().filter_map(|node| Some(known.get(node.name.as_str())?.pid)).collect()
    }

    /// Resolves when a node has died, with which and how. Cancel safe.
    pub(in crate::cli) async fn died(&mut self) -> String {
        let exit = self.nodes.died().await;
        format!("{} has died: {}", exit.name, exit.how)
    }

    /// Stops all nodes in order; kills what is left after their grace, or at once when `hurry` resolves.
    /// Returns those that did not stop in order, and how.
    pub(in crate::cli) async fn stop(self, hurry: impl Future<Output = ()>) -> Vec<String> {
        let exits = self.nodes.stop(hurry).await;
        exits.into_iter().map(|exit| format!("{} {}", exit.name, exit.how)).collect()
    }
}
