//! What the overlay can be told, and its bounds.

use std::{fmt, net::SocketAddr, str::FromStr, time::Duration};

use amop_protocol::NodeId;

use super::{NotAKey, security::peer_ids};

/// Settings of the overlay. [`Config::new`] gives the defaults, which suit an institution's node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where to listen for other nodes.
    pub listen: SocketAddr,
    /// Nodes to keep a link to; dialled until they answer, and again whenever the link is lost.
    pub peers: Vec<Address>,
    /// If given, only these nodes may link to this one.
    pub allow: Option<Vec<NodeId>>,
    /// These may not, whatever else is said.
    pub deny: Vec<NodeId>,
    /// How long TLS may take, and how long the hellos after it. Longer: closed and counted.
    pub handshake_timeout: Duration,
    /// How long an address may take to resolve and connect.
    pub dial_timeout: Duration,
    /// How often an idle neighbour is asked for a sign of life.
    pub ping_interval: Duration,
    /// A link from which nothing was heard for so long is closed.
    pub silence: Duration,
    /// First and longest pause between two attempts to reach a peer, before jitter.
    pub back_off: (Duration, Duration),
    /// Longest pause for a configured peer that was up before.
    pub back_off_known: Duration,
    /// Inbound connections whose TLS handshake is not finished. Beyond, the oldest of the address
    /// that has the most gives way.
    pub max_pending_inbound: usize,
    /// Connections in all. Further ones are refused.
    pub max_connections: u32,
    /// Addresses that are dialled, configured and learned. Further learned ones are ignored.
    pub max_addresses: usize,
    /// Bytes queued towards one neighbour on the data substream. Full: the frame is refused.
    pub data_queue: usize,
    /// Bytes queued towards one neighbour on the control substream. Full: the link is closed.
    pub control_queue: usize,
    /// Bytes of partly received large frames, data of all links together. Beyond: the frame that
    /// does not fit is dropped, and its origin sends it again.
    pub reassembly: usize,
    /// The same for control frames.
    pub control_reassembly: usize,
    /// Events waiting for the node. Full: the links wait, and their peers with them.
    pub events: usize,
    /// How long queued frames may take to be written at shutdown. Longer: cut.
    pub flush_timeout: Duration,
}

impl Config {
    /// The defaults, listening on `listen`, with no peers.
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            peers: Vec::new(),
            allow: None,
            deny: Vec::new(),
            handshake_timeout: Duration::from_secs(5),
            dial_timeout: Duration::from_secs(5),
            ping_interval: Duration::from_secs(5),
            silence: Duration::from_secs(10),
            back_off: (Duration::from_millis(20), Duration::from_secs(10)),
            back_off_known: Duration::from_secs(1),
            max_pending_inbound: 256,
            max_connections: 512,
            max_addresses: 1024,
            data_queue: 64 << 20,
            control_queue: 32 << 20,
            reassembly: 256 << 20,
            control_reassembly: 64 << 20,
            events: 1024,
            flush_timeout: Duration::from_secs(2),
        }
    }

    /// Whether allow and deny lists can be kept to.
    ///
    /// # Errors
    /// With the first entry that is the id of no node that could exist.
    pub fn check(&self) -> Result<(), NotAKey> {
        let listed = self.allow.iter().flatten().chain(&self.deny);
        listed.copied().try_for_each(|id| peer_ids(&id).map(drop).ok_or(NotAKey(id)))
    }

    /// Whether allow and deny lists let a node in.
    pub(super) fn lets_in(&self, node: &NodeId) -> bool {
        self.allow.as_ref().is_none_or(|allowed| allowed.contains(node)) && !self.deny.contains(node)
    }
}

/// Control messages of one link that may wait for the node, unless they are long. Beyond, the link
/// waits: one neighbour that says much holds up no other.
pub(super) const MAX_EVENTS_PER_LINK: usize = 64;

/// Connections that one peer may have at a time: the link, its replacement, and a dialled twin.
pub(super) const MAX_CONNECTIONS_PER_PEER: u32 = 3;

/// Where a peer can be dialled: `host:port`, host a name or an IP address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    host: String,
    port: u16,
}

/// Text that is no [`Address`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an address; write host:port, for example node1.example.org:30300 or [::1]:30300")]
pub struct AddressError {
    text: String,
}

impl Address {
    /// The name or IP address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The socket address, unless the host is a name.
    pub fn ip(&self) -> Option<SocketAddr> {
        self.host.parse().ok().map(|ip| SocketAddr::new(ip, self.port))
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Ok(address) = text.parse::<SocketAddr>()
            && address.port() > 0
        {
            return Ok(address.into());
        }
        let error = || AddressError { text: text.chars().take(300).collect() };
        let (host, port) = text.rsplit_once(':').ok_or_else(error)?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(error)?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if host.is_empty() || host.len() > 253 || !host.chars().all(is_name) {
            return Err(error());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self { host: address.ip().to_string(), port: address.port() }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port() {
        let check = |text: &str| text.parse::<Address>().unwrap().to_string();
        assert_eq!(check("127.0.0.1:30300"), "127.0.0.1:30300");
        assert_eq!(check("[::1]:30300"), "[::1]:30300");
        assert_eq!(check("node-1.example.org:1"), "node-1.example.org:1");
    }

    #[test]
    fn what_is_no_address_is_named() {
        for text in ["", "node", "node:", "node:0", "node:65536", ":1", "a b:1", "::1:x", "127.0.0.1:0"] {
            assert!(text.parse::<Address>().unwrap_err().to_string().contains("host:port"), "{text}");
        }
    }
}
