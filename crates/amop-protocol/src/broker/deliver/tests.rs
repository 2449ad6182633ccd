//! Two nodes linked to each other: 1 is the publisher's, 2 the subscribers'.

use super::*;
use crate::{
    Cause, ClientIdentity, Fingerprint, Seq,
    broker::{
        dedup::{Bounds, Keyer},
        event::{AnswerBody, Mode, Outcome, Push},
        testing::{id, routing, topic},
        wishes::Wishes,
    },
    wire::{link::LinkFrame, peer::Envelope},
};
use std::sync::Arc;

pub(super) const PUBLISHER: SessionId = SessionId(100);
const LINKS: [(u8, u8); 1] = [(1, 2)];

pub(super) struct Pair {
    pub(super) now: Time,
    pub(super) nodes: [Delivery; 2],
    pub(super) routing: [Routing; 2],
    /// Frames sent by either node and not carried yet.
    pub(super) wire: VecDeque<(usize, LinkFrame)>,
    pub(super) pushes: Vec<Push>,
    pub(super) outcomes: Vec<Outcome>,
    /// Messages whose publishers were told that they were handed over.
    pub(super) noted: Vec<Seq>,
    /// The application that publishes.
    pub(super) instance: Option<u128>,
}

impl Pair {
    /// `sessions` of node 2 are subscribed.
    pub(super) fn new(sessions: &[u64]) -> Self {
        Self::with(Config::default(), sessions)
    }

    pub(super) fn with(config: Config, sessions: &[u64]) -> Self {
        let count = sessions.len() as u32;
        Self {
            now: Time::ZERO,
            nodes: [1, 2].map(|n| Delivery::new(config, id(n), u64::from(n), 0)),
            routing: [routing(1, &LINKS, &[(2, count)], &[]), routing(2, &LINKS, &[], sessions)],
            wire: VecDeque::new(),
            pushes: Vec::new(),
            outcomes: Vec::new(),
            noted: Vec::new(),
            instance: None,
        }
    }

    pub(super) fn publish(&mut self, mode: Mode, seq: u128) {
        self.publish_from(PUBLISHER, mode, seq);
    }

    fn publish_from(&mut self, session: SessionId, mode: Mode, seq: u128) {
        self.publish_with(session, mode, seq, None);
    }

    pub(super) fn publish_with(
        &mut self,
        session: SessionId,
        mode: Mode,
        seq: u128,
        wishes: Option<Box<Wishes>>,
    ) {
        let publish = Publish {
            session,
            client: client(),
            instance: self.instance,
            seq: Seq::from_u128(seq),
            mode,
            topic: topic(),
            payload: Bytes::from_static(b"hello"),
            deadline: None,
            wishes,
        };
        self.nodes[0].handle_publish(self.now, &self.routing[0], key(mode, seq), publish);
        self.collect();
    }

    pub(super) fn collect(&mut self) {
        for (at, node) in self.nodes.iter_mut().enumerate() {
            while let Some(action) = node.poll_action() {
                match action {
                    Action::Push(push) => self.pushes.push(push),
                    Action::Outcome(outcome) => self.outcomes.push(outcome),
                    Action::Forward { frame, .. } => self.wire.push_back((1 - at, frame)),
                    Action::Handed { seq, .. } => self.noted.push(seq),
                }
            }
        }
    }

    /// Carries one frame.
    fn carry(&mut self) -> Body {
        let (to, frame) = self.wire.pop_front().expect("a frame is on the wire");
        let message = peer::decode(&frame.header).unwrap();
        let key = match &message.body {
            Body::Attempt { envelope, .. } => Some(key(Mode::Unicast, envelope.seq.to_u128().unwrap())),
            Body::FanOut { envelope, .. } => Some(key(Mode::Multicast, envelope.seq.to_u128().unwrap())),
            _ => None,
        };
        let body = message.body.clone();
        self.nodes[to].handle_message(self.now, &self.routing[to], key, message, frame.payload);
        self.collect();
        body
    }

    pub(super) fn carry_all(&mut self) {
        while !self.wire.is_empty() {
            self.carry();
        }
    }

