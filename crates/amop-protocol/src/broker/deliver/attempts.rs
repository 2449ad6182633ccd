//! The publisher's node: the attempts of a unicast, one at a time.
//!
//! An attempt goes towards one node. It is *resent*, as it is, until the destination says "handed"
//! or how it ended; only when it has failed for good does the next candidate get a new one.

use std::time::Duration;

use smallvec::smallvec;

use super::{
    Delivery, Requester,
    candidates::{self, Choice},
    detour::detour,
    reception::{self, Own},
    send::{Attempt, Failed, Progress, Send, Transmissions, Unicast},
};
use crate::{
    Cause, NodeId, Time,
    broker::{
        journal::{Brief, Step, Why},
        routing::Routing,
    },
    wire::peer::{Body, SendRef},
};

/// Attempts of one send. Honest candidates run out, or the deadline comes, long before; a node that
/// always fails and always has another candidate would go on for ever.
pub(crate) const MAX_ATTEMPTS: u32 = 256;

impl Delivery {
    /// Gives the next candidate its attempt, or ends the send if none is left.
    pub(super) fn next_attempt(&mut self, now: Time, routing: &Routing, id: u64) {
        let Some(send) = self.sends.get(&id) else { return };
        let Progress::Unicast(unicast) = &send.progress else { return };
        if unicast.attempts >= most_attempts(routing, send) {
            return self.give_up(now, routing, id);
        }
        let choice = candidates::choose(routing, send, unicast, self.config.preference, &self.subscribers);
        match choice {
            // The last attempt and the deadline may fall due together: it is too late for another one.
            Ok(_) if send.deadline <= now => self.give_up(now, routing, id),
            Ok(choice) => self.start_attempt(now, routing, id, choice),
            Err(_) if !unicast.unconfirmed.is_empty() => self.ask_again(now, routing, id),
            Err(cause) => self.nobody_left(now, routing, id, cause),
        }
    }

    /// No candidate is left; `cause` is why there is none.
    fn nobody_left(&mut self, now: Time, routing: &Routing, id: u64, cause: Cause) {
        let me = self.me;
        let Some(send) = self.sends.get_mut(&id) else { return };
        let Progress::Unicast(unicast) = &mut send.progress else { return };
        unicast.failures.add(cause, me);
        let ending = unicast.failures.ending();
        self.finish(now, routing, id, ending);
    }

    /// Everybody else has failed: those who only did not confirm get another chance.
    fn ask_again(&mut self, now: Time, routing: &Routing, id: u64) {
        if let Some(send) = self.sends.get_mut(&id)
            && let Progress::Unicast(unicast) = &mut send.progress
        {
            unicast.unconfirmed.clear();
        }
        self.next_attempt(now, routing, id);
    }

    fn start_attempt(&mut self, now: Time, routing: &Routing, id: u64, choice: Choice) {
        let local = choice.to == self.me;
        let Some(send) = self.sends.get_mut(&id) else { return };
        let left = send.deadline.since(now);
        let fair = left / choice.candidates.max(1);
        let push_timeout = fair.clamp(self.config.push_timeout_min, self.config.push_timeout_max).min(left);
        let payload = send.publish.payload.len();
        let resend_at = now + self.config.resend_after(payload, 0);
        let Progress::Unicast(unicast) = &mut send.progress else { return };
        unicast.attempts += 1;
        unicast.asked.push(choice.to);
        unicast.attempt = Some(Attempt {
            to: choice.to,
            epoch: choice.epoch,
            way: choice.way,
            push_timeout,
            handed: false,
            resends: 0,
            transmissions: Transmissions::first(),
            // This node's other role always reports; there is no path to lose it on.
            resend_at: if local { send.deadline } else { resend_at },
            give_up_at: now + push_timeout + self.config.path_timeout * 4 + self.config.transfer(payload),
            others: choice.candidates - 1,
            recipient: choice.recipient,
        });
        self.counters.attempts += 1;
        self.arm_send(now, id);
        if local {
            self.attempt_here(now, routing, id, push_timeout, choice.own);
        } else {
            self.send_attempt(routing, id, &[], None);
        }
    }

