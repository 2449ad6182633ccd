//! What becomes of a multicast, node by node, for a publisher that wants to know.

use super::fan_out::NodeReport;
use crate::{
    Cause, NodeId,
    broker::{
        budget::{Budget, Hold},
        event::Hop,
        routing::Routing,
    },
    limits::MAX_RECIPIENTS,
    wire::recipients::{NodeRecipients, Roster, Writer},
};

/// What nodes have said of their recipients; at most [`MAX_RECIPIENTS`] are named.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: Vec<Entry>,
    named: usize,
}

#[derive(Debug)]
struct Entry {
    node: NodeId,
    counts: [u32; 2],
    /// Why it did not tell of all its subscribers, if so.
    cause: Option<Cause>,
    roster: Roster,
    _hold: Option<Hold>,
}

impl Ledger {
    /// A node has told of all its subscribers. Names for which there is no room are left out.
    pub(super) fn complete(&mut self, node: NodeId, report: NodeReport, budget: &Budget) {
        let NodeReport { counts, cause, roster, .. } = report;
        let mut roster = Roster::read(&roster, MAX_RECIPIENTS - self.named);
        let hold = budget.hold((&node).into(), roster.bytes());
        if hold.is_none() {
            roster = Roster::default();
        }
        self.named += roster.len();
        // It took the message for nobody, and there was somebody.
        let refused = counts == [0, 0] && !matches!(cause, Cause::Delivered | Cause::NoSubscriber);
        let untold = refused || cause == Cause::OutcomeLost;
        self.entries.push(Entry { node, counts, cause: untold.then_some(cause), roster, _hold: hold });
    }

    /// A node is waited for no longer; `counts` is what it has said so far.
    pub(super) fn missing(&mut self, node: NodeId, counts: [u32; 2], cause: Cause) {
        self.entries.push(Entry { node, counts, cause: Some(cause), roster: Roster::default(), _hold: None });
    }

    /// The list for the publisher.
    pub(super) fn write(&self, routing: &Routing) -> bytes::Bytes {
        let mut writer = Writer::default();
        for Entry { node, counts: [handed, failed], cause, roster, .. } in &self.entries {
            let Hop { node, name, institution } = Hop::of(routing, *node);
            let (handed, failed, cause) = (*handed, *failed, *cause);
            let at =
                NodeRecipients { node, name, institution, handed, failed, cause, recipients: Vec::new() };
            writer.add(&at, roster);
        }
        writer.finish()
    }
}
