use std::sync::Arc;

use bytes::BytesMut;

use super::*;
use crate::broker::event::Sender;
use crate::{ClientIdentity, Fingerprint, NodeId, Retry, TraceContext, wire::channel::Decoder};

const BASE: u64 = 0xfeed_0000_0000_0001;
const GRANTED: &[u8] =
    br#"{"nodeVersion":"2.10.0","protocol":3,"amop":{"version":1,"node":"ab","name":"n"}}"#;
const PLAIN: &[u8] = br#"{"nodeVersion":"2.10.0","protocol":3}"#;

fn at(millis: u64) -> Time {
    Time::from_start(Duration::from_millis(millis))
}

fn read(frame: &Encoded) -> Frame {
    let mut bytes = BytesMut::new();
    frame.put(&mut bytes);
    Decoder::default().decode(&mut bytes).unwrap().unwrap()
}

fn frame(kind: Type, seq: Seq, result: i32, body: &[u8]) -> Frame {
    Frame { kind, seq, result, body: Bytes::copy_from_slice(body) }
}

fn session(answer: &[u8]) -> Session {
    let (greeting, hello) = Greeting::new(Config::default(), BASE);
    let hello = read(&hello);
    let Step::Ready(session) =
        greeting.handle_frame(at(0), &frame(Type::HANDSHAKE, hello.seq, 0, answer)).unwrap()
    else {
        panic!("the answer makes it a session")
    };
    *session
}

fn topic(name: &str) -> Topic {
    Topic::parse(name).unwrap()
}

fn message(mode: Mode, deadline: Option<Duration>) -> Message {
    Message { mode, topic: topic("t"), payload: Bytes::from_static(b"hi"), deadline, wishes: None }
}

fn sent(session: &mut Session) -> Frame {
    read(&session.poll_frame().expect("a frame"))
}

fn ended(session: &mut Session) -> (SendId, Ended) {
    match session.poll_action() {
        Some(Action::Ended(id, ended)) => (id, ended),
        other => panic!("expected an outcome, got {other:?}"),
    }
}

#[test]
fn the_greeting_asks_for_the_extensions_and_takes_what_it_gets() {
    let (_, hello) = Greeting::new(Config { instance: 7, ..Config::default() }, BASE);
    let asked: serde_json::Value = serde_json::from_slice(&read(&hello).body).unwrap();
    assert_eq!(asked["amop"]["version"], 1);
    assert_eq!(asked["amop"]["instance"], "00000000000000000000000000000007");
    assert_eq!(asked["maximumSupport"], 3);
    assert_eq!(session(GRANTED).dialect(), Dialect::Extended);
    assert_eq!(session(PLAIN).dialect(), Dialect::Plain(3));
    let newer = br#"{"protocol":2,"amop":{"version":2}}"#;
    assert_eq!(session(newer).dialect(), Dialect::Plain(2), "a version that was not asked for");
}

#[test]
fn a_greeting_that_cannot_be_understood_is_an_error() {
    for answer in [&b"not json"[..], b"{}", b"[]", br#"{"protocol":0}"#, br#"{"protocol":4}"#] {
        let (greeting, hello) = Greeting::new(Config::default(), BASE);
        let reply = frame(Type::HANDSHAKE, read(&hello).seq, 0, answer);
        assert_eq!(greeting.handle_frame(at(0), &reply).err(), Some(GreetingError::Malformed));
    }
    let (greeting, hello) = Greeting::new(Config::default(), BASE);
    let other = frame(Type::JSON_RPC, read(&hello).seq, 0, b"{}");
    assert!(matches!(greeting.handle_frame(at(0), &other), Ok(Step::Waiting(_))));
}

#[test]
fn a_request_is_matched_to_its_outcome_once() {
    let mut session = session(GRANTED);
    let id = session.send(at(0), message(Mode::Unicast, Some(Duration::from_secs(5)))).unwrap();
    let request = sent(&mut session);
    let FromClient::Publish { mode, deadline, payload, .. } = FromClient::decode(&request).unwrap() else {
        panic!("a publish")
    };
    assert_eq!((mode, deadline, &payload[..]), (Mode::Unicast, Some(Duration::from_secs(5)), &b"hi"[..]));
    let result = FromNode::PublishResult {
        status: Status::Success,
        cause: Cause::Delivered,
        retry_after: None,
        retry: Retry::Never,
        hop: None,
        payload: Bytes::from_static(b"yes"),
    };
    let reply = read(&result.encode(request.seq));
    session.handle_frame(at(1), reply.clone()).unwrap();
    let (ended_id, outcome) = ended(&mut session);
    assert_eq!((ended_id, &outcome.payload[..]), (id, &b"yes"[..]));
    session.handle_frame(at(2), reply).unwrap();
    assert!(session.poll_action().is_none(), "an outcome comes once");
    assert_eq!((session.in_flight(), session.ignored()), (0, 1));
}

