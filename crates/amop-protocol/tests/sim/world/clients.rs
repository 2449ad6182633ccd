//! Clients: what they send, what is written to them, and what they make of it.

use std::time::Duration;

use amop_protocol::{
    SessionId, Topic,
    broker::event::{Mode, PushError, PushId},
    session::{
        client::Deliver,
        once::{self, Admission, Answer, Once, Ticket},
    },
    wire::{
        channel::{Encoded, Frame, Type},
        extension::FromClient,
    },
};
use rand::RngExt;

use super::{Event, Place, Way, World};
use crate::{
    client::{Client, Told, over_the_wire},
    node::topic,
    oracle::Sent,
    plan::{BadTopic, Behaviour},
    wants::Wants,
};

/// What a subscriber that refuses answers with.
const REFUSAL: i32 = 7;

impl World {
    pub(super) fn open(&mut self, number: usize, client: Client, certificate: u8) {
        let node = client.node;
        let slot = &mut self.slots[node];
        let Some(sim) = &mut slot.node else { return };
        let session = sim.open(self.now, number, certificate);
        let at = Place { node, incarnation: slot.incarnation, session };
        self.oracle.session_begins(number, &client, certificate, sim.drained);
        if let Some(instance) = client.instance {
            let secret = [instance as u64, 1];
            self.instances.entry(instance).or_insert_with(|| Once::new(once::Config::default(), secret));
        }
        let greeting = client.greeting();
        self.clients.insert(number, (client, at));
        self.note("opens", &[node as u64, number as u64]);
        if let Some(frame) = greeting {
            self.client_sends(at, number, over_the_wire(&frame));
        }
    }

    pub(super) fn close(&mut self, number: usize) {
        let Some((_, at)) = self.clients.remove(&number) else { return };
        let now = self.now;
        let Some(sim) = self.node(at.node, at.incarnation) else { return };
        sim.close(now, at.session);
        self.oracle.session_ends(number, self.now);
        self.note("closes", &[at.node as u64, number as u64]);
        self.expect_settled(at.node);
        self.settle(at.node);
    }

    pub(super) fn subscribe(&mut self, number: usize, topics: &[u32]) {
        let Some((client, at)) = self.clients.get_mut(&number) else { return };
        let names: Vec<Topic> = topics.iter().map(|number| topic(*number)).collect();
        let (frame, at) = (client.subscribe(&names), *at);
        self.oracle.reports(number, topics, self.now);
        self.oracle.private.reports(number, None, self.now);
        self.note("subscribes", &[at.node as u64, number as u64]);
        self.hand_in(at, &frame);
        self.expect_settled(at.node);
        self.settle(at.node);
    }

    pub(super) fn publish(
        &mut self,
        number: usize,
        message: u64,
        mode: Mode,
        wanted: u32,
        deadline: Option<Duration>,
        wants: Wants,
    ) {
        let Some((client, at)) = self.clients.get(&number) else { return };
        let (frame, at) = (client.publish(message, mode, topic(wanted), deadline, wants), *at);
        // A 2.x client cannot say how long it would wait, nor what else it would like.
        let says = client.dialect == crate::plan::Dialect::Extended;
        // The frame says it in whole milliseconds.
        let deadline = deadline.filter(|_| says).map(|own| Duration::from_millis(own.as_millis() as u64));
        let wants = if says { wants } else { wants.unsaid() };
        let (session, topic) = (number, Some(wanted));
        self.oracle.publishes(Sent { message, session, mode, topic, deadline, wants }, self.now);
        self.note("publishes", &[at.node as u64, number as u64, message]);
        self.client_sends(at, number, over_the_wire(&frame));
    }

