//! The ends a session can come to.

use std::io;

use amop_protocol::{session::server::Close, wire::channel::FrameError};

use super::metrics::CloseReason;

/// Why a session is over.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error("the client closed the connection")]
    Client,
    #[error("the connection failed")]
    Io(#[source] io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Protocol(#[from] Close),
    #[error("the client does not read what it is sent, and its queue is full")]
    Slow,
    #[error("the node's room for incomplete frames is used up")]
    Memory,
    #[error("the client's certificate is no longer believed")]
    Untrusted,
    #[error("the node ends the session")]
    Node,
}

impl End {
    pub(super) fn reason(&self) -> CloseReason {
        match self {
            Self::Client => CloseReason::Client,
            Self::Io(_) => CloseReason::Io,
            Self::Frame(_) => CloseReason::Protocol,
            Self::Protocol(Close::Incompatible(_)) => CloseReason::Incompatible,
            Self::Protocol(Close::TooManyTopics(_)) => CloseReason::Topics,
            Self::Protocol(Close::Idle(_)) => CloseReason::Idle,
            Self::Slow => CloseReason::Slow,
            Self::Memory => CloseReason::Memory,
            Self::Untrusted => CloseReason::Untrusted,
            Self::Node => CloseReason::Node,
        }
    }

    /// Something an operator should look at: the client misbehaves, or a bound is too low for it.
    pub(super) fn is_notable(&self) -> bool {
        matches!(self, Self::Frame(_) | Self::Protocol(_) | Self::Slow | Self::Memory | Self::Untrusted)
    }
}
