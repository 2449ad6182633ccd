//! What is counted of reloads, and how long the certificates in force last.

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::identity::Fact;

/// Under the prefixes `amop_config_` and `amop_certificates_`.
#[derive(Clone, Debug, Default)]
pub(in crate::node) struct Metrics {
    /// Of the configuration.
    pub(super) configuration: Reloads,
    at_restart: Gauge,
    /// Of certificates; files that have not changed count only if somebody asked.
    pub(super) certificates: Reloads,
    /// Seconds until each certificate in force expires, and until each list is to be replaced. Their
    /// number is bounded by the files that the operator configures.
    expiry: Family<CertificateLabels, Gauge>,
}

/// Reloads, by what came of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Reloads(Family<ReloadLabels, Counter>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(super) enum Outcome {
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
    pub(in crate::node) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let certificates = registry.sub_registry_with_prefix("certificates");
        metrics.certificates.register(certificates, "Reloads of certificates, by outcome");
        let expiry = metrics.expiry.clone();
        certificates.register("expiry_seconds", "Seconds until a certificate expires", expiry);
        let configuration = registry.sub_registry_with_prefix("config");
        metrics.configuration.register(configuration, "Reloads of the configuration, by outcome");
        configuration.register(
            "keys_at_restart",
            "Keys of the configuration whose new values wait for a restart",
            metrics.at_restart.clone(),
        );
        metrics
    }

    /// So many keys wait for a restart.
    pub(super) fn wait(&self, at_restart: usize) {
        self.at_restart.set(i64::try_from(at_restart).unwrap_or(i64::MAX));
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

impl Reloads {
    /// All are shown from the start, so that whoever watches them sees the first.
    fn register(&self, registry: &mut Registry, help: &str) {
        for outcome in [Outcome::Changed, Outcome::Unchanged, Outcome::Refused] {
            drop(self.0.get_or_create(&ReloadLabels { outcome }));
        }
        registry.register("reloads", help, self.0.clone());
    }

    pub(super) fn count(&self, outcome: Outcome) {
        self.0.get_or_create(&ReloadLabels { outcome }).inc();
    }
}
