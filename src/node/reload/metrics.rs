//! What is counted of reloads of the configuration.

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// Under the prefix `amop_config_`.
#[derive(Clone, Debug, Default)]
pub(in crate::node) struct Metrics {
    reloads: Family<ReloadLabels, Counter>,
    at_restart: Gauge,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Outcome {
    Changed,
    Unchanged,
    Refused,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabels {
    outcome: Outcome,
}

impl Metrics {
    /// Metrics that `registry` shows.
    pub(in crate::node) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        for outcome in [Outcome::Changed, Outcome::Unchanged, Outcome::Refused] {
            drop(metrics.reloads.get_or_create(&ReloadLabels { outcome }));
        }
        let registry = registry.sub_registry_with_prefix("config");
        registry.register("reloads", "Reloads of the configuration, by outcome", metrics.reloads.clone());
        registry.register(
            "keys_at_restart",
            "Keys of the configuration whose new values wait for a restart",
            metrics.at_restart.clone(),
        );
        metrics
    }

    pub(super) fn loaded(&self, has_changed: bool, at_restart: usize) {
        self.count(if has_changed { Outcome::Changed } else { Outcome::Unchanged });
        self.at_restart.set(i64::try_from(at_restart).unwrap_or(i64::MAX));
    }

    pub(super) fn refused(&self) {
        self.count(Outcome::Refused);
    }

    fn count(&self, outcome: Outcome) {
        self.reloads.get_or_create(&ReloadLabels { outcome }).inc();
    }
}
