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

/// The way of a report on a message of `to`: over the neighbour that brought the message, because
/// that way is known to work, while the table's may be the very one that swallows what is sent. To
/// one that had to ask again it is chosen in full; the first time the neighbour's table will do.
pub(super) fn way_back(routing: &Routing, to: NodeId, over: Option<NodeId>, resends: u32) -> Vec<NodeId> {
    let me = routing.me();
    let other = detour(routing, to, resends);
    let Some(over) = over.filter(|over| routing.graph().is_linked(&me, over)) else { return other };
    if other.first() == Some(&over) {
        return other;
    }
    if routing.find(&to).is_none_or(|node| node.next_hop == over) {
        return Vec::new();
    }
    let mut way = vec![over];
    if resends > 0 && over != to {
        let avoid: Vec<_> = std::iter::once(me).chain(usual(routing, to)).collect();
        way.extend(routing.graph().path(&over, &to, &avoid).unwrap_or_default());
    }
    if way.len() > usize::from(MAX_HOPS) { Vec::new() } else { way }
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

    #[test]
    fn a_report_goes_back_the_way_the_message_came() {
        for quicker in [2, 4] {
            let other = 6 - quicker;
            let routing = measured(1, RING, &[(quicker, Duration::from_millis(1))]);
            let back = |over, resends| way_back(&routing, id(3), over, resends);
            assert_eq!(back(None, 0), [], "by the table");
            for resends in 0..4 {
                assert_eq!(back(Some(id(quicker)), resends), [], "which leads there");
            }
            assert_eq!(back(Some(id(other)), 0), [id(other)]);
            for resends in 1..4 {
                assert_eq!(back(Some(id(other)), resends), [id(other), id(3)]);
            }
            assert_eq!(back(Some(id(9)), 0), [], "a link that is gone");
            assert_eq!(back(Some(id(9)), 1), [id(other), id(3)]);
        }
    }
}
