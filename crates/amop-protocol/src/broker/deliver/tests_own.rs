//! A publisher with sessions at both nodes of [`super::tests`], or at several: none of them is a subscriber.

use bytes::Bytes;

use super::{
    Config, Delivery,
    tests::{PUBLISHER, Pair, client, key},
};
use crate::{
    Cause, Fingerprint, NodeId, Seq, SessionId, Time,
    broker::{
        event::{Action, Answer, AnswerBody, Mode, Publish, Subscriber},
        routing::Routing,
        testing::{id, routing, topic},
        wishes::{Address, Wishes},
    },
    wire::{
        peer::{self, Body, DataMessage, SendRef},
        recipients::Recipients,
    },
};

/// The application that publishes.
const OWN: u128 = 9;
/// Its certificate, and another one.
const CERTIFICATE: u8 = 5;
const OTHER: u8 = 6;
const MODES: [Mode; 2] = [Mode::Unicast, Mode::Multicast];
const NOBODY: [u64; 0] = [];

fn subscriber(certificate: u8, instance: u128) -> Subscriber {
    let mut client = (*client()).clone();
    client.fingerprint = Fingerprint::new([certificate; 32]);
    Subscriber { client: client.into(), instance: Some(instance).filter(|instance| *instance != 0) }
}

/// `here` are sessions of node 1, where the application publishes, `there` those of node 2: number,
/// certificate and instance.
fn pair(here: &[(u64, u8, u128)], there: &[(u64, u8, u128)]) -> Pair {
    let mut pair = Pair::new(&[]);
    pair.instance = Some(OWN);
    let wants = [(1, here.len() as u32), (2, there.len() as u32)];
    let wants: Vec<(u8, u32)> = wants.into_iter().filter(|(_, count)| *count > 0).collect();
    for (at, sessions) in [here, there].into_iter().enumerate() {
        let numbers: Vec<u64> = sessions.iter().map(|(session, ..)| *session).collect();
        pair.routing[at] = routing(at as u8 + 1, &[(1, 2)], &wants, &numbers);
        for (session, certificate, instance) in sessions {
            pair.nodes[at].handle_subscriber(SessionId(*session), subscriber(*certificate, *instance));
        }
    }
    pair
}

impl Pair {
    /// To whom one more message goes; all of them take it, and answer.
    fn goes_to(&mut self, mode: Mode, wishes: Wishes) -> Vec<u64> {
        let (before, seq) = (self.pushes.len(), 1 + self.outcomes.len() as u128);
        self.publish_with(PUBLISHER, mode, seq, Some(Box::new(wishes)));
        self.carry_all();
        let pushes = self.pushes.split_off(before);
        for push in &pushes {
            for (node, routing) in self.nodes.iter_mut().zip(&self.routing) {
                node.handle_pushed(self.now, routing, push.session, push.id, Ok(()));
                let answer = Answer { result: 0, body: AnswerBody::default() };
                node.handle_answer(self.now, routing, push.session, push.id, answer);
            }
        }
        self.collect();
        self.carry_all();
        assert_eq!(self.outcomes.len() as u128, seq, "it has ended");
        let mut sessions: Vec<u64> = pushes.iter().map(|push| push.session.0).collect();
        sessions.sort_unstable();
        sessions
    }

    fn ended(&self) -> Option<Cause> {
        self.outcomes.last().map(|outcome| outcome.cause)
    }
}

#[test]
fn a_multicast_to_ones_own_application_alone_is_100() {
    let own = (7, CERTIFICATE, OWN);
    for (here, there) in [
        (vec![], vec![own]),
        (vec![(100, CERTIFICATE, OWN)], vec![own]),
        (vec![(8, CERTIFICATE, OWN)], vec![own, (9, CERTIFICATE, OWN)]),
    ] {
        let mut pair = pair(&here, &there);
        assert_eq!(pair.goes_to(Mode::Multicast, Wishes::default()), NOBODY);
        assert_eq!(pair.ended(), Some(Cause::NoSubscriber));
    }
}

