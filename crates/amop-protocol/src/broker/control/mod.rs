//! Control: what this node tells its neighbours, believes of the rest, and makes of it.
//!
//! One machine owns announcements, routes and subscriptions. It is driven by links that come and
//! go, messages from neighbours, reports from sessions and its timer; it gives messages to send
//! and, after every change, a new routing snapshot.
//!
//! **Invariant**: a node's records change only by newer versions, and only verified ones.
//! **Invariant**: after a report, the snapshot that holds it is the next action polled.

mod gossip;
mod own;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;

pub use self::own::Me;
use self::own::Own;
use super::{
    announce::{Authenticator, Known, KnownNodes, NodeInfo, PeerFault},
    routing::{FixedState, Node, NodeIndex, Routing},
    settle::Settling,
    subscriptions::{Counts, ME, Subscriptions},
    topology::Topology,
};
use crate::{
    NodeId, SessionId, Time, Topic, Version,
    limits::GOSSIP_PERIOD,
    wire::generated::{self as pb, control::Message},
};

/// Bounds of what others can make this node remember.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Nodes known at a time: 4,096. For a further one the node that has been out of reach the
    /// longest is forgotten; if all can be reached, the newcomer's records are ignored and counted.
    pub max_nodes: usize,
    /// Tombstones of nodes that are gone: 16,384. Beyond, the one with the lowest id is forgotten.
    pub max_tombstones: usize,
    /// Topics of this node's own sessions together: 100,000. Further ones are not taken, and counted.
    pub max_own_topics: usize,
    /// Topics one node may announce: 100,000. A longer list is a fault of the neighbour that brings it.
    pub max_topics: usize,
    /// Links one node may announce: 1,024. More are a fault of the neighbour that brings them.
    pub max_links: usize,
    /// How long changes of this node's topics are gathered before they are announced: 5 ms, and
    /// as much again for every earlier announcement that has not settled.
    pub debounce: Duration,
    /// Announcements of one node that may be settling at a time: 64. Beyond, the two oldest are joined.
    pub max_waves: usize,
    /// How long a node's lists outlive the last way to it: 60 s.
    pub expiry: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_nodes: 4_096,
            max_tombstones: 16_384,
            max_own_topics: 100_000,
            max_topics: 100_000,
            max_links: 1_024,
            debounce: Duration::from_millis(5),
            max_waves: 64,
            expiry: Duration::from_secs(60),
        }
    }
}

/// What control asks its driver to do.
#[derive(Clone, Debug)]
pub enum Action {
    /// Send this to a neighbour.
    Send {
        /// The neighbour.
        to: NodeId,
        /// The message.
        message: Message,
    },
    /// Put this snapshot in force for everybody.
    Routing(Routing),
    /// Every reachable node holds this node's topics in this version or a newer one.
    Settled {
        /// The version.
        version: Version,
    },
    /// A neighbour broke the gossip protocol; what it sent has been ignored.
    PeerFault {
        /// The neighbour.
        peer: NodeId,
        /// How.
        fault: PeerFault,
    },
}

/// What control has counted since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Records taken in.
    pub accepted: u64,
    /// Records that told nothing new.
    pub stale: u64,
    /// Records refused because they could not be verified or broke a bound.
    pub refused: u64,
    /// Records of nodes beyond [`Config::max_nodes`].
    pub over_capacity: u64,
    /// Names in lists that are no topics; dropped singly.
    pub bad_topics: u64,
    /// Topics of own sessions beyond [`Config::max_own_topics`].
    pub topics_over_capacity: u64,
    /// Own epochs given up because a higher one of this node was met.
    pub epochs_raised: u64,
    /// Nodes whose lists expired.
    pub expired: u64,
    /// Tombstones forgotten because of [`Config::max_tombstones`].
    pub tombstones_forgotten: u64,
    /// Announcements joined with the next because too many of one node were settling.
    pub joined: u64,
}

/// The control machine.
pub struct Control {
    config: Config,
    authenticator: Box<dyn Authenticator>,
    own: Own,
    known: KnownNodes,
    indices: BTreeMap<NodeId, NodeIndex>,
    free: Vec<NodeIndex>,
    topology: Topology,
    subscriptions: Subscriptions,
    settling: Settling,
    routing: Routing,
    seed: u64,
    next_gossip: Time,
    actions: VecDeque<Action>,
    counters: Counters,
}

