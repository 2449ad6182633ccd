//! Link-state routes: who is linked to whom, and the way to everybody.
//!
//! A link counts only if both ends announce it; of this node's own links, only those that are
//! up. Ways are those with the fewest hops; between neighbours that are equally near, the
//! measured round-trip time decides, and a choice stands until it breaks or another has been
//! clearly better for a while.

mod levels;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use self::levels::Levels;
use crate::NodeId;

/// Gossip periods for which another neighbour must have been clearly better before it is taken.
const PATIENCE: u32 = 3;

/// Who is linked to whom, as both ends announce it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graph {
    links: BTreeMap<NodeId, BTreeSet<NodeId>>,
}

/// The way to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// The neighbour to send to.
    pub next_hop: NodeId,
    /// Links on the way.
    pub hops: u32,
    /// A hash of the nodes on it: another way has another.
    pub mark: u64,
}

/// What is known of links, and the routes that follow from it.
#[derive(Debug)]
pub struct Topology {
    me: NodeId,
    announced: BTreeMap<NodeId, BTreeSet<NodeId>>,
    up: BTreeSet<NodeId>,
    round_trips: BTreeMap<NodeId, Duration>,
    ways: BTreeMap<NodeId, Way>,
    /// What the ways follow from.
    levels: Levels,
    /// Per destination, for how many periods another neighbour has been clearly better.
    better_elsewhere: BTreeMap<NodeId, u32>,
    graph: Arc<Graph>,
}

impl Graph {
    fn add(&mut self, a: NodeId, b: NodeId) {
        self.links.entry(a).or_default().insert(b);
        self.links.entry(b).or_default().insert(a);
    }

    /// Whether both ends announce a link between `a` and `b`.
    pub fn is_linked(&self, a: &NodeId, b: &NodeId) -> bool {
        self.links.get(a).is_some_and(|links| links.contains(b))
    }

    /// The nodes linked to `node`, in order.
    pub fn neighbours(&self, node: &NodeId) -> impl Iterator<Item = &NodeId> {
        self.links.get(node).into_iter().flatten()
    }

    /// All links, each once.
    pub fn links(&self) -> impl Iterator<Item = (&NodeId, &NodeId)> {
        self.links.iter().flat_map(|(a, to)| to.iter().filter(move |b| a < *b).map(move |b| (a, b)))
    }

    /// The hops from `from` to `to`, `to` last, by as few of the links of the path `avoid` (hops
    /// from `from`) as possible, then through as few of its nodes, then in as few hops.
    pub fn path(&self, from: &NodeId, to: &NodeId, avoid: &[NodeId]) -> Option<Vec<NodeId>> {
        let avoided_nodes: BTreeSet<&NodeId> = avoid.iter().filter(|node| *node != to).collect();
        let starts = std::iter::once(from).chain(avoid);
        let avoided_links: BTreeSet<(&NodeId, &NodeId)> =
            starts.zip(avoid).flat_map(|(a, b)| [(a, b), (b, a)]).collect();
        let mut reached: BTreeMap<&NodeId, (Cost, Option<&NodeId>)> =
            BTreeMap::from([(from, ([0; 3], None))]);
        let mut next: BTreeSet<(Cost, &NodeId)> = BTreeSet::from([([0; 3], from)]);
        while let Some((cost, node)) = next.pop_first() {
            if node == to {
                return Some(walk_back(&reached, from, to));
            }
            for other in self.neighbours(node) {
                let link = u32::from(avoided_links.contains(&(node, other)));
                let through = u32::from(avoided_nodes.contains(other));
                let total = [cost[0] + link, cost[1] + through, cost[2] + 1];
                let known = reached.get(other).map(|(known, _)| *known);
                if known.is_none_or(|known| total < known) {
                    reached.insert(other, (total, Some(node)));
                    next.insert((total, other));
                }
            }
        }
        None
    }
}

/// Avoided links, avoided nodes, hops: compared in this order.
type Cost = [u32; 3];

fn walk_back(
    reached: &BTreeMap<&NodeId, (Cost, Option<&NodeId>)>,
    from: &NodeId,
    to: &NodeId,
) -> Vec<NodeId> {
    let mut path = vec![*to];
    let mut node = to;
    while let Some((_, Some(before))) = reached.get(node) {
        if *before == from {
            break;
        }
        path.push(**before);
        node = before;
    }
    path.reverse();
    path
}

