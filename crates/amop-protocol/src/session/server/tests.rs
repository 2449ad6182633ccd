use proptest::prelude::*;

use super::*;
use crate::{NodeKey, SessionId, Topic, session::handshake::About};

const SEQ: Seq = Seq([b'7'; 32]);

fn config() -> Config {
    Config {
        startup: startup::Config::default(),
        about: About { key: NodeKey::new([1; 64]), name: "n".into(), institution: "i".into() },
        max_topics: 3,
        max_in_flight: 2,
        idle: Duration::from_secs(60),
    }
}

fn server() -> Server {
    Server::new(Time::ZERO)
}

fn extended() -> Server {
    let mut server = server();
    let body = Bytes::from_static(br#"{"maximumSupport":3,"amop":{"version":1}}"#);
    server.handle_frame(frame(Type::HANDSHAKE, body), &config()).expect("agreed");
    assert!(server.is_extended());
    server
}

fn frame(kind: Type, body: impl Into<Bytes>) -> Frame {
    Frame { kind, seq: SEQ, result: 0, body: body.into() }
}

fn report(body: &'static str) -> Result<Event, Close> {
    server().handle_frame(frame(Type::TOPICS, body), &config())
}

fn topics(names: &[&str], refused: u64) -> Result<Event, Close> {
    let topics = names.iter().map(|name| Topic::parse(name).expect("a topic")).collect();
    Ok(Event::Report(Report { topics, refused, acknowledge: None }))
}

fn outcome(mode: Mode, cause: Cause, prefix: &'static [u8], payload: &'static [u8]) -> Outcome {
    Outcome {
        session: SessionId(1),
        seq: SEQ,
        mode,
        topic: Topic::parse("t").ok(),
        cause,
        body: AnswerBody { prefix: Bytes::from_static(prefix), payload: Bytes::from_static(payload) },
        retry_after: Duration::from_secs(1),
        retry: cause.retry(),
        hop: None,
    }
}

#[test]
fn a_report_is_taken_element_by_element() {
    assert_eq!(report(r#"["b","a","b"]"#), topics(&["a", "b"], 0));
    assert_eq!(report(r#" ["a", null, true, {"x":[1]}, [], 1.5, "", "\u0009"] "#), topics(&["a"], 7));
    assert_eq!(report("[1,-2]"), topics(&["-2", "1"], 0), "numbers are taken for their text");
    for body in ["", "{}", "hello", "null", "[", r#"["a""#, r#"["a"]x"#, r#""a""#] {
        assert_eq!(report(body), Ok(Event::Ignored(Ignored::Malformed)), "{body}");
    }
}

#[test]
fn too_many_topics_close_the_session_at_the_bound() {
    assert_eq!(report(r#"["a","b","c","c","c"]"#), topics(&["a", "b", "c"], 0));
    assert_eq!(report(r#"["a","b","c","d" and whatever follows"#), Err(Close::TooManyTopics(3)));
    let subscribe = |names: &[&str]| {
        let topics = names.iter().map(ToString::to_string).collect();
        let mut bytes = bytes::BytesMut::new();
        FromClient::Subscribe { topics }.encode(SEQ).put(&mut bytes);
        let frame = crate::wire::channel::Decoder::default().decode(&mut bytes);
        extended().handle_frame(frame.expect("a frame").expect("whole"), &config())
    };
    assert!(matches!(subscribe(&["a", "b", "c", "c"]), Ok(Event::Report(_))));
    assert_eq!(subscribe(&["a", "b", "c", "d"]), Err(Close::TooManyTopics(3)));
    assert_eq!(subscribe(&["t".repeat(2000).as_str()]), Err(Close::TooManyTopics(3)), "too long to be three");
}

#[test]
fn private_topics_are_for_delivery_to_refuse() {
    let body = [&b"\x16"[..], b"#!$TopicNeedVerify_ab", b"x"].concat();
    assert!(matches!(server().handle_frame(frame(Type::UNICAST, body), &config()), Ok(Event::Publish(_))));
}

#[test]
fn verdicts_are_read_and_acknowledgements_are_not_answers() {
    let handle = |kind, seq, body: &'static str| {
        server().handle_frame(Frame { seq, ..frame(kind, body) }, &config()).expect("the session stays")
    };
    let asked = Seq::from_u128(u128::from(u64::MAX) << 64 | 7);
    for (kind, seq, ignored) in [
        (Type::VERIFY, asked, Ignored::Verification),
        (Type::ANSWER, asked, Ignored::Verification),
        (Type::ANSWER, Seq([b'x'; 32]), Ignored::UnknownAnswer),
        (Type::VERIFIED, SEQ, Ignored::Malformed),
    ] {
        assert_eq!(handle(kind, seq, ""), Event::Ignored(ignored));
    }
    let verdict = handle(Type::VERIFIED, SEQ, r#"{"checkResult":0,"nodeId":"x","topic":"t"}"#);
    assert!(matches!(verdict, Event::Verdict(verdict) if verdict.trusted));
}

#[test]
fn sends_in_flight_are_bounded_whatever_their_seqs() {
    let mut server = server();
    let send = |server: &mut Server, n: u128| {
        let frame = Frame { seq: Seq::from_u128(n), ..frame(Type::UNICAST, &b"\x02t"[..]) };
        server.handle_frame(frame, &config()).expect("the session stays")
    };
    // One seq may name messages on many topics; each is owed its outcome.
    for n in [1, 1] {
        assert!(matches!(send(&mut server, n), Event::Publish(_)));
    }
    for n in [1, 3] {
        let refused = Encoded::empty(Type::ANSWER, Seq::from_u128(n), 103);
        assert_eq!(send(&mut server, n), Event::Refused(refused, Cause::ClientQuota));
    }
    server.outcome(Outcome { seq: Seq::from_u128(1), ..outcome(Mode::Unicast, Cause::Delivered, b"", b"") });
    assert!(matches!(send(&mut server, 3), Event::Publish(_)));
    assert_eq!(server.in_flight(), 2);
}

#[test]
fn outcomes_for_2x_clients_have_bodies_they_can_read() {
    let check = |given: Outcome, result: i32, body: &[u8]| {
        let expected = Encoded::new(Type::ANSWER, SEQ, result, &[], Bytes::copy_from_slice(body));
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        server().outcome(given).put(&mut ours);
        expected.put(&mut theirs);
        assert_eq!(ours, theirs);
    };
    check(outcome(Mode::Unicast, Cause::Delivered, b"\x02x", b"ok"), 0, b"\x02xok");
    check(outcome(Mode::Unicast, Cause::Delivered, b"", b""), 0, b"");
    check(outcome(Mode::Unicast, Cause::Delivered, b"", b"raw"), 0, b"\x02traw");
    check(Outcome { topic: None, ..outcome(Mode::Unicast, Cause::Delivered, b"", b"raw") }, 0, b"\x01raw");
    check(outcome(Mode::Multicast, Cause::Delivered, b"", b""), 0, b"\x02t");
    check(outcome(Mode::Unicast, Cause::PushTimeout, b"\x02x", b"no"), 102, b"");
    check(outcome(Mode::Multicast, Cause::NoSubscriber, b"", b""), 100, b"");
}

#[test]
fn an_unreadable_publish_of_an_extension_client_gets_an_outcome() {
    for body in [&b""[..], b"\xff\xff", b"\x00\x00", b"\x00\x02\xff\xff"] {
        let event = extended().handle_frame(frame(Type::PUBLISH, body), &config());
        let Ok(Event::Refused(refused, Cause::BadTopic)) = event else { panic!("{event:?}") };
        let (status, cause) = (Status::NoPath, Cause::BadTopic);
        let (retry, hop) = (cause.retry(), Some(Box::new(config().about.hop())));
        let payload = Bytes::new();
        let expected = FromNode::PublishResult { status, cause, retry_after: None, retry, hop, payload };
        assert_eq!(refused, expected.encode(SEQ));
    }
}

#[test]
fn silence_closes_and_bytes_keep_open() {
    let at = |secs| Time::from_start(Duration::from_secs(secs));
    let mut server = server();
    assert_eq!(server.handle_timeout(at(59), &config()), Ok(()));
    server.handle_bytes(at(30));
    assert_eq!(server.poll_timeout(&config()), at(90));
    assert_eq!(server.handle_timeout(at(60), &config()), Ok(()));
    assert_eq!(server.handle_timeout(at(90), &config()), Err(Close::Idle(Duration::from_secs(60))));
}

proptest! {
    #[test]
    fn no_frame_panics(
        kind in prop_oneof![0x10u16..0x40, 0x0400u16..0x040a, any::<u16>()],
        seq: [u8; 32], result: i32, body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        for mut server in [server(), extended()] {
            let body = Bytes::from(body.clone());
            let _ = server.handle_frame(Frame { kind: Type(kind), seq: Seq(seq), result, body }, &config());
        }
    }
}
