//! Echoes: how the origin of a record learns that every reachable node holds it.
//!
//! Whoever takes a record in passes it to all other neighbours and owes its sender a `Settled`
//! until each of those has settled, was seen to have the record, or was lost. So the word comes
//! back to the origin when the last node has it, in one message per link.

use std::collections::{BTreeMap, BTreeSet};

use crate::{NodeId, Version};

/// Echoes under way, by origin: only the newest record of an origin counts.
#[derive(Debug, Default)]
pub struct Echoes {
    by_origin: BTreeMap<NodeId, Echo>,
}

#[derive(Debug)]
struct Echo {
    version: Version,
    owed: Option<NodeId>,
    waiting: BTreeSet<NodeId>,
}

/// An echo that is complete: nobody is waited for any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Complete {
    /// Whose record it is.
    pub origin: NodeId,
    /// Which version of it.
    pub version: Version,
    /// The neighbour to tell; none at the origin itself.
    pub owed: Option<NodeId>,
}

impl Echoes {
    /// A record was taken in from `owed` (nobody, if it is our own) and passed on to `waiting`.
    pub fn begin(
        &mut self,
        origin: NodeId,
        version: Version,
        owed: Option<NodeId>,
        waiting: BTreeSet<NodeId>,
    ) -> Option<Complete> {
        self.by_origin.insert(origin, Echo { version, owed, waiting });
        self.complete(origin)
    }

    /// `neighbour`, and all behind it, hold `version` of the origin's record.
    pub fn settled(&mut self, origin: NodeId, neighbour: NodeId, version: Version) -> Option<Complete> {
        let echo = self.by_origin.get_mut(&origin)?;
        if version < echo.version || !echo.waiting.remove(&neighbour) {
            return None;
        }
        self.complete(origin)
    }

    /// The link to `neighbour` is lost: nobody waits for it, and it is owed nothing.
    pub fn lost(&mut self, neighbour: &NodeId) -> Vec<Complete> {
        let mut touched = Vec::new();
        for (origin, echo) in &mut self.by_origin {
            if echo.owed.as_ref() == Some(neighbour) {
                echo.owed = None;
            }
            if echo.waiting.remove(neighbour) {
                touched.push(*origin);
            }
        }
        touched.into_iter().filter_map(|origin| self.complete(origin)).collect()
    }

    /// Whether the newest record of `origin` has settled here.
    pub fn is_settled(&self, origin: &NodeId) -> bool {
        !self.by_origin.contains_key(origin)
    }

    /// Whether `neighbour` will be told when the newest record of `origin` has settled.
    pub fn is_owed(&self, origin: &NodeId, neighbour: &NodeId) -> bool {
        self.by_origin.get(origin).is_some_and(|echo| echo.owed.as_ref() == Some(neighbour))
    }

    /// A complete echo is forgotten: without one, everything has settled.
    fn complete(&mut self, origin: NodeId) -> Option<Complete> {
        let echo = self.by_origin.get(&origin).filter(|echo| echo.waiting.is_empty())?;
        let complete = Complete { origin, version: echo.version, owed: echo.owed };
        self.by_origin.remove(&origin);
        Some(complete)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> NodeId {
        NodeId::new([n; 32])
    }

    fn version(sequence: u64) -> Version {
        Version { epoch: 1, sequence }
    }

    #[test]
    fn an_echo_is_complete_when_the_last_neighbour_has_settled() {
        let mut echoes = Echoes::default();
        assert_eq!(echoes.begin(id(1), version(3), Some(id(2)), [id(3), id(4)].into()), None);
        assert_eq!(echoes.settled(id(1), id(3), version(2)), None, "an older version says nothing");
        assert_eq!(echoes.settled(id(1), id(3), version(3)), None);
        let complete = Complete { origin: id(1), version: version(3), owed: Some(id(2)) };
        assert_eq!(echoes.settled(id(1), id(4), version(4)), Some(complete), "a newer one implies it");
        assert!(echoes.is_settled(&id(1)));
    }

    #[test]
    fn a_lost_neighbour_is_not_waited_for() {
        let mut echoes = Echoes::default();
        echoes.begin(id(1), version(3), Some(id(2)), [id(3)].into());
        let complete = Complete { origin: id(1), version: version(3), owed: Some(id(2)) };
        assert_eq!(echoes.lost(&id(3)), [complete]);
    }

    #[test]
    fn without_neighbours_it_is_complete_at_once() {
        let mut echoes = Echoes::default();
        let complete = Complete { origin: id(1), version: version(1), owed: None };
        assert_eq!(echoes.begin(id(1), version(1), None, BTreeSet::new()), Some(complete));
    }
}