impl Control {
    /// Control of the node `me`. `seed` differs from start to start: it decides the phase of the
    /// gossip, and how far the epoch rises if it must.
    pub fn new(config: Config, me: Me, seed: u64, authenticator: Box<dyn Authenticator>, now: Time) -> Self {
        let id = me.info.key.id();
        let routing = Routing::new(node_of(&me.info, me.address.clone(), me.epoch));
        let own = Own::new(me, &*authenticator);
        // Nodes that start together do not gossip in step.
        let phase = GOSSIP_PERIOD.mul_f64((seed % 1000) as f64 / 1000.0);
        Self {
            config,
            authenticator,
            own,
            known: KnownNodes::new(),
            indices: BTreeMap::from([(id, ME)]),
            free: Vec::new(),
            topology: Topology::new(id),
            subscriptions: Subscriptions::new(id),
            settling: Settling::default(),
            routing,
            seed,
            next_gossip: now + phase,
            actions: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// A link to `peer` is up.
    pub fn handle_link_up(&mut self, now: Time, peer: NodeId) {
        if self.topology.up().contains(&peer) {
            // A new link in place of one that was not known to be lost.
            self.handle_link_down(now, peer);
        }
        self.topology.link_up(peer);
        self.send(peer, Message::Record(self.own.identity.clone()));
        self.announce_links();
        self.send(peer, Message::Vector(self.vector()));
        self.routes_changed();
    }

    /// The link to `peer` is lost.
    pub fn handle_link_down(&mut self, _now: Time, peer: NodeId) {
        self.topology.link_down(&peer);
        self.announce_links();
        self.settling.lost(&peer);
        self.routes_changed();
        self.tell_settled();
    }

    /// A neighbour's round-trip time was measured.
    pub fn handle_round_trip(&mut self, _now: Time, peer: NodeId, round_trip: Duration) {
        self.topology.measured(peer, round_trip);
    }

    /// A session's whole set of topics.
    pub fn handle_report(&mut self, now: Time, session: SessionId, mut topics: Vec<Topic>) {
        let offered = topics.len();
        self.subscriptions.keep_within(session, &mut topics, self.config.max_own_topics);
        self.counters.topics_over_capacity += (offered - topics.len()) as u64;
        if self.subscriptions.report(session, topics) {
            // The longer the echo of earlier changes takes, the more are gathered.
            let under_way = self.settling.under_way(&self.own.id());
            self.own.topics_changed(now + self.config.debounce * (1 + under_way as u32));
        }
        self.publish_routing(false);
    }

    /// A session is gone, and its topics with it.
    pub fn handle_session_closed(&mut self, now: Time, session: SessionId) {
        self.handle_report(now, session, Vec::new());
    }

    /// From now on this node announces no topics; its own sessions keep theirs.
    pub fn handle_drain(&mut self, now: Time) {
        self.own.draining = true;
        self.own.topics_changed(now);
        self.announce_topics(now);
    }

    /// A neighbour's message. A hello is the link's affair and ignored here.
    /// Only neighbours are listened to.
    pub fn handle_message(&mut self, now: Time, from: NodeId, message: Message) {
        if !self.topology.up().contains(&from) {
            return;
        }
        match message {
            Message::Hello(_) => {}
            Message::Heartbeat(heartbeat) => self.heartbeat(now, from, &heartbeat),
            Message::Vector(vector) => self.compare(from, &vector),
            Message::Pull(pull) => self.pulled(from, &pull),
            Message::Record(record) => self.record(now, from, record),
            Message::Settled(settled) => self.settled_by(from, &settled),
        }
        self.tell_settled();
    }

    /// Announces gathered changes, and gossips when it is time.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.own.topics_due.is_some_and(|due| due <= now) {
            self.announce_topics(now);
        }
        if self.next_gossip <= now {
            self.next_gossip = now + GOSSIP_PERIOD;
            self.gossip(now);
        }
        self.tell_settled();
    }

