//! The status API's types: written by a node, read by `amop status`, `topics`, `peers` and `devnet`.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Where a node's state comes from when the admin port is asked. Calls must be quick and must
/// not wait for a busy task: the admin port answers under load.
pub trait StatusSource: Send + Sync + 'static {
    /// The node at a glance.
    fn status(&self) -> Status;
    /// All other nodes that are reachable now, neighbours and beyond.
    fn peers(&self) -> Vec<Peer>;
    /// All topics that have a subscriber anywhere, in order of name.
    fn topics(&self) -> Vec<Topic>;
}

/// A node at a glance: `/v1/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The name in its certificate.
    pub name: String,
    /// The institution that issued the certificate.
    pub institution: String,
    /// The public key as SDKs see it: 128 hex digits.
    pub node_id: String,
    /// New and higher at every start.
    pub epoch: u64,
    /// The program's version.
    pub version: String,
    /// Seconds since the node began to serve.
    pub uptime_seconds: u64,
    /// Where it listens.
    pub addresses: Addresses,
    /// Links to neighbours that are up.
    pub links: usize,
    /// Other nodes it reaches.
    pub nodes: usize,
    /// Client sessions.
    pub clients: usize,
    /// Different topics its own clients have.
    pub topics: usize,
    /// Whether it takes new messages; false while it starts and while it drains.
    pub ready: bool,
}

/// Where a node listens, ports as they were bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// Where clients connect (channel protocol): the first of `listeners`.
    pub channel: SocketAddr,
    /// Everywhere clients connect, at least one.
    pub listeners: Vec<Listener>,
    /// The overlay port.
    pub overlay: SocketAddr,
    /// The admin port, if there is one.
    pub admin: Option<SocketAddr>,
}

/// A port for clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Where it listens.
    pub address: SocketAddr,
    /// The kind of certificates: `default`, `fisco-rsa` or `fisco-ec`.
    pub profile: String,
}

/// A reachable node: `/v1/peers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// 128 hex digits.
    pub node_id: String,
    /// The name in its certificate.
    pub name: String,
    /// The institution that issued the certificate.
    pub institution: String,
    /// Links on the way; 1 is a neighbour.
    pub hops: u32,
    /// The neighbour that messages go through; `None` for a neighbour.
    pub via: Option<String>,
    /// Round-trip time in microseconds, measured towards neighbours only.
    pub round_trip_us: Option<u64>,
}

/// A topic with subscribers: `/v1/topics`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// Its name.
    pub topic: String,
    /// Sessions on this node that have it.
    pub local_sessions: usize,
    /// Other nodes where it is subscribed.
    pub nodes: Vec<TopicNode>,
}

/// Where a topic is subscribed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicNode {
    /// 128 hex digits.
    pub node_id: String,
    /// The node's name.
    pub name: String,
    /// Sessions there that have the topic.
    pub subscribers: u32,
}
