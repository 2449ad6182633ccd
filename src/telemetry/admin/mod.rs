//! The admin port: `/metrics`, `/healthz`, `/readyz` and the status API, over HTTP.
//!
//! It has a thread and a runtime of its own, so that it answers while the node is busy. On the
//! loopback interface it speaks plain HTTP, and whoever is on the machine may read; on any other
//! address it speaks TLS only, and who reads must show the token, or the certificate of a client
//! that the configuration names. What changes the node always needs the token.
//!
//! `guard` decides, before anything else is done for a request; `serve` bounds connections;
//! `routes` has the pages, `page` the one for people; `token` is the secret.

mod guard;
mod metrics;
mod names;
mod page;
mod routes;
mod serve;
mod token;
mod trace;

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread::JoinHandle,
};

use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

pub(in crate::telemetry) use self::serve::limits;
use self::{metrics::Metrics, routes::Shared, serve::Server};
pub use self::{
    names::Names,
    token::{Secret, TokenError},
};
use crate::telemetry::status::{Operations, StatusSource};

/// Connections open at once.
pub const MAX_CONNECTIONS: usize = 64;

/// Gives the TLS configuration that is in force, for each connection anew. It asks clients for a
/// certificate, verifies one that is shown, and goes on without.
pub type Tls = Arc<dyn Fn() -> Arc<rustls::ServerConfig> + Send + Sync>;

/// Where the port listens, and whom it lets in.
#[derive(Clone)]
pub struct Settings {
    /// The address.
    pub listen: SocketAddr,
    /// What shows authority over the node; without it nothing can be changed.
    pub token: Option<Secret>,
    /// Whether reading needs the token on the loopback interface, too.
    pub token_for_reads: bool,
    /// The clients that may read beyond the loopback interface, and the hosts by which the node is asked.
    pub names: Names,
    /// What is spoken on any address but a loopback one, which must have it.
    pub tls: Option<Tls>,
}

impl Settings {
    /// Without token, clients and names.
    pub fn new(listen: SocketAddr) -> Self {
        Self { listen, token: None, token_for_reads: false, names: Names::default(), tls: None }
    }

    fn is_loopback(&self) -> bool {
        self.listen.ip().to_canonical().is_loopback()
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("listen", &self.listen).finish_non_exhaustive()
    }
}

/// Why the admin port could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The address cannot be had.
    #[error("cannot listen on {address} for the admin port; is another program using it?")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// Beyond the loopback interface there must be TLS.
    #[error("the admin port on {address} needs TLS, and has no certificate for it; listen on 127.0.0.1")]
    Plain {
        /// As configured.
        address: SocketAddr,
    },
    /// No thread or runtime.
    #[error("cannot start the admin port's thread")]
    Thread(#[source] io::Error),
    /// No token.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// The running admin port; dropping it ends it.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Admin {
    /// Listens, and serves `registry`, `source` and `operations` on a thread of its own.
    ///
    /// # Errors
    /// When the address cannot be had, or no thread, or it would be plain where others can listen in.
    pub fn start(
        mut settings: Settings,
        mut registry: Registry,
        source: Arc<dyn StatusSource>,
        operations: Arc<dyn Operations>,
    ) -> Result<Self, StartError> {
        let address = settings.listen;
        if settings.is_loopback() {
            settings.tls = None;
        } else if settings.tls.is_none() {
            return Err(StartError::Plain { address });
        }
        let listen = |source| StartError::Listen { address, source };
        let listener = TcpListener::bind(address).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let bound = listener.local_addr().map_err(listen)?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
        let metrics = Metrics::default();
        metrics.register(&mut registry);
        let shared = Shared { registry: Arc::new(registry), source: source.clone(), operations };
        let server = Server::new(settings, routes::router(shared), metrics);
        let stop = CancellationToken::new();
        let serving = server.run(listener, source, stop.clone());
        let thread = std::thread::Builder::new()
            .name("admin".into())
            .spawn(move || {
                if let Err(error) = runtime.block_on(serving) {
                    tracing::error!(%error, "the admin port has ended");
                }
            })
            .map_err(StartError::Thread)?;
        Ok(Self { address: bound, stop, thread: Some(thread) })
    }

    /// Where it listens, with the port that was bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported by the panic hook; there is nothing to add.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
