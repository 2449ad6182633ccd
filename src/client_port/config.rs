//! Every bound of the client port, with its default and what happens when it is reached.

use std::time::Duration;

use amop_protocol::{
    NodeKey,
    limits::MAX_CHANNEL_FRAME,
    session::{handshake::About, server, startup},
};

/// How the client port behaves, on all its listeners together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Most sessions at a time: 10,000. Policy: a further client is disconnected after its TLS handshake.
    pub max_clients: usize,
    /// Most unfinished TLS handshakes: 256. Policy: the oldest is disconnected.
    pub max_handshakes: usize,
    /// How long a TLS handshake may take: 5 s. Policy: disconnect.
    pub handshake_timeout: Duration,
    /// Largest frame, header included: 100 MiB. Policy: disconnect before any of it is buffered.
    pub max_frame: usize,
    /// Bytes of partly received frames of all sessions: 512 MiB. Policy: the session that
    /// exceeds it is disconnected.
    pub max_partial_bytes: usize,
    /// Bytes queued for one session: 16 MiB; one frame is always admitted to an empty queue.
    /// Policy: a unicast is refused, a multicast is dropped and the session disconnected, as it
    /// is when an outcome or a reply does not fit.
    pub max_queued_bytes: usize,
    /// Most topics of one session: 10,000. Policy: disconnect.
    pub max_topics: usize,
    /// Most sends of one session without an outcome: 1,024. Policy: refuse with 103.
    pub max_in_flight: usize,
    /// A session without a byte in either direction for this long is disconnected: 60 s.
    pub idle_timeout: Duration,
    /// Answers to what SDKs ask at start-up.
    pub startup: startup::Config,
    /// Who this node is, for clients that ask for extensions.
    pub about: About,
}

impl Config {
    /// The defaults, for the node that `about` describes.
    pub fn new(about: About) -> Self {
        Self { about, ..Self::default() }
    }

    pub(super) fn session(&self) -> server::Config {
        server::Config {
            startup: self.startup.clone(),
            about: self.about.clone(),
            max_topics: self.max_topics,
            max_in_flight: self.max_in_flight,
            idle: self.idle_timeout,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_clients: 10_000,
            max_handshakes: 256,
            handshake_timeout: Duration::from_secs(5),
            max_frame: MAX_CHANNEL_FRAME,
            max_partial_bytes: 512 * 1024 * 1024,
            max_queued_bytes: 16 * 1024 * 1024,
            max_topics: 10_000,
            max_in_flight: 1_024,
            idle_timeout: Duration::from_secs(60),
            startup: startup::Config::default(),
            about: About { key: NodeKey::new([0; 64]), name: String::new(), institution: String::new() },
        }
    }
}
