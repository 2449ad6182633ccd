//! What the desk counts.

use prometheus_client::{metrics::counter::Counter, registry::Registry};

/// Counters under the prefix `amop_trace_`. Questions = answered + refused + dropped.
#[derive(Clone, Debug, Default)]
pub(in crate::node) struct Metrics {
    /// Questions of other nodes.
    pub(super) questions: Counter,
    /// Those that were answered.
    pub(super) answered: Counter,
    /// Those of nodes that ask too often, or that are none.
    pub(super) refused: Counter,
    /// Those for which there was no room in the queue.
    pub(super) dropped: Counter,
    /// Questions of this node that nobody answered in time.
    pub(super) unanswered: Counter,
    /// Traces refused at the admin port, because enough were under way.
    pub(super) busy: Counter,
    /// Nodes that were not asked, and messages that were not told to somebody who follows a topic: too many.
    pub(super) left_out: Counter,
}

impl Metrics {
    /// Counters that `registry` shows.
    pub(in crate::node) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let mut add =
            |name: &str, help: &str, counter: &Counter| registry.register(name, help, counter.clone());
        add("questions", "Questions of other nodes about messages", &metrics.questions);
        add("answered", "Those that were answered", &metrics.answered);
        add("refused", "Those of nodes that ask too often, or malformed", &metrics.refused);
        add("dropped", "Those for which the queue had no room", &metrics.dropped);
        add("unanswered", "Questions of this node that were not answered in time", &metrics.unanswered);
        add("busy", "Traces refused at the admin port because enough were under way", &metrics.busy);
        add(
            "left_out",
            "Nodes not asked about a message, and messages of a topic not told, beyond their bounds",
            &metrics.left_out,
        );
        metrics
    }
}
