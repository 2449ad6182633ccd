//! What delivery costs a node: 100 nodes with 10,000 topics between them.
//!
//! `cargo bench --bench broker`

use std::{hint::black_box, sync::Arc};

use amop_protocol::{
    ClientIdentity, Fingerprint, Seq, SessionId, Time, Topic,
    broker::{
        dedup::Keyer,
        deliver::{self, Delivery, route_frame},
        event::{Action, Answer, AnswerBody, Mode, Publish},
        routing::Routing,
    },
    wire::{
        link::LinkFrame,
        peer::{self, Body, DataMessage, Envelope, Route},
    },
};
use amop_testkit::network::{self, Announced, EPOCH, id};
use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};

const NODES: usize = 100;
const TOPICS: usize = 10_000;
const SUBSCRIBER: SessionId = SessionId(1);
const PUBLISHER: SessionId = SessionId(2);

fn topic(n: usize) -> Topic {
    Topic::parse(&format!("settlement/topic-{n}")).expect("a topic")
}

/// What node 0 holds: its neighbour is node 1, and behind that are all others. Topics are spread
/// evenly over the nodes, topic 0 is its own.
fn routing() -> Routing {
    let others = (1..NODES).map(|n| {
        let links = if n == 1 { (0..NODES).filter(|n| *n != 1).collect() } else { vec![1] };
        let own = (0..TOPICS).filter(|t| t % NODES == n);
        (n, Announced { links, topics: own.map(|t| (topic(t), 1)).collect() })
    });
    network::routing(0, &[1], &[(SUBSCRIBER, client(), topic(0))], others)
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
            delivery: Delivery::new(deliver::Config::default(), id(0), EPOCH, 0),
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

fn attempt(to: &[usize]) -> LinkFrame {
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