    pub(super) fn written(&mut self, push: usize, result: Result<(), PushError>) {
        let (id, session) = (self.pushes[push].id, self.pushes[push].session);
        self.nodes[1].handle_pushed(self.now, &self.routing[1], session, id, result);
        self.collect();
        self.carry_all();
    }

    pub(super) fn answer(&mut self, push: usize, result: i32, body: AnswerBody) {
        let (id, session) = (self.pushes[push].id, self.pushes[push].session);
        self.nodes[1].handle_answer(self.now, &self.routing[1], session, id, Answer { result, body });
        self.collect();
        self.carry_all();
    }

    /// Lets time pass in steps of the timers; `lossy` loses every frame.
    pub(super) fn pass(&mut self, span: Duration, lossy: bool) {
        let end = self.now + span;
        while let Some(next) =
            self.nodes.iter().filter_map(Delivery::poll_timeout).min().filter(|at| *at <= end)
        {
            self.now = next.max(self.now);
            for (node, routing) in self.nodes.iter_mut().zip(&self.routing) {
                node.handle_timeout(self.now, routing);
            }
            self.collect();
            if lossy {
                self.wire.clear();
            }
            self.carry_all();
        }
        self.now = end;
    }

    pub(super) fn causes(&self) -> Vec<Cause> {
        self.outcomes.iter().map(|outcome| outcome.cause).collect()
    }
}

pub(super) fn client() -> Arc<ClientIdentity> {
    Arc::new(ClientIdentity { fingerprint: Fingerprint::new([5; 32]), name: "publisher".into() })
}

pub(super) fn key(mode: Mode, seq: u128) -> MessageKey {
    Keyer::new([1, 2]).key(&client().fingerprint, mode, &topic(), &Seq::from_u128(seq), b"")
}

pub(super) fn body(prefix: &'static [u8], payload: &'static [u8]) -> AnswerBody {
    AnswerBody { prefix: Bytes::from_static(prefix), payload: Bytes::from_static(payload) }
}

#[test]
fn a_payload_that_finds_no_room_is_103_on_either_node_and_room_comes_back() {
    for small in [0, 1] {
        let mut pair = Pair::new(&[7]);
        let budget = Budget::new(2 * crate::broker::budget::OVERHEAD);
        pair.nodes[small] = Delivery::new(Config::default(), id(small as u8 + 1), small as u64 + 1, 0)
            .with_budget(budget.clone());
        pair.publish(Mode::Unicast, 1);
        pair.carry_all();
        pair.written(0, Ok(()));
        for mode in [Mode::Unicast, Mode::Multicast] {
            pair.publish(mode, 2);
            pair.carry_all();
        }
        // Of a multicast nobody else could take, 100 is the rule.
        let of_multicast = if small == 0 { Cause::NoRoom } else { Cause::NoneHanded };
        assert_eq!(pair.causes(), [Cause::NoRoom, of_multicast], "five bytes are held, five more asked for");
        pair.answer(0, 0, AnswerBody::default());
        assert_eq!(budget.held(), 0);
        pair.publish(Mode::Unicast, 3);
        pair.carry_all();
        assert_eq!(pair.pushes.len(), 2, "there is room again");
    }
}

#[test]
fn a_duplicate_publish_gets_the_first_outcome_and_runs_nothing() {
    let mut pair = Pair::new(&[7]);
    pair.publish(Mode::Unicast, 1);
    pair.publish_from(SessionId(101), Mode::Unicast, 1);
    pair.carry_all();
    pair.written(0, Ok(()));
    pair.answer(0, 0, body(b"\x02t", b"yes"));
    assert_eq!(pair.causes(), [Cause::Delivered; 2], "both who sent it");
    pair.publish(Mode::Unicast, 1);
    assert_eq!(pair.outcomes[2].body, body(b"\x02t", b"yes"));
    assert_eq!(pair.pushes.len(), 1);
}

#[test]
fn a_resent_attempt_is_absorbed_and_its_answer_repeated() {
    let mut pair = Pair::new(&[7]);
    pair.publish(Mode::Unicast, 1);
    let attempt = pair.wire[0].clone();
    pair.carry_all();
    pair.written(0, Ok(()));
    pair.wire.push_back(attempt.clone());
    assert!(matches!(pair.carry(), Body::Attempt { .. }));
    assert!(matches!(pair.carry(), Body::Handed { .. }), "what may have been lost is said again");
    pair.answer(0, 0, body(b"", b""));
    pair.wire.push_back(attempt);
    pair.carry();
    assert!(matches!(pair.carry(), Body::Outcome { cause: Cause::Delivered, .. }));
    assert_eq!((pair.pushes.len(), pair.causes()), (1, vec![Cause::Delivered]));
}

