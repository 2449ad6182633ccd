//! One simulated node: the core's machines, driven as the shell drives them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use amop_protocol::{
    ClientIdentity, Fingerprint, NodeId, NodeKey, SessionId, Time, Topic, Version,
    broker::{
        announce::{Authenticator, NodeInfo},
        budget::Budget,
        control::{self, Control},
        dedup::{Bounds, Keyer, MessageKey},
        deliver::{self, Delivery, route_frame},
        event::{Action, Mode, Publish, PushError, PushId, Subscriber},
        routing::{Routing, TopicRoutes},
        seal::{self, MacSecret, Unheard},
    },
    session::{
        handshake::About,
        server::{self, Acknowledge, Event, Ignored, Published, Report, Server},
        verification::Verdict,
    },
    wire::{
        channel::{Encoded, Frame},
        generated::control::Message,
        link::LinkFrame,
        peer::{self, Body},
    },
};
use bytes::Bytes;

use crate::{
    plan::Limits,
    relay::Relay,
    wants::{INSTITUTIONS, institution},
};

const SHARDS: usize = 2;
/// How long an extension client waits to hear that everybody knows its topics.
const CONFIRMATION: Duration = Duration::from_secs(5);

/// What a node wants the world to do.
pub enum Out {
    Control {
        to: NodeId,
        message: Message,
    },
    Data {
        to: NodeId,
        frame: LinkFrame,
    },
    /// Write this to a client, and tell if it was a push.
    Write {
        session: SessionId,
        client: usize,
        frame: Encoded,
        push: Option<PushId>,
    },
    Settled(Version),
    /// A message with this number was not passed on.
    RefusedByRelay(u64),
}

/// A connection, at the node's end.
pub struct Session {
    /// The client's number.
    pub number: usize,
    identity: Arc<ClientIdentity>,
    server: Server,
    topics: Vec<Topic>,
    /// Subscriptions to be acknowledged: once this version has settled, or at this time anyway.
    unconfirmed: Vec<(Version, Time, Acknowledge)>,
    /// When the last frame queued for it is written.
    pub written: Time,
}

pub struct SimNode {
    pub sessions: BTreeMap<SessionId, Session>,
    pub control: Control,
    pub routing: Arc<Routing>,
    shards: Vec<Delivery>,
    relay: Relay,
    budget: Budget,
    config: server::Config,
    keyer: Keyer,
    /// When it began to shut down.
    pub drained: Option<Time>,
    next_session: u64,
    out: Vec<Out>,
}

/// Signatures of the simulation: anybody's can be checked, nobody's can be forged by accident.
pub struct Trust(pub NodeKey);

impl Authenticator for Trust {
    fn sign(&self, body: &[u8]) -> Bytes {
        signature(&self.0, body)
    }

    fn verify_chain(&self, chain: &[Bytes]) -> Option<NodeInfo> {
        let key: [u8; 64] = chain.first()?[..].try_into().ok()?;
        Some(info(NodeKey::new(key)))
    }

    fn verify(&self, key: &NodeKey, body: &[u8], found: &[u8]) -> bool {
        signature(key, body) == found
    }
}

