//! Nodes with keys anybody can sign with, and what they announce.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use amop_protocol::{
    ClientIdentity, Fingerprint, NodeId, NodeKey, SessionId, Time, Topic, Version,
    broker::{
        announce::{Authenticator, NodeInfo},
        control::{self, Control},
        lists::ListHash,
        routing::Routing,
        seal::MacSecret,
    },
    wire::generated::{self as pb, SignedRecord, control::Message, record::Content},
};
use bytes::Bytes;
use prost::Message as _;

/// The node under test.
pub(crate) const ME: u8 = 1;

pub(crate) fn key(n: u8) -> NodeKey {
    NodeKey::new([n; 64])
}

pub(crate) fn id(n: u8) -> NodeId {
    NodeId::new([n; 32])
}

/// Four names: two ordinary ones, a private topic, and one that is never published to.
pub(crate) fn topic(n: u8) -> Topic {
    let name = ["a", "b", "#!$TopicNeedVerify_c", "_block_notify_1"][usize::from(n % 4)];
    Topic::parse(name).expect("a topic")
}

/// Checks signatures as the real thing does, but anybody can make them.
pub(crate) struct Trust(pub(crate) u8);

impl Authenticator for Trust {
    fn sign(&self, body: &[u8]) -> Bytes {
        signature(&key(self.0), body)
    }

    fn verify_chain(&self, chain: &[Bytes]) -> Option<NodeInfo> {
        let point: [u8; 64] = chain.first()?[..].try_into().ok()?;
        Some(info(NodeKey::new(point)))
    }

    fn verify(&self, key: &NodeKey, body: &[u8], found: &[u8]) -> bool {
        signature(key, body) == found
    }
}

fn info(key: NodeKey) -> NodeInfo {
    NodeInfo { key, name: "node".into(), institution: "bank".into() }
}

fn signature(key: &NodeKey, body: &[u8]) -> Bytes {
    let add = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    let sum = key.as_bytes().iter().chain(body).fold(0xcbf2_9ce4_8422_2325, add);
    Bytes::copy_from_slice(&sum.to_be_bytes())
}

pub(crate) fn control(n: u8, epoch: u64, config: control::Config) -> Control {
    let chain = vec![Bytes::copy_from_slice(key(n).as_bytes())];
    let me = control::Me { info: info(key(n)), chain, address: "".into(), epoch, mac: secret(n) };
    Control::new(config, me, 1, Box::new(Trust(n)), Time::ZERO)
}

fn secret(n: u8) -> MacSecret {
    MacSecret::new([n; 32])
}

/// A record of a node, signed by it.
pub(crate) fn record(n: u8, version: Version, content: Content) -> SignedRecord {
    let node = Bytes::copy_from_slice(id(n).as_bytes());
    let record =
        pb::Record { node, epoch: version.epoch, sequence: version.sequence, content: Some(content) };
    let body: Bytes = record.encode_to_vec().into();
    let signature = signature(&key(n), &body);
    SignedRecord { body, signature }
}

pub(crate) fn identity(n: u8) -> Content {
    let chain = vec![Bytes::copy_from_slice(key(n).as_bytes())];
    let x25519_key = Bytes::copy_from_slice(&secret(n).public());
    let name = "node".into();
    Content::Identity(pb::IdentityContent { chain, name, x25519_key, ..pb::IdentityContent::default() })
}

pub(crate) fn links(to: impl IntoIterator<Item = u8>) -> Content {
    let neighbours = to.into_iter().map(|n| Bytes::copy_from_slice(id(n).as_bytes())).collect();
    Content::Links(pb::LinksContent { neighbours })
}

/// Topics and how many subscribers each has.
pub(crate) type List = BTreeMap<String, u32>;

/// As a list without order says it: the last count of each topic, if it is one.
pub(crate) fn list(counts: &[(u8, u32)]) -> List {
    let wanted = counts.iter().filter(|(_, count)| *count > 0);
    wanted.map(|(n, count)| (topic(*n).to_string(), *count)).collect()
}

pub(crate) fn hash(list: &List) -> Bytes {
    let hash = ListHash::of(list.iter().map(|(topic, count)| (topic.as_str(), *count)));
    Bytes::copy_from_slice(&hash.to_bytes())
}

/// One piece of a list, of so many.
pub(crate) fn piece(list: &List, piece: u32, pieces: u32) -> Content {
    let entry = |(topic, subscribers): (&String, &u32)| pb::TopicCount {
        topic: topic.clone(),
        subscribers: *subscribers,
        holder: None,
    };
    let topics = list.iter().map(entry).skip(piece as usize).step_by(pieces.max(1) as usize).collect();
    Content::Topics(pb::TopicsContent { topics, piece, pieces, hash: hash(list) })
}

/// A whole list.
pub(crate) fn topics(counts: &[(u8, u32)]) -> Content {
    piece(&list(counts), 0, 1)
}

/// What changed since a list, and the hash of the one that should come out.
pub(crate) fn delta(from: u64, changes: &[(u8, u32)], hash: Bytes) -> Content {
    let entry = |(n, subscribers): &(u8, u32)| pb::TopicCount {
        topic: topic(*n).to_string(),
        subscribers: *subscribers,
        holder: None,
    };
    let changes = changes.iter().map(entry).collect();
    Content::TopicsDelta(pb::TopicsDelta { from, changes, hash })
}

/// A client of some node.
pub(crate) fn client(n: u8) -> Arc<ClientIdentity> {
    Arc::new(ClientIdentity { fingerprint: Fingerprint::new([n; 32]), name: "client".into() })
}

/// Says all three records of a node to `control`, as its neighbour `from` would.
pub(crate) fn announce(
    control: &mut Control,
    now: Time,
    from: u8,
    n: u8,
    version: Version,
    neighbours: &[u8],
    counts: &[(u8, u32)],
) {
    let first = Version { sequence: 1, ..version };
    for (version, content) in
        [(first, identity(n)), (version, links(neighbours.iter().copied())), (version, topics(counts))]
    {
        control.handle_message(now, id(from), Message::Record(record(n, version, content)));
    }
}

/// What node 1 knows of the line 5 - 4 - 3 - 2 - 1 - 6, with subscribers here and at both ends.
pub(crate) fn line() -> Routing {
    thread_local! {
        static LINE: Routing = make_line();
    }
    LINE.with(Clone::clone)
}

fn make_line() -> Routing {
    let mut control = control(ME, 1, control::Config::default());
    let version = Version { epoch: 1, sequence: 1 };
    for peer in [2, 6] {
        control.handle_link_up(Time::ZERO, id(peer));
    }
    for (n, neighbours) in [(2, &[1, 3][..]), (3, &[2, 4]), (4, &[3, 5]), (5, &[4]), (6, &[1])] {
        let from = if n == 6 { 6 } else { 2 };
        announce(&mut control, Time::ZERO, from, n, version, neighbours, &[(0, 1), (1, 2)]);
    }
    control.handle_report(
        Time::ZERO + Duration::from_millis(1),
        SessionId(1),
        &client(1),
        vec![topic(0), topic(3)],
    );
    control.handle_timeout(Time::ZERO + Duration::from_millis(100));
    control.routing().clone()
}
