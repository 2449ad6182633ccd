//! The subscriber's node: a multicast to all of its sessions, each at most once.
//!
//! Sessions of one running application are one subscriber: one of them is given the message, and
//! another only if that one could not be.

use bytes::Bytes;

use super::{
    Delivery, Requester,
    destination::holder,
    fan_out::NodeReport,
    outcome::Ended,
    reception::{Attempt, Own, Reception, Recipients, To, Waiting},
};
use crate::{
    Cause, SessionId, Time,
    broker::{
        dedup::{MessageKey, Seen},
        event::{AnswerBody, PushId},
        routing::Routing,
    },
    wire::{peer::Envelope, recipients::Roster},
};

/// Who asks for a multicast to be handed out, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    pub(super) requester: Requester,
    pub(super) own: Own,
    /// Whether each recipient is to be reported.
    pub(super) recipients: bool,
}

impl Delivery {
    /// A multicast arrives, for the first time or again, from another node or from this one.
    pub(super) fn receive_fan_out(
        &mut self,
        now: Time,
        routing: &Routing,
        key: MessageKey,
        ask: Ask,
        envelope: &Envelope,
        payload: Bytes,
    ) {
        let Ask { requester, own, recipients } = ask;
        let push_timeout = self.config.push_timeout_max;
        let attempt = Attempt { requester, number: 0, push_timeout, own, recipients };
        let report = match self.received.get(key) {
            None => return self.begin_fan_out(now, routing, key, attempt, envelope, payload),
            Some(Seen::Running(_)) => return self.rejoin_fan_out(routing, key, attempt),
            Some(Seen::Done(ended)) => NodeReport {
                counts: [ended.handed, ended.failed],
                cause: ended.cause,
                complete: true,
                roster: ended.body().payload,
            },
            Some(Seen::Dropped) => NodeReport::complete(Cause::OutcomeLost),
        };
        self.counters.absorbed += 1;
        self.report_fan_out(routing, Waiting::again(&attempt), report);
    }

    fn rejoin_fan_out(&mut self, routing: &Routing, key: MessageKey, attempt: Attempt) {
        self.counters.absorbed += 1;
        let Some(reception) = self.received.running(key) else { return };
        let waiting = reception.join(attempt);
        self.counters.requesters_ignored += u64::from(waiting.is_none());
        if reception.handed > 0 {
            let report = reception.so_far();
            self.report_fan_out(routing, Waiting::again(&attempt), report);
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
            let waiting = Waiting { resends: 0, ..Waiting::again(&attempt) };
            return self.report_fan_out(routing, waiting, NodeReport::complete(Cause::NoRoom));
        };
        let mut reception = Reception::new(envelope.clone(), payload, hold);
        reception.roster = attempt.recipients.then(Box::<Roster>::default);
        reception.join(attempt);
        let gone = reception.gone(routing);
        let mut sessions = reception.untried(routing, &self.subscribers, attempt.own);
        self.subscribers.one_each(&mut sessions);
        self.received.begin(key, Box::new(reception));
        for _ in 0..gone {
            self.note_recipient(key, SessionId(0), Some(Cause::SessionGone));
        }
        if sessions.is_empty() {
            return self.fan_out_over(now, routing, key);
        }
        let wait = self.config.push_timeout_max;
        self.give(now, routing, key, wait, To::All(Recipients::new(sessions)));
    }

    /// Another session of the application that could not be handed the message by this one.
    pub(super) fn spare(
        &mut self,
        routing: &Routing,
        key: MessageKey,
        failed: SessionId,
    ) -> Option<SessionId> {
        self.subscribers.get(&failed)?.instance?;
        let reception = self.received.running(key)?;
        reception.tried.push(failed);
        let untried = reception.untried(routing, &self.subscribers, Own::Elsewhere);
        untried.into_iter().rev().find(|session| self.subscribers.are_same(session, &failed))
    }

    /// A session was handed the message, or failed to take it; `over` if it was the last one.
    pub(super) fn fan_out_progress(
        &mut self,
        now: Time,
        routing: &Routing,
        key: MessageKey,
        (session, failure): (SessionId, Option<Cause>),
        over: Option<PushId>,
    ) {
        self.note_recipient(key, session, failure);
        if let Some(push) = over {
            self.pushes.remove(&push);
            return self.fan_out_over(now, routing, key);
        }
        let Some(reception) = self.received.running(key) else { return };
        if failure.is_none() && reception.handed == 1 {
            let requesters = reception.requesters.clone();
            for waiting in requesters {
                let Some(reception) = self.received.running(key) else { return };
                let report = reception.so_far();
                self.report_fan_out(routing, waiting, report);
            }
        }
    }

    /// Counts one recipient, and takes its name down if somebody asked.
    pub(super) fn note_recipient(&mut self, key: MessageKey, session: SessionId, failure: Option<Cause>) {
        let Some(reception) = self.received.running(key) else { return };
        match failure {
            None => reception.handed += 1,
            Some(cause) => {
                reception.lost += 1;
                reception.worst = reception.worst.worse(cause);
            }
        }
        if let Some(roster) = &mut reception.roster {
            let client = self.subscribers.get(&session).map(|who| &*who.client);
            roster.add(client, failure.unwrap_or(Cause::Delivered));
        }
    }

    /// Nobody here is waited for any longer: the requesters are told and the window remembers.
    pub(super) fn fan_out_over(&mut self, now: Time, routing: &Routing, key: MessageKey) {
        let Some(reception) = self.received.running(key) else { return };
        let counts = [reception.handed, reception.lost];
        let cause = if reception.handed > 0 { Cause::Delivered } else { reception.worst };
        let roster = reception.roster.take().map(|roster| roster.into_bytes()).unwrap_or_default();
        for waiting in std::mem::take(&mut reception.requesters) {
            let report = NodeReport { counts, cause, complete: true, roster: roster.clone() };
            self.report_fan_out(routing, waiting, report);
        }
        let body = AnswerBody { payload: roster, ..AnswerBody::default() };
        let ended = Ended::with_body(cause, counts, &body, &mut self.received_pages);
        let bytes = ended.bytes();
        self.received.end(key, ended, bytes, now + self.config.retention());
    }
}
