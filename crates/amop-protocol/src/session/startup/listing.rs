//! The long answers: who is reachable, and which topics are where.
//!
//! They are dear to make and, but for private topics, the same for all who ask; so a driver may keep
//! them, and what only the asking session may see is put in afterwards.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use bytes::Bytes;
use serde_json::json;

use crate::{
    NodeId, SessionId, Topic,
    broker::routing::{Node, Routing},
    topic::Kind,
};

/// A part of an answer that grows with what the node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// Every other node, and its topics.
    Peers,
    /// This node, and the topics of its sessions.
    OwnInfo,
}

/// Makes listings, or keeps them.
pub trait Listings: fmt::Debug {
    /// The listing as it is in this snapshot or was in one shortly before: what
    /// [`Listing::make`] gave.
    fn get(&self, listing: Listing, routing: &Routing) -> Listed;
}

/// Makes every listing anew.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fresh;

impl Listings for Fresh {
    fn get(&self, listing: Listing, routing: &Routing) -> Listed {
        listing.make(routing)
    }
}

impl Listing {
    /// The rest of an answer, from its result to its end, as all may see it.
    pub fn make(self, routing: &Routing) -> Listed {
        match self {
            Self::Peers => peers(routing),
            Self::OwnInfo => own_info(routing),
        }
    }
}

/// A listing; clones share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    text: Bytes,
    /// Of each peer: where the list of its topics begins, and whether it has any.
    peers: Arc<[Peer]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Peer {
    node: NodeId,
    topics_at: usize,
    has_topics: bool,
}

impl Listed {
    /// The text for one session: a publisher sees its private topics too, at the nodes where it has
    /// verified somebody. Costs no more than a copy.
    pub fn for_session(&self, routing: &Routing, session: SessionId) -> Bytes {
        let mut private: BTreeMap<NodeId, BTreeSet<&Topic>> = BTreeMap::new();
        for (node, topic) in routing.private().verified_by(session) {
            private.entry(node).or_default().insert(topic);
        }
        self.with(&private)
    }

    fn with(&self, private: &BTreeMap<NodeId, BTreeSet<&Topic>>) -> Bytes {
        if private.is_empty() || self.peers.is_empty() {
            return self.text.clone();
        }
        let mut text = Vec::with_capacity(self.text.len());
        let mut copied = 0;
        for Peer { node, topics_at, has_topics } in self.peers.iter() {
            let Some(topics) = private.get(node) else { continue };
            let names: Vec<String> = topics.iter().map(|topic| json!(topic.as_str()).to_string()).collect();
            text.extend_from_slice(&self.text[copied..*topics_at]);
            text.extend_from_slice(names.join(",").as_bytes());
            text.extend(has_topics.then_some(b','));
            copied = *topics_at;
        }
        text.extend_from_slice(&self.text[copied..]);
        text.into()
    }
}

impl From<Bytes> for Listed {
    fn from(text: Bytes) -> Self {
        Self { text, peers: Arc::new([]) }
    }
}

/// All reachable nodes, not only neighbours: the official demo publisher waits until a topic
/// shows up here, and its subscriber may be any number of hops away. Channels of challenges are nobody's
/// business.
fn peers(routing: &Routing) -> Listed {
    let mut topics: Vec<Vec<&str>> = Vec::new();
    for (topic, routes) in routing.topics().filter(|(topic, _)| !topic.is_reserved()) {
        for (index, _) in &routes.nodes {
            let at = index.0 as usize;
            if topics.len() <= at {
                topics.resize_with(at + 1, Vec::new);
            }
            topics[at].push(topic.as_str());
        }
    }
    let (mut text, mut peers) = (String::from("["), Vec::new());
    for (index, node) in routing.indexed().filter(|(_, node)| node.id != routing.me()) {
        let mut topics = topics.get_mut(index.0 as usize).map(std::mem::take).unwrap_or_default();
        topics.sort_unstable();
        if !peers.is_empty() {
            text.push(',');
        }
        let (head, list) = info(node, &topics);
        text.push_str(&head);
        // Behind the bracket that opens it.
        peers.push(Peer { node: node.id, topics_at: text.len() + 1, has_topics: !topics.is_empty() });
        text.push_str(&list);
        text.push('}');
    }
    text.push_str("]}\n");
    Listed { text: text.into(), peers: peers.into() }
}

fn own_info(routing: &Routing) -> Listed {
    let mut topics: Vec<_> = routing
        .topics()
        .filter(|(topic, routes)| !routes.sessions.is_empty() && topic.kind() != Kind::Handshake)
        .map(|(topic, _)| topic.as_str())
        .collect();
    topics.sort_unstable();
    let text = routing.find(&routing.me()).map_or("null".into(), |node| {
        let (head, list) = info(node, &topics);
        format!("{head}{list}}}")
    });
    Bytes::from(format!("{text}}}\n")).into()
}

/// An object up to its last member's value; that value, its topics. The bracket that ends the object
/// is still to come.
fn info(node: &Node, topics: &[&str]) -> (String, String) {
    let mut head = json!({
        "Agency": &*node.institution,
        "IPAndPort": &*node.address,
        "Node": &*node.name,
        "NodeID": node.key.to_string(),
    })
    .to_string();
    head.pop();
    (head + r#","Topic":"#, json!(topics).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_a_session_may_see_stands_beside_what_all_see() {
        let id = |n| NodeId::new([n; 32]);
        let text = r#"[{"T":["a"]},{"T":[]},{"T":[]}]"#;
        let at = text.match_indices('[').skip(1).map(|(at, _)| at + 1);
        let peers = at.zip(1..).map(|(topics_at, n)| Peer { node: id(n), topics_at, has_topics: n == 1 });
        let listed = Listed { text: Bytes::from(text), peers: peers.collect() };
        assert_eq!(listed.with(&BTreeMap::new()), text);

        let b = Topic::parse("#!$TopicNeedVerify_\"b").unwrap();
        let c = Topic::parse("#!$TopicNeedVerify_c").unwrap();
        let private = [(id(1), [&b].into()), (id(2), [&b, &c].into()), (id(9), [&b].into())].into();
        let found: serde_json::Value = serde_json::from_slice(&listed.with(&private)).unwrap();
        let (b, c) = (b.as_str(), c.as_str());
        assert_eq!(found, json!([{ "T": [b, "a"] }, { "T": [b, c] }, { "T": [] }]));
    }
}
