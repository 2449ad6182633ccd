//! What delivery costs a node: 100 nodes with 10,000 topics between them.
//!
//! `cargo bench --bench broker`

use std::{collections::BTreeSet, hint::black_box, sync::Arc, time::Duration};

use amop_protocol::{
    ClientIdentity, Fingerprint, NodeId, NodeKey, Seq, SessionId, Time, Topic,
    broker::{
        announce::{Authenticator, NodeInfo},
        control::{self, Control, Me},
        dedup::Keyer,
        deliver::{self, Delivery, route_frame},
        event::{Action, Answer, AnswerBody, Mode, Publish},
        lists::ListHash,
        routing::Routing,
        seal::MacSecret,
    },
    wire::{
        generated::{self as pb, control::Message, record::Content},
        link::LinkFrame,
        peer::{self, Body, DataMessage, Envelope, Route},
    },
};
use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use prost::Message as _;

const NODES: u16 = 100;
const TOPICS: usize = 10_000;
const SUBSCRIBER: SessionId = SessionId(1);
const PUBLISHER: SessionId = SessionId(2);

/// Certificates are not what is measured: everybody is believed.
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

fn key(n: u16) -> NodeKey {
    let mut point = [7; 64];
    point[..2].copy_from_slice(&n.to_be_bytes());
    NodeKey::new(point)
}

fn id(n: u16) -> NodeId {
    key(n).id()
}

fn topic(n: usize) -> Topic {
    Topic::parse(&format!("settlement/topic-{n}")).expect("a topic")
}

fn bytes_of(n: u16) -> Bytes {
    Bytes::copy_from_slice(id(n).as_bytes())
}

fn chain(n: u16) -> Vec<Bytes> {
    vec![Bytes::copy_from_slice(key(n).as_bytes())]
}

/// What node 0 holds: its neighbour is node 1, and behind that are all others. Topics are spread
/// evenly over the nodes, topic 0 is its own.
fn routing() -> Routing {
    let me = Me {
        info: info(key(0)),
        chain: chain(0),
        address: "".into(),
        epoch: 1,
        mac: MacSecret::new([1; 32]),
    };
    let mut control = Control::new(control::Config::default(), me, 1, Box::new(Believer), Time::ZERO);
    control.handle_link_up(Time::ZERO, id(1));
    control.handle_report(Time::ZERO, SUBSCRIBER, &client(), vec![topic(0)]);
    for n in 1..NODES {
        let neighbours: BTreeSet<u16> =
            if n == 1 { (0..NODES).filter(|n| *n != 1).collect() } else { [1].into() };
        let x25519_key = Bytes::copy_from_slice(&MacSecret::new([n as u8; 32]).public());
        let identity = pb::IdentityContent { chain: chain(n), x25519_key, ..pb::IdentityContent::default() };
        let links = pb::LinksContent { neighbours: neighbours.into_iter().map(bytes_of).collect() };
        let own = (0..TOPICS).filter(|t| t % usize::from(NODES) == usize::from(n));
        let count = |t: usize| pb::TopicCount { topic: topic(t).to_string(), subscribers: 1, holder: None };
        let topics: Vec<_> = own.map(count).collect();
        let hash = ListHash::of(topics.iter().map(|entry| (entry.topic.as_str(), entry.subscribers)));
        let hash = Bytes::copy_from_slice(&hash.to_bytes());
        let topics = pb::TopicsContent { topics, piece: 0, pieces: 1, hash };
        for content in [Content::Identity(identity), Content::Links(links), Content::Topics(topics)] {
            let record = pb::Record { node: bytes_of(n), epoch: 1, sequence: 1, content: Some(content) };
            let signed = pb::SignedRecord { body: record.encode_to_vec().into(), signature: Bytes::new() };
            control.handle_message(Time::ZERO, id(1), Message::Record(signed));
        }
    }
    control.handle_timeout(Time::ZERO + Duration::from_secs(1));
    let routing = control.routing().clone();
    assert_eq!(routing.reachable().count(), usize::from(NODES));
    routing
}

