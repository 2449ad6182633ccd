//! The protocols we speak on the swarm.

use libp2p::{
    allow_block_list::{self, AllowedPeers, BlockedPeers},
    connection_limits::{self, ConnectionLimits},
    identify, ping,
    swarm::{NetworkBehaviour, behaviour::toggle::Toggle},
};

use super::{
    config::{Config, MAX_CONNECTIONS_PER_PEER},
    security, streams,
};
use amop_protocol::{NodeId, NodeKey};

/// Everything that runs on a connection beside TLS and yamux.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    /// Before all else: how many connections there may be.
    pub(super) limits: connection_limits::Behaviour,
    /// If configured, only these nodes.
    pub(super) allowed: Toggle<allow_block_list::Behaviour<AllowedPeers>>,
    /// Never these.
    pub(super) denied: allow_block_list::Behaviour<BlockedPeers>,
    /// Round-trip times, and a sign of life on an idle link.
    pub(super) ping: ping::Behaviour,
    /// Which software the other side runs; its addresses are not used.
    pub(super) identify: identify::Behaviour,
    /// The links' substreams.
    pub(super) streams: streams::Behaviour,
}

/// A configured node id that is no point of the curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} is not a node id: it is no point of the curve P-256", .0.to_hex())]
pub struct NotAKey(pub NodeId);

impl Behaviour {
    /// Puts other bounds and lists in force for connections to come. Those that are there end with their links.
    pub(super) fn configure(&mut self, config: &Config) -> Result<(), NotAKey> {
        let (allowed, denied) = (allowed(config)?, denied(config)?);
        *self.limits.limits_mut() = limits(config);
        self.allowed = allowed.into();
        self.denied = denied;
        Ok(())
    }

    pub(super) fn new(config: &Config, own: &NodeKey) -> Result<Self, NotAKey> {
        let own_key = security::public_key(own).ok_or(NotAKey(own.id()))?;
        let agent = format!("amop/{}", env!("CARGO_PKG_VERSION"));
        let identify = identify::Config::new("/amop/1".into(), own_key).with_agent_version(agent);
        let ping = ping::Config::new().with_interval(config.ping_interval).with_timeout(config.silence);
        Ok(Self {
            limits: connection_limits::Behaviour::new(limits(config)),
            allowed: allowed(config)?.into(),
            denied: denied(config)?,
            ping: ping::Behaviour::new(ping),
            identify: identify::Behaviour::new(identify.with_hide_listen_addrs(true).with_cache_size(0)),
            streams: streams::Behaviour::default(),
        })
    }
}

/// Handshakes under way are bounded where they are made: see [`security::transport`].
fn limits(config: &Config) -> ConnectionLimits {
    ConnectionLimits::default()
        .with_max_established(Some(config.max_connections))
        .with_max_established_per_peer(Some(MAX_CONNECTIONS_PER_PEER))
}

fn allowed(config: &Config) -> Result<Option<allow_block_list::Behaviour<AllowedPeers>>, NotAKey> {
    let Some(keys) = &config.allow else { return Ok(None) };
    let mut list = allow_block_list::Behaviour::default();
    for id in keys {
        for peer in security::peer_ids(id).ok_or(NotAKey(*id))? {
            list.allow_peer(peer);
        }
    }
    Ok(Some(list))
}

fn denied(config: &Config) -> Result<allow_block_list::Behaviour<BlockedPeers>, NotAKey> {
    let mut list = allow_block_list::Behaviour::default();
    for id in &config.deny {
        for peer in security::peer_ids(id).ok_or(NotAKey(*id))? {
            list.block_peer(peer);
        }
    }
    Ok(list)
}
