//! One simulated node: the core's machines, driven as the shell drives them.

use std::{collections::BTreeMap, sync::Arc};

use amop_protocol::{
    ClientIdentity, Fingerprint, NodeId, NodeKey, Seq, SessionId, Time, Topic, Version,
    broker::{
        announce::{Authenticator, NodeInfo},
        control::{self, Control},
        dedup::{Keyer, MessageKey},
        deliver::{self, Delivery, route_frame},
        event::{Action, Answer, Mode, Outcome, Publish, Push, PushError, PushId},
        routing::{Routing, TopicRoutes},
        seal::{self, MacSecret, Unheard},
    },
    wire::{
        generated::control::Message,
        link::LinkFrame,
        peer::{self, Body},
    },
};
use bytes::Bytes;

use crate::oracle::Behaviour;

const SHARDS: usize = 2;

/// What a node wants the world to do.
pub enum Out {
    Control { to: NodeId, message: Message },
    Data { to: NodeId, frame: LinkFrame },
    Push(Push),
    Outcome(Outcome),
    Settled(Version),
}

pub struct Session {
    /// Its number with the oracle.
    pub number: usize,
    pub client: Arc<ClientIdentity>,
    pub behaviour: Behaviour,
    pub topics: Vec<u32>,
    /// When the last frame queued for it is written.
    pub written: Time,
}

pub struct SimNode {
    pub sessions: BTreeMap<SessionId, Session>,
    pub control: Control,
    pub routing: Arc<Routing>,
    shards: Vec<Delivery>,
    keyer: Keyer,
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
    NodeInfo { key, name: key.id().to_string().into(), institution: "bank".into() }
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
    pub fn start(number: usize, now: Time, epoch: u64, seed: u64, deadline: std::time::Duration) -> Self {
        let key = key_of(number);
        let me = info(key);
        let chain = vec![Bytes::copy_from_slice(key.as_bytes())];
        let me = control::Me { info: me, chain, address: "".into(), epoch, mac: mac_secret(key, seed) };
        let control = Control::new(control::Config::default(), me, seed, Box::new(Trust(key)), now);
        let config = deliver::Config { default_deadline: deadline, ..deliver::Config::default() };
        let shards = (0..SHARDS).map(|shard| Delivery::new(config, key.id(), seed, shard as u8)).collect();
        let routing = Arc::new(control.routing().clone());
        Self {
            sessions: BTreeMap::new(),
            control,
            routing,
            shards,
            keyer: Keyer::new([seed, number as u64]),
            next_session: 1,
            out: Vec::new(),
        }
    }

    pub fn open(&mut self, number: usize, certificate: u8, behaviour: Behaviour) -> SessionId {
        let id = SessionId(self.next_session);
        self.next_session += 1;
        let client = Arc::new(ClientIdentity {
            fingerprint: Fingerprint::new([certificate; 32]),
            name: "client".into(),
        });
        self.sessions
            .insert(id, Session { number, client, behaviour, topics: Vec::new(), written: Time::ZERO });
        id
    }