#[test]
fn whoever_differs_in_certificate_or_instance_is_somebody_else() {
    let others = [(8, CERTIFICATE, 3), (9, OTHER, OWN), (10, CERTIFICATE, 0)];
    let there = [&[(7, CERTIFICATE, OWN)], &others[..]].concat();
    let mut pair = pair(&[(100, CERTIFICATE, OWN), (99, CERTIFICATE, OWN), (98, CERTIFICATE, 4)], &there);
    let wishes = Wishes { recipients: true, ..Wishes::default() };
    assert_eq!(pair.goes_to(Mode::Multicast, wishes), [8, 9, 10, 98]);
    let report = Recipients::decode(pair.outcomes[0].body.payload.clone()).expect("a report");
    assert_eq!((report.handed, report.failed), (4, 0), "the publisher is not counted");
    let mut asked: Vec<u64> = (0..200).flat_map(|_| pair.goes_to(Mode::Unicast, Wishes::default())).collect();
    assert_eq!(asked.len(), 200);
    asked.sort_unstable();
    asked.dedup();
    assert_eq!(asked, [8, 9, 10, 98]);
}

#[test]
fn a_request_goes_past_the_nodes_where_only_the_publisher_is() {
    for other in [(98, OTHER, 0), (98, CERTIFICATE, 4)] {
        let mut pair = pair(&[(100, CERTIFICATE, OWN), other], &[(7, CERTIFICATE, OWN)]);
        for _ in 0..50 {
            assert_eq!(pair.goes_to(Mode::Unicast, Wishes::default()), [98]);
        }
    }
}

#[test]
fn a_request_is_ones_own_only_if_nobody_else_is_there() {
    let own = (100, CERTIFICATE, OWN);
    for (here, there) in [
        (vec![own], vec![]),
        (vec![own], vec![(7, CERTIFICATE, OWN)]),
        (vec![own, (101, CERTIFICATE, OWN)], vec![(7, CERTIFICATE, OWN), (8, CERTIFICATE, OWN)]),
    ] {
        let mut pair = pair(&here, &there);
        assert_eq!(pair.goes_to(Mode::Unicast, Wishes::default()), [100], "by the session that asks");
        assert_eq!(pair.ended(), Some(Cause::Delivered));
    }
    // The session that asks has not subscribed: others of its application do not stand in for it.
    for (here, there) in [(vec![(101, CERTIFICATE, OWN)], vec![]), (vec![], vec![(7, CERTIFICATE, OWN)])] {
        let mut pair = pair(&here, &there);
        assert_eq!(pair.goes_to(Mode::Unicast, Wishes::default()), NOBODY);
        assert_eq!(pair.ended(), Some(Cause::NoSubscriber));
    }
}

#[test]
fn others_with_ones_own_certificate_can_be_addressed() {
    let own = Wishes {
        address: Address::default().of_client(Fingerprint::new([CERTIFICATE; 32])),
        ..Wishes::default()
    };
    let there = [(7, CERTIFICATE, OWN), (8, CERTIFICATE, 3), (9, OTHER, 0)];
    let mut several = pair(&[(100, CERTIFICATE, OWN)], &there);
    let mut alone = pair(&[(100, CERTIFICATE, OWN)], &there[..1]);
    for mode in MODES {
        assert_eq!(several.goes_to(mode, own.clone()), [8]);
    }
    assert_eq!(alone.goes_to(Mode::Multicast, own.clone()), NOBODY);
    assert_eq!(alone.goes_to(Mode::Unicast, own), [100]);
}

#[test]
fn a_publisher_that_names_no_instance_is_left_out_by_its_session_only() {
    let mut pair = pair(&[(100, CERTIFICATE, 0), (98, CERTIFICATE, 0)], &[(7, CERTIFICATE, 0)]);
    pair.instance = None;
    assert_eq!(pair.goes_to(Mode::Multicast, Wishes::default()), [7, 98]);
    for _ in 0..20 {
        assert_ne!(pair.goes_to(Mode::Unicast, Wishes::default()), [100]);
    }
}

#[test]
fn a_session_that_names_another_instance_is_another_application() {
    let mut pair = pair(&[], &[(7, CERTIFICATE, OWN)]);
    pair.nodes[1].handle_subscriber(SessionId(7), subscriber(CERTIFICATE, 3));
    assert_eq!(pair.goes_to(Mode::Multicast, Wishes::default()), [7]);
    pair.nodes[1].handle_subscriber(SessionId(7), subscriber(CERTIFICATE, OWN));
    assert_eq!(pair.goes_to(Mode::Multicast, Wishes::default()), NOBODY);
}

