//! One shard of delivery: clients, neighbours and the clock do anything, in any order.
//!
//! Node 1 has the sessions; nodes 2 to 5 are others, linked as the input wants and as truthful as
//! it wants. [`model`] keeps what the contract promises and checks every action against it.

mod model;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use amop_protocol::{
    Cause, ClientIdentity, Fingerprint, NodeId, SessionId, Time, Topic, Version,
    broker::{
        control::{self, Control},
        dedup::{Bounds, Keyer, MessageKey},
        deliver::{Config, Delivery},
        event::{Answer, AnswerBody, Mode, Publish, PushError, Subscriber},
        routing::Routing,
        wishes::{Address, Wishes},
    },
    wire::{
        peer::{Body, DataMessage, Envelope, SendRef},
        recipients::Roster,
    },
};
use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;

use self::model::{Forwarded, Model, Name};
use crate::{
    session::CAUSES,
    wire::mode,
    world::{self, ME, id},
};

/// Nodes beside [`ME`], from 2 on.
const OTHERS: u8 = 4;
const MOST: usize = 150;
const EPOCH: u64 = 9;
/// Wakes until everything is over; the resends of one send are far fewer.
const MOST_WAKES: usize = 100_000;

#[derive(Arbitrary, Debug)]
enum Op {
    Publish { session: u8, seq: u8, multicast: bool, topic: u8, len: u8, deadline: Option<u16>, wishes: u8 },
    Introduce { session: u8, instance: u8 },
    Message { from: u8, send: u8, number: u8, epoch: u8, client: u8, seq: u8, multicast: bool, topic: u8 },
    Handed { nth: u8, from: Option<u8>, skew: u8 },
    Outcome { nth: u8, from: Option<u8>, skew: u8, cause: u8, verdict: u8, answer: bool },
    Seen { nth: u8 },
    Report { nth: u8, from: Option<u8>, handed: u8, failed: u8, complete: bool, names: u8 },
    Written { nth: u8, result: u8 },
    Answer { nth: u8, session: Option<u8>, result: u8, len: u8, prefix: bool },
    Close { session: u8 },
    Subscribe { session: u8, topics: u8 },
    Node { n: u8, links: u8, counts: [u8; 2], restart: bool },
    Link { n: u8, up: bool },
    Pass(u16),
    Wake,
    Drain,
}

/// Operations on a shard of delivery in any order.
pub fn delivery(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let small = input.arbitrary::<bool>().unwrap_or(false);
    let mut node = Node::new(small);
    for _ in 0..MOST {
        if input.is_empty() {
            break;
        }
        let Ok(op) = input.arbitrary::<Op>() else { break };
        crate::trace(&op);
        node.apply(op);
        node.drain();
    }
    if input.arbitrary().unwrap_or(false) {
        node.stop();
    }
    node.run_out();
}

struct Node {
    delivery: Delivery,
    control: Control,
    routing: Routing,
    model: Model,
    config: Config,
    now: Time,
    /// The session of each client, a new one after each close.
    sessions: [SessionId; 4],
    next_session: u64,
    epochs: BTreeMap<u8, Version>,
}

