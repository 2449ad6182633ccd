//! What the web page shows of the node: one look at everything, bounded.

use std::{collections::HashMap, time::Instant};

use amop_protocol::{
    NodeId,
    broker::routing::{Node, NodeIndex, Routing, TopicRoutes},
    topic::Kind,
};

use super::status::{Source, others, wanted_topics};
use crate::telemetry::{
    overview::{MAX_LINKS, MAX_NODES_OF_TOPIC, MAX_PEERS, Overview, Spread, View},
    status::StatusSource,
};

/// The node and what it knows of the overlay, as far as `view` asks for it.
pub(super) fn overview(source: &Source, view: &View) -> Overview {
    let routing = source.data.routing();
    let mut nodes: Vec<&Node> = others(&routing).collect();
    nodes.sort_by(|a, b| (a.hops, &a.name, &a.id).cmp(&(b.hops, &b.name, &b.id)));
    nodes.truncate(MAX_PEERS);
    let numbers = Numbers::new(&routing, &nodes);
    let at = view.at.as_deref().map(|id| routing.indexed().find(|(_, node)| node.key.to_string() == id));
    let is_there = |routes: &TopicRoutes| match at {
        None => true,
        Some(at) => at.is_some_and(|(at, _)| routes.nodes.iter().any(|(node, _)| *node == at)),
    };
    let (topics, topics_found) = wanted_topics(&routing, &view.topics(), is_there);
    let (links, links_known) = numbers.links(&routing);
    Overview {
        status: source.status(),
        drain: source.draining(),
        peers: nodes.iter().map(|node| source.peer(node, &routing)).collect(),
        topics_at: numbers.topics(&routing),
        links,
        links_known,
        topics: topics.iter().map(|(name, routes)| numbers.spread(name.as_str(), routes)).collect(),
        topics_found,
        clients: source.clients(&view.clients()),
        limits: source.limits(),
        certificates: source.certificates(),
        failures: source.data.failures(),
        outcomes: source.endings.show(Instant::now(), &source.data.endings()),
    }
}

/// Which number stands for which node: 0 for this one.
struct Numbers {
    by_index: HashMap<NodeIndex, u32>,
    by_id: HashMap<NodeId, u32>,
}

impl Numbers {
    fn new(routing: &Routing, peers: &[&Node]) -> Self {
        let ids = std::iter::once(routing.me()).chain(peers.iter().map(|node| node.id));
        let by_id: HashMap<NodeId, u32> = ids.zip(0..).collect();
        let number = |(at, node): (NodeIndex, &Node)| Some((at, *by_id.get(&node.id)?));
        Self { by_index: routing.indexed().filter_map(number).collect(), by_id }
    }

    fn links(&self, routing: &Routing) -> (Vec<[u32; 2]>, usize) {
        let number = |(a, b): (&NodeId, &NodeId)| Some([*self.by_id.get(a)?, *self.by_id.get(b)?]);
        let mut links: Vec<[u32; 2]> = routing.graph().links().filter_map(number).collect();
        let known = links.len();
        for link in &mut links {
            link.sort_unstable();
        }
        // This node's own come first, then those of the nodes nearest to it.
        links.sort_unstable();
        links.truncate(MAX_LINKS);
        (links, known)
    }

    fn topics(&self, routing: &Routing) -> Vec<u64> {
        let mut counts = vec![0; self.by_id.len()];
        let shown = routing.topics().filter(|(topic, _)| topic.kind() != Kind::Handshake);
        for (at, _) in shown.flat_map(|(_, routes)| &routes.nodes) {
            if let Some(count) = self.by_index.get(at).and_then(|number| counts.get_mut(*number as usize)) {
                *count += 1;
            }
        }
        counts
    }

    fn spread(&self, name: &str, routes: &TopicRoutes) -> Spread {
        let number = |(at, sessions): &(NodeIndex, u32)| Some([*self.by_index.get(at)?, *sessions]);
        let mut nodes: Vec<[u32; 2]> = routes.nodes.iter().filter_map(number).collect();
        let (nodes_known, subscribers) =
            (nodes.len(), nodes.iter().map(|[_, sessions]| u64::from(*sessions)));
        let subscribers = subscribers.sum();
        nodes.sort_unstable();
        nodes.truncate(MAX_NODES_OF_TOPIC);
        Spread { topic: name.to_owned(), nodes, nodes_known, subscribers }
    }
}
