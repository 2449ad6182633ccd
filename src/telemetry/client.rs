//! Asks a node's admin port.

use std::{io, net::SocketAddr, time::Duration};

use axum::http::{Request, StatusCode, header::HOST};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::{net::TcpStream, time::timeout};

use crate::telemetry::status::{Peer, Status, Topic};

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer that is read; 10,000 topics on each of many nodes stay below it.
const MAX_ANSWER: usize = 256 * 1024 * 1024;

/// Why a node's admin port gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens there.
    #[error("cannot reach the admin port at {address}; is the node running, and is this its admin address?")]
    Connect {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// No answer in time.
    #[error("the admin port at {address} did not answer within {} s", PATIENCE.as_secs())]
    TimedOut {
        /// Where.
        address: SocketAddr,
    },
    /// It speaks something else.
    #[error("what listens at {address} does not speak HTTP")]
    Http {
        /// Where.
        address: SocketAddr,
        /// What went wrong.
        source: hyper::Error,
    },
    /// It refused.
    #[error("the admin port at {address} answers {status} to {path}")]
    Refused {
        /// Where.
        address: SocketAddr,
        /// What was asked.
        path: String,
        /// The HTTP status.
        status: StatusCode,
    },
    /// The answer broke off or is too long.
    #[error("the answer of {address} broke off or is longer than {MAX_ANSWER} bytes")]
    Body {
        /// Where.
        address: SocketAddr,
        /// What went wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The answer is not what this version understands.
    #[error("the answer of {address} is not what this version of amop understands")]
    Json {
        /// Where.
        address: SocketAddr,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// The node at a glance.
///
/// # Errors
/// When there is no usable answer within a few seconds. Cancel safe.
pub async fn status(address: SocketAddr) -> Result<Status, AskError> {
    ask(address, "/v1/status").await
}

/// The nodes it reaches.
///
/// # Errors
/// As [`status`].
pub async fn peers(address: SocketAddr) -> Result<Vec<Peer>, AskError> {
    ask(address, "/v1/peers").await
}

/// The topics it knows.
///
/// # Errors
/// As [`status`].
pub async fn topics(address: SocketAddr) -> Result<Vec<Topic>, AskError> {
    ask(address, "/v1/topics").await
}

/// The body of any page of the admin port.
///
/// # Errors
/// As [`status`], and when the page answers with anything but success.
pub async fn get(address: SocketAddr, path: &str) -> Result<Bytes, AskError> {
    timeout(PATIENCE, fetch(address, path)).await.map_err(|_| AskError::TimedOut { address })?
}

async fn ask<T: DeserializeOwned>(address: SocketAddr, path: &str) -> Result<T, AskError> {
    let body = get(address, path).await?;
    serde_json::from_slice(&body).map_err(|source| AskError::Json { address, source })
}

async fn fetch(address: SocketAddr, path: &str) -> Result<Bytes, AskError> {
    let stream = TcpStream::connect(address).await.map_err(|source| AskError::Connect { address, source })?;
    let http = |source| AskError::Http { address, source };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
    let mut request = Request::new(Empty::<Bytes>::new());
    if let Ok(uri) = path.parse() {
        *request.uri_mut() = uri;
    }
    if let Ok(host) = address.to_string().parse() {
        request.headers_mut().insert(HOST, host);
    }
    let answer = async {
        let response = sender.send_request(request).await.map_err(http)?;
        let status = response.status();
        if !status.is_success() {
            return Err(AskError::Refused { address, path: path.to_owned(), status });
        }
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        Ok(body.map_err(|source| AskError::Body { address, source })?.to_bytes())
    };
    // The connection only makes progress while it is polled; it ends with the answer.
    tokio::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        ended = connection => {
            ended.map_err(http)?;
            answer.await
        }
    }
}
