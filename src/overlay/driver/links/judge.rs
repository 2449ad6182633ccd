//! Peers that have been let in, judged again: certificates, CAs, revocation lists, and
//! the lists of the configuration change while links are up.

use std::collections::BTreeSet;

use amop_protocol::NodeId;
use libp2p::Swarm;

use super::{Connection, Links, State};
use crate::{
    identity::{ChainError, Role, Subject, while_valid},
    overlay::{Config, DownReason, behaviour::Behaviour, peers::Target, security::Identity},
};

impl Links {
    /// Ends connections whose certificates are no longer believed. Of a peer that announces one which is,
    /// for the same key, only what was revoked ends.
    pub(in crate::overlay::driver) fn judge_again(
        &mut self,
        announced: &BTreeSet<NodeId>,
        swarm: &mut Swarm<Behaviour>,
    ) {
        for connection in self.connections.values() {
            let Err(cause) = self.still_believes(&connection.identity) else { continue };
            let is_revoked = matches!(cause, ChainError::Revoked { .. });
            if connection.link.is_ending() || !is_revoked && announced.contains(&connection.link.peer()) {
                continue;
            }
            self.tell_untrusted(&connection.identity, &cause);
            end(connection, DownReason::Untrusted(cause), swarm);
        }
    }

    /// Puts another configuration in force. Links with nodes that it does not let in end, and so do those that
    /// were dialled for addresses which it has no longer.
    pub(in crate::overlay::driver) fn configure(
        &mut self,
        config: Config,
        dropped: &BTreeSet<Target>,
        swarm: &mut Swarm<Behaviour>,
    ) {
        for connection in self.connections.values().filter(|connection| !connection.link.is_ending()) {
            let reason = match connection.target {
                _ if !config.lets_in(&connection.link.peer()) => DownReason::NotAllowed,
                Some(target) if dropped.contains(&target) => DownReason::NotConfigured,
                _ => continue,
            };
            end(connection, reason, swarm);
        }
        self.config = config;
    }

    pub(super) fn still_believes(&self, identity: &Identity) -> Result<(), ChainError> {
        let at = while_valid(&identity.chain);
        self.credentials.authority().verify_chain_at(&identity.chain, Role::Node, at).map(drop)
    }

    pub(super) fn tell_untrusted(&self, identity: &Identity, cause: &ChainError) {
        self.context.metrics.untrusted_links.inc();
        let (peer, Subject { name, institution, serial, issuer, .. }) =
            (identity.key.id(), &*identity.subject);
        self.refusals.line(|| {
            tracing::warn!(%peer, %name, %institution, serial, issuer, %cause, "a peer's certificate is no longer believed; its link ends");
        });
    }
}

/// Ends a connection, and the link on it if there is one.
fn end(connection: &Connection, reason: DownReason, swarm: &mut Swarm<Behaviour>) {
    connection.link.close(reason);
    if let State::Opening { .. } = connection.state {
        swarm.close_connection(connection.id);
    }
}
