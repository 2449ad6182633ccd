//! When the shards are looked at, and by whom: one task for all of their timers.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use amop_protocol::{Time, broker::deliver::Delivery};
use tokio::sync::Notify;

use super::DataPath;
use crate::tasks::Tasks;

/// When the timer task will next look.
#[derive(Debug)]
pub(super) struct NextLook {
    /// In nanoseconds since the start.
    at: AtomicU64,
    sooner: Notify,
}

impl Default for NextLook {
    fn default() -> Self {
        Self { at: AtomicU64::new(u64::MAX), sooner: Notify::new() }
    }
}

impl NextLook {
    /// It looks at `at`, if not before.
    pub(super) fn by(&self, at: Time) {
        let at = nanos(at);
        if self.at.fetch_min(at, Ordering::AcqRel) > at {
            self.sooner.notify_one();
        }
    }
}

impl DataPath {
    /// Fires the shards' timers until the group ends. Woken when a timer is due, or an earlier one is set.
    pub(in crate::node) async fn run_timers(self: Arc<Self>, tasks: Tasks) {
        loop {
            // Before the shards are asked: a timer that is set meanwhile then counts as sooner, and
            // wakes this task again.
            self.next_look.at.store(u64::MAX, Ordering::Release);
            let next = self.shards.iter().filter_map(|shard| shard.lock().poll_timeout()).min();
            self.next_look.at.fetch_min(next.map_or(u64::MAX, nanos), Ordering::AcqRel);
            let due = next.map(|at| self.instant(at));
            tokio::select! {
                biased;
                () = tasks.cancelled() => return,
                () = sleep_until(due) => self.in_every_shard(Delivery::handle_timeout),
                () = self.next_look.sooner.notified() => {}
            }
        }
    }
}

/// Resolves at `due`, never if there is none. Cancel safe.
pub(in crate::node) async fn sleep_until(due: Option<tokio::time::Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

fn nanos(at: Time) -> u64 {
    u64::try_from(at.since_start().as_nanos()).unwrap_or(u64::MAX)
}
