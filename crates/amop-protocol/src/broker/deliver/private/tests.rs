//! Node 1, whose session 100 publishes, and node 2, whose sessions want the private topic.

use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::{
    ClientIdentity, Fingerprint, Seq, Time, Topic,
    broker::{
        dedup::Keyer,
        deliver::{Config, Delivery},
        event::{Action, Outcome},
        private::{Ask, Reserved, Verification},
        routing::TopicRoutes,
        testing::{id, routing},
    },
    wire::peer::{self, Body, DataMessage, Envelope},
};

const PUBLISHER: SessionId = SessionId(100);
const TOPIC: &str = "#!$TopicNeedVerify_a";
const PUSH: &str = "#!$PushChannel_#!$TopicNeedVerify_a";

fn topic(name: &str) -> Topic {
    Topic::parse(name).unwrap()
}

fn channel(n: u64) -> String {
    format!("#!$VerifyChannel_{TOPIC}_{n:032x}")
}

fn client(n: u8) -> Arc<ClientIdentity> {
    Arc::new(ClientIdentity { fingerprint: Fingerprint::new([n; 32]), name: "client".into() })
}

/// A session of node 2.
fn there(session: u64) -> Holder {
    Holder { node: id(2), epoch: 2, session: SessionId(session) }
}

/// The publisher's node.
struct Origin {
    verification: Verification,
    asks: Vec<Ask>,
    delivery: Delivery,
    routing: Routing,
}

impl Origin {
    /// It was asked about these sessions of node 2, and trusts those of `trusted`.
    fn new(sessions: &[u64], trusted: &[u64]) -> Self {
        let mut verification = Verification::new(id(1), [7; 32]);
        verification.handle_reachable(Time::ZERO, [id(2)].into());
        let own = Holder { node: id(1), epoch: 1, session: PUBLISHER };
        let names = |names: &[&str]| names.iter().map(|name| topic(name)).collect();
        let reserved = Reserved { client: client(1), topics: names(&[PUSH]) };
        verification.handle_session(Time::ZERO, own, Some(reserved));
        for session in sessions {
            let topics = names(&[TOPIC, &channel(*session)]);
            let reserved = Reserved { client: client(2), topics };
            verification.handle_session(Time::ZERO, there(*session), Some(reserved));
        }
        let asks = std::iter::from_fn(|| verification.poll_action()).collect();
        let delivery = Delivery::new(Config::default(), id(1), 1, 0);
        let routing = routing(1, &[(1, 2)], &[], &[]);
        let mut origin = Self { verification, asks, delivery, routing };
        trusted.iter().for_each(|session| origin.decide(*session, true));
        origin
    }

    fn decide(&mut self, session: u64, trusted: bool) {
        let ask = self.asks.iter().find(|ask| ask.subscriber == there(session)).unwrap();
        self.verification.handle_verdict(Time::ZERO, PUBLISHER, ask.question, &ask.topic, trusted);
        self.routing.private = self.verification.table();
    }

    /// What the frames say that a send leads to, and its outcome if it has one.
    fn publish(&mut self, mode: Mode, name: &str, seq: u128) -> (Vec<Body>, Option<Outcome>) {
        let (client, seq) = (client(1), Seq::from_u128(seq));
        let key = Keyer::new([1, 2]).key(&client.fingerprint, mode, &topic(name), &seq, b"");
        let (topic, payload) = (topic(name), Bytes::new());
        let publish = Publish {
            session: PUBLISHER,
            client,
            seq,
            mode,
            topic,
            payload,
            deadline: None,
            wishes: None,
            instance: None,
        };
        self.delivery.handle_publish(Time::ZERO, &self.routing, key, publish);
        self.said()
    }

    fn said(&mut self) -> (Vec<Body>, Option<Outcome>) {
        let (mut bodies, mut outcome) = (Vec::new(), None);
        while let Some(action) = self.delivery.poll_action() {
            match action {
                Action::Forward { frame, .. } => bodies.push(peer::decode(&frame.header).unwrap().body),
                Action::Outcome(told) => outcome = Some(told),
                other => panic!("{other:?}"),
            }
        }
        (bodies, outcome)
    }
}

fn audience_in(bodies: &[Body]) -> Vec<Audience> {
    let [Body::Attempt { envelope, .. } | Body::FanOut { envelope, .. }] = bodies else {
        panic!("one frame, not {bodies:?}")
    };
    envelope.audience.clone()
}

fn to(epoch: u64, sessions: &[u64]) -> Vec<Audience> {
    vec![Audience { node: id(2), epoch, sessions: sessions.iter().copied().map(SessionId).collect() }]
}

#[test]
fn messages_go_to_the_sessions_that_are_trusted_and_name_them() {
    let mut origin = Origin::new(&[5, 6, 7], &[5, 7]);
    let (multicast, _) = origin.publish(Mode::Multicast, TOPIC, 1);
    assert_eq!(audience_in(&multicast), to(2, &[5, 7]));
    let mut chosen = std::collections::BTreeSet::new();
    for seq in 2..40 {
        let (unicast, _) = origin.publish(Mode::Unicast, TOPIC, seq);
        let [Audience { sessions, .. }] = &audience_in(&unicast)[..] else { panic!("one node") };
        chosen.extend(sessions.clone());
        assert_eq!(sessions.len(), 1);
    }
    assert_eq!(chosen, [SessionId(5), SessionId(7)].into());
}

