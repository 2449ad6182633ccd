//! The configuration in force, and how another one takes its place.

use std::{sync::Arc, time::Duration};

use amop_protocol::limits::Limit;
use arc_swap::{ArcSwap, Guard};

use super::{Certificates, Parts, metrics::Outcome};
use crate::{
    config::{self, Change, Config, Problems},
    node::{limits, settings},
};

/// Reads the configuration again, and gives each part of the node what it needs of it.
pub(super) struct Configuration {
    in_force: Config,
    parts: Arc<Parts>,
}

/// What is told of the configuration in force to those who ask the node; whoever reloads it sets it here.
#[derive(Debug)]
pub(in crate::node) struct Settings(ArcSwap<Told>);

/// What is told.
#[derive(Debug)]
pub(in crate::node) struct Told {
    pub(in crate::node) limits: Vec<Limit>,
    /// Peers that the configuration names: without a link to any the node is not ready.
    pub(in crate::node) peers: usize,
    /// Time that a send may take.
    pub(in crate::node) longest_send: Duration,
    /// Keys whose new values wait for a restart.
    pub(in crate::node) at_restart: Vec<String>,
}

impl Settings {
    /// Those of a node that starts with this configuration.
    pub(in crate::node) fn new(config: &Config) -> Self {
        Self(ArcSwap::from_pointee(told(config, &[])))
    }

    /// Those in force.
    pub(in crate::node) fn in_force(&self) -> Guard<Arc<Told>> {
        self.0.load()
    }
}

fn told(config: &Config, at_restart: &[Change]) -> Told {
    Told {
        limits: limits::limits(config),
        peers: config.overlay.peers.len(),
        longest_send: config.delivery.max_deadline,
        at_restart: at_restart.iter().map(|change| change.key.clone()).collect(),
    }
}

impl Configuration {
    /// That of a node which has started with it.
    pub(super) fn new(config: Config, parts: Arc<Parts>) -> Self {
        Self { in_force: config, parts }
    }

    /// Reads the file and says what would come of it; `None` if the configuration came from no file.
    ///
    /// # Errors
    /// With everything that is wrong with it.
    pub(super) fn load(&self) -> Result<Option<config::Reloaded>, Problems> {
        let Some(file) = &self.in_force.file else { return Ok(None) };
        let new = config::load(file).and_then(|new| match settings::overlay(&new).check() {
            Ok(()) => Ok(new),
            Err(not_a_key) => Err(Problems::one(file, not_a_key)),
        });
        match new {
            Ok(new) => Ok(Some(self.in_force.reload(new))),
            Err(problems) => {
                self.refused(&problems.in_one_line());
                Err(problems)
            }
        }
    }

    /// Notes that a new one is not put in force.
    pub(super) fn refused(&self, cause: &str) {
        self.parts.metrics.configuration.count(Outcome::Refused);
        tracing::error!(cause, "the configuration is not loaded; the one in force stays");
    }

    /// Puts a new one in force. Gives what has changed, and what will at the next start.
    pub(super) async fn put_in_force(
        &mut self,
        new: config::Reloaded,
        certificates: &mut Certificates,
    ) -> (Vec<Change>, Vec<Change>) {
        let config::Reloaded { config, changed, at_restart } = new;
        for Change { key, what } in &changed {
            tracing::info!(key, change = what, "configuration changed");
        }
        for Change { key, what } in &at_restart {
            tracing::warn!(
                key,
                change = what,
                "this part of the configuration changes when the node is started again"
            );
        }
        certificates.configure(&config);
        self.parts.configure(&self.in_force, &config).await;
        self.parts.settings.0.store(Arc::new(told(&config, &at_restart)));
        let metrics = &self.parts.metrics;
        metrics.configuration.count(if changed.is_empty() { Outcome::Unchanged } else { Outcome::Changed });
        metrics.wait(at_restart.len());
        self.in_force = config;
        (changed, at_restart)
    }
}
