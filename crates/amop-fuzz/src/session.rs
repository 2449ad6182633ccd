//! Sessions of the client port, at both ends, given frames in any order.

use std::{sync::Arc, time::Duration};

use amop_protocol::{
    Cause, ClientIdentity, Fingerprint, Seq, SessionId, Status, Time,
    broker::event::{AnswerBody, Handout, Mode, Outcome, Push, PushId, Sender},
    session::{
        server::{Event, Published, Server},
        startup::{Facts, Fresh},
    },
    topic::Kind,
    wire::{
        channel::{Frame, TopicBody, Type, topic_prefix},
        extension::FromNode,
    },
};
use bytes::Bytes;
use serde_json::Value;

use crate::{
    json::config,
    script::Script,
    wire::{mode, written},
    world,
};

/// A frame out of a script: type, seq, result, body.
pub(crate) fn frame(script: &mut Script<'_>, seq: impl Fn(u8) -> Seq) -> Frame {
    Frame {
        kind: Type(script.short()),
        seq: seq(script.byte()),
        result: i32::from(script.byte() as i8),
        body: Bytes::copy_from_slice(script.bytes()),
    }
}

/// Causes an outcome may have.
pub(crate) const CAUSES: [Cause; 6] = [
    Cause::Delivered,
    Cause::NoSubscriber,
    Cause::PushTimeout,
    Cause::ClientQuota,
    Cause::SubscriberRefused,
    Cause::Draining,
];

/// A node's end of a session: any frames of a client, and what the node has for it in between.
pub fn session_server(data: &[u8]) {
    let mut script = Script::new(data);
    let mut node = Node { server: Server::new(Time::ZERO), pending: Vec::new(), now: Time::ZERO };
    while !script.is_over() && node.step(&mut script) {
        assert_eq!(node.server.in_flight(), node.pending.len(), "sends without an outcome");
        assert!(node.pending.len() <= config().max_in_flight);
    }
}

struct Node {
    server: Server,
    pending: Vec<Published>,
    now: Time,
}

/// Some seqs as SDKs make them, some as they do not.
fn seq(n: u8) -> Seq {
    if n < 0xf0 { Seq::from_u128(u128::from(n)) } else { Seq([n; 32]) }
}

impl Node {
    /// One operation; whether the session stays.
    fn step(&mut self, script: &mut Script<'_>) -> bool {
        match script.byte() % 8 {
            0..=4 => return self.frame(frame(script, seq)),
            5 => self.outcome(script),
            6 => self.push(script),
            _ => return self.pass(Duration::from_secs(script.byte().into()), script.byte() & 1 == 0),
        }
        true
    }

    fn frame(&mut self, frame: Frame) -> bool {
        let config = config();
        let extended = self.server.is_extended();
        let is_send =
            matches!(frame.kind, Type::UNICAST | Type::MULTICAST) || extended && frame.kind == Type::PUBLISH;
        let Ok(event) = self.server.handle_frame(frame.clone(), &config) else { return false };
        match event {
            Event::Publish(published) => {
                assert!(is_send && published.seq == frame.seq);
                assert_ne!(published.topic.kind(), Kind::BlockNotify);
                self.pending.push(published);
                return true;
            }
            Event::Refused(refused, _) => {
                assert!(is_send);
                let refused = written(refused);
                assert_eq!(refused.seq, frame.seq, "a refusal names the send");
                assert!([Status::NoPath.code(), Status::Refused.code()].contains(&refused.result));
                return true;
            }
            Event::Reply(reply) => assert_eq!(written(reply).seq, frame.seq),
            Event::Call { seq, body } => {
                let routing = world::line();
                let facts = Facts {
                    config: &config.startup,
                    routing: &routing,
                    listings: &Fresh,
                    session: SessionId(1),
                };
                let answer = written(Server::answer_call(seq, &body, facts));
                assert!(serde_json::from_slice::<Value>(&answer.body).is_ok() && answer.seq == frame.seq);
            }
            Event::Report(report) => {
                assert!(report.topics.len() <= config.max_topics);
                assert!(report.topics.is_sorted_by(|a, b| a < b));
                if let Some(acknowledge) = report.acknowledge {
                    let accepted = report.topics.len();
                    let said = FromNode::decode(&written(Server::subscribed(acknowledge, true)));
                    assert!(
                        matches!(said, Ok(FromNode::Subscribed { accepted: n, .. }) if n as usize == accepted)
                    );
                }
            }
            Event::Answer(push, answer, _) => {
                assert_eq!(push.to_seq(), frame.seq);
                let prefix = &answer.body.prefix;
                assert!(prefix.first().is_none_or(|n| usize::from(*n) == prefix.len()));
            }
            Event::Received(pushes) => assert!(!pushes.is_empty() && frame.kind == Type::RECEIVED),
            Event::Verdict(verdict) => {
                assert!(frame.kind == Type::VERIFIED && verdict.question.len() < 1 << 20)
            }
            Event::Ignored(_) => {}
        }
        assert!(!is_send, "every send is admitted or refused");
        true
    }

