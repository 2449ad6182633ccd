//! JSON that strangers send before anything else: handshakes, calls, lists of topics.

use amop_protocol::{
    NodeKey, Seq, Time,
    session::{
        client::{self, Greeting, Step},
        handshake::{self, About},
        server::{Close, Config, Event, Server},
        startup::{self, Facts},
    },
    wire::channel::{Frame, Type},
};
use bytes::Bytes;
use serde_json::Value;

use crate::world;

/// Small bounds, so that they are met.
pub(crate) fn config() -> Config {
    Config {
        startup: startup::Config { groups: vec![1], ..startup::Config::default() },
        about: About { key: NodeKey::new([9; 64]), name: "node".into(), institution: "bank".into() },
        max_topics: 5,
        max_in_flight: 4,
        idle: std::time::Duration::from_secs(60),
    }
}

/// One body as the handshake, as the node's answer to it, as a call, and as a list of topics.
pub fn json(data: &[u8]) {
    asked(data);
    granted(data);
    call(data);
    topics(data);
}

fn asked(body: &[u8]) {
    let Ok(agreed) = handshake::negotiate(body) else { return };
    assert!(agreed.client_type.chars().count() <= 64 && !agreed.client_type.contains(char::is_control));
    let reply = handshake::reply("2.10.0", &agreed, &config().about);
    let reply: handshake::Reply = serde_json::from_slice(&reply).expect("a reply");
    assert_eq!((reply.protocol, reply.amop.is_some()), (agreed.protocol as i64, agreed.extension.is_some()));
}

fn granted(body: &[u8]) {
    let (greeting, asked) = Greeting::new(client::Config::default(), 7);
    let seq = crate::wire::written(asked).seq;
    let frame = Frame { kind: Type::HANDSHAKE, seq, result: 0, body: Bytes::copy_from_slice(body) };
    if let Ok(step) = greeting.handle_frame(Time::ZERO, &frame) {
        assert!(matches!(step, Step::Ready(_)), "the answer is the answer");
    }
}

fn call(body: &[u8]) {
    let config = config();
    let routing = world::line();
    let facts = Facts {
        config: &config.startup,
        routing: &routing,
        listings: &startup::Fresh,
        session: amop_protocol::SessionId(1),
    };
    let (head, rest) = startup::answer(body, facts);
    let answer = [head, rest].concat();
    let answer: Value = serde_json::from_slice(&answer).expect("every call gets JSON");
    assert_eq!(answer["jsonrpc"], "2.0");
    assert!(answer.get("result").is_some() != answer.get("error").is_some());
    if let Ok(call) = serde_json::from_slice::<Value>(body) {
        assert_eq!(&answer["id"], call.get("id").unwrap_or(&Value::Null), "the id comes back");
    }
}

fn topics(body: &[u8]) {
    let (config, body) = (config(), Bytes::copy_from_slice(body));
    let frame = Frame { kind: Type::TOPICS, seq: Seq([1; 32]), result: 0, body };
    match Server::new(Time::ZERO).handle_frame(frame, &config) {
        Ok(Event::Report(report)) => {
            assert!(report.topics.len() <= config.max_topics);
            assert!(report.topics.is_sorted_by(|a, b| a < b), "each topic once");
        }
        Ok(Event::Ignored(_)) | Err(Close::TooManyTopics(_)) => {}
        other => panic!("a list of topics became {other:?}"),
    }
}
