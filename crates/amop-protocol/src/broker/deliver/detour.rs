//! Ways around the usual one.

use crate::{NodeId, broker::routing::Routing, limits::MAX_HOPS};

/// Another way to `to` for the resends: every second one leaves the table's way where it can, so
/// that a relay which swallows frames without losing its links is passed by.
pub(super) fn detour(routing: &Routing, to: NodeId, resends: u32) -> Vec<NodeId> {
    if resends.is_multiple_of(2) {
        return Vec::new();
    }
    let me = routing.me();
    let graph = routing.graph();
    let usual = graph.path(&me, &to, &[]).unwrap_or_default();
    let path = graph.path(&me, &to, &usual).unwrap_or_default();
    if path.len() > usize::from(MAX_HOPS) { Vec::new() } else { path }
}