    fn outcome(&mut self, script: &mut Script<'_>) {
        let (nth, cause) = (usize::from(script.byte()), script.pick(&CAUSES));
        let has_prefix = script.byte() & 1 == 0;
        let payload = Bytes::copy_from_slice(script.bytes());
        if self.pending.is_empty() {
            return;
        }
        let Published { seq, mode, topic, .. } = self.pending.remove(nth % self.pending.len());
        let prefix = if has_prefix { topic_prefix(&topic) } else { Bytes::new() };
        let outcome = Outcome {
            session: SessionId(1),
            seq,
            mode,
            topic: Some(topic),
            cause,
            body: AnswerBody { prefix, payload },
            retry_after: Duration::from_millis(5),
            retry: cause.retry(),
            hop: None,
        };
        let frame = written(self.server.outcome(outcome));
        assert_eq!((frame.seq, frame.result), (seq, cause.status().code()));
        if self.server.is_extended() {
            let said = FromNode::decode(&frame).expect("an extension frame");
            assert!(matches!(said, FromNode::PublishResult { cause: said, .. } if said == cause));
        } else {
            assert_eq!(frame.kind, Type::ANSWER);
            let fits = frame.body.is_empty() || TopicBody::parse(frame.body).is_ok();
            assert!(fits, "SDKs read a topic body or nothing");
        }
    }

    fn push(&mut self, script: &mut Script<'_>) {
        let id = PushId(script.short().into());
        let mode = mode(script.byte() & 1 == 1);
        let topic = world::topic(script.byte());
        let payload = Bytes::copy_from_slice(script.bytes());
        let handout = Handout {
            id,
            mode,
            topic: topic.clone(),
            payload: payload.clone(),
            sender: sender(),
            answer_within: Duration::from_secs(1),
            message: Seq([9; 32]),
            context: None,
            frame: None,
        };
        let push = Push { session: SessionId(1), handout: Arc::new(handout) };
        let frame = written(self.server.push(&push).into_owned());
        assert_eq!(PushId::from_seq(frame.seq), Some(id));
        if self.server.is_extended() {
            let said = FromNode::decode(&frame).expect("an extension frame");
            let FromNode::Deliver { mode: how, topic: to, payload: what, sender: who, message, .. } = said
            else {
                panic!("a push became {said:?}")
            };
            assert_eq!(message, Some(Seq([9; 32])));
            assert_eq!((how, to, what, who), (mode, topic, payload, sender()));
        } else {
            let body = TopicBody::parse(frame.body).expect("a topic body");
            assert_eq!((body.topic(), body.payload), (Ok(topic), payload));
            assert_eq!(frame.kind == Type::MULTICAST, mode == Mode::Multicast);
        }
    }

    fn pass(&mut self, time: Duration, bytes: bool) -> bool {
        self.now += time;
        if bytes {
            self.server.handle_bytes(self.now);
        }
        let config = config();
        let due = self.server.poll_timeout(&config) <= self.now;
        assert_eq!(self.server.handle_timeout(self.now, &config).is_err(), due);
        !due
    }
}

fn sender() -> Sender {
    let client = ClientIdentity { fingerprint: Fingerprint::new([3; 32]), name: "client".into() };
    Sender { institution: "bank".into(), node: world::id(2), client: client.into() }
}
