//! Who is connected: what the client port says of its sessions, kept for whoever asks.

use std::sync::Arc;

use amop_protocol::{SessionId, broker::event::Subscriber};
use dashmap::DashMap;

use crate::client_port::SessionInfo;

/// The sessions that are up.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    up: DashMap<SessionId, Entry>,
}

#[derive(Debug)]
struct Entry {
    info: Arc<SessionInfo>,
    instance: Option<u128>,
}

/// A session, as it was at some moment.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) info: Arc<SessionInfo>,
    /// The running application, if it named one.
    pub(super) instance: Option<u128>,
}

impl Sessions {
    /// A session is up.
    pub(super) fn opened(&self, info: &Arc<SessionInfo>) {
        self.up.insert(info.id, Entry { info: info.clone(), instance: None });
    }

    /// A session says who it is.
    pub(super) fn subscriber(&self, session: SessionId, subscriber: &Subscriber) {
        if let Some(mut entry) = self.up.get_mut(&session) {
            entry.instance = subscriber.instance;
        }
    }

    /// A session is gone.
    pub(super) fn closed(&self, session: SessionId) {
        self.up.remove(&session);
    }

    /// All of them, in the order they came.
    pub(super) fn all(&self) -> Vec<Session> {
        let read = |entry: &Entry| Session { info: entry.info.clone(), instance: entry.instance };
        let mut all: Vec<Session> = self.up.iter().map(|entry| read(&entry)).collect();
        all.sort_unstable_by_key(|session| session.info.id);
        all
    }
}