#[test]
fn without_trust_there_is_nobody() {
    let mut origin = Origin::new(&[5], &[]);
    origin.routing.private = origin.verification.table();
    for (mode, name, cause) in [
        (Mode::Unicast, TOPIC, Cause::NotVerified),
        (Mode::Multicast, TOPIC, Cause::NotVerified),
        (Mode::Multicast, &channel(5), Cause::NotVerified),
        (Mode::Unicast, &channel(6), Cause::NotVerified),
        (Mode::Unicast, PUSH, Cause::ReservedTopic),
        (Mode::Unicast, "#!$VerifyChannel_a", Cause::ReservedTopic),
    ] {
        let (bodies, outcome) = origin.publish(mode, name, 1);
        assert_eq!((bodies.len(), outcome.unwrap().cause), (0, cause), "{name}");
    }
    let (challenge, _) = origin.publish(Mode::Unicast, &channel(5), 2);
    assert_eq!(audience_in(&challenge), to(2, &[5]));
}

#[test]
fn what_is_sent_again_leaves_out_whom_trust_was_taken_from() {
    let mut origin = Origin::new(&[5, 6], &[5, 6]);
    let (bodies, _) = origin.publish(Mode::Multicast, TOPIC, 1);
    assert_eq!(audience_in(&bodies), to(2, &[5, 6]));
    origin.decide(5, false);
    let later = Time::from_start(std::time::Duration::from_secs(2));
    origin.delivery.handle_timeout(later, &origin.routing);
    assert_eq!(audience_in(&origin.said().0), to(2, &[6]));
}

/// What node 2, whose sessions 5 and 6 have the topic, does with an attempt for this audience.
fn receive(audience: Vec<Audience>, mode: Mode) -> (Vec<SessionId>, Option<Cause>) {
    let mut routing = routing(2, &[(1, 2)], &[], &[]);
    let sessions = vec![SessionId(5), SessionId(6)];
    routing.topics.insert(topic(TOPIC), Arc::new(TopicRoutes { nodes: Vec::new(), sessions }));
    let mut delivery = Delivery::new(Config::default(), id(2), 2, 0);
    let (publisher, seq, topic) = (client(1), Seq::from_u128(1), topic(TOPIC));
    let key = Keyer::new([1, 2]).key(&publisher.fingerprint, mode, &topic, &seq, b"");
    let envelope = Envelope { publisher, seq, topic, client: None, instance: None, context: None, audience };
    let body = match mode {
        Mode::Unicast => Body::Attempt { send: 256, number: 1, envelope, push_timeout_ms: 1_000 },
        Mode::Multicast => Body::FanOut { send: 256, envelope, recipients: false },
    };
    let message = DataMessage { origin: id(1), origin_epoch: 1, body };
    delivery.handle_message(Time::ZERO, &routing, Some(key), message, Bytes::new());
    let (mut pushed, mut cause) = (Vec::new(), None);
    while let Some(action) = delivery.poll_action() {
        match action {
            Action::Push(push) => pushed.push(push.session),
            Action::Forward { frame, .. } => match peer::decode(&frame.header).unwrap().body {
                Body::Outcome { cause: found, .. } | Body::FanOutReport { cause: found, .. } => {
                    cause = Some(found);
                }
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }
    (pushed, cause)
}

#[test]
fn only_sessions_that_are_named_are_handed_a_message() {
    assert_eq!(receive(to(2, &[6]), Mode::Unicast), (vec![SessionId(6)], None));
    assert_eq!(receive(to(2, &[5, 6]), Mode::Multicast), (vec![SessionId(5), SessionId(6)], None));
    assert_eq!(receive(to(2, &[6, 9]), Mode::Multicast), (vec![SessionId(6)], None));
    for nobody in [
        Vec::new(),
        to(2, &[]),
        to(2, &[9]),
        to(1, &[5, 6]),
        vec![Audience { node: id(3), ..to(2, &[5]).remove(0) }],
    ] {
        let (pushed, cause) = receive(nobody.clone(), Mode::Unicast);
        assert_eq!((pushed, cause), (vec![], Some(Cause::SessionGone)), "{nobody:?}");
        assert_eq!(receive(nobody, Mode::Multicast).0, vec![]);
    }
}

#[test]
fn portions_fit_into_a_frame() {
    let node = |n: usize| NodeId::new([n as u8; 32]);
    let ordinary: Vec<_> = (0..2_100).map(|n| (node(n), 0)).collect();
    let sizes = |list: &[(NodeId, usize)]| portions(list).iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(sizes(&ordinary), [1024, 1024, 52]);
    let private: Vec<_> = (0..100).map(|n| (node(n), 1_000)).collect();
    assert!(sizes(&private).iter().all(|len| *len <= 5), "1,000 sessions take 10 KB");
    assert_eq!(sizes(&private).iter().sum::<usize>(), 100);
    assert_eq!(sizes(&[]), [0; 0]);
}
