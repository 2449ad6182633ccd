//! Messages through the core of several nodes, without IO: from publish to outcome.
//!
//! Frames go from one node's delivery to the next in the same loop. Equal on every run, so that its instructions
//! can be counted.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use amop_protocol::{
    ClientIdentity, Fingerprint, NodeId, NodeKey, Seq, SessionId, Time, Topic,
    broker::{
        announce::{Authenticator, NodeInfo},
        control::{self, Control, Me},
        dedup::Keyer,
        deliver::{self, Delivery, route_frame},
        event::{Action, Answer, AnswerBody, Mode, Publish, Push, Subscriber},
        journal::{Journal, Key, Step},
        lists::ListHash,
        routing::Routing,
        seal::{self, MacSecret},
    },
    wire::{
        generated::{self as pb, control::Message, record::Content},
        link::LinkFrame,
        peer::{self, Body, DataMessage, Envelope},
    },
};
use bytes::Bytes;
use prost::Message as _;

use super::work::{ANSWER, Kind, PAYLOAD, TOPIC, Work};

const PUBLISHER: SessionId = SessionId(1_000);
const EPOCH: u64 = 1;
/// Between two messages.
const STEP: Duration = Duration::from_millis(1);

/// Sends so many messages, one after the other.
pub(crate) fn play(work: Work, messages: u64) {
    let mut line = Line::new(work);
    for number in 1..=messages {
        line.publish(number);
    }
    assert_eq!(line.outcomes, messages, "every send has its outcome");
    let deliveries: u64 = (0..work.nodes).map(|node| work.receivers_at(node)).sum();
    assert_eq!(line.pushes, messages * deliveries, "all receivers have everything");
}

/// Nodes in a line: what each has of the data path.
struct Line {
    mode: Mode,
    nodes: Vec<Node>,
    /// Frames on their way: from which node to which.
    frames: VecDeque<(usize, usize, LinkFrame)>,
    now: Time,
    topic: Topic,
    client: Arc<ClientIdentity>,
    payload: Bytes,
    answer: AnswerBody,
    pushes: u64,
    outcomes: u64,
}

struct Node {
    delivery: Delivery,
    keyer: Keyer,
    routing: Routing,
    /// Of what is relayed.
    relayed: Journal,
}

impl Line {
    fn new(work: Work) -> Self {
        let mode = match work.kind {
            Kind::Request => Mode::Unicast,
            Kind::Multicast => Mode::Multicast,
        };
        let prefix = [&[TOPIC.len() as u8 + 1], TOPIC.as_bytes()].concat();
        Self {
            mode,
            nodes: (0..work.nodes).map(|index| Node::new(index, work)).collect(),
            frames: VecDeque::new(),
            now: Time::ZERO,
            topic: Topic::parse(TOPIC).expect("a topic"),
            client: client(PUBLISHER),
            payload: vec![7; PAYLOAD].into(),
            answer: AnswerBody { prefix: prefix.into(), payload: vec![7; ANSWER].into() },
            pushes: 0,
            outcomes: 0,
        }
    }

    fn publish(&mut self, number: u64) {
        self.now += STEP;
        let seq = Seq::from_u128(number.into());
        let publish = Publish {
            session: PUBLISHER,
            client: self.client.clone(),
            instance: None,
            seq,
            mode: self.mode,
            topic: self.topic.clone(),
            payload: self.payload.clone(),
            deadline: None,
            wishes: None,
        };
        let Node { delivery, keyer, routing, .. } = &mut self.nodes[0];
        let key = keyer.key(&self.client.fingerprint, self.mode, &self.topic, &seq, &self.payload);
        delivery.handle_publish(self.now, routing, key, publish);
        self.carry_out(0);
        while let Some((from, to, frame)) = self.frames.pop_front() {
            self.receive(from, to, frame);
        }
        for index in 0..self.nodes.len() {
            let Node { delivery, routing, .. } = &mut self.nodes[index];
            if delivery.poll_timeout().is_some_and(|due| due <= self.now) {
                delivery.handle_timeout(self.now, routing);
                self.carry_out(index);
            }
        }
    }

    fn receive(&mut self, from: usize, to: usize, frame: LinkFrame) {
        let Node { delivery, keyer, routing, relayed } = &mut self.nodes[to];
        let routed = route_frame(routing, id(from), &frame).expect("a valid frame");
        for (next, copy) in routed.onwards {
            relayed.set_now(self.now);
            if relayed.is_on()
                && let Some(subject) = peer::subject(&copy.header)
            {
                let key = Key::new(subject.origin, subject.send);
                let (from, to) = (id(from).into(), next.into());
                relayed.note(key, subject.number, Step::Relayed { what: subject.what, from, to });
            }
            self.frames.push_back((to, index_of(next), copy));
        }
        if routed.here {
            let message = seal::open(routing, id(from), &frame).expect("from its origin");
            let key = envelope_of(&message).map(|envelope| {
                let publisher = &envelope.publisher.fingerprint;
                keyer.key(publisher, self.mode, &envelope.topic, &envelope.seq, &frame.payload)
            });
            delivery.handle_message_over(self.now, routing, id(from), key, message, frame.payload);
            self.carry_out(to);
        }
    }

    fn carry_out(&mut self, index: usize) {
        while let Some(action) = self.nodes[index].delivery.poll_action() {
            match action {
                Action::Push(push) => self.take(index, &push),
                Action::Forward { to, frame } => self.frames.push_back((index, index_of(to), frame)),
                Action::Outcome(outcome) => {
                    assert_eq!(outcome.cause.status(), amop_protocol::Status::Success, "{outcome:?}");
                    self.outcomes += 1;
                }
                Action::Handed { .. } => {}
            }
        }
    }

