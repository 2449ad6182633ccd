//! The subscriber's node: a multicast to all of its sessions, each at most once.

use bytes::Bytes;

use super::{
    Delivery, Requester,
    destination::holder,
    outcome::Ended,
    reception::{Attempt, Reception, To, Waiting},
};
use crate::{
    Cause, SessionId, Time,
    broker::{
        dedup::{MessageKey, Seen},
        event::PushId,
        routing::Routing,
    },
    wire::peer::Envelope,
};

impl Delivery {
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

    pub(super) fn fan_out_progress(
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
    pub(super) fn fan_out_over(&mut self, now: Time, routing: &Routing, key: MessageKey) {
        let Some(reception) = self.received.running(key) else { return };
        let (handed, failed, worst) = (reception.handed, reception.lost, reception.worst);
        let cause = if handed > 0 { Cause::Delivered } else { worst };
        for waiting in std::mem::take(&mut reception.requesters) {
            self.report_fan_out(routing, waiting, [handed, failed], cause, true);
        }
        let ended = Ended { cause, handed, failed, body: None };
        self.received.end(key, ended, 0, now + self.config.retention());
    }
}
