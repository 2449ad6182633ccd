//! Connections, and which of them carries the link to its peer.

mod judge;
mod rivals;

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::SocketAddr,
    sync::Arc,
    time::Instant,
};

use amop_protocol::NodeId;
use libp2p::{
    Swarm,
    swarm::{ConnectionId, Stream},
};
use tokio::sync::oneshot;
use tokio_util::compat::FuturesAsyncReadCompatExt;
use tracing::Instrument;

use crate::identity::{Credentials, Throttle};
use crate::overlay::{
    Config, DownReason, Failure, Link, LinkId,
    behaviour::Behaviour,
    direct::{Desk, Direct},
    duplicates::{Dialler, Standing, Winner},
    link::{self, Candidate, Context, Verdict},
    peers::{Peers, Target, Tell},
    security::Identity,
};

/// All connections with a verified identity, and the links on them.
///
/// A connection is `Opening` until its substream is there, then its link task runs until it
/// reports its end. A node has at most one link up, and one waiting to take its place.
pub(super) struct Links {
    context: Arc<Context>,
    /// In force for connections to come.
    config: Config,
    credentials: Credentials,
    desk: Arc<Desk>,
    connections: BTreeMap<LinkId, Connection>,
    by_connection: HashMap<ConnectionId, LinkId>,
    nodes: BTreeMap<NodeId, Node>,
    next: u64,
    /// Lines in the log about peers that are refused.
    refusals: Throttle,
}

struct Connection {
    id: ConnectionId,
    link: Link,
    identity: Identity,
    address: SocketAddr,
    dialler: Dialler,
    /// The address we dialled; `None` if the peer did.
    target: Option<Target>,
    state: State,
}

enum State {
    /// Waiting for the substream.
    Opening { since: Instant },
    /// Its task runs; hellos under way.
    Greeting,
    /// Greeted; waits until the link it replaces is down.
    Waiting { epoch: u64, verdict: oneshot::Sender<Verdict> },
    /// Carries the link.
    Up { epoch: u64, since: Instant },
}

#[derive(Default)]
struct Node {
    up: Option<LinkId>,
    waiting: Option<LinkId>,
}

/// A connection just established.
pub(super) struct New {
    pub(super) id: ConnectionId,
    pub(super) identity: Identity,
    pub(super) address: SocketAddr,
    /// The address we dialled, if we did.
    pub(super) target: Option<Target>,
}

