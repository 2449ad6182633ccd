//! The subscriber's node: a message to one of its sessions, or to all, each at most once.
//!
//! What has been tried is remembered per message, not per sender: the same message through two
//! nodes, or resent over another path, finds the same [`Reception`] and repeats what is known.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    Delivery, Ended, Requester, Wake, compact,
    detour::detour,
    reception::{ActivePush, Attempt, Reception, To, Waiting},
};
use crate::{
    Cause, NodeId, SessionId, Time, Topic,
    broker::{
        budget::Holder,
        dedup::{MessageKey, Seen},
        event::{Action, Answer, AnswerBody, Mode, Push, PushError, PushId, Sender},
        routing::Routing,
    },
    wire::peer::{Body, Envelope},
};

/// Who takes up room with a message: this node's own client, or another node for its clients.
fn holder(me: NodeId, attempt: Attempt, envelope: &Envelope) -> Holder {
    match attempt.requester.node {
        node if node == me => (&envelope.publisher.fingerprint).into(),
        node => (&node).into(),
    }
}

impl Delivery {
    /// An attempt arrives, for the first time or again, from another node or from this one.
    pub(super) fn receive_attempt(
        &mut self,
        now: Time,
        routing: &Routing,
        key: MessageKey,
        attempt: Attempt,
        envelope: &Envelope,
        payload: Bytes,
    ) {
        let known = match self.received.get(key) {
            None => {
                let Some(hold) = self.budget.hold(holder(self.me, attempt, envelope), payload.len()) else {
                    return self.no_room(routing, attempt);
                };
                let reception = Reception::new(envelope.clone(), payload, hold);
                self.received.begin(key, Box::new(reception));
                return self.push_next(now, routing, key, attempt);
            }
            Some(Seen::Running(_)) => return self.rejoin(now, routing, key, attempt, payload),
            // What only failed here may still be answered elsewhere.
            Some(Seen::Done(ended)) if ended.handed == 0 => (ended.cause, Verdict::Exhausted, ended.body()),
            Some(Seen::Done(ended)) => (ended.cause, Verdict::Final, ended.body()),
            Some(Seen::Dropped) => (Cause::OutcomeLost, Verdict::Final, AnswerBody::default()),
        };
        self.counters.absorbed += 1;
        let waiting = Waiting { requester: attempt.requester, number: attempt.number, resends: 1 };
        self.report_outcome(routing, waiting, known.0, known.1, &known.2);
    }

    /// The message is known here: the requester waits with the others, is told again what it may
    /// have missed, or asks for the next session.
    fn rejoin(&mut self, now: Time, routing: &Routing, key: MessageKey, attempt: Attempt, payload: Bytes) {
        let Some(reception) = self.received.running(key) else { return };
        if let Some(push) = reception.push {
            let waiting = reception.join(attempt);
            self.counters.requesters_ignored += u64::from(waiting.is_none());
            self.counters.absorbed += 1;
            let handed =
                matches!(self.pushes.get(&push), Some(ActivePush { to: To::One { handed: true, .. }, .. }));
            if let Some(waiting) = waiting.filter(|_| handed) {
                self.report_handed(routing, waiting);
            }
            return;
        }
        match reception.failure_of(attempt.requester, attempt.number) {
            Some(cause) => {
                self.counters.absorbed += 1;
                let waiting = Waiting { requester: attempt.requester, number: attempt.number, resends: 1 };
                let verdict = self.verdict(routing, key);
                self.report_outcome(routing, waiting, cause, verdict, &AnswerBody::default());
            }
            None => {
                let Some(hold) =
                    self.budget.hold(holder(self.me, attempt, &reception.envelope), payload.len())
                else {
                    return self.no_room(routing, attempt);
                };
                reception.payload = payload;
                reception.hold = Some(hold);
                self.push_next(now, routing, key, attempt);
            }
        }
    }

    /// Nothing is begun, so nothing is remembered; the origin may try elsewhere.
    fn no_room(&mut self, routing: &Routing, attempt: Attempt) {
        let waiting = Waiting { requester: attempt.requester, number: attempt.number, resends: 0 };
        let body = AnswerBody::default();
        self.report_outcome(routing, waiting, Cause::NoRoom, Verdict::Exhausted, &body);
    }

    /// Gives the message to a session that has not had it, or says that there is none.
    fn push_next(&mut self, now: Time, routing: &Routing, key: MessageKey, attempt: Attempt) {
        let Some(reception) = self.received.running(key) else { return };
        reception.join(attempt);
        let mut left = reception.untried(routing);
        left.retain(|session| Some(*session) != attempt.exclude);
        if left.is_empty() {
            // Whoever comes late with a message that has failed here learns how it failed.
            let cause = reception.worst;
            self.rest(now, key);
            return self.attempt_over(routing, key, cause, Verdict::Exhausted);
        }
        let session = left[key.spread() as usize % left.len()];
        reception.tried.push(session);
        let to = To::One { session, handed: false };
        let wait = attempt.push_timeout;
        self.give(now, routing, key, wait, to);
    }

