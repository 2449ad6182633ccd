//! Publishers and subscribers of private topics: they ask, challenge, answer and decide as SDKs do.

use std::{collections::BTreeMap, time::Duration};

use amop_protocol::{
    Seq, Time,
    broker::event::Mode,
    session::verification::{Inquiry, Verdict},
    wire::channel::{Encoded, Frame, Type},
};

use super::{Event, Place, World};
use crate::{
    client::{Told, over_the_wire},
    oracle::PrivateSend,
    plan::Behaviour,
    private::{CHALLENGES, Forgery, MESSAGES, Role, channel, private},
    wants::Wants,
};

/// By then a challenge has an outcome: the deadline of a 2.x client, and a tick of the timer.
const CHALLENGE_ENDS: Duration = Duration::from_millis(30_100);

/// What clients know of private topics.
#[derive(Default)]
pub(super) struct Handshakes {
    roles: BTreeMap<usize, Role>,
    /// Challenges by number: who sent it, what it had been asked, and when.
    challenges: BTreeMap<u64, (usize, Inquiry, Time)>,
    /// Whoever was asked what, in order; it is all there is for others to forge from.
    asked: Vec<(usize, Inquiry)>,
    /// Verdicts of trust that were given, and by whom.
    trusted: Vec<(usize, Verdict)>,
}

/// What a publisher says, and of whom.
#[derive(Clone, Debug)]
pub(super) struct Decision {
    verdict: Verdict,
    subscriber: usize,
}

impl World {
    /// A session reports what belongs to a role, or nothing.
    pub(super) fn take_role(&mut self, number: usize, role: Option<Role>) {
        let Some((client, at)) = self.clients.get_mut(&number) else { return };
        let names = role.as_ref().map(Role::names).unwrap_or_default();
        let (frame, at) = (client.subscribe(&names), *at);
        self.oracle.reports(number, &[], self.now);
        self.oracle.private.reports(number, role.as_ref(), self.now);
        self.note("takes a role", &[at.node as u64, number as u64]);
        match role {
            Some(role) => _ = self.handshakes.roles.insert(number, role),
            None => _ = self.handshakes.roles.remove(&number),
        }
        self.hand_in(at, &frame);
        self.expect_settled(at.node);
        self.settle(at.node);
    }

    pub(super) fn publish_private(&mut self, number: usize, message: u64, mode: Mode, topic: u32) {
        let Some((client, at)) = self.clients.get(&number) else { return };
        let (message, at) = (MESSAGES + message, *at);
        let frame = client.publish(message, mode, private(topic), None, Wants::default());
        let send = PrivateSend { message, session: number, mode, topic, at: self.now };
        self.oracle.private.publishes(send);
        self.note("publishes privately", &[at.node as u64, number as u64, message]);
        self.client_sends(at, number, over_the_wire(&frame));
    }

    /// Sends to a subscriber's channel what nobody asked for.
    pub(super) fn challenge_unasked(&mut self, number: usize, message: u64, topic: u32, to: u64) {
        let Some((client, at)) = self.clients.get(&number) else { return };
        let (message, at) = (MESSAGES + message, *at);
        let frame = client.publish(message, Mode::Unicast, channel(topic, to), None, Wants::default());
        self.note("challenges unasked", &[at.node as u64, number as u64, message]);
        self.client_sends(at, number, over_the_wire(&frame));
    }

    /// A publisher takes back the trust that it gave last.
    pub(super) fn revoke(&mut self, number: usize) {
        let given = &self.handshakes.trusted;
        let Some((_, verdict)) = given.iter().rev().find(|(client, _)| *client == number) else { return };
        let verdict = Verdict { trusted: false, ..verdict.clone() };
        self.oracle.private.revokes(number, &verdict, self.now);
        self.say(number, &verdict);
    }

    pub(super) fn forge(&mut self, number: usize, how: Forgery) {
        let asked = self.handshakes.asked.iter().rev();
        let own = |(client, _): &&(usize, Inquiry)| *client == number;
        let (found, trusted) = match how {
            Forgery::OfAnother { trusted } => (asked.clone().find(|asked| !own(asked)), trusted),
            Forgery::OtherTopic => (asked.clone().find(own), true),
            Forgery::Repeated => (asked.rev().find(own), true),
        };
        let Some((_, Inquiry { question, topic, .. })) = found.cloned() else { return };
        let topic = if how == Forgery::OtherTopic { private(99) } else { topic };
        let verdict = Verdict { question, topic, trusted };
        if how == Forgery::Repeated && !self.oracle.private.is_decided(&verdict.question) {
            return;
        }
        self.say(number, &verdict);
    }

    fn say(&mut self, number: usize, verdict: &Verdict) {
        let Some((_, at)) = self.clients.get(&number) else { return };
        let at = *at;
        self.note("decides", &[number as u64, u64::from(verdict.trusted)]);
        let frame = Encoded::new(Type::VERIFIED, Seq::from_u128(0), 0, &[], verdict.encode());
        self.client_sends(at, number, over_the_wire(&frame));
    }

