//! Which of two connections to the same peer carries the link, decided alike on both sides.
//!
//! - A newer epoch of the peer always wins: it restarted, the old connection is dead.
//! - In the same epoch, the connection dialled by the lower node id wins; so mutual dialling
//!   ends with one link.
//! - A side that dialled sends no hello while it has a link that would win (see the driver). So a
//!   complete hello on a second connection from the same dialler, or on a worse one long after the
//!   first came up, says that the peer has lost the first: the newer wins.

use std::time::Duration;

/// Who dialled a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialler {
    /// The node with the lower id.
    Lower,
    /// The node with the higher id.
    Higher,
}

/// A connection as this decision sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// The peer's epoch, from its hello.
    pub(super) epoch: u64,
    pub(super) dialler: Dialler,
}

/// Which one stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Winner {
    Current,
    Newcomer,
}

/// Decides between a link that has been up for `age` and a newcomer whose hello is complete.
/// Connections that both came up within `race` of each other may be due to mutual dialling.
pub(super) fn decide(current: Standing, age: Duration, newcomer: Standing, race: Duration) -> Winner {
    match newcomer.epoch.cmp(&current.epoch) {
        std::cmp::Ordering::Greater => Winner::Newcomer,
        std::cmp::Ordering::Less => Winner::Current,
        std::cmp::Ordering::Equal if newcomer.dialler == current.dialler => Winner::Newcomer,
        std::cmp::Ordering::Equal if newcomer.dialler == Dialler::Lower => Winner::Newcomer,
        std::cmp::Ordering::Equal if age > race => Winner::Newcomer,
        std::cmp::Ordering::Equal => Winner::Current,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RACE: Duration = Duration::from_secs(5);
    const YOUNG: Duration = Duration::from_millis(10);
    const OLD: Duration = Duration::from_secs(60);

    fn standing(epoch: u64, dialler: Dialler) -> Standing {
        Standing { epoch, dialler }
    }

    #[test]
    fn a_newer_epoch_wins_and_an_older_one_loses() {
        let old = standing(1, Dialler::Lower);
        let new = standing(2, Dialler::Higher);
        assert_eq!(decide(old, YOUNG, new, RACE), Winner::Newcomer);
        assert_eq!(decide(new, OLD, old, RACE), Winner::Current);
    }

    #[test]
    fn in_whatever_order_they_come_the_lower_ones_dial_is_kept() {
        let (lower, higher) = (standing(1, Dialler::Lower), standing(1, Dialler::Higher));
        assert_eq!(decide(lower, YOUNG, higher, RACE), Winner::Current);
        assert_eq!(decide(higher, YOUNG, lower, RACE), Winner::Newcomer);
    }

    #[test]
    fn a_peer_that_dials_again_has_lost_its_link() {
        let lower = standing(1, Dialler::Lower);
        assert_eq!(decide(lower, YOUNG, lower, RACE), Winner::Newcomer);
        assert_eq!(decide(lower, OLD, standing(1, Dialler::Higher), RACE), Winner::Newcomer);
    }
}
