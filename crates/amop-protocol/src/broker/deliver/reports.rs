//! What destinations, and nodes on the way, report on this node's sends.
//!
//! A report counts only about a send in flight, in this start of the node, and from the node that
//! was asked.

use std::time::Duration;

use bytes::Bytes;

use super::{
    Delivery,
    fan_out::NodeReport,
    outcome::Ending,
    refused::Refused,
    send::{Failed, Progress},
};
use crate::{
    Cause, NodeId, Time,
    broker::{event::AnswerBody, journal::Step, routing::Routing},
    mutations::{self, Mutation},
    wire::peer::{Body, SendRef},
};

/// How an attempt ended, as its destination has it.
struct AttemptEnd {
    number: u32,
    cause: Cause,
    is_final: bool,
    exhausted: bool,
    body: AnswerBody,
}

impl Delivery {
    /// A destination, this node's own other role included, reports on one of our sends.
    pub(super) fn handle_report(
        &mut self,
        now: Time,
        routing: &Routing,
        from: NodeId,
        report: Body,
        payload: Bytes,
    ) {
        let present =
            |epoch, me: &Self| epoch == me.epoch || mutations::on(Mutation::ReusedIdTakesLateAnswer);
        let ours = |send: &SendRef, me: &Self| present(send.epoch, me) && me.sends.contains_key(&send.id);
        match report {
            Body::Handed { send, number } if ours(&send, self) => {
                self.attempt_handed(now, from, send.id, number)
            }
            Body::Outcome { send, number, cause, is_final, exhausted, answer_prefix }
                if ours(&send, self) =>
            {
                let body = AnswerBody { prefix: answer_prefix, payload };
                let end = AttemptEnd { number, cause, is_final, exhausted, body };
                self.attempt_ended(now, routing, from, send.id, end);
            }
            Body::FanOutReport { send, handed, failed, cause, complete } if ours(&send, self) => {
                let report = NodeReport { counts: [handed, failed], cause, complete, roster: payload };
                self.fan_out_reported(now, routing, from, send.id, report);
            }
            Body::Refused { send, number, destinations, cause, retry_after_ms } if ours(&send, self) => {
                let retry_after = Duration::from_millis(retry_after_ms.into());
                let refused = Refused { number, destinations, cause, retry_after };
                self.refused_on_the_way(now, routing, from, send.id, refused);
            }
            _ => self.counters.stale_reports += 1,
        }
    }

    fn attempt_handed(&mut self, now: Time, from: NodeId, id: u64, number: u32) {
        let Some(send) = self.sends.get_mut(&id) else { return };
        let payload = send.publish.payload.len();
        let Progress::Unicast(unicast) = &mut send.progress else { return };
        match &mut unicast.attempt {
            Some(attempt) if unicast.attempts == number && attempt.to == from => {
                // Only the first buys time: a relay that keeps the answer back could repeat the rest.
                let first = !std::mem::replace(&mut attempt.handed, true);
                if mutations::on(Mutation::LostAnswerStaysLost) {
                    attempt.resend_at = send.deadline;
                } else if first && from != self.me {
                    attempt.resend_at = now + attempt.push_timeout + self.config.resend_after(payload, 0);
                }
                self.note_handed(id);
                self.note_send(id, number, Step::Confirmed { by: from.into() });
            }
            _ => self.counters.stale_reports += 1,
        }
    }

    fn attempt_ended(&mut self, now: Time, routing: &Routing, from: NodeId, id: u64, end: AttemptEnd) {
        let Some(send) = self.sends.get(&id) else { return };
        let Progress::Unicast(unicast) = &send.progress else { return };
        let current =
            unicast.attempts == end.number && unicast.attempt.as_ref().is_some_and(|a| a.to == from);
        // An answer to an attempt that was given up still is a subscriber's answer.
        let answered = end.cause == Cause::Delivered && unicast.asked.contains(&from);
        let is_final =
            end.is_final || mutations::on(Mutation::NoSubscriberIsFinal) && end.cause == Cause::NoSubscriber;
        if answered || current && is_final {
            // A failure has no answer, whatever came with it.
            let body = if end.cause == Cause::Delivered { end.body } else { AnswerBody::default() };
            let ending = Ending { body, at: Some(from), ..end.cause.into() };
            self.finish(now, routing, id, ending);
        } else if current {
            let failed = Failed { cause: end.cause, at: from, spent: end.exhausted };
            self.attempt_failed(now, routing, id, failed);
        } else {
            self.counters.stale_reports += 1;
        }
    }
}
