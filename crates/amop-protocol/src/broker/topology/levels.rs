//! Breadth first from one node: how far everybody is, and by which neighbours.
//!
//! Nodes are numbered here in the order in which they are reached, neighbours first, so that the
//! work is a constant for each link and neighbour: routes are worked out anew with every change.

use std::{collections::BTreeMap, hash::Hasher};

use siphasher::sip::SipHasher13;

use super::Graph;
use crate::NodeId;

/// Everybody in reach, this node first, its neighbours next.
#[derive(Debug, Default)]
pub(super) struct Levels {
    pub(super) ids: Vec<NodeId>,
    pub(super) hops: Vec<u32>,
    /// For each, those one hop nearer, in order of id.
    before: Vec<Vec<u32>>,
    /// For each, bits of the neighbours that lead there by the fewest hops: so many words each.
    first_hops: Vec<u64>,
    words: usize,
    neighbours: u32,
}

impl Levels {
    pub(super) fn from(graph: &Graph, me: NodeId) -> Self {
        let mut levels = Self { ids: vec![me], hops: vec![0], before: vec![Vec::new()], ..Self::default() };
        let mut numbers = BTreeMap::from([(me, 0_u32)]);
        let mut at = 0;
        while let Some(node) = levels.ids.get(at).copied() {
            let hops = levels.hops[at] + 1;
            for other in graph.neighbours(&node) {
                let number = *numbers.entry(*other).or_insert_with(|| {
                    levels.ids.push(*other);
                    levels.hops.push(hops);
                    levels.before.push(Vec::new());
                    levels.ids.len() as u32 - 1
                });
                if levels.hops[number as usize] == hops {
                    levels.before[number as usize].push(at as u32);
                }
            }
            at += 1;
        }
        levels.sort();
        levels.spread_first_hops();
        levels
    }

    /// In order of id: where there is a choice the lowest one is taken.
    fn sort(&mut self) {
        for before in &mut self.before {
            before.sort_unstable_by_key(|at| self.ids[*at as usize]);
        }
        self.neighbours = self.hops.iter().filter(|hops| **hops == 1).count() as u32;
        self.words = (self.neighbours as usize).div_ceil(64);
    }

    fn spread_first_hops(&mut self) {
        self.first_hops = vec![0; self.ids.len() * self.words];
        for at in 1..self.ids.len() {
            if self.hops[at] == 1 {
                self.first_hops[at * self.words + (at - 1) / 64] |= 1 << ((at - 1) % 64);
            }
            for before in self.before[at].iter().map(|before| *before as usize) {
                for word in 0..self.words {
                    self.first_hops[at * self.words + word] |= self.first_hops[before * self.words + word];
                }
            }
        }
    }

    /// Everybody but this node, with their numbers.
    pub(super) fn others(&self) -> impl Iterator<Item = (u32, NodeId)> {
        (0..).zip(self.ids.iter().copied()).skip(1)
    }

    /// The neighbour with this place among them.
    pub(super) fn hop(&self, place: u32) -> NodeId {
        self.ids[place as usize + 1]
    }

    /// The places of the neighbours by which a node is nearest, in order of id.
    pub(super) fn first_hops(&self, at: u32) -> impl Iterator<Item = u32> {
        let words = &self.first_hops[at as usize * self.words..][..self.words];
        let bits = (0..self.neighbours).filter(|place| words[*place as usize / 64] >> (place % 64) & 1 == 1);
        bits.into_iter()
    }

    fn leads(&self, place: u32, at: u32) -> bool {
        self.first_hops[at as usize * self.words + place as usize / 64] >> (place % 64) & 1 == 1
    }

    /// For each neighbour and each node, a hash of the path there through that neighbour, by the
    /// lowest id wherever there is a choice.
    pub(super) fn marks(&self) -> Vec<Vec<u64>> {
        (0..self.neighbours).map(|place| self.marks_through(place)).collect()
    }

    fn marks_through(&self, place: u32) -> Vec<u64> {
        let mut marks = vec![0; self.ids.len()];
        for (at, node) in self.others().filter(|(at, _)| self.leads(place, *at)) {
            let before = self.before[at as usize].iter().find(|before| self.leads(place, **before));
            let mut hasher = SipHasher13::new();
            hasher.write_u64(before.map_or(0, |before| marks[*before as usize]));
            hasher.write(node.as_bytes());
            marks[at as usize] = hasher.finish();
        }
        marks
    }
}