    pub(super) fn publish_badly(&mut self, number: usize, message: u64, how: BadTopic) {
        let Some((client, at)) = self.clients.get(&number) else { return };
        let name = |name| Topic::parse(name).expect("a valid name");
        let publish = |topic| client.publish(message, Mode::Unicast, name(topic), None, Wants::default());
        let frame = match how {
            BadTopic::Malformed => client.publish_malformed(message),
            BadTopic::BlockNotify => publish("_block_notify_1"),
            BadTopic::Private => publish("#!$TopicNeedVerify_t"),
        };
        let at = *at;
        let (session, mode, wants) = (number, Mode::Unicast, Wants::default());
        self.oracle.publishes(Sent { message, session, mode, topic: None, deadline: None, wants }, self.now);
        self.note("publishes badly", &[at.node as u64, number as u64, message]);
        self.client_sends(at, number, over_the_wire(&frame));
    }

    /// A client's frame comes to its node.
    pub(super) fn client_sends(&mut self, at: Place, number: usize, frame: Frame) {
        if self.clients.get(&number).is_some_and(|(_, place)| *place == at)
            && let Some(sim) = self.slots[at.node].node.as_mut()
        {
            sim.client_frame(self.now, at.session, frame);
            self.settle(at.node);
        }
    }

    /// Either way its node knows now that the message was handed over.
    pub(super) fn client_answers(&mut self, at: Place, number: usize, frame: Frame, message: u64) {
        if self.clients.get(&number).is_some_and(|(_, place)| *place == at) {
            self.oracle.is_confirmed(message, number, self.now);
        }
        self.client_sends(at, number, frame);
    }

    pub(super) fn hand_in(&mut self, at: Place, frame: &Encoded) {
        let now = self.now;
        if let Some(sim) = self.node(at.node, at.incarnation) {
            sim.client_frame(now, at.session, over_the_wire(frame));
        }
    }

    /// A node writes to a client: a connection is a stream, what is written arrives in order.
    pub(super) fn write(
        &mut self,
        node: usize,
        session: SessionId,
        client: usize,
        frame: &Encoded,
        push: Option<PushId>,
    ) {
        self.note("writes", &[node as u64, client as u64]);
        let slot = &mut self.slots[node];
        let Some(sim) = &mut slot.node else { return };
        let Some(to) = sim.sessions.get_mut(&session) else { return };
        match (self.clients.get(&client).map(|(client, _)| client.behaviour), push) {
            (Some(Behaviour::Full), Some(push)) => {
                sim.pushed(self.now, session, push, Err(PushError::Full));
                return self.settle(node);
            }
            (Some(behaviour), _) if behaviour.reads() => {}
            _ => return,
        }
        let after = Duration::from_micros(slot.rng.random_range(10..2_000));
        to.written = to.written.max(self.now + after);
        let at = Place { node, incarnation: slot.incarnation, session };
        let (frame, written) = (over_the_wire(frame), to.written);
        self.asks(client, &frame);
        let event = Event::Written { at, client, frame, push };
        self.schedule(written, event);
    }

    pub(super) fn written(&mut self, at: Place, number: usize, frame: Frame, push: Option<PushId>) {
        let now = self.now;
        let Some((client, _)) = self.clients.get(&number).filter(|(_, place)| *place == at) else { return };
        if frame.kind == Type::VERIFY {
            return self.inquired(at, number, &frame);
        }
        let (told, behaviour) = (client.read(frame), client.behaviour);
        if let Some(push) = push
            && let Some(sim) = self.node(at.node, at.incarnation)
        {
            sim.written(now, at.session, push);
            self.settle(at.node);
        }
        let told = told.map(|told| self.told_privately(at, number, told)).transpose();
        let Some(told) = told else { return };
        match told {
            Ok(Told::Message { push, mode, message, deliver }) => {
                let way = Way { at, client: number, push };
                self.oracle.reads(message, number);
                let Some(ticket) = self.admit(way, deliver.as_deref()) else {
                    // The application has it, whichever way it came.
                    return self.receipt_later(at, number, push, message);
                };
                self.note("handed", &[number as u64, message]);
                self.oracle.is_handed(message, number, now);
                self.receipt_later(at, number, push, message);
                match (behaviour, mode) {
                    (Behaviour::Leaves, _) => self.close(number),
                    (_, Mode::Unicast) => self.answer_later(way, message, ticket),
                    (_, Mode::Multicast) => {}
                }
            }
            Ok(Told::HandedOver { message }) => {
                self.note("handed over", &[number as u64, message]);
                self.oracle.hand_over_told(message, number, now);
            }
            Ok(Told::Outcome { message, ended, report }) => {
                self.note("outcome", &[number as u64, message, ended.status as u64]);
                self.oracle.outcome(message, number, ended, report, now);
            }
            Ok(Told::Subscribed { complete }) => self.oracle.confirmed(number, complete, now),
            Ok(Told::Other) => {}
            Err(wrong) => self.oracle.broken.push(format!("client {number} cannot read at {now:?}: {wrong}")),
        }
    }

