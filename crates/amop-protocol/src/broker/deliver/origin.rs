//! The publisher's node: a send from its frame to its one outcome.
//!
//! A unicast has at most one attempt at a time, towards one node. The attempt is *resent*, as
//! it is, until the destination says "handed" or how it ended; only when it has failed for good
//! does the next candidate get a new one.

use std::{hash::Hasher, time::Duration};

use siphasher::sip::SipHasher13;

use super::{
    Delivery, Ended, Ending, Requester, Wake,
    candidates::{self, Choice},
    compact,
    detour::detour,
    fan_out::FanOut,
    reception,
};
use crate::{
    Cause, NodeId, Seq, SessionId, Status, Time,
    broker::{
        budget::Hold,
        dedup::{MessageKey, Seen},
        event::{AnswerBody, Mode, Publish},
        routing::{Node, Routing},
    },
    mutations::{self, Mutation},
    topic::Kind,
    wire::peer::{Body, Envelope, SendRef},
};

/// Publishers that may wait for the outcome of one message; further duplicates are refused.
pub(crate) const MAX_WAITERS: usize = 64;
/// Attempts of one send. Honest candidates run out, or the deadline comes, long before; a node that
/// always fails and always has another candidate would go on for ever.
pub(crate) const MAX_ATTEMPTS: u32 = 256;
/// When to try again if the node has no room for a payload.
const WAIT_FOR_ROOM: Duration = Duration::from_millis(100);

/// A send in flight.
#[derive(Debug)]
pub(super) struct Send {
    pub(super) key: MessageKey,
    pub(super) publish: Publish,
    pub(super) deadline: Time,
    waiters: Vec<(SessionId, Seq)>,
    armed: Time,
    pub(super) progress: Progress,
    _hold: Hold,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all sends are unicasts, and need no allocation more")]
pub(super) enum Progress {
    Unicast(Unicast),
    FanOut(FanOut),
}

#[derive(Debug, Default)]
pub(super) struct Unicast {
    pub(super) attempt: Option<Attempt>,
    pub(super) attempts: u32,
    /// Nodes, in the epoch they had, with no candidate left for this send.
    spent: Vec<(NodeId, u64)>,
    /// Nodes that did not confirm in time; asked again when nobody else is left.
    unconfirmed: Vec<(NodeId, u64)>,
    pub(super) asked: Vec<NodeId>,
    worst: Option<Cause>,
    /// The longest wait that a node which refused asked for.
    pub(super) retry_after: Duration,
}

/// What is known of the frames sent towards one destination, and not refused on the way; some may
/// be lost.
#[derive(Debug, Default)]
pub(super) struct Transmissions {
    /// Sent by the relays' own tables, so that any node may have met them.
    pub(super) by_table: u32,
    /// Ways of those that went by a way of our choosing: only the nodes on it can have met them.
    pub(super) by_path: Vec<Vec<NodeId>>,
    /// Nodes that refused; later ways lead around them.
    pub(super) around: Vec<NodeId>,
}

#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) to: NodeId,
    epoch: u64,
    way: u64,
    pub(super) push_timeout: Duration,
    pub(super) handed: bool,
    resends: u32,
    transmissions: Transmissions,
    pub(super) resend_at: Time,
    give_up_at: Time,
    /// The other candidate subscribers there were when it began.
    others: u32,
}

impl Unicast {
    pub(super) fn is_out(&self, node: &Node) -> bool {
        if mutations::on(Mutation::RetryPicksTheFailed) {
            return false;
        }
        let this = (node.id, node.epoch);
        self.spent.contains(&this) || self.unconfirmed.contains(&this)
    }

    /// Where the current attempt is to go, as long as its destination has not confirmed it.
    pub(super) fn unconfirmed_attempt(&mut self) -> Option<(NodeId, &mut Transmissions)> {
        let attempt = self.attempt.as_mut().filter(|attempt| !attempt.handed)?;
        Some((attempt.to, &mut attempt.transmissions))
    }
}

impl Send {
    pub(super) fn is_told(&self) -> bool {
        matches!(&self.progress, Progress::FanOut(fan_out) if fan_out.is_told())
    }

    pub(super) fn envelope(&self) -> Envelope {
        Envelope {
            publisher: self.publish.client.clone(),
            seq: self.publish.seq,
            topic: self.publish.topic.clone(),
        }
    }

    /// Frames of one publisher session keep their order on a link.
    pub(super) fn flow(&self) -> u32 {
        let mut hasher = SipHasher13::new();
        hasher.write(self.publish.client.fingerprint.as_bytes());
        hasher.write_u64(self.publish.session.0);
        hasher.finish() as u32
    }

