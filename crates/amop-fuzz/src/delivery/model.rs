//! What the delivery contract promises, kept beside the machine.

use std::collections::{BTreeMap, BTreeSet};

use amop_protocol::{
    Cause, Seq, SessionId, Time, Topic,
    broker::{
        deliver::{Config, Delivery},
        event::{Action, Mode, Outcome, Push, PushId},
        routing::Routing,
        wishes::Wishes,
    },
    limits::MAX_HOPS,
    wire::{
        peer::{self, Body},
        recipients::Recipients,
    },
};
use bytes::Bytes;

use super::number_of;
use crate::world;

/// Names one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) client: u8,
    pub(super) mode: Mode,
    pub(super) topic: u8,
    pub(super) seq: u8,
}

impl Name {
    pub(super) fn seq(self) -> Seq {
        Seq::from_u128(self.seq.into())
    }

    /// Says which message it is, so that a push can be told.
    pub(super) fn payload(self, len: u8) -> Bytes {
        let mut bytes = vec![self.client, self.mode as u8, self.topic, self.seq];
        bytes.resize(4 + usize::from(len), b'.');
        bytes.into()
    }

    fn of_payload(payload: &[u8]) -> Self {
        let mode = if payload[1] == 0 { Mode::Unicast } else { Mode::Multicast };
        Self { client: payload[0], mode, topic: payload[2], seq: payload[3] }
    }
}

/// Something that was sent to another node and may be reported on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Forwarded {
    pub(super) send: u64,
    pub(super) number: u32,
    pub(super) to: u8,
    pub(super) name: Name,
}

/// A send as its publisher knows it.
type Told = (SessionId, Mode, Topic, Seq);

pub(super) struct Model {
    config: Config,
    /// With small windows a message may be forgotten and run again.
    forgetful: bool,
    waiting: BTreeMap<Told, usize>,
    /// Sends whose publisher wants to hear that they were handed over.
    curious: BTreeMap<(SessionId, Seq), usize>,
    /// Whether some publisher wants to know of each recipient.
    reporting: bool,
    publishes: u64,
    outcomes: u64,
    pushes: Vec<(PushId, SessionId, Name)>,
    pushed: BTreeMap<(Name, SessionId), Time>,
    ids: BTreeSet<(PushId, SessionId)>,
    sent: Vec<Forwarded>,
    /// Messages of which somebody said that they arrived.
    arrived: BTreeSet<Name>,
}

impl Model {
    pub(super) fn new(config: Config, forgetful: bool) -> Self {
        Self {
            config,
            forgetful,
            waiting: BTreeMap::new(),
            curious: BTreeMap::new(),
            reporting: false,
            publishes: 0,
            outcomes: 0,
            pushes: Vec::new(),
            pushed: BTreeMap::new(),
            ids: BTreeSet::new(),
            sent: Vec::new(),
            arrived: BTreeSet::new(),
        }
    }

    pub(super) fn published(&mut self, session: SessionId, name: Name, wishes: Option<&Wishes>) {
        self.publishes += 1;
        let told = (session, name.seq());
        *self.curious.entry(told).or_default() += usize::from(wishes.is_some_and(|w| w.tell_handed));
        self.reporting |= wishes.is_some_and(|wishes| wishes.recipients);
        *self.waiting.entry((session, name.mode, world::topic(name.topic), name.seq())).or_default() += 1;
    }

    pub(super) fn succeeded(&mut self, name: Name) {
        self.arrived.insert(name);
    }

    /// The nth last push.
    pub(super) fn push(&self, nth: u8) -> Option<(PushId, SessionId, Name)> {
        self.pushes.iter().rev().cycle().take(self.pushes.len() * 256).nth(nth.into()).copied()
    }

    /// The nth last frame that was sent.
    pub(super) fn forwarded(&self, nth: u8) -> Option<Forwarded> {
        self.sent.iter().rev().cycle().take(self.sent.len() * 256).nth(nth.into()).copied()
    }

