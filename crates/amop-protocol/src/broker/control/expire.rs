//! Who is forgotten, and what stays of them.

use std::collections::BTreeSet;

use super::Control;
use crate::{NodeId, Time, broker::routing::NodeIndex};

impl Control {
    /// The node that has been out of reach the longest: it gives way to a newcomer.
    pub(super) fn longest_gone(&self, now: Time) -> Option<NodeId> {
        let known = self.known.iter().filter(|(_, known)| known.identity.is_some());
        let gone = known.filter(|(id, _)| !self.topology.ways().contains_key(*id));
        gone.min_by_key(|(_, known)| known.unreachable_since.unwrap_or(now)).map(|(id, _)| *id)
    }

    pub(super) fn bury(&mut self, now: Time, node: NodeId) {
        self.counters.expired += 1;
        self.forget(now, node);
        if let Some(known) = self.known.get_mut(&node) {
            known.bury();
        }
    }

    /// Lists of nodes that have been out of reach for long are dropped; their versions stay.
    pub(super) fn expire(&mut self, now: Time) {
        let mut expired = Vec::new();
        for (id, known) in self.known.iter_mut().filter(|(_, known)| known.identity.is_some()) {
            if self.topology.ways().contains_key(id) {
                known.unreachable_since = None;
            } else if now.since(*known.unreachable_since.get_or_insert(now)) >= self.config.expiry {
                expired.push(*id);
            }
        }
        let any = !expired.is_empty();
        expired.into_iter().for_each(|node| self.bury(now, node));
        self.bound_tombstones();
        if any {
            self.topology.recompute();
            self.publish_routing(true);
            self.put_questions();
        }
    }

    pub(super) fn bound_tombstones(&mut self) {
        let tombstones = self.known.len() + 1 - self.indices.len().min(self.known.len() + 1);
        let buried: Vec<NodeId> =
            self.known.iter().filter(|(_, known)| known.identity.is_none()).map(|(id, _)| *id).collect();
        for node in buried.into_iter().take(tombstones.saturating_sub(self.config.max_tombstones)) {
            self.known.remove(&node);
            self.counters.tombstones_forgotten += 1;
        }
    }

    /// A place for a node in the tables of the snapshot.
    pub(super) fn index_of(&mut self, node: NodeId) -> NodeIndex {
        if let Some(index) = self.indices.get(&node) {
            return *index;
        }
        let next = NodeIndex(self.indices.len() as u32);
        let index = self.free.pop().unwrap_or(next);
        self.indices.insert(node, index);
        index
    }

    /// Takes a node out of routes and topics; its place may be given to another.
    pub(super) fn forget(&mut self, now: Time, node: NodeId) {
        self.topology.announced(node, BTreeSet::new());
        self.verification.handle_node_gone(now, node);
        if let Some(index) = self.indices.remove(&node) {
            let topics = self.known.get(&node).into_iter().flat_map(|known| known.topics.counts());
            let gone: Vec<_> = topics.map(|(topic, _)| (topic.clone(), 0)).collect();
            self.subscriptions.announce(index, node, gone);
            self.free.push(index);
        }
    }
}
