//! Control: what this node tells its neighbours, believes of the rest, and makes of it.
//!
//! One machine owns announcements, routes and subscriptions. It is driven by links that come and
//! go, messages from neighbours, reports from sessions and its timer; it gives messages to send
//! and, after every change, a new routing snapshot.
//!
//! **Invariant**: a node's records change only by newer versions, and only verified ones.
//! **Invariant**: after a report, the snapshot that holds it is the next action polled.

pub(crate) mod asks;
mod compare;
mod config;
mod expire;
mod own;
mod privacy;
mod renew;
mod snapshot;
mod take;
mod topics;

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use self::{asks::Asks, own::Own, snapshot::node_of};
pub use self::{
    asks::{LONGEST_ANSWER, PATIENCE},
    config::{Config, Counters},
    own::Me,
    snapshot::ROUTES_PAUSE,
};
use super::{
    announce::{Authenticator, KnownNodes, PeerFault},
    private::{Ask, OwnHolders, Verification},
    routing::{NodeIndex, Routing},
    settle::Settling,
    subscriptions::{ME, Subscriptions},
    topology::Topology,
};
use crate::{
    ClientIdentity, NodeId, SessionId, Time, Topic, Version,
    limits::GOSSIP_PERIOD,
    wire::generated::{RecordKind, SignedRecord, control::Message},
};

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
    /// Put a question to a publisher of this node; [`Control::handle_verdict`] takes its answer.
    Ask(Ask),
    /// A neighbour broke the gossip protocol; what it sent has been ignored.
    PeerFault {
        /// The neighbour.
        peer: NodeId,
        /// How.
        fault: PeerFault,
    },
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
    holders: OwnHolders,
    verification: Verification,
    settling: Settling,
    asks: Asks,
    routing: Routing,
    seed: u64,
    next_gossip: Time,
    routed_at: Option<Time>,
    routes_due: Option<Time>,
    /// Whether a node has a new identity, which the snapshot has yet to show.
    renewed: bool,
    /// Of all versions held; none after a change.
    digest: Cell<Option<u64>>,
    actions: VecDeque<Action>,
    counters: Counters,
}

impl Control {
    /// Control of the node `me`. `seed` differs from start to start: it decides the phase of the
    /// gossip, and how far the epoch rises if it must.
    pub fn new(config: Config, me: Me, seed: u64, authenticator: Box<dyn Authenticator>, now: Time) -> Self {
        let id = me.info.key.id();
        let routing = Routing::new(node_of(&me.info, me.address.clone(), me.epoch));
        let verification = Verification::new(id, me.mac.derive("amop/questions/1"));
        let own = Own::new(me, config.lists, &*authenticator);
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
            holders: OwnHolders::default(),
            verification,
            settling: Settling::default(),
            // The neighbour itself, and as many others as it may know.
            asks: Asks::new(config.max_nodes.saturating_add(1)),
            routing,
            seed,
            next_gossip: now + phase,
            routed_at: None,
            routes_due: None,
            renewed: false,
            digest: Cell::new(None),
            actions: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Changes bounds for everything that comes from now on; what is held beyond a lower one stays.
    pub fn configure(&mut self, config: Config) {
        self.asks.set_most(config.max_nodes.saturating_add(1));
        self.config = config;
    }

    /// A link to `peer` is up.
    pub fn handle_link_up(&mut self, now: Time, peer: NodeId) {
        if self.topology.up().contains(&peer) {
            // A new link in place of one that was not known to be lost.
            self.handle_link_down(now, peer);
        }
        self.digest.take();
        self.topology.link_up(peer);
        self.send(peer, Message::Record(self.own.identity.clone()));
        self.announce_links();
        self.send_vector(peer);
        self.routes_changed(now);
    }

    /// The link to `peer` is lost.
    pub fn handle_link_down(&mut self, now: Time, peer: NodeId) {
        self.digest.take();
        self.topology.link_down(&peer);
        self.announce_links();
        self.settling.lost(&peer);
        self.ask_others(now, &peer);
        self.routes_changed(now);
        self.tell_settled();
    }

    /// A neighbour's round-trip time was measured.
    pub fn handle_round_trip(&mut self, _now: Time, peer: NodeId, round_trip: Duration) {
        self.topology.measured(peer, round_trip);
    }

    /// A session's whole set of topics, and whose session it is.
    pub fn handle_report(
        &mut self,
        now: Time,
        session: SessionId,
        client: &Arc<ClientIdentity>,
        topics: Vec<Topic>,
    ) {
        self.replace_topics(now, session, Some(client), topics);
    }

    /// A session is gone, and its topics with it.
    pub fn handle_session_closed(&mut self, now: Time, session: SessionId) {
        self.replace_topics(now, session, None, Vec::new());
    }

    fn replace_topics(
        &mut self,
        now: Time,
        session: SessionId,
        client: Option<&Arc<ClientIdentity>>,
        mut topics: Vec<Topic>,
    ) {
        let offered = topics.len();
        self.subscriptions.keep_within(session, &mut topics, self.config.max_own_topics);
        self.counters.topics_over_capacity += (offered - topics.len()) as u64;
        let told = self.holders.report(session, client, &topics);
        self.verify_own(now, session, client, &topics);
        if self.subscriptions.report(session, topics) || told {
            // The longer the echo of earlier changes takes, the more are gathered.
            let under_way = self.settling.under_way(&self.own.id());
            self.own.topics_changed(now + self.config.debounce * (1 + under_way as u32));
        }
        self.publish_routing(false);
        self.put_questions();
    }

    /// From now on this node announces no topics; its own sessions keep theirs.
    pub fn handle_drain(&mut self, now: Time) {
        self.own.draining = true;
        self.digest.take();
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
            Message::Vector(vector) => self.compare(now, from, &vector),
            Message::Pull(pull) => self.pulled(from, &pull),
            Message::Record(record) => {
                self.digest.take();
                self.record(now, from, record);
            }
            Message::Settled(settled) => self.settled_by(from, &settled),
        }
        self.tell_settled();
    }

