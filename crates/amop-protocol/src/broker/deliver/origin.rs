//! The publisher's node: a send from its frame to its one outcome.

use std::time::Duration;

use smallvec::smallvec;

use super::{
    Delivery, Wake,
    fan_out::FanOut,
    outcome::{Ended, Ending},
    private,
    send::{Failed, Progress, Send, Unicast, Waiter},
};
use crate::{
    Cause, Seq, SessionId, Time,
    broker::{
        dedup::{MessageKey, Seen},
        event::{Action, Mode, Publish},
        journal::{Step, Why},
        routing::Routing,
    },
    mutations::{self, Mutation},
    topic::Kind,
};

/// Publishers that may wait for the outcome of one message; further duplicates are refused.
pub(crate) const MAX_WAITERS: usize = 64;
/// When to try again if the node has no room for a payload.
const WAIT_FOR_ROOM: Duration = Duration::from_millis(100);

impl Delivery {
    pub(super) fn publish(&mut self, now: Time, routing: &Routing, key: MessageKey, publish: Publish) {
        if let Some(cause) = self.refusal(&publish) {
            self.note_at_once(&publish, cause);
            return self.tell(routing, (publish.session, publish.seq), &publish, cause.into());
        }
        let ending = match self.sent.get(key) {
            None => return self.begin(now, routing, key, publish),
            Some(Seen::Running(id)) => return self.join(routing, *id, &publish),
            Some(Seen::Done(ended)) => ended.again(),
            Some(Seen::Dropped) => Cause::OutcomeLost.into(),
        };
        self.counters.duplicates += 1;
        self.note_at_once(&publish, ending.cause);
        self.tell(routing, (publish.session, publish.seq), &publish, ending);
    }

    fn refusal(&self, publish: &Publish) -> Option<Cause> {
        match publish.topic.kind() {
            _ if self.draining => Some(Cause::Draining),
            Kind::BlockNotify => Some(Cause::ReservedTopic),
            Kind::Handshake => private::challenge_refusal(publish),
            Kind::Ordinary | Kind::Private => None,
        }
    }

    /// The same message again, while the first is in flight: its outcome will serve both.
    fn join(&mut self, routing: &Routing, id: u64, publish: &Publish) {
        self.counters.duplicates += 1;
        self.note_send(id, 0, Step::Repeated { seq: publish.seq });
        let Some(send) = self.sends.get_mut(&id) else { return };
        let cause = if send.is_told() {
            Cause::Delivered
        } else if send.waiters.len() >= MAX_WAITERS {
            Cause::ClientQuota
        } else {
            let waiter = Waiter::of(publish);
            send.waiters.push(waiter);
            let handed = send.handed && waiter.tell_handed;
            self.actions.extend(handed.then(|| handed_over(waiter.who)));
            return;
        };
        self.tell(routing, (publish.session, publish.seq), publish, cause.into());
    }

    fn begin(&mut self, now: Time, routing: &Routing, key: MessageKey, publish: Publish) {
        let Some(hold) = self.budget.hold((&publish.client.fingerprint).into(), publish.payload.len()) else {
            let ending = Ending { retry_after: WAIT_FOR_ROOM, ..Cause::NoRoom.into() };
            self.note_at_once(&publish, ending.cause);
            return self.tell(routing, (publish.session, publish.seq), &publish, ending);
        };
        let id = self.number();
        let life = publish.deadline.unwrap_or(self.config.default_deadline).min(self.config.max_deadline);
        let mode = publish.mode;
        let send = Send {
            key,
            deadline: now + life,
            waiters: smallvec![Waiter::of(&publish)],
            handed: false,
            armed: Time::from_start(Duration::MAX),
            progress: match mode {
                Mode::Unicast => Progress::Unicast(Unicast::default()),
                Mode::Multicast => Progress::FanOut(FanOut::new(publish.wants_recipients())),
            },
            publish,
            _hold: hold,
        };
        self.sends.insert(id, send);
        self.sent.begin(key, id);
        self.note_published(id);
        match mode {
            Mode::Unicast => self.next_attempt(now, routing, id),
            Mode::Multicast => self.fan_out(now, routing, id),
        }
    }

    pub(super) fn send_woken(&mut self, now: Time, routing: &Routing, id: u64) {
        let Some(send) = self.sends.get_mut(&id) else { return };
        send.armed = Time::from_start(Duration::MAX);
        if send.deadline <= now {
            return self.give_up(now, routing, id);
        }
        match &send.progress {
            Progress::Unicast(_) => self.attempt_overdue(now, routing, id),
            Progress::FanOut(_) => self.fan_out_overdue(now, routing, id),
        }
        self.arm_send(now, id);
    }

