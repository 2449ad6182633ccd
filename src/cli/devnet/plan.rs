//! Who there is, where they listen, who is linked to whom.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use clap::ValueEnum;
use rand::RngExt;

use crate::identity::Profile;

/// Where client ports begin when nothing is said, as FISCO BCOS has it.
pub(super) const DEFAULT_BASE_PORT: u16 = 20_200;
/// From a node's client port to its overlay port.
const TO_OVERLAY: u16 = 10_100;
/// From a node's client port to its admin port.
const TO_ADMIN: u16 = 100;
/// More processes than this help nobody on one machine, and client ports must not meet admin ports.
pub(in crate::cli) const MAX_NODES: u16 = TO_ADMIN;
/// Free ports are looked for below the range from which systems take ports of outgoing
/// connections, so that a node that died finds its ports free again.
const FREE_PORTS: std::ops::Range<u16> = 10_240..32_000;
/// How many ports are tried for one that is free.
const TRIES: usize = 1_000;

/// Who is linked to whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Topology {
    /// Each with the next: messages are relayed
    #[default]
    Line,
    /// A line whose ends are linked: one link may fail
    Ring,
    /// Each with each
    Full,
    /// All with the first
    Star,
}

/// A devnet before it exists.
#[derive(Debug)]
pub(super) struct Plan {
    /// In order: `node-1` first.
    pub(super) nodes: Vec<Node>,
    /// Pairs of indices, the lower one first; the lower one is dialled.
    pub(super) links: Vec<(usize, usize)>,
    /// The certificates of the client ports, and of clients.
    pub(super) profile: Profile,
    /// Clients of each node at most; `None`: the default.
    pub(super) max_clients: Option<usize>,
}

/// A node before it exists.
#[derive(Debug)]
pub(super) struct Node {
    /// Its place in [`Plan::nodes`].
    pub(super) index: usize,
    /// `node-1`, …
    pub(super) name: String,
    /// `bank-a`, …
    pub(super) institution: String,
    /// Client port.
    pub(super) channel: SocketAddr,
    /// Overlay port.
    pub(super) overlay: SocketAddr,
    /// Admin port.
    pub(super) admin: SocketAddr,
}

impl Plan {
    /// Plans `count` nodes; a base port of 0 takes any ports that are free.
    pub(super) fn new(
        count: u16,
        topology: Topology,
        profile: Profile,
        base_port: u16,
    ) -> anyhow::Result<Self> {
        let ports = if base_port == 0 { free_ports(count)? } else { consecutive_ports(count, base_port)? };
        let nodes = ports
            .into_iter()
            .enumerate()
            .map(|(index, [channel, overlay, admin])| Node {
                index,
                name: format!("node-{}", index + 1),
                institution: institution(index),
                channel,
                overlay,
                admin,
            })
            .collect();
        Ok(Self { nodes, links: topology.links(count.into()), profile, max_clients: None })
    }

    /// The nodes that the node at `index` is linked to.
    pub(super) fn neighbours(&self, index: usize) -> impl Iterator<Item = &Node> {
        self.links.iter().filter_map(move |&(low, high)| match index {
            _ if index == low => self.nodes.get(high),
            _ if index == high => self.nodes.get(low),
            _ => None,
        })
    }

    /// The nodes that the node at `index` dials.
    pub(super) fn dialled_by(&self, index: usize) -> impl Iterator<Item = &Node> {
        self.neighbours(index).filter(move |peer| peer.index < index)
    }
}

impl Topology {
    fn links(self, count: usize) -> Vec<(usize, usize)> {
        let line = (1..count).map(|high| (high - 1, high));
        match self {
            Self::Line => line.collect(),
            // A ring of two is a line: there is at most one link between two nodes.
            Self::Ring => line.chain((count > 2).then(|| (0, count - 1))).collect(),
            Self::Full => (0..count).flat_map(|low| (low + 1..count).map(move |high| (low, high))).collect(),
            Self::Star => (1..count).map(|high| (0, high)).collect(),
        }
    }
}

