//! Connections to the same peer: which one of them stays. [`duplicates`] has the rule.

use std::time::Instant;

use amop_protocol::NodeId;

use super::{Links, State};
use crate::overlay::{
    LinkId,
    duplicates::{self, Standing, Winner},
};

impl Links {
    /// Whether a connection that we dialled now would be one too many.
    pub(super) fn has_better(&self, node: &NodeId, own_is_lower: bool) -> bool {
        self.connections.values().any(|other| {
            let is_peers = other.link.peer() == *node;
            let ours = other.target.is_some();
            let is_up = matches!(other.state, State::Up { .. });
            is_peers && !other.link.is_ending() && (ours || (is_up && !own_is_lower))
        })
    }

    /// Which stays, of a newcomer and the connection it meets.
    pub(super) fn decide(&self, rival: LinkId, newcomer: Standing, now: Instant) -> Winner {
        let Some(rival) = self.connections.get(&rival) else { return Winner::Newcomer };
        if rival.link.is_ending() {
            return Winner::Newcomer;
        }
        let (epoch, age) = match &rival.state {
            State::Up { epoch, since } => (*epoch, now.saturating_duration_since(*since)),
            State::Waiting { epoch, .. } => (*epoch, std::time::Duration::ZERO),
            State::Opening { .. } | State::Greeting => return Winner::Newcomer,
        };
        let config = &self.config;
        let race = config.dial_timeout + config.handshake_timeout;
        duplicates::decide(Standing { epoch, dialler: rival.dialler }, age, newcomer, race)
    }
}