    /// Announces gathered changes, and gossips when it is time.
    pub fn handle_timeout(&mut self, now: Time) {
        self.digest.take();
        if self.own.topics_due.is_some_and(|due| due <= now) {
            self.announce_topics(now);
        }
        if self.next_gossip <= now {
            self.next_gossip = now + GOSSIP_PERIOD;
            self.gossip(now);
        }
        if self.routes_due.is_some_and(|due| due <= now) {
            self.routes_changed(now);
        }
        self.ask_again(now);
        self.verification.handle_timeout(now);
        self.verification_changed();
        self.tell_settled();
    }

    /// When [`Control::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Time> {
        let verification = self.verification.poll_timeout();
        let due = [self.own.topics_due, self.asks.due(), self.routes_due, verification];
        due.into_iter().flatten().chain([self.next_gossip]).min()
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
        let private = self.verification.counters();
        Counters { joined: self.settling.joined(), private, ..self.counters }
    }

    /// Nodes of which anything is held, tombstones included.
    pub fn known(&self) -> usize {
        self.known.len()
    }

    /// A hash of the versions held of all reachable nodes: equal where the same is known.
    pub fn digest(&self) -> u64 {
        let digest = self.digest.get().unwrap_or_else(|| self.versions_digest());
        self.digest.set(Some(digest));
        digest
    }

    /// What neighbours claim to know better and have not been heard about yet.
    pub fn claims(&self) -> usize {
        self.asks.len()
    }

    /// Bytes of other nodes' lists that are not complete.
    pub fn unfinished_bytes(&self) -> usize {
        self.known.values().map(|known| known.topics.unfinished()).sum()
    }

    /// Different topics of this node's sessions, where a reserved name counts once for each session.
    pub fn local_topics(&self) -> usize {
        self.subscriptions.local_topics()
    }

    fn send(&mut self, to: NodeId, message: Message) {
        self.actions.push_back(Action::Send { to, message });
    }

    fn neighbours(&self) -> Vec<NodeId> {
        self.topology.up().iter().copied().collect()
    }

    /// Who need not be sent a record: the one it came from, and those who say that they hold it.
    fn but(
        &self,
        from: NodeId,
        node: NodeId,
        epoch: u64,
        record: Option<(RecordKind, u64)>,
    ) -> BTreeSet<NodeId> {
        let holders = self.asks.holders(&node, epoch, record);
        holders.into_iter().chain([from]).collect()
    }

    /// Sends records to all neighbours `but` these; gives those it was sent to.
    fn spread(&mut self, records: &[SignedRecord], but: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
        let to: BTreeSet<NodeId> = self.topology.up().difference(but).copied().collect();
        for peer in &to {
            for record in records {
                self.send(*peer, Message::Record(record.clone()));
            }
        }
        to
    }

    fn blame(&mut self, peer: NodeId, fault: PeerFault) {
        self.actions.push_back(Action::PeerFault { peer, fault });
    }

    fn announce_links(&mut self) {
        // Others refuse longer lists; links beyond serve neighbours only.
        let announced = self.topology.up().iter().copied().take(self.config.max_links).collect();
        let record = self.own.next_links(&announced, &*self.authenticator);
        self.spread(&[record], &BTreeSet::new());
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

#[cfg(test)]
mod tests;