/// `bank-a` to `bank-z`, then `bank-aa` and so on.
fn institution(index: usize) -> String {
    let letter = |n: usize| char::from(b'a' + (n % 26) as u8);
    match index / 26 {
        0 => format!("bank-{}", letter(index)),
        round => format!("bank-{}{}", letter(round - 1), letter(index)),
    }
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn consecutive_ports(count: u16, base: u16) -> anyhow::Result<Vec<[SocketAddr; 3]>> {
    let highest = u16::MAX - TO_OVERLAY - (count - 1);
    if base > highest {
        anyhow::bail!(
            "--base-port {base} leaves no room for {count} nodes (overlay ports begin {TO_OVERLAY} higher); use at most {highest}, or 0 for any free ports"
        );
    }
    let ports: Vec<[SocketAddr; 3]> =
        (base..base + count).map(|port| [port, port + TO_OVERLAY, port + TO_ADMIN].map(loopback)).collect();
    for address in ports.iter().flatten() {
        if let Err(error) = TcpListener::bind(address) {
            return Err(anyhow::Error::new(error).context(format!(
                "cannot listen on {address}: is another devnet or node running? --base-port 0 takes any free ports"
            )));
        }
    }
    Ok(ports)
}

/// Ports that are free now. All are held until the last is found, so that none comes twice.
fn free_ports(count: u16) -> anyhow::Result<Vec<[SocketAddr; 3]>> {
    let mut rng = rand::rng();
    let mut held = Vec::new();
    for _ in 0..TRIES + 3 * usize::from(count) {
        if held.len() == 3 * usize::from(count) {
            break;
        }
        held.extend(TcpListener::bind(loopback(rng.random_range(FREE_PORTS))));
    }
    let addresses: Vec<SocketAddr> = held.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?;
    if addresses.len() < 3 * usize::from(count) {
        anyhow::bail!("cannot find {} free ports on 127.0.0.1", 3 * count);
    }
    Ok(addresses.as_chunks().0.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(topology: Topology, count: usize, links: &[(usize, usize)]) {
        assert_eq!(topology.links(count), links, "{topology:?} of {count}");
    }

    #[test]
    fn links_follow_the_topology() {
        check(Topology::Line, 4, &[(0, 1), (1, 2), (2, 3)]);
        check(Topology::Ring, 4, &[(0, 1), (1, 2), (2, 3), (0, 3)]);
        check(Topology::Ring, 2, &[(0, 1)]);
        check(Topology::Full, 3, &[(0, 1), (0, 2), (1, 2)]);
        check(Topology::Star, 4, &[(0, 1), (0, 2), (0, 3)]);
        for topology in [Topology::Line, Topology::Ring, Topology::Full, Topology::Star] {
            check(topology, 1, &[]);
        }
    }

    #[test]
    fn each_link_is_dialled_by_one_end() {
        let plan = Plan::new(4, Topology::Ring, Profile::Default, 0).expect("free ports");
        let dials: usize = (0..4).map(|index| plan.dialled_by(index).count()).sum();
        assert_eq!(dials, plan.links.len());
        assert_eq!(plan.neighbours(0).map(|node| node.index).collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn institutions_never_repeat() {
        let names: std::collections::BTreeSet<String> = (0..100).map(institution).collect();
        assert_eq!(names.len(), 100);
        assert_eq!([institution(0), institution(26)], ["bank-a", "bank-aa"]);
    }

    #[test]
    fn a_taken_port_is_named_with_the_way_out() {
        let plan = Plan::new(1, Topology::Line, Profile::Default, 0).expect("free ports");
        let base = plan.nodes[0].channel.port();
        let _taken = TcpListener::bind(plan.nodes[0].channel).expect("free");
        let error = Plan::new(1, Topology::Line, Profile::Default, base).expect_err("taken").to_string();
        assert!(error.contains(&base.to_string()) && error.contains("--base-port 0"), "{error}");
        assert!(
            Plan::new(3, Topology::Line, Profile::Default, 65_000)
                .expect_err("no room")
                .to_string()
                .contains("at most 55433")
        );
    }
}