    /// After a change of routes: the destination may be gone, or the way there another one.
    pub(super) fn reroute_send(&mut self, now: Time, routing: &Routing, id: u64) {
        let Some(send) = self.sends.get_mut(&id) else { return };
        let unicast = match &mut send.progress {
            Progress::Unicast(unicast) => unicast,
            Progress::FanOut(_) => return self.reroute_fan_out(now, routing, id),
        };
        let Some(attempt) = &mut unicast.attempt else { return };
        if attempt.to == self.me {
            return;
        }
        match routing.find(&attempt.to) {
            Some(node) if node.epoch == attempt.epoch => {
                let lost = attempt.handed && mutations::on(Mutation::LostAnswerStaysLost);
                if node.way != attempt.way && !lost {
                    attempt.way = node.way;
                    attempt.transmissions.add(&[]);
                    self.counters.resends += 1;
                    self.send_attempt(routing, id, &[], Some(Why::Rerouted));
                }
            }
            _ => {
                let cause = if attempt.handed { Cause::AnswerLost } else { Cause::Unreachable };
                self.attempt_failed(now, routing, id, Failed { cause, at: self.me, spent: false });
            }
        }
    }

    /// Ends a send: everybody who waits is told, and the window remembers.
    pub(super) fn finish(&mut self, now: Time, routing: &Routing, id: u64, ending: Ending) {
        let Some(send) = self.sends.remove(&id) else { return };
        self.tell_waiters(routing, id, &send, &ending);
        let ended = Ended::of_send(&ending, &mut self.sent_pages);
        let bytes = ended.bytes();
        self.sent.end(send.key, ended, bytes, now + self.config.retention());
    }

    fn tell_waiters(&mut self, routing: &Routing, id: u64, send: &Send, ending: &Ending) {
        if send.is_told() {
            return;
        }
        for waiter in &send.waiters {
            self.note_send(id, 0, Step::Told { session: waiter.who.0, cause: ending.cause });
            self.tell(routing, waiter.who, &send.publish, ending.clone());
        }
    }

    /// Tells everybody who waits, while the send goes on.
    pub(super) fn tell_early(&mut self, routing: &Routing, id: u64, cause: Cause) {
        let Some(send) = self.sends.remove(&id) else { return };
        self.tell_waiters(routing, id, &send, &cause.into());
        self.sends.insert(id, send);
    }

    /// A subscriber was handed the message: who wants to know it ahead of the outcome is told, once.
    pub(super) fn note_handed(&mut self, id: u64) {
        let Some(send) = self.sends.get_mut(&id) else { return };
        if std::mem::replace(&mut send.handed, true) {
            return;
        }
        let told = send.waiters.iter().filter(|waiter| waiter.tell_handed);
        self.actions.extend(told.map(|waiter| handed_over(waiter.who)));
    }

    /// The deadline, or the node's own end: the outcome says how far the send came.
    pub(super) fn give_up(&mut self, now: Time, routing: &Routing, id: u64) {
        let me = self.me;
        let Some(key) = self.sends.get(&id).map(|send| send.key) else { return };
        let written = self.is_written_here(key);
        let Some(send) = self.sends.get_mut(&id) else { return };
        let ending = match &mut send.progress {
            Progress::Unicast(unicast) => {
                let handed = unicast.attempt.as_ref().is_some_and(|attempt| attempt.handed);
                let here = unicast.attempt.as_ref().is_some_and(|attempt| attempt.to == me);
                let now = match (handed, here) {
                    (true, _) => Cause::Deadline,
                    // It has it, and has not said so.
                    (false, true) if written => Cause::Deadline,
                    (false, true) => Cause::WriteFailed,
                    (false, false) => Cause::Unreachable,
                };
                unicast.failures.add(now, me);
                unicast.failures.ending()
            }
            Progress::FanOut(_) => return self.fan_out_given_up(now, routing, id),
        };
        self.finish(now, routing, id, ending);
    }

    pub(super) fn arm_send(&mut self, now: Time, id: u64) {
        let Some(send) = self.sends.get_mut(&id) else { return };
        let wake = send.next_wake();
        if wake < send.armed {
            send.armed = wake;
            self.wheel.arm(now, wake, Wake::Send(id));
        }
    }
}

fn handed_over((session, seq): (SessionId, Seq)) -> Action {
    Action::Handed { session, seq }
}