    /// A node puts a question to a publisher.
    pub(super) fn asks(&mut self, number: usize, frame: &Frame) {
        if frame.kind == Type::VERIFY {
            let inquiry = Inquiry::decode(&frame.body).expect("a node's question can be read");
            self.oracle.private.asked(number, &inquiry, self.now);
        }
    }

    /// The publisher has read it, and challenges the subscriber.
    pub(super) fn inquired(&mut self, at: Place, number: usize, frame: &Frame) {
        let inquiry = Inquiry::decode(&frame.body).expect("a node's question can be read");
        self.handshakes.asked.push((number, inquiry.clone()));
        let Some((client, _)) = self.clients.get(&number) else { return };
        let challenge = CHALLENGES + self.handshakes.challenges.len() as u64;
        let to = inquiry.channel.clone();
        let frame = client.publish(challenge, Mode::Unicast, to, None, Wants::default());
        self.note("challenges", &[number as u64, challenge]);
        self.handshakes.challenges.insert(challenge, (number, inquiry, self.now));
        self.client_sends(at, number, over_the_wire(&frame));
    }

    /// What a node tells about messages to private topics, and about challenges; gives back the rest.
    pub(super) fn told_privately(&mut self, at: Place, number: usize, told: Told) -> Option<Told> {
        match told {
            Told::Message { push, mode, message, .. } if message >= MESSAGES => {
                self.note("handed privately", &[number as u64, message]);
                self.receipt_later(at, number, push, message);
                if message < CHALLENGES {
                    self.oracle.private.is_handed(message, number, self.now);
                }
                if mode == Mode::Unicast {
                    self.answer_privately(at, number, push, message);
                }
            }
            Told::Outcome { message, ended, .. } if message >= CHALLENGES => {
                if let Some((_, subscriber)) = ended.answer {
                    self.decide_later(at, number, message, subscriber);
                }
            }
            Told::Outcome { message, ended, .. } if message >= MESSAGES => {
                self.note("outcome", &[number as u64, message, ended.status as u64]);
                self.oracle.private.outcome(message, ended, self.now);
            }
            Told::HandedOver { message } if message >= MESSAGES => {}
            other => return Some(other),
        }
        None
    }

    /// Challenges through a node that may have no outcome yet: there is no end of them while somebody
    /// does not answer.
    pub(super) fn challenges_under_way(&self, node: usize) -> usize {
        let sent = self.handshakes.challenges.values();
        let here =
            sent.filter(|(client, ..)| self.clients.get(client).is_some_and(|(_, at)| at.node == node));
        here.filter(|(_, _, at)| self.now.since(*at) < CHALLENGE_ENDS).count()
    }

    /// Whoever has to do with private topics leaves: publishers would ask silent subscribers for ever.
    pub fn end_handshakes(&mut self) {
        for client in std::mem::take(&mut self.handshakes.roles).into_keys() {
            self.close(client);
        }
    }

    fn answer_privately(&mut self, at: Place, number: usize, push: Seq, message: u64) {
        let after = match (self.handshakes.roles.get(&number), self.clients.get(&number)) {
            (Some(Role::Subscriber { answers, topic, .. }), _) if message >= CHALLENGES => {
                let from = self.handshakes.challenges.get(&message);
                let fits = from.is_some_and(|(_, inquiry, _)| inquiry.topic == private(*topic));
                answers.filter(|_| fits)
            }
            (_, Some((client, _))) if message < CHALLENGES => match client.behaviour {
                Behaviour::Prompt(after) => Some(after),
                _ => None,
            },
            _ => None,
        };
        let (Some(after), Some((client, _))) = (after, self.clients.get(&number)) else { return };
        let frame = over_the_wire(&client.answer(push, 0, message, number, &private(0)));
        self.schedule(self.now + after, Event::Answer { at, client: number, frame, message });
    }

    fn decide_later(&mut self, at: Place, number: usize, challenge: u64, subscriber: usize) {
        let (_, Inquiry { question, topic, .. }, _) = self.handshakes.challenges[&challenge].clone();
        let roles = &self.handshakes.roles;
        let (Some(Role::Publisher { trusts, decides, .. }), Some(Role::Subscriber { key, .. })) =
            (roles.get(&number), roles.get(&subscriber))
        else {
            return;
        };
        let verdict = Verdict { question, topic, trusted: trusts.contains(key) };
        let decision = Box::new(Decision { verdict, subscriber });
        self.schedule(self.now + *decides, Event::Decides { at, client: number, decision });
    }

    pub(super) fn decides(&mut self, at: Place, number: usize, decision: Decision) {
        if self.clients.get(&number).is_none_or(|(_, place)| *place != at) {
            return;
        }
        let Decision { verdict, subscriber } = decision;
        self.oracle.private.decides(number, subscriber, &verdict, self.now);
        if verdict.trusted {
            self.handshakes.trusted.push((number, verdict.clone()));
        }
        self.say(number, &verdict);
    }
}