    pub fn report(&mut self, now: Time, session: SessionId, topics: Vec<u32>) {
        let names = topics.iter().map(|number| topic(*number)).collect();
        self.control.handle_report(now, session, names);
        if let Some(session) = self.sessions.get_mut(&session) {
            session.topics = topics;
        }
        self.drain(now);
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

    pub fn publish(
        &mut self,
        now: Time,
        session: SessionId,
        seq: Seq,
        mode: Mode,
        topic: Topic,
        payload: Bytes,
    ) {
        let client = self.sessions[&session].client.clone();
        let key = self.keyer.key(&client.fingerprint, mode, &topic, &seq);
        let publish = Publish { session, client, seq, mode, topic, payload, deadline: None };
        self.shards[Delivery::shard_of(key, SHARDS)].handle_publish(now, &self.routing, key, publish);
        self.drain(now);
    }

    pub fn pushed(&mut self, now: Time, session: SessionId, push: PushId, result: Result<(), PushError>) {
        let shard = Delivery::shard_of_number(push.0);
        self.shards[shard].handle_pushed(now, &self.routing, session, push, result);
        self.drain(now);
    }

    pub fn answer(&mut self, now: Time, session: SessionId, push: PushId, answer: Answer) {
        let shard = Delivery::shard_of_number(push.0);
        self.shards[shard].handle_answer(now, &self.routing, session, push, answer);
        self.drain(now);
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
        self.out.extend(routed.onwards.into_iter().map(|(to, frame)| Out::Data { to, frame }));
        if routed.here {
            let message = match seal::open(&self.routing, from, &frame) {
                Ok(message) => message,
                // One of the two has just started, and the other does not know yet.
                Err(Unheard::Unknown(_) | Unheard::Forged(_)) => return self.drain(now),
                Err(cause) => panic!("nodes send valid frames: {cause}"),
            };
            let (key, shard) = self.shard_for(&message.body);
            self.shards[shard].handle_message(now, &self.routing, key, message, frame.payload);
        }
        self.drain(now);
    }

    fn shard_for(&self, body: &Body) -> (Option<MessageKey>, usize) {
        let of = |envelope: &peer::Envelope, mode| {
            let key = self.keyer.key(&envelope.publisher.fingerprint, mode, &envelope.topic, &envelope.seq);
            (Some(key), Delivery::shard_of(key, SHARDS))
        };
        match body {
            Body::Attempt { envelope, .. } => of(envelope, Mode::Unicast),
            Body::FanOut { envelope, .. } => of(envelope, Mode::Multicast),
            Body::Handed { send, .. }
            | Body::Outcome { send, .. }
            | Body::FanOutReport { send, .. }
            | Body::Refused { send, .. } => (None, Delivery::shard_of_number(send.id) % SHARDS),
        }
    }

    pub fn wake(&mut self, now: Time) {
        self.control.handle_timeout(now);
        self.drain(now);
        for shard in &mut self.shards {
            shard.handle_timeout(now, &self.routing);
        }
        self.drain(now);
    }

    pub fn next_wake(&self) -> Option<Time> {
        let shards = self.shards.iter().filter_map(Delivery::poll_timeout);
        shards.chain(self.control.poll_timeout()).min()
    }

    pub fn begin_drain(&mut self, now: Time) {
        self.control.handle_drain(now);
        self.shards.iter_mut().for_each(Delivery::handle_drain);
        self.drain(now);
    }

    pub fn stop(&mut self, now: Time) {
        self.shards.iter_mut().for_each(|shard| shard.handle_stop(now));
        self.drain(now);
    }

    /// How many sessions here have which topic, by what the clients reported.
    pub fn announced(&self) -> BTreeMap<String, u32> {
        let mut counts = BTreeMap::new();
        for number in self.sessions.values().flat_map(|session| &session.topics) {
            *counts.entry(topic(*number).to_string()).or_default() += 1;
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
            .filter_map(|(topic, routes)| Some((topic.to_string(), count(routes)?)))
            .collect()
    }

    /// Messages in the windows.
    pub fn remembered(&self) -> usize {
        self.shards.iter().map(Delivery::remembered).map(|(sent, received)| sent + received).sum()
    }

    pub fn take_out(&mut self) -> Vec<Out> {
        std::mem::take(&mut self.out)
    }

    pub fn in_flight(&self) -> usize {
        self.shards.iter().map(Delivery::in_flight).sum()
    }

    fn drain(&mut self, now: Time) {
        while let Some(action) = self.control.poll_action() {
            match action {
                control::Action::Send { to, message } => self.out.push(Out::Control { to, message }),
                control::Action::Routing(routing) => {
                    self.routing = Arc::new(routing);
                    for shard in &mut self.shards {
                        shard.handle_routing(now, &self.routing);
                    }
                }
                control::Action::Settled { version } => self.out.push(Out::Settled(version)),
                control::Action::PeerFault { peer, fault } => panic!("{peer} is blamed: {fault:?}"),
            }
        }
        for shard in &mut self.shards {
            while let Some(action) = shard.poll_action() {
                self.out.push(match action {
                    Action::Push(push) => Out::Push(push),
                    Action::Outcome(outcome) => Out::Outcome(outcome),
                    Action::Forward { to, frame } => Out::Data { to, frame },
                });
            }
        }
    }
}
