//! What the admin port counts.

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// The admin port's metrics; clones count together.
#[derive(Clone, Debug, Default)]
pub(super) struct Metrics {
    /// Connections accepted.
    pub(super) accepted: Counter,
    /// Connections that are open.
    pub(super) open: Gauge,
    /// Connections that ended before their time, or never came up.
    pub(super) cut: Family<CutLabels, Counter>,
    /// Requests that were let in.
    pub(super) requests: Counter,
    /// Requests that were not.
    pub(super) refused: Family<RefusedLabels, Counter>,
}

/// Why a request was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(super) enum Refused {
    /// It shows no authority, and needs some.
    NoAuthority,
    /// It shows a token that is not the node's.
    WrongToken,
    /// What it shows is not enough for what it asks.
    NotEnough,
    /// It names a host that is none of the node's.
    Host,
    /// It comes from a page of somebody else.
    Origin,
    /// It brings too much.
    TooLarge,
}

impl Refused {
    const ALL: [Self; 6] =
        [Self::NoAuthority, Self::WrongToken, Self::NotEnough, Self::Host, Self::Origin, Self::TooLarge];
}

/// Label of [`Metrics::refused`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RefusedLabels {
    pub(super) reason: Refused,
}

/// Why a connection was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(super) enum Cut {
    /// TLS or the certificate.
    Tls,
    /// It took too long.
    TimedOut,
    /// There were too many; this was the oldest of whoever had the most.
    Evicted,
}

/// Label of [`Metrics::cut`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CutLabels {
    pub(super) reason: Cut,
}

impl Metrics {
    /// Registers all under `amop_admin_`, every label from the start.
    pub(super) fn register(&self, registry: &mut Registry) {
        for reason in Refused::ALL {
            drop(self.refused.get_or_create(&RefusedLabels { reason }));
        }
        for reason in [Cut::Tls, Cut::TimedOut, Cut::Evicted] {
            drop(self.cut.get_or_create(&CutLabels { reason }));
        }
        let registry = registry.sub_registry_with_prefix("admin");
        registry.register("accepted", "Connections to the admin port", self.accepted.clone());
        registry.register("open", "Connections to the admin port that are open", self.open.clone());
        registry.register("cut", "Connections to the admin port ended by the node", self.cut.clone());
        registry.register("requests", "Requests let in by the admin port", self.requests.clone());
        registry.register("refused", "Requests not let in by the admin port", self.refused.clone());
    }

    pub(super) fn count_refused(&self, reason: Refused) {
        self.refused.get_or_create(&RefusedLabels { reason }).inc();
    }

    pub(super) fn count_cut(&self, reason: Cut) {
        self.cut.get_or_create(&CutLabels { reason }).inc();
    }
}