#[test]
fn plain_frames_carry_messages_and_answers() {
    let mut session = session(PLAIN);
    session.send(at(0), message(Mode::Multicast, None)).unwrap();
    let id = session.send(at(0), message(Mode::Unicast, None)).unwrap();
    assert_eq!(sent(&mut session).kind, Type::MULTICAST);
    let request = sent(&mut session);
    assert_eq!((request.kind, &request.body[..]), (Type::UNICAST, &b"\x02thi"[..]));
    session.handle_frame(at(1), frame(Type::ANSWER, request.seq, 0, b"\x02tyes")).unwrap();
    let (ended_id, outcome) = ended(&mut session);
    assert_eq!((ended_id, outcome.status, &outcome.payload[..]), (id, Status::Success, &b"yes"[..]));

    let push = Seq::from_u128(9);
    session.handle_frame(at(2), frame(Type::UNICAST, push, 0, b"\x02task")).unwrap();
    let Some(Action::Deliver(deliver)) = session.poll_action() else { panic!("a delivery") };
    assert_eq!((deliver.topic.as_str(), &deliver.payload[..], deliver.sender), ("t", &b"ask"[..], None));
    session.answer(&deliver.push, 0, Bytes::from_static(b"ok")).unwrap();
    let answer = sent(&mut session);
    assert_eq!((answer.kind, answer.seq, &answer.body[..]), (Type::ANSWER, push, &b"\x02tok"[..]));
    session.answer(&deliver.push, 7, Bytes::from_static(b"ignored")).unwrap();
    let refusal = sent(&mut session);
    assert_eq!((refusal.result, refusal.body.len()), (7, 0));
}

#[test]
fn codes_of_plain_nodes_become_documented_ones() {
    for (code, status) in [(100, Status::NoPath), (103, Status::Refused), (104, Status::NotHanded)] {
        let mut session = session(PLAIN);
        session.send(at(0), message(Mode::Unicast, None)).unwrap();
        let seq = sent(&mut session).seq;
        session.handle_frame(at(1), frame(Type::ANSWER, seq, code, b"\x02tgarbage")).unwrap();
        let (_, outcome) = ended(&mut session);
        assert_eq!((outcome.status, outcome.payload.len()), (status, 0));
    }
}

