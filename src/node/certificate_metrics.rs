//! What is counted of certificates, and how long those in force last.

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::identity::Fact;

/// Under the prefix `amop_certificates_`.
#[derive(Clone, Debug, Default)]
pub(super) struct Metrics {
    /// Reloads, by what came of them; files that have not changed count only if somebody asked.
    reloads: Family<ReloadLabels, Counter>,
    /// Seconds until each certificate in force expires, and until each list is to be replaced. Their
    /// number is bounded by the files that the operator configures.
    expiry: Family<CertificateLabels, Gauge>,
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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CertificateLabels {
    of: &'static str,
    subject: String,
    serial: String,
    issuer: String,
}

impl Metrics {
    /// Metrics that `registry` shows.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        for outcome in [Outcome::Changed, Outcome::Unchanged, Outcome::Refused] {
            drop(metrics.reloads.get_or_create(&ReloadLabels { outcome }));
        }
        let registry = registry.sub_registry_with_prefix("certificates");
        registry.register("reloads", "Reloads of certificates, by outcome", metrics.reloads.clone());
        registry.register("expiry_seconds", "Seconds until a certificate expires", metrics.expiry.clone());
        metrics
    }

    pub(super) fn changed(&self) {
        self.count(Outcome::Changed);
    }

    pub(super) fn unchanged(&self) {
        self.count(Outcome::Unchanged);
    }

    pub(super) fn refused(&self) {
        self.count(Outcome::Refused);
    }

    fn count(&self, outcome: Outcome) {
        self.reloads.get_or_create(&ReloadLabels { outcome }).inc();
    }

    /// From now on, only certificates that are shown anew count.
    pub(super) fn forget(&self) {
        self.expiry.clear();
    }

    /// Shows these as they are at the moment `now`, Unix time.
    pub(super) fn show(&self, facts: &[Fact], now: i64) {
        for Fact { of, subject, issuer, serial, not_after, .. } in facts {
            let labels = CertificateLabels {
                of: of.as_str(),
                subject: subject.clone(),
                serial: serial.clone(),
                issuer: issuer.clone(),
            };
            self.expiry.get_or_create(&labels).set(not_after.saturating_sub(now));
        }
    }
}