#[test]
fn an_answer_that_is_no_topic_body_is_wrapped_and_an_empty_one_is_not() {
    for (given, told) in [
        (body(b"", b"raw"), body(b"\x02t", b"raw")),
        (body(b"\x02x", b"whole"), body(b"\x02x", b"whole")),
        (body(b"", b""), body(b"", b"")),
    ] {
        let mut pair = Pair::new(&[7]);
        pair.publish(Mode::Unicast, 1);
        pair.carry_all();
        pair.written(0, Ok(()));
        pair.answer(0, 0, given);
        assert_eq!(pair.outcomes[0].body, told);
    }
}

#[test]
fn a_refusal_is_final_and_empty() {
    let mut pair = Pair::new(&[7, 8]);
    pair.publish(Mode::Unicast, 1);
    pair.carry_all();
    pair.written(0, Ok(()));
    pair.answer(0, 5, body(b"\x02t", b"no"));
    assert_eq!(pair.causes(), [Cause::SubscriberRefused]);
    assert_eq!(
        (pair.outcomes[0].cause.status().code(), pair.outcomes[0].body.clone()),
        (101, body(b"", b""))
    );
    assert_eq!(pair.pushes.len(), 1, "the other is not asked");
}

#[test]
fn after_a_failed_push_comes_the_next_session_and_each_has_it_once() {
    let mut pair = Pair::new(&[7, 8, 9]);
    pair.publish(Mode::Unicast, 1);
    pair.carry_all();
    for push in 0..3 {
        pair.written(push, Err(PushError::Full));
    }
    let sessions: std::collections::BTreeSet<SessionId> =
        pair.pushes.iter().map(|push| push.session).collect();
    assert_eq!((pair.pushes.len(), sessions.len()), (3, 3));
    assert_eq!(pair.causes(), [Cause::QueueFull], "101 only after trying all");
}

#[test]
fn who_was_handed_it_and_is_silent_times_out() {
    let mut pair = Pair::new(&[7]);
    pair.publish(Mode::Unicast, 1);
    pair.carry_all();
    pair.written(0, Ok(()));
    pair.pass(Duration::from_secs(6), false);
    assert_eq!(pair.causes(), [Cause::PushTimeout]);
    pair.answer(0, 0, body(b"", b""));
    assert_eq!(pair.causes().len(), 1, "a late answer changes nothing");
}

#[test]
fn who_takes_no_bytes_was_not_handed_it() {
    let mut pair = Pair::new(&[7]);
    pair.publish(Mode::Unicast, 1);
    pair.carry_all();
    pair.pass(Duration::from_secs(6), false);
    assert_eq!(pair.outcomes[0].cause.status().code(), 101);
}

#[test]
fn without_confirmation_it_is_sent_again_until_the_deadline() {
    let mut pair = Pair::new(&[7]);
    pair.publish(Mode::Unicast, 1);
    pair.wire.clear();
    pair.pass(Duration::from_secs(20), true);
    assert_eq!(pair.causes(), []);
    assert!(pair.nodes[0].counters().resends >= 4);
    pair.pass(Duration::from_secs(11), true);
    assert_eq!(pair.causes(), [Cause::Unreachable]);
}

#[test]
fn a_lost_path_that_comes_back_delivers() {
    for mode in [Mode::Unicast, Mode::Multicast] {
        let mut pair = Pair::new(&[7]);
        pair.publish(mode, 1);
        pair.wire.clear();
        pair.pass(Duration::from_secs(3), true);
        pair.pass(Duration::from_secs(5), false);
        pair.written(0, Ok(()));
        if mode == Mode::Unicast {
            pair.answer(0, 0, body(b"", b""));
        }
        assert_eq!((pair.pushes.len(), pair.causes()), (1, vec![Cause::Delivered]), "{mode:?}");
    }
}

