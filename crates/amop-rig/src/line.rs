//! Nodes that are started to be measured.

use std::{fs, net::SocketAddr, path::PathBuf, process::Command};

use amop_load::{
    children::{Children, free_addresses},
    system::{Failure, System},
};

use crate::{Node, Nodes};

/// Nodes in a line that can be started: each dials the one before it.
#[derive(Clone, Debug)]
pub struct Line {
    /// Directories with `ca.crt`, `node.crt` and `node.key` each; configuration and log are put there.
    pub nodes: Vec<PathBuf>,
    /// `ca.crt`, `sdk.crt` and `sdk.key` of all clients.
    pub certs: PathBuf,
    /// What runs `amop` with the arguments it is given.
    pub program: Vec<String>,
}

impl System for Line {
    type Cluster = Nodes;

    async fn start(&self) -> Result<Nodes, Failure> {
        let mut ports = free_addresses(3 * self.nodes.len())?;
        let mut children = Children::default();
        let mut nodes = Vec::new();
        let mut before = None;
        for (number, directory) in self.nodes.iter().enumerate() {
            let (Some(client), Some(overlay), Some(admin)) = (ports.pop(), ports.pop(), ports.pop()) else {
                return Err(Failure::new("start", "too few free addresses"));
            };
            let config = directory.join("amop.toml");
            fs::write(&config, config_text(client, overlay, admin, before)).map_err(|error| {
                Failure::new("start", format!("cannot write {}: {error}", config.display()))
            })?;
            let Some((program, arguments)) = self.program.split_first() else {
                return Err(Failure::new("start", "no program that runs a node"));
            };
            let mut command = Command::new(program);
            command.args(arguments).args(["node", "--config"]).arg(&config);
            children.start(&format!("node {number}"), &mut command, &directory.join("node.log"))?;
            nodes.push(Node { address: client.to_string(), certs: self.certs.clone() });
            before = Some(overlay);
        }
        Ok(Nodes::started(nodes, children))
    }
}

fn config_text(
    client: SocketAddr,
    overlay: SocketAddr,
    admin: SocketAddr,
    before: Option<SocketAddr>,
) -> String {
    let peers = before.map(|before| format!("\"{before}\"")).unwrap_or_default();
    format!(
        "client_port.listen = \"{client}\"\nclient_port.max_clients = 20000\nadmin.listen = \"{admin}\"\n\
         [overlay]\nlisten = \"{overlay}\"\npeers = [{peers}]\n"
    )
}
