//! Nodes with signatures that cost nothing, and records as long as real ones.

use std::{hash::Hasher, sync::Arc};

use amop_protocol::{
    ClientIdentity, Fingerprint, NodeId, NodeKey, Time, Topic, Version,
    broker::{
        announce::{Authenticator, NodeInfo},
        control::{Config, Control, Me},
        lists::ListHash,
        seal::MacSecret,
    },
    wire::generated::{self as pb, SignedRecord, record::Content},
};
use bytes::Bytes;
use prost::Message as _;
use siphasher::sip::SipHasher13;

use crate::TOPICS;

/// Bytes of a chain: a leaf and its institution's certificate.
const CHAIN: [usize; 2] = [620, 560];

/// Trusts everybody; a signature is a hash.
struct Trust(NodeKey);

impl Authenticator for Trust {
    fn sign(&self, body: &[u8]) -> Bytes {
        signature(&self.0, body)
    }

    fn verify_chain(&self, chain: &[Bytes]) -> Option<NodeInfo> {
        let key: [u8; 64] = chain.first()?[..64].try_into().ok()?;
        Some(info(NodeKey::new(key)))
    }

    fn verify(&self, key: &NodeKey, body: &[u8], found: &[u8]) -> bool {
        signature(key, body) == found
    }
}

fn signature(key: &NodeKey, body: &[u8]) -> Bytes {
    let mut hasher = SipHasher13::new();
    hasher.write(key.as_bytes());
    hasher.write(body);
    Bytes::copy_from_slice(&hasher.finish().to_be_bytes().repeat(8))
}

fn info(key: NodeKey) -> NodeInfo {
    NodeInfo { key, name: "node.bank.example".into(), institution: "Bank of Examples".into() }
}

pub fn key(n: usize) -> NodeKey {
    let mut point = [0; 64];
    for (at, chunk) in point.chunks_exact_mut(8).enumerate() {
        let mut hasher = SipHasher13::new();
        hasher.write_usize(n);
        hasher.write_usize(at);
        chunk.copy_from_slice(&hasher.finish().to_be_bytes());
    }
    NodeKey::new(point)
}

pub fn id(n: usize) -> NodeId {
    key(n).id()
}

fn secret(n: usize) -> MacSecret {
    let mut secret = [1; 32];
    secret[..8].copy_from_slice(&n.to_be_bytes());
    MacSecret::new(secret)
}

fn chain(n: usize) -> Vec<Bytes> {
    let mut leaf = key(n).as_bytes().to_vec();
    leaf.resize(CHAIN[0], 7);
    vec![leaf.into(), vec![8; CHAIN[1]].into()]
}

pub fn control(n: usize) -> Control {
    let address = "203.0.113.10:30300".into();
    let me = Me { info: info(key(n)), chain: chain(n), address, epoch: 1, mac: secret(n) };
    let config = Config { max_nodes: 20_000, ..Config::default() };
    Control::new(config, me, n as u64 * 7_919, Box::new(Trust(key(n))), Time::ZERO)
}

/// Whose all sessions are.
pub fn client() -> Arc<ClientIdentity> {
    Arc::new(ClientIdentity { fingerprint: Fingerprint::new([1; 32]), name: "app".into() })
}

/// Topics are shared by some nodes, as in life.
pub fn topic(node: usize, n: usize) -> Topic {
    Topic::parse(&format!("market/prices/{}", (node / 3) * 1_000 + n)).expect("a topic")
}

/// All that a node says: identity, links, topics.
pub fn records(n: usize, linked: impl Iterator<Item = usize>) -> [SignedRecord; 3] {
    let bytes = |n| Bytes::copy_from_slice(id(n).as_bytes());
    let x25519_key = Bytes::copy_from_slice(&secret(n).public());
    let (name, address) = ("node.bank.example".into(), "203.0.113.10:30300".into());
    let identity = pb::IdentityContent { chain: chain(n), name, address, x25519_key };
    let links = pb::LinksContent { neighbours: linked.map(bytes).collect() };
    let entry = |t| pb::TopicCount { topic: topic(n, t).to_string(), subscribers: 1, holder: None };
    let topics: Vec<_> = (0..TOPICS).map(entry).collect();
    let hash = ListHash::of(topics.iter().map(|entry| (entry.topic.as_str(), entry.subscribers)));
    let hash = Bytes::copy_from_slice(&hash.to_bytes());
    let topics = pb::TopicsContent { topics, piece: 0, pieces: 1, hash };
    let version = Version { epoch: 1, sequence: 1 };
    [Content::Identity(identity), Content::Links(links), Content::Topics(topics)].map(|content| {
        let Version { epoch, sequence } = version;
        let record = pb::Record { node: bytes(n), epoch, sequence, content: Some(content) };
        let body: Bytes = record.encode_to_vec().into();
        let signature = signature(&key(n), &body);
        SignedRecord { body, signature }
    })
}
