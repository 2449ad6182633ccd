//! Why a node's admin port gave no usable answer.

use std::{io, net::SocketAddr};

use axum::http::StatusCode;

use super::{MAX_ANSWER, PATIENCE};

/// Why a node's admin port gave no usable answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
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
    /// TLS, or the certificate of whoever answers.
    #[error(
        "no TLS with the admin port at {address}; is it a node of your own institution, and does it know your certificate?"
    )]
    Tls {
        /// Where.
        address: SocketAddr,
        /// What went wrong.
        source: io::Error,
    },
    /// Beyond the loopback interface nothing is said in the clear.
    #[error(
        "{address} is not on the loopback interface, so it is asked over TLS only; give --config with the node's \
         configuration, or --certs with the certificate of a client"
    )]
    Plain {
        /// Where.
        address: SocketAddr,
    },
    /// It refused.
    #[error("the admin port at {address} answers {status} to {path}{said}")]
    Refused {
        /// Where.
        address: SocketAddr,
        /// What was asked.
        path: String,
        /// The HTTP status.
        status: StatusCode,
        /// What it says about it, after a colon; empty if it says nothing.
        said: String,
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

impl AskError {
    /// Whether nobody listens there.
    pub fn is_nobody(&self) -> bool {
        matches!(self, Self::Connect { source, .. } if source.kind() == io::ErrorKind::ConnectionRefused)
    }
}
