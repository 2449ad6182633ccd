//! What becomes of a data frame that came over a link: for this node, onwards, or both.
//!
//! Stateless: it reads the route in the header and the routing snapshot, nothing else. A relay
//! passes header and payload on as they are and only lowers the hop limit.

use bytes::Bytes;
use smallvec::{SmallVec, smallvec};

use crate::{
    Cause, NodeId,
    broker::{bandwidth::Refusal, routing::Routing, seal},
    wire::{
        link::LinkFrame,
        peer::{self, Body, DataError, DataMessage, Route, SendRef},
    },
};

/// The verdict on one frame.
#[derive(Clone, Debug, Default)]
pub struct Routed {
    /// This node is one of its destinations.
    pub here: bool,
    /// Copies for neighbours: one each, split where the ways branch.
    pub onwards: SmallVec<[(NodeId, LinkFrame); 1]>,
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
    // Each destination, after the neighbour on the way to it.
    let mut ways: SmallVec<[(NodeId, NodeId); 4]> = SmallVec::new();
    for node in &route.destinations {
        match routing.find(node).map(|node| node.next_hop) {
            Some(hop) if hop != from => ways.push((hop, *node)),
            _ => routed.dropped = Some(Cause::Unreachable),
        }
    }
    ways.sort_by_key(|(hop, _)| *hop);
    for ways in ways.chunk_by(|(one, _), (other, _)| one == other) {
        let [(hop, _), ..] = ways else { continue };
        let header = if ways.len() == all {
            onward.header.clone()
        } else {
            let destinations = ways.iter().map(|(_, node)| *node).collect();
            peer::reroute(&onward.header, &Route { destinations, path: Vec::new() })?
        };
        routed.onwards.push((*hop, LinkFrame { header, ..onward.clone() }));
    }
    Ok(())
}

/// What the origin of a message is told that is not passed on to its destinations, and over which
/// neighbour; nothing if it is not a message, or there is no way to its origin.
pub fn refusal(
    routing: &Routing,
    epoch: u64,
    header: &Bytes,
    refusal: Refusal,
) -> Option<(NodeId, LinkFrame)> {
    let destinations = peer::decode_route(header).ok()?.destinations.into_vec();
    let message = peer::decode(header).ok()?;
    let (send, number) = match message.body {
        Body::Attempt { send, number, .. } => (send, number),
        Body::FanOut { send, .. } => (send, 0),
        _ => return None,
    };
    let to = message.origin;
    let next = routing.find(&to)?.next_hop;
    let body = Body::Refused {
        send: SendRef { epoch: message.origin_epoch, id: send },
        number,
        destinations,
        cause: refusal.cause,
        retry_after_ms: u32::try_from(refusal.retry_after.as_millis()).unwrap_or(u32::MAX),
    };
    let report = DataMessage { origin: routing.me(), origin_epoch: epoch, body };
    let route = Route { destinations: smallvec![to], path: Vec::new() };
    Some((next, seal::seal(routing, next, &report, &route, send as u32, Bytes::new())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::testing::{id, routing};

    /// Two arms at node 0: 1, 2, 3 and 4, 5.
    const LINKS: [(u8, u8); 5] = [(0, 1), (1, 2), (2, 3), (0, 4), (4, 5)];

    fn frame(destinations: &'static [u8], path: &'static [u8]) -> LinkFrame {
        let body = Body::Handed { send: SendRef { epoch: 1, id: 2 }, number: 3 };
        let message = DataMessage { origin: id(9), origin_epoch: 1, body };
        let ids = |numbers: &'static [u8]| numbers.iter().map(|n| id(*n));
        let route = Route { destinations: ids(destinations).collect(), path: ids(path).collect() };
        peer::encode(&message, &route, 0, Bytes::from_static(b"payload"))
    }

    fn relayed(from: u8, frame: &LinkFrame) -> Routed {
        route_frame(&routing(0, &LINKS, &[], &[]), id(from), frame).unwrap()
    }

    fn onwards(routed: &Routed) -> Vec<(NodeId, Route)> {
        routed.onwards.iter().map(|(to, f)| (*to, peer::decode_route(&f.header).unwrap())).collect()
    }

    #[test]
    fn one_copy_per_link_split_where_the_ways_branch() {
        let frame = frame(&[0, 1, 3, 5], &[]);
        let routed = relayed(9, &frame);
        assert!(routed.here);
        let route = |ids: &[u8]| Route { destinations: ids.iter().map(|n| id(*n)).collect(), path: vec![] };
        assert_eq!(onwards(&routed), [(id(1), route(&[1, 3])), (id(4), route(&[5]))]);
        assert!(routed.onwards.iter().all(|(_, f)| f.payload == frame.payload && f.hops == frame.hops - 1));
    }

    #[test]
    fn a_frame_that_does_not_branch_goes_on_unchanged() {
        let frame = frame(&[2, 3], &[]);
        let routed = relayed(9, &frame);
        assert!(!routed.here);
        assert_eq!(routed.onwards[..], [(id(1), LinkFrame { hops: frame.hops - 1, ..frame })]);
    }

    #[test]
    fn at_the_hop_limit_it_ends() {
        let spent = LinkFrame { hops: 0, ..frame(&[0, 1], &[]) };
        let routed = relayed(9, &spent);
        assert!(routed.here, "but it has come to this destination");
        assert_eq!((routed.onwards.len(), routed.dropped), (0, Some(Cause::HopLimit)));
    }

    #[test]
    fn a_source_route_is_followed_over_links_that_are_up() {
        let routed = relayed(9, &frame(&[3], &[1, 2, 3]));
        let rest = Route { destinations: smallvec![id(3)], path: vec![id(2), id(3)] };
        assert_eq!(onwards(&routed), [(id(1), rest)]);
        let routed = relayed(9, &frame(&[3], &[2, 3]));
        assert_eq!((routed.onwards.len(), routed.dropped), (0, Some(Cause::Unreachable)));
    }

    #[test]
    fn nothing_goes_back_where_it_came_from() {
        let routed = relayed(1, &frame(&[3], &[]));
        assert_eq!((routed.onwards.len(), routed.dropped), (0, Some(Cause::Unreachable)));
        let routed = relayed(9, &frame(&[77], &[]));
        assert_eq!(routed.dropped, Some(Cause::Unreachable), "nor to a node that is not known");
    }

    #[test]
    fn a_malformed_header_is_the_neighbours_fault() {
        let bad = LinkFrame { header: Bytes::from_static(b"\xff\xff"), ..frame(&[1], &[]) };
        assert!(route_frame(&routing(0, &LINKS, &[], &[]), id(9), &bad).is_err());
    }
}
