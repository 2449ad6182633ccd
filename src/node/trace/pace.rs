//! How much of the journals other nodes may have read, and by whom it is shared.
//!
//! What a question costs is what is read for it: all entries, once or twice. Nodes of the own institution share one
//! rate, all other institutions another, so that no stranger keeps colleagues from their answers. Of either, whoever
//! stays within its part is answered, whatever the others do.

use std::sync::Arc;

use amop_protocol::{
    NodeId, Time,
    broker::{bandwidth::Shared, routing::Routing},
    wire::inquiry::Subject,
};

/// Entries that are read in a second for the nodes of the own institution: some tens of nanoseconds each.
pub(super) const OWN: u32 = 8 << 20;
/// Entries that are read in a second for all other institutions.
pub(super) const OTHERS: u32 = 4 << 20;
/// What a question costs besides, in entries: to take it, and to make and send the answer.
pub(super) const QUESTION: usize = 16 << 10;

/// Whose question it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::node) enum Asker {
    /// A node of the own institution.
    Own(NodeId),
    /// One of another institution, of which it has a part, whatever other nodes that has.
    Other(Arc<str>),
}

impl Asker {
    /// Who a node is; nothing if nobody knows, and then nobody can answer either.
    pub(in crate::node) fn of(routing: &Routing, node: &NodeId) -> Option<Self> {
        let theirs = &routing.find(node)?.institution;
        let mine = &routing.find(&routing.me())?.institution;
        Some(if theirs == mine { Self::Own(*node) } else { Self::Other(theirs.clone()) })
    }
}

/// Counts entries, by who has them read.
#[derive(Debug)]
pub(super) struct Pace {
    own: Shared<NodeId>,
    others: Shared<Arc<str>>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { own: Shared::per_second(OWN.into()), others: Shared::per_second(OTHERS.into()) }
    }
}

impl Pace {
    /// Whether one more question is answered, for which so many entries are read.
    pub(super) fn admits(&mut self, now: Time, asker: &Asker, entries: usize) -> bool {
        let cost = entries.saturating_add(QUESTION);
        let granted = match asker {
            Asker::Own(node) => self.own.take(now, *node, cost),
            Asker::Other(institution) => self.others.take(now, institution.clone(), cost),
        };
        granted.is_ok()
    }
}

/// Entries that are read for a question, if reading all once is `all`: for a seq it is done twice.
pub(super) fn entries_for(subject: Subject, all: usize) -> usize {
    match subject {
        Subject::Send { .. } => all,
        Subject::Seq(_) => all.saturating_mul(2),
    }
}
