//! The subscriber's node: a unicast to one of its sessions after the other, each at most once.
//!
//! What has been tried is remembered per message, not per sender: the same message through two
//! nodes, or resent over another path, finds the same [`Reception`] and repeats what is known.

use bytes::Bytes;

use super::{
    Delivery,
    reception::{ActivePush, Attempt, Own, Reception, Stage, To, Waiting},
    tell::Verdict,
};
use crate::{
    Cause, NodeId, SessionId, Time,
    broker::{
        budget::Holder,
        dedup::{MessageKey, Seen},
        event::AnswerBody,
        journal::Step,
        routing::Routing,
    },
    wire::peer::Envelope,
};

/// Who takes up room with a message: this node's own client, or another node for its clients.
pub(super) fn holder(me: NodeId, attempt: Attempt, envelope: &Envelope) -> Holder {
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
                self.note_arrived(&attempt.requester, attempt.number, envelope);
                let Some(hold) = self.budget.hold(holder(self.me, attempt, envelope), payload.len()) else {
                    return self.no_room(routing, attempt);
                };
                let reception = Reception::new(envelope.clone(), payload, hold);
                self.received.begin(key, Box::new(reception));
                return self.push_next(now, routing, key, attempt);
            }
            Some(Seen::Running(_)) => return self.rejoin(now, routing, key, attempt, envelope, payload),
            // What only failed here may still be answered elsewhere.
            Some(Seen::Done(ended)) if ended.handed == 0 => (ended.cause, Verdict::Exhausted, ended.body()),
            Some(Seen::Done(ended)) => (ended.cause, Verdict::Final, ended.body()),
            Some(Seen::Dropped) => (Cause::OutcomeLost, Verdict::Final, AnswerBody::default()),
        };
        self.counters.absorbed += 1;
        self.note_again(&attempt.requester, attempt.number);
        let waiting = Waiting::again(&attempt);
        self.report_outcome(routing, waiting, known.0, known.1, &known.2);
    }

    /// The message is known here: the requester waits with the others, is told again what it may
    /// have missed, or asks for the next session.
    fn rejoin(
        &mut self,
        now: Time,
        routing: &Routing,
        key: MessageKey,
        attempt: Attempt,
        envelope: &Envelope,
        payload: Bytes,
    ) {
        self.note_again(&attempt.requester, attempt.number);
        let Some(reception) = self.received.running(key) else { return };
        if let Some(push) = reception.push {
            let waiting = reception.join(attempt);
            self.counters.requesters_ignored += u64::from(waiting.is_none());
            self.counters.absorbed += 1;
            let handed = matches!(
                self.pushes.get(&push),
                Some(ActivePush { to: To::One { stage: Stage::Handed, .. }, .. })
            );
            if let Some(waiting) = waiting.filter(|_| handed) {
                self.report_handed(routing, waiting);
            }
            return;
        }
        match reception.failure_of(attempt.requester, attempt.number) {
            Some(cause) => {
                self.counters.absorbed += 1;
                let waiting = Waiting::again(&attempt);
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
                // On a reserved name, another attempt is for another session.
                reception.envelope.audience.clone_from(&envelope.audience);
                reception.hold = Some(hold);
                self.push_next(now, routing, key, attempt);
            }
        }
    }

    /// Nothing is begun, so nothing is remembered; the origin may try elsewhere.
    fn no_room(&mut self, routing: &Routing, attempt: Attempt) {
        let waiting = Waiting { resends: 0, ..Waiting::again(&attempt) };
        let body = AnswerBody::default();
        self.report_outcome(routing, waiting, Cause::NoRoom, Verdict::Exhausted, &body);
    }

    /// Gives the message to a session that has not had it, or says that there is none.
    fn push_next(&mut self, now: Time, routing: &Routing, key: MessageKey, attempt: Attempt) {
        let Some(reception) = self.received.running(key) else { return };
        reception.join(attempt);
        let left = reception.untried(routing, &self.subscribers, attempt.own);
        if left.is_empty() {
            // Whoever comes late with a message that has failed here learns how it failed.
            let gone = reception.envelope.topic.is_reserved();
            let cause = if gone { reception.worst.worse(Cause::SessionGone) } else { reception.worst };
            self.rest(now, key);
            return self.attempt_over(routing, key, cause, Verdict::Exhausted);
        }
        let session = left[key.spread() as usize % left.len()];
        reception.tried.push(session);
        let to = To::One { session, stage: Stage::Queued };
        let wait = attempt.push_timeout;
        self.give(now, routing, key, wait, to);
    }

    /// One session's push failed for good; whoever waits may ask for the next session.
    pub(super) fn push_failed(
        &mut self,
        now: Time,
        routing: &Routing,
        key: MessageKey,
        (session, stage): (SessionId, Stage),
        cause: Cause,
    ) {
        let Some(reception) = self.received.running(key) else { return };
        for waiting in &reception.requesters {
            let step = Step::NotHanded { session, cause };
            self.journal.note(waiting.key(), waiting.number, step);
        }
        // Who may have had it does not get it again by another session of the same application.
        let application = self.subscribers.get(&session).filter(|who| who.instance.is_some());
        reception.reached.extend(application.filter(|_| stage != Stage::Queued).cloned());
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
            Some(reception) if !reception.untried(routing, &self.subscribers, Own::Elsewhere).is_empty() => {
                Verdict::Open
            }
            _ => Verdict::Exhausted,
        }
    }
}
