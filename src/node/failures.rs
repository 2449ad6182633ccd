//! The last sends of this node's clients that failed: enough to ask what became of each.

use std::{collections::VecDeque, time::Instant};

use amop_protocol::{Cause, Seq, Topic, broker::event::Outcome};
use parking_lot::Mutex;

use crate::telemetry::{overview::Failed, trace::show_seq};

/// Failures that are remembered; the oldest gives way.
pub(super) const MAX_FAILURES: usize = 50;

/// The last failures, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<VecDeque<Failure>>);

#[derive(Debug)]
struct Failure {
    at: Instant,
    seq: Seq,
    topic: Option<Topic>,
    cause: Cause,
}

impl Failures {
    /// Remembers how a send ended, if it failed. A send that succeeded costs nothing here.
    pub(super) fn note(&self, outcome: &Outcome) {
        if outcome.cause == Cause::Delivered {
            return;
        }
        let Outcome { seq, topic, cause, .. } = outcome;
        let failure = Failure { at: Instant::now(), seq: *seq, topic: topic.clone(), cause: *cause };
        let mut failures = self.0.lock();
        if failures.len() >= MAX_FAILURES {
            failures.pop_front();
        }
        failures.push_back(failure);
    }

    /// The last failures, the last one first.
    pub(super) fn show(&self, now: Instant) -> Vec<Failed> {
        let failures = self.0.lock();
        let show = |failure: &Failure| Failed {
            id: show_seq(&failure.seq),
            topic: failure.topic.as_ref().map(ToString::to_string),
            code: failure.cause.status().code(),
            cause: failure.cause.as_str_name().to_owned(),
            text: failure.cause.explain().to_owned(),
            seconds: now.saturating_duration_since(failure.at).as_secs(),
        };
        failures.iter().rev().map(show).collect()
    }
}
