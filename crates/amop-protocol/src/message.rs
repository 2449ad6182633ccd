//! What is said of a message beside topic and payload: whom it is for, who sent it, where it ended.
//!
//! Clients say and are told this ([`crate::wire::extension`]), and delivery goes by it ([`crate::broker`]).

use std::sync::Arc;

use crate::{ClientIdentity, Fingerprint, NodeId, TraceContext};

/// Most bytes of an institution's name in an address; certificates allow fewer.
pub const MAX_INSTITUTION: usize = 1024;

/// To one subscriber, who answers, or to all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// A request: one subscriber, its answer is the outcome.
    Unicast,
    /// Everybody who is subscribed, the publishing application excepted.
    Multicast,
}

/// Who sent a message, as its node verified it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    /// The institution of the sender's node.
    pub institution: Arc<str>,
    /// The sender's node.
    pub node: NodeId,
    /// The client there.
    pub client: Arc<ClientIdentity>,
}

/// A node, as its certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Its id.
    pub node: NodeId,
    /// Its name; empty if it is not known any longer.
    pub name: Arc<str>,
    /// Its institution; empty if it is not known any longer.
    pub institution: Arc<str>,
}

/// What a publisher asks for beyond the message itself; by default nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// To be told as soon as a subscriber was handed the message.
    pub tell_handed: bool,
    /// To be told how each recipient of a multicast fared; the outcome then waits for all.
    pub recipients: bool,
    /// Which subscribers the message is for.
    pub address: Address,
    /// The trace that the message is part of; its subscribers are told.
    pub context: Option<TraceContext>,
}

/// Which subscribers a message is for: those that match all that is given. Nothing given: any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Address {
    /// The institution of the subscriber's *node*: O of the CA that issued its certificate, byte
    /// for byte. At most [`MAX_INSTITUTION`] bytes.
    pub institution: Option<Arc<str>>,
    /// The subscriber's node.
    pub node: Option<NodeId>,
    /// The subscriber's own certificate. Only its node knows of it: announcements count
    /// subscribers and do not name them.
    pub client: Option<Fingerprint>,
}

impl Address {
    /// Only subscribers whose node is one of this institution.
    #[must_use]
    pub fn at_institution(mut self, name: impl Into<Arc<str>>) -> Self {
        self.institution = Some(name.into());
        self
    }

    /// Only subscribers at this node.
    #[must_use]
    pub fn at_node(mut self, node: NodeId) -> Self {
        self.node = Some(node);
        self
    }

    /// Only subscribers with this certificate. Name their node or institution too, if it is known:
    /// otherwise every node with subscribers of the topic may have to be asked, one after the other.
    #[must_use]
    pub fn of_client(mut self, certificate: Fingerprint) -> Self {
        self.client = Some(certificate);
        self
    }

    /// Whether it asks for nothing in particular.
    pub fn is_any(&self) -> bool {
        *self == Self::default()
    }
}