    pub(super) fn check(&mut self, now: Time, routing: &Routing, action: Action) {
        match action {
            Action::Push(push) => self.check_push(now, routing, push),
            Action::Outcome(outcome) => self.check_outcome(outcome),
            Action::Handed { session, seq } => {
                let left = self.curious.get_mut(&(session, seq)).filter(|left| **left > 0);
                *left.expect("who asked is told, and once") -= 1;
            }
            Action::Forward { to, frame } => {
                assert!(routing.graph().is_linked(&routing.me(), &to), "{to} is no neighbour");
                assert_eq!(frame.hops, MAX_HOPS);
                let route = peer::decode_route(&frame.header).expect("what is sent can be read");
                assert!(!route.destinations.contains(&routing.me()));
                let message = peer::decode(&frame.header).expect("what is sent can be read");
                assert_eq!(message.origin, routing.me());
                let (send, number) = match message.body {
                    Body::Attempt { send, number, .. } => (send, number),
                    Body::FanOut { send, .. } => (send, 0),
                    _ => return,
                };
                let name = Name::of_payload(&frame.payload);
                let sent = route.destinations.into_iter().map(number_of);
                self.sent.extend(sent.map(|to| Forwarded { send, number, to, name }));
            }
        }
    }

    fn check_push(&mut self, now: Time, routing: &Routing, push: Push) {
        let name = Name::of_payload(&push.payload);
        let routes = routing.topic(push.topic.as_str()).expect("somebody wants it");
        assert!(routes.sessions.contains(&push.session), "{} is not subscribed", push.session);
        assert!(push.answer_within <= self.config.push_timeout_max && push.mode == name.mode);
        assert!(self.ids.insert((push.id, push.session)), "{:?} is used again", push.id);
        let before = self.pushed.insert((name, push.session), now);
        if let Some(before) = before.filter(|_| !self.forgetful) {
            let apart = now - before;
            assert!(apart >= self.config.retention(), "{name:?} twice for {}", push.session);
        }
        self.pushes.push((push.id, push.session, name));
    }

    fn check_outcome(&mut self, outcome: Outcome) {
        let Outcome { session, seq, mode, topic, cause, body, hop, .. } = outcome;
        assert_eq!(hop.is_some(), cause != Cause::Delivered, "a failure says where");
        let topic = topic.expect("every outcome names its topic");
        self.outcomes += 1;
        let waits = self.waiting.get_mut(&(session, mode, topic.clone(), seq));
        let waits = waits.filter(|waits| **waits > 0).expect("an outcome for each send, and no more");
        *waits -= 1;
        let empty = body.prefix.is_empty() && body.payload.is_empty();
        let answered = cause == Cause::Delivered && mode == Mode::Unicast;
        let reported = mode == Mode::Multicast && self.reporting && Recipients::decode(body.payload).is_ok();
        assert!(empty || answered || reported, "a body with {cause:?}");
        if cause == Cause::Delivered {
            let (topic, seq) = (topic.to_string(), seq.to_u128());
            let mut arrived = self.arrived.iter();
            let any = arrived.any(|name| {
                name.mode == mode
                    && Some(u128::from(name.seq)) == seq
                    && world::topic(name.topic).as_str() == topic
            });
            assert!(any, "success, and nobody said so");
        }
    }

    pub(super) fn check_counts(&self, delivery: &Delivery) {
        let counted = delivery.counters();
        assert_eq!((counted.publishes, counted.outcomes), (self.publishes, self.outcomes));
        let (sent, received) = delivery.remembered();
        let (sends, pushes) = delivery.running();
        let bound = self.config.sent.entries + sends;
        assert!(sent <= bound, "{sent} sends remembered, {bound} allowed");
        // As many again may rest between two attempts.
        let bound = 2 * self.config.received.entries + pushes;
        assert!(received <= bound, "{received} messages remembered, {bound} allowed");
    }

    pub(super) fn all_told(&self) {
        let left = self.waiting.iter().find(|(_, waits)| **waits > 0);
        assert_eq!(left, None, "a publisher never learns how its send ended");
    }
}