fn signature(key: &NodeKey, body: &[u8]) -> Bytes {
    let sum =
        |seed: u64| body.iter().fold(seed, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    Bytes::copy_from_slice(&[key.as_bytes().to_vec(), sum(7).to_be_bytes().to_vec()].concat())
}

pub fn key_of(number: usize) -> NodeKey {
    let mut point = [0; 64];
    point[..8].copy_from_slice(&(number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    point[63] = number as u8;
    NodeKey::new(point)
}

fn info(key: NodeKey) -> NodeInfo {
    let institution = institution(key.as_bytes()[63] % INSTITUTIONS);
    NodeInfo { key, name: key.id().to_string().into(), institution: institution.into() }
}

fn mac_secret(key: NodeKey, seed: u64) -> MacSecret {
    let mut secret = [0; 32];
    secret[..8].copy_from_slice(&seed.to_be_bytes());
    secret[8..16].copy_from_slice(&key.as_bytes()[..8]);
    MacSecret::new(secret)
}

pub fn topic(number: u32) -> Topic {
    Topic::parse(&format!("topic-{number}")).expect("a valid name")
}

impl SimNode {
    pub fn start(number: usize, now: Time, epoch: u64, seed: u64, limits: Limits) -> Self {
        let key = key_of(number);
        let me = info(key);
        let chain = vec![Bytes::copy_from_slice(key.as_bytes())];
        let me = control::Me { info: me, chain, address: "".into(), epoch, mac: mac_secret(key, seed) };
        let control = control::Config {
            max_waves: limits.waves,
            lists: limits.lists,
            // Pieces here are so small that an honest node would go beyond its pace.
            burst: Duration::from_secs(1_000),
            ..control::Config::default()
        };
        let control = Control::new(control, me, seed, Box::new(Trust(key)), now);
        let bounds = Bounds { entries: limits.window_entries, bytes: limits.window_bytes };
        let config = deliver::Config { sent: bounds, received: bounds, ..deliver::Config::default() };
        let budget = limits.room.map_or_else(Budget::default, Budget::new);
        let shard = |shard| Delivery::new(config, key.id(), seed, shard as u8).with_budget(budget.clone());
        let shards = (0..SHARDS).map(shard).collect();
        let routing = Arc::new(control.routing().clone());
        Self {
            sessions: BTreeMap::new(),
            control,
            routing,
            shards,
            relay: Relay::new(limits.relay, seed),
            budget,
            config: session_config(key, limits),
            keyer: Keyer::new([seed, number as u64]),
            drained: None,
            next_session: 1,
            out: Vec::new(),
        }
    }

    pub fn open(&mut self, now: Time, client: usize, certificate: u8) -> SessionId {
        let id = SessionId(self.next_session);
        self.next_session += 1;
        let fingerprint = Fingerprint::new([certificate; 32]);
        let session = Session {
            number: client,
            identity: Arc::new(ClientIdentity { fingerprint, name: "client".into() }),
            server: Server::new(now),
            topics: Vec::new(),
            unconfirmed: Vec::new(),
            written: Time::ZERO,
        };
        self.sessions.insert(id, session);
        id
    }

    /// A client's frame.
    pub fn client_frame(&mut self, now: Time, id: SessionId, frame: Frame) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let event = session.server.handle_frame(frame, &self.config).expect("clients stay within bounds");
        match event {
            Event::Reply(frame) | Event::Refused(frame, _) => {
                let client = session.number;
                self.out.push(Out::Write { session: id, client, frame, push: None });
            }
            Event::Report(report) => self.report(now, id, report),
            Event::Publish(published) => self.publish(now, id, published),
            Event::Answer(push, answer, received) => {
                self.received(now, id, received);
                let shard = Delivery::shard_of_number(push.0);
                self.shards[shard].handle_answer(now, &self.routing, id, push, answer);
            }
            Event::Received(received) => self.received(now, id, received),
            Event::Ignored(Ignored::UnknownAnswer) => {}
            Event::Verdict(Verdict { question, topic, trusted }) => {
                self.control.handle_verdict(now, id, &question, &topic, trusted);
            }
            Event::Ignored(Ignored::Verification) => {}
            Event::Call { .. } | Event::Ignored(_) => panic!("clients here send nothing of the kind"),
        }
        self.drain(now);
    }

    fn report(&mut self, now: Time, id: SessionId, report: Report) {
        let Report { topics, acknowledge, .. } = report;
        let Some(session) = self.sessions.get(&id) else { return };
        let client = session.identity.clone();
        self.control.handle_report(now, id, &client, topics.clone());
        let version = self.control.version();
        if let Some(session) = self.sessions.get_mut(&id) {
            let subscriber =
                Subscriber { client: session.identity.clone(), instance: session.server.instance() };
            self.shards.iter_mut().for_each(|shard| shard.handle_subscriber(id, subscriber.clone()));
            session.topics = topics;
            session.unconfirmed.extend(acknowledge.map(|ack| (version, now + CONFIRMATION, ack)));
        }
        self.drain(now);
        if self.control.is_settled() {
            self.confirm(now, version);
        }
    }

    fn publish(&mut self, now: Time, id: SessionId, published: Published) {
        let Published { seq, mode, topic, payload, deadline, wishes } = published;
        let client = self.sessions[&id].identity.clone();
        let instance = self.sessions[&id].server.instance();
        let key = self.keyer.key(&client.fingerprint, mode, &topic, &seq, &payload);
        let publish = Publish { session: id, client, instance, seq, mode, topic, payload, deadline, wishes };
        self.shards[Delivery::shard_of(key, SHARDS)].handle_publish(now, &self.routing, key, publish);
    }

    /// Acknowledges subscriptions: those up to a version that everybody holds, and those overdue.
    fn confirm(&mut self, now: Time, settled: Version) {
        for (id, session) in &mut self.sessions {
            for (version, due, acknowledge) in std::mem::take(&mut session.unconfirmed) {
                if version <= settled || due <= now {
                    let frame = Server::subscribed(acknowledge, version <= settled);
                    self.out.push(Out::Write { session: *id, client: session.number, frame, push: None });
                } else {
                    session.unconfirmed.push((version, due, acknowledge));
                }
            }
        }
    }

    pub fn close(&mut self, now: Time, session: SessionId) {
        self.sessions.remove(&session);
        self.control.handle_session_closed(now, session);
        self.drain(now);
        for shard in &mut self.shards {
            shard.handle_session_closed(now, &self.routing, session);
        }
        self.drain(now);
    }

    pub fn pushed(&mut self, now: Time, session: SessionId, push: PushId, result: Result<(), PushError>) {
        let shard = Delivery::shard_of_number(push.0);
        self.shards[shard].handle_pushed(now, &self.routing, session, push, result);
        self.drain(now);
    }

    /// A frame with a push was written; extension clients say themselves when they have received it.
    pub fn written(&mut self, now: Time, session: SessionId, push: PushId) {
        if self.sessions.get(&session).is_some_and(|session| session.server.is_extended()) {
            self.shards[Delivery::shard_of_number(push.0)].handle_written(session, push);
        } else {
            self.pushed(now, session, push, Ok(()));
        }
    }

    fn received(&mut self, now: Time, session: SessionId, pushes: Vec<PushId>) {
        for push in pushes {
            let shard = Delivery::shard_of_number(push.0);
            self.shards[shard].handle_pushed(now, &self.routing, session, push, Ok(()));
        }
    }

    pub fn link_up(&mut self, now: Time, peer: NodeId) {
        self.control.handle_link_up(now, peer);
        self.drain(now);
    }

    pub fn link_down(&mut self, now: Time, peer: NodeId) {
        self.control.handle_link_down(now, peer);
        self.drain(now);
    }

    pub fn control_message(&mut self, now: Time, from: NodeId, message: Message) {
        self.control.handle_message(now, from, message);
        self.drain(now);
    }

    pub fn data_frame(&mut self, now: Time, from: NodeId, frame: LinkFrame) {
        let routed = route_frame(&self.routing, from, &frame).expect("nodes send valid frames");
        for (to, frame) in routed.onwards {
            self.relay.pass(now, &self.routing, to, frame, &mut self.out);
        }
        if routed.here {
            let message = match seal::open(&self.routing, from, &frame) {
                Ok(message) => message,
                // One of the two has just started, and the other does not know yet.
                Err(Unheard::Unknown(_) | Unheard::Forged(_)) => return self.drain(now),
                // One of ours that came back.
                Err(Unheard::Own) => return self.drain(now),
                Err(cause) => panic!("nodes send valid frames: {cause}"),
            };
            let (key, shard) = self.shard_for(&message.body, &frame.payload);
            self.shards[shard].handle_message_over(now, &self.routing, from, key, message, frame.payload);
        }
        self.drain(now);
    }

    fn shard_for(&self, body: &Body, payload: &[u8]) -> (Option<MessageKey>, usize) {
        let of = |envelope: &peer::Envelope, mode| {
            let peer::Envelope { publisher, topic, seq, .. } = envelope;
            let key = self.keyer.key(&publisher.fingerprint, mode, topic, seq, payload);
            (Some(key), Delivery::shard_of(key, SHARDS))
        };
        match body {
            Body::Attempt { envelope, .. } => of(envelope, Mode::Unicast),
            Body::FanOut { envelope, .. } => of(envelope, Mode::Multicast),
            Body::Handed { send, .. }
            | Body::Outcome { send, .. }
            | Body::FanOutReport { send, .. }
            | Body::Refused { send, .. } => (None, Delivery::shard_of_number(send.id) % SHARDS),
            Body::Inquiry { .. } => (None, 0),
        }
    }

    pub fn wake(&mut self, now: Time) {
        self.control.handle_timeout(now);
        self.drain(now);
        for shard in &mut self.shards {
            shard.handle_timeout(now, &self.routing);
        }
        self.drain(now);
        self.confirm(now, Version { epoch: 0, sequence: 0 });
    }

    pub fn next_wake(&self) -> Option<Time> {
        let shards = self.shards.iter().filter_map(Delivery::poll_timeout);
        let unconfirmed = self.sessions.values().flat_map(|session| &session.unconfirmed);
        let due = unconfirmed.map(|(_, due, _)| *due).min();
        shards.chain(self.control.poll_timeout()).chain(due).min()
    }

    pub fn begin_drain(&mut self, now: Time) {
        self.drained.get_or_insert(now);
        self.control.handle_drain(now);
        self.shards.iter_mut().for_each(Delivery::handle_drain);
        self.drain(now);
    }

    pub fn stop(&mut self, now: Time) {
        self.shards.iter_mut().for_each(|shard| shard.handle_stop(now, &self.routing));
        self.drain(now);
    }

    /// How many sessions here have which topic, by what the clients reported; reserved names are
    /// announced session by session.
    pub fn announced(&self) -> BTreeMap<String, u32> {
        let mut counts = BTreeMap::new();
        let topics = self.sessions.values().flat_map(|session| &session.topics);
        for topic in topics.filter(|topic| !topic.is_reserved()) {
            *counts.entry(topic.to_string()).or_default() += 1;
        }
        counts
    }

    /// What this node's table says of another.
    pub fn announced_by(&self, node: NodeId) -> BTreeMap<String, u32> {
        let index = self.routing.indexed().find(|(_, found)| found.id == node).map(|(index, _)| index);
        let count =
            |routes: &TopicRoutes| routes.nodes.iter().find(|(at, _)| Some(*at) == index).map(|(_, n)| *n);
        self.routing
            .topics()
            .filter(|(topic, _)| !topic.is_reserved())
            .filter_map(|(topic, routes)| Some((topic.to_string(), count(routes)?)))
            .collect()
    }

    /// Messages in the windows.
    pub fn remembered(&self) -> usize {
        self.shards.iter().map(Delivery::remembered).map(|(sent, received)| sent + received).sum()
    }

    /// The most that any window holds: messages that ended or failed, and bytes of outcomes.
    pub fn window_load(&self) -> (usize, usize) {
        let loads = self.shards.iter().flat_map(Delivery::window_loads);
        let resting = self.shards.iter().map(Delivery::resting).max().unwrap_or(0);
        loads.fold((resting, 0), |most, load| (most.0.max(load.entries), most.1.max(load.bytes)))
    }

    /// Bytes of payloads that it holds.
    pub fn held_bytes(&self) -> usize {
        self.budget.held()
    }

    /// How many of this node's sessions have a topic, by what they reported.
    pub fn subscribers(&self, topic: &Topic) -> u32 {
        self.sessions.values().filter(|session| session.topics.contains(topic)).count() as u32
    }

    pub fn take_out(&mut self) -> Vec<Out> {
        std::mem::take(&mut self.out)
    }

    pub fn in_flight(&self) -> usize {
        self.shards.iter().map(Delivery::in_flight).sum()
    }

    fn drain(&mut self, now: Time) {
        let mut gone = Vec::new();
        while let Some(action) = self.control.poll_action() {
            match action {
                control::Action::Send { to, message } => self.out.push(Out::Control { to, message }),
                control::Action::Routing(routing) => {
                    self.routing = Arc::new(routing);
                    for shard in &mut self.shards {
                        shard.handle_routing(now, &self.routing);
                    }
                }
                control::Action::Ask(ask) => {
                    if let Some(at) = self.sessions.get(&ask.publisher) {
                        let (session, client) = (ask.publisher, at.number);
                        self.out.push(Out::Write {
                            session,
                            client,
                            frame: Server::question(&ask),
                            push: None,
                        });
                    }
                }
                control::Action::Settled { version } => {
                    self.out.push(Out::Settled(version));
                    self.confirm(now, version);
                }
                control::Action::PeerFault { peer, fault } => panic!("{peer} is blamed: {fault:?}"),
            }
        }
        for shard in &mut self.shards {
            while let Some(action) = shard.poll_action() {
                let (session, push) = match action {
                    Action::Forward { to, frame } => {
                        self.out.push(Out::Data { to, frame });
                        continue;
                    }
                    Action::Push(push) => (push.session, Ok(push)),
                    Action::Outcome(outcome) => (outcome.session, Err(outcome)),
                    Action::Handed { session, seq } => {
                        if let Some(at) = self.sessions.get(&session)
                            && let Some(frame) = at.server.handed_over(seq)
                        {
                            self.out.push(Out::Write { session, client: at.number, frame, push: None });
                        }
                        continue;
                    }
                };
                let Some(at) = self.sessions.get_mut(&session) else {
                    gone.extend(push.ok().map(|push| (session, push.id)));
                    continue;
                };
                let (frame, push) = match push {
                    Ok(push) => (at.server.push(&push).into_owned(), Some(push.id)),
                    Err(outcome) => (at.server.outcome(outcome), None),
                };
                self.out.push(Out::Write { session, client: at.number, frame, push });
            }
        }
        for (session, push) in gone {
            self.pushed(now, session, push, Err(PushError::Gone));
        }
    }
}

fn session_config(key: NodeKey, limits: Limits) -> server::Config {
    server::Config {
        startup: amop_protocol::session::startup::Config::default(),
        about: About { key, name: "node".into(), institution: "bank".into() },
        max_topics: 10_000,
        max_in_flight: limits.in_flight,
        idle: Duration::from_secs(90),
    }
}
