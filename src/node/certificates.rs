//! The certificates a node lives by, and how long they last.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use arc_swap::{ArcSwap, Guard};

use crate::{identity::Fact, telemetry::status::Certificate};

/// Seconds of a day.
const DAY: i64 = 86_400;

/// The certificates and revocation lists in force; whoever loads others sets them here.
#[derive(Debug, Default)]
pub(super) struct Certificates(ArcSwap<Vec<Fact>>);

impl Certificates {
    /// These are in force from now on.
    pub(super) fn set(&self, facts: Vec<Fact>) {
        self.0.store(Arc::new(facts));
    }

    /// All of them.
    pub(super) fn in_force(&self) -> Guard<Arc<Vec<Fact>>> {
        self.0.load()
    }

    /// As they are now.
    pub(super) fn status(&self) -> Vec<Certificate> {
        status_of(&self.in_force())
    }

    /// When the first of them expires, Unix time; `None` if there is none.
    pub(super) fn first_to_expire(&self) -> Option<i64> {
        self.in_force().iter().map(|fact| fact.not_after).min()
    }
}

/// These, for whoever asks now.
pub(super) fn status_of(facts: &[Fact]) -> Vec<Certificate> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let status = |fact: &Fact| Certificate {
        of: fact.of.as_str().to_owned(),
        subject: fact.subject.clone(),
        issuer: fact.issuer.clone(),
        serial: fact.serial.clone(),
        not_before: fact.not_before,
        not_after: fact.not_after,
        days_left: days_left(fact.not_after, now),
    };
    facts.iter().map(status).collect()
}

fn days_left(not_after: i64, now: i64) -> i64 {
    not_after.saturating_sub(now).div_euclid(DAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_whole_and_negative_once_it_has_expired() {
        assert_eq!(days_left(10 * DAY, DAY / 2), 9);
        assert_eq!(days_left(DAY, DAY), 0);
        assert_eq!(days_left(DAY, DAY + 1), -1);
    }
}
