//! What delivery writes into its journal. Nothing here decides anything.

use super::{Delivery, Requester, send::Send};
use crate::{
    Cause, ClientIdentity, NodeId, SessionId,
    broker::{
        event::Publish,
        journal::{Brief, Journal, Key, Label, Name, Step, Why},
    },
    wire::peer::{Envelope, SendRef},
};

impl Delivery {
    /// Who is at the other end of a session, if it has subscribed and is still there.
    pub fn client_of(&self, session: SessionId) -> Option<&ClientIdentity> {
        self.subscribers.get(&session).map(|who| &*who.client)
    }

    /// What this shard has written down.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// A step of one of this node's own sends.
    pub(super) fn note_send(&mut self, id: u64, attempt: u32, step: Step) {
        let send = SendRef { epoch: self.epoch, id };
        self.journal.note(Key::new(self.me, send), attempt, step);
    }

    /// A step of a message that some node asked to hand over here.
    pub(super) fn note_for(&mut self, requester: &Requester, attempt: u32, step: Step) {
        self.journal.note(Key::new(requester.node, requester.send), attempt, step);
    }

    /// A client publishes.
    pub(super) fn note_published(&mut self, id: u64) {
        if let Some(Send { publish, .. }) = self.sends.get(&id) {
            let step =
                Step::Published { seq: publish.seq, topic: Name::of(&publish.topic), mode: publish.mode };
            let context = Step::context_of(publish);
            self.note_send(id, 0, step);
            if let Some(context) = context {
                self.note_send(id, 0, context);
            }
        }
    }

    /// A client publishes, and it ends before it has become a send.
    pub(super) fn note_at_once(&mut self, publish: &Publish, cause: Cause) {
        let step = Step::AtOnce { seq: publish.seq, topic: Name::of(&publish.topic), cause };
        self.note_send(0, 0, step);
        if let Some(context) = Step::context_of(publish) {
            self.note_send(0, 0, context);
        }
    }

    /// A message is on its way to one node or more; `why` it is sent again, if it is.
    pub(super) fn note_sent(
        &mut self,
        (id, attempt): (u64, u32),
        (to, nodes): (Option<NodeId>, usize),
        via: Option<NodeId>,
        why: Option<Why>,
    ) {
        let Some(first) = to.map(Brief::from) else { return };
        let step = match (via.map(Brief::from), why) {
            (None, _) => Step::NoWay { to: first },
            (Some(via), Some(why)) => Step::Resent { to: first, via, why },
            (Some(via), None) => Step::Sent { to: first, via, nodes: nodes as u32 },
        };
        self.note_send(id, attempt, step);
    }

    /// Nothing is waited for from these destinations of a multicast any longer.
    pub(super) fn note_given_up(&mut self, id: u64, nodes: &[NodeId], cause: Cause) {
        for node in nodes {
            self.note_send(id, 0, Step::Failed { at: (*node).into(), cause });
        }
    }

    /// A message comes, for the first time.
    pub(super) fn note_arrived(&mut self, requester: &Requester, attempt: u32, envelope: &Envelope) {
        let over = requester.over.unwrap_or(requester.node).into();
        let step = Step::Arrived { seq: envelope.seq, topic: Name::of(&envelope.topic), over };
        self.note_for(requester, attempt, step);
        if let Some(context) = envelope.context {
            let topic = Label::of(&envelope.topic);
            self.note_for(requester, attempt, Step::Context { context, topic });
        }
    }

    /// A message comes that is known.
    pub(super) fn note_again(&mut self, requester: &Requester, attempt: u32) {
        let over = requester.over.unwrap_or(requester.node).into();
        self.note_for(requester, attempt, Step::Again { over });
    }
}