#[test]
fn who_did_not_confirm_is_asked_again_when_the_others_have_failed() {
    let mut pair = Pair::new(&[7]);
    // Node 3, behind node 2, is a candidate too, and nobody carries frames to it.
    let links = [(1, 2), (1, 3)];
    pair.routing[0] = routing(1, &links, &[(2, 1), (3, 1)], &[]);
    pair.publish(Mode::Unicast, 1);
    pair.wire.clear();
    pair.pass(Duration::from_secs(28), true);
    let asked = pair.nodes[0].counters().attempts;
    assert!(asked > 2, "both, and then again: {asked}");
    assert_eq!(pair.causes(), []);
}

#[test]
fn waiters_for_one_message_are_bounded() {
    let mut pair = Pair::new(&[7]);
    for session in 0..65 {
        pair.publish_from(SessionId(session), Mode::Unicast, 1);
    }
    assert_eq!(pair.causes(), [Cause::ClientQuota]);
    pair.carry_all();
    pair.written(0, Ok(()));
    pair.answer(0, 0, body(b"", b""));
    assert_eq!(pair.outcomes.len(), 65);
    let counters = pair.nodes[0].counters();
    assert_eq!((counters.publishes, counters.outcomes), (65, 65));
}

#[test]
fn at_the_byte_bound_a_duplicate_hears_that_the_outcome_is_lost() {
    let sent = Bounds { entries: 100, bytes: 8 };
    let mut pair = Pair::with(Config { sent, ..Config::default() }, &[7]);
    for seq in [1, 2] {
        pair.publish(Mode::Unicast, seq);
        pair.carry_all();
        let push = pair.pushes.len() - 1;
        pair.written(push, Ok(()));
        pair.answer(push, 0, body(b"\x02t", b"12345"));
    }
    pair.publish(Mode::Unicast, 1);
    assert_eq!(pair.causes(), [Cause::Delivered, Cause::Delivered, Cause::OutcomeLost]);
    assert_eq!(pair.outcomes[2].cause.status().code(), 102);
    assert_eq!(pair.pushes.len(), 2, "never a second run");
}

#[test]
fn a_multicast_is_told_with_the_first_hand_over_and_fails_when_all_have() {
    let mut pair = Pair::new(&[7, 8]);
    pair.publish(Mode::Multicast, 1);
    pair.carry_all();
    pair.written(0, Err(PushError::Full));
    assert_eq!(pair.causes(), []);
    pair.written(1, Ok(()));
    assert_eq!(pair.causes(), [Cause::Delivered]);
    pair.publish(Mode::Multicast, 2);
    pair.carry_all();
    pair.written(2, Err(PushError::Gone));
    pair.written(3, Err(PushError::Full));
    assert_eq!(pair.causes(), [Cause::Delivered, Cause::NoneHanded]);
}

#[test]
fn a_report_from_a_node_that_was_not_asked_is_ignored() {
    let mut pair = Pair::new(&[7]);
    pair.publish(Mode::Unicast, 1);
    let Body::Attempt { send, number, .. } = pair.carry() else { panic!("an attempt") };
    let body = Body::Outcome {
        send: SendRef { epoch: 1, id: send },
        number,
        cause: Cause::Delivered,
        is_final: true,
        exhausted: false,
        answer_prefix: Bytes::new(),
    };
    let forged = DataMessage { origin: id(9), origin_epoch: 1, body };
    pair.nodes[0].handle_message(pair.now, &pair.routing[0], None, forged, Bytes::new());
    pair.collect();
    assert_eq!(pair.causes(), []);
    assert_eq!(pair.nodes[0].counters().stale_reports, 1);
}

#[test]
fn a_failure_has_no_answer_whatever_came_with_it() {
    let mut pair = Pair::new(&[7]);
    pair.publish(Mode::Unicast, 1);
    let Body::Attempt { send, number, .. } = pair.carry() else { panic!("an attempt") };
    let body = Body::Outcome {
        send: SendRef { epoch: 1, id: send },
        number,
        cause: Cause::SubscriberRefused,
        is_final: true,
        exhausted: false,
        answer_prefix: Bytes::from_static(b"\x02t"),
    };
    let report = DataMessage { origin: id(2), origin_epoch: 2, body };
    pair.nodes[0].handle_message(pair.now, &pair.routing[0], None, report, Bytes::from_static(b"x"));
    pair.collect();
    assert_eq!(
        (pair.causes(), &pair.outcomes[0].body),
        (vec![Cause::SubscriberRefused], &AnswerBody::default())
    );
}

