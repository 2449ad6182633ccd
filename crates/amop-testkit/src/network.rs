//! What a node's core knows of a network, without the network: for what measures the core alone.
//!
//! Certificates and signatures are not what is measured, so everybody is believed. Nodes are numbered.

use std::{sync::Arc, time::Duration};

use amop_protocol::{
    ClientIdentity, NodeId, NodeKey, SessionId, Time, Topic,
    broker::{
        announce::{Authenticator, NodeInfo},
        control::{self, Control, Me},
        lists::ListHash,
        routing::Routing,
        seal::MacSecret,
    },
    wire::generated::{self as pb, SignedRecord, control::Message, record::Content},
};
use bytes::Bytes;
use prost::Message as _;

/// The only epoch of every node.
pub const EPOCH: u64 = 1;

/// What a node tells all others of itself.
#[derive(Clone, Debug)]
pub struct Announced {
    /// Whom it is linked to.
    pub links: Vec<usize>,
    /// Its subscribers, by topic: each topic once, with one or more.
    pub topics: Vec<(Topic, u32)>,
}

/// The id of a node.
pub fn id(node: usize) -> NodeId {
    key(node).id()
}

/// The number of a node of this network.
pub fn number_of(id: &NodeId) -> usize {
    let (number, _) = id.as_bytes().split_first_chunk().expect("an id is longer than a number");
    u64::from_be_bytes(*number) as usize
}

/// What node `me` holds once it has its own subscribers and all others' announcements.
///
/// # Panics
/// When a node that is announced is not in reach: the links are wrong.
pub fn routing(
    me: usize,
    links: &[usize],
    subscribers: &[(SessionId, Arc<ClientIdentity>, Topic)],
    others: impl IntoIterator<Item = (usize, Announced)>,
) -> Routing {
    let info = info(key(me));
    let node = Me { info, chain: chain(me), address: "".into(), epoch: EPOCH, mac: secret(me) };
    let mut control = Control::new(control::Config::default(), node, 1, Box::new(Believer), Time::ZERO);
    for neighbour in links {
        control.handle_link_up(Time::ZERO, id(*neighbour));
    }
    for (session, client, topic) in subscribers {
        control.handle_report(Time::ZERO, *session, client, vec![topic.clone()]);
    }
    let mut nodes = 1;
    for (other, announced) in others {
        for record in records(other, &announced) {
            control.handle_message(Time::ZERO, id(links[0]), Message::Record(record));
        }
        nodes += 1;
    }
    control.handle_timeout(Time::ZERO + Duration::from_secs(1));
    let routing = control.routing().clone();
    assert_eq!(routing.reachable().count(), nodes, "every node is in reach");
    routing
}

fn records(node: usize, Announced { links, topics }: &Announced) -> [SignedRecord; 3] {
    let x25519_key = Bytes::copy_from_slice(&secret(node).public());
    let identity = pb::IdentityContent { chain: chain(node), x25519_key, ..pb::IdentityContent::default() };
    let links = pb::LinksContent { neighbours: links.iter().map(|node| bytes(*node)).collect() };
    let hash = ListHash::of(topics.iter().map(|(topic, count)| (topic.as_str(), *count)));
    let hash = Bytes::copy_from_slice(&hash.to_bytes());
    let entry = |(topic, count): &(Topic, u32)| pb::TopicCount {
        topic: topic.to_string(),
        subscribers: *count,
        holder: None,
    };
    let topics = pb::TopicsContent { topics: topics.iter().map(entry).collect(), piece: 0, pieces: 1, hash };
    [Content::Identity(identity), Content::Links(links), Content::Topics(topics)].map(|content| {
        let record = pb::Record { node: bytes(node), epoch: EPOCH, sequence: 1, content: Some(content) };
        SignedRecord { body: record.encode_to_vec().into(), signature: Bytes::new() }
    })
}

struct Believer;

impl Authenticator for Believer {
    fn sign(&self, _: &[u8]) -> Bytes {
        Bytes::new()
    }

    fn verify_chain(&self, chain: &[Bytes]) -> Option<NodeInfo> {
        let key: [u8; 64] = chain.first()?[..].try_into().ok()?;
        Some(info(NodeKey::new(key)))
    }

    fn verify(&self, _: &NodeKey, _: &[u8], _: &[u8]) -> bool {
        true
    }
}

fn info(key: NodeKey) -> NodeInfo {
    NodeInfo { key, name: "node".into(), institution: "bank".into() }
}

fn key(node: usize) -> NodeKey {
    let mut point = [7; 64];
    point[..8].copy_from_slice(&(node as u64).to_be_bytes());
    NodeKey::new(point)
}

fn bytes(node: usize) -> Bytes {
    Bytes::copy_from_slice(id(node).as_bytes())
}

/// A chain that says no more than the key.
fn chain(node: usize) -> Vec<Bytes> {
    vec![Bytes::copy_from_slice(key(node).as_bytes())]
}

fn secret(node: usize) -> MacSecret {
    MacSecret::new([node as u8 + 1; 32])
}
