//! What delivery holds, and what it has counted: for status, metrics and whoever stops the node.

use std::time::Instant;

use amop_protocol::broker::deliver::Counters;

use super::DataPath;
use crate::telemetry::overview::Failed;

/// What delivery holds at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::node) struct Standing {
    /// Messages given to sessions and not answered.
    pub(in crate::node) pushes: usize,
    /// Messages remembered.
    pub(in crate::node) remembered: usize,
    /// Bytes of their outcomes.
    pub(in crate::node) remembered_bytes: usize,
    /// Messages that failed at a session and may be asked for again.
    pub(in crate::node) resting: usize,
    /// Timers that are armed, most of which will find nothing to do.
    pub(in crate::node) timers: usize,
}

impl DataPath {
    /// Payload bytes held now.
    pub(in crate::node) fn held_bytes(&self) -> usize {
        self.budget.held()
    }

    /// Whether anything is in flight: sends of own clients, or pushes to them.
    pub(in crate::node) fn is_busy(&self) -> bool {
        self.shards.iter().any(|shard| shard.lock().is_busy())
    }

    /// Sends that ended with each cause, in order of the causes' numbers.
    pub(in crate::node) fn endings(&self) -> Vec<u64> {
        self.metrics.endings()
    }

    /// The last sends that failed.
    pub(in crate::node) fn failures(&self) -> Vec<Failed> {
        self.failures.show(Instant::now())
    }

    /// Sends without an outcome.
    pub(in crate::node) fn in_flight(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().in_flight()).sum()
    }

    /// What is held now, in all shards together.
    pub(in crate::node) fn standing(&self) -> Standing {
        let mut all = Standing::default();
        for shard in &self.shards {
            let shard = shard.lock();
            let loads = shard.window_loads();
            let (sent, received) = shard.remembered();
            all.pushes += shard.running().1;
            all.remembered += sent + received;
            all.remembered_bytes += loads.iter().map(|load| load.bytes).sum::<usize>();
            all.resting += shard.resting();
            all.timers += shard.timers();
        }
        all
    }

    /// The sum over all shards of something they have counted.
    pub(in crate::node) fn counted(&self, what: impl Fn(&Counters) -> u64) -> u64 {
        self.shards.iter().map(|shard| what(&shard.lock().counters())).sum()
    }
}