    /// A subscriber has been handed it, and answers if that is wanted.
    fn take(&mut self, index: usize, push: &Push) {
        self.pushes += 1;
        let Node { delivery, routing, .. } = &mut self.nodes[index];
        delivery.handle_pushed(self.now, routing, push.session, push.id, Ok(()));
        if push.mode == Mode::Unicast {
            let answer = Answer { result: 0, body: self.answer.clone() };
            delivery.handle_answer(self.now, routing, push.session, push.id, answer);
        }
    }
}

impl Node {
    fn new(index: usize, work: Work) -> Self {
        let config = deliver::Config::default();
        let mut delivery = Delivery::new(config, id(index), EPOCH, 0);
        for session in sessions(index, work) {
            delivery.handle_subscriber(session, Subscriber { client: client(session), instance: None });
        }
        let (keyer, relayed) = (Keyer::new([1, 2]), Journal::new(config.journal));
        Self { delivery, keyer, routing: routing(index, work), relayed }
    }
}

fn sessions(index: usize, work: Work) -> impl Iterator<Item = SessionId> {
    (0..work.receivers_at(index)).map(SessionId)
}

fn envelope_of(message: &DataMessage) -> Option<&Envelope> {
    match &message.body {
        Body::Attempt { envelope, .. } | Body::FanOut { envelope, .. } => Some(envelope),
        Body::Handed { .. }
        | Body::Outcome { .. }
        | Body::FanOutReport { .. }
        | Body::Refused { .. }
        | Body::Inquiry { .. } => None,
    }
}

/// What the node at `me` holds once all have told each other everything.
fn routing(me: usize, work: Work) -> Routing {
    let node =
        Me { info: info(key(me)), chain: chain(me), address: "".into(), epoch: EPOCH, mac: secret(me) };
    let mut control = Control::new(control::Config::default(), node, 1, Box::new(Believer), Time::ZERO);
    for neighbour in neighbours(me, work.nodes) {
        control.handle_link_up(Time::ZERO, id(neighbour));
    }
    let topic = Topic::parse(TOPIC).expect("a topic");
    for session in sessions(me, work) {
        control.handle_report(Time::ZERO, session, &client(session), vec![topic.clone()]);
    }
    for other in (0..work.nodes).filter(|other| *other != me) {
        let from = if other < me { me - 1 } else { me + 1 };
        for content in records(other, work) {
            let node = Bytes::copy_from_slice(id(other).as_bytes());
            let record = pb::Record { node, epoch: EPOCH, sequence: 1, content: Some(content) };
            let signed = pb::SignedRecord { body: record.encode_to_vec().into(), signature: Bytes::new() };
            control.handle_message(Time::ZERO, id(from), Message::Record(signed));
        }
    }
    control.handle_timeout(Time::ZERO + Duration::from_secs(1));
    let routing = control.routing().clone();
    assert_eq!(routing.reachable().count(), work.nodes, "the line is whole");
    routing
}

/// What another node says of itself.
fn records(index: usize, work: Work) -> [Content; 3] {
    let x25519_key = Bytes::copy_from_slice(&secret(index).public());
    let identity = pb::IdentityContent { chain: chain(index), x25519_key, ..pb::IdentityContent::default() };
    let neighbours = neighbours(index, work.nodes).map(|node| Bytes::copy_from_slice(id(node).as_bytes()));
    let links = pb::LinksContent { neighbours: neighbours.collect() };
    let subscribers = work.receivers_at(index) as u32;
    let entry = (subscribers > 0).then(|| pb::TopicCount { topic: TOPIC.into(), subscribers, holder: None });
    let topics: Vec<_> = entry.into_iter().collect();
    let hash = ListHash::of(topics.iter().map(|entry| (entry.topic.as_str(), entry.subscribers)));
    let hash = Bytes::copy_from_slice(&hash.to_bytes());
    let topics = pb::TopicsContent { topics, piece: 0, pieces: 1, hash };
    [Content::Identity(identity), Content::Links(links), Content::Topics(topics)]
}

fn neighbours(index: usize, nodes: usize) -> impl Iterator<Item = usize> {
    (0..nodes).filter(move |other| other.abs_diff(index) == 1)
}

/// Certificates are not what is counted: everybody is believed.
struct Believer;

impl Authenticator for Believer {
    fn sign(&self, _: &[u8]) -> Bytes {
        Bytes::new()
    }

    fn verify_chain(&self, chain: &[Bytes]) -> Option<NodeInfo> {
        let key: [u8; 64] = chain.first()?[..].try_into().ok()?;
        Some(info(NodeKey::new(key)))
    }

    fn verify(&self, _: &NodeKey, _: &[u8], _: &[u8]) -> bool {
        true
    }
}

fn info(key: NodeKey) -> NodeInfo {
    NodeInfo { key, name: "node".into(), institution: "bank".into() }
}

fn key(index: usize) -> NodeKey {
    let mut point = [7; 64];
    point[0] = index as u8;
    NodeKey::new(point)
}

fn id(index: usize) -> NodeId {
    key(index).id()
}

fn index_of(node: NodeId) -> usize {
    node.as_bytes()[0].into()
}

fn chain(index: usize) -> Vec<Bytes> {
    vec![Bytes::copy_from_slice(key(index).as_bytes())]
}

fn secret(index: usize) -> MacSecret {
    MacSecret::new([index as u8 + 1; 32])
}

fn client(session: SessionId) -> Arc<ClientIdentity> {
    let mut fingerprint = [9; 32];
    fingerprint[..8].copy_from_slice(&session.0.to_be_bytes());
    Arc::new(ClientIdentity { fingerprint: Fingerprint::new(fingerprint), name: "client".into() })
}
