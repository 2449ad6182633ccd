//! Lies in gossip: records in another's name, old ones, and claims that nothing stands behind.

use amop::telemetry::{client as admin, status};
use amop_protocol::{
    broker::lists::ListHash,
    wire::generated::{self as pb, SignedRecord, control::Message as Control, record::Content},
};
use amop_testkit::wait;

use super::*;

/// What node 0 believes of all others.
async fn beliefs(mesh: &Mesh) -> (Vec<(String, u32, Option<String>)>, Vec<status::Topic>, u64) {
    let node = &mesh.nodes[0];
    let peers = admin::peers(node.admin()).await.expect("the admin port answers");
    let ways = peers.into_iter().map(|peer| (peer.node_id, peer.hops, peer.via)).collect();
    let topics = admin::topics(node.admin()).await.expect("the admin port answers");
    (ways, topics, node.status().await.epoch)
}

fn read(record: &SignedRecord) -> pb::Record {
    pb::Record::decode(record.body.clone()).expect("a record")
}

fn is_of(record: &pb::Record, node: NodeId) -> bool {
    record.node[..] == node.as_bytes()[..]
}

/// The newest record of each kind of this node's.
fn records_of(relay: &Relay, node: NodeId) -> [SignedRecord; 3] {
    let newest = |wanted: fn(&Content) -> bool| {
        let records = relay.records().into_iter().filter(|signed| {
            let record = read(signed);
            is_of(&record, node) && record.content.as_ref().is_some_and(wanted)
        });
        records.max_by_key(|signed| read(signed).sequence).expect("such a record")
    };
    [
        newest(|content| matches!(content, Content::Identity(_))),
        newest(|content| matches!(content, Content::Links(_))),
        newest(|content| matches!(content, Content::Topics(_))),
    ]
}

/// The record with other contents: its own signature, and the relay's.
fn forged(relay: &Relay, signed: &SignedRecord, alter: impl FnOnce(&mut pb::Record)) -> [SignedRecord; 2] {
    let mut record = read(signed);
    alter(&mut record);
    let body: Bytes = record.encode_to_vec().into();
    let signature = relay.credentials.sign(node::RECORD, &body).into();
    [
        SignedRecord { body: body.clone(), signature: signed.signature.clone() },
        SignedRecord { body, signature },
    ]
}

/// A list in one piece, whose hash is right.
fn whole(topics: Vec<pb::TopicCount>) -> pb::TopicsContent {
    let hash = ListHash::of(topics.iter().map(|entry| (entry.topic.as_str(), entry.subscribers)));
    pb::TopicsContent { topics, piece: 0, pieces: 1, hash: hash.to_bytes().to_vec().into() }
}

/// Records in the name of `of`, none of which is genuine.
fn forgeries(relay: &Relay, of: NodeId) -> Vec<SignedRecord> {
    let [identity, links, topics] = records_of(relay, of);
    let own_chain: Vec<_> = relay.credentials.chain().iter().map(|der| Bytes::copy_from_slice(der)).collect();
    let content = |record: &mut pb::Record, alter: fn(&mut Content)| {
        record.sequence += 1;
        alter(record.content.as_mut().expect("content"));
    };
    let mut all = vec![
        // A key for MACs whose secret the relay knows: the way to sit in between unseen.
        forged(relay, &identity, |record| {
            record.epoch += 1;
            content(record, |content| {
                let Content::Identity(identity) = content else { panic!("{content:?}") };
                identity.x25519_key = node::mac_key().public().to_vec().into();
            });
        }),
        forged(relay, &identity, |record| {
            record.epoch += 1;
            let Some(Content::Identity(identity)) = &mut record.content else { panic!("no identity") };
            identity.chain = own_chain;
        }),
        forged(relay, &links, |record| {
            content(record, |content| *content = Content::Links(pb::LinksContent::default()));
        }),
        forged(relay, &topics, |record| {
            content(record, |content| *content = Content::Topics(whole(Vec::new())));
        }),
        forged(relay, &topics, |record| {
            content(record, |content| {
                let more = pb::TopicCount { topic: "lie".into(), subscribers: 5, holder: None };
                *content = Content::Topics(whole(vec![more]));
            });
        }),
    ];
    all.extend([&links, &topics].map(|signed| {
        // One kind's content under the other's signature and sequence.
        let other = if std::ptr::eq(signed, &links) { &topics } else { &links };
        forged(relay, signed, |record| {
            record.content = read(other).content;
            record.sequence = u64::MAX;
        })
    }));
    all.into_iter().flatten().collect()
}

