//! What becomes of a data frame that came over a link: for this node, onwards, or both.
//!
//! Stateless: it reads the route in the header and the routing snapshot, nothing else. A relay
//! passes header and payload on as they are and only lowers the hop limit.

use std::collections::BTreeMap;

use crate::{
    Cause, NodeId,
    broker::routing::Routing,
    wire::{
        link::LinkFrame,
        peer::{self, DataError, Route},
    },
};

/// The verdict on one frame.
#[derive(Clone, Debug, Default)]
pub struct Routed {
    /// This node is one of its destinations.
    pub here: bool,
    /// Copies for neighbours: one each, split where the ways branch.
    pub onwards: Vec<(NodeId, LinkFrame)>,
    /// Why some destination gets no copy; the origin will send again.
    pub dropped: Option<Cause>,
}

/// Decides what becomes of `frame`, which came from the neighbour `from`.
///
/// # Errors
/// When the header breaks the protocol; the neighbour is at fault.
pub fn route_frame(routing: &Routing, from: NodeId, frame: &LinkFrame) -> Result<Routed, DataError> {
    let mut route = peer::decode_route(&frame.header)?;
    let me = routing.me();
    let all = route.destinations.len();
    route.destinations.retain(|node| *node != me);
    let mut routed = Routed { here: route.destinations.len() < all, ..Routed::default() };
    if route.destinations.is_empty() {
        return Ok(routed);
    }
    let Some(hops) = frame.hops.checked_sub(1) else {
        routed.dropped = Some(Cause::HopLimit);
        return Ok(routed);
    };
    let onward = LinkFrame { hops, ..frame.clone() };
    if route.path.is_empty() {
        by_table(routing, from, &onward, &route, all, &mut routed)?;
    } else {
        by_path(routing, &onward, route, &mut routed)?;
    }
    Ok(routed)
}

fn by_path(
    routing: &Routing,
    onward: &LinkFrame,
    mut route: Route,
    routed: &mut Routed,
) -> Result<(), DataError> {
    let next = route.path.remove(0);
    if !routing.graph().is_linked(&routing.me(), &next) {
        routed.dropped = Some(Cause::Unreachable);
        return Ok(());
    }
    let header = peer::reroute(&onward.header, &route)?;
    routed.onwards.push((next, LinkFrame { header, ..onward.clone() }));
    Ok(())
}

fn by_table(
    routing: &Routing,
    from: NodeId,
    onward: &LinkFrame,
    route: &Route,
    all: usize,
    routed: &mut Routed,
) -> Result<(), DataError> {
    let mut by_hop: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
    for node in &route.destinations {
        match routing.find(node).map(|node| node.next_hop) {
            Some(hop) if hop != from => by_hop.entry(hop).or_default().push(*node),
            _ => routed.dropped = Some(Cause::Unreachable),
        }
    }
    for (hop, destinations) in by_hop {
        let header = if destinations.len() == all {
            onward.header.clone()
        } else {
            peer::reroute(&onward.header, &Route { destinations, path: Vec::new() })?
        };
        routed.onwards.push((hop, LinkFrame { header, ..onward.clone() }));
    }
    Ok(())
}
