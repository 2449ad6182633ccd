//! New certificates, and new views on whose are good, while the network goes on.
//!
//! A node whose certificate was renewed for the same key announces its identity once more, with a
//! higher sequence, in the same epoch: its links and topics stand, so nothing that is under way notices.

use bytes::Bytes;

use super::Control;
use crate::{
    NodeId, Time,
    broker::announce::{Identity, Unverified},
    wire::generated::{RecordKind, record::Content},
};

impl Control {
    /// This node has another certificate chain (DER, leaf first, without the root), for the same key,
    /// name and institution. Others will go by it.
    pub fn handle_renewed(&mut self, chain: Vec<Bytes>) {
        self.digest.take();
        let identity = self.own.renew(chain, &*self.authenticator);
        self.spread(&[identity], &Default::default());
    }

    /// What the authenticator believes has changed: nodes whose certificates it no longer believes are
    /// forgotten, as if they had gone out of reach long ago. Gives those of whom an identity is left.
    pub fn handle_trust_changed(&mut self, now: Time) -> Vec<NodeId> {
        self.digest.take();
        let known = self.known.iter().filter_map(|(id, known)| Some((*id, known.identity.as_ref()?)));
        let (believed, others): (Vec<_>, Vec<_>) =
            known.partition(|(_, identity)| self.still_believes(identity));
        let believed = believed.into_iter().map(|(id, _)| id).collect();
        let others: Vec<NodeId> = others.into_iter().map(|(id, _)| id).collect();
        if !others.is_empty() {
            for node in others {
                self.bury(now, node);
            }
            self.bound_tombstones();
            self.renewed = true;
            self.routes_changed(now);
        }
        believed
    }

    /// Another identity of a node in the epoch in which it is known.
    pub(super) fn renewed_by(&mut self, now: Time, node: NodeId, identity: Identity, bytes: usize) {
        let Some(known) = self.known.get_mut(&node) else { return };
        known.pace.charge(now, RecordKind::Identity, bytes, self.config.burst);
        known.identity = Some(identity);
        self.renewed = true;
        self.links_changed(now);
    }

    fn still_believes(&self, identity: &Identity) -> bool {
        let content = Unverified::decode(identity.record.clone()).and_then(|record| record.content());
        match content {
            Ok(Content::Identity(content)) => self.authenticator.still_believes(&content.chain),
            _ => false,
        }
    }
}
