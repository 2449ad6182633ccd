//! A message on its way to this node's sessions: who asked for it, and who has had it.

use std::time::Duration;

use bytes::Bytes;

use super::{Requester, fan_out::NodeReport, recipients::Recipients, subscribers::Subscribers};
use crate::{
    Cause, SessionId, Time,
    broker::{
        budget::Hold,
        dedup::MessageKey,
        event::{PushId, Subscriber},
        journal::Key,
        routing::Routing,
    },
    mutations::{self, Mutation},
    wire::{peer::Envelope, recipients::Roster},
};

/// Sends, of whichever nodes, that may wait for the same message; more are ignored until they resend.
pub(crate) const MAX_REQUESTERS: usize = 8;

/// One request to hand a message to one subscriber here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    pub(super) requester: Requester,
    pub(super) number: u32,
    pub(super) push_timeout: Duration,
    pub(super) own: Own,
    /// Of a multicast: whether each recipient is to be reported.
    pub(super) recipients: bool,
}

/// What to do with the publishing session. The publisher's other sessions are left out always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Own {
    /// It is at another node.
    Elsewhere,
    /// It is left out.
    Not(SessionId),
    /// It alone is asked: nobody else is there.
    Only(SessionId),
}

/// A message that came for this node's sessions and is not done with.
#[derive(Debug)]
pub(super) struct Reception {
    pub(super) envelope: Envelope,
    pub(super) payload: Bytes,
    /// Its part of the node's budget, as long as there is a payload.
    pub(super) hold: Option<Hold>,
    pub(super) requesters: Vec<Waiting>,
    /// Sessions that have had it, or could not; of a multicast only the latter.
    pub(super) tried: Vec<SessionId>,
    /// Applications with several sessions that it came to; they are not given it again by another.
    pub(super) reached: Vec<Subscriber>,
    /// Multicast: how each recipient fared, if somebody asked.
    pub(super) roster: Option<Box<Roster>>,
    /// Unicast: attempts that failed, so that a lost report can be repeated.
    pub(super) failed: Vec<(Requester, u32, Cause)>,
    pub(super) push: Option<PushId>,
    /// Without a push: how long the next attempt is waited for.
    pub(super) rests_until: Time,
    /// Whether it stands in `Delivery::resting`.
    pub(super) listed: bool,
    pub(super) lost: u32,
    pub(super) worst: Cause,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) requester: Requester,
    pub(super) number: u32,
    pub(super) resends: u32,
    /// Whether each recipient is to be reported.
    pub(super) recipients: bool,
}

impl Waiting {
    /// What journals know the message by.
    pub(super) fn key(&self) -> Key {
        Key::new(self.requester.node, self.requester.send)
    }

    /// Who asks for something that is known.
    pub(super) fn again(attempt: &Attempt) -> Self {
        let Attempt { requester, number, recipients, .. } = *attempt;
        Self { requester, number, resends: 1, recipients }
    }
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
    One {
        session: SessionId,
        stage: Stage,
    },
    /// Those who have not been handed it yet.
    All(Recipients),
}

/// How far a push has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Queued,
    /// Written to a session that has not said that it received it.
    Written,
    Handed,
}

impl Stage {
    /// Why a push that has stopped here failed.
    pub(super) fn timed_out(self) -> Cause {
        if self == Self::Queued { Cause::WriteFailed } else { Cause::PushTimeout }
    }
}

impl ActivePush {
    pub(super) fn concerns(&self, session: SessionId) -> bool {
        match &self.to {
            To::One { session: one, .. } => *one == session,
            To::All(sessions) => sessions.contains(session),
        }
    }

    /// Its frame was written to this session.
    pub(super) fn written(&mut self, session: SessionId) {
        let stage = match &mut self.to {
            To::One { session: one, stage } => Some(stage).filter(|_| *one == session),
            To::All(sessions) => sessions.get_mut(session),
        };
        if let Some(stage) = stage.filter(|stage| **stage == Stage::Queued) {
            *stage = Stage::Written;
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
            reached: Vec::new(),
            roster: None,
            failed: Vec::new(),
            push: None,
            rests_until: Time::ZERO,
            listed: false,
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
            known.recipients |= attempt.recipients;
            return Some(*known);
        }
        if self.requesters.len() == MAX_REQUESTERS {
            return None;
        }
        let waiting = Waiting { resends: 0, ..Waiting::again(&attempt) };
        self.requesters.push(waiting);
        Some(waiting)
    }

    /// Of a multicast that was handed to this many: how it fares, while others are waited for.
    pub(super) fn so_far(&self, handed: u32) -> NodeReport {
        NodeReport { counts: [handed, self.lost], cause: self.worst, complete: false, roster: Bytes::new() }
    }

    pub(super) fn failure_of(&self, requester: Requester, number: u32) -> Option<Cause> {
        self.failed
            .iter()
            .rev()
            .find(|(who, n, _)| *who == requester && *n == number)
            .map(|(_, _, cause)| *cause)
    }

    /// Sessions here that it is for and that have not had it.
    pub(super) fn untried(&self, routing: &Routing, subscribers: &Subscribers, own: Own) -> Vec<SessionId> {
        let routes = routing.topic(self.envelope.topic.as_str());
        let sessions = routes.map_or(&[][..], |routes| &routes.sessions);
        let publishers = self.publishers(subscribers);
        let may_have = |session: &SessionId| match own {
            Own::Only(publisher) => *session == publisher,
            Own::Not(publisher) => *session != publisher && !publishers.contains(session),
            Own::Elsewhere => !publishers.contains(session),
        };
        let untried = sessions.iter().filter(|session| may_have(session) && !self.tried.contains(session));
        let named = self.envelope.topic.is_reserved().then(|| self.named(routing));
        let admitted = untried.filter(|session| admits(named, **session));
        admitted.filter(|session| self.is_for(session, subscribers)).copied().collect()
    }

    /// Of a reserved name: the sessions here that it is for.
    fn named(&self, routing: &Routing) -> &[SessionId] {
        let me = routing.me();
        let epoch = routing.find(&me).map_or(0, |me| me.epoch);
        self.envelope.sessions_at(&me, epoch)
    }

    /// Sessions that it names, though they do not have its topic, or not any longer.
    pub(super) fn gone(&self, routing: &Routing) -> usize {
        let sessions = routing.topic(self.envelope.topic.as_str()).map_or(&[][..], |routes| &routes.sessions);
        self.named(routing).iter().filter(|session| sessions.binary_search(session).is_err()).count()
    }

    /// Sessions here of the application that published it.
    fn publishers(&self, subscribers: &Subscribers) -> Vec<SessionId> {
        if mutations::on(Mutation::PublisherIsRecipientElsewhere) {
            return Vec::new();
        }
        subscribers.of_application(&self.envelope.publisher, self.envelope.instance)
    }

    fn is_for(&self, session: &SessionId, subscribers: &Subscribers) -> bool {
        let had = |other: &Subscriber| subscribers.get(session).is_some_and(|who| who.is_same(other));
        let wanted = self.envelope.client.as_ref();
        wanted.is_none_or(|client| subscribers.has_certificate(session, client))
            && !self.reached.iter().any(had)
    }
}

/// Whether a session may have a message that, if its name is reserved, is for those named.
fn admits(named: Option<&[SessionId]>, session: SessionId) -> bool {
    named.is_none_or(|named| {
        named.binary_search(&session).is_ok() || !named.is_empty() && mutations::on(Mutation::NodeIsVerified)
    })
}