impl Topology {
    /// A node without links.
    pub fn new(me: NodeId) -> Self {
        Self {
            me,
            announced: BTreeMap::new(),
            up: BTreeSet::new(),
            round_trips: BTreeMap::new(),
            ways: BTreeMap::new(),
            levels: Levels::default(),
            better_elsewhere: BTreeMap::new(),
            graph: Arc::default(),
        }
    }

    /// This node's own link to `peer` comes up.
    pub fn link_up(&mut self, peer: NodeId) {
        self.up.insert(peer);
    }

    /// This node's own link to `peer` is lost.
    pub fn link_down(&mut self, peer: &NodeId) {
        self.up.remove(peer);
        self.round_trips.remove(peer);
    }

    /// This node's own links that are up.
    pub fn up(&self) -> &BTreeSet<NodeId> {
        &self.up
    }

    /// A node's announced links; of a node that is forgotten, none.
    pub fn announced(&mut self, node: NodeId, neighbours: BTreeSet<NodeId>) {
        if neighbours.is_empty() {
            self.announced.remove(&node);
        } else {
            self.announced.insert(node, neighbours);
        }
    }

    /// A neighbour's round-trip time was measured.
    pub fn measured(&mut self, peer: NodeId, round_trip: Duration) {
        if self.up.contains(&peer) {
            let smoothed =
                self.round_trips.get(&peer).map_or(round_trip, |known| (*known * 3 + round_trip) / 4);
            self.round_trips.insert(peer, smoothed);
        }
    }

    /// The ways to all reachable nodes but this one.
    pub fn ways(&self) -> &BTreeMap<NodeId, Way> {
        &self.ways
    }

    /// The links that count.
    pub fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    /// Works out the routes anew; true if any way or link differs from before.
    pub fn recompute(&mut self) -> bool {
        let graph = self.mutual_links();
        let levels = Levels::from(&graph, self.me);
        let marks = levels.marks();
        let ways: BTreeMap<NodeId, Way> = levels
            .others()
            .map(|(at, node)| {
                let hop = self.choose(&levels, at);
                let (next_hop, hops) = (levels.hop(hop), levels.hops[at as usize]);
                (node, Way { next_hop, hops, mark: marks[hop as usize][at as usize] })
            })
            .collect();
        self.levels = levels;
        let changed = ways != self.ways || graph != *self.graph;
        if changed {
            self.ways = ways;
            self.graph = Arc::new(graph);
        }
        changed
    }

    /// Once a gossip period: prefers another neighbour that has been clearly better for long
    /// enough. True if the routes are to be worked out anew.
    pub fn review(&mut self) -> bool {
        let mut switch = Vec::new();
        for (at, node) in self.levels.others() {
            let Some(way) = self.ways.get(&node) else { continue };
            let best = self.levels.first_hops(at).map(|hop| self.cost(&self.levels.hop(hop))).min();
            let clearly = best.is_some_and(|best| best.saturating_mul(2) < self.cost(&way.next_hop));
            if clearly {
                let streak = self.better_elsewhere.entry(node).or_default();
                *streak += 1;
                if *streak >= PATIENCE {
                    switch.push(node);
                }
            } else {
                self.better_elsewhere.remove(&node);
            }
        }
        self.better_elsewhere.retain(|node, _| self.ways.contains_key(node));
        for node in &switch {
            self.ways.remove(node);
            self.better_elsewhere.remove(node);
        }
        !switch.is_empty()
    }

    fn mutual_links(&self) -> Graph {
        let mut graph = Graph::default();
        for (a, neighbours) in &self.announced {
            for b in neighbours {
                let mutual = if *b == self.me {
                    self.up.contains(a)
                } else {
                    a < b && self.announced.get(b).is_some_and(|back| back.contains(a))
                };
                if mutual {
                    graph.add(*a, *b);
                }
            }
        }
        graph
    }