impl Node {
    fn new(small: bool) -> Self {
        let bounds = Bounds { entries: 6, bytes: 40 };
        let config = match small {
            true => Config { sent: bounds, received: bounds, ..Config::default() },
            false => Config::default(),
        };
        let control = world::control(ME, EPOCH, control::Config::default());
        let mut node = Self {
            delivery: Delivery::new(config, id(ME), EPOCH, 0),
            routing: control.routing().clone(),
            control,
            model: Model::new(config, small),
            config,
            now: Time::ZERO,
            sessions: [1, 2, 3, 4].map(SessionId),
            next_session: 5,
            epochs: BTreeMap::new(),
        };
        node.apply(Op::Link { n: 0, up: true });
        node.apply(Op::Link { n: 1, up: true });
        node
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Publish { session, seq, multicast, topic, len, deadline, wishes } => {
                let deadline = deadline.map(|millis| Duration::from_millis(u64::from(millis) * 4));
                let name =
                    Name { client: session % 2, mode: mode(multicast), topic: topic % 4, seq: seq % 3 };
                self.publish(session % 4, name, len, deadline, wishes);
            }
            Op::Introduce { session, instance } => {
                let slot = session % 4;
                let client = client(slot % 2);
                let instance = (instance % 3 > 0).then_some(u128::from(instance % 3));
                let session = self.sessions[usize::from(slot)];
                self.delivery.handle_subscriber(session, Subscriber { client, instance });
            }
            Op::Seen { nth } => {
                if let Some((push, session, _)) = self.model.push(nth) {
                    self.delivery.handle_written(session, push);
                }
            }
            Op::Message { from, send, number, epoch, client, seq, multicast, topic } => {
                let name = Name { client: client % 2, mode: mode(multicast), topic: topic % 4, seq: seq % 3 };
                let envelope = envelope(name);
                let send = u64::from(send) << 8;
                let body = match name.mode {
                    Mode::Unicast => {
                        Body::Attempt { send, number: number.into(), envelope, push_timeout_ms: 3_000 }
                    }
                    Mode::Multicast => Body::FanOut { send, envelope, recipients: number & 1 == 1 },
                };
                let payload = name.payload(0);
                self.message(other(from), epoch.into(), Some(key(name)), body, payload);
            }
            Op::Handed { .. } | Op::Outcome { .. } | Op::Report { .. } => self.report(&op),
            Op::Written { nth, result } => self.written(nth, result),
            Op::Answer { nth, session, result, len, prefix } => {
                self.answer(nth, session, result, len, prefix);
            }
            Op::Close { session } => self.close(usize::from(session % 4)),
            Op::Subscribe { session, topics } => {
                let session = self.sessions[usize::from(session % 4)];
                let topics: Vec<Topic> =
                    (0..4).filter(|bit| topics >> bit & 1 == 1).map(world::topic).collect();
                self.control.handle_report(self.now, session, &client(session.0 as u8), topics);
                self.reroute();
            }
            Op::Node { n, links, counts, restart } => self.announce(other(n), links, counts, restart),
            Op::Link { n, up } => {
                match up {
                    true => self.control.handle_link_up(self.now, id(other(n))),
                    false => self.control.handle_link_down(self.now, id(other(n))),
                }
                self.reroute();
            }
            Op::Pass(millis) => {
                self.now += Duration::from_millis(millis.into());
                self.wake();
            }
            Op::Wake => {
                if let Some(at) = self.delivery.poll_timeout() {
                    self.now = self.now.max(at);
                    self.wake();
                }
            }
            Op::Drain => self.delivery.handle_drain(),
        }
    }

    /// There are two sessions of each certificate.
    fn publish(&mut self, slot: u8, name: Name, len: u8, deadline: Option<Duration>, wishes: u8) {
        let session = self.sessions[usize::from(slot)];
        let envelope = envelope(name);
        let publish = Publish {
            session,
            client: envelope.publisher,
            instance: envelope.instance,
            seq: envelope.seq,
            mode: name.mode,
            topic: envelope.topic,
            payload: name.payload(len),
            deadline,
            wishes: wishes_of(wishes),
        };
        self.model.published(session, name, publish.wishes.as_deref());
        self.delivery.handle_publish(self.now, &self.routing, key(name), publish);
    }

    fn message(&mut self, from: u8, epoch: u64, key: Option<MessageKey>, body: Body, payload: Bytes) {
        let message = DataMessage { origin: id(from), origin_epoch: epoch, body };
        self.delivery.handle_message(self.now, &self.routing, key, message, payload);
    }

    /// A report about something that was sent, from whom it was sent to or from somebody else.
    fn report(&mut self, op: &Op) {
        let (Op::Handed { nth, from, .. } | Op::Outcome { nth, from, .. } | Op::Report { nth, from, .. }) =
            op
        else {
            return;
        };
        let Some(Forwarded { send, number, to, name }) = self.model.forwarded(*nth) else { return };
        let from = from.map_or(to, other);
        let send = SendRef { epoch: EPOCH, id: send };
        let mut payload = Bytes::new();
        let body = match op {
            Op::Handed { skew, .. } => Body::Handed { send, number: number + u32::from(skew % 3) },
            Op::Outcome { skew, cause, verdict, answer, .. } => {
                let cause = CAUSES[usize::from(*cause) % CAUSES.len()];
                if cause == Cause::Delivered {
                    self.model.succeeded(name);
                    payload = Bytes::from(vec![b'y'; usize::from(*answer) * 30]);
                }
                let (is_final, exhausted) = (verdict & 1 == 1, verdict & 2 == 2);
                let number = number.wrapping_add(u32::from(skew % 3));
                let answer_prefix = Bytes::from_static(if *answer { b"\x02a" } else { b"" });
                Body::Outcome { send, number, cause, is_final, exhausted, answer_prefix }
            }
            Op::Report { handed, failed, complete, names, .. } => {
                let mut roster = Roster::default();
                (0..*names).for_each(|n| roster.add(Some(&client(n)), Cause::QueueFull));
                payload = roster.into_bytes();
                if *handed > 0 {
                    self.model.succeeded(name);
                }
                let (handed, failed, complete) = ((*handed).into(), (*failed).into(), *complete);
                Body::FanOutReport { send, handed, failed, cause: Cause::QueueFull, complete }
            }
            _ => return,
        };
        self.message(from, 1, None, body, payload);
    }

    fn written(&mut self, nth: u8, result: u8) {
        let Some((push, session, name)) = self.model.push(nth) else { return };
        let result = match result % 4 {
            0 | 1 => Ok(()),
            2 => Err(PushError::Full),
            _ => Err(PushError::WriteFailed),
        };
        if result.is_ok() && name.mode == Mode::Multicast {
            self.model.succeeded(name);
        }
        self.delivery.handle_pushed(self.now, &self.routing, session, push, result);
    }

    fn answer(&mut self, nth: u8, session: Option<u8>, result: u8, len: u8, prefix: bool) {
        let Some((push, asked, name)) = self.model.push(nth) else { return };
        let session = session.map_or(asked, |slot| self.sessions[usize::from(slot % 4)]);
        let result = i32::from(result % 4 / 3);
        let mut body = AnswerBody::default();
        if result == 0 {
            body.payload = Bytes::from(vec![b'x'; len.into()]);
            body.prefix = Bytes::from_static(if prefix { b"\x02a" } else { b"" });
            self.model.succeeded(name);
        }
        self.delivery.handle_answer(self.now, &self.routing, session, push, Answer { result, body });
    }

    fn close(&mut self, slot: usize) {
        let gone = std::mem::replace(&mut self.sessions[slot], SessionId(self.next_session));
        self.next_session += 1;
        self.control.handle_session_closed(self.now, gone);
        self.reroute();
        self.delivery.handle_session_closed(self.now, &self.routing, gone);
    }

    /// A node says whom it is linked to and what it wants; after a restart in a new epoch.
    fn announce(&mut self, n: u8, links: u8, counts: [u8; 2], restart: bool) {
        let version = self.epochs.entry(n).or_insert(Version { epoch: 1, sequence: 0 });
        version.sequence += 1;
        if restart {
            *version = Version { epoch: version.epoch + 1, sequence: 1 };
        }
        let neighbours: Vec<u8> = (0..=OTHERS).filter(|bit| links >> bit & 1 == 0).map(|n| n + 1).collect();
        let counts = [(0, u32::from(counts[0] % 4)), (1, u32::from(counts[1] % 4))];
        for from in 2..=1 + OTHERS {
            world::announce(&mut self.control, self.now, from, n, *version, &neighbours, &counts);
        }
        self.reroute();
    }

    /// Puts the newest snapshot in force, as the control task does.
    fn reroute(&mut self) {
        while self.control.poll_action().is_some() {}
        self.routing = self.control.routing().clone();
        self.delivery.handle_routing(self.now, &self.routing);
    }

    fn wake(&mut self) {
        self.delivery.handle_timeout(self.now, &self.routing);
        assert!(self.delivery.poll_timeout().is_none_or(|at| at > self.now), "what is due was done");
    }

    fn drain(&mut self) {
        while let Some(action) = self.delivery.poll_action() {
            self.model.check(self.now, &self.routing, action);
        }
        self.model.check_counts(&self.delivery);
    }

    /// The end of the grace period: nobody is left without an outcome.
    fn stop(&mut self) {
        self.delivery.handle_stop(self.now, &self.routing);
        self.drain();
        assert_eq!(self.delivery.in_flight(), 0);
        self.model.all_told();
    }

    /// Nothing more happens: every send ends within its deadline, and all is forgotten in the end.
    fn run_out(mut self) {
        let last = self.now + self.config.max_deadline + Duration::from_secs(1);
        for _ in 0..MOST_WAKES {
            let Some(at) = self.delivery.poll_timeout() else { break };
            if self.now <= last && at > last {
                assert_eq!(self.delivery.in_flight(), 0, "a send outlives every deadline");
                self.model.all_told();
            }
            self.now = self.now.max(at);
            self.wake();
            self.drain();
        }
        self.model.all_told();
        assert_eq!(self.delivery.poll_timeout(), None, "it goes on for ever");
        assert!(!self.delivery.is_busy());
        assert_eq!(self.delivery.remembered(), (0, 0), "what is remembered when all is over");
    }
}

