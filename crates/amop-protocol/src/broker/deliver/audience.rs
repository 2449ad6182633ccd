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
    reception::{ActivePush, Attempt, Own, Reception, To, Waiting},
};
use crate::{
    Cause, SessionId, Time,
    broker::{
        dedup::{MessageKey, Seen},
        event::{AnswerBody, PushId},
        journal::Step,
        routing::Routing,
    },
    wire::{peer::Envelope, recipients::Roster},
};

/// Recipients that could not be handed a multicast and stand in the journal one by one.
const MOST_NOTED: u32 = 16;

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
            None => {
                self.note_arrived(&requester, 0, envelope);
                return self.begin_fan_out(now, routing, key, attempt, envelope, payload);
            }
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
        self.note_again(&requester, 0);
        self.report_fan_out(routing, Waiting::again(&attempt), report);
    }

    fn rejoin_fan_out(&mut self, routing: &Routing, key: MessageKey, attempt: Attempt) {
        self.counters.absorbed += 1;
        self.note_again(&attempt.requester, 0);
        let Some(reception) = self.received.running(key) else { return };
        let waiting = reception.join(attempt);
        self.counters.requesters_ignored += u64::from(waiting.is_none());
        let handed = match reception.push.and_then(|push| self.pushes.get(&push)) {
            Some(ActivePush { to: To::All(recipients), .. }) => recipients.handed(),
            _ => 0,
        };
        if handed > 0 {
            let report = reception.so_far(handed);
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
            self.recipient_lost(key, SessionId(0), Cause::SessionGone);
        }
        if sessions.is_empty() {
            return self.fan_out_over(now, routing, key, 0);
        }
        let wait = self.config.push_timeout_max;
        let mut recipients = self.last_recipients.begin(sessions);
        recipients.are_named = attempt.recipients;
        self.give(now, routing, key, wait, To::All(recipients));
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

    /// Somebody was handed the message, while others are waited for.
    pub(super) fn tell_first_handed(&mut self, routing: &Routing, key: MessageKey) {
        let Some(reception) = self.received.running(key) else { return };
        for waiting in reception.requesters.clone() {
            let Some(reception) = self.received.running(key) else { return };
            let report = reception.so_far(1);
            self.report_fan_out(routing, waiting, report);
        }
    }

    /// Counts somebody who could not be handed the message.
    pub(super) fn recipient_lost(&mut self, key: MessageKey, session: SessionId, cause: Cause) {
        let Some(reception) = self.received.running(key) else { return };
        reception.lost += 1;
        reception.worst = reception.worst.worse(cause);
        // Where thousands fail at once, the first few say why; the rest are counted.
        if reception.lost <= MOST_NOTED {
            for waiting in &reception.requesters {
                self.journal.note(waiting.key(), 0, Step::NotHanded { session, cause });
            }
        }
        self.name_recipient(key, session, cause);
    }

    /// Takes down how a recipient fared, if somebody asked.
    pub(super) fn name_recipient(&mut self, key: MessageKey, session: SessionId, cause: Cause) {
        let Some(reception) = self.received.running(key) else { return };
        if let Some(roster) = &mut reception.roster {
            let client = self.subscribers.get(&session).map(|who| &*who.client);
            roster.add(client, cause);
        }
    }

    /// Nobody is waited for any longer.
    pub(super) fn fan_out_done(&mut self, now: Time, routing: &Routing, push: PushId) {
        if let Some(ActivePush { key, to: To::All(recipients), .. }) = self.pushes.remove(&push) {
            self.fan_out_over(now, routing, key, recipients.handed());
        }
    }

    /// The requesters are told and the window remembers.
    pub(super) fn fan_out_over(&mut self, now: Time, routing: &Routing, key: MessageKey, handed: u32) {
        let Some(reception) = self.received.running(key) else { return };
        let counts = [handed, reception.lost];
        let cause = if handed > 0 { Cause::Delivered } else { reception.worst };
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
