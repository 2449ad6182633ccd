//! Two institutions with a node each, as `amop devnet --nodes 2` makes them: certificates, processes, ports.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
};

use amop::telemetry::client as admin;
use amop_client::{Client, Options};
use amop_testkit::{
    ca::{Consortium, Institution},
    wait,
};
use anyhow::Context;
use tempfile::TempDir;
use tokio::process::Command;

use crate::process::{Process, Usage, amop, own};

/// Free ports are looked for below those that systems give to outgoing connections, so that a
/// node that was killed finds its ports free again.
const PORTS: std::ops::Range<u16> = 10_240..32_000;
const TRIES: usize = 1_000;
/// The names of what a node listens on, in its configuration.
const SECTIONS: [&str; 3] = ["client_port", "overlay", "admin"];

/// A slow line between the nodes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slow {
    /// Bytes a second, each way.
    pub(crate) rate: u64,
    /// Milliseconds each way.
    pub(crate) delay_ms: u64,
}

pub(crate) struct Net {
    pub(crate) nodes: [Node; 2],
    institutions: [Institution; 2],
    _line: Option<Process>,
    dir: TempDir,
}

/// A node's process; killed when dropped.
pub(crate) struct Node {
    dir: PathBuf,
    child: tokio::process::Child,
    pub(crate) channel: SocketAddr,
    admin: SocketAddr,
    pub(crate) usage: Usage,
}

impl Net {
    /// Starts both nodes, below `dir`, and waits until they are linked.
    pub(crate) async fn start(dir: &Path, slow: Option<Slow>) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir_in(dir)?;
        let consortium = Consortium::new();
        let institutions = ["bank-a", "bank-b"].map(|name| consortium.institution(name));
        let dirs = [1, 2].map(|number| dir.path().join(format!("node-{number}")));
        for (index, node) in dirs.iter().enumerate() {
            institutions[index].node(&format!("node-{}", index + 1)).write_node_dir(node);
        }
        let [ports_a, ports_b] = [free_ports()?, free_ports()?];
        let mut reached = ports_a[1];
        let mut line = None;
        if let Some(Slow { rate, delay_ms }) = slow {
            let mut command = own()?;
            command.arg("line").arg(reached.to_string()).arg(rate.to_string()).arg(delay_ms.to_string());
            let mut process = Process::start("the slow line", command, &dir.path().join("line.errors"))?;
            let at = process.event("listening").await?;
            reached = at["at"].as_str().context("an address")?.parse()?;
            line = Some(process);
        }
        let [dir_a, dir_b] = dirs;
        let nodes = [
            Node::start(dir_a, ports_a, "").await?,
            Node::start(dir_b, ports_b, &format!("peers = [\"{reached}\"]\n")).await?,
        ];
        let net = Self { nodes, institutions, _line: line, dir };
        net.linked().await?;
        Ok(net)
    }

    /// Waits until each node reaches the other.
    pub(crate) async fn linked(&self) -> anyhow::Result<()> {
        for node in &self.nodes {
            let reaches = async || admin::status(node.admin).await.is_ok_and(|status| status.nodes == 1);
            wait::until("the nodes to be linked", reaches).await;
        }
        Ok(())
    }

    /// Where files and what programs complain about go.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Certificates of a client of this node's institution, made when first asked for.
    pub(crate) fn certs(&self, node: usize, name: &str) -> PathBuf {
        let dir = self.dir.path().join(name);
        if !dir.exists() {
            self.institutions[node].client(name).write_client_dir(&dir);
        }
        dir
    }

    /// A client in this process.
    pub(crate) async fn client(&self, node: usize, name: &str) -> anyhow::Result<Client> {
        let options = Options::new([self.nodes[node].channel.to_string()], self.certs(node, name));
        Ok(Client::connect(options).await?)
    }
}

impl Node {
    async fn start(dir: PathBuf, ports: [SocketAddr; 3], overlay: &str) -> anyhow::Result<Self> {
        let mut config = String::new();
        for (section, port) in SECTIONS.iter().zip(ports) {
            let more = if *section == "overlay" { overlay } else { "" };
            config += &format!("[{section}]\nlisten = \"{port}\"\n{more}");
        }
        fs::write(dir.join("amop.toml"), config)?;
        let child = spawn(&dir)?;
        let usage = Usage::of(child.id().context("a process that was just started has an id")?);
        let [channel, _, admin] = ports;
        let node = Self { dir, child, channel, admin, usage };
        node.ready().await;
        Ok(node)
    }

    /// Kills it with SIGKILL, and waits until it is gone.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Starts it again: the same configuration, the same ports.
    pub(crate) async fn restart(&mut self) -> anyhow::Result<()> {
        self.child = spawn(&self.dir)?;
        self.usage = Usage::of(self.child.id().context("a process that was just started has an id")?);
        self.ready().await;
        Ok(())
    }

    async fn ready(&self) {
        let ready = async || admin::get(self.admin, "/readyz").await.is_ok();
        wait::until("a serving node", ready).await;
    }
}

fn spawn(dir: &Path) -> anyhow::Result<tokio::process::Child> {
    let log = File::options().create(true).append(true).open(dir.join("node.log"))?;
    let mut command: Command = amop();
    command.arg("node").arg("--config").arg(dir.join("amop.toml"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
    command.spawn().context("cannot start a node")
}

/// Three addresses that nobody listens on.
fn free_ports() -> anyhow::Result<[SocketAddr; 3]> {
    let mut held = Vec::new();
    for _ in 0..TRIES {
        let port = rand::random_range(PORTS);
        held.extend(TcpListener::bind(("127.0.0.1", port)));
        if let [a, b, c] = &held[..] {
            return Ok([a.local_addr()?, b.local_addr()?, c.local_addr()?]);
        }
    }
    anyhow::bail!("no free ports found")
}
