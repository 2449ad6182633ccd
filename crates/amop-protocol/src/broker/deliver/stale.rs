//! Messages from before the window's memory: a relay that kept one must not make it run again.
//!
//! An origin numbers its sends upwards, so one numbered below another that came long ago is older
//! still. "Long ago" is the time for which messages are remembered, and no send lasts that long:
//! whatever is below that mark, and not remembered, has ended.

use std::{collections::BTreeMap, time::Duration};

use crate::{NodeId, Time, broker::routing::Routing};

/// Most lanes that are kept. Beyond it those of nodes out of reach are forgotten.
pub(crate) const MAX_LANES: usize = 65_536;

/// The numbers of sends that have come, by origin and the shard that made them there.
#[derive(Debug, Default)]
pub(super) struct Numbers(BTreeMap<(NodeId, u8), Lane>);

/// Numbers made by one shard of one start of a node.
#[derive(Clone, Copy, Debug)]
struct Lane {
    epoch: u64,
    newest: u64,
    /// The newest at the last turn, and at the one before that.
    turns: [u64; 2],
    turned: Time,
}

impl Numbers {
    /// Takes a number in; whether it is so old that its send must have ended. A turn comes at most
    /// every `memory`.
    pub(super) fn is_stale(
        &mut self,
        now: Time,
        memory: Duration,
        routing: &Routing,
        (origin, epoch): (NodeId, u64),
        number: u64,
    ) -> bool {
        if self.0.len() >= MAX_LANES {
            self.0.retain(|(node, _), _| routing.find(node).is_some());
        }
        let fresh = Lane { epoch, newest: 0, turns: [0; 2], turned: now };
        let lane = self.0.entry((origin, number as u8)).or_insert(fresh);
        if lane.epoch != epoch {
            *lane = fresh;
        }
        if now.since(lane.turned) >= memory {
            lane.turns = [lane.newest, lane.turns[0]];
            lane.turned = now;
        }
        lane.newest = lane.newest.max(number);
        number <= lane.turns[1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::testing::{id, routing};

    const MEMORY: Duration = Duration::from_secs(100);

    #[test]
    fn what_is_older_than_memory_is_stale_and_what_may_live_is_not() {
        let routing = routing(1, &[(1, 2)], &[], &[]);
        let mut numbers = Numbers::default();
        let mut stale = |secs: u64, epoch: u64, count: u64, lane: u64| {
            let now = Time::from_start(Duration::from_secs(secs));
            numbers.is_stale(now, MEMORY, &routing, (id(2), epoch), count << 8 | lane)
        };
        assert!(!stale(0, 7, 10, 1));
        assert!(!stale(50, 7, 20, 1));
        assert!(!stale(51, 7, 5, 1), "overtaken on the way");
        assert!(!stale(120, 7, 30, 1));
        assert!(!stale(121, 7, 15, 1), "begun after 50 s, perhaps, and alive");
        assert!(!stale(230, 7, 40, 1));
        assert!(stale(231, 7, 20, 1), "begun before 50 s: it lasted no longer than 150");
        assert!(stale(231, 7, 1, 1));
        assert!(!stale(231, 7, 25, 1), "begun after 50 s");
        assert!(!stale(231, 7, 1, 2), "another shard counts for itself");
        assert!(!stale(232, 8, 1, 1), "and so does another start");
    }
}