impl Links {
    pub(super) fn new(context: Arc<Context>, credentials: Credentials, desk: Arc<Desk>) -> Self {
        Self {
            config: context.config.clone(),
            context,
            credentials,
            desk,
            connections: BTreeMap::new(),
            by_connection: HashMap::new(),
            nodes: BTreeMap::new(),
            next: 0,
            refusals: Throttle::default(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// The link to this node, if it is up.
    pub(super) fn up(&self, node: &NodeId) -> Option<&Link> {
        let id = self.nodes.get(node)?.up?;
        Some(&self.connections.get(&id)?.link)
    }

    /// The link of a connection, and whether it is up.
    pub(super) fn of_connection(&self, connection: ConnectionId) -> Option<(&Link, bool)> {
        let connection = self.connections.get(self.by_connection.get(&connection)?)?;
        Some((&connection.link, matches!(connection.state, State::Up { .. })))
    }

    /// A connection is there. One of ours that would lose against another is closed before it
    /// says hello; see [`crate::overlay::duplicates`] for what that silence means.
    pub(super) fn handle_established(&mut self, new: New, swarm: &mut Swarm<Behaviour>, peers: &mut Peers) {
        let New { id: connection, identity, address, target } = new;
        let node = identity.key.id();
        // What is believed may have changed since the handshake; from here on others look.
        if let Err(cause) = self.still_believes(&identity) {
            self.tell_untrusted(&identity, &cause);
            swarm.close_connection(connection);
            if let Some(target) = target {
                peers.handle_failure(target, Instant::now(), rand::random());
            }
            return;
        }
        // Taken out of the configured peers while it was dialled.
        if target.is_some_and(|target| peers.address(target).is_none()) {
            swarm.close_connection(connection);
            return;
        }
        let own_is_lower = self.context.own < node;
        let dialler = if target.is_some() == own_is_lower { Dialler::Lower } else { Dialler::Higher };
        if let Some(target) = target {
            peers.handle_answer(target, node);
            if self.has_better(&node, own_is_lower) {
                self.context.metrics.duplicates.inc();
                peers.handle_duplicate(target, Instant::now());
                swarm.close_connection(connection);
                return;
            }
        }
        let id = LinkId(self.next);
        self.next += 1;
        let link = Link::new(id, node, &self.config, self.context.metrics.clone());
        let state = State::Opening { since: Instant::now() };
        self.by_connection.insert(connection, id);
        self.connections
            .insert(id, Connection { id: connection, link, identity, address, dialler, target, state });
    }

    /// The substream is there: hellos can begin.
    pub(super) fn handle_opened(&mut self, connection: ConnectionId, control: Stream) {
        let Some(id) = self.by_connection.get(&connection) else { return };
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.state = State::Greeting;
        let (peer, silence) = (connection.link.peer(), self.config.silence);
        let data = match connection.target {
            Some(_) => Direct::Dial {
                credentials: self.credentials.clone(),
                address: connection.address,
                peer,
                silence,
            },
            None => Direct::Await(self.desk.expect(peer)),
        };
        let candidate = Candidate {
            link: connection.link.clone(),
            key: connection.identity.key,
            subject: connection.identity.subject.clone(),
            address: connection.address,
            control: control.compat(),
            data,
        };
        let span = tracing::info_span!("link", peer = %connection.link.peer(), link = %id);
        let task = link::run(candidate, self.context.clone()).instrument(span);
        self.context.tasks.spawn("link", task);
    }

    /// A peer's hello is complete: does its connection carry the link?
    pub(super) fn handle_greeted(
        &mut self,
        id: LinkId,
        epoch: u64,
        verdict: oneshot::Sender<Verdict>,
        now: Instant,
        peers: &mut Peers,
    ) {
        let Some(connection) = self.connections.get(&id) else { return };
        let node = connection.link.peer();
        let newcomer = Standing { epoch, dialler: connection.dialler };
        let (up, waiting) = self.nodes.get(&node).map_or((None, None), |node| (node.up, node.waiting));
        let rival = waiting.or(up);
        if let Some(rival) = rival
            && self.decide(rival, newcomer, now) == Winner::Current
        {
            return yield_to_other(verdict);
        }
        if let Some(beaten) = waiting.and_then(|id| self.connections.get_mut(&id))
            && let State::Waiting { verdict, .. } = std::mem::replace(&mut beaten.state, State::Greeting)
        {
            yield_to_other(verdict);
        }
        let entry = self.nodes.entry(node).or_default();
        match up.and_then(|up| self.connections.get(&up)) {
            Some(current) => {
                current.link.close(DownReason::Replaced);
                entry.waiting = Some(id);
                self.set_state(id, State::Waiting { epoch, verdict });
            }
            None => {
                *entry = Node { up: Some(id), waiting: None };
                self.come_up(id, epoch, verdict, now, peers);
            }
        }
    }

    fn set_state(&mut self, id: LinkId, state: State) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.state = state;
        }
    }

    fn come_up(
        &mut self,
        id: LinkId,
        epoch: u64,
        verdict: oneshot::Sender<Verdict>,
        now: Instant,
        peers: &mut Peers,
    ) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.state = State::Up { epoch, since: now };
        peers.handle_up(connection.link.peer());
        // If its task is gone, its report is on the way.
        let _ = verdict.send(Verdict::ComeUp);
    }

    /// A link's task is over: the connection has no further use.
    pub(super) fn handle_ended(
        &mut self,
        id: LinkId,
        failure: Option<Failure>,
        now: Instant,
        swarm: &mut Swarm<Behaviour>,
        peers: &mut Peers,
    ) {
        let Some(connection) = self.connections.remove(&id) else { return };
        swarm.close_connection(connection.id);
        let node = connection.link.peer();
        if let Some(failure) = &failure {
            self.note_failure(&connection, failure);
        }
        let entry = self.nodes.entry(node).or_default();
        entry.waiting = entry.waiting.filter(|waiting| *waiting != id);
        let was_up = entry.up == Some(id);
        if was_up {
            entry.up = None;
            self.hand_over(node, now, peers);
        }
        let is_linked = self.up(&node).is_some();
        if !is_linked {
            self.nodes.retain(|_, node| node.up.is_some() || node.waiting.is_some());
        }
        if let (true, false, State::Up { since, .. }) = (was_up, is_linked, &connection.state) {
            peers.handle_down(node, now.saturating_duration_since(*since), now, rand::random());
        }
        if let (false, Some(target)) = (was_up, connection.target) {
            match failure {
                Some(Failure::Duplicate) => peers.handle_duplicate(target, now),
                failure => {
                    let why = failure.map_or_else(|| "it ended".to_owned(), |failure| failure.to_string());
                    peers.note(target, &why);
                    peers.handle_failure(target, now, rand::random());
                }
            }
        }
    }

