//! A message on its way to this node's sessions: who asked for it, and who has had it.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;

use super::Requester;
use crate::{
    Cause, SessionId, Time,
    broker::{budget::Hold, dedup::MessageKey, event::PushId, routing::Routing},
    wire::peer::Envelope,
};

/// Sends, of whichever nodes, that may wait for the same message; more are ignored until they resend.
pub(crate) const MAX_REQUESTERS: usize = 8;

/// One request to hand a message to one subscriber here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    pub(super) requester: Requester,
    pub(super) number: u32,
    pub(super) push_timeout: Duration,
    /// The publishing session, unless it is the only subscriber.
    pub(super) exclude: Option<SessionId>,
}

/// A message that came for this node's sessions and is not done with.
#[derive(Debug)]
pub(super) struct Reception {
    pub(super) envelope: Envelope,
    pub(super) payload: Bytes,
    /// Its part of the node's budget, as long as there is a payload.
    pub(super) hold: Option<Hold>,
    pub(super) requesters: Vec<Waiting>,
    /// Unicast: sessions that have had it.
    pub(super) tried: Vec<SessionId>,
    /// Unicast: attempts that failed, so that a lost report can be repeated.
    pub(super) failed: Vec<(Requester, u32, Cause)>,
    pub(super) push: Option<PushId>,
    /// Without a push: how long the next attempt is waited for.
    pub(super) rests_until: Time,
    /// Whether it stands in `Delivery::resting`.
    pub(super) listed: bool,
    pub(super) handed: u32,
    pub(super) lost: u32,
    pub(super) worst: Cause,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) requester: Requester,
    pub(super) number: u32,
    pub(super) resends: u32,
}

/// A message given to one session, or to several at once, and not yet done with.
#[derive(Debug)]
pub(super) struct ActivePush {
    pub(super) key: MessageKey,
    pub(super) deadline: Time,
    pub(super) to: To,
}

#[derive(Debug)]
pub(super) enum To {
    One { session: SessionId, handed: bool },
    All(BTreeSet<SessionId>),
}

impl ActivePush {
    pub(super) fn concerns(&self, session: SessionId) -> bool {
        match &self.to {
            To::One { session: one, .. } => *one == session,
            To::All(sessions) => sessions.contains(&session),
        }
    }
}

impl Reception {
    pub(super) fn new(envelope: Envelope, payload: Bytes, hold: Hold) -> Self {
        Self {
            envelope,
            payload,
            hold: Some(hold),
            requesters: Vec::new(),
            tried: Vec::new(),
            failed: Vec::new(),
            push: None,
            rests_until: Time::ZERO,
            listed: false,
            handed: 0,
            lost: 0,
            worst: Cause::NoSubscriber,
        }
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.payload.len()
    }

    /// Adds a requester, or notes that it asked again.
    pub(super) fn join(&mut self, attempt: Attempt) -> Option<Waiting> {
        if let Some(known) = self.requesters.iter_mut().find(|known| known.requester == attempt.requester) {
            known.requester.over = attempt.requester.over;
            known.number = attempt.number;
            known.resends += 1;
            return Some(*known);
        }
        if self.requesters.len() == MAX_REQUESTERS {
            return None;
        }
        let waiting = Waiting { requester: attempt.requester, number: attempt.number, resends: 0 };
        self.requesters.push(waiting);
        Some(waiting)
    }

    pub(super) fn failure_of(&self, requester: Requester, number: u32) -> Option<Cause> {
        self.failed
            .iter()
            .rev()
            .find(|(who, n, _)| *who == requester && *n == number)
            .map(|(_, _, cause)| *cause)
    }

    pub(super) fn untried(&self, routing: &Routing) -> Vec<SessionId> {
        let routes = routing.topic(self.envelope.topic.as_str());
        let sessions = routes.map_or(&[][..], |routes| &routes.sessions);
        sessions.iter().filter(|session| !self.tried.contains(session)).copied().collect()
    }
}
