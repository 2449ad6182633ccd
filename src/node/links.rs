//! The links that are up, by neighbour: looked up by every task, changed by control only.

use std::time::Duration;

use amop_protocol::{
    NodeId,
    wire::{generated::control::Message, link::LinkFrame},
};
use dashmap::DashMap;

use crate::overlay::{Link, LinkId};

/// Links by neighbour.
#[derive(Debug, Default)]
pub(super) struct Links {
    by_peer: DashMap<NodeId, Entry>,
}

#[derive(Debug)]
struct Entry {
    link: Link,
    round_trip: Option<Duration>,
}

impl Links {
    /// A link is up.
    pub(super) fn insert(&self, link: Link) {
        self.by_peer.insert(link.peer(), Entry { link, round_trip: None });
    }

    /// That very link is down; a newer one to the same neighbour stays.
    pub(super) fn remove(&self, peer: NodeId, link: LinkId) -> bool {
        self.by_peer.remove_if(&peer, |_, entry| entry.link.id() == link).is_some()
    }

    /// Whether that very link is the one to this neighbour.
    pub(super) fn is_current(&self, peer: NodeId, link: LinkId) -> bool {
        self.by_peer.get(&peer).is_some_and(|entry| entry.link.id() == link)
    }

    /// Queues a frame; false if there is no link or its queue is full.
    pub(super) fn send(&self, to: NodeId, frame: LinkFrame) -> bool {
        self.by_peer.get(&to).is_some_and(|entry| entry.link.try_send(frame).is_ok())
    }

    /// Queues a control message; false if there is no link or its queue is full.
    pub(super) fn send_control(&self, to: NodeId, message: Message) -> bool {
        self.by_peer.get(&to).is_some_and(|entry| entry.link.send_control(message).is_ok())
    }

    /// A neighbour's round-trip time was measured.
    pub(super) fn measured(&self, peer: NodeId, round_trip: Duration) {
        if let Some(mut entry) = self.by_peer.get_mut(&peer) {
            entry.round_trip = Some(round_trip);
        }
    }

    /// The last round-trip time measured to a neighbour.
    pub(super) fn round_trip(&self, peer: NodeId) -> Option<Duration> {
        self.by_peer.get(&peer)?.round_trip
    }

    /// Links that are up.
    pub(super) fn len(&self) -> usize {
        self.by_peer.len()
    }
}
