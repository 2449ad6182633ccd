//! What the data path counts.

use amop_protocol::Cause;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// How a send ended: a closed set of labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Ending {
    code: i32,
    cause: &'static str,
}

impl Ending {
    fn of(cause: Cause) -> Self {
        Self { code: cause.status().code(), cause: cause.as_str_name() }
    }
}

/// Counters of the data path, under the prefix `amop_delivery_`.
#[derive(Clone, Debug, Default)]
pub(super) struct Metrics {
    /// Outcomes given to publishers, by code and cause. `sends` = the sum of these + those in flight.
    outcomes: Family<Ending, Counter>,
    /// Sends of this node's clients, repeated ones included.
    pub(super) sends: Counter,
    /// Data frames passed on for others.
    pub(super) relayed: Counter,
    /// Messages not passed on for others, because the relay limit was used up.
    pub(super) relay_refused: Counter,
    /// Data frames with a destination that there was no way to; their origin sends again.
    pub(super) unroutable: Counter,
    /// Frames dropped because a link was gone or its queue full; their origin sends again.
    pub(super) not_queued: Counter,
    /// Data frames that cannot be read, or claim to come from this very node.
    pub(super) bad_frames: Counter,
    /// Data frames that a relay has changed or made up.
    pub(super) forged_frames: Counter,
}

impl Metrics {
    /// Counters that `registry` shows.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let mut add =
            |name: &str, help: &str, counter: &Counter| registry.register(name, help, counter.clone());
        add("sends", "Sends of clients; equals the outcomes once none is in flight", &metrics.sends);
        add("relayed_frames", "Data frames passed on for others", &metrics.relayed);
        add("relay_refused_frames", "Messages not passed on at the relay limit", &metrics.relay_refused);
        add("unroutable_frames", "Data frames with no way to a destination", &metrics.unroutable);
        add("not_queued_frames", "Frames dropped at a link", &metrics.not_queued);
        add("bad_frames", "Data frames that cannot be read or claim a false origin", &metrics.bad_frames);
        add("forged_frames", "Data frames whose MAC is not their origin's", &metrics.forged_frames);
        for cause in (0..=64).filter_map(|number| Cause::try_from(number).ok()) {
            drop(metrics.outcomes.get_or_create(&Ending::of(cause)));
        }
        registry.register("outcomes", "Outcomes given to publishers", metrics.outcomes.clone());
        metrics
    }

    /// A send ended.
    pub(super) fn outcome(&self, cause: Cause) {
        self.outcomes.get_or_create(&Ending::of(cause)).inc();
    }
}
