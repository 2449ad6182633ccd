//! The links between nodes, and the only place that names libp2p.
//!
//! Owns: listening and dialling, mutual TLS, who may link, one link per peer, framing, queues
//! towards peers. Does not: route, decide what a message means, or know of clients. Data frames
//! go to a [`Router`] inline, in the task that read them; everything else comes
//! out as [`Event`]s, in order per link, through one bounded queue. If the node does not take
//! them, links wait, and their peers with them.
//!
//! Tasks: `overlay` (the swarm; wakes on connections, commands, reports of links, timers; never
//! waits on a link or on the node), libp2p's connection tasks, and those of each link.
//!
//! Invariants: at most one link per peer is up at a time; a link is up only after both hellos;
//! `LinkDown` comes exactly once for each `LinkUp`, before the next `LinkUp` of that peer.

mod behaviour;
mod coalesce;
mod config;
mod direct;
mod driver;
mod duplicates;
mod limits;
mod link;
mod metrics;
mod peers;
mod security;
mod streams;

use std::{collections::BTreeSet, io, net::SocketAddr, sync::Arc, time::Duration};

use amop_protocol::{
    NodeId,
    wire::{generated, interleave::Budget, link::LinkFrame, peer::DataError},
};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

pub(crate) use self::limits::limits;
pub use self::{
    behaviour::NotAKey,
    config::{Address, AddressError, Config},
    link::{DownReason, Failure, Incompatible, Link, LinkId, LinkStream, Passed, Peer, PeerFault, Turn},
    metrics::Metrics,
    peers::{Wanted, WantedState},
};
use self::{driver::Driver, link::Context};
use crate::{identity::Credentials, tasks::Tasks};

/// Commands waiting for the driver. Full: the caller waits.
const COMMANDS: usize = 64;
/// Reports of links waiting for the driver. Full: the links wait.
const REPORTS: usize = 256;

/// What takes the frames of the data connections.
pub trait Router: Send + Sync + 'static {
    /// A whole frame came from this neighbour. Called in the link's reader task, frame by frame
    /// in order; must not block.
    ///
    /// # Errors
    /// When the frame breaks the protocol; the link is closed.
    fn handle_data(&self, from: NodeId, frame: LinkFrame) -> Result<(), DataError>;

    /// A large frame from this neighbour was dropped at the bound of partly received bytes.
    /// `head` is the frame without its payload, so that its origin can be told.
    fn handle_dropped(&self, from: NodeId, head: LinkFrame);
}

/// What happens on the overlay.
#[derive(Debug)]
pub enum Event {
    /// A neighbour is linked.
    LinkUp {
        /// Who it is.
        peer: Peer,
        /// The way to send to it.
        link: Link,
    },
    /// That link is gone.
    LinkDown {
        /// Whose link.
        peer: NodeId,
        /// Which one.
        link: LinkId,
        /// Why.
        reason: DownReason,
    },
    /// A control message came; never a hello.
    Control {
        /// From whom.
        peer: NodeId,
        /// On which link.
        link: LinkId,
        /// What.
        message: generated::control::Message,
        /// To be held until it was handled: a link waits while too much of it waits.
        turn: Turn,
    },
    /// A ping was answered. May come a moment before `LinkUp` or after `LinkDown`.
    RoundTrip {
        /// By whom.
        peer: NodeId,
        /// After how long.
        time: Duration,
    },
}

