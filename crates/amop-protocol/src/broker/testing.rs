//! Snapshots for the tests of this folder: small networks with one topic.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{
    routing::{Node, NodeIndex, Routing, TopicRoutes},
    topology::Topology,
};
use crate::{NodeId, NodeKey, SessionId, Topic};

pub(super) fn id(n: u8) -> NodeId {
    NodeId::new([n; 32])
}

/// The topic of these tests.
pub(super) fn topic() -> Topic {
    Topic::parse("t").unwrap()
}

/// What node `me` holds of a network with these links; `wants` says how many subscribers of
/// [`topic`] a node has, `sessions` are those of `me`.
pub(super) fn routing(me: u8, links: &[(u8, u8)], wants: &[(u8, u32)], sessions: &[u64]) -> Routing {
    build(me, links, &[], wants, sessions)
}

/// The same without anybody who wants it, and with round trips to neighbours that were measured.
pub(super) fn measured(me: u8, links: &[(u8, u8)], round_trips: &[(u8, Duration)]) -> Routing {
    build(me, links, round_trips, &[], &[])
}

fn build(
    me: u8,
    links: &[(u8, u8)],
    round_trips: &[(u8, Duration)],
    wants: &[(u8, u32)],
    sessions: &[u64],
) -> Routing {
    let mut topology = Topology::new(id(me));
    let mut announced: BTreeMap<u8, BTreeSet<NodeId>> = BTreeMap::new();
    for (a, b) in links {
        announced.entry(*a).or_default().insert(id(*b));
        announced.entry(*b).or_default().insert(id(*a));
    }
    for (node, neighbours) in announced {
        match node == me {
            true => neighbours.into_iter().for_each(|peer| topology.link_up(peer)),
            false => topology.announced(id(node), neighbours),
        }
    }
    round_trips.iter().for_each(|(peer, time)| topology.measured(id(*peer), *time));
    topology.recompute();
    let mut nodes = vec![node(me, id(me), 0, 0)];
    let ways = topology.ways().iter();
    nodes.extend(ways.map(|(to, way)| node(to.as_bytes()[0], way.next_hop, way.hops, way.mark)));
    let mut routing = Routing::new(nodes[0].clone());
    let index = |n: u8| nodes.iter().position(|node| node.id == id(n)).map(|at| NodeIndex(at as u32));
    let mut wants: Vec<(u8, u32)> = wants.to_vec();
    if !sessions.is_empty() {
        wants.push((me, sessions.len() as u32));
    }
    wants.sort_unstable();
    let routes = TopicRoutes {
        nodes: wants.iter().filter_map(|(n, count)| Some((index(*n)?, *count))).collect(),
        sessions: sessions.iter().copied().map(SessionId).collect(),
    };
    routing.topics.insert(topic(), Arc::new(routes));
    routing.index = Arc::new(nodes.iter().zip(0..).map(|(node, at)| (node.id, NodeIndex(at))).collect());
    routing.nodes = Arc::new(nodes.into_iter().map(Some).collect());
    routing.graph = topology.graph().clone();
    routing
}

fn node(n: u8, next_hop: NodeId, hops: u32, way: u64) -> Node {
    Node {
        id: id(n),
        key: NodeKey::new([n; 64]),
        name: "node".into(),
        institution: "bank".into(),
        address: "".into(),
        epoch: u64::from(n),
        next_hop,
        hops,
        way,
        seal: None,
    }
}
