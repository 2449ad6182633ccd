//! The task that owns the swarm: dials, accepts, and says which connection carries a link.
//!
//! Wakes on: cancellation, commands, reports of links and lookups, its timer, the swarm. Waits on
//! nothing else; what it tells the node goes through the links' tasks or is dropped and counted.

mod dial;
mod links;
mod text;

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;
use libp2p::{
    Multiaddr, Swarm, Transport, TransportError,
    core::transport::{ListenerId, timeout::TransportTimeout},
    ping,
    swarm::{self, ConnectionId, ListenError, SwarmEvent},
};
use parking_lot::Mutex;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{sleep_until, timeout},
};

use self::{
    links::Links,
    text::{describe, describe_listen, multiaddr, socket_address, socket_address_of},
};
use super::{
    Command, Config, Event, StartError,
    behaviour::{Behaviour, BehaviourEvent},
    direct::Desk,
    link::{Context, DownReason, Report},
    peers::{Learned, Peers, Target, Wanted},
    security::{self, UpgradeError, Verified},
    streams,
};
use crate::identity::Credentials;

/// Certificates remembered before those without a connection are forgotten.
pub(super) const MAX_REMEMBERED: usize = 4096;
/// Name lookups under way at once are at most as many as addresses; their results wait here.
const LOOKUPS: usize = 64;
/// How long closing connections get to say so, at the end of a shutdown.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The queues that come in.
pub(super) struct Inputs {
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) reports: mpsc::Receiver<Report>,
    pub(super) listening: watch::Sender<Option<SocketAddr>>,
    /// How it is with the configured peers, for whoever looks.
    pub(super) wanted: Arc<Mutex<Vec<Wanted>>>,
}

/// What a lookup found.
type Lookup = (Target, io::Result<SocketAddr>);

/// The driver's state; [`Driver::run`] is the task.
pub(super) struct Driver {
    swarm: Swarm<Behaviour>,
    context: Arc<Context>,
    verified: Verified,
    peers: Peers,
    links: Links,
    listener: ListenerId,
    dials: HashMap<ConnectionId, Target>,
    inputs: Inputs,
    lookups: (mpsc::Sender<Lookup>, mpsc::Receiver<Lookup>),
    closing: Option<Closing>,
    check: Instant,
}

/// A shutdown under way.
struct Closing {
    deadline: Instant,
    done: Vec<oneshot::Sender<()>>,
}

impl Driver {
    pub(super) fn new(
        context: Arc<Context>,
        credentials: &Credentials,
        inputs: Inputs,
    ) -> Result<Self, StartError> {
        let config = &context.config;
        let own = credentials.node_key();
        let behaviour = Behaviour::new(config, &own)?;
        let own_peer = security::peer_id(&own).ok_or(super::NotAKey(own.id()))?;
        let verified = Verified::default();
        let desk = Arc::new(Desk::default());
        let upgraded =
            security::transport(credentials, verified.clone(), desk.clone(), config, context.metrics.clone());
        let patience = config.dial_timeout + config.handshake_timeout;
        let transport = TransportTimeout::with_outgoing_timeout(upgraded, patience).boxed();
        let tasks = context.tasks.clone();
        let swarm_config = swarm::Config::with_executor(move |task| tasks.spawn("connection", task));
        let mut swarm = Swarm::new(transport, behaviour, own_peer, swarm_config);
        let listener = listen(&mut swarm, config.listen)?;
        let now = Instant::now();
        Ok(Self {
            swarm,
            verified,
            peers: Peers::new(config, now),
            links: Links::new(context.clone(), credentials.clone(), desk),
            listener,
            dials: HashMap::new(),
            inputs,
            lookups: mpsc::channel(LOOKUPS),
            closing: None,
            check: now + check_interval(config),
            context,
        })
    }

