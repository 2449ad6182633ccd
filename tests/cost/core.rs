//! Messages through the core of several nodes, without IO: from publish to outcome.
//!
//! Frames go from one node's delivery to the next in the same loop. Equal on every run, so that its instructions
//! can be counted.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use amop_protocol::{
    ClientIdentity, Fingerprint, Seq, SessionId, Time, Topic,
    broker::{
        dedup::Keyer,
        deliver::{self, Delivery, route_frame},
        event::{Action, Answer, AnswerBody, Mode, Publish, Push, Subscriber},
        journal::{Journal, Key, Step},
        routing::Routing,
        seal,
    },
    wire::{
        link::LinkFrame,
        peer::{self, Body, DataMessage, Envelope},
    },
};
use amop_testkit::network::{self, Announced, EPOCH, id, number_of};
use bytes::Bytes;

use super::work::{ANSWER, Kind, PAYLOAD, TOPIC, Work};

const PUBLISHER: SessionId = SessionId(1_000);
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
            self.frames.push_back((to, number_of(&next), copy));
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
                Action::Forward { to, frame } => self.frames.push_back((index, number_of(&to), frame)),
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
    let topic = Topic::parse(TOPIC).expect("a topic");
    let subscribers: Vec<_> =
        sessions(me, work).map(|session| (session, client(session), topic.clone())).collect();
    let others = (0..work.nodes).filter(|other| *other != me).map(|other| {
        let subscribers = work.receivers_at(other) as u32;
        let topics = (subscribers > 0).then(|| (topic.clone(), subscribers)).into_iter().collect();
        (other, Announced { links: neighbours(other, work.nodes), topics })
    });
    network::routing(me, &neighbours(me, work.nodes), &subscribers, others)
}

fn neighbours(index: usize, nodes: usize) -> Vec<usize> {
    (0..nodes).filter(|other| other.abs_diff(index) == 1).collect()
}

fn client(session: SessionId) -> Arc<ClientIdentity> {
    let mut fingerprint = [9; 32];
    fingerprint[..8].copy_from_slice(&session.0.to_be_bytes());
    Arc::new(ClientIdentity { fingerprint: Fingerprint::new(fingerprint), name: "client".into() })
}
