//! What strangers truly signed of their topics, and what is believed of it.

use std::collections::BTreeMap;

use amop_protocol::{Version, broker::routing::Routing};

use super::{HONEST, NODES, subscribers};
use crate::world::{self, ME, id};

type List = BTreeMap<String, u32>;

#[derive(Default)]
pub(super) struct Belief {
    /// All that was signed; a stranger may sign two lists under one version.
    signed: BTreeMap<u8, Vec<(Version, List)>>,
    /// The version believed of each, at least.
    believed: BTreeMap<u8, Version>,
}

impl Belief {
    pub(super) fn signed(&mut self, node: u8, version: Version, counts: &[(u8, u32)]) {
        let wanted = counts.iter().filter(|(n, count)| *count > 0 && world::topic(*n).is_announced());
        let list = wanted.map(|(n, count)| (world::topic(*n).to_string(), *count)).collect();
        self.signed.entry(node).or_default().push((version, list));
    }

    /// Only what was signed is believed, and never an older version after a newer one.
    pub(super) fn check(&mut self, routing: &Routing) {
        for n in HONEST + 1..ME + NODES {
            let list = subscribers(routing, id(n));
            if list.is_empty() {
                continue;
            }
            let least = self.believed.entry(n).or_default();
            let fitting = self.signed.get(&n).into_iter().flatten().filter(|(_, said)| *said == list);
            let newer = fitting.map(|(version, _)| *version).filter(|version| version >= least).min();
            *least = newer.unwrap_or_else(|| panic!("node {n} never said {list:?}, or before {least:?}"));
        }
    }
}
