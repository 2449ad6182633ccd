//! From the resolved configuration to the settings of each component.

use std::{net::SocketAddr, path::Path, sync::Arc};

use amop_protocol::{
    broker::{control, dedup, deliver},
    certificate::Subject,
    session::{handshake::About, startup},
};

use super::data_path::{Bounds, SHARDS};
use crate::{
    client_port,
    config::{Certificates, Config, Listener},
    identity::{ClientTls, Credentials, Files, LoadError, Served},
    overlay,
    telemetry::admin::{self, Names, Secret, TokenError},
};

/// Settings of the client port.
pub(super) fn client_port(config: &Config, credentials: &Credentials) -> client_port::Config {
    let about = About {
        key: credentials.node_key(),
        name: name(config, credentials.subject()),
        institution: credentials.subject().institution.to_string(),
    };
    client_port::Config { about, ..of_client_port(config) }
}

/// Those of them that do not depend on who the node is.
pub(super) fn of_client_port(config: &Config) -> client_port::Config {
    let port = &config.client_port;
    client_port::Config {
        max_clients: port.max_clients,
        max_handshakes: port.max_handshakes,
        handshake_timeout: port.handshake_timeout,
        max_partial_bytes: port.partial_frame_bytes,
        max_queued_bytes: port.queue_bytes,
        max_topics: port.max_topics_per_client,
        max_in_flight: port.max_in_flight,
        idle_timeout: port.idle_timeout,
        startup: startup::Config { groups: port.groups.clone(), ..startup::Config::default() },
        ..client_port::Config::default()
    }
}

/// The client port's listeners, each with its certificates.
pub(super) fn listeners(
    config: &Config,
    credentials: &Credentials,
) -> Result<Vec<(SocketAddr, ClientTls)>, Vec<LoadError>> {
    let load = |listener: &Listener| Ok((listener.listen, listener.certificates.load(credentials)?));
    config.client_port.listeners.iter().map(load).collect()
}

/// The files that the certificates of node and listeners came from, and whom the latter serve.
pub(super) fn files(config: &Config, listeners: &[(SocketAddr, ClientTls)]) -> Files {
    let configured = config.client_port.listeners.iter().zip(listeners);
    let listeners = configured.map(|(listener, (_, tls))| {
        let served = match &listener.certificates {
            Certificates::Consortium(clients) => Served::Consortium(clients.clone()),
            Certificates::Fisco(paths) => Served::Fisco(paths.clone()),
        };
        (served, tls.clone())
    });
    Files { node: config.node.paths.clone(), listeners: listeners.collect() }
}

/// Settings of the overlay.
pub(super) fn overlay(config: &Config) -> overlay::Config {
    let given = &config.overlay;
    overlay::Config {
        peers: given.peers.iter().map(|peer| overlay::Address::from(*peer)).collect(),
        allow: (!given.allow.is_empty()).then(|| given.allow.clone()),
        deny: given.deny.clone(),
        max_connections: u32::try_from(given.max_connections).unwrap_or(u32::MAX),
        data_queue: given.link_queue_bytes,
        reassembly: given.partial_frame_bytes,
        ..overlay::Config::new(given.listen)
    }
}

/// Settings of the admin port. Makes the token if there is none yet.
pub(super) fn admin(
    config: &Config,
    credentials: &Credentials,
    names: Names,
) -> Result<admin::Settings, TokenError> {
    let given = &config.admin;
    let credentials = credentials.clone();
    Ok(admin::Settings {
        token: given.token.as_deref().map(token).transpose()?.flatten(),
        token_for_reads: given.token_for_reads,
        names,
        tls: Some(Arc::new(move || credentials.admin_server())),
        ..admin::Settings::new(given.listen)
    })
}

/// Where a token cannot be made, as in a container with a configuration that it cannot write, the node serves all the
/// same, and nothing can be changed over its admin port.
fn token(path: &Path) -> Result<Option<Secret>, TokenError> {
    match Secret::load_or_make(path) {
        Err(cause @ TokenError::Make { .. }) => {
            tracing::error!(%cause, "nothing can be changed over the admin port");
            Ok(None)
        }
        loaded => loaded.map(Some),
    }
}

/// Bounds of the data path.
pub(super) fn data_path(config: &Config) -> Bounds {
    let limits = &config.limits;
    Bounds {
        delivery: delivery(config),
        outgoing: limits.outgoing_bandwidth_limit,
        of_client: limits.client_bandwidth_limit,
        relayed: limits.relay_bandwidth_limit,
        payloads: limits.payload_bytes,
    }
}

/// Settings of one shard of delivery.
pub(super) fn delivery(config: &Config) -> deliver::Config {
    let given = &config.delivery;
    let bounds =
        dedup::Bounds { entries: given.seen_entries / SHARDS / 2, bytes: given.seen_bytes / SHARDS / 2 };
    deliver::Config {
        default_deadline: given.default_deadline,
        max_deadline: given.max_deadline,
        path_timeout: given.path_timeout,
        push_timeout_min: given.min_push_timeout,
        push_timeout_max: given.max_push_timeout,
        sent: bounds,
        received: bounds,
        journal: config.trace.entries.div_ceil(SHARDS),
        ..deliver::Config::default()
    }
}

/// Settings of gossip.
pub(super) fn control(config: &Config) -> control::Config {
    control::Config {
        max_nodes: config.overlay.max_nodes,
        max_own_topics: config.client_port.max_topics,
        ..control::Config::default()
    }
}

/// The name shown to others.
pub(super) fn name(config: &Config, subject: &Subject) -> String {
    config.node.name.clone().unwrap_or_else(|| subject.name.to_string())
}

/// The overlay address others are told.
pub(super) fn advertised(config: &Config) -> SocketAddr {
    config.overlay.advertise.unwrap_or(config.overlay.listen)
}