/// Why the overlay did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Another program listens there.
    #[error(
        "cannot listen for nodes on {address}: the port is in use; stop the program that uses it, \
         or configure another port"
    )]
    InUse {
        /// The configured address.
        address: SocketAddr,
    },
    /// The system does not let us listen there.
    #[error(
        "cannot listen for nodes on {address}: {source}; configure an address of this machine \
         and a port this user may open"
    )]
    Listen {
        /// The configured address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// An entry of the allow or deny list, or the own key, is no node id.
    #[error(transparent)]
    NotAKey(#[from] NotAKey),
}

/// A handle to the overlay. Clones command the same one; when all are gone, it shuts down.
#[derive(Clone, Debug)]
pub struct Overlay {
    commands: mpsc::Sender<Command>,
    listening: watch::Receiver<Option<SocketAddr>>,
    wanted: Arc<Mutex<Vec<Wanted>>>,
    metrics: Metrics,
}

#[derive(Debug)]
enum Command {
    Dial(Address),
    Disconnect(NodeId),
    JudgeAgain(BTreeSet<NodeId>),
    Configure(Box<Config>),
    Shutdown(oneshot::Sender<()>),
}

impl Overlay {
    /// Starts listening and dialling. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`StartError`] if the address cannot be listened on or a configured node id is none.
    pub fn start(
        tasks: &Tasks,
        config: Config,
        credentials: Credentials,
        epoch: u64,
        router: Arc<dyn Router>,
    ) -> Result<(Self, mpsc::Receiver<Event>), StartError> {
        let tasks = tasks.child();
        let (events, event_queue) = mpsc::channel(config.events);
        let (reports, report_queue) = mpsc::channel(REPORTS);
        let (commands, command_queue) = mpsc::channel(COMMANDS);
        let (listening, listening_watch) = watch::channel(None);
        let metrics = Metrics::default();
        let context = Arc::new(Context {
            own: credentials.node_key().id(),
            epoch,
            router,
            events,
            reports,
            tasks: tasks.clone(),
            metrics: metrics.clone(),
            data_budget: Budget::new(config.reassembly),
            control_budget: Budget::new(config.control_reassembly),
            config,
        });
        let wanted = Arc::<Mutex<Vec<Wanted>>>::default();
        let inputs = driver::Inputs {
            commands: command_queue,
            reports: report_queue,
            listening,
            wanted: wanted.clone(),
        };
        let driver = Driver::new(context, &credentials, inputs)?;
        tasks.spawn_vital("overlay", driver.run());
        Ok((Self { commands, listening: listening_watch, wanted, metrics }, event_queue))
    }

    /// Waits until the node listens, and says where: with port 0 configured, the one it got.
    /// `None` if the overlay has ended. Cancel safe.
    pub async fn listening(&self) -> Option<SocketAddr> {
        let mut watch = self.listening.clone();
        *watch.wait_for(Option::is_some).await.ok()?
    }

    /// Dials an address learned from elsewhere; forgotten after a few failures. Does nothing if
    /// it is known already. Cancel safe.
    pub async fn dial(&self, address: Address) {
        // An overlay that has ended dials nobody.
        let _ = self.commands.send(Command::Dial(address)).await;
    }

    /// Ends the link to this peer, if there is one. A configured peer is dialled again. Cancel safe.
    pub async fn disconnect(&self, peer: NodeId) {
        let _ = self.commands.send(Command::Disconnect(peer)).await;
    }

    /// Ends the links of peers whose certificates are no longer believed, after these have changed.
    /// `announced` are nodes whose newest announced certificates are: of one that was renewed, what the
    /// link began with need not be. What was revoked ends its link in any case. Cancel safe.
    pub async fn judge_again(&self, announced: BTreeSet<NodeId>) {
        let _ = self.commands.send(Command::JudgeAgain(announced)).await;
    }

    /// Changes peers, allow and deny lists, and the bounds on connections, queues of links to come and partly
    /// received frames; nothing else of `config` counts. Ends links with nodes that are no longer let in, and
    /// those dialled for addresses that are no longer there. Cancel safe.
    pub async fn configure(&self, config: Config) {
        let _ = self.commands.send(Command::Configure(Box::new(config))).await;
    }

    /// Stops dialling and accepting, writes what is queued (up to the flush timeout), closes all
    /// links, and returns when that is done. Once begun it goes on even if this call is dropped.
    pub async fn shutdown(&self) {
        let (done, wait) = oneshot::channel();
        if self.commands.send(Command::Shutdown(done)).await.is_ok() {
            // An error says that the overlay ended otherwise, which is as good.
            let _ = wait.await;
        }
    }

    /// How it was with the configured peers, some 1.25 s ago at most; empty until then.
    pub fn wanted(&self) -> Vec<Wanted> {
        self.wanted.lock().clone()
    }

    /// What the overlay counts.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

#[cfg(test)]
mod tests;
