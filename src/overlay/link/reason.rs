//! Why links end, and who is at fault.

use std::{io, time::Duration};

use amop_protocol::{NodeId, wire::link::Kind};

use super::Incompatible;
use crate::identity::ChainError;

/// Why a link went down.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DownReason {
    /// The other side closed it in order.
    #[error("the peer closed the link")]
    ClosedByPeer,
    /// The connection broke.
    #[error("the connection was lost: {0}")]
    Lost(#[source] io::Error),
    /// The peer broke the protocol.
    #[error("the peer broke the protocol: {0}")]
    Fault(#[from] PeerFault),
    /// Nothing was heard of the peer for too long.
    #[error("nothing was heard of the peer for {0:?}")]
    Silent(Duration),
    /// A better connection to the same peer, or its newer epoch, took over.
    #[error("a newer connection to the same peer took its place")]
    Replaced,
    /// The peer takes control frames more slowly than they come.
    #[error("the control queue is full: the peer is too slow")]
    Overflow,
    /// Its certificate was revoked, or its CA is no longer believed.
    #[error("the peer's certificate is no longer believed: {0}")]
    Untrusted(#[source] ChainError),
    /// The allow and deny lists have changed.
    #[error("the configuration no longer lets the peer in (overlay.allow, overlay.deny)")]
    NotAllowed,
    /// The list of peers has changed, and this node had dialled it.
    #[error("its address was taken out of the configured peers")]
    NotConfigured,
    /// We disconnected it.
    #[error("disconnected on request")]
    Disconnected,
    /// The overlay is shutting down.
    #[error("this node is shutting down")]
    Shutdown,
}

impl DownReason {
    /// Every reason as metrics name it.
    pub(in crate::overlay) const LABELS: [&'static str; 11] = [
        "ClosedByPeer",
        "Lost",
        "Fault",
        "Silent",
        "Replaced",
        "Overflow",
        "Disconnected",
        "Shutdown",
        "Untrusted",
        "NotAllowed",
        "NotConfigured",
    ];

    /// The reason as metrics name it.
    pub(in crate::overlay) const fn label(&self) -> &'static str {
        Self::LABELS[match self {
            Self::ClosedByPeer => 0,
            Self::Lost(_) => 1,
            Self::Fault(_) => 2,
            Self::Silent(_) => 3,
            Self::Replaced => 4,
            Self::Overflow => 5,
            Self::Disconnected => 6,
            Self::Shutdown => 7,
            Self::Untrusted(_) => 8,
            Self::NotAllowed => 9,
            Self::NotConfigured => 10,
        }]
    }
}

/// How a peer broke the protocol; its link is closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerFault {
    /// A frame cannot be read.
    #[error(transparent)]
    Frame(#[from] amop_protocol::wire::link::FrameFault),
    /// Fragments do not fit together.
    #[error(transparent)]
    Fragment(#[from] amop_protocol::wire::interleave::Fault),
    /// A control frame on the data stream, or the reverse.
    #[error("a {0:?} frame came on the other stream")]
    WrongStream(Kind),
    /// A control frame that is no `Control` message.
    #[error("a control frame cannot be decoded")]
    Control,
    /// A hello on a link that is up, or something else where a hello must stand.
    #[error("a hello came late, or something else in its place")]
    Hello,
    /// The header of a data frame is not valid.
    #[error(transparent)]
    Data(amop_protocol::wire::peer::DataError),
    /// The hello names another node than the certificate.
    #[error("the hello names node {claimed}, but the certificate belongs to {verified}")]
    WrongNode {
        /// The hello's.
        claimed: NodeId,
        /// The certificate's.
        verified: NodeId,
    },
}

/// Why a candidate did not become a link.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The hellos were not exchanged, or the data connection was not there, in time.
    #[error("the hellos and the data connection took longer than {0:?}")]
    Slow(Duration),
    /// The stream ended or broke.
    #[error("the connection was lost during the hellos: {0}")]
    Lost(#[source] io::Error),
    /// The peer's hello breaks the protocol.
    #[error(transparent)]
    Fault(#[from] PeerFault),
    /// The peer speaks other versions.
    #[error(transparent)]
    Incompatible(#[from] Incompatible),
    /// The data connection could not be made.
    #[error("no data connection: {0}")]
    Data(#[source] io::Error),
    /// Another connection to the peer is better.
    #[error("another connection to the same peer is kept")]
    Duplicate,
}
