//! Announcements: forged, replayed, too long, too many.

use amop_protocol::{
    broker::lists::ListHash,
    wire::generated::{self as pb, RecordKind, SignedRecord, control::Message as Control, record::Content},
};
use bytes::Bytes;
use futures::FutureExt;
use prost::Message;

use super::Mallory;
use crate::{node::RECORD, scenario::scenario};

impl Mallory {
    /// A record of its own, properly signed. Sequences only grow.
    fn record(&self, sequence: u64, content: Content) -> SignedRecord {
        let node = Bytes::copy_from_slice(self.relay.id().as_bytes());
        let body = pb::Record { node, epoch: 1, sequence, content: Some(content) }.encode_to_vec();
        let signature = self.relay.credentials.sign(RECORD, &body).into();
        SignedRecord { body: body.into(), signature }
    }

    async fn say(&self, at_a_time: usize, mut next: impl FnMut() -> Control) {
        self.flood(at_a_time, |link| link.send_control(next()).is_ok()).await;
    }
}

fn topics(prefix: &str, count: usize) -> Content {
    let topic = |n| pb::TopicCount { topic: format!("{prefix}{n}"), subscribers: 1 };
    let topics: Vec<_> = (0..count).map(topic).collect();
    let hash = ListHash::of(topics.iter().map(|entry| (&*entry.topic, entry.subscribers))).to_bytes();
    Content::Topics(pb::TopicsContent { topics, piece: 0, pieces: 1, hash: hash.to_vec().into() })
}

fn links(from: usize, count: usize) -> Content {
    let node = |n: usize| {
        let mut id = [9; 32];
        id[..8].copy_from_slice(&n.to_be_bytes());
        Bytes::copy_from_slice(&id)
    };
    Content::Links(pb::LinksContent { neighbours: (from..from + count).map(node).collect() })
}

#[test]
fn forged_announcements() {
    scenario(
        "announcements forged in another node's name",
        &[("control_records_refused_total", 500)],
        |target| {
            async move {
                let mallory = Mallory::join(&target).await;
                let of = mallory.bystander();
                let mut sequence = 1 << 40;
                mallory
                    .say(5, || {
                        sequence += 1;
                        let node = Bytes::copy_from_slice(of.as_bytes());
                        let record = pb::Record {
                            node,
                            epoch: u64::MAX >> 1,
                            sequence,
                            content: Some(topics("lie-", 10)),
                        };
                        let body = Bytes::from(record.encode_to_vec());
                        let identity = pb::Record {
                            content: Some(Content::Identity(pb::IdentityContent::default())),
                            ..record
                        };
                        let body = if sequence % 2 == 0 { body } else { identity.encode_to_vec().into() };
                        Control::Record(SignedRecord { body, signature: vec![7; 64].into() })
                    })
                    .await;
            }
            .boxed_local()
        },
    );
}

#[test]
fn replayed_announcements() {
    scenario("genuine announcements, replayed", &[("control_records_stale_total", 2_000)], |target| {
        async move {
            let mallory = Mallory::join(&target).await;
            let records = mallory.relay.records();
            let mut next = 0;
            mallory
                .say(20, || {
                    next += 1;
                    Control::Record(records[next % records.len()].clone())
                })
                .await;
        }
        .boxed_local()
    });
}

#[test]
fn a_storm_of_announcements() {
    scenario(
        "thousands of own announcements a second",
        &[("overlay_frames_received_total", 2_000)],
        |target| {
            async move {
                let mallory = Mallory::join(&target).await;
                let mut sequence = 1_000;
                mallory
                    .say(5, || {
                        sequence += 1;
                        Control::Record(
                            mallory.record(sequence, topics(&format!("storm-{}-", sequence % 2), 20)),
                        )
                    })
                    .await;
            }
            .boxed_local()
        },
    );
}

#[test]
fn announcements_of_a_million_topics() {
    scenario(
        "a million topics announced, again and again",
        &[("control_records_refused_total", 2)],
        |target| {
            async move {
                let mallory = Mallory::join(&target).await;
                let record = Control::Record(mallory.record(1_000, topics("", 1_000_000)));
                flood_long(&mallory, || record.clone()).await;
            }
            .boxed_local()
        },
    );
}

/// Long messages, each once the link has taken the one before.
async fn flood_long(mallory: &Mallory, mut next: impl FnMut() -> Control) {
    loop {
        for link in mallory.relay.links() {
            let _ = link.send_control(next());
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

#[test]
fn announcements_as_long_as_may_be() {
    scenario(
        "100,000 topics announced, ever other ones",
        &[("control_records_accepted_total", 3)],
        |target| {
            async move {
                let mallory = Mallory::join(&target).await;
                let lists = [topics("this-", 100_000), topics("that-", 100_000)];
                let mut sequence = 1_000;
                flood_long(&mallory, || {
                    sequence += 1;
                    Control::Record(mallory.record(sequence, lists[sequence as usize % 2].clone()))
                })
                .await;
            }
            .boxed_local()
        },
    );
}

#[test]
fn announcements_of_links() {
    scenario(
        "100,000 links announced, and 1,024 that change all the time",
        &[("control_records_refused_total", 2)],
        |target| {
            async move {
                let mallory = Mallory::join(&target).await;
                let mut sequence = 1_000;
                mallory
                    .say(1, || {
                        sequence += 1;
                        let links = match sequence % 50 {
                            0 => links(0, 100_000),
                            n => links(n as usize * 1_000, 1_024),
                        };
                        Control::Record(mallory.record(sequence, links))
                    })
                    .await;
            }
            .boxed_local()
        },
    );
}

#[test]
fn claims_and_questions() {
    scenario(
        "claims of 100,000 nodes, and asking for everything",
        &[("overlay_frames_received_total", 200)],
        |target| {
            async move {
                let mallory = Mallory::join(&target).await;
                let of = Bytes::copy_from_slice(mallory.bystander().as_bytes());
                let Content::Links(nodes) = links(0, 100_000) else { return };
                let entry = |node| pb::Versions { node, epoch: 1, links: 1, topics: 1 };
                let vector =
                    pb::Vector { entries: nodes.neighbours.into_iter().map(entry).collect(), partial: true };
                let kinds =
                    [RecordKind::Identity, RecordKind::Links, RecordKind::Topics].map(i32::from).to_vec();
                let mut next = 0;
                mallory
                    .say(1, || {
                        next += 1;
                        match next % 100 {
                            0 => Control::Vector(vector.clone()),
                            _ => Control::Pull(pb::Pull {
                                node: of.clone(),
                                kinds: kinds.clone(),
                                epoch: 0,
                                topics: 0,
                            }),
                        }
                    })
                    .await;
            }
            .boxed_local()
        },
    );
}
