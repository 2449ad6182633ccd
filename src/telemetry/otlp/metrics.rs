//! What the export of spans counts.

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// Counters under the prefix `amop_otlp_`; clones count together.
///
/// Spans = exported + dropped, but for those that wait.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Spans of messages that this node had to do with.
    pub spans: Counter,
    /// Spans that the collector has taken.
    pub exported: Counter,
    /// Batches sent again.
    pub retries: Counter,
    /// Batches that the collector took, but what it said to them could not be read: they count as exported.
    pub answers_unread: Counter,
    /// Steps of messages, of whichever, that were gone from their journal before they were read.
    pub steps_missed: Counter,
    /// Steps that their span had no room for.
    pub steps_left_out: Counter,
    dropped: Family<Labels, Counter>,
}

/// Why a span was not exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Dropped {
    /// As many messages as may be were followed already.
    Busy,
    /// As many as may be waited for the collector.
    Queue,
    /// The collector did not answer, or not now, as often as it was asked.
    Unreachable,
    /// The collector refused the whole batch.
    Refused,
    /// The collector took the batch, but for some.
    Rejected,
    /// The node ended.
    Shutdown,
}

impl Dropped {
    const ALL: [Self; 6] =
        [Self::Busy, Self::Queue, Self::Unreachable, Self::Refused, Self::Rejected, Self::Shutdown];
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    cause: Dropped,
}

impl Metrics {
    /// Counters that `registry` shows.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let mut add =
            |name: &str, help: &str, counter: &Counter| registry.register(name, help, counter.clone());
        add("spans", "Spans made of messages whose trace is recorded", &metrics.spans);
        add("exported", "Spans that the collector has taken", &metrics.exported);
        add("retries", "Batches of spans sent to the collector again", &metrics.retries);
        add(
            "answers_unread",
            "Batches that the collector took with an answer that cannot be read",
            &metrics.answers_unread,
        );
        add("steps_missed", "Steps of messages gone before they were read for spans", &metrics.steps_missed);
        add("steps_left_out", "Steps that their span had no room for", &metrics.steps_left_out);
        // All are shown from the start, so that whoever watches them sees the first.
        Dropped::ALL.into_iter().for_each(|cause| _ = metrics.dropped(cause));
        registry.register("dropped", "Spans that were not exported", metrics.dropped.clone());
        metrics
    }

    /// So many spans are not exported.
    pub fn drop(&self, cause: Dropped, spans: u64) {
        if spans > 0 {
            self.dropped.get_or_create(&Labels { cause }).inc_by(spans);
        }
    }

    /// How many were not exported for this cause.
    pub fn dropped(&self, cause: Dropped) -> u64 {
        self.dropped.get_or_create(&Labels { cause }).get()
    }
}
