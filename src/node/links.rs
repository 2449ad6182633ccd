//! The links that are up, by neighbour: looked up by every task, changed by control only.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use amop_protocol::{
    NodeId,
    wire::{generated::control::Message, link::LinkFrame},
};
use dashmap::DashMap;

use crate::{
    overlay::{Link, LinkId, Peer},
    telemetry::status::{self, Traffic},
};

/// Samples kept of a link; rates are those between the oldest and now.
const SAMPLES: usize = 10;

/// Links by neighbour.
#[derive(Debug, Default)]
pub(super) struct Links {
    by_peer: DashMap<NodeId, Entry>,
}

#[derive(Debug)]
struct Entry {
    link: Link,
    address: SocketAddr,
    since: Instant,
    round_trip: Option<Duration>,
    samples: VecDeque<Sample>,
}

/// What had passed on a link at some moment: frames and bytes received, frames and bytes sent.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    counts: [u64; 4],
}

impl Links {
    /// A link is up.
    pub(super) fn insert(&self, peer: &Peer, link: Link) {
        let (address, since) = (peer.address, Instant::now());
        let entry = Entry { link, address, since, round_trip: None, samples: VecDeque::new() };
        self.by_peer.insert(entry.link.peer(), entry);
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

    /// The last round-trip times measured to all neighbours.
    pub(super) fn round_trips(&self) -> Vec<Duration> {
        self.by_peer.iter().filter_map(|entry| entry.round_trip).collect()
    }

    /// Bytes queued towards each neighbour.
    pub(super) fn queued(&self) -> Vec<usize> {
        self.by_peer.iter().map(|entry| entry.link.queued()).collect()
    }

    /// Links that are up.
    pub(super) fn len(&self) -> usize {
        self.by_peer.len()
    }

    /// Notes what has passed on each link, for rates.
    pub(super) fn sample(&self) {
        for mut entry in self.by_peer.iter_mut() {
            let sample = entry.now();
            if entry.samples.len() >= SAMPLES {
                entry.samples.pop_front();
            }
            entry.samples.push_back(sample);
        }
    }

    /// How the link to a neighbour is doing.
    pub(super) fn status(&self, peer: NodeId) -> Option<status::Link> {
        let entry = self.by_peer.get(&peer)?;
        let [received, sent] = entry.traffic();
        Some(status::Link {
            address: entry.address,
            up_seconds: entry.since.elapsed().as_secs(),
            queued_bytes: entry.link.queued() as u64,
            received,
            sent,
        })
    }
}

impl Entry {
    fn now(&self) -> Sample {
        let passed = self.link.passed();
        let counts =
            [&passed.frames_received, &passed.bytes_received, &passed.frames_queued, &passed.bytes_sent];
        Sample { at: Instant::now(), counts: counts.map(|count: &AtomicU64| count.load(Ordering::Relaxed)) }
    }

    /// What was received, and what was sent.
    fn traffic(&self) -> [Traffic; 2] {
        let now = self.now();
        let rates = self.samples.front().and_then(|before| rates(before, &now));
        [0, 2].map(|at| Traffic {
            frames: now.counts[at],
            bytes: now.counts[at + 1],
            frames_per_second: rates.map(|rates| rates[at]),
            bytes_per_second: rates.map(|rates| rates[at + 1]),
        })
    }
}

/// What passed in a second between two moments; `None` if they are too near to each other to tell.
fn rates(before: &Sample, now: &Sample) -> Option<[u64; 4]> {
    let millis = u64::try_from(now.at.saturating_duration_since(before.at).as_millis()).unwrap_or(u64::MAX);
    let rate = |at: usize| {
        let passed = u128::from(now.counts[at].saturating_sub(before.counts[at]));
        u64::try_from(passed * 1000 / u128::from(millis)).unwrap_or(u64::MAX)
    };
    (millis >= 500).then(|| [rate(0), rate(1), rate(2), rate(3)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_what_passed_in_a_second() {
        let start = Instant::now();
        let sample = |millis, counts| Sample { at: start + Duration::from_millis(millis), counts };
        let before = sample(0, [10, 1_000, 0, u64::MAX]);
        assert_eq!(rates(&before, &sample(2_000, [30, 5_000, 1, 0])), Some([10, 2_000, 0, 0]));
        assert_eq!(rates(&before, &sample(499, [30, 5_000, 1, 0])), None, "too soon");
        assert_eq!(rates(&sample(5_000, [0; 4]), &before), None);
    }
}
