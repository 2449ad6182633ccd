//! What control knows, frozen: an immutable picture of nodes, routes and subscriptions.
//!
//! Control swaps in a new one at every change; every other task reads the one it holds
//! without a lock. Clones are cheap: what did not change is shared.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::Arc,
};

use imbl::shared_ptr::DefaultSharedPtr;
use siphasher::sip::SipHasher13;

use super::{private::PrivateTable, seal::Seal, topology::Graph};
use crate::{NodeId, NodeKey, SessionId, Topic};

/// A map whose order never varies between runs, though nothing here may depend on it.
pub(super) type FixedState = BuildHasherDefault<SipHasher13>;

/// Hashes ids of nodes, which are keys and look random. Whoever makes some that collide has them looked up a
/// little slower: there are `max_nodes` at most. Good for ids of sessions too, which nobody outside chooses.
pub type IdState = BuildHasherDefault<IdHasher>;

/// Folds an id, word by word.
#[derive(Clone, Copy, Debug, Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0.rotate_left(26)
    }

    fn write(&mut self, bytes: &[u8]) {
        for word in bytes.chunks(8) {
            let mut number = [0; 8];
            number[..word.len()].copy_from_slice(word);
            // An odd number with its bits well spread: 2^64 divided by the golden ratio.
            self.0 = (self.0.rotate_left(5) ^ u64::from_le_bytes(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }

    fn write_usize(&mut self, _: usize) {}
}

/// Topics and who wants them; clones share all that is the same.
pub(super) type TopicTable = imbl::GenericHashMap<Topic, Arc<TopicRoutes>, FixedState, DefaultSharedPtr>;

/// Where a node stands in [`Routing::node`]; valid within one snapshot only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(pub u32);

/// A reachable node, this one included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// Its full public key, as SDKs see it.
    pub key: NodeKey,
    /// The name it gives itself (common name of its certificate).
    pub name: Arc<str>,
    /// The institution whose CA issued its certificate.
    pub institution: Arc<str>,
    /// Its advertised overlay address, possibly empty.
    pub address: Arc<str>,
    /// Its current epoch: a restart has a higher one.
    pub epoch: u64,
    /// The neighbour to send to; its own id for this very node.
    pub next_hop: NodeId,
    /// Links on the way; 0 for this node.
    pub hops: u32,
    /// Changes whenever the chosen way there does.
    pub way: u64,
    /// What this node shares with it, so that neither takes a relay's word for the other's.
    pub seal: Option<Seal>,
}

/// Who wants a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicRoutes {
    /// Nodes with subscribers and how many each announces, in order of node id, this node
    /// included. A node that is not reachable now stays listed: ask [`Routing::node`]. Of a reserved
    /// name only this node is: who may receive what is sent to it, [`Routing::private`] knows.
    pub nodes: Vec<(NodeIndex, u32)>,
    /// This node's own sessions with the topic, in order.
    pub sessions: Vec<SessionId>,
}

/// The snapshot.
#[derive(Clone, Debug)]
pub struct Routing {
    pub(super) me: NodeId,
    pub(super) revision: u64,
    pub(super) nodes: Arc<Vec<Option<Node>>>,
    pub(super) index: Arc<HashMap<NodeId, NodeIndex, IdState>>,
    pub(super) topics: TopicTable,
    pub(super) private: PrivateTable,
    pub(super) graph: Arc<Graph>,
}

impl Routing {
    /// A node that knows only itself; control builds all others from it.
    pub fn new(me: Node) -> Self {
        let index = NodeIndex(0);
        Self {
            me: me.id,
            revision: 0,
            index: Arc::new(std::iter::once((me.id, index)).collect()),
            nodes: Arc::new(vec![Some(me)]),
            topics: TopicTable::default(),
            private: PrivateTable::default(),
            graph: Arc::new(Graph::default()),
        }
    }

    /// This node's id.
    pub fn me(&self) -> NodeId {
        self.me
    }

    /// Grows with every change.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The node at `index`, if it is reachable.
    pub fn node(&self, index: NodeIndex) -> Option<&Node> {
        self.nodes.get(index.0 as usize)?.as_ref()
    }

    /// The reachable node with this id.
    pub fn find(&self, id: &NodeId) -> Option<&Node> {
        self.node(*self.index.get(id)?)
    }

    /// All reachable nodes, this one included.
    pub fn reachable(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().flatten()
    }

    /// As [`Routing::reachable`], with the index under which [`TopicRoutes::nodes`] lists each.
    pub fn indexed(&self) -> impl Iterator<Item = (NodeIndex, &Node)> {
        let numbered = self.nodes.iter().enumerate();
        numbered.filter_map(|(at, node)| Some((NodeIndex(u32::try_from(at).ok()?), node.as_ref()?)))
    }

    /// Who wants `topic`.
    pub fn topic(&self, topic: &str) -> Option<&TopicRoutes> {
        self.topics.get(topic).map(|routes| &**routes)
    }

    /// Who may receive what is sent to reserved names.
    pub fn private(&self) -> &PrivateTable {
        &self.private
    }

    /// All topics anybody wants, in no particular order.
    pub fn topics(&self) -> impl Iterator<Item = (&Topic, &TopicRoutes)> {
        self.topics.iter().map(|(topic, routes)| (topic, &**routes))
    }

    /// Whether ways may differ from those of `other`; a mere change of topics does not.
    pub fn ways_differ(&self, other: &Self) -> bool {
        !Arc::ptr_eq(&self.nodes, &other.nodes)
    }

    /// Who is linked to whom.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }
}
