//! The SDK's end of a session, given any frames of a node.

use std::{collections::BTreeSet, time::Duration};

use amop_protocol::{
    Seq, Time,
    session::{
        client::{Action, Config, Dialect, Greeting, Message, Push, ReportId, SendId, Session, Step},
        server::{Close, Event, Ignored, Server},
        verification::{Inquiry, Verdict},
    },
    wire::channel::{Frame, Type},
};
use bytes::Bytes;

use crate::{
    json,
    script::Script,
    session::frame,
    wire::{mode, written},
    world,
};

const BASE: u64 = 0x1122;

/// A client's end of a session: any frames of a node, and what the application wants in between.
pub fn session_client(data: &[u8]) {
    let mut script = Script::new(data);
    let Some(mut client) = Client::greet(&mut script) else { return };
    while !script.is_over() && client.step(&mut script) {
        client.drain();
    }
    client.drain();
    assert_eq!(client.session.in_flight(), client.open.len(), "sends without an outcome");
    assert!(client.session.into_unfinished().eq(client.open), "the rest is named at the end");
}

struct Client {
    session: Session,
    /// The node's own end, which must understand whatever this client writes.
    node: Server,
    open: BTreeSet<SendId>,
    pushes: Vec<Push>,
    reported: Option<ReportId>,
    now: Time,
}

impl Client {
    fn greet(script: &mut Script<'_>) -> Option<Self> {
        let (greeting, asked) = Greeting::new(Config::default(), BASE);
        let asked = written(asked);
        let body = match script.byte() % 3 {
            0 => Bytes::copy_from_slice(script.bytes()),
            1 => Bytes::from(format!(r#"{{"protocol":{}}}"#, script.byte() % 4)),
            _ => Bytes::from_static(br#"{"protocol":3,"amop":{"version":1}}"#),
        };
        let answer = Frame { body, result: 0, ..asked.clone() };
        let Ok(Step::Ready(session)) = greeting.handle_frame(Time::ZERO, &answer) else { return None };
        let mut node = Server::new(Time::ZERO);
        node.handle_frame(asked, &json::config()).expect("a common version");
        Some(Self {
            session: *session,
            node,
            open: BTreeSet::new(),
            pushes: Vec::new(),
            reported: None,
            now: Time::ZERO,
        })
    }

    /// One operation; whether the session stays.
    fn step(&mut self, script: &mut Script<'_>) -> bool {
        match script.byte() % 8 {
            0..=3 => {
                let frame = frame(script, seq);
                return self.session.handle_frame(self.now, frame).is_ok();
            }
            4 => self.send(script),
            5 => {
                let topics = [world::topic(script.byte()), world::topic(script.byte())];
                self.session.report(topics.iter());
            }
            6 => {
                let (nth, result) = (usize::from(script.byte()), i32::from(script.byte() as i8));
                let payload = Bytes::copy_from_slice(script.bytes());
                if let Some(push) = self.pushes.get(nth % self.pushes.len().max(1)) {
                    self.session.answer(push, result, payload).expect("a small answer");
                }
            }
            _ => {
                self.now += Duration::from_millis(script.short().into());
                return self.session.handle_timeout(self.now).is_ok();
            }
        }
        true
    }

    fn send(&mut self, script: &mut Script<'_>) {
        let message = Message {
            mode: mode(script.byte() & 1 == 1),
            topic: world::topic(script.byte()),
            deadline: match script.byte() {
                0 => None,
                seconds => Some(Duration::from_secs(seconds.into())),
            },
            payload: Bytes::copy_from_slice(script.bytes()),
            wishes: None,
        };
        let id = self.session.send(self.now, message).expect("a small message");
        assert!(self.open.insert(id), "each send has a name of its own");
    }

    fn drain(&mut self) {
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Ended(id, _) => assert!(self.open.remove(&id), "one outcome for each send"),
                Action::Reported { report, .. } => {
                    assert!(self.reported < Some(report), "reports are confirmed in order, each once");
                    self.reported = Some(report);
                }
                Action::Handed(id) => assert!(self.open.contains(&id), "before the outcome, of a send"),
                Action::Deliver(deliver) => {
                    self.session.received(self.now, &deliver.push, deliver.mode);
                    self.pushes.push(deliver.push);
                }
                Action::Asked(Inquiry { question, topic, .. }) => {
                    let trusted = question.len() % 2 == 0;
                    self.session.decide(&Verdict { question, topic, trusted });
                }
                Action::Drain(_) => {}
            }
        }
        assert_eq!(self.session.in_flight(), self.open.len());
        while let Some(frame) = self.session.poll_frame() {
            self.understood(written(frame));
        }
        assert!(self.session.poll_timeout() > Time::ZERO);
    }

    fn understood(&mut self, frame: Frame) {
        if self.session.dialect() != Dialect::Extended && frame.kind == Type::HEARTBEAT {
            return;
        }
        match self.node.handle_frame(frame.clone(), &json::config()) {
            Ok(Event::Ignored(Ignored::Malformed | Ignored::UnknownType)) => {
                panic!("a node makes nothing of {frame:?}")
            }
            Err(Close::Incompatible(_) | Close::Idle(_)) => panic!("a node closes on {frame:?}"),
            Ok(_) | Err(Close::TooManyTopics(_)) => {}
        }
    }
}

/// Mostly seqs of this session's own.
fn seq(n: u8) -> Seq {
    match n {
        0xf0.. => Seq([n; 32]),
        _ => Seq::from_u128(u128::from(BASE) << 64 | u128::from(n)),
    }
}
