//! Whoever is to know of a new configuration, or of new certificates.

use std::{net::SocketAddr, sync::Arc};

use super::{Metrics, Settings};
use crate::{
    client_port::{ClientPort, Registry},
    config::Config,
    identity::{ClientTls, Credentials},
    node::{
        certificates::Certificates, control, data_path::DataPath, lifecycle::Lifecycle, settings, trace::Desk,
    },
    overlay::Overlay,
    tasks,
    telemetry::{
        admin::Names,
        logging::{self, Filter},
    },
};

/// The parts of a node that change while it runs.
pub(in crate::node) struct Parts {
    pub(in crate::node) credentials: Credentials,
    /// The configured ones, in their order.
    pub(in crate::node) listeners: Vec<(SocketAddr, ClientTls)>,
    pub(in crate::node) data: Arc<DataPath>,
    pub(in crate::node) control: control::Handle,
    pub(in crate::node) clients: Arc<Registry>,
    pub(in crate::node) client_port: Arc<ClientPort>,
    pub(in crate::node) overlay: Overlay,
    pub(in crate::node) desk: Arc<Desk>,
    pub(in crate::node) lifecycle: Arc<Lifecycle>,
    /// Those that count at the admin port.
    pub(in crate::node) names: Names,
    /// What is in force, for whoever asks.
    pub(in crate::node) settings: Arc<Settings>,
    /// Likewise.
    pub(in crate::node) certificates: Arc<Certificates>,
    pub(in crate::node) metrics: Metrics,
}

impl Parts {
    /// Tells each of them what it needs of a configuration, where that is not what it was `before`.
    pub(super) async fn configure(&self, before: &Config, now: &Config) {
        let given = Given { before, now };
        if let Some(level) = given.other(|config| config.log.level.clone()) {
            set_filter(&level);
        }
        if let Some(grace) = given.other(|config| config.shutdown.grace) {
            self.lifecycle.set_grace(grace);
        }
        if let Some(show) = given.other(|config| config.trace.show) {
            self.desk.set_show(show);
        }
        if let Some((clients, hosts)) =
            given.other(|config| (config.admin.clients.clone(), config.admin.hosts.clone()))
        {
            self.names.replace(clients, hosts);
        }
        // Those that serve have been told with their certificates.
        if given.other(|config| config.client_port.listeners.clone()).is_some() {
            self.judge_sessions();
        }
        if let Some(bounds) = given.other(settings::data_path) {
            self.data.configure(bounds);
        }
        if let Some(port) = given.other(|config| settings::client_port(config, &self.credentials)) {
            self.client_port.configure(port);
        }
        if let Some(of_gossip) = given.other(settings::control) {
            self.control.configure(of_gossip).await;
        }
        if let Some(overlay) = given.other(settings::overlay) {
            self.overlay.configure(overlay).await;
        }
    }

    /// Ends the sessions of clients that are no longer believed, or served.
    pub(super) fn judge_sessions(&self) {
        let ended = tasks::at_length(|| self.clients.judge_again());
        if ended > 0 {
            tracing::warn!(sessions = ended, "sessions of clients that are no longer believed have ended");
        }
    }
}

/// Two configurations.
struct Given<'a> {
    before: &'a Config,
    now: &'a Config,
}

impl Given<'_> {
    /// What comes of the second, if it is something else than what came of the first.
    fn other<T: PartialEq>(&self, of: impl Fn(&Config) -> T) -> Option<T> {
        let now = of(self.now);
        (now != of(self.before)).then_some(now)
    }
}

fn set_filter(level: &str) {
    match logging::set_filter(level) {
        Ok(Filter::OfEnvironment) => tracing::warn!("log.level does not count: RUST_LOG is set"),
        Ok(_) => {}
        // Whoever read it has checked it.
        Err(error) => tracing::error!(%error, "the log's filter is not changed"),
    }
}