    /// When [`Control::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Time> {
        Some(self.own.topics_due.map_or(self.next_gossip, |due| due.min(self.next_gossip)))
    }

    /// What to do next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The current snapshot.
    pub fn routing(&self) -> &Routing {
        &self.routing
    }

    /// This node's epoch and the sequence of its topics; the sequence is that in which all
    /// reports so far are (or will, after the debounce, be) announced.
    pub fn version(&self) -> Version {
        self.own.version()
    }

    /// Whether every reachable node holds this node's topics as reported so far.
    pub fn is_settled(&self) -> bool {
        self.own.topics_due.is_none() && self.settling.under_way(&self.own.id()) == 0
    }

    /// Announcements, of all nodes, that this node does not yet know to have settled.
    pub fn settling(&self) -> usize {
        self.settling.len()
    }

    /// What has been counted.
    pub fn counters(&self) -> Counters {
        Counters { joined: self.settling.joined(), ..self.counters }
    }

    /// Nodes of which anything is held, tombstones included.
    pub fn known(&self) -> usize {
        self.known.len()
    }

    /// Different topics of this node's sessions.
    pub fn local_topics(&self) -> usize {
        self.subscriptions.local_topics()
    }

    fn send(&mut self, to: NodeId, message: Message) {
        self.actions.push_back(Action::Send { to, message });
    }

    fn neighbours_but(&self, peer: Option<NodeId>) -> BTreeSet<NodeId> {
        self.topology.up().iter().copied().filter(|up| Some(*up) != peer).collect()
    }

    fn flood(&mut self, record: &pb::SignedRecord, but: Option<NodeId>) -> BTreeSet<NodeId> {
        let neighbours = self.neighbours_but(but);
        for peer in &neighbours {
            self.send(*peer, Message::Record(record.clone()));
        }
        neighbours
    }

    fn announce_links(&mut self) {
        // Others refuse longer lists; links beyond serve neighbours only.
        let announced = self.topology.up().iter().copied().take(self.config.max_links).collect();
        let record = self.own.next_links(&announced, &*self.authenticator);
        self.flood(&record, None);
    }

    fn announce_topics(&mut self, now: Time) {
        let record = self.own.next_topics(self.subscriptions.announced(), &*self.authenticator);
        let neighbours = self.flood(&record, None);
        let (me, version) = (self.own.id(), self.own.version());
        self.settling.start(now, me, version, neighbours, None, self.config.max_waves);
        self.tell_settled();
    }

    fn tell_settled(&mut self) {
        let (answers, own) = self.settling.finish(&self.own.id());
        for (to, origin, version) in answers {
            self.send_settled(to, origin, version);
        }
        if let Some(version) = own {
            self.actions.push_back(Action::Settled { version });
        }
    }

    fn send_settled(&mut self, to: NodeId, origin: NodeId, version: Version) {
        let node = Bytes::copy_from_slice(origin.as_bytes());
        let settled = pb::Settled { node, epoch: version.epoch, sequence: version.sequence };
        self.send(to, Message::Settled(settled));
    }

    /// Works the routes out anew, and tells if anything came of it.
    fn routes_changed(&mut self) {
        let before: BTreeSet<NodeId> = self.topology.ways().keys().copied().collect();
        if self.topology.recompute() {
            self.publish_routing(true);
            self.tell_of_newcomers(&before);
        }
    }

    fn publish_routing(&mut self, ways: bool) {
        self.routing.revision += 1;
        self.routing.topics = self.subscriptions.table();
        if ways {
            let (nodes, index) = self.reachable();
            self.routing.nodes = Arc::new(nodes);
            self.routing.index = Arc::new(index);
            self.routing.graph = self.topology.graph().clone();
        }
        self.actions.push_back(Action::Routing(self.routing.clone()));
    }

    fn reachable(&self) -> (Vec<Option<Node>>, HashMap<NodeId, NodeIndex, FixedState>) {
        let me = self.own.id();
        let mut nodes = vec![None; self.indices.len() + self.free.len()];
        let mut index = HashMap::default();
        nodes[ME.0 as usize] = Some(node_of(&self.own.info, self.own.address(), self.own.epoch));
        index.insert(me, ME);
        for (id, way) in self.topology.ways() {
            let Some(Known { epoch, identity: Some(identity), .. }) = self.known.get(id) else {
                continue;
            };
            let Some(at) = self.indices.get(id) else { continue };
            let node = Node {
                next_hop: way.next_hop,
                hops: way.hops,
                way: way.mark,
                seal: Some(identity.seal.clone()),
                ..node_of(&identity.info, identity.address.clone(), *epoch)
            };
            nodes[at.0 as usize] = Some(node);
            index.insert(*id, *at);
        }
        (nodes, index)
    }

    /// A place for a node in the tables of the snapshot.
    fn index_of(&mut self, node: NodeId) -> NodeIndex {
        if let Some(index) = self.indices.get(&node) {
            return *index;
        }
        let next = NodeIndex(self.indices.len() as u32);
        let index = self.free.pop().unwrap_or(next);
        self.indices.insert(node, index);
        index
    }

    /// Takes a node out of routes and topics; its place may be given to another.
    fn forget(&mut self, node: NodeId) {
        self.topology.announced(node, BTreeSet::new());
        if let Some(index) = self.indices.remove(&node) {
            self.subscriptions.announce(index, node, Counts::new());
            self.free.push(index);
        }
    }
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control")
            .field("me", &self.own.id())
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

/// This very node, or what another is but for the way there.
fn node_of(info: &NodeInfo, address: Arc<str>, epoch: u64) -> Node {
    Node {
        id: info.key.id(),
        key: info.key,
        name: info.name.clone(),
        institution: info.institution.clone(),
        address,
        epoch,
        next_hop: info.key.id(),
        hops: 0,
        way: 0,
        seal: None,
    }
}

#[cfg(test)]
mod tests;
