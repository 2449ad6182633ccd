//! The admin port: `/metrics`, `/healthz`, `/readyz` and the status API, over plain HTTP.
//!
//! It has a thread and a runtime of its own, so that it answers while the node is busy, and it
//! only reads. It has no authentication: it listens on 127.0.0.1 unless configured otherwise.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    thread::JoinHandle,
};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::registry::Registry;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::CancellationToken;

use crate::telemetry::{metrics, status::StatusSource};

/// Connections served at once. More wait in the listener's backlog.
pub const MAX_CONNECTIONS: usize = 64;

/// Why the admin port could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be had.
    #[error("cannot listen on {address} for the admin port; is another program using it?")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// No thread or runtime.
    #[error("cannot start the admin port's thread")]
    Thread(#[source] io::Error),
}

/// The running admin port; dropping it ends it.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Admin {
    /// Listens on `address` and serves `registry` and `source` on a thread of its own.
    ///
    /// # Errors
    /// When the address cannot be had, or no thread.
    pub fn start(
        address: SocketAddr,
        registry: Arc<Registry>,
        source: Arc<dyn StatusSource>,
    ) -> Result<Self, StartError> {
        let listen = |source| StartError::Listen { address, source };
        let listener = TcpListener::bind(address).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let bound = listener.local_addr().map_err(listen)?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
        let stop = CancellationToken::new();
        let serving = serve(listener, router(Shared { registry, source }), stop.clone());
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

#[derive(Clone)]
struct Shared {
    registry: Arc<Registry>,
    source: Arc<dyn StatusSource>,
}

fn router(shared: Shared) -> Router {
    Router::new()
        .route("/metrics", get(metrics_text))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/v1/status", get(async |State(shared): State<Shared>| Json(shared.source.status())))
        .route("/v1/peers", get(async |State(shared): State<Shared>| Json(shared.source.peers())))
        .route("/v1/topics", get(async |State(shared): State<Shared>| Json(shared.source.topics())))
        .with_state(shared)
}

async fn metrics_text(State(shared): State<Shared>) -> Response {
    match metrics::encode(&shared.registry) {
        Ok(text) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn ready(State(shared): State<Shared>) -> Response {
    if shared.source.status().ready {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "starting or draining\n").into_response()
    }
}

/// Ends at once when told to: whoever asks then can ask again, and a slow reader holds up no shutdown.
async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> io::Result<()> {
    let listener = Bounded {
        listener: tokio::net::TcpListener::from_std(listener)?,
        permits: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => Ok(()),
        ended = axum::serve(listener, router).into_future() => ended,
    }
}

/// A listener that takes a connection only when fewer than [`MAX_CONNECTIONS`] are open.
struct Bounded {
    listener: tokio::net::TcpListener,
    permits: Arc<Semaphore>,
}

impl axum::serve::Listener for Bounded {
    type Io = Permitted;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Permitted, SocketAddr) {
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
        let (stream, address) = axum::serve::Listener::accept(&mut self.listener).await;
        (Permitted { stream, _permit: permit }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

struct Permitted {
    stream: TcpStream,
    _permit: Option<OwnedSemaphorePermit>,
}

impl AsyncRead for Permitted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Permitted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