/// Nodes 1 to 5, all linked.
const ALL: [(u8, u8); 10] = [(1, 2), (1, 3), (1, 4), (1, 5), (2, 3), (2, 4), (2, 5), (3, 4), (3, 5), (4, 5)];

/// The publisher's session sends a request.
fn publish(origin: &mut Delivery, routing: &Routing, seq: u128) {
    let publish = Publish {
        session: PUBLISHER,
        client: client(),
        instance: Some(OWN),
        seq: Seq::from_u128(seq),
        mode: Mode::Unicast,
        topic: topic(),
        payload: Bytes::new(),
        deadline: None,
        wishes: None,
    };
    origin.handle_publish(Time::ZERO, routing, key(Mode::Unicast, seq), publish);
}

/// The node that was sent an attempt has nobody for it.
fn nobody_there(origin: &mut Delivery, routing: &Routing, at: NodeId, header: &Bytes) {
    let message = peer::decode(header).expect("an attempt");
    let Body::Attempt { send, number, .. } = message.body else { panic!("an attempt") };
    let body = Body::Outcome {
        send: SendRef { epoch: 1, id: send },
        number,
        cause: Cause::NoSubscriber,
        is_final: false,
        exhausted: true,
        answer_prefix: Bytes::new(),
    };
    let report = DataMessage { origin: at, origin_epoch: 1, body };
    origin.handle_message(Time::ZERO, routing, None, report, Bytes::new());
}

/// Whom an origin asks with a request, one after the other, while nobody is found at `empty`.
fn asked_by(me: u8, wants: &[(u8, u32)], own: &[u64], seq: u128, empty: &[u8]) -> Vec<u8> {
    let mut origin = Delivery::new(Config::default(), id(me), 1, 0);
    let routing = routing(me, &ALL, wants, own);
    for session in own {
        origin.handle_subscriber(SessionId(*session), subscriber(CERTIFICATE, OWN));
    }
    publish(&mut origin, &routing, seq);
    let mut asked = Vec::new();
    while let Some(Action::Forward { to, frame }) = origin.poll_action() {
        asked.push(to.as_bytes()[0]);
        if asked.last().is_some_and(|node| empty.contains(node)) {
            nobody_there(&mut origin, &routing, to, &frame.header);
        }
    }
    asked
}

/// A publisher loses node 1 and sends the same message through node 2, where it has another session.
#[test]
fn the_copy_through_the_other_node_goes_where_the_first_went() {
    let mut past_the_own = 0;
    for seq in 0..100 {
        let first = asked_by(1, &[(1, 1), (2, 1), (3, 1), (4, 1), (5, 1)], &[100], seq, &[2]);
        let copy = asked_by(2, &[(2, 1), (3, 1), (4, 1), (5, 1)], &[100], seq, &[1]);
        assert_eq!(first.last(), copy.last(), "message {seq}");
        assert_ne!(first.last(), Some(&2));
        past_the_own += usize::from(first.len() > 1);
    }
    assert!((10..50).contains(&past_the_own), "{past_the_own}");
}

#[test]
fn who_could_not_be_reached_may_be_there_all_the_same() {
    let own = [PUBLISHER.0];
    for empty in [2, 3] {
        let mut origin = Delivery::new(Config::default(), id(1), 1, 0);
        let mut routes = routing(1, &[(1, 2), (1, 3)], &[(1, 1), (2, 1), (3, 1)], &own);
        publish(&mut origin, &routes, 1);
        let mut sent = 0;
        while let Some(Action::Forward { to, frame }) = origin.poll_action() {
            sent += 1;
            if to == id(empty) {
                nobody_there(&mut origin, &routes, to, &frame.header);
            } else {
                // The other node is gone.
                routes = routing(1, &[(1, empty)], &[(1, 1), (empty, 1)], &own);
                origin.handle_routing(Time::ZERO, &routes);
            }
        }
        assert_eq!(sent, 2, "both were asked");
        assert!(origin.pushes.is_empty(), "it does not go to its publisher");
    }
}
