//! Lists of topics, properly signed: too long, too often, never complete, or never what they say.

use amop_protocol::{
    broker::lists::ListHash,
    wire::generated::{self as pb, TopicCount, record::Content},
};
use bytes::Bytes;
use futures::{FutureExt, future};

use super::Mallory;
use crate::scenario::scenario;

/// Changes that are taken before the whole list must come.
const CHANGES: u64 = 30;

/// So many entries of a list.
pub(super) fn names(prefix: &str, count: usize) -> Vec<TopicCount> {
    (0..count).map(|n| TopicCount { topic: format!("{prefix}{n}"), subscribers: 1, holder: None }).collect()
}

/// A list in so many pieces.
pub(super) fn pieces(topics: &[TopicCount], count: usize) -> Vec<Content> {
    signed_as(topics, count, hash(topics))
}

/// The same with a hash that may be of another list.
fn signed_as(topics: &[TopicCount], count: usize, hash: Bytes) -> Vec<Content> {
    let chunks = topics.chunks(topics.len().div_ceil(count));
    let pieces = chunks.len() as u32;
    let piece = |(piece, topics): (u32, &[TopicCount])| {
        Content::Topics(pb::TopicsContent { topics: topics.to_vec(), piece, pieces, hash: hash.clone() })
    };
    (0..).zip(chunks).map(piece).collect()
}

fn hash(topics: &[TopicCount]) -> Bytes {
    let entries = topics.iter().map(|entry| (&*entry.topic, entry.subscribers));
    ListHash::of(entries).to_bytes().to_vec().into()
}

impl Mallory {
    /// These records, one after the other, all of a round with the same sequence, without end.
    async fn rounds(&self, at_a_time: usize, mut round: impl FnMut(u64) -> Vec<Content>) {
        let (mut sequence, mut left) = (1_000, Vec::new().into_iter());
        self.say(at_a_time, || {
            let content = left.next().unwrap_or_else(|| {
                sequence += 1;
                left = round(sequence).into_iter();
                left.next().expect("a round is not empty")
            });
            self.record(sequence, content)
        })
        .await;
    }
}

#[test]
fn a_storm_of_lists() {
    scenario(
        "thousands of own lists a second",
        &[("control_topics_lists_total", 1_000), ("control_records_paced_total", 1_000)],
        |target| {
            async move {
                let mallory = Mallory::join(&target).await;
                mallory.rounds(5, |n| pieces(&names(&format!("storm-{}-", n % 2), 20), 1)).await;
            }
            .boxed_local()
        },
    );
}

#[test]
fn a_storm_of_changes() {
    scenario("changes of its list without end", &[("control_topics_deltas_total", 1_000)], |target| {
        async move {
            let mallory = Mallory::join(&target).await;
            let lists = [1, 2].map(|subscribers| {
                let mut list = names("change-", 20);
                list[0].subscribers = subscribers;
                list
            });
            let hashes = [hash(&lists[0]), hash(&lists[1])];
            mallory
                .rounds(5, |n| {
                    let list = &lists[n as usize % 2];
                    if n.is_multiple_of(CHANGES) {
                        return pieces(list, 1);
                    }
                    let (changes, hash) = (vec![list[0].clone()], hashes[n as usize % 2].clone());
                    vec![Content::TopicsDelta(pb::TopicsDelta { from: n - 1, changes, hash })]
                })
                .await;
        }
        .boxed_local()
    });
}

#[test]
fn lists_that_are_not_what_they_say() {
    scenario("lists and changes whose hash is of others", &[("control_lists_misfit_total", 100)], |target| {
        async move {
            let mallory = Mallory::join(&target).await;
            let list = names("fits-not-", 5_000);
            let other = hash(&names("other-", 1));
            mallory
                .rounds(2, |n| match n % 3 {
                    0 => pieces(&list, 2),
                    1 => {
                        let (changes, hash) = (names("change-", 1), other.clone());
                        vec![Content::TopicsDelta(pb::TopicsDelta { from: n - 1, changes, hash })]
                    }
                    _ => signed_as(&list, 2, other.clone()),
                })
                .await;
        }
        .boxed_local()
    });
}

#[test]
fn lists_of_a_million_topics() {
    scenario(
        "a million topics announced, again and again",
        &[("control_records_refused_total", 5)],
        |target| {
            async move {
                let mallory = Mallory::join(&target).await;
                let list = pieces(&names("", 1_000_000), 64);
                mallory.rounds(1, |_| list.clone()).await;
            }
            .boxed_local()
        },
    );
}

#[test]
fn lists_as_long_as_may_be() {
    scenario(
        "100,000 topics announced in pieces of 256 KiB, ever other ones",
        &[("control_topics_lists_total", 5)],
        |target| {
            async move {
                let mallory = Mallory::join(&target).await;
                let lists = ["this-", "that-"].map(|prefix| pieces(&names(prefix, 100_000), 7));
                mallory.rounds(1, |n| lists[n as usize % 2].clone()).await;
            }
            .boxed_local()
        },
    );
}

#[test]
fn lists_that_are_never_complete() {
    scenario(
        "99 of 100 pieces of 256 KiB, from three nodes, again and again",
        &[("control_lists_unfinished_total", 1), ("control_records_paced_total", 100)],
        |target| {
            async move {
                let nodes = target.nodes.each_ref().map(|leaf| Mallory::join_as(&target, leaf));
                let nodes = future::join_all(nodes).await;
                let topics = names(&"long".repeat(60), 1_000);
                let hash = hash(&topics);
                let piece = |piece| {
                    let (topics, hash) = (topics.clone(), hash.clone());
                    Content::Topics(pb::TopicsContent { topics, piece, pieces: 100, hash })
                };
                let list: Vec<Content> = (0..99).map(piece).collect();
                // One sequence for ever: a next one would let go of what was held of the former, and
                // three nodes out of step never fill the room.
                future::join_all(nodes.iter().map(|node| {
                    let mut left = list.iter().cycle();
                    node.say(1, move || node.record(1_000, left.next().expect("a cycle has no end").clone()))
                }))
                .await;
            }
            .boxed_local()
        },
    );
}