#[test]
fn messages_that_nobody_here_takes_are_remembered_within_the_bound() {
    let bounds = Bounds { entries: 3, bytes: 100 };
    let mut pair = Pair::with(Config { received: bounds, ..Config::default() }, &[]);
    let attempt = |pair: &mut Pair, seq: u128, number: u32| {
        let envelope = Envelope {
            publisher: client(),
            seq: Seq::from_u128(seq),
            topic: topic(),
            client: None,
            audience: Vec::new(),
            context: None,
            instance: None,
        };
        let body = Body::Attempt { send: 256, number, envelope, push_timeout_ms: 1_000 };
        let message = DataMessage { origin: id(1), origin_epoch: 1, body };
        let key = Some(key(Mode::Unicast, seq));
        pair.nodes[1].handle_message(pair.now, &pair.routing[1], key, message, Bytes::new());
        pair.collect();
    };
    for seq in 0..50 {
        // Asking again and again for one of them takes no more room either.
        (1..5).for_each(|number| attempt(&mut pair, seq, number));
        assert!(pair.nodes[1].remembered().1 <= 2 * bounds.entries, "{:?}", pair.nodes[1].remembered());
        assert!(pair.nodes[1].resting.len() <= bounds.entries);
    }
    assert_eq!(pair.wire.len(), 200, "each is told that there is nobody");
}

#[test]
fn draining_refuses_the_new_and_stopping_ends_the_old() {
    let mut pair = Pair::new(&[7]);
    pair.publish(Mode::Unicast, 1);
    pair.carry_all();
    pair.written(0, Ok(()));
    pair.publish(Mode::Multicast, 2);
    pair.nodes[0].handle_drain();
    pair.publish(Mode::Unicast, 3);
    assert_eq!(pair.causes(), [Cause::Draining]);
    pair.nodes[0].handle_stop(pair.now, &pair.routing[0]);
    pair.collect();
    assert_eq!(pair.causes(), [Cause::Draining, Cause::Deadline, Cause::NoneHanded]);
    assert_eq!(pair.nodes[0].in_flight(), 0);
}

#[test]
fn windows_forget_and_nothing_is_left() {
    let mut pair = Pair::new(&[7]);
    pair.publish(Mode::Unicast, 1);
    pair.publish(Mode::Multicast, 2);
    pair.carry_all();
    (0..2).for_each(|push| pair.written(push, Ok(())));
    pair.answer(0, 0, body(b"", b""));
    pair.pass(Config::default().retention() + Duration::from_secs(1), false);
    assert_eq!(pair.nodes.each_ref().map(Delivery::remembered), [(0, 0); 2]);
    assert!(pair.nodes.iter().all(|node| node.sends.is_empty() && node.pushes.is_empty()));
}

#[test]
fn a_node_that_fails_for_ever_and_never_runs_out_is_given_up() {
    let mut pair = Pair::new(&[7]);
    pair.publish(Mode::Unicast, 1);
    let mut attempts = 0;
    while let Some((_, frame)) = pair.wire.pop_front() {
        attempts += 1;
        let Body::Attempt { send, number, .. } = peer::decode(&frame.header).unwrap().body else {
            panic!("only attempts are sent");
        };
        let body = Body::Outcome {
            send: SendRef { epoch: 1, id: send },
            number,
            cause: Cause::QueueFull,
            is_final: false,
            exhausted: false,
            answer_prefix: Bytes::new(),
        };
        let report = DataMessage { origin: id(2), origin_epoch: 2, body };
        pair.nodes[0].handle_message(pair.now, &pair.routing[0], None, report, Bytes::new());
        pair.collect();
    }
    assert_eq!((attempts, pair.causes()), (256, vec![Cause::QueueFull]));
}

