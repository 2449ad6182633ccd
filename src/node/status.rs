//! What the node tells of itself when the admin port is asked.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use amop_protocol::{broker::routing::Node, topic::Kind};

use super::{data_path::DataPath, links::Links};
use crate::{
    client_port::Registry,
    telemetry::status::{Addresses, Peer, Status, StatusSource, Topic, TopicNode},
};

/// Where the admin port's answers come from: snapshots and counters, no busy task.
pub(super) struct Source {
    pub(super) data: Arc<DataPath>,
    pub(super) links: Arc<Links>,
    pub(super) clients: Arc<Registry>,
    pub(super) addresses: Addresses,
    pub(super) ready: Arc<AtomicBool>,
    pub(super) since: Instant,
}

impl StatusSource for Source {
    fn status(&self) -> Status {
        let routing = self.data.routing();
        let me = routing.find(&routing.me());
        Status {
            name: me.map(|me| me.name.to_string()).unwrap_or_default(),
            institution: me.map(|me| me.institution.to_string()).unwrap_or_default(),
            node_id: me.map(|me| me.key.to_string()).unwrap_or_default(),
            epoch: me.map(|me| me.epoch).unwrap_or_default(),
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_seconds: self.since.elapsed().as_secs(),
            addresses: self.addresses.clone(),
            links: self.links.len(),
            nodes: routing.reachable().count().saturating_sub(1),
            clients: self.clients.len(),
            topics: routing.topics().filter(|(_, routes)| !routes.sessions.is_empty()).count(),
            ready: self.ready.load(Ordering::Relaxed),
        }
    }

    fn peers(&self) -> Vec<Peer> {
        let routing = self.data.routing();
        let others = routing.reachable().filter(|node| node.id != routing.me());
        let name_of = |id| routing.find(id).map(|node| node.name.to_string());
        let mut peers: Vec<Peer> = others.map(|node| self.peer(node, name_of(&node.next_hop))).collect();
        peers.sort_by(|a, b| (a.hops, &a.name).cmp(&(b.hops, &b.name)));
        peers
    }

    fn topics(&self) -> Vec<Topic> {
        let routing = self.data.routing();
        let remote = |index| routing.node(index).filter(|node| node.id != routing.me());
        let mut topics: Vec<Topic> = routing
            .topics()
            // Whoever knows the channel of a challenge could claim it.
            .filter(|(topic, _)| topic.kind() != Kind::Handshake)
            .map(|(topic, routes)| Topic {
                topic: topic.to_string(),
                local_sessions: routes.sessions.len(),
                nodes: routes
                    .nodes
                    .iter()
                    .filter_map(|(index, subscribers)| Some(topic_node(remote(*index)?, *subscribers)))
                    .collect(),
            })
            .filter(|topic| topic.local_sessions > 0 || !topic.nodes.is_empty())
            .collect();
        topics.sort_by(|a, b| a.topic.cmp(&b.topic));
        topics
    }
}

impl Source {
    fn peer(&self, node: &Node, via: Option<String>) -> Peer {
        let neighbour = node.hops == 1;
        let round_trip = self.links.round_trip(node.id).filter(|_| neighbour);
        Peer {
            node_id: node.key.to_string(),
            name: node.name.to_string(),
            institution: node.institution.to_string(),
            hops: node.hops,
            via: via.filter(|_| !neighbour),
            round_trip_us: round_trip.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
        }
    }
}

fn topic_node(node: &Node, subscribers: u32) -> TopicNode {
    TopicNode { node_id: node.key.to_string(), name: node.name.to_string(), subscribers }
}