    /// The link to this node is down: whoever waits for that comes up.
    fn hand_over(&mut self, node: NodeId, now: Instant, peers: &mut Peers) {
        let Some(entry) = self.nodes.get_mut(&node) else { return };
        let Some(id) = entry.waiting.take() else { return };
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if let State::Waiting { epoch, verdict } = std::mem::replace(&mut connection.state, State::Greeting) {
            entry.up = Some(id);
            self.come_up(id, epoch, verdict, now, peers);
        }
    }

    fn note_failure(&self, connection: &Connection, failure: &Failure) {
        let (peer, address) = (connection.link.peer(), connection.address);
        match failure {
            Failure::Fault(_) => {
                self.context.metrics.peer_faults.inc();
                self.refusals.line(|| tracing::warn!(%peer, %address, %failure, "peer refused"));
            }
            Failure::Incompatible(_) => {
                self.refusals.line(|| tracing::warn!(%peer, %address, %failure, "peer refused"));
            }
            Failure::Duplicate => {
                self.context.metrics.duplicates.inc();
                tracing::debug!(%peer, %address, %failure, "connection given up");
            }
            _ => tracing::debug!(%peer, %address, %failure, "connection given up"),
        }
    }

    /// A connection is gone. A running task reports its own end; a waiting one will not run.
    pub(super) fn handle_closed(
        &mut self,
        connection: ConnectionId,
        cause: Option<io::Error>,
        peers: &mut Peers,
    ) {
        let Some(id) = self.by_connection.remove(&connection) else { return };
        let Some(connection) = self.connections.get(&id) else { return };
        if let State::Opening { .. } = connection.state {
            let target = connection.target;
            let (peer, address) = (connection.link.peer(), connection.address);
            // A dialler whose certificate is refused learns of it in this way.
            let cause = cause.map_or_else(|| "closed by the peer".to_owned(), |cause| cause.to_string());
            self.connections.remove(&id);
            if let Some(target) = target {
                peers.note(target, &cause);
            }
            let tell = target.map(|target| peers.handle_failure(target, Instant::now(), rand::random()));
            if tell == Some(Tell::Operator) {
                tracing::info!(%peer, %address, %cause, "connection lost before the hellos; trying again");
            } else {
                tracing::debug!(%peer, %address, %cause, "connection lost before the hellos");
            }
            return;
        }
        // Its readers still find what had come before the end. One not up yet has nothing to finish.
        let reason = cause.map_or(DownReason::ClosedByPeer, DownReason::Lost);
        match connection.state {
            State::Up { .. } => connection.link.hang_up(reason),
            _ => connection.link.close(reason),
        }
    }

    /// Looks for connections that do not get on and links that fell silent.
    pub(super) fn handle_check(&mut self, now: Instant, swarm: &mut Swarm<Behaviour>) {
        let config = &self.config;
        for connection in self.connections.values() {
            match connection.state {
                State::Opening { since } if now.duration_since(since) > config.handshake_timeout => {
                    self.context.metrics.handshake_timeouts.inc();
                    swarm.close_connection(connection.id);
                }
                State::Up { .. } if connection.link.silence() > config.silence => {
                    connection.link.close(DownReason::Silent(config.silence));
                }
                _ => {}
            }
        }
    }

    /// Ends all links once what they have queued is written; connections without one at once.
    pub(super) fn drain_all(&mut self, swarm: &mut Swarm<Behaviour>) {
        for connection in self.connections.values() {
            match connection.state {
                State::Up { .. } => connection.link.drain(DownReason::Shutdown),
                _ => connection.link.close(DownReason::Shutdown),
            }
            if let State::Opening { .. } = connection.state {
                swarm.close_connection(connection.id);
            }
        }
    }

    /// Ends everything now.
    pub(super) fn close_all(&mut self, swarm: &mut Swarm<Behaviour>) {
        for connection in self.connections.values() {
            connection.link.close(DownReason::Shutdown);
            swarm.close_connection(connection.id);
        }
    }
}

fn yield_to_other(verdict: oneshot::Sender<Verdict>) {
    // A task that is gone needs no answer.
    let _ = verdict.send(Verdict::Yield);
}
