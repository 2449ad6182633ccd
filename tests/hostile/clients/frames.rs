//! Frames that are very small, very large, or never complete.

use amop_protocol::wire::channel::{HEADER, Type};
use bytes::Bytes;
use futures::FutureExt;

use crate::{
    raw::{Raw, again, body, frame},
    scenario::scenario,
};

const LARGEST: usize = 100 << 20;

#[test]
fn tiny_frames() {
    scenario(
        "tiny frames: unknown types, empty sends, heartbeats",
        &[("client_port_frames_received_total", 20_000)],
        |target| {
            async move {
                let tiny: Vec<u8> = (0..300)
                    .flat_map(|n: u128| match n % 3 {
                        0 => frame(Type(0x99), n, b""),
                        1 => frame(Type::UNICAST, n, b""),
                        _ => frame(Type::HEARTBEAT, n, b""),
                    })
                    .collect();
                let tiny = Bytes::from(tiny);
                again(4, async |_| Raw::connect(&target, 0).await?.flood(|| tiny.clone()).await).await;
            }
            .boxed_local()
        },
    );
}

#[test]
fn frames_that_never_end() {
    scenario(
        "100 MiB announced, 8 MiB sent, 100 times",
        &[("client_port_closed_total{reason=\"Memory\"}", 10)],
        |target| {
            async move {
                let mut head = frame(Type::UNICAST, 1, b"");
                head[..4].copy_from_slice(&(LARGEST as u32).to_be_bytes());
                let part = vec![2; 8 << 20];
                again(100, async |_| {
                    let mut raw = Raw::connect(&target, 0).await?;
                    raw.write(&head).await?;
                    raw.write(&part).await?;
                    raw.ended().await;
                    Ok(())
                })
                .await;
            }
            .boxed_local()
        },
    );
}

/// Messages of the largest size, to a topic of the attacker's own.
async fn largest(target: crate::net::Target, topic: &'static str, kind: Type) {
    let payload = vec![3; LARGEST - HEADER - 1 - topic.len()];
    let frame = Bytes::from(frame(kind, 7, &body(topic, &payload)));
    drop(payload);
    again(1, async |_| {
        let mut number = 0_u128;
        let mut raw = Raw::connect(&target, 0).await?;
        loop {
            number += 1;
            // Another name for each: the same message would only be repeated.
            let mut head = frame[..HEADER].to_vec();
            head[6..38].copy_from_slice(format!("{number:032x}").as_bytes());
            raw.write(&head).await?;
            raw.write(&frame[HEADER..]).await?;
            raw.receive().await?;
        }
    })
    .await;
}

#[test]
fn the_largest_frames_to_nobody() {
    scenario(
        "100 MiB sent to nobody, again and again",
        &[("delivery_outcomes_total{code=\"100\",cause=\"CAUSE_NO_SUBSCRIBER\"}", 2)],
        |target| largest(target, "nobody", Type::UNICAST).boxed_local(),
    );
}

#[test]
fn the_largest_frames_through_the_overlay() {
    scenario(
        "100 MiB published across the link, again and again",
        &[("delivery_outcomes_total{code=\"0\",cause=\"CAUSE_DELIVERED\"}", 2)],
        |target| {
            async move {
                let subscriber = Raw::subscriber(&target, 1, &["large"]).await.expect("a subscription");
                let reading = subscriber.stay_silent();
                tokio::select! {
                    () = largest(target.clone(), "large", Type::MULTICAST) => {}
                    _ = reading => {}
                }
            }
            .boxed_local()
        },
    );
}
