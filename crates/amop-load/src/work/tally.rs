//! What came of messages: latencies, failures by code and cause, what got no outcome.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use serde::Serialize;

use crate::{clock, record::Latencies, system::Failure};

/// Kinds of failures that are told apart; further ones count as `other`. Causes are few; this holds if a system's are not.
const MOST_KINDS: usize = 64;

/// What came of some messages.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Of those that were answered, and, as long as they had taken, of those that were given up.
    pub(crate) latencies: Latencies,
    /// Answered before the end of measuring.
    pub(crate) in_time: u64,
    pub(crate) errors: Errors,
    /// Sent, and without outcome when the work gave up waiting.
    pub(crate) unfinished: u64,
}

impl Tally {
    pub(crate) fn merge(&mut self, other: &Self) {
        self.latencies.merge(&other.latencies);
        self.in_time += other.in_time;
        self.errors.merge(&other.errors);
        self.unfinished += other.unfinished;
    }
}

/// Failures, counted by code and cause.
#[derive(Clone, Debug, Default)]
pub struct Errors(BTreeMap<(Option<u16>, String), Kind>);

#[derive(Clone, Debug)]
struct Kind {
    count: u64,
    first: String,
}

/// One kind of failure, as reports have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErrorCount {
    /// The system's code, if it has codes.
    pub code: Option<u16>,
    /// Its name.
    pub cause: String,
    /// How often.
    pub count: u64,
    /// The first one, in words.
    pub first: String,
}

impl Errors {
    /// Counts one.
    pub fn add(&mut self, failure: &Failure) {
        self.count(failure.code, &failure.cause, &failure.message, 1);
    }

    /// How many there were.
    pub fn total(&self) -> u64 {
        self.0.values().map(|kind| kind.count).sum()
    }

    /// By code and cause.
    pub fn kinds(&self) -> Vec<ErrorCount> {
        let count = |((code, cause), kind): (&(Option<u16>, String), &Kind)| ErrorCount {
            code: *code,
            cause: cause.clone(),
            count: kind.count,
            first: kind.first.clone(),
        };
        self.0.iter().map(count).collect()
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for ((code, cause), kind) in &other.0 {
            self.count(*code, cause, &kind.first, kind.count);
        }
    }

    fn count(&mut self, code: Option<u16>, cause: &str, message: &str, count: u64) {
        let key = (code, cause.to_owned());
        let full = self.0.len() >= MOST_KINDS && !self.0.contains_key(&key);
        let key = if full { (None, "other".to_owned()) } else { key };
        self.0.entry(key).or_insert_with(|| Kind { count: 0, first: message.to_owned() }).count += count;
    }
}

impl Serialize for Errors {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.kinds().serialize(serializer)
    }
}

/// A message under way. Dropped without an outcome, it counts as unfinished, be it from the warm-up, and has taken at
/// least as long as until then: what is left out would be the slowest.
#[derive(Debug)]
pub(crate) struct UnderWay {
    /// When it was to be sent.
    due: u64,
    measured: bool,
    tally: Option<Arc<Mutex<Tally>>>,
}

impl UnderWay {
    /// One that was due at this moment; `measured` if that was while measuring.
    pub(crate) fn new(due: u64, measured: bool, tally: Arc<Mutex<Tally>>) -> Self {
        Self { due, measured, tally: Some(tally) }
    }

    /// It has ended, `in_time` if before the end of measuring.
    pub(crate) fn ended(mut self, outcome: Result<(), Failure>, in_time: bool) {
        let took = clock::since(self.due);
        let Some(tally) = self.tally.take() else { return };
        let mut tally = tally.lock();
        match outcome {
            Ok(()) => {
                tally.in_time += u64::from(in_time);
                // One that began before is part of what users saw meanwhile.
                if self.measured || in_time {
                    tally.latencies.record(took);
                }
            }
            Err(failure) if self.measured || in_time => tally.errors.add(&failure),
            Err(_) => {}
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(tally) = self.tally.take() {
            let mut tally = tally.lock();
            tally.latencies.record(clock::since(self.due));
            tally.unfinished += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_by_code_and_cause_and_kinds_are_bounded() {
        let mut errors = Errors::default();
        errors.add(&Failure::new("timed_out", "after 5 s").code(102));
        errors.add(&Failure::new("timed_out", "after 6 s").code(102));
        for number in 0..1_000 {
            errors.add(&Failure::new(format!("kind-{number}"), "unbounded"));
        }
        let mut all = errors.clone();
        all.merge(&errors);
        assert_eq!((errors.total(), all.total()), (1_002, 2_004));
        assert!(all.kinds().len() <= MOST_KINDS + 1);
        let timed_out = all.kinds().into_iter().find(|kind| kind.code == Some(102)).unwrap();
        assert_eq!((timed_out.count, &*timed_out.first), (4, "after 5 s"));
    }

    #[test]
    fn what_has_no_outcome_counts_with_its_age() {
        let tally = Arc::new(Mutex::new(Tally::default()));
        let due = clock::now();
        for measured in [true, false] {
            let under_way = || UnderWay::new(due, measured, tally.clone());
            under_way().ended(Ok(()), measured);
            under_way().ended(Err(Failure::new("refused", "no")), measured);
            drop(under_way());
        }
        let tally = tally.lock();
        assert_eq!((tally.latencies.samples(), tally.in_time, tally.unfinished), (3, 1, 2));
        assert_eq!(tally.errors.total(), 1);
    }
}
