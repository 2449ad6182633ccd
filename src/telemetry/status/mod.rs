//! The status API's types: written by a node, read by `amop status`, `topics`, `peers`, `routes`,
//! `clients`, `drain`, `reload` and `devnet`.
//!
//! Fields are only ever added, and those that are new have a default when they are read: a command
//! of one version asks nodes of another.

mod source;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

pub use self::source::{Operations, StatusSource};

/// Which part of a long list is asked for: `?prefix=…&after=…&limit=…`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Only what begins so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Only what comes after this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// No more than so many; [`Page::LIMIT`] if it is not said, [`Page::MAX_LIMIT`] at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

impl Page {
    /// Entries of a page where nothing is said.
    pub const LIMIT: usize = 1_000;
    /// Most entries of a page.
    pub const MAX_LIMIT: usize = 10_000;

    /// How many entries there may be.
    pub fn limit(&self) -> usize {
        self.limit.unwrap_or(Self::LIMIT).min(Self::MAX_LIMIT)
    }

    /// Whether something of this name is on the page, or on one that follows.
    pub fn has(&self, name: &str) -> bool {
        self.prefix.as_deref().is_none_or(|prefix| name.starts_with(prefix))
            && self.after.as_deref().is_none_or(|after| name > after)
    }
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
    /// Whether it takes new messages and has a link, if any are configured; false while it drains.
    pub ready: bool,
    /// Why not, if it is not ready.
    #[serde(default)]
    pub not_ready: Vec<String>,
    /// The peers that the configuration names, as they were a second or two ago.
    #[serde(default)]
    pub configured_peers: Vec<ConfiguredPeer>,
    /// Keys of the configuration file whose new values wait for the node's next start.
    #[serde(default)]
    pub at_restart: Vec<String>,
}

/// A peer that the configuration names: of `/v1/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfiguredPeer {
    /// Where it is to be found.
    pub address: String,
    /// How far the node is with it.
    pub state: PeerState,
    /// Attempts in a row that failed.
    pub failures: u32,
    /// Why the last of them did.
    pub error: Option<String>,
}

/// How far a node is with a configured peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerState {
    /// The node that answered there is linked.
    Linked,
    /// It is being dialled, or greeted.
    Dialling,
    /// It is dialled again after a pause.
    Waiting,
    /// It is this very node, and should not be configured.
    Own,
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
    /// The link to a neighbour.
    #[serde(default)]
    pub link: Option<Link>,
}

/// A link to a neighbour that is up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Where the connection goes to, or comes from.
    pub address: SocketAddr,
    /// Seconds since it came up.
    pub up_seconds: u64,
    /// Bytes that wait to be sent.
    pub queued_bytes: u64,
    /// What came.
    pub received: Traffic,
    /// What was sent.
    pub sent: Traffic,
}

/// What passed one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Frames since the link came up.
    pub frames: u64,
    /// Bytes since the link came up.
    pub bytes: u64,
    /// Frames in a second, over the last ten; `None` in the first one.
    pub frames_per_second: Option<u64>,
    /// Bytes in a second, over the last ten; `None` in the first one.
    pub bytes_per_second: Option<u64>,
}

/// The way to a node: `/v1/routes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The node, 128 hex digits.
    pub node_id: String,
    /// Its name.
    pub name: String,
    /// The neighbour that messages to it go to first, 128 hex digits; the node itself if it is one.
    pub next_hop_id: String,
    /// That neighbour's name.
    pub next_hop: String,
    /// Links on the way.
    pub hops: u32,
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

/// A session of a client: `/v1/clients`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// Its number, which no other session of this start of the node has.
    pub session: u64,
    /// The name in its certificate.
    pub name: String,
    /// The institution that issued the certificate.
    pub institution: String,
    /// SHA-256 of the certificate, in hex.
    pub fingerprint: String,
    /// Where it connects from.
    pub address: SocketAddr,
    /// What it speaks: `2.x`, or `extended`.
    pub dialect: String,
    /// The running application, if it named one: hex digits.
    #[serde(default)]
    pub instance: Option<String>,
    /// Topics it has.
    pub topics: usize,
    /// Seconds since it connected.
    pub connected_seconds: u64,
    /// Bytes that wait to be written to it.
    pub queued_bytes: usize,
}

/// Something that has a bound: `/v1/limits`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// What.
    pub what: String,
    /// The bound, in words.
    pub bound: String,
    /// The bound as a number, in things or bytes.
    pub most: Option<u64>,
    /// How much of it is taken now, where that is known; of bounds that are each client's or each
    /// link's, by whoever has the most.
    pub used: Option<u64>,
    /// The configuration key that sets it.
    pub key: Option<String>,
    /// What happens when it is reached.
    pub policy: String,
    /// The metric that counts how often it was.
    pub metric: Option<String>,
}

/// A certificate the node lives by: `/v1/certificates`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// What it is to the node: `node`, `issuer`, `root`, `client_port`, `agency` or `revocation_list`.
    pub of: String,
    /// Whose it is.
    pub subject: String,
    /// Who issued it.
    pub issuer: String,
    /// Its serial number in hex.
    pub serial: String,
    /// First second of validity, Unix time.
    pub not_before: i64,
    /// Last second of validity, Unix time.
    pub not_after: i64,
    /// Whole days until then; below zero if it has expired.
    pub days_left: i64,
}

/// What has become of certificates and configuration: `/v1/reload`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reload {
    /// In force now, and were not.
    pub added: Vec<Certificate>,
    /// No longer in force.
    pub removed: Vec<Certificate>,
    /// Keys of the configuration that have another value now.
    #[serde(default)]
    pub changed: Vec<ChangedSetting>,
    /// Keys whose new values count once the node is started again.
    #[serde(default)]
    pub at_restart: Vec<ChangedSetting>,
}

/// A key of the configuration whose value has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedSetting {
    /// As `table.key`.
    pub key: String,
    /// From what to what, for people.
    pub change: String,
}

/// How far a node is with its end: `/v1/drain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// Where it is.
    pub phase: Phase,
    /// Sends that have no outcome yet.
    pub in_flight: usize,
    /// Client sessions that are up.
    pub clients: usize,
    /// Milliseconds left of the grace period; all of it before it has begun.
    pub grace_ms: u64,
    /// At the end: sends that were cut, each of which was told so.
    #[serde(default)]
    pub cut: Option<usize>,
    /// At the end: whether all clients took their last outcomes.
    #[serde(default)]
    pub clients_closed: Option<bool>,
}

/// Where a node is between its start and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It serves.
    Serving,
    /// It finishes what is in flight, and takes nothing new.
    Draining,
    /// It is done.
    Stopped,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_what_it_asks_for() {
        let page = Page { prefix: Some("a".into()), after: Some("ab".into()), limit: Some(1 << 40) };
        let on_it: Vec<&str> =
            ["a", "ab", "aba", "ac", "b"].into_iter().filter(|name| page.has(name)).collect();
        assert_eq!(on_it, ["aba", "ac"]);
        assert_eq!(page.limit(), Page::MAX_LIMIT);
        assert_eq!(Page::default().limit(), Page::LIMIT);
        assert!(Page::default().has(""));
    }

    #[test]
    fn what_an_older_node_says_is_read() {
        let peer = r#"{"node_id":"ab","name":"n","institution":"i","hops":1,"via":null,"round_trip_us":7}"#;
        let peer: Peer = serde_json::from_str(peer).unwrap();
        assert_eq!(peer.link, None);
    }
}
