//! What a subscriber's node tells those who asked it to hand a message over.

use bytes::Bytes;
use smallvec::smallvec;

use super::{Delivery, detour::way_back, fan_out::NodeReport, reception::Waiting};
use crate::{
    Cause,
    broker::{event::AnswerBody, journal::Step, routing::Routing},
    wire::{interleave::flow_of, peer::Body},
};

impl Delivery {
    pub(super) fn report_handed(&mut self, routing: &Routing, waiting: Waiting) {
        let body = Body::Handed { send: waiting.requester.send, number: waiting.number };
        self.report(routing, waiting, body, Bytes::new());
    }

    pub(super) fn report_outcome(
        &mut self,
        routing: &Routing,
        waiting: Waiting,
        cause: Cause,
        verdict: Verdict,
        body: &AnswerBody,
    ) {
        if cause != Cause::Delivered {
            self.note_for(&waiting.requester, waiting.number, Step::Reported { cause });
        }
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

    pub(super) fn report_fan_out(
        &mut self,
        routing: &Routing,
        waiting: Waiting,
        NodeReport { counts: [handed, failed], cause, complete, roster }: NodeReport,
    ) {
        if complete {
            self.note_for(&waiting.requester, 0, Step::Reported { cause });
        }
        let body = Body::FanOutReport { send: waiting.requester.send, handed, failed, cause, complete };
        let payload = if waiting.recipients { roster } else { Bytes::new() };
        self.report(routing, waiting, body, payload);
    }

    /// Reports to a requester, the way it asked.
    fn report(&mut self, routing: &Routing, waiting: Waiting, body: Body, payload: Bytes) {
        let to = waiting.requester.node;
        if to == self.me {
            self.local_reports.push_back((body, payload));
            return;
        }
        let path = way_back(routing, to, waiting.requester.over, waiting.resends);
        // Each report waits for nothing but itself.
        let flow = flow_of(waiting.requester.send.id as u32, 0);
        self.forward(routing, smallvec![to], &path, flow, body, payload);
    }
}

/// What a failed or answered attempt means for the rest of the send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing else may be tried.
    Final,
    /// Other sessions here could take it.
    Open,
    /// No other session here can.
    Exhausted,
}
