//! What the data path counts.

use amop_protocol::Cause;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// Numbers of causes lie below this one; the protocol's tests look no further either.
const CAUSES: i32 = 65;

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
    outcomes: Vec<Counter>,
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
        add(
            "relay_refused_frames",
            "Messages, and questions about them, not passed on at the relay limit",
            &metrics.relay_refused,
        );
        add("unroutable_frames", "Data frames with no way to a destination", &metrics.unroutable);
        add("not_queued_frames", "Frames dropped at a link", &metrics.not_queued);
        add("bad_frames", "Data frames that cannot be read or claim a false origin", &metrics.bad_frames);
        add("forged_frames", "Data frames whose MAC is not their origin's", &metrics.forged_frames);
        let outcomes = Family::<Ending, Counter>::default();
        let counter = |number: i32| match Cause::try_from(number) {
            Ok(cause) => outcomes.get_or_create_owned(&Ending::of(cause)),
            // A number that names no cause is never counted, and not shown.
            Err(_) => Counter::default(),
        };
        let counters = (0..CAUSES).map(counter).collect();
        registry.register("outcomes", "Outcomes given to publishers", outcomes);
        Self { outcomes: counters, ..metrics }
    }

    /// Sends that ended with each cause, in order of the causes' numbers.
    pub(super) fn endings(&self) -> Vec<u64> {
        self.outcomes.iter().map(Counter::get).collect()
    }

    /// A send ended.
    pub(super) fn outcome(&self, cause: Cause) {
        // Looked up by number, once for all: this happens for every message.
        if let Some(counter) = usize::try_from(cause as i32).ok().and_then(|at| self.outcomes.get(at)) {
            counter.inc();
        }
    }
}