    /// A multicast arrives, for the first time or again, from another node or from this one.
    #[expect(
        clippy::too_many_arguments,
        reason = "the message, whom it is from, and the context every step takes"
    )]
    pub(super) fn receive_fan_out(
        &mut self,
        now: Time,
        routing: &Routing,
        key: MessageKey,
        requester: Requester,
        exclude: Option<SessionId>,
        envelope: &Envelope,
        payload: Bytes,
    ) {
        let attempt = Attempt { requester, number: 0, push_timeout: self.config.push_timeout_max, exclude };
        let waiting = Waiting { requester, number: 0, resends: 1 };
        match self.received.get(key) {
            None => self.begin_fan_out(now, routing, key, attempt, envelope, payload),
            Some(Seen::Running(reception)) => {
                let (handed, lost, worst) = (reception.handed, reception.lost, reception.worst);
                self.counters.absorbed += 1;
                if let Some(reception) = self.received.running(key) {
                    let waiting = reception.join(attempt);
                    self.counters.requesters_ignored += u64::from(waiting.is_none());
                }
                if handed > 0 {
                    self.report_fan_out(routing, waiting, [handed, lost], worst, false);
                }
            }
            Some(Seen::Done(Ended { handed, failed, cause, .. })) => {
                let (handed, failed, cause) = (*handed, *failed, *cause);
                self.counters.absorbed += 1;
                self.report_fan_out(routing, waiting, [handed, failed], cause, true);
            }
            Some(Seen::Dropped) => self.report_fan_out(routing, waiting, [0, 0], Cause::OutcomeLost, true),
        }
    }

    fn begin_fan_out(
        &mut self,
        now: Time,
        routing: &Routing,
        key: MessageKey,
        attempt: Attempt,
        envelope: &Envelope,
        payload: Bytes,
    ) {
        let Some(hold) = self.budget.hold(holder(self.me, attempt, envelope), payload.len()) else {
            let waiting = Waiting { requester: attempt.requester, number: 0, resends: 0 };
            return self.report_fan_out(routing, waiting, [0, 0], Cause::NoRoom, true);
        };
        let mut reception = Reception::new(envelope.clone(), payload, hold);
        reception.join(attempt);
        let mut sessions = reception.untried(routing);
        sessions.retain(|session| Some(*session) != attempt.exclude);
        self.received.begin(key, Box::new(reception));
        if sessions.is_empty() {
            return self.fan_out_over(now, routing, key);
        }
        let wait = self.config.push_timeout_max;
        self.give(now, routing, key, wait, To::All(sessions.into_iter().collect()));
    }

    /// Pushes the message of a reception.
    fn give(&mut self, now: Time, routing: &Routing, key: MessageKey, wait: Duration, to: To) {
        let id = PushId(self.number());
        let Some(reception) = self.received.running(key) else { return };
        reception.push = Some(id);
        let deadline = now + wait + self.config.transfer(reception.payload.len());
        let (mode, sessions) = match &to {
            To::One { session, .. } => (Mode::Unicast, vec![*session]),
            To::All(sessions) => (Mode::Multicast, sessions.iter().copied().collect()),
        };
        let origin = reception.requesters.first().map_or(self.me, |waiting| waiting.requester.node);
        let sender = Sender {
            institution: routing.find(&origin).map_or_else(|| "".into(), |node| node.institution.clone()),
            node: origin,
            client: reception.envelope.publisher.clone(),
        };
        for session in sessions {
            self.counters.pushes += 1;
            self.actions.push_back(Action::Push(Push {
                id,
                session,
                mode,
                topic: reception.envelope.topic.clone(),
                payload: reception.payload.clone(),
                sender: sender.clone(),
                answer_within: wait,
            }));
        }
        self.pushes.insert(id, ActivePush { key, deadline, to });
        self.wheel.arm(now, deadline, Wake::Push(id));
    }

    pub(super) fn push_written(
        &mut self,
        now: Time,
        routing: &Routing,
        session: SessionId,
        id: PushId,
        result: Result<(), PushError>,
    ) {
        let Some(push) = self.pushes.get_mut(&id).filter(|push| push.concerns(session)) else { return };
        let key = push.key;
        match (&mut push.to, result) {
            (To::One { handed, .. }, Ok(())) => {
                *handed = true;
                self.tell_handed_to(routing, key);
            }
            (To::One { handed, .. }, Err(error)) => {
                let cause = if *handed { Cause::AnswerLost } else { cause_of(error) };
                self.pushes.remove(&id);
                self.push_failed(now, routing, key, cause);
            }
            (To::All(sessions), result) => {
                sessions.remove(&session);
                let over = sessions.is_empty();
                self.fan_out_progress(now, routing, key, result.err().map(cause_of), over.then_some(id));
            }
        }
    }

    fn tell_handed_to(&mut self, routing: &Routing, key: MessageKey) {
        let Some(reception) = self.received.running(key) else { return };
        reception.handed += 1;
        for waiting in reception.requesters.clone() {
            self.report_handed(routing, waiting);
        }
    }

    fn fan_out_progress(
        &mut self,
        now: Time,
        routing: &Routing,
        key: MessageKey,
        failure: Option<Cause>,
        over: Option<PushId>,
    ) {
        let Some(reception) = self.received.running(key) else { return };
        match failure {
            None => reception.handed += 1,
            Some(cause) => {
                reception.lost += 1;
                reception.worst = reception.worst.worse(cause);
            }
        }
        let first = failure.is_none() && reception.handed == 1;
        if let Some(push) = over {
            self.pushes.remove(&push);
            self.fan_out_over(now, routing, key);
        } else if first {
            let (counts, worst) = ([1, reception.lost], reception.worst);
            for waiting in reception.requesters.clone() {
                self.report_fan_out(routing, waiting, counts, worst, false);
            }
        }
    }

    /// Nobody here is waited for any longer: the requesters are told and the window remembers.
    fn fan_out_over(&mut self, now: Time, routing: &Routing, key: MessageKey) {
        let Some(reception) = self.received.running(key) else { return };
        let (handed, failed, worst) = (reception.handed, reception.lost, reception.worst);
        let cause = if handed > 0 { Cause::Delivered } else { worst };
        for waiting in std::mem::take(&mut reception.requesters) {
            self.report_fan_out(routing, waiting, [handed, failed], cause, true);
        }
        let ended = Ended { cause, handed, failed, body: None };
        self.received.end(key, ended, 0, now + self.config.retention());
    }

    pub(super) fn push_answered(
        &mut self,
        now: Time,
        routing: &Routing,
        session: SessionId,
        id: PushId,
        answer: Answer,
    ) {
        let key = match self.pushes.get(&id) {
            Some(ActivePush { key, to: To::One { session: asked, .. }, .. }) if *asked == session => *key,
            // SDKs answer multicasts too; nobody waits for that.
            _ => {
                self.counters.late_answers += 1;
                return;
            }
        };
        self.pushes.remove(&id);
        let Some(reception) = self.received.running(key) else { return };
        let (cause, body) = if answer.result == 0 {
            (Cause::Delivered, well_formed(&reception.envelope.topic, answer.body))
        } else {
            (Cause::SubscriberRefused, AnswerBody::default())
        };
        for waiting in std::mem::take(&mut reception.requesters) {
            self.report_outcome(routing, waiting, cause, Verdict::Final, &body);
        }
        let ended = Ended { cause, handed: 1, failed: 0, body: compact(&body) };
        let bytes = ended.bytes();
        self.received.end(key, ended, bytes, now + self.config.retention());
    }

    pub(super) fn push_woken(&mut self, now: Time, routing: &Routing, id: PushId) {
        let Some(push) = self.pushes.get(&id) else { return };
        if push.deadline > now {
            self.wheel.arm(now, push.deadline, Wake::Push(id));
            return;
        }
        let key = push.key;
        let Some(push) = self.pushes.remove(&id) else { return };
        match push.to {
            To::One { handed: true, .. } => self.push_failed(now, routing, key, Cause::PushTimeout),
            To::One { handed: false, .. } => self.push_failed(now, routing, key, Cause::WriteFailed),
            To::All(sessions) => {
                if let Some(reception) = self.received.running(key) {
                    reception.lost += sessions.len() as u32;
                    reception.worst = reception.worst.worse(Cause::WriteFailed);
                }
                self.fan_out_over(now, routing, key);
            }
        }
    }

    /// One session's push failed for good; whoever waits may ask for the next session.
    fn push_failed(&mut self, now: Time, routing: &Routing, key: MessageKey, cause: Cause) {
        let Some(reception) = self.received.running(key) else { return };
        let failed: Vec<_> =
            reception.requesters.iter().map(|waiting| (waiting.requester, waiting.number, cause)).collect();
        reception.failed.extend(failed);
        self.rest(now, key);
        let verdict = self.verdict(routing, key);
        self.attempt_over(routing, key, cause, verdict);
    }

    fn attempt_over(&mut self, routing: &Routing, key: MessageKey, cause: Cause, verdict: Verdict) {
        let Some(reception) = self.received.running(key) else { return };
        reception.worst = reception.worst.worse(cause);
        for waiting in std::mem::take(&mut reception.requesters) {
            self.report_outcome(routing, waiting, cause, verdict, &AnswerBody::default());
        }
    }

    /// Whether another session here could take the message of this reception.
    fn verdict(&mut self, routing: &Routing, key: MessageKey) -> Verdict {
        match self.received.running(key) {
            Some(reception) if !reception.untried(routing).is_empty() => Verdict::Open,
            _ => Verdict::Exhausted,
        }
    }

    /// Nobody has the message now. Whoever asks for the next session brings it along again, so it
    /// is not kept; what has been tried is.
    fn rest(&mut self, now: Time, key: MessageKey) {
        let until = now + self.config.retention();
        let Some(reception) = self.received.running(key) else { return };
        reception.push = None;
        reception.payload = Bytes::new();
        reception.hold = None;
        reception.rests_until = until;
        if !std::mem::replace(&mut reception.listed, true) {
            self.resting.push_back((until, key));
        }
        // Others decide how many messages nobody here takes; so many are remembered, and no more.
        for _ in self.config.received.entries.max(1)..self.resting.len() {
            self.lapse_oldest(now, Time::from_start(Duration::MAX));
        }
    }

    /// Receptions that nobody has asked about for long enough become memories.
    pub(super) fn lapse_resting(&mut self, now: Time) {
        while self.resting.front().is_some_and(|(until, _)| *until <= now) {
            self.lapse_oldest(now, now);
        }
    }

    /// Takes the oldest reception off the list. If it still rests, and not beyond `limit`, it
    /// becomes a memory; if it does beyond, it is listed again.
    fn lapse_oldest(&mut self, now: Time, limit: Time) {
        let Some((_, key)) = self.resting.pop_front() else { return };
        let Some(reception) = self.received.running(key) else { return };
        reception.listed = false;
        if reception.push.is_some() {
            return;
        }
        let until = reception.rests_until;
        if until > limit {
            reception.listed = true;
            self.resting.push_back((until, key));
        } else {
            let ended = Ended { cause: reception.worst, handed: 0, failed: reception.lost, body: None };
            self.received.end(key, ended, 0, now + self.config.retention());
        }
    }

    fn report_handed(&mut self, routing: &Routing, waiting: Waiting) {
        let body = Body::Handed { send: waiting.requester.send, number: waiting.number };
        self.report(routing, waiting, body, Bytes::new());
    }

    fn report_outcome(
        &mut self,
        routing: &Routing,
        waiting: Waiting,
        cause: Cause,
        verdict: Verdict,
        body: &AnswerBody,
    ) {
        let outcome = Body::Outcome {
            send: waiting.requester.send,
            number: waiting.number,
            cause,
            is_final: verdict == Verdict::Final,
            exhausted: verdict == Verdict::Exhausted,
            answer_prefix: body.prefix.clone(),
        };
        self.report(routing, waiting, outcome, body.payload.clone());
    }

    fn report_fan_out(
        &mut self,
        routing: &Routing,
        waiting: Waiting,
        [handed, failed]: [u32; 2],
        cause: Cause,
        complete: bool,
    ) {
        let body = Body::FanOutReport { send: waiting.requester.send, handed, failed, cause, complete };
        self.report(routing, waiting, body, Bytes::new());
    }

    /// Reports to a requester; to one that had to ask again, every second time by another way.
    fn report(&mut self, routing: &Routing, waiting: Waiting, body: Body, payload: Bytes) {
        let to = waiting.requester.node;
        if to == self.me {
            self.local_reports.push_back((body, payload));
            return;
        }
        let path = if waiting.resends == 0 { Vec::new() } else { detour(routing, to, waiting.resends) };
        let flow = waiting.requester.send.id as u32;
        self.forward(routing, vec![to], &path, flow, body, payload);
    }
}

/// What a failed or answered attempt means for the rest of the send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing else may be tried.
    Final,
    /// Other sessions here could take it.
    Open,
    /// No other session here can.
    Exhausted,
}

fn cause_of(error: PushError) -> Cause {
    match error {
        PushError::Gone => Cause::SessionGone,
        PushError::Full => Cause::QueueFull,
        PushError::WriteFailed => Cause::WriteFailed,
    }
}

/// An answer that is not a topic body becomes the payload of one: a malformed body crashes some SDKs.
fn well_formed(topic: &Topic, body: AnswerBody) -> AnswerBody {
    if !body.prefix.is_empty() || body.payload.is_empty() {
        return body;
    }
    let name = topic.as_str().as_bytes();
    let mut prefix = BytesMut::with_capacity(name.len() + 1);
    prefix.put_u8(name.len() as u8 + 1);
    prefix.put_slice(name);
    AnswerBody { prefix: prefix.freeze(), payload: body.payload }
}