#[test]
fn a_report_is_acknowledged_in_either_dialect() {
    let topics = [topic("a"), topic("b")];
    let mut extended = session(GRANTED);
    let first = extended.report(topics[..1].iter());
    let second = extended.report(topics.iter());
    assert!(first < second);
    sent(&mut extended);
    let seq = sent(&mut extended).seq;
    let reply = FromNode::Subscribed { accepted: 2, refused: vec![], complete: true }.encode(seq);
    extended.handle_frame(at(1), read(&reply)).unwrap();
    assert!(matches!(
        extended.poll_action(),
        Some(Action::Reported { report, complete: true, .. }) if report == second
    ));

    let mut plain = session(PLAIN);
    let report = plain.report(topics.iter());
    assert_eq!(&sent(&mut plain).body[..], br#"["a","b"]"#);
    let beat = sent(&mut plain);
    assert_eq!(beat.kind, Type::HEARTBEAT);
    plain.handle_frame(at(1), frame(Type::HEARTBEAT, beat.seq, 0, br#"{"heartBeat":1}"#)).unwrap();
    assert!(matches!(
        plain.poll_action(),
        Some(Action::Reported { report: r, complete: false, .. }) if r == report
    ));
}

#[test]
fn a_delivery_names_its_sender() {
    let mut session = session(GRANTED);
    let sender = Sender {
        institution: "Bank".into(),
        node: NodeId::new([3; 32]),
        client: Arc::new(ClientIdentity { fingerprint: Fingerprint::new([4; 32]), name: "app".into() }),
    };
    let deliver = FromNode::Deliver {
        mode: Mode::Unicast,
        topic: topic("t"),
        sender: sender.clone(),
        answer_within: Duration::from_secs(2),
        message: Some(Seq::from_u128(11)),
        context: TraceContext::from_slice(&[3; 25]),
        payload: Bytes::from_static(b"ask"),
    };
    session.handle_frame(at(0), read(&deliver.encode(Seq::from_u128(5)))).unwrap();
    let Some(Action::Deliver(got)) = session.poll_action() else { panic!("a delivery") };
    assert_eq!((got.sender, got.answer_within), (Some(sender), Some(Duration::from_secs(2))));
    assert_eq!(got.message, Some(Seq::from_u128(11)));
    assert_eq!(got.context, TraceContext::from_slice(&[3; 25]));
    session.answer(&got.push, 0, Bytes::from_static(b"ok")).unwrap();
    assert_eq!(sent(&mut session).seq, Seq::from_u128(5));
}

#[test]
fn a_question_is_acknowledged_and_decided_in_either_dialect() {
    for dialect in [GRANTED, PLAIN] {
        let mut session = session(dialect);
        let inquiry = Inquiry { question: "ab".into(), topic: topic("t"), channel: topic("c") };
        let asked = frame(Type::VERIFY, Seq::from_u128(7), 0, &inquiry.encode());
        session.handle_frame(at(0), asked).unwrap();
        let acknowledged = sent(&mut session);
        assert_eq!((acknowledged.kind, acknowledged.seq), (Type::VERIFY, Seq::from_u128(7)));
        assert!(acknowledged.body.is_empty());
        assert!(matches!(session.poll_action(), Some(Action::Asked(same)) if same == inquiry));
        let verdict = Verdict { question: "ab".into(), topic: topic("t"), trusted: true };
        session.decide(&verdict);
        let decided = sent(&mut session);
        assert_eq!((decided.kind, Verdict::decode(&decided.body)), (Type::VERIFIED, Some(verdict)));
        let malformed = frame(Type::VERIFY, Seq::from_u128(8), 0, b"{}");
        session.handle_frame(at(0), malformed).unwrap();
        assert!(session.poll_frame().is_none() && session.poll_action().is_none());
        assert_eq!(session.ignored(), 1);
    }
}

#[test]
fn silence_kills_and_a_heartbeat_is_sent_before() {
    let mut session = session(PLAIN);
    assert_eq!(session.poll_timeout(), at(3_000));
    session.handle_timeout(at(3_000)).unwrap();
    let beat = sent(&mut session);
    assert_eq!((beat.kind, &beat.body[..]), (Type::HEARTBEAT, &br#"{"heartBeat":0}"#[..]));
    session.handle_timeout(at(6_000)).unwrap();
    session.handle_timeout(at(9_000)).unwrap();
    assert_eq!(session.poll_timeout(), at(10_000));
    assert_eq!(session.handle_timeout(at(10_000)), Err(Fault::Silent(Duration::from_secs(10))));
    session.handle_bytes(at(10_001));
    assert!(session.handle_timeout(at(12_000)).is_ok(), "a piece of a frame is a sign of life");
}

#[test]
fn a_send_without_an_outcome_is_given_up() {
    let mut extended = session(GRANTED);
    let mut plain = session(PLAIN);
    for (session, gives_up) in [(&mut extended, 3_000), (&mut plain, 2_000)] {
        let deadline = Some(Duration::from_secs(2));
        let id = session.send(at(0), message(Mode::Unicast, deadline)).unwrap();
        session.handle_timeout(at(gives_up - 1)).unwrap();
        assert!(session.poll_action().is_none());
        assert_eq!(session.poll_timeout().min(at(gives_up)), session.poll_timeout());
        session.handle_timeout(at(gives_up)).unwrap();
        let (ended_id, outcome) = ended(session);
        assert_eq!((ended_id, outcome.cause), (id, Cause::Deadline));
    }
}

#[test]
fn what_cannot_be_read_is_a_fault_and_what_is_unknown_is_not() {
    let mut session = session(GRANTED);
    let bad = frame(Type::DELIVER, Seq::from_u128(1), 0, &[0xff, 0xff, 1]);
    assert_eq!(session.handle_frame(at(0), bad), Err(Fault::Extension(ExtensionError::Truncated)));
    for kind in [Type(0x04ff), Type(0x7777), Type::VERIFY, Type::UNICAST] {
        session.handle_frame(at(0), frame(kind, Seq::from_u128(1), 0, &[0, 0])).unwrap();
    }
    assert_eq!(session.ignored(), 4);
}

#[test]
fn what_does_not_fit_a_frame_is_refused_before_it_is_sent() {
    let (greeting, hello) = Greeting::new(Config { max_frame: 50, ..Config::default() }, BASE);
    let reply = frame(Type::HANDSHAKE, read(&hello).seq, 0, PLAIN);
    let Ok(Step::Ready(mut session)) = greeting.handle_frame(at(0), &reply) else { panic!("a session") };
    let mut large = message(Mode::Unicast, None);
    large.payload = Bytes::from_static(&[0; 7]);
    assert_eq!(session.send(at(0), large), Err(TooLarge { len: 51, max: 50 }.into()));
    assert_eq!(session.in_flight(), 0);
    assert!(session.poll_frame().is_none());
}

#[test]
fn what_is_unfinished_is_named_at_the_end() {
    let mut session = session(GRANTED);
    let ids: Vec<_> = (0..3).map(|_| session.send(at(0), message(Mode::Unicast, None)).unwrap()).collect();
    assert!(session.into_unfinished().eq(ids));
}
