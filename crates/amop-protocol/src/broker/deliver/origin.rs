//! The publisher's node: a send from its frame to its one outcome.

use std::time::Duration;

use super::{
    Delivery, Wake,
    fan_out::FanOut,
    outcome::{Ended, Ending, compact},
    send::{Progress, Send, Unicast},
};
use crate::{
    Cause, Status, Time,
    broker::{
        dedup::{MessageKey, Seen},
        event::{AnswerBody, Mode, Publish},
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
            return self.tell((publish.session, publish.seq), &publish, cause.into());
        }
        let ending = match self.sent.get(key) {
            None => return self.begin(now, routing, key, publish),
            Some(Seen::Running(id)) => return self.join(*id, &publish),
            Some(Seen::Done(ended)) => Ending { body: ended.body(), ..ended.cause.into() },
            Some(Seen::Dropped) => Cause::OutcomeLost.into(),
        };
        self.counters.duplicates += 1;
        self.tell((publish.session, publish.seq), &publish, ending);
    }

    fn refusal(&self, publish: &Publish) -> Option<Cause> {
        match publish.topic.kind() {
            _ if self.draining => Some(Cause::Draining),
            Kind::BlockNotify => Some(Cause::ReservedTopic),
            Kind::Private => Some(Cause::NotVerified),
            Kind::Ordinary | Kind::Handshake => None,
        }
    }

    /// The same message again, while the first is in flight: its outcome will serve both.
    fn join(&mut self, id: u64, publish: &Publish) {
        self.counters.duplicates += 1;
        let Some(send) = self.sends.get_mut(&id) else { return };
        let cause = if send.is_told() {
            Cause::Delivered
        } else if send.waiters.len() >= MAX_WAITERS {
            Cause::ClientQuota
        } else {
            send.waiters.push((publish.session, publish.seq));
            return;
        };
        self.tell((publish.session, publish.seq), publish, cause.into());
    }

    fn begin(&mut self, now: Time, routing: &Routing, key: MessageKey, publish: Publish) {
        let Some(hold) = self.budget.hold((&publish.client.fingerprint).into(), publish.payload.len()) else {
            let ending = Ending { retry_after: WAIT_FOR_ROOM, ..Cause::NoRoom.into() };
            return self.tell((publish.session, publish.seq), &publish, ending);
        };
        let id = self.number();
        let life = publish.deadline.unwrap_or(self.config.default_deadline).min(self.config.max_deadline);
        let mode = publish.mode;
        let send = Send {
            key,
            deadline: now + life,
            waiters: vec![(publish.session, publish.seq)],
            armed: Time::from_start(Duration::MAX),
            progress: match mode {
                Mode::Unicast => Progress::Unicast(Unicast::default()),
                Mode::Multicast => Progress::FanOut(FanOut::default()),
            },
            publish,
            _hold: hold,
        };
        self.sends.insert(id, send);
        self.sent.begin(key, id);
        match mode {
            Mode::Unicast => self.next_attempt(now, routing, id),
            Mode::Multicast => self.fan_out(now, routing, id),
        }
    }

    pub(super) fn send_woken(&mut self, now: Time, routing: &Routing, id: u64) {
        let Some(send) = self.sends.get_mut(&id) else { return };
        send.armed = Time::from_start(Duration::MAX);
        if send.deadline <= now {
            return self.give_up(now, id);
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
                    self.send_attempt(routing, id, &[]);
                }
            }
            _ => {
                let cause = if attempt.handed { Cause::AnswerLost } else { Cause::Unreachable };
                self.attempt_failed(now, routing, id, cause, false);
            }
        }
    }

    /// Ends a send: everybody who waits is told, and the window remembers.
    pub(super) fn finish(&mut self, now: Time, id: u64, cause: Cause, body: AnswerBody) {
        let Some(send) = self.sends.remove(&id) else { return };
        self.tell_waiters(&send, cause, &body);
        let ended = Ended { cause, handed: 0, failed: 0, body: compact(&body) };
        let bytes = ended.bytes();
        self.sent.end(send.key, ended, bytes, now + self.config.retention());
    }

    fn tell_waiters(&mut self, send: &Send, cause: Cause, body: &AnswerBody) {
        if send.is_told() {
            return;
        }
        let retry_after = match &send.progress {
            Progress::Unicast(unicast) if cause.status() == Status::Refused => unicast.retry_after,
            _ => Duration::ZERO,
        };
        for waiter in &send.waiters {
            let ending = Ending { cause, body: body.clone(), retry_after };
            self.tell(*waiter, &send.publish, ending);
        }
    }

    /// Tells everybody who waits, while the send goes on.
    pub(super) fn tell_early(&mut self, id: u64, cause: Cause) {
        let Some(send) = self.sends.remove(&id) else { return };
        self.tell_waiters(&send, cause, &AnswerBody::default());
        self.sends.insert(id, send);
    }

    /// The deadline, or the node's own end: the outcome says how far the send came.
    pub(super) fn give_up(&mut self, now: Time, id: u64) {
        let Some(send) = self.sends.get(&id) else { return };
        let cause = match &send.progress {
            Progress::Unicast(unicast) => {
                let handed = unicast.attempt.as_ref().is_some_and(|attempt| attempt.handed);
                let here = unicast.attempt.as_ref().is_some_and(|attempt| attempt.to == self.me);
                let now = match (handed, here) {
                    (true, _) => Cause::Deadline,
                    (false, true) => Cause::WriteFailed,
                    (false, false) => Cause::Unreachable,
                };
                unicast.worst.map_or(now, |worst| worst.worse(now))
            }
            Progress::FanOut(_) => Cause::NoneHanded,
        };
        self.finish(now, id, cause, AnswerBody::default());
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