    /// Runs until shut down or cancelled.
    pub(super) async fn run(mut self) {
        loop {
            let wake = self.poll_timeout();
            tokio::select! {
                biased;
                // Cancelled: cut everything.
                () = self.context.tasks.cancelled() => break,
                // What the node asks comes before what the network does.
                command = self.inputs.commands.recv(), if !self.inputs.commands.is_closed() || self.closing.is_none() =>
                    self.handle_command(command),
                // Reports decide who may come up; they never grow beyond the number of links.
                Some(report) = self.inputs.reports.recv() => self.handle_report(report),
                Some((target, found)) = self.lookups.1.recv() => self.handle_lookup(target, found),
                () = sleep_until(wake.into()) => self.handle_timeout(),
                event = self.swarm.select_next_some() => self.handle_swarm(event),
            }
            if self.is_closed() {
                break;
            }
        }
        let asked = self.closing.is_some();
        let tasks = self.context.tasks.clone();
        self.links.close_all(&mut self.swarm);
        self.say_goodbye().await;
        if asked {
            // Then the end of this task is no failure of the node.
            tasks.cancel();
        }
    }

    fn poll_timeout(&self) -> Instant {
        let deadline = self.closing.as_ref().map(|closing| closing.deadline);
        [self.peers.poll_timeout(), deadline].into_iter().flatten().fold(self.check, Instant::min)
    }

    fn handle_command(&mut self, command: Option<Command>) {
        match command {
            Some(Command::Dial(address)) if self.closing.is_none() => {
                if self.peers.learn(address, Instant::now()) == Learned::Ignored {
                    self.context.metrics.addresses_ignored.inc();
                }
            }
            Some(Command::Dial(_)) => {}
            Some(Command::Disconnect(node)) => {
                if let Some(link) = self.links.up(&node) {
                    link.close(DownReason::Disconnected);
                }
            }
            Some(Command::JudgeAgain(announced)) => self.links.judge_again(&announced, &mut self.swarm),
            Some(Command::Configure(config)) => self.configure(*config),
            Some(Command::Shutdown(done)) => self.begin_closing(Some(done)),
            // All handles are gone.
            None => self.begin_closing(None),
        }
    }

    /// What listens and what is timed stays as it was.
    fn configure(&mut self, config: Config) {
        if self.closing.is_some() {
            return;
        }
        if let Err(error) = self.swarm.behaviour_mut().configure(&config) {
            // Whoever asks has checked it.
            return tracing::error!(%error, "lists of nodes are not changed");
        }
        self.context.data_budget.set_limit(config.reassembly);
        let dropped = self.peers.configure(&config, Instant::now());
        self.links.configure(config, &dropped, &mut self.swarm);
    }

    fn handle_report(&mut self, report: Report) {
        let now = Instant::now();
        match report {
            Report::Greeted { link, epoch, verdict } => {
                self.links.handle_greeted(link, epoch, verdict, now, &mut self.peers);
            }
            Report::Ended { link, failure } => {
                self.links.handle_ended(link, failure, now, &mut self.swarm, &mut self.peers);
            }
        }
    }

    fn handle_timeout(&mut self) {
        let now = Instant::now();
        if self.check <= now {
            self.check = now + check_interval(&self.context.config);
            self.links.handle_check(now, &mut self.swarm);
            *self.inputs.wanted.lock() = self.peers.wanted();
            if self.verified.len() > MAX_REMEMBERED {
                self.verified.retain(|peer| self.swarm.is_connected(peer));
            }
        }
        while let Some((target, address, attempt)) =
            self.peers.poll_dial(now, |node| self.links.up(node).is_some())
        {
            self.dial(target, &address, attempt);
        }
    }

