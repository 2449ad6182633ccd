//! The sessions that are given a multicast, and how far it has come with each that is not done with.
//!
//! There may be hundreds of multicasts under way, and each session tells of each: what is looked at for one of them
//! lies close together, and the list of sessions, mostly that of the multicast before, is there once for each shard.

use std::sync::Arc;

use super::reception::Stage;
use crate::SessionId;

/// The recipients of the last multicast.
#[derive(Debug, Default)]
pub(super) struct LastRecipients(Arc<Vec<SessionId>>);

impl LastRecipients {
    /// All of these, each once, with the message on its way to them.
    pub(super) fn begin(&mut self, mut sessions: Vec<SessionId>) -> Recipients {
        sessions.sort_unstable();
        if *self.0 != sessions {
            self.0 = Arc::new(sessions);
        }
        let (sessions, left) = (self.0.clone(), self.0.len());
        Recipients { stages: vec![Some(Stage::Queued); left], sessions, left, handed: 0, are_named: false }
    }
}

/// The sessions that are given a multicast.
#[derive(Debug)]
pub(super) struct Recipients {
    /// In order.
    sessions: Arc<Vec<SessionId>>,
    /// Of each; `None` where it is done.
    stages: Vec<Option<Stage>>,
    left: usize,
    handed: u32,
    /// Whether somebody asked for their names; else it is enough to count them.
    pub(super) are_named: bool,
}

impl Recipients {
    /// All of them, done or not.
    pub(super) fn sessions(&self) -> &Arc<Vec<SessionId>> {
        &self.sessions
    }

    /// How many were handed the message.
    pub(super) fn handed(&self) -> u32 {
        self.handed
    }

    /// How many are not done.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    pub(super) fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// Those that are not done.
    pub(super) fn iter(&self) -> impl Iterator<Item = (SessionId, Stage)> + '_ {
        let all = self.sessions.iter().zip(&self.stages);
        all.filter_map(|(session, stage)| Some((*session, (*stage)?)))
    }

    pub(super) fn contains(&self, session: SessionId) -> bool {
        self.place(session).is_ok_and(|at| self.stages[at].is_some())
    }

    pub(super) fn get_mut(&mut self, session: SessionId) -> Option<&mut Stage> {
        let at = self.place(session).ok()?;
        self.stages[at].as_mut()
    }

    /// One more, or again.
    pub(super) fn insert(&mut self, session: SessionId) {
        match self.place(session) {
            Ok(at) => self.left += usize::from(self.stages[at].replace(Stage::Queued).is_none()),
            Err(at) => {
                Arc::make_mut(&mut self.sessions).insert(at, session);
                self.stages.insert(at, Some(Stage::Queued));
                self.left += 1;
            }
        }
    }

    /// This one was handed the message; whether it was not done before.
    pub(super) fn hand(&mut self, session: SessionId) -> bool {
        let is_news = self.remove(session).is_some();
        self.handed += u32::from(is_news);
        is_news
    }

    /// It is done with this one; says how far it was, if it was not done before.
    pub(super) fn remove(&mut self, session: SessionId) -> Option<Stage> {
        let at = self.place(session).ok()?;
        let stage = self.stages[at].take()?;
        self.left -= 1;
        Some(stage)
    }

    fn place(&self, session: SessionId) -> Result<usize, usize> {
        self.sessions.binary_search(&session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions<const N: usize>(ids: [u64; N]) -> Vec<SessionId> {
        ids.map(SessionId).to_vec()
    }

    #[test]
    fn the_same_list_is_there_once_and_who_changes_it_has_its_own() {
        let mut last = LastRecipients::default();
        let mut one = last.begin(sessions([3, 1]));
        let other = last.begin(sessions([1, 3]));
        assert!(Arc::ptr_eq(one.sessions(), other.sessions()));
        one.insert(SessionId(2));
        assert_eq!(**one.sessions(), sessions([1, 2, 3]));
        assert_eq!(**other.sessions(), sessions([1, 3]));
        assert_eq!((one.left(), other.left()), (3, 2));
        assert_eq!(**last.begin(sessions([5])).sessions(), sessions([5]));
    }

    #[test]
    fn each_is_done_once() {
        let mut recipients = LastRecipients::default().begin(sessions([1, 2]));
        assert!(recipients.hand(SessionId(1)) && !recipients.hand(SessionId(1)));
        assert!(!recipients.hand(SessionId(9)), "nobody of these");
        assert_eq!(recipients.remove(SessionId(2)), Some(Stage::Queued));
        assert!(recipients.is_empty() && recipients.handed() == 1);
    }
}
