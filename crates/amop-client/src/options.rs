//! What a client is told before it connects.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use amop_protocol::TraceContext;
pub use amop_protocol::session::once::Config as Remember;
use amop_protocol::{broker::wishes::Address, limits::MAX_CHANNEL_FRAME};

/// How to connect and within which bounds to work. Start with [`Options::new`] and change what
/// does not suit.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Client ports of one or more nodes, each `host:port`. They are tried in order; after a loss
    /// the next one comes first.
    pub nodes: Vec<String>,
    /// How many of the nodes to be connected to at once, at least 1; more than there are `nodes`
    /// means all of them. Default 2: whoever names two nodes misses nothing when one of them goes.
    ///
    /// The client subscribes on all of them and publishes through one: the first, and when that is
    /// lost or drains, from then on the next. Whatever comes twice is
    /// handed to the application once. Requests to subscribers are shared evenly between
    /// connections, so that a client with two gets two shares; where that matters, give all
    /// subscribers of a topic the same number. A node without the extension frames is never kept
    /// beside another.
    pub homes: usize,
    /// Who this client is and whom it trusts.
    pub certificates: Certificates,
    /// What the client calls itself to the node, for the node's log.
    pub name: String,
    /// Bound on connecting to one node: TCP, TLS and handshake. Default 5 s.
    pub connect_timeout: Duration,
    /// Bound on a subscription becoming effective, reconnecting included. Default 30 s.
    pub subscribe_timeout: Duration,
    /// How often the node is asked for a sign of life. Default 3 s.
    pub heartbeat: Duration,
    /// A node that sends nothing for this long is given up. Default 10 s.
    pub silence: Duration,
    /// How a lost connection is restored.
    pub reconnect: Reconnect,
    /// Sends without an outcome; more wait in line. Default 1,024, what a node allows one client.
    pub max_in_flight: usize,
    /// Bytes of payloads of sends without an outcome, which are kept so that they can be sent again
    /// through another node; beyond, more sends wait in line. One send is always admitted. Those of more
    /// than 16 KiB have as much room as this, smaller ones as much again, and a quarter of `max_in_flight`
    /// is for those alone. Default 64 MiB.
    pub max_in_flight_bytes: usize,
    /// What of the messages that came is remembered, so that one that comes again, through another
    /// node or from a publisher that changed nodes, is not handled twice.
    pub remember: Remember,
    /// Requests handed to the application and not answered yet; more are refused at once.
    /// Default 1,024.
    pub max_unanswered: usize,
    /// Messages waiting in one subscription; see [`Subscription`](crate::Subscription) for what
    /// happens to more. Default 1,024.
    pub queue_messages: usize,
    /// Bytes of payloads waiting in one subscription; one message is always admitted to an empty queue. Each may
    /// hold some 80 KiB more of what was read together with it, where all else of that is done with.
    /// Default 16 MiB.
    pub queue_bytes: usize,
    /// Largest frame sent or received. Default 100 MiB.
    pub max_frame: usize,
}

impl Options {
    /// Options for these nodes, with the certificates in `directory` (`ca.crt`, `sdk.crt`, `sdk.key`).
    pub fn new<N: Into<String>>(nodes: impl IntoIterator<Item = N>, directory: impl AsRef<Path>) -> Self {
        Self {
            nodes: nodes.into_iter().map(Into::into).collect(),
            certificates: Certificates::in_directory(directory),
            name: concat!("amop-rust/", env!("CARGO_PKG_VERSION")).into(),
            connect_timeout: Duration::from_secs(5),
            subscribe_timeout: Duration::from_secs(30),
            heartbeat: Duration::from_secs(3),
            silence: Duration::from_secs(10),
            reconnect: Reconnect::default(),
            homes: 2,
            max_in_flight: 1024,
            max_in_flight_bytes: 64 * 1024 * 1024,
            remember: Remember::default(),
            max_unanswered: 1024,
            queue_messages: 1024,
            queue_bytes: 16 * 1024 * 1024,
            max_frame: MAX_CHANNEL_FRAME,
        }
    }
}

/// The PEM files a client connects with. The kind of key decides of what profile they are: RSA
/// and secp256k1 are FISCO BCOS's, all others AMOP's own. The node's listener must have the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificates {
    /// The consortium's root certificates; with FISCO BCOS's, the CA of the agency or chain.
    pub ca: PathBuf,
    /// This client's certificate, followed by its institution's.
    pub certificate: PathBuf,
    /// The private key of this client's certificate, not encrypted.
    pub key: PathBuf,
}

impl Certificates {
    /// `ca.crt`, `sdk.crt` and `sdk.key` in a directory, as FISCO BCOS SDKs have them.
    pub fn in_directory(directory: impl AsRef<Path>) -> Self {
        let directory = directory.as_ref();
        Self {
            ca: directory.join("ca.crt"),
            certificate: directory.join("sdk.crt"),
            key: directory.join("sdk.key"),
        }
    }
}

/// How a lost connection is restored: the next node at once, and each that cannot be connected
/// again after a pause that doubles from `first` to `most` and is shortened by chance, so that
/// clients do not return all at once. A connection that lasted less than `most` counts as none;
/// when another one ends, no pause is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reconnect {
    /// The first pause. Default 100 ms.
    pub first: Duration,
    /// The longest pause. Default 5 s.
    pub most: Duration,
}

impl Default for Reconnect {
    fn default() -> Self {
        Self { first: Duration::from_millis(100), most: Duration::from_secs(5) }
    }
}

/// What a single request may ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestOptions {
    /// How long the answer may take; `None`: as long as the node allows, by default 30 s.
    pub deadline: Option<Duration>,
    /// Which subscribers may answer; by default any. With a node that speaks plain 2.x frames only
    /// the default is possible.
    pub to: Address,
    /// The W3C trace that it is part of: the subscriber is told, and `amop trace` shows it. A node that
    /// speaks plain 2.x frames does not carry it.
    pub context: Option<TraceContext>,
}

impl RequestOptions {
    /// As part of this trace, for instance `"00-4bf92f…-00f067…-01".parse()?`, or that of a [`Delivery`](crate::Delivery).
    #[must_use]
    pub fn context(mut self, context: TraceContext) -> Self {
        self.context = Some(context);
        self
    }

    /// With a deadline.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Only to subscribers that match.
    #[must_use]
    pub fn to(mut self, address: Address) -> Self {
        self.to = address;
        self
    }
}

/// What a single publication may ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublishOptions {
    /// How long the outcome may take; `None`: as long as the node allows, by default 30 s.
    pub deadline: Option<Duration>,
    /// Which subscribers it is for; by default all. With a node that speaks plain 2.x frames only
    /// the default is possible.
    pub to: Address,
    /// Whether to be told how each recipient fared. The publication then ends when all nodes have
    /// reported, or at the deadline: subscribers may take up to 5 s. A node that speaks plain 2.x
    /// frames tells nothing.
    pub report: bool,
    /// The W3C trace that it is part of; as [`RequestOptions::context`].
    pub context: Option<TraceContext>,
}

impl PublishOptions {
    /// As part of this trace.
    #[must_use]
    pub fn context(mut self, context: TraceContext) -> Self {
        self.context = Some(context);
        self
    }

    /// With a deadline.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Only to subscribers that match.
    #[must_use]
    pub fn to(mut self, address: Address) -> Self {
        self.to = address;
        self
    }

    /// With a report on each recipient.
    #[must_use]
    pub fn report(mut self) -> Self {
        self.report = true;
        self
    }
}
