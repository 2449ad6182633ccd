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
};
use tokio_rustls::TlsConnector;

use super::Endpoint;

/// The longest answer that is read; a collector says little.
const MAX_ANSWER: usize = 64 * 1024;
const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
const WHO: HeaderValue = HeaderValue::from_static(concat!("amop/", env!("CARGO_PKG_VERSION")));

/// What a collector answers.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// How long it wants to be left alone.
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Bytes,
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
    #[error("its answer broke off or is longer than {MAX_ANSWER} bytes")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Posts `body`, over TLS where there is `tls`. Cancel safe, but for what the collector may have taken.
pub(super) async fn post(
    endpoint: &Endpoint,
    tls: Option<&Arc<ClientConfig>>,
    body: Bytes,
) -> Result<Answer, PostError> {
    let tcp = TcpStream::connect((endpoint.host(), endpoint.port())).await.map_err(PostError::Connect)?;
    let Some(tls) = tls else {
        let peer = tcp.peer_addr().map_err(PostError::Connect)?;
        if !peer.ip().to_canonical().is_loopback() {
            return Err(PostError::NotHere);
        }
        return exchange(tcp, endpoint, body).await;
    };
    let name = ServerName::try_from(endpoint.host().to_owned());
    let name = name.map_err(|error| PostError::Tls(io::Error::other(error)))?;
    let stream = TlsConnector::from(tls.clone()).connect(name, tcp).await.map_err(PostError::Tls)?;
    exchange(stream, endpoint, body).await
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin,
    endpoint: &Endpoint,
    body: Bytes,
) -> Result<Answer, PostError> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(PostError::Http)?;
    let answer = async {
        let response = sender.send_request(request(endpoint, body)).await.map_err(PostError::Http)?;
        let status = response.status();
        let after = response.headers().get(RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(PostError::Body)?;
        Ok(Answer { status, retry_after: after.map(Duration::from_secs), body: body.to_bytes() })
    };
    // The connection only makes progress while it is polled; it ends with the answer.
    tokio::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        ended = connection => {
            ended.map_err(PostError::Http)?;
            answer.await
        }
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
