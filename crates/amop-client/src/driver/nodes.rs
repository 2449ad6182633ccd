//! Connections that come and go.

use std::time::Duration;

use tokio::{sync::oneshot, time::Instant};

use super::{Driver, Home};
use crate::{ConnectError, Node, connector::Established, error::DialError};

/// How long connecting waits for further nodes when one is connected.
pub(super) const FURTHER_NODES: Duration = Duration::from_secs(1);

/// Until the client is connected for the first time.
pub(super) struct Starting {
    pub(super) since: Instant,
    pub(super) failures: Vec<(String, DialError)>,
    pub(super) reply: oneshot::Sender<Result<(), ConnectError>>,
}

impl Driver {
    /// Dials as many nodes as are missing.
    pub(super) fn dial(&mut self) {
        let manned = self.manned();
        while let Some(seat) = self.seek.next(manned, Instant::now()) {
            let (connector, address) = (self.connector.clone(), self.seek.address(seat));
            self.dials.push(Box::pin(async move { (seat, connector.dial(&address).await) }));
        }
    }

    pub(super) fn handle_dialled(&mut self, seat: usize, result: Result<Established, DialError>) {
        match result {
            Ok(established) if self.is_alone(&established.node) => self.add(seat, established),
            Ok(established) => {
                tracing::info!(
                    address = established.node.address,
                    "a node without extensions is not kept beside others"
                );
                self.seek.only_alone(seat, Instant::now());
            }
            Err(error) => {
                let address = self.seek.address(seat);
                tracing::debug!(node = %address, %error, "cannot connect");
                self.seek.failed(seat, Instant::now());
                if let Some(starting) = &mut self.starting
                    && starting.failures.iter().all(|(known, _)| **known != *address)
                {
                    starting.failures.push((address.to_string(), error));
                }
            }
        }
    }

    /// Connections that need no others: all that are usable, and as many as wanted if one of them can
    /// only be alone.
    pub(super) fn manned(&self) -> usize {
        let usable = self.homes.iter().filter(|home| home.is_usable());
        match usable.clone().all(|home| home.node.extended) {
            true => usable.count(),
            false => self.seek.wanted(),
        }
    }

    /// Whether this node may be connected beside the others: one without the extension does not say
    /// which message it hands over, so that what comes twice could not be told.
    fn is_alone(&self, node: &Node) -> bool {
        let mut others = self.homes.iter().filter(|home| home.is_usable());
        others.all(|other| other.node.extended && node.extended)
    }

    fn add(&mut self, seat: usize, established: Established) {
        let home = Home::new(self.next_home, seat, established, &self.options);
        self.next_home += 1;
        let node = &home.node;
        tracing::info!(address = node.address, node = %node.name, extended = node.extended, "connected");
        self.seek.connected(seat);
        self.homes.push(home);
        if self.starting.is_some() {
            // Nothing has been sent yet: the order is that of the options, whoever was quicker.
            self.homes.sort_by_key(|home| home.seat);
        }
        self.tell_nodes();
    }

    /// Leaves nodes that have drained, and takes leave of connections that have ended.
    pub(super) fn leave_homes(&mut self) {
        let Self { homes, once, .. } = self;
        for home in homes.iter_mut().filter(|home| home.is_draining()) {
            let waits = once.awaits(|way| way.home == home.id);
            // The last answers may have come in this very turn.
            home.fill();
            if home.is_written() && home.session.in_flight() == 0 && !waits {
                home.leave();
            }
        }
        let mut at = 0;
        while at < self.homes.len() {
            match self.homes[at].end() {
                Some(end) => {
                    let home = self.homes.remove(at);
                    tracing::info!(address = home.node.address, reason = %end, "disconnected");
                    self.lose(&home);
                }
                None => at += 1,
            }
        }
    }

    fn lose(&mut self, home: &Home) {
        self.seek.lost(home.seat, home.since.elapsed(), Instant::now());
        self.in_flight.handle_lost(self.connector.clock().now(), home);
        self.once.handle_lost(|way| way.home == home.id);
        self.dispatch.lost(home.id);
        self.private.handle_lost(home.id);
        self.tell_nodes();
    }

    pub(super) fn tell_nodes(&self) {
        let usable = self.homes.iter().filter(|home| home.is_usable());
        let draining = self.homes.iter().filter(|home| !home.is_usable());
        self.nodes.send_replace(usable.chain(draining).map(|home| home.node.clone()).collect());
    }

    /// Says whether the client is connected, once that is known. True if it cannot be.
    pub(super) fn start(&mut self, hope: bool) -> bool {
        let Some(starting) = &self.starting else { return false };
        let patience = starting.since.elapsed() < FURTHER_NODES && self.seek.is_hopeful(Instant::now());
        let connected = self.manned();
        if connected < self.seek.wanted() && (if connected == 0 { hope } else { patience }) {
            return false;
        }
        let Some(Starting { failures, reply, .. }) = self.starting.take() else { return false };
        let result = if connected > 0 { Ok(()) } else { Err(ConnectError::Failed(failures)) };
        // Whoever asked may have gone.
        let _ = reply.send(result);
        connected == 0
    }
}
