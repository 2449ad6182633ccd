//! What a system under load implements: [`System`] starts it, [`Cluster`] connects clients to it.
//!
//! Rules that keep systems comparable: mutual TLS on every hop, one connection for each client, a full handshake for each
//! connection; the answer to a request comes from the responder's client, is [`acknowledgement`] of the payload, and goes
//! back through the nodes; nothing in this process takes a shorter way.

use std::{borrow::Cow, fmt, sync::Arc};

use bytes::Bytes;
use serde::Serialize;

pub use crate::{payload::acknowledgement, sink::Sink};

/// A system that can be started anew.
pub trait System: Send + Sync + 'static {
    /// What runs then.
    type Cluster: Cluster;

    /// Starts the processes and returns at once: whoever connects tries until they serve. What it needs on disk, such
    /// as certificates, is there already.
    ///
    /// # Errors
    /// When a process cannot be started.
    fn start(&self) -> impl Future<Output = Result<Self::Cluster, Failure>> + Send;
}

/// Two or more running nodes. Nodes are numbered from 0; messages pass all of them between the first and the last.
pub trait Cluster: Send + Sync + 'static {
    /// A client that asks.
    type Requester: Requester;
    /// A client that publishes.
    type Publisher: Publisher;
    /// Keeps a client connected; dropped, it disconnects.
    type Guard: Send + 'static;

    /// How the system is called in reports.
    fn name(&self) -> &str;

    /// How many nodes there are, at least 1.
    fn nodes(&self) -> usize {
        2
    }

    /// The processes of the nodes, in their order. Empty if they are not ours: then there are no figures of CPU and memory.
    fn servers(&self) -> &[u32];

    /// What protects the hops, if it is known.
    fn security(&self) -> Option<Security> {
        None
    }

    /// Fails when a node has died. Asked several times a second; must not wait.
    ///
    /// # Errors
    /// Which node, and how it died.
    fn alive(&self) -> Result<(), Failure> {
        Ok(())
    }

    /// Ends the processes, if they are ours, and resolves when they have ended. Dropping the cluster ends them too.
    fn stop(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// A client at `node` that answers every message to `topic` with its [`acknowledgement`], after it has told `sink`.
    /// Resolves when it is connected and subscribed.
    ///
    /// # Errors
    /// When it cannot be connected or subscribed; works that wait for a start try again.
    fn responder(
        &self,
        node: usize,
        topic: &str,
        sink: Arc<Sink>,
    ) -> impl Future<Output = Result<Self::Guard, Failure>> + Send;

    /// A client at `node` that can send requests to `topic`.
    ///
    /// # Errors
    /// As [`Cluster::responder`].
    fn requester(
        &self,
        node: usize,
        topic: &str,
    ) -> impl Future<Output = Result<Self::Requester, Failure>> + Send;

    /// A client at `node` that gets every message to `topic` and tells `sink`.
    ///
    /// # Errors
    /// As [`Cluster::responder`].
    fn subscriber(
        &self,
        node: usize,
        topic: &str,
        sink: Arc<Sink>,
    ) -> impl Future<Output = Result<Self::Guard, Failure>> + Send;

    /// A client at `node` that can publish to `topic`.
    ///
    /// # Errors
    /// As [`Cluster::responder`].
    fn publisher(
        &self,
        node: usize,
        topic: &str,
    ) -> impl Future<Output = Result<Self::Publisher, Failure>> + Send;

    /// A client at `node`, authenticated, that does nothing.
    ///
    /// # Errors
    /// As [`Cluster::responder`].
    fn idle(&self, node: usize) -> impl Future<Output = Result<Self::Guard, Failure>> + Send;
}

/// A client that asks.
pub trait Requester: Send + Sync + 'static {
    /// Sends a request; resolves with its answer. Several may be under way at once.
    ///
    /// # Errors
    /// When no answer came, as the system says why.
    fn request(&self, payload: Bytes) -> impl Future<Output = Result<Bytes, Failure>> + Send;
}

/// A client that publishes.
pub trait Publisher: Send + Sync + 'static {
    /// Publishes a message to all subscribers; resolves when the system has taken it over, and may wait until it can.
    ///
    /// # Errors
    /// When it was not taken over. A failure that is known only later may be told by a later call, or by
    /// [`Publisher::flush`].
    fn publish(&self, payload: Bytes) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Resolves when everything published is out of this process, and its outcome known where the system tells it.
    ///
    /// # Errors
    /// As [`Publisher::publish`].
    fn flush(&self) -> impl Future<Output = Result<(), Failure>> + Send {
        std::future::ready(Ok(()))
    }
}

/// What protects every hop, for the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Security {
    /// `TLS 1.3`.
    pub protocol: Cow<'static, str>,
    /// `TLS13_AES_128_GCM_SHA256`.
    pub cipher_suite: Cow<'static, str>,
    /// `X25519`.
    pub key_exchange: Cow<'static, str>,
}

impl fmt::Display for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { protocol, cipher_suite, key_exchange } = self;
        write!(f, "{protocol}, {cipher_suite}, {key_exchange}")
    }
}

/// Something did not work. Reports count failures by code and cause.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The system's code, if it has codes.
    pub code: Option<u16>,
    /// One of few names of what went wrong, such as `no_subscriber`: never with a number or an address in it.
    pub cause: Cow<'static, str>,
    /// In words.
    pub message: String,
}

impl Failure {
    /// Without a code.
    pub fn new(cause: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { code: None, cause: cause.into(), message: message.into() }
    }

    /// With the system's code.
    #[must_use]
    pub fn code(self, code: u16) -> Self {
        Self { code: Some(code), ..self }
    }
}