    fn attempt_here(&mut self, now: Time, routing: &Routing, id: u64, push_timeout: Duration, own: Own) {
        let send = SendRef { epoch: self.epoch, id };
        let requester = Requester { node: self.me, send, over: None };
        let Some(send) = self.sends.get(&id) else { return };
        let Progress::Unicast(Unicast { attempt: Some(current), attempts, .. }) = &send.progress else {
            return;
        };
        let envelope = send.attempt_envelope(routing, current);
        let attempt =
            reception::Attempt { requester, number: *attempts, push_timeout, own, recipients: false };
        let (key, payload) = (send.key, send.publish.payload.clone());
        let here = Brief::from(self.me);
        self.note_send(id, attempt.number, Step::Sent { to: here, via: here, nodes: 1 });
        self.receive_attempt(now, routing, key, attempt, &envelope, payload);
    }

    /// Puts the current attempt on its way, the first time or, for some reason, again.
    pub(super) fn send_attempt(&mut self, routing: &Routing, id: u64, path: &[NodeId], again: Option<Why>) {
        let Some(send) = self.sends.get(&id) else { return };
        let Progress::Unicast(Unicast { attempt: Some(attempt), attempts, .. }) = &send.progress else {
            return;
        };
        let body = Body::Attempt {
            send: id,
            number: *attempts,
            envelope: send.attempt_envelope(routing, attempt),
            push_timeout_ms: millis(attempt.push_timeout),
        };
        let (to, flow, payload) = (attempt.to, send.flow(), send.publish.payload.clone());
        let number = *attempts;
        let via = self.forward(routing, smallvec![to], path, flow, body, payload);
        self.note_sent((id, number), (Some(to), 1), via, again);
    }

    pub(super) fn attempt_overdue(&mut self, now: Time, routing: &Routing, id: u64) {
        let me = self.me;
        let Some(send) = self.sends.get_mut(&id) else { return };
        let Progress::Unicast(unicast) = &mut send.progress else { return };
        let Some(attempt) = &mut unicast.attempt else { return };
        if attempt.resend_at > now {
            return;
        }
        let others = attempt.others > 0 || !unicast.unconfirmed.is_empty();
        if attempt.give_up_at <= now && others {
            let cause = if attempt.handed { Cause::PushTimeout } else { Cause::Unreachable };
            unicast.unconfirmed.push(attempt.target());
            return self.attempt_failed(now, routing, id, Failed { cause, at: me, spent: false });
        }
        attempt.resends += 1;
        attempt.resend_at = now + self.config.resend_after(send.publish.payload.len(), attempt.resends);
        let path = detour(routing, attempt.to, attempt.resends);
        attempt.transmissions.add(&path);
        self.counters.resends += 1;
        self.send_attempt(routing, id, &path, Some(Why::Unconfirmed));
    }

    /// The current attempt has failed for good: on to the next candidate.
    pub(super) fn attempt_failed(&mut self, now: Time, routing: &Routing, id: u64, failed: Failed) {
        let Some(send) = self.sends.get_mut(&id) else { return };
        let Progress::Unicast(unicast) = &mut send.progress else { return };
        let Some(attempt) = unicast.attempt.take() else { return };
        let number = unicast.attempts;
        unicast.failures.add(failed.cause, failed.at);
        unicast.failures.may_have_run |= attempt.transmissions.are_several();
        if failed.spent {
            unicast.found_nobody += u32::from(failed.cause == Cause::NoSubscriber);
            unicast.spent.push(attempt.target());
        }
        let step = Step::Failed { at: failed.at.into(), cause: failed.cause };
        self.note_send(id, number, step);
        self.next_attempt(now, routing, id);
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// To find one certificate every node with the topic may have to be asked.
fn most_attempts(routing: &Routing, send: &Send) -> u32 {
    if send.publish.topic.is_reserved() || send.address().is_none_or(|address| address.client.is_none()) {
        return MAX_ATTEMPTS;
    }
    let nodes = routing.topic(send.publish.topic.as_str()).map_or(0, |routes| routes.nodes.len());
    MAX_ATTEMPTS.saturating_add(u32::try_from(nodes).unwrap_or(u32::MAX))
}
