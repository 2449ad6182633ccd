//! Records: what nodes say about themselves, signed, and what is held of each.
//!
//! A record is taken in only after its origin's chain and signature were checked, and only if it
//! is newer than the newest ever held of its kind; what is superseded or expired leaves its
//! version behind as a tombstone. **Invariant**: nothing old comes back.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use prost::Message;

use super::{lists::Topics, pace::Pace, seal::Seal};
use crate::{
    NodeId, NodeKey, Time, Version,
    wire::generated::{self as pb, RecordKind, SignedRecord, record::Content},
};

/// What a node's verified certificate says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeInfo {
    /// Its public key; its id follows from it.
    pub key: NodeKey,
    /// Common name of the certificate.
    pub name: Arc<str>,
    /// The institution whose CA issued it.
    pub institution: Arc<str>,
}

/// Signs this node's records and checks those of others. The shell brings certificates, the
/// simulation something cheaper.
pub trait Authenticator: Send {
    /// This node's signature over a record body; domain-separated by the implementation.
    fn sign(&self, body: &[u8]) -> Bytes;
    /// Who a certificate chain (DER, leaf first, without the root) belongs to, if it is valid now
    /// and its role is node.
    fn verify_chain(&self, chain: &[Bytes]) -> Option<NodeInfo>;
    /// Whether the chain of a node that was verified before would still be: what is believed has
    /// changed. That it has expired meanwhile counts for nothing.
    fn still_believes(&self, chain: &[Bytes]) -> bool {
        self.verify_chain(chain).is_some()
    }
    /// Whether `signature` is that of the holder of `key` over `body`.
    fn verify(&self, key: &NodeKey, body: &[u8], signature: &[u8]) -> bool;
}

/// How a neighbour broke the gossip protocol. What it sent is ignored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerFault {
    /// A record or its content does not decode, or a field is not valid.
    #[error("a record has no valid `{0}`")]
    Malformed(&'static str),
    /// The chain in an identity does not verify, or belongs to another node.
    #[error("the certificate chain of node {0} does not verify")]
    Chain(NodeId),
    /// A signature does not verify.
    #[error("the signature on a record of node {0} does not verify")]
    Signature(NodeId),
    /// More topics or links than a node may have.
    #[error("node {node} announces {count} {what}, at most {most} are taken")]
    TooMany {
        /// Whose record it is.
        node: NodeId,
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// How many are taken.
        most: usize,
    },
}

/// A record as it is read first: its content is not decoded before it is known to be wanted.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Head {
    #[prost(bytes = "bytes", tag = "1")]
    node: Bytes,
    #[prost(uint64, tag = "2")]
    epoch: u64,
    #[prost(uint64, tag = "3")]
    sequence: u64,
    #[prost(bytes = "bytes", optional, tag = "4")]
    identity: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "5")]
    links: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "6")]
    topics: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "7")]
    topics_delta: Option<Bytes>,
}

/// A record whose head was read, not yet believed.
pub(super) struct Unverified {
    pub(super) node: NodeId,
    pub(super) version: Version,
    pub(super) kind: RecordKind,
    pub(super) signed: SignedRecord,
    /// The content, encoded.
    pub(super) content: Bytes,
    is_delta: bool,
}

impl Unverified {
    pub(super) fn decode(signed: SignedRecord) -> Result<Self, PeerFault> {
        let head = Head::decode(signed.body.clone()).map_err(|_| PeerFault::Malformed("body"))?;
        let is_delta = head.topics_delta.is_some();
        let (kind, content) = match (head.identity, head.links, head.topics, head.topics_delta) {
            (Some(content), None, None, None) => (RecordKind::Identity, content),
            (None, Some(content), None, None) => (RecordKind::Links, content),
            (None, None, Some(content), None) | (None, None, None, Some(content)) => {
                (RecordKind::Topics, content)
            }
            _ => return Err(PeerFault::Malformed("content")),
        };
        Ok(Self {
            node: NodeId::from_slice(&head.node).ok_or(PeerFault::Malformed("node"))?,
            version: Version { epoch: head.epoch, sequence: head.sequence },
            kind,
            signed,
            content,
            is_delta,
        })
    }

    /// What whoever sends it holds, and the version of the topics that it waits for to settle.
    pub(super) fn shows(&self) -> (Versions, Option<Version>) {
        let Version { epoch, sequence } = self.version;
        let of = |kind| if self.kind == kind { sequence } else { 0 };
        let versions = Versions {
            epoch,
            identity: of(RecordKind::Identity),
            links: of(RecordKind::Links),
            topics: of(RecordKind::Topics),
        };
        (versions, (self.kind == RecordKind::Topics).then_some(self.version))
    }

    pub(super) fn content(&self) -> Result<Content, PeerFault> {
        let bytes = self.content.clone();
        let content = match self.kind {
            RecordKind::Identity => pb::IdentityContent::decode(bytes).map(Content::Identity),
            RecordKind::Links => pb::LinksContent::decode(bytes).map(Content::Links),
            RecordKind::Topics | RecordKind::Unspecified if self.is_delta => {
                pb::TopicsDelta::decode(bytes).map(Content::TopicsDelta)
            }
            RecordKind::Topics | RecordKind::Unspecified => {
                pb::TopicsContent::decode(bytes).map(Content::Topics)
            }
        };
        content.map_err(|_| PeerFault::Malformed("content"))
    }
}

