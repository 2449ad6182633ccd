//! Private topics: what sessions here and elsewhere hold goes into
//! [`Verification`](crate::broker::private::Verification), and what it decides comes out as questions and
//! as part of the snapshot.
//!
//! **Invariant**: the snapshot under which a challenge may be sent is out before its question.

use std::{collections::BTreeMap, sync::Arc};

use super::{Action, Control};
use crate::{
    ClientIdentity, NodeId, SessionId, Time, Topic,
    broker::{
        lists::HolderChange,
        private::{Holder, Question, Reserved},
    },
};

impl Control {
    /// A session's verdict on what it was asked; anything else changes nothing and is counted.
    pub fn handle_verdict(
        &mut self,
        now: Time,
        from: SessionId,
        question: &str,
        topic: &Topic,
        trusted: bool,
    ) {
        match Question::from_hex(question) {
            Some(question) => self.verification.handle_verdict(now, from, question, topic, trusted),
            None => self.verification.stray(),
        }
        self.verification_changed();
    }

    /// What a session of this node holds of reserved names.
    pub(super) fn verify_own(
        &mut self,
        now: Time,
        session: SessionId,
        client: Option<&Arc<ClientIdentity>>,
        topics: &[Topic],
    ) {
        let at = Holder { node: self.own.id(), epoch: self.own.epoch, session };
        let topics = topics.iter().filter(|topic| topic.is_reserved()).cloned().collect();
        let reserved = client.map(|client| Reserved { client: client.clone(), topics });
        self.verification.handle_session(now, at, reserved.filter(|reserved| !reserved.topics.is_empty()));
    }

    /// What another node says that its sessions hold, or do no longer.
    pub(super) fn verify_others(&mut self, now: Time, node: NodeId, changes: Vec<HolderChange>) {
        let Some(epoch) = self.known.get(&node).map(|known| known.epoch) else { return };
        let mut sessions: BTreeMap<SessionId, Vec<HolderChange>> = BTreeMap::new();
        for change in changes {
            sessions.entry(change.1).or_default().push(change);
        }
        for (session, changes) in sessions {
            self.verification.handle_changes(now, Holder { node, epoch, session }, changes);
        }
    }

    /// Puts in force what was decided, and asks what is to be asked.
    pub(super) fn verification_changed(&mut self) {
        if self.verification.has_changed() {
            self.publish_routing(false);
        }
        self.put_questions();
    }

    pub(super) fn put_questions(&mut self) {
        while let Some(ask) = self.verification.poll_action() {
            self.actions.push_back(Action::Ask(ask));
        }
    }
}
