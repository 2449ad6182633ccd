//! A node that runs, and the order in which it stops.

use std::{sync::Arc, time::Duration};

use crate::{
    client_port::ClientPort,
    node::{
        control,
        data_path::DataPath,
        lifecycle::Lifecycle,
        reload::{self, Reloaded},
    },
    overlay::Overlay,
    tasks::Tasks,
    telemetry::{admin::Admin, status::Addresses},
};

/// How often a draining node looks whether its sends have ended.
const LOOK: Duration = Duration::from_millis(5);
/// How long sessions may take to take their last outcomes once the grace period is over.
const LAST_WRITES: Duration = Duration::from_secs(1);

/// A running node.
#[derive(Debug)]
pub struct NodeHandle {
    pub(super) tasks: Tasks,
    pub(super) data: Arc<DataPath>,
    pub(super) control: control::Handle,
    pub(super) reload: reload::Handle,
    pub(super) client_port: Arc<ClientPort>,
    pub(super) overlay: Overlay,
    pub(super) admin: Option<Admin>,
    pub(super) addresses: Addresses,
    pub(super) lifecycle: Arc<Lifecycle>,
}

/// How a node stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Sends that were still in flight at the end of the grace period; each was told so.
    pub cut: usize,
    /// Whether every client took its last outcomes.
    pub clients_closed: bool,
}

impl NodeHandle {
    /// Where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Resolves if the node cannot go on by itself. Cancel safe.
    pub async fn ended(&self) {
        self.tasks.failed().await;
    }

    /// Resolves when somebody with the authority asks the node, over its admin port, to stop: whoever
    /// runs it then calls [`NodeHandle::shutdown`]. Cancel safe.
    pub async fn asked_to_stop(&self) {
        self.lifecycle.asked().await;
    }

    /// Loads the configuration, if it came from a file, and certificates, keys, CAs and revocation lists from
    /// their files again, at once: all, or nothing. Says what has changed; nothing, if the node is ending.
    /// Cancel safe: what was begun is done.
    ///
    /// # Errors
    /// When something in the files cannot be used; then everything stays as it was.
    pub async fn reload(&self) -> Reloaded {
        self.reload.reload().await
    }

    /// Stops in order: not ready; no new clients; no topics announced; clients told; sends in
    /// flight finished, up to the grace period; everything else told how far it came; links closed.
    /// If this call is dropped the node is left somewhere on that way; call it again.
    pub async fn shutdown(&mut self) -> Report {
        self.lifecycle.begin();
        let grace = self.lifecycle.grace();
        self.client_port.drain(grace);
        self.data.drain();
        self.control.drain().await;
        let idle = async {
            while self.data.is_busy() {
                tokio::time::sleep(LOOK).await;
            }
        };
        // A send that outlasts the grace period is counted below.
        let _ = tokio::time::timeout(grace, idle).await;
        let cut = self.data.stop();
        let clients_closed = self.client_port.close(LAST_WRITES).await;
        self.overlay.shutdown().await;
        self.tasks.finish().await;
        let report = Report { cut, clients_closed };
        self.lifecycle.finish(report);
        self.lifecycle.read_to_the_end().await;
        self.admin = None;
        report.log();
        report
    }
}

impl Report {
    fn log(self) {
        let Self { cut, clients_closed } = self;
        if cut == 0 && clients_closed {
            tracing::info!("stopped gracefully");
        } else {
            tracing::warn!(
                cut,
                clients_closed,
                "stopped; sends were cut, or clients did not take their last frames"
            );
        }
    }
}
