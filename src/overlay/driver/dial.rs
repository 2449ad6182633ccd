//! Towards addresses: looked up, dialled, and what becomes of it.

use std::{io, net::SocketAddr, time::Instant};

use libp2p::swarm::{ConnectionId, DialError, dial_opts::DialOpts};
use tokio::{net::lookup_host, time::timeout};

use super::{
    Driver,
    text::{describe_dial, multiaddr},
};
use crate::overlay::{
    config::Address,
    peers::{Target, Tell},
};

impl Driver {
    pub(super) fn dial(&mut self, target: Target, address: &Address, attempt: u32) {
        self.context.metrics.dials.inc();
        if let Some(address) = address.ip() {
            return self.handle_lookup(target, Ok(address));
        }
        let (host, port) = (address.host().to_owned(), address.port());
        let (patience, found) = (self.context.config.dial_timeout, self.lookups.0.clone());
        let cancelled = self.context.tasks.token().clone();
        self.context.tasks.spawn("lookup", async move {
            let lookup = timeout(patience, lookup_host((host, port)));
            let Some(result) = cancelled.run_until_cancelled(lookup).await else { return };
            let result = match result {
                // Attempt by attempt, all addresses of the name get their turn.
                Ok(Ok(addresses)) => {
                    let addresses: Vec<_> = addresses.collect();
                    let turn = attempt as usize % addresses.len().max(1);
                    addresses.get(turn).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
                }
                Ok(Err(error)) => Err(error),
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            };
            // Without a driver there is nothing to dial for.
            let _ = found.send((target, result)).await;
        });
    }

    pub(super) fn handle_lookup(&mut self, target: Target, found: io::Result<SocketAddr>) {
        let address = match found {
            Ok(address) => address,
            Err(error) => return self.handle_dial_failure(target, &error.to_string()),
        };
        // Its own port each: a connection from the listening port could collide with one from
        // the other side.
        let dial = DialOpts::unknown_peer_id().address(multiaddr(address)).allocate_new_port().build();
        let connection = dial.connection_id();
        match self.swarm.dial(dial) {
            Ok(()) => {
                self.dials.insert(connection, target);
            }
            // The swarm strikes out addresses that it listens on itself.
            Err(DialError::NoAddresses) => self.handle_self(target),
            Err(error) => self.handle_dial_failure(target, &describe_dial(&error)),
        }
    }

    fn handle_self(&mut self, target: Target) {
        if let Some(address) = self.peers.handle_self(target) {
            tracing::warn!(%address, "this configured peer is the node itself; remove it from the peers");
        }
    }

    fn handle_dial_failure(&mut self, target: Target, error: &str) {
        self.context.metrics.dial_failures.inc();
        let address = self.peers.address(target).map(ToString::to_string).unwrap_or_default();
        self.peers.note(target, error);
        match self.peers.handle_failure(target, Instant::now(), rand::random()) {
            Tell::Operator => tracing::info!(%address, %error, "no link to peer; trying again"),
            Tell::Nobody => tracing::debug!(%address, %error, "no link to peer"),
        }
    }

    pub(super) fn handle_outgoing_error(&mut self, connection: ConnectionId, error: &DialError) {
        let Some(target) = self.dials.remove(&connection) else { return };
        if let DialError::LocalPeerId { .. } = error {
            return self.handle_self(target);
        }
        self.handle_dial_failure(target, &describe_dial(error));
    }
}