    /// A 2.x client was handed what was written to it; another one says so, sooner or later.
    pub(super) fn receipt_later(&mut self, at: Place, number: usize, push: amop_protocol::Seq, message: u64) {
        let Some((client, _)) = self.clients.get(&number) else { return };
        if !client.says_received() {
            return self.oracle.is_confirmed(message, number, self.now);
        }
        let Some((after, frame)) = client.receipt(push) else { return };
        let frame = over_the_wire(&frame);
        self.schedule(self.now + after, Event::Answer { at, client: number, frame, message });
    }

    /// Whether a message is new to its application; if it is not, it is answered as it was before.
    /// An application with one session takes all that comes.
    fn admit(&mut self, way: Way, deliver: Option<&Deliver>) -> Option<Option<(usize, Ticket)>> {
        let (client, _) = &self.clients[&way.client];
        let (Some(instance), Some(deliver)) = (client.instance, deliver) else { return Some(None) };
        let once = self.instances.get_mut(&instance).expect("it was opened");
        match once.handle_deliver(self.now, deliver, way) {
            Admission::New(ticket) => Some(ticket.map(|ticket| (instance, ticket))),
            Admission::Known => {
                self.oracle.came_again();
                None
            }
            Admission::Answered(answer) => {
                self.oracle.came_again();
                self.answer_by(way, &answer);
                None
            }
        }
    }

    fn answer_later(&mut self, way: Way, message: u64, ticket: Option<(usize, Ticket)>) {
        let number = way.client;
        let Some((client, _)) = self.clients.get(&number) else { return };
        let (after, result) = match client.behaviour {
            Behaviour::Prompt(after) | Behaviour::Slow(after) => (after, 0),
            Behaviour::Refuses => (Duration::from_millis(1), REFUSAL),
            Behaviour::Silent | Behaviour::Leaves | Behaviour::Stuck | Behaviour::Full => return,
        };
        // Any valid topic will do: it is the publisher's node that must not mix them up.
        let frame = client.answer(way.push, result, message, number, &topic(0));
        if result == 0 {
            self.oracle.answers(message, number);
        }
        let event = match ticket {
            Some((instance, ticket)) => {
                let answer = Answer { result, payload: Client::answer_payload(message, number) };
                Event::AnswerAll { instance, ticket, answer }
            }
            None => Event::Answer { at: way.at, client: number, frame: over_the_wire(&frame), message },
        };
        self.schedule(self.now + after, event);
    }

    pub(super) fn answer_all(&mut self, instance: usize, ticket: Ticket, answer: &Answer) {
        let once = self.instances.get_mut(&instance).expect("it was opened");
        for way in once.handle_answer(self.now, ticket, answer) {
            self.answer_by(way, answer);
        }
    }

    /// Ways whose session is gone lead nowhere.
    fn answer_by(&mut self, way: Way, answer: &Answer) {
        let Answer { result, payload } = answer.clone();
        let message = payload.first_chunk().map_or(0, |number| u64::from_be_bytes(*number));
        let frame = FromClient::Answer { result, payload }.encode(way.push);
        self.client_answers(way.at, way.client, over_the_wire(&frame), message);
    }
}
