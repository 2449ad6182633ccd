//! Certificates that change while the node runs.
//!
//! What has changed in their files is put in force by [`Store`], all or nothing; then whoever is connected is
//! judged again: sessions and links of those who are no longer believed end, others notice nothing. It also
//! warns of what will expire.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use time::OffsetDateTime;

use super::{Parts, metrics::Outcome};
use crate::{
    config::Config,
    identity::{Changes, Fact, Of, Refused, Store},
    node::settings,
    tasks,
};

/// Seconds of a day.
const DAY: i64 = 86_400;

/// Loads certificates, and tells everybody of them.
pub(super) struct Certificates {
    store: Store,
    parts: Arc<Parts>,
    /// Days before the end at which there is a warning, in ascending order.
    warnings: Vec<usize>,
    /// Of each certificate warned of: how many days were left, as the warnings have it.
    warned: BTreeMap<String, i64>,
}

impl Certificates {
    /// Those of a node that has started with this configuration.
    pub(super) fn new(config: &Config, parts: Arc<Parts>) -> Self {
        let files = settings::files(config, &parts.listeners);
        let store = Store::new(parts.credentials.clone(), files);
        let warnings = config.node.expiry_warnings.clone();
        let mut certificates = Self { store, parts, warnings, warned: BTreeMap::new() };
        certificates.show();
        certificates
    }

    /// Warns as this configuration has it.
    pub(super) fn configure(&mut self, config: &Config) {
        self.warnings.clone_from(&config.node.expiry_warnings);
    }

    /// Looks at the files; to be called once a second.
    pub(super) async fn look(&mut self) {
        let loaded = tasks::at_length(|| self.store.look());
        self.loaded(&loaded, false).await;
    }

    /// Loads what is in the files now: in those that a new configuration names, if there is one.
    ///
    /// # Errors
    /// When something in them cannot be used; then nothing is changed, and the former files are those watched.
    pub(super) async fn load(&mut self, new: Option<&Config>) -> Result<Changes, Refused> {
        let loaded = tasks::at_length(|| match new {
            Some(config) => self.store.load_from(settings::files(config, &self.parts.listeners)),
            None => self.store.load(),
        });
        self.loaded(&loaded, true).await;
        loaded
    }

    async fn loaded(&mut self, loaded: &Result<Changes, Refused>, asked: bool) {
        match loaded {
            Ok(changes) if changes.is_empty() => {
                if asked {
                    self.parts.metrics.certificates.count(Outcome::Unchanged);
                    tracing::info!("told to load certificates again: none has changed");
                }
            }
            Ok(changes) => {
                self.parts.metrics.certificates.count(Outcome::Changed);
                log_changes(changes);
                self.judge_again(changes).await;
            }
            Err(refused) => {
                self.parts.metrics.certificates.count(Outcome::Refused);
                log_refused(refused);
            }
        }
    }

    /// Tells others of a new chain, and ends what is not believed any more.
    async fn judge_again(&self, changes: &Changes) {
        let chain = self.parts.credentials.chain();
        let chain = changes.own_chain.then(|| chain.iter().map(|der| Bytes::copy_from_slice(der)).collect());
        let believed: BTreeSet<_> = self.parts.control.certificates(chain).await.into_iter().collect();
        self.parts.overlay.judge_again(believed).await;
        self.parts.judge_sessions();
    }

    /// Shows what is in force in the metrics, and warns of what will expire.
    pub(super) fn show(&mut self) {
        let now = OffsetDateTime::now_utc().unix_timestamp();
        let facts = self.store.facts();
        if facts != **self.parts.certificates.in_force() {
            self.parts.metrics.forget();
            self.parts.certificates.set(facts.clone());
        }
        self.parts.metrics.show(&facts, now);
        self.warned.retain(|id, _| facts.iter().any(|fact| fact.id == *id));
        for fact in &facts {
            let left = fact.not_after.saturating_sub(now);
            let Some(days) = self.due(fact, left) else { continue };
            let before = self.warned.insert(fact.id.clone(), days);
            if before.is_none_or(|before| days < before) {
                warn(fact, left);
            }
        }
    }

    /// The warning that is due for what has so many seconds left: by its days, -1 once it has expired.
    /// Lists are replaced so often that only their last day is worth one.
    fn due(&self, fact: &Fact, left: i64) -> Option<i64> {
        if left < 0 {
            return Some(-1);
        }
        let is_list = fact.of == Of::RevocationList;
        let days = self.warnings.iter().filter_map(|days| i64::try_from(*days).ok());
        days.filter(|days| !is_list || *days <= 1).find(|days| left <= days.saturating_mul(DAY))
    }
}

fn warn(fact: &Fact, left: i64) {
    let Fact { of, subject, issuer, serial, .. } = fact;
    let (of, days_left) = (of.as_str(), left.div_euclid(DAY));
    match (fact.of, left < 0) {
        (Of::RevocationList, true) => {
            tracing::error!(
                issuer,
                "a revocation list is out of date: what it revokes stays revoked, what came after is not known; get a newer one"
            );
        }
        (Of::RevocationList, false) => {
            tracing::warn!(issuer, "a revocation list is to be replaced within a day; get a newer one");
        }
        (_, true) => {
            tracing::error!(
                of,
                subject,
                serial,
                issuer,
                "a certificate has expired; renew it (docs/operations.md)"
            );
        }
        (_, false) => {
            tracing::warn!(
                of,
                subject,
                serial,
                issuer,
                days_left,
                "a certificate expires soon; renew it (docs/operations.md)"
            );
        }
    }
}

fn log_changes(changes: &Changes) {
    for (facts, what) in [(&changes.added, "in force"), (&changes.removed, "no longer in force")] {
        for Fact { of, subject, issuer, serial, .. } in facts {
            let of = of.as_str();
            tracing::info!(of, subject, serial, issuer, "certificates loaded: {what}");
        }
    }
}

fn log_refused(refused: &Refused) {
    let offered = refused.offered.as_ref();
    let (subject, serial, issuer) = (
        offered.map(|leaf| leaf.subject.as_str()),
        offered.map(|leaf| leaf.serial.as_str()),
        offered.map(|leaf| leaf.issuer.as_str()),
    );
    tracing::error!(cause = %refused, subject, serial, issuer, "certificates are not loaded; those in force stay");
}