#[test]
fn a_payload_that_nobody_has_any_longer_is_not_kept() {
    let mut pair = Pair::new(&[7]);
    pair.publish(Mode::Unicast, 1);
    pair.carry_all();
    let held = |pair: &mut Pair| pair.nodes[1].received.running(key(Mode::Unicast, 1)).map(|r| r.held());
    assert_eq!(held(&mut pair), Some(5));
    pair.written(0, Err(PushError::Full));
    assert_eq!((held(&mut pair), pair.causes()), (Some(0), vec![Cause::QueueFull]));
}

#[test]
fn the_next_attempt_is_waited_for_longer_than_the_timer_wheel_reaches() {
    let mut pair = Pair::new(&[7, 8]);
    pair.publish(Mode::Unicast, 1);
    let mut attempt = peer::decode(&pair.wire.pop_front().unwrap().1.header).unwrap();
    let message = Some(key(Mode::Unicast, 1));
    let arrive = |pair: &mut Pair, attempt: &DataMessage| {
        let payload = Bytes::from_static(b"hello");
        pair.nodes[1].handle_message(pair.now, &pair.routing[1], message, attempt.clone(), payload);
        pair.collect();
    };
    arrive(&mut pair, &attempt);
    let (push, session) = (pair.pushes[0].id, pair.pushes[0].session);
    pair.nodes[1].handle_pushed(pair.now, &pair.routing[1], session, push, Err(PushError::Full));
    pair.nodes[0] = Delivery::new(Config::default(), id(1), 9, 0);
    pair.pass(Duration::from_secs(25), true);
    if let Body::Attempt { number, .. } = &mut attempt.body {
        *number = 2;
    }
    arrive(&mut pair, &attempt);
    assert_eq!(pair.pushes.len(), 2, "the other session is tried");
    assert_eq!((pair.pushes[1].session == session, &pair.pushes[1].payload[..]), (false, &b"hello"[..]));
}

#[test]
fn messages_that_failed_are_remembered_within_the_bound() {
    let bounds = Bounds { entries: 3, bytes: 1 << 20 };
    let mut pair = Pair::with(Config { received: bounds, ..Config::default() }, &[1]);
    for seq in 1..=20 {
        pair.publish(Mode::Unicast, seq);
        pair.carry_all();
        pair.written(pair.pushes.len() - 1, Err(PushError::Full));
    }
    assert_eq!(pair.causes(), [Cause::QueueFull; 20]);
    let (_, received) = pair.nodes[1].remembered();
    assert!(pair.nodes[1].resting() <= 3 && received <= 6, "{received} are remembered");
}

/// What node 3 is told when it brings the message of this attempt too.
fn told_to_another(pair: &mut Pair, frame: LinkFrame) -> Body {
    pair.routing[1] = routing(2, &[(1, 2), (2, 3)], &[], &[1]);
    let message = DataMessage { origin: id(3), ..peer::decode(&frame.header).unwrap() };
    let key = Some(key(Mode::Unicast, 1));
    pair.nodes[1].handle_message(pair.now, &pair.routing[1], key, message, frame.payload);
    pair.collect();
    peer::decode(&pair.wire[0].1.header).unwrap().body
}

#[test]
fn who_comes_late_with_a_message_that_failed_learns_how() {
    let mut pair = Pair::new(&[1]);
    pair.publish(Mode::Unicast, 1);
    let frame = pair.wire[0].1.clone();
    pair.carry_all();
    pair.written(0, Err(PushError::Full));
    let report = told_to_another(&mut pair, frame);
    assert!(matches!(report, Body::Outcome { cause: Cause::QueueFull, exhausted: true, .. }), "{report:?}");
}

#[test]
fn a_message_that_failed_and_was_put_away_may_still_be_answered_elsewhere() {
    let bounds = Bounds { entries: 1, bytes: 1 << 20 };
    let mut pair = Pair::with(Config { received: bounds, ..Config::default() }, &[1]);
    pair.publish(Mode::Unicast, 1);
    let frame = pair.wire[0].1.clone();
    pair.carry_all();
    pair.written(0, Err(PushError::Full));
    pair.publish(Mode::Unicast, 2);
    pair.carry_all();
    pair.written(1, Err(PushError::Full));
    let report = told_to_another(&mut pair, frame);
    assert!(matches!(report, Body::Outcome { cause: Cause::QueueFull, is_final: false, .. }), "{report:?}");
}