/// Makes one of this node's own records.
pub(super) fn sign(
    authenticator: &dyn Authenticator,
    node: NodeId,
    version: Version,
    content: Content,
) -> SignedRecord {
    let record = pb::Record {
        node: Bytes::copy_from_slice(node.as_bytes()),
        epoch: version.epoch,
        sequence: version.sequence,
        content: Some(content),
    };
    let body: Bytes = record.encode_to_vec().into();
    let signature = authenticator.sign(&body);
    SignedRecord { body, signature }
}

/// The links of one node: the newest sequence ever held, and the record unless it expired.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    pub(super) sequence: u64,
    pub(super) record: Option<SignedRecord>,
}

impl Held {
    /// The sequence of the record that is there; 0 if none is.
    pub(super) fn present(&self) -> u64 {
        if self.record.is_some() { self.sequence } else { 0 }
    }

    /// Whether a record with this sequence would tell anything new.
    pub(super) fn lacks(&self, sequence: u64) -> bool {
        sequence > self.present() && sequence >= self.sequence
    }

    pub(super) fn store(&mut self, sequence: u64, record: SignedRecord) {
        *self = Self { sequence, record: Some(record) };
    }
}

/// A node's identity record, verified.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    /// Above 1 if it was renewed in its epoch.
    pub(super) sequence: u64,
    pub(super) info: NodeInfo,
    pub(super) address: Arc<str>,
    pub(super) seal: Seal,
    pub(super) record: SignedRecord,
}

/// What somebody holds of a node; 0 for what is not held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Versions {
    pub(super) epoch: u64,
    pub(super) identity: u64,
    pub(super) links: u64,
    pub(super) topics: u64,
}

impl From<&pb::Versions> for Versions {
    fn from(versions: &pb::Versions) -> Self {
        let pb::Versions { epoch, identity, links, topics, .. } = *versions;
        Self { epoch, identity, links, topics }
    }
}

impl Versions {
    /// As it is sent.
    pub(super) fn of(self, node: NodeId) -> pb::Versions {
        let Self { epoch, links, topics, .. } = self;
        let identity = self.renewed().unwrap_or_default();
        pb::Versions { node: Bytes::copy_from_slice(node.as_bytes()), epoch, links, topics, identity }
    }

    /// The sequence of the identity, if it is not the first of its epoch.
    pub(super) fn renewed(self) -> Option<u64> {
        Some(self.identity).filter(|sequence| *sequence > 1)
    }

    /// What is known to be held when both are.
    pub(super) fn and(self, other: Self) -> Self {
        match self.epoch.cmp(&other.epoch) {
            Ordering::Less => other,
            Ordering::Greater => self,
            Ordering::Equal => Self {
                identity: self.identity.max(other.identity),
                links: self.links.max(other.links),
                topics: self.topics.max(other.topics),
                ..self
            },
        }
    }
}

/// What is held of one node in its newest epoch; without identity, a tombstone.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) epoch: u64,
    pub(super) identity: Option<Identity>,
    /// The signed identity of a node whose lists have expired.
    pub(super) tombstone: Option<SignedRecord>,
    pub(super) links: Held,
    pub(super) topics: Topics,
    /// How fast it changes; that outlives its restarts.
    pub(super) pace: Pace,
    /// Since when no way has led to it.
    pub(super) unreachable_since: Option<Time>,
}

impl Known {
    /// The signed identity, whether the node is alive or a tombstone.
    pub(super) fn signed_identity(&self) -> Option<&SignedRecord> {
        self.identity.as_ref().map(|identity| &identity.record).or(self.tombstone.as_ref())
    }

    /// Whether the identity is held that a record is to be verified under.
    pub(super) fn is_alive(&self, record: &Unverified) -> bool {
        self.epoch == record.version.epoch && self.identity.is_some()
    }

    /// What is held of it.
    pub(super) fn present(&self) -> Versions {
        Versions {
            epoch: self.epoch,
            identity: self.identity.as_ref().map_or(0, |identity| identity.sequence),
            links: self.links.present(),
            topics: self.topics.present(),
        }
    }

    /// Kinds that somebody with `theirs` has and this node lacks.
    pub(super) fn lacking(&self, theirs: &Versions) -> Vec<RecordKind> {
        if theirs.epoch < self.epoch {
            return Vec::new();
        }
        let newer = theirs.epoch > self.epoch;
        let mut kinds = Vec::new();
        if newer || self.identity.as_ref().is_none_or(|held| theirs.identity > held.sequence) {
            kinds.push(RecordKind::Identity);
        }
        if theirs.links > 0 && (newer || self.links.lacks(theirs.links)) {
            kinds.push(RecordKind::Links);
        }
        if theirs.topics > 0 && (newer || self.topics.lacks(theirs.topics)) {
            kinds.push(RecordKind::Topics);
        }
        kinds
    }

    /// Drops the lists; what remains keeps older ones from coming back, and tells a node that
    /// starts with a clock set back which epoch it must exceed.
    pub(super) fn bury(&mut self) {
        self.tombstone = self.identity.take().map(|identity| identity.record);
        self.links.record = None;
        self.topics.bury();
    }
}

/// All that is known of other nodes, by id.
pub(super) type KnownNodes = BTreeMap<NodeId, Known>;