#[tokio::test]
async fn forged_records_change_nothing() {
    let (mesh, relay) = line(wait::PATIENCE).await;
    let echo = Served::echo(mesh.client(1).await, "t").await;
    let till = mesh.client(0).await;
    let (origin, victim) = (mesh.id(0), mesh.id(1));
    let before = beliefs(&mesh).await;
    assert_eq!((before.0.len(), before.1.len()), (2, 1));

    let node = &mesh.nodes[0];
    let refused = node.counted("control_records_refused").await;
    let lies = forgeries(&relay, victim);
    for record in &lies {
        relay.say(origin, Control::Record(record.clone()));
    }
    wait::until("all to be refused", async || {
        node.counted("control_records_refused").await == refused + lies.len() as u64
    })
    .await;
    // Of node 0 itself: an earlier start of its own, as it would seem.
    let refused = node.counted("control_records_refused").await;
    let [own, ..] = records_of(&relay, origin);
    let lies = forged(&relay, &own, |record| record.epoch += 1_000);
    for record in &lies {
        relay.say(origin, Control::Record(record.clone()));
    }
    wait::until("both to be refused", async || node.counted("control_records_refused").await == refused + 2)
        .await;
    assert_eq!(beliefs(&mesh).await, before);
    assert_eq!(node.counted("control_epochs_raised").await, 0);
    assert_eq!(till.request("t", "x").await.as_deref(), Ok(&b"x"[..]));
    assert_eq!(echo.handled(), 1);
}

#[tokio::test]
async fn old_records_and_empty_claims_change_nothing() {
    let (mesh, relay) = line(wait::PATIENCE).await;
    let client = mesh.client(1).await;
    let gone = client.subscribe("gone").await.expect("subscribed");
    let till = mesh.client(0).await;
    drop(gone);
    wait::until("100", async || till.publish("gone", "x").await.is_err_and(|error| error.code() == 100))
        .await;
    let _echo = Served::echo(client, "t").await;
    let (origin, victim) = (mesh.id(0), mesh.id(1));
    let before = beliefs(&mesh).await;

    let node = &mesh.nodes[0];
    let stale = node.counted("control_records_stale").await;
    let old: Vec<_> = relay.records().into_iter().filter(|signed| is_of(&read(signed), victim)).collect();
    for record in &old {
        relay.say(origin, Control::Record(record.clone()));
    }
    wait::until("all to be known already", async || {
        node.counted("control_records_stale").await >= stale + old.len() as u64
    })
    .await;
    assert!(old.len() >= 5, "{} records: the list with the topic is among them", old.len());

    // Versions that nobody has: of the others and of node 0, in a vector and in a heartbeat.
    let entries = [origin, victim].map(|node| pb::Versions {
        node: Bytes::copy_from_slice(node.as_bytes()),
        epoch: u64::MAX,
        links: u64::MAX,
        topics: u64::MAX,
        identity: u64::MAX,
    });
    let heartbeat = pb::Heartbeat { own: Some(entries[1].clone()), digest: 1 };
    relay.say(origin, Control::Vector(pb::Vector { entries: entries.to_vec(), partial: false }));
    relay.say(origin, Control::Heartbeat(heartbeat));
    // A link's messages come in order: once this is refused, the claims have been heard.
    let refused = node.counted("control_records_refused").await;
    relay.say(origin, Control::Record(SignedRecord::default()));
    wait::until("the claims to be heard", async || node.counted("control_records_refused").await > refused)
        .await;
    assert_eq!(beliefs(&mesh).await, before);
    assert_eq!(node.counted("control_epochs_raised").await, 0);
    assert_eq!(till.request("t", "x").await.as_deref(), Ok(&b"x"[..]));
    assert!(!mesh.knows(0, "gone").await);
}
