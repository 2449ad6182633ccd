//! Messages written to an extension client that has not said it received them.

use std::collections::VecDeque;

use crate::broker::event::{Mode, PushId};

/// Most that are kept. Beyond it the oldest is forgotten: its push then fails for want of a word.
pub(crate) const MAX_UNRECEIVED: usize = 8 * 1024;

/// In the order of their frames.
#[derive(Debug, Default)]
pub(super) struct Unreceived(VecDeque<(PushId, Mode)>);

impl Unreceived {
    pub(super) fn sent(&mut self, push: PushId, mode: Mode) {
        if self.0.len() == MAX_UNRECEIVED {
            self.0.pop_front();
        }
        self.0.push_back((push, mode));
    }

    /// The client received this push, and so all before it; none if it was not sent, or was
    /// acknowledged before.
    pub(super) fn received(&mut self, push: PushId) -> Vec<PushId> {
        match self.0.iter().position(|(sent, _)| *sent == push) {
            Some(at) => self.0.drain(..=at).map(|(push, _)| push).collect(),
            None => Vec::new(),
        }
    }

    /// The client answered this push: what that says of those before it. Of the push itself the
    /// answer says all there is to say, unless nobody waits for an answer.
    pub(super) fn answered(&mut self, push: PushId) -> Vec<PushId> {
        // Mostly it is the only one: then nothing is allocated.
        if self.0.front() == Some(&(push, Mode::Unicast)) {
            self.0.pop_front();
            return Vec::new();
        }
        let unicast = self.0.iter().any(|sent| *sent == (push, Mode::Unicast));
        let mut received = self.received(push);
        received.retain(|other| !unicast || *other != push);
        received
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(count: u64) -> Unreceived {
        let mut unreceived = Unreceived::default();
        (0..count).for_each(|n| {
            unreceived.sent(PushId(n), if n % 2 == 0 { Mode::Unicast } else { Mode::Multicast })
        });
        unreceived
    }

    fn pushes<const N: usize>(numbers: [u64; N]) -> Vec<PushId> {
        numbers.map(PushId).to_vec()
    }

    #[test]
    fn one_word_is_for_all_before_it_and_counts_once() {
        let mut unreceived = of(6);
        assert_eq!(unreceived.received(PushId(2)), pushes([0, 1, 2]));
        for old_or_unknown in [0, 2, 6, u64::MAX] {
            assert_eq!(unreceived.received(PushId(old_or_unknown)), []);
        }
        assert_eq!(unreceived.received(PushId(5)), pushes([3, 4, 5]));
    }

    #[test]
    fn an_answer_is_a_word_too() {
        let mut unreceived = of(6);
        assert_eq!(unreceived.answered(PushId(0)), []);
        assert_eq!(unreceived.answered(PushId(2)), pushes([1]), "the answer itself says the rest");
        assert_eq!(unreceived.answered(PushId(5)), pushes([3, 4, 5]), "nobody waits for its answer");
        assert_eq!(unreceived.answered(PushId(5)), []);
    }

    #[test]
    fn who_never_says_a_word_takes_no_more_room() {
        let mut unreceived = of(MAX_UNRECEIVED as u64 + 2);
        assert_eq!(unreceived.0.len(), MAX_UNRECEIVED);
        assert_eq!(unreceived.received(PushId(1)), []);
        assert_eq!(unreceived.received(PushId(2)), pushes([2]));
    }
}
