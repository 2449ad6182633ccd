//! One request to a collector, over a connection of its own.

use std::{io, sync::Arc, time::Duration};

use axum::http::{
    HeaderValue, Method, Request, StatusCode,
    header::{CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT},
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_rustls::TlsConnector;
use tokio_util::either::Either;

use super::Endpoint;

/// The longest answer that is read; a collector says little.
pub(super) const MAX_ANSWER: usize = 64 * 1024;
const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
const WHO: HeaderValue = HeaderValue::from_static(concat!("amop/", env!("CARGO_PKG_VERSION")));

/// What a collector answers. What becomes of the spans its status says alone; the body only explains.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// How long it wants to be left alone.
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Result<Bytes, Unread>,
}

/// Why the body of an answer is not known.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    #[error("it broke off or is longer than {MAX_ANSWER} bytes")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("it did not end in time")]
    Late,
}

impl Answer {
    /// Whether the same may be sent again later: OTLP names these.
    pub(super) fn is_for_later(&self) -> bool {
        matches!(self.status.as_u16(), 429 | 502 | 503 | 504)
    }
}

/// Why a collector gave no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostError {
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    #[error("localhost is not the loopback interface here, and nothing leaves this machine in the clear")]
    NotHere,
    #[error("no TLS; does trace.otlp_ca hold the CA of its certificate, and has that its name?")]
    Tls(#[source] io::Error),
    #[error("it does not speak HTTP")]
    Http(#[source] hyper::Error),
    #[error("no answer in time")]
    Late,
}

/// Posts `body`, over TLS where there is `tls`, and waits so long for the answer. Cancel safe, but for what the
/// collector may have taken.
pub(super) async fn post(
    endpoint: &Endpoint,
    tls: Option<&Arc<ClientConfig>>,
    body: Bytes,
    patience: Duration,
) -> Result<Answer, PostError> {
    let until = Instant::now() + patience;
    let stream = timeout_at(until, connect(endpoint, tls)).await.map_err(|_| PostError::Late)??;
    exchange(stream, request(endpoint, body), until).await
}

async fn connect(
    endpoint: &Endpoint,
    tls: Option<&Arc<ClientConfig>>,
) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + use<>, PostError> {
    let tcp = TcpStream::connect((endpoint.host(), endpoint.port())).await.map_err(PostError::Connect)?;
    let Some(tls) = tls else {
        let peer = tcp.peer_addr().map_err(PostError::Connect)?;
        if !peer.ip().to_canonical().is_loopback() {
            return Err(PostError::NotHere);
        }
        return Ok(Either::Left(tcp));
    };
    let name = ServerName::try_from(endpoint.host().to_owned());
    let name = name.map_err(|error| PostError::Tls(io::Error::other(error)))?;
    let stream = TlsConnector::from(tls.clone()).connect(name, tcp).await.map_err(PostError::Tls)?;
    Ok(Either::Right(stream))
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin,
    request: Request<Full<Bytes>>,
    until: Instant,
) -> Result<Answer, PostError> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(PostError::Http)?;
    let answer = async {
        let response = timeout_at(until, sender.send_request(request)).await.map_err(|_| PostError::Late)?;
        let response = response.map_err(PostError::Http)?;
        let status = response.status();
        let after = response.headers().get(RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
        let body = match timeout_at(until, Limited::new(response.into_body(), MAX_ANSWER).collect()).await {
            Ok(read) => read.map(|body| body.to_bytes()).map_err(Unread::Broken),
            Err(_) => Err(Unread::Late),
        };
        Ok(Answer { status, retry_after: after.map(Duration::from_secs), body })
    };
    // The connection only makes progress while it is polled; it ends with the answer. What it fails of, before or
    // in the middle of that, the answer says.
    tokio::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        _ = connection => answer.await,
    }
}

fn request(endpoint: &Endpoint, body: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    if let Ok(path) = endpoint.path().parse() {
        *request.uri_mut() = path;
    }
    let headers = request.headers_mut();
    if let Ok(host) = endpoint.authority().parse() {
        headers.insert(HOST, host);
    }
    headers.insert(CONTENT_TYPE, PROTOBUF);
    headers.insert(USER_AGENT, WHO);
    request
}
