//! Announcements that are forged, replayed or too many, claims, and questions.

use amop_protocol::wire::generated::{
    self as pb, RecordKind, SignedRecord, control::Message as Control, record::Content,
};
use bytes::Bytes;
use futures::FutureExt;
use prost::Message;

use super::{AHEAD, Mallory, lists};
use crate::{node::RECORD, scenario::scenario};

/// Nodes that take up almost all of a control frame.
const MANY: usize = 20_000;

impl Mallory {
    /// A record of its own, properly signed. Sequences only grow.
    pub(super) fn record(&self, sequence: u64, content: Content) -> Control {
        let node = Bytes::copy_from_slice(self.relay.id().as_bytes());
        let body = pb::Record { node, epoch: 1, sequence, content: Some(content) }.encode_to_vec();
        let signature = self.relay.credentials.sign(RECORD, &body).into();
        Control::Record(SignedRecord { body: body.into(), signature })
    }

    pub(super) async fn say(&self, at_a_time: usize, mut next: impl FnMut() -> Control) {
        self.flood(at_a_time, |link| link.queued() < AHEAD && link.send_control(next()).is_ok()).await;
    }
}

/// An id of a node that nobody has heard of.
fn stranger(n: usize) -> Bytes {
    let mut id = [9; 32];
    id[..8].copy_from_slice(&n.to_be_bytes());
    Bytes::copy_from_slice(&id)
}

fn links(from: usize, count: usize) -> Content {
    Content::Links(pb::LinksContent { neighbours: (from..from + count).map(stranger).collect() })
}

/// A claim to hold something of so many strangers.
fn claim(from: usize, count: usize) -> Control {
    let entry = |n| pb::Versions { node: stranger(n), epoch: 1, links: 1, topics: 1, identity: 0 };
    Control::Vector(pb::Vector { entries: (from..from + count).map(entry).collect(), partial: true })
}

fn pull(node: Bytes, kinds: &[RecordKind]) -> Control {
    let kinds = kinds.iter().map(|kind| (*kind).into()).collect();
    Control::Pull(pb::Pull { node, kinds, epoch: 0, topics: 0 })
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
                let lie = lists::pieces(&lists::names("lie-", 10), 1).remove(0);
                let mut sequence = 1 << 40;
                mallory
                    .say(5, || {
                        sequence += 1;
                        let node = Bytes::copy_from_slice(of.as_bytes());
                        let identity = Content::Identity(pb::IdentityContent::default());
                        let content = Some(if sequence % 2 == 0 { lie.clone() } else { identity });
                        let record = pb::Record { node, epoch: u64::MAX >> 1, sequence, content };
                        let body = record.encode_to_vec().into();
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
fn announcements_of_links() {
    scenario(
        "20,000 links announced, and 1,024 that change all the time",
        &[("control_records_refused_total", 2), ("control_records_paced_total", 200)],
        |target| {
            async move {
                let mallory = Mallory::join(&target).await;
                let mut sequence = 1_000;
                mallory
                    .say(1, || {
                        sequence += 1;
                        let links = match sequence % 20 {
                            0 => links(0, MANY),
                            n => links(n as usize * 1_000, 1_024),
                        };
                        mallory.record(sequence, links)
                    })
                    .await;
            }
            .boxed_local()
        },
    );
}

#[test]
fn claims() {
    scenario(
        "claims of nodes that do not exist, many and ever others",
        &[("control_pulls_total", 50), ("control_pulls_unanswered_total", 10)],
        |target| {
            async move {
                let mallory = Mallory::join(&target).await;
                let all = claim(0, MANY);
                let mut next = 0;
                mallory
                    .say(1, || {
                        next += 1;
                        if next % 100 == 0 { all.clone() } else { claim(next * 16, 16) }
                    })
                    .await;
            }
            .boxed_local()
        },
    );
}

#[test]
fn questions() {
    scenario(
        "questions for everything of another node",
        &[("overlay_frames_received_total", 2_000)],
        |target| {
            async move {
                let mallory = Mallory::join(&target).await;
                let of = Bytes::copy_from_slice(mallory.bystander().as_bytes());
                let kinds = [RecordKind::Identity, RecordKind::Links, RecordKind::Topics];
                mallory.say(5, || pull(of.clone(), &kinds)).await;
            }
            .boxed_local()
        },
    );
}

#[test]
fn questions_with_long_answers() {
    scenario(
        "questions for a list of 100,000 topics, 1.6 MB each time",
        &[("overlay_control_overflows_total", 1)],
        |target| {
            async move {
                let mallory = Mallory::join(&target).await;
                let own = Bytes::copy_from_slice(mallory.relay.id().as_bytes());
                // What it announces itself it may ask for again.
                let list = lists::pieces(&lists::names("topic-", 100_000), 8);
                let mut list = list.into_iter().map(|piece| mallory.record(1_000, piece));
                mallory
                    .say(5, || list.next().unwrap_or_else(|| pull(own.clone(), &[RecordKind::Topics])))
                    .await;
            }
            .boxed_local()
        },
    );
}
