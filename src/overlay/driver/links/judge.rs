//! Peers that have been let in, judged again: certificates, CAs and revocation lists change while links are up.

use std::collections::BTreeSet;

use amop_protocol::NodeId;
use libp2p::Swarm;

use super::{Links, State};
use crate::{
    identity::{ChainError, Role, Subject, while_valid},
    overlay::{DownReason, behaviour::Behaviour, security::Identity},
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
            connection.link.close(DownReason::Untrusted(cause));
            if let State::Opening { .. } = connection.state {
                swarm.close_connection(connection.id);
            }
        }
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