    fn handle_swarm(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.handle_behaviour(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                let target = self.dials.remove(&connection_id);
                let identity = self.verified.identity(&peer_id);
                let (Some(identity), Some(address), None) =
                    (identity, socket_address(&endpoint), &self.closing)
                else {
                    self.swarm.close_connection(connection_id);
                    return;
                };
                let connection = links::New { id: connection_id, identity, address, target };
                self.links.handle_established(connection, &mut self.swarm, &mut self.peers);
            }
            SwarmEvent::ConnectionClosed { connection_id, cause, .. } => {
                let cause = cause.map(|cause| io::Error::other(describe(&cause)));
                self.links.handle_closed(connection_id, cause, &mut self.peers);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                self.handle_outgoing_error(connection_id, &error);
            }
            SwarmEvent::IncomingConnectionError {
                error: ListenError::Transport(TransportError::Other(error)),
                ..
            } if UpgradeError::is_handed(&error) => {}
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                self.context.metrics.inbound_failures.inc();
                if let ListenError::Denied { .. } = error {
                    self.context.metrics.inbound_refused.inc();
                }
                let error = describe_listen(&error);
                tracing::debug!(address = %send_back_addr, %error, "inbound connection failed");
            }
            SwarmEvent::NewListenAddr { address, .. } => self.handle_listening(&address),
            SwarmEvent::ListenerError { error, .. } => {
                tracing::error!(%error, "the overlay's listener failed once");
            }
            SwarmEvent::ListenerClosed { reason, .. } if self.closing.is_none() => {
                tracing::error!(?reason, "the overlay's listener closed; no node can connect any more");
            }
            _ => {}
        }
    }

    fn handle_behaviour(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Ping(ping::Event { connection, result: Ok(time), .. }) => {
                let Some((link, is_up)) = self.links.of_connection(connection) else { return };
                link.hear();
                if !is_up {
                    return;
                }
                let event = Event::RoundTrip { peer: link.peer(), time };
                if self.context.events.try_send(event).is_err() {
                    self.context.metrics.round_trips_dropped.inc();
                }
            }
            BehaviourEvent::Streams(streams::Event::Opened { connection, control }) => {
                self.links.handle_opened(connection, control);
            }
            BehaviourEvent::Streams(streams::Event::Failed { connection, error }) => {
                tracing::debug!(%error, "a peer's substream could not be opened");
                self.swarm.close_connection(connection);
            }
            _ => {}
        }
    }

    fn handle_listening(&self, address: &Multiaddr) {
        let Some(found) = socket_address_of(address) else { return };
        // Listening on all interfaces is reported one by one; what was configured says it best.
        let address = SocketAddr::new(self.context.config.listen.ip(), found.port());
        if self.inputs.listening.borrow().is_none() {
            tracing::info!(%address, "listening for nodes");
            self.inputs.listening.send_replace(Some(address));
        }
    }

    fn begin_closing(&mut self, done: Option<oneshot::Sender<()>>) {
        if let Some(closing) = &mut self.closing {
            closing.done.extend(done);
            return;
        }
        self.peers.stop();
        // Whoever comes now is refused by the system.
        self.swarm.remove_listener(self.listener);
        self.links.drain_all(&mut self.swarm);
        let deadline = Instant::now() + self.context.config.flush_timeout;
        self.closing = Some(Closing { deadline, done: done.into_iter().collect() });
    }

    fn is_closed(&self) -> bool {
        self.closing
            .as_ref()
            .is_some_and(|closing| self.links.is_empty() || closing.deadline <= Instant::now())
    }

    /// Lets the connections say that they close, then tells whoever waits.
    async fn say_goodbye(mut self) {
        let last_words = async {
            while self.swarm.network_info().num_peers() > 0 {
                self.swarm.select_next_some().await;
            }
        };
        let cancelled = self.context.tasks.token().clone();
        // Cancelled or too slow: the sockets close anyway.
        let _ = cancelled.run_until_cancelled(timeout(LAST_WORDS, last_words)).await;
        drop(self.swarm);
        for done in self.closing.into_iter().flat_map(|closing| closing.done) {
            // The caller may have gone.
            let _ = done.send(());
        }
    }
}

/// Silence is looked for often enough to be found soon after its bound.
fn check_interval(config: &Config) -> Duration {
    (config.silence / 8).max(Duration::from_millis(10))
}

fn listen(swarm: &mut Swarm<Behaviour>, address: SocketAddr) -> Result<ListenerId, StartError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => StartError::InUse { address },
        _ => StartError::Listen { address, source },
    };
    // The transport shares its port with whoever else shares (SO_REUSEPORT): two nodes of one
    // user would listen side by side unnoticed. A plain socket notices.
    if address.port() != 0 {
        std::net::TcpListener::bind(address).map_err(failed)?;
    }
    swarm.listen_on(multiaddr(address)).map_err(|error| match error {
        TransportError::Other(source) => failed(source),
        other => failed(io::Error::other(other)),
    })
}