fn other(n: u8) -> u8 {
    2 + n % OTHERS
}

fn key(name: Name) -> MessageKey {
    let Envelope { publisher, seq, topic, .. } = envelope(name);
    Keyer::new([1, 2]).key(&publisher.fingerprint, name.mode, &topic, &seq, b"")
}

fn client(n: u8) -> Arc<ClientIdentity> {
    Arc::new(ClientIdentity { fingerprint: Fingerprint::new([n; 32]), name: "client".into() })
}

/// Mostly none; else every combination of what can be asked for.
fn wishes_of(bits: u8) -> Option<Box<Wishes>> {
    let address = Address {
        institution: (bits & 1 == 1).then(|| if bits & 2 == 2 { "bank" } else { "no bank" }.into()),
        node: (bits & 4 == 4).then(|| id(1 + (bits >> 6) % (OTHERS + 1))),
        client: (bits & 8 == 8).then(|| Fingerprint::new([bits >> 7; 32])),
    };
    let wishes = Wishes { tell_handed: bits & 16 == 16, recipients: bits & 32 == 32, address, context: None };
    (!bits.is_multiple_of(3)).then(|| Box::new(wishes))
}

fn envelope(name: Name) -> Envelope {
    Envelope {
        publisher: client(name.client),
        seq: name.seq(),
        topic: world::topic(name.topic),
        client: None,
        audience: Vec::new(),
        instance: (name.seq == 2).then_some(1),
        context: None,
    }
}

fn number_of(node: NodeId) -> u8 {
    node.as_bytes()[0]
}
