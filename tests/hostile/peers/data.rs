//! Data frames: to relay, for own clients, about sends that never were, and never complete.

use amop_protocol::{
    NodeId,
    wire::{
        generated::{self as pb, data::Body},
        interleave::FIRST,
        link::{Kind, LinkFrame, PREFIX},
    },
};
use bytes::{BufMut, Bytes, BytesMut};
use futures::FutureExt;
use prost::Message;

use super::{AHEAD, Mallory};
use crate::{raw::Raw, scenario::scenario};

impl Mallory {
    fn frame(&self, to: NodeId, flow: u32, body: Body, payload: &Bytes) -> LinkFrame {
        let id = |node: NodeId| Bytes::copy_from_slice(node.as_bytes());
        let data = pb::Data {
            origin: id(self.relay.id()),
            origin_epoch: 1,
            destinations: vec![id(to)],
            body: Some(body),
            ..pb::Data::default()
        };
        LinkFrame {
            kind: Kind::Data,
            hops: 8,
            flow,
            header: data.encode_to_vec().into(),
            payload: payload.clone(),
        }
    }

    /// Attempts at this topic, each another message.
    async fn attempts(&self, to: NodeId, topic: &str, payload: usize) {
        let payload = Bytes::from(vec![5; payload]);
        let mut send_id: u64 = 0;
        self.flood(50, |link| {
            send_id += 256;
            let publisher = pb::ClientIdentity { fingerprint: vec![4; 32].into(), name: "nobody".into() };
            let seq = Bytes::from(format!("{send_id:032x}"));
            let envelope =
                pb::Envelope { publisher: Some(publisher), seq, topic: topic.into(), ..Default::default() };
            let attempt =
                pb::Attempt { send_id, number: 1, envelope: Some(envelope), push_timeout_ms: 5_000 };
            let frame = self.frame(to, send_id as u32, Body::Attempt(attempt), &payload);
            link.queued() < AHEAD && link.try_send(frame).is_ok()
        })
        .await;
    }
}

#[test]
fn frames_to_relay() {
    scenario(
        "data frames to relay, as fast as they can",
        &[("delivery_relayed_frames_total", 5_000)],
        |target| {
            async move {
                let mallory = Mallory::join(&target).await;
                mallory.attempts(mallory.bystander(), "nobody", 1_000).await;
            }
            .boxed_local()
        },
    );
}

#[test]
fn messages_for_clients() {
    scenario(
        "messages of another node for a client that never answers",
        &[("delivery_pushes_total", 1_000)],
        |target| {
            async move {
                let mallory = Mallory::join(&target).await;
                let silent = Raw::subscriber(&target, 0, &["silent"]).await.expect("subscribed");
                tokio::select! {
                    () = mallory.attempts(mallory.victim, "silent", 1_000) => {}
                    _ = silent.stay_silent() => panic!("the client that reads was disconnected"),
                }
            }
            .boxed_local()
        },
    );
}

#[test]
fn reports_about_nothing() {
    scenario("reports about sends that never were", &[("delivery_stale_reports_total", 2_000)], |target| {
        async move {
            let mallory = Mallory::join(&target).await;
            let mut send_id = 0;
            mallory
                .flood(50, |link| {
                    send_id += 1;
                    let report = match send_id % 3 {
                        0 => Body::Handed(pb::Handed { send_id, number: 1, send_epoch: 1 }),
                        1 => Body::Outcome(pb::Outcome { send_id, number: 1, ..pb::Outcome::default() }),
                        _ => Body::FanOutReport(pb::FanOutReport { send_id, ..pb::FanOutReport::default() }),
                    };
                    let frame = mallory.frame(mallory.victim, send_id as u32, report, &Bytes::new());
                    link.queued() < AHEAD && link.try_send(frame).is_ok()
                })
                .await;
        }
        .boxed_local()
    });
}

#[test]
fn fragments_that_never_end() {
    scenario(
        "32 frames of 100 MiB in pieces, none finished",
        &[("overlay_reassembly_dropped_total", 1)],
        |target| {
            async move {
                let mallory = Mallory::join(&target).await;
                let piece = Bytes::from(vec![6; 16_000]);
                let mut next = 0_u32;
                mallory
                    .flood(50, |link| {
                        let (stream, is_first) = (next % 32, next < 32);
                        next = (next + 1) % (32 * 6_000);
                        let mut payload = BytesMut::new();
                        if is_first {
                            // The prefix of a data frame that announces 100 MiB.
                            payload.put_u32(100 << 20);
                            payload.put_u8(Kind::Data as u8);
                            payload.put_u8(8);
                            payload.put_u16(100);
                            payload.put_u32(stream);
                            assert_eq!(payload.len(), PREFIX);
                        }
                        payload.extend_from_slice(&piece);
                        let hops = if is_first { FIRST } else { 0 };
                        let frame = LinkFrame {
                            kind: Kind::Fragment,
                            hops,
                            flow: stream,
                            header: Bytes::new(),
                            payload: payload.freeze(),
                        };
                        link.queued() < AHEAD && link.try_send(frame).is_ok()
                    })
                    .await;
            }
            .boxed_local()
        },
    );
}
