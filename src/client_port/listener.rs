//! Accepts clients and takes each through its TLS handshake.

use std::{
    error::Error,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::FutureExt;
use rustls_pki_types::CertificateDer;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpSocket, TcpStream},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{
    SessionInfo,
    metrics::{HandshakeFailure, HandshakeLabels, RefusalReason},
    registry::Admitted,
    session,
    shared::Shared,
    sparing::Sparing,
};
use crate::identity::{BACKLOG, ChainError, Client, ClientTls, Handshake, Serving, keep_unsent_low};

/// Pauses after a failed `accept`: so long at first, and up to so long.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Why the port cannot open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The address cannot be had.
    #[error(
        "cannot listen for clients on {address}; is the port in use, or the address not of this machine?"
    )]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
}

/// Why a client whose TLS handshake succeeded is not served.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error("as many clients as may be are connected ({0})")]
    Full(usize),
}

type Stream = TlsStream<Sparing<TcpStream>>;

/// A bound port, with the certificates of one kind.
pub(super) struct Listener {
    tcp: TcpListener,
    address: SocketAddr,
    tls: ClientTls,
}

impl Listener {
    pub(super) async fn bind(address: SocketAddr, tls: ClientTls) -> Result<Self, StartError> {
        let failed = |source| StartError::Bind { address, source };
        let tcp = listen(address).map_err(failed)?;
        let address = tcp.local_addr().map_err(failed)?;
        Ok(Self { tcp, address, tls })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The listener's task: woken by connections and by `stop`.
    pub(super) async fn run(self, shared: Arc<Shared>, stop: CancellationToken) {
        let mut pause = PAUSE.0;
        loop {
            // The end first, then connections.
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                accepted = self.tcp.accept() => accepted,
            };
            match accepted {
                Ok((tcp, address)) => {
                    pause = PAUSE.0;
                    shared.metrics().accepted.inc();
                    let handshake = shared.handshakes.begin(address.ip());
                    let span = tracing::info_span!("client", %address, profile = %self.tls.profile());
                    let client = client(tcp, address, self.tls.clone(), handshake, shared.clone());
                    shared.tasks.spawn("client", client.instrument(span));
                }
                // The connection was gone before it was taken: nothing is wrong here.
                Err(error) if is_of_connection(&error) => {}
                Err(error) => {
                    shared.metrics().accept_errors.inc();
                    tracing::error!(%error, pause_ms = pause.as_millis(), "cannot accept clients; are there too many open files?");
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(pause) => {}
                    }
                    pause = (pause * 2).min(PAUSE.1);
                }
            }
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A node that starts again must not wait for connections of its former start.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn is_of_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

async fn client(
    tcp: TcpStream,
    address: SocketAddr,
    tls: ClientTls,
    handshake: Handshake,
    shared: Arc<Shared>,
) {
    // In a box, so that its room is given back: a session is far smaller, and there are thousands.
    let serving = tls.serving();
    let accepted = Box::pin(accept(tcp, &tls, &serving, &handshake, &shared)).await;
    let Some(stream) = accepted else { return };
    drop(handshake);
    let place = match shared.place() {
        Ok(place) => place,
        Err(places) => {
            shared.metrics().count_refused(RefusalReason::Full);
            let cause = Refusal::Full(places);
            shared.refusals.line(|| tracing::warn!(%cause, "client refused"));
            return;
        }
    };
    let Client { identity, institution } = match tls.identify(presented(&stream)) {
        Ok(client) => client,
        Err(cause) => {
            shared.metrics().count_refused(RefusalReason::Certificate);
            let cause = Refusal::Chain(cause);
            shared.refusals.line(|| tracing::warn!(%cause, "client refused"));
            return;
        }
    };
    let info =
        |id| SessionInfo { id, client: Arc::new(identity), institution, address, since: Instant::now() };
    let admitted = Admitted { chain: presented(&stream).to_vec(), tls, serving };
    session::run(stream, info, admitted, shared).await;
    drop(place);
}

async fn accept(
    tcp: TcpStream,
    tls: &ClientTls,
    serving: &Serving,
    handshake: &Handshake,
    shared: &Shared,
) -> Option<Stream> {
    // Answers are written whole, so waiting to fill a packet only delays them.
    let _ = tcp.set_nodelay(true);
    keep_unsent_low(&tcp);
    let accept = tokio::time::timeout(
        shared.settings().config.handshake_timeout,
        TlsAcceptor::from(serving.server_config()).accept(Sparing::new(tcp)).into_fallible(),
    );
    // The ends first, then the handshake.
    let reason = tokio::select! {
        biased;
        () = shared.tasks.cancelled() => return None,
        () = handshake.evicted() => {
            tracing::debug!("handshake given up: too many under way");
            HandshakeFailure::Evicted
        }
        accepted = accept => match accepted {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err((error, mut tcp))) => {
                // The alert that says why; it fits in what the system takes at once, or is not worth waiting for.
                let _ = tcp.flush().now_or_never();
                shared.refusals.line(|| log_failure(tls, &error));
                HandshakeFailure::Failed
            }
            Err(_) => {
                tracing::debug!("handshake given up: not finished in time");
                HandshakeFailure::TimedOut
            }
        },
    };
    shared.metrics().handshakes_failed.get_or_create(&HandshakeLabels { reason }).inc();
    None
}

/// A certificate that is refused is logged where it is verified.
fn log_failure(tls: &ClientTls, error: &io::Error) {
    let of_tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    if let Some(cause) = of_tls.and_then(|error| tls.explain(error)) {
        tracing::warn!(cause, "client refused");
    } else {
        let source = error.source().map(ToString::to_string);
        tracing::debug!(%error, source, "TLS handshake failed");
    }
}

fn presented(stream: &Stream) -> &[CertificateDer<'static>] {
    stream.get_ref().1.peer_certificates().unwrap_or_default()
}