    fn next_wake(&self) -> Time {
        match &self.progress {
            Progress::Unicast(unicast) => {
                unicast.attempt.as_ref().map_or(self.deadline, |a| a.resend_at.min(self.deadline))
            }
            Progress::FanOut(fan_out) => {
                fan_out.next_resend().map_or(self.deadline, |at| at.min(self.deadline))
            }
        }
    }
}

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

    /// Gives the next candidate its attempt, or ends the send if none is left.
    fn next_attempt(&mut self, now: Time, routing: &Routing, id: u64) {
        let Some(send) = self.sends.get(&id) else { return };
        let Progress::Unicast(unicast) = &send.progress else { return };
        let choice = match unicast.attempts {
            ..MAX_ATTEMPTS => candidates::choose(routing, send, unicast, self.config.preference),
            _ => return self.give_up(now, id),
        };
        match choice {
            Ok(choice) => self.start_attempt(now, routing, id, choice),
            Err(_) if !unicast.unconfirmed.is_empty() => self.ask_again(now, routing, id),
            Err(cause) => {
                let cause = unicast.worst.map_or(cause, |worst| worst.worse(cause));
                self.finish(now, id, cause, AnswerBody::default());
            }
        }
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
        });
        self.counters.attempts += 1;
        self.arm_send(now, id);
        if local {
            self.attempt_here(now, routing, id, push_timeout, choice.exclude);
        } else {
            self.send_attempt(routing, id, &[]);
        }
    }

    fn attempt_here(
        &mut self,
        now: Time,
        routing: &Routing,
        id: u64,
        push_timeout: Duration,
        exclude: Option<SessionId>,
    ) {
        let requester = Requester { node: self.me, send: SendRef { epoch: self.epoch, id } };
        let Some(send) = self.sends.get(&id) else { return };
        let Progress::Unicast(unicast) = &send.progress else { return };
        let attempt = reception::Attempt { requester, number: unicast.attempts, push_timeout, exclude };
        let (key, envelope, payload) = (send.key, send.envelope(), send.publish.payload.clone());
        self.receive_attempt(now, routing, key, attempt, &envelope, payload);
    }

    /// Puts the current attempt on its way, the first time or again.
    pub(super) fn send_attempt(&mut self, routing: &Routing, id: u64, path: &[NodeId]) {
        let Some(send) = self.sends.get(&id) else { return };
        let Progress::Unicast(Unicast { attempt: Some(attempt), attempts, .. }) = &send.progress else {
            return;
        };
        let body = Body::Attempt {
            send: id,
            number: *attempts,
            envelope: send.envelope(),
            push_timeout_ms: millis(attempt.push_timeout),
        };
        let (to, flow, payload) = (attempt.to, send.flow(), send.publish.payload.clone());
        self.forward(routing, vec![to], path, flow, body, payload);
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

    fn attempt_overdue(&mut self, now: Time, routing: &Routing, id: u64) {
        let Some(send) = self.sends.get_mut(&id) else { return };
        let Progress::Unicast(unicast) = &mut send.progress else { return };
        let Some(attempt) = &mut unicast.attempt else { return };
        if attempt.resend_at > now {
            return;
        }
        let others = attempt.others > 0 || !unicast.unconfirmed.is_empty();
        if attempt.give_up_at <= now && others {
            let cause = if attempt.handed { Cause::PushTimeout } else { Cause::Unreachable };
            unicast.unconfirmed.push((attempt.to, attempt.epoch));
            return self.attempt_failed(now, routing, id, cause, false);
        }
        attempt.resends += 1;
        attempt.resend_at = now + self.config.resend_after(send.publish.payload.len(), attempt.resends);
        let path = detour(routing, attempt.to, attempt.resends);
        attempt.transmissions.add(&path);
        self.counters.resends += 1;
        self.send_attempt(routing, id, &path);
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

    /// The current attempt has failed for good: on to the next candidate.
    pub(super) fn attempt_failed(
        &mut self,
        now: Time,
        routing: &Routing,
        id: u64,
        cause: Cause,
        spent: bool,
    ) {
        let Some(send) = self.sends.get_mut(&id) else { return };
        let Progress::Unicast(unicast) = &mut send.progress else { return };
        let Some(attempt) = unicast.attempt.take() else { return };
        unicast.worst = Some(unicast.worst.map_or(cause, |worst| worst.worse(cause)));
        if spent {
            unicast.spent.push((attempt.to, attempt.epoch));
        }
        self.next_attempt(now, routing, id);
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

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
