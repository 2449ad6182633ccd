//! Who is at the other end of this node's sessions, as far as delivery asks.

use std::collections::{BTreeMap, BTreeSet};

use crate::{ClientIdentity, Fingerprint, SessionId, broker::event::Subscriber};

/// A running application: its certificate, and the instance it named.
type Application = (Fingerprint, u128);

/// Sessions that have topics, and who they are. One that is not here is nobody in particular.
#[derive(Debug, Default)]
pub(super) struct Subscribers {
    all: BTreeMap<SessionId, Subscriber>,
    /// Sessions of those that named an instance.
    by_application: BTreeMap<Application, BTreeSet<SessionId>>,
    /// Sessions of applications that have, or had, several.
    siblings: BTreeSet<SessionId>,
}

impl Subscribers {
    pub(super) fn insert(&mut self, session: SessionId, subscriber: Subscriber) {
        self.remove(session);
        if let Some(application) = application_of(&subscriber) {
            let sessions = self.by_application.entry(application).or_default();
            sessions.insert(session);
            match sessions.len() {
                1 => {}
                2 => self.siblings.extend(&*sessions),
                _ => drop(self.siblings.insert(session)),
            }
        }
        self.all.insert(session, subscriber);
    }

    pub(super) fn remove(&mut self, session: SessionId) {
        self.siblings.remove(&session);
        let Some(application) = self.all.remove(&session).as_ref().and_then(application_of) else { return };
        if let Some(sessions) = self.by_application.get_mut(&application) {
            sessions.remove(&session);
            if sessions.is_empty() {
                self.by_application.remove(&application);
            }
        }
    }

    pub(super) fn get(&self, session: &SessionId) -> Option<&Subscriber> {
        self.all.get(session)
    }

    /// Sessions of the application that has this certificate and named this instance; few, or none.
    pub(super) fn of_application(&self, client: &ClientIdentity, instance: Option<u128>) -> Vec<SessionId> {
        let sessions = instance.and_then(|instance| self.by_application.get(&(client.fingerprint, instance)));
        sessions.into_iter().flatten().copied().collect()
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
        // Most have one session.
        if !sessions.iter().any(|session| self.siblings.contains(session)) {
            return;
        }
        let named = |session: &SessionId| self.get(session).and_then(application_of);
        let mut seen = BTreeSet::new();
        sessions.sort_unstable();
        sessions.reverse();
        sessions.retain(|session| named(session).is_none_or(|name| seen.insert(name)));
        sessions.reverse();
    }
}

fn application_of(subscriber: &Subscriber) -> Option<Application> {
    Some((subscriber.client.fingerprint, subscriber.instance?))
}
