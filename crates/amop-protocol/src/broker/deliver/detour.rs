//! Ways around the usual one.

use crate::{NodeId, broker::routing::Routing, limits::MAX_HOPS};

/// Another way to `to` for the resends: every second one leaves the table's way where it can, so
/// that a relay which swallows frames without losing its links is passed by.
pub(super) fn detour(routing: &Routing, to: NodeId, resends: u32) -> Vec<NodeId> {
    if resends.is_multiple_of(2) {
        return Vec::new();
    }
    let path = routing.graph().path(&routing.me(), &to, &usual(routing, to)).unwrap_or_default();
    if path.len() > usize::from(MAX_HOPS) { Vec::new() } else { path }
}

/// The table's way. Of several that are equally short the graph alone would name another: the
/// table chooses by what it has measured.
fn usual(routing: &Routing, to: NodeId) -> Vec<NodeId> {
    let Some(node) = routing.find(&to) else { return Vec::new() };
    let mut way = vec![node.next_hop];
    if node.next_hop != to {
        way.extend(routing.graph().path(&node.next_hop, &to, &[routing.me()]).unwrap_or_default());
    }
    way
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::broker::testing::{id, measured};

    const RING: &[(u8, u8)] = &[(1, 2), (2, 3), (3, 4), (4, 1)];

    #[test]
    fn the_other_way_is_not_the_one_that_was_measured_to_be_quicker() {
        for quicker in [2, 4] {
            let routing = measured(1, RING, &[(quicker, Duration::from_millis(1))]);
            assert_eq!(routing.find(&id(3)).unwrap().next_hop, id(quicker));
            assert_eq!(detour(&routing, id(3), 1), [id(6 - quicker), id(3)]);
            assert_eq!(detour(&routing, id(3), 2), []);
        }
    }
}
