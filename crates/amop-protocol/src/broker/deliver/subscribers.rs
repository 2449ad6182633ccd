//! Who is at the other end of this node's sessions, as far as delivery asks.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Fingerprint, SessionId, broker::event::Subscriber};

/// Sessions that have topics, and who they are. One that is not here is nobody in particular.
#[derive(Debug, Default)]
pub(super) struct Subscribers(BTreeMap<SessionId, Subscriber>);

impl Subscribers {
    pub(super) fn insert(&mut self, session: SessionId, subscriber: Subscriber) {
        self.0.insert(session, subscriber);
    }

    pub(super) fn remove(&mut self, session: SessionId) {
        self.0.remove(&session);
    }

    pub(super) fn get(&self, session: &SessionId) -> Option<&Subscriber> {
        self.0.get(session)
    }

    pub(super) fn has_certificate(&self, session: &SessionId, client: &Fingerprint) -> bool {
        self.get(session).is_some_and(|subscriber| subscriber.client.fingerprint == *client)
    }

    /// Whether both are sessions of one running application, or one and the same session.
    pub(super) fn are_same(&self, one: &SessionId, other: &SessionId) -> bool {
        one == other || self.get(one).zip(self.get(other)).is_some_and(|(one, other)| one.is_same(other))
    }

    /// Leaves one session of each running application: the newest, which is the likeliest to live.
    pub(super) fn one_each(&self, sessions: &mut Vec<SessionId>) {
        let named = |session: &SessionId| {
            self.get(session).and_then(|who| Some((who.client.fingerprint, who.instance?)))
        };
        let mut seen = BTreeSet::new();
        sessions.sort_unstable();
        sessions.reverse();
        sessions.retain(|session| named(session).is_none_or(|name| seen.insert(name)));
        sessions.reverse();
    }
}
