//! Requests, calls and answers without end, and subscribers that do not read.

use std::sync::atomic::{AtomicU64, Ordering};

use amop_protocol::{
    broker::event::PushId,
    wire::channel::{Encoded, Type},
};
use bytes::{Bytes, BytesMut};
use futures::FutureExt;

use crate::{
    net::Target,
    raw::{Raw, again, body, frame},
    scenario::scenario,
};

/// Batches of 100 sends to a topic, each under a name of its own.
fn sends(kind: Type, topic: &'static str, payload: usize) -> impl FnMut() -> Bytes {
    let body = body(topic, &vec![1; payload]);
    static BATCHES: AtomicU64 = AtomicU64::new(0);
    let mut next = u128::from(BATCHES.fetch_add(1, Ordering::Relaxed)) << 64;
    move || {
        let mut batch = Vec::new();
        for _ in 0..100 {
            next += 1;
            batch.extend_from_slice(&frame(kind, next, &body));
        }
        batch.into()
    }
}

#[test]
fn requests_to_nobody() {
    scenario(
        "requests to a topic that nobody has",
        &[("delivery_outcomes_total{code=\"100\",cause=\"CAUSE_NO_SUBSCRIBER\"}", 5_000)],
        |target| {
            async move {
                again(4, async |_| {
                    Raw::connect(&target, 0).await?.flood(sends(Type::UNICAST, "nobody", 16)).await
                })
                .await;
            }
            .boxed_local()
        },
    );
}

/// A subscriber at the node at `index` that reads what comes and says nothing.
async fn silent(target: &Target, index: usize, topic: &str) {
    again(1, async |_| Raw::subscriber(target, index, &[topic]).await?.stay_silent().await).await;
}

#[test]
fn requests_to_a_silent_subscriber() {
    scenario("requests to a subscriber that never answers", &[("delivery_pushes_total", 2_000)], |target| {
        async move {
            let flood = again(4, async |_| {
                Raw::connect(&target, 0).await?.flood(sends(Type::UNICAST, "silent", 1_000)).await
            });
            tokio::join!(silent(&target, 0, "silent"), silent(&target, 1, "silent"), flood);
        }
        .boxed_local()
    });
}

#[test]
fn requests_of_clients_that_leave() {
    scenario(
        "1,000 requests to a silent subscriber, and away, again and again",
        &[("delivery_pushes_total", 2_000)],
        |target| {
            async move {
                let flood = again(8, async |_| {
                    let mut raw = Raw::connect(&target, 0).await?;
                    let mut batch = sends(Type::UNICAST, "silent", 1_000);
                    for _ in 0..10 {
                        raw.write(&batch()).await?;
                    }
                    // Whatever comes: the node has begun with them.
                    raw.receive().await.map(drop)
                });
                tokio::join!(silent(&target, 0, "silent"), flood);
            }
            .boxed_local()
        },
    );
}

#[test]
fn a_slow_reader_under_multicast() {
    scenario(
        "subscribers that never read, under a flood of multicasts",
        &[("client_port_closed_total{reason=\"Slow\"}", 4)],
        |target| {
            async move {
                let readers = again(4, async |_| {
                    let reader = Raw::subscriber(&target, 0, &["flood"]).await?;
                    reader.hold().await;
                    Ok(())
                });
                let flood = again(2, async |_| {
                    Raw::connect(&target, 0).await?.flood(sends(Type::MULTICAST, "flood", 16 * 1024)).await
                });
                tokio::join!(readers, flood);
            }
            .boxed_local()
        },
    );
}

#[test]
fn calls_at_start_up() {
    scenario(
        "getPeers and getNodeInfo without end, 10,000 topics known",
        &[("client_port_frames_received_total", 300)],
        |target| {
            async move {
                let list: Vec<String> = (0..10_000).map(|n| format!("a-topic-of-some-length-{n}")).collect();
                let topics: Vec<&str> = list.iter().map(String::as_str).collect();
                let here = Raw::subscriber(&target, 0, &topics[..5_000]).await.expect("subscribed");
                let there = Raw::subscriber(&target, 1, &topics).await.expect("subscribed");
                let calls = [
                    frame(Type::JSON_RPC, 1, br#"{"method":"getPeers","id":1}"#),
                    frame(Type::JSON_RPC, 2, br#"{"method":"getNodeInfo","id":2}"#),
                ];
                let calls = Bytes::from(calls.concat());
                again(4, async |_| Raw::connect(&target, 0).await?.flood(|| calls.clone()).await).await;
                drop((here, there));
            }
            .boxed_local()
        },
    );
}

#[test]
fn answers_to_nothing() {
    scenario("answers to what nobody asked", &[("client_port_frames_received_total", 20_000)], |target| {
        async move {
            again(4, async |_| {
                let mut next = 0;
                let batch = move || {
                    let mut bytes = BytesMut::new();
                    for _ in 0..100 {
                        next += 1;
                        Encoded::new(Type::ANSWER, PushId(next).to_seq(), 0, &body("t", b"x"), Bytes::new())
                            .put(&mut bytes);
                    }
                    bytes.freeze()
                };
                Raw::connect(&target, 0).await?.flood(batch).await
            })
            .await;
        }
        .boxed_local()
    });
}
