//! What strangers truly signed of their topics, and what is believed of it.

use std::collections::BTreeMap;

use amop_protocol::{Topic, Version, broker::routing::Routing, topic::Kind};

use super::{HONEST, NODES, subscribers};
use crate::world::{self, List, ME, id};

#[derive(Default)]
pub(super) struct Belief {
    /// All that was signed; a stranger may sign two lists under one version.
    signed: BTreeMap<u8, Vec<(Version, List)>>,
    /// The version believed of each, at least.
    believed: BTreeMap<u8, Version>,
}

impl Belief {
    pub(super) fn signed(&mut self, node: u8, version: Version, list: List) {
        self.signed.entry(node).or_default().push((version, list));
    }

    /// The list a stranger signed last under a version.
    pub(super) fn list(&self, node: u8, version: Version) -> List {
        let mut signed = self.signed.get(&node).into_iter().flatten();
        signed.rfind(|(at, _)| *at == version).map(|(_, list)| list.clone()).unwrap_or_default()
    }

    /// Only what was signed is believed, and never an older version after a newer one.
    pub(super) fn check(&mut self, routing: &Routing) {
        for n in HONEST + 1..ME + NODES {
            let list = subscribers(routing, id(n));
            if list.is_empty() {
                continue;
            }
            let least = self.believed.entry(n).or_default();
            let fitting = self.signed.get(&n).into_iter().flatten().filter(|(_, said)| routed(said) == list);
            let newer = fitting.map(|(version, _)| *version).filter(|version| version >= least).min();
            *least = newer.unwrap_or_else(|| panic!("node {n} never said {list:?}, or before {least:?}"));
        }
    }
}

/// The part of a list that messages are routed by.
fn routed(list: &List) -> List {
    let announced = |name: &String| Topic::parse(name).is_ok_and(|topic| topic.kind() == Kind::Ordinary);
    list.iter().filter(|(name, _)| announced(name)).map(|(name, count)| (name.clone(), *count)).collect()
}

/// A list with these changes.
pub(super) fn changed(mut list: List, changes: &[(u8, u32)]) -> List {
    for (n, count) in changes {
        let name = world::topic(*n).to_string();
        if *count == 0 {
            list.remove(&name)
        } else {
            list.insert(name, *count)
        };
    }
    list
}