    /// The neighbour chosen before if it still is one of the nearest, else the quickest; the place
    /// among the neighbours.
    fn choose(&self, levels: &Levels, at: u32) -> u32 {
        let before = self.ways.get(&levels.ids[at as usize]).map(|way| way.next_hop);
        let mut hops = levels.first_hops(at);
        let kept = before.and_then(|before| levels.first_hops(at).find(|hop| levels.hop(*hop) == before));
        let first = hops.next().unwrap_or_default();
        let quicker = |best: u32, hop: u32| {
            if self.cost(&levels.hop(hop)) < self.cost(&levels.hop(best)) { hop } else { best }
        };
        kept.unwrap_or_else(|| hops.fold(first, quicker))
    }

    fn cost(&self, neighbour: &NodeId) -> Duration {
        self.round_trips.get(neighbour).copied().unwrap_or(Duration::from_millis(50))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> NodeId {
        NodeId::new([n; 32])
    }

    /// Topology of node 0 with these links up and announced by both ends.
    fn topology(links: &[(u8, u8)]) -> Topology {
        let mut topology = Topology::new(id(0));
        let mut announced: BTreeMap<NodeId, BTreeSet<NodeId>> = BTreeMap::new();
        for (a, b) in links {
            announced.entry(id(*a)).or_default().insert(id(*b));
            announced.entry(id(*b)).or_default().insert(id(*a));
        }
        for peer in announced.remove(&id(0)).unwrap_or_default() {
            topology.link_up(peer);
        }
        for (node, neighbours) in announced {
            topology.announced(node, neighbours);
        }
        topology.recompute();
        topology
    }

    #[test]
    fn fewest_hops_win() {
        let topology = topology(&[(0, 1), (1, 2), (2, 3), (0, 3)]);
        assert_eq!(topology.ways()[&id(3)].hops, 1);
        assert_eq!(topology.ways()[&id(2)].hops, 2);
    }

    #[test]
    fn a_link_that_one_end_denies_does_not_count() {
        let mut topology = topology(&[(0, 1), (1, 2)]);
        topology.announced(id(2), BTreeSet::from([id(9)]));
        assert!(topology.recompute());
        assert!(!topology.ways().contains_key(&id(2)));
    }

    #[test]
    fn a_lost_link_of_our_own_is_repaired_at_once() {
        let mut topology = topology(&[(0, 1), (1, 3), (0, 2), (2, 3)]);
        let before = topology.ways()[&id(3)];
        topology.link_down(&before.next_hop);
        assert!(topology.recompute());
        let after = topology.ways()[&id(3)];
        assert_ne!(after.next_hop, before.next_hop);
        assert_ne!(after.mark, before.mark, "another way has another mark");
    }

    #[test]
    fn a_choice_stands_until_another_is_clearly_better_for_long() {
        let mut topology = topology(&[(0, 1), (1, 3), (0, 2), (2, 3)]);
        let before = topology.ways()[&id(3)].next_hop;
        let other = if before == id(1) { id(2) } else { id(1) };
        topology.measured(before, Duration::from_millis(10));
        topology.measured(other, Duration::from_millis(6));
        assert!((0..10).all(|_| !topology.review()), "better, but not clearly");
        topology.measured(before, Duration::from_millis(100));
        assert!(!topology.review() && !topology.review());
        assert!(topology.review());
        topology.recompute();
        assert_eq!(topology.ways()[&id(3)].next_hop, other);
    }

    #[test]
    fn a_detour_leaves_the_usual_path() {
        let graph = topology(&[(0, 1), (1, 2), (0, 3), (3, 4), (4, 2)]).graph().clone();
        let usual = graph.path(&id(0), &id(2), &[]).unwrap();
        assert_eq!(usual, [id(1), id(2)]);
        assert_eq!(graph.path(&id(0), &id(2), &usual).unwrap(), [id(3), id(4), id(2)]);
        assert_eq!(graph.path(&id(0), &id(1), &[id(1)]).unwrap().len(), 4, "round the other way");
        let line = topology(&[(0, 1), (1, 2)]).graph().clone();
        assert_eq!(line.path(&id(0), &id(2), &[id(1), id(2)]).unwrap(), [id(1), id(2)], "there is no other");
        assert_eq!(line.path(&id(0), &id(9), &[]), None);
    }
}