fn client() -> Arc<ClientIdentity> {
    Arc::new(ClientIdentity { fingerprint: Fingerprint::new([9; 32]), name: "publisher".into() })
}

struct Sender {
    delivery: Delivery,
    keyer: Keyer,
    client: Arc<ClientIdentity>,
    payload: Bytes,
    next: u128,
}

impl Sender {
    fn new() -> Self {
        Self {
            delivery: Delivery::new(deliver::Config::default(), id(0), 1, 0),
            keyer: Keyer::new([1, 2]),
            client: client(),
            payload: vec![7; 1024].into(),
            next: 0,
        }
    }

    fn publish(&mut self, routing: &Routing, topic: &Topic) {
        self.next += 1;
        let seq = Seq::from_u128(self.next);
        let key = self.keyer.key(&self.client.fingerprint, Mode::Unicast, topic, &seq, &self.payload);
        let publish = Publish {
            session: PUBLISHER,
            client: self.client.clone(),
            instance: None,
            seq,
            mode: Mode::Unicast,
            topic: topic.clone(),
            payload: self.payload.clone(),
            deadline: None,
            wishes: None,
        };
        self.delivery.handle_publish(Time::ZERO, routing, key, publish);
    }
}

fn publish(c: &mut Criterion) {
    let routing = routing();
    let (remote, local) = (topic(4_242), topic(0));
    let mut group = c.benchmark_group("broker");
    group.bench_function("unicast to a remote subscriber: decide and frame", |b| {
        b.iter_batched_ref(
            Sender::new,
            |sender| {
                for _ in 0..100 {
                    sender.publish(&routing, &remote);
                    while let Some(action) = sender.delivery.poll_action() {
                        black_box(action);
                    }
                }
            },
            BatchSize::SmallInput,
        );
    });
    group.bench_function("local unicast: publish, push, answer, outcome", |b| {
        b.iter_batched_ref(
            Sender::new,
            |sender| {
                for _ in 0..100 {
                    sender.publish(&routing, &local);
                    while let Some(action) = sender.delivery.poll_action() {
                        if let Action::Push(push) = black_box(action) {
                            let body = AnswerBody::default();
                            let delivery = &mut sender.delivery;
                            delivery.handle_pushed(Time::ZERO, &routing, push.session, push.id, Ok(()));
                            let answer = Answer { result: 0, body };
                            delivery.handle_answer(Time::ZERO, &routing, push.session, push.id, answer);
                        }
                    }
                }
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn attempt(to: &[u16]) -> LinkFrame {
    let envelope = Envelope {
        publisher: client(),
        seq: Seq::from_u128(7),
        topic: topic(4_242),
        client: None,
        audience: Vec::new(),
        context: None,
        instance: None,
    };
    let body = Body::Attempt { send: 1, number: 1, envelope, push_timeout_ms: 5_000 };
    let message = DataMessage { origin: id(1), origin_epoch: 1, body };
    let route = Route { destinations: to.iter().map(|n| id(*n)).collect(), path: Vec::new() };
    peer::encode(&message, &route, 7, vec![7; 1024].into())
}

fn relay(c: &mut Criterion) {
    let routing = routing();
    let mut group = c.benchmark_group("broker");
    let frame = attempt(&[42]);
    group.bench_function("relay a frame", |b| {
        b.iter(|| black_box(route_frame(&routing, id(200), black_box(&frame)).expect("a valid frame")));
    });
    let frame = attempt(&[0, 42]);
    group.bench_function("relay a fan-out that also ends here", |b| {
        b.iter(|| black_box(route_frame(&routing, id(200), black_box(&frame)).expect("a valid frame")));
    });
    group.finish();
}

criterion_group!(benches, publish, relay);
criterion_main!(benches);
