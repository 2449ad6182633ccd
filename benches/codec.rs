//! What one frame costs to read and to write: 1 KiB of payload under a topic.
//!
//! `cargo bench --bench codec`

use std::{hint::black_box, sync::Arc, time::Duration};

use amop_protocol::{
    ClientIdentity, Fingerprint, NodeId, Seq, Topic,
    broker::event::{Mode, Sender},
    wire::{
        channel::{Decoder, Encoded, TopicBody, Type},
        extension::FromNode,
    },
};
use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

const PAYLOAD: usize = 1024;
/// Frames in one read buffer, as a busy connection has them.
const BATCH: usize = 16;

fn decode(c: &mut Criterion) {
    let topic = Topic::parse("settlement/eur").expect("a topic");
    let mut one = BytesMut::new();
    Encoded::with_topic(Type::UNICAST, Seq::from_u128(7), 0, &topic, vec![7; PAYLOAD].into()).put(&mut one);
    let batch = one.repeat(BATCH);
    let decoder = Decoder::default();
    let mut group = c.benchmark_group("codec");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("decode 16 frames of 1 KiB", |b| {
        b.iter_batched(
            || BytesMut::from(&batch[..]),
            |mut buffer| {
                while let Ok(Some(frame)) = decoder.decode(&mut buffer) {
                    black_box(frame);
                }
                buffer
            },
            BatchSize::SmallInput,
        );
    });
    group.bench_function("decode 16 frames of 1 KiB, topic parsed", |b| {
        b.iter_batched(
            || BytesMut::from(&batch[..]),
            |mut buffer| {
                while let Ok(Some(frame)) = decoder.decode(&mut buffer) {
                    let body = TopicBody::parse(frame.body).expect("a topic body");
                    black_box((body.topic().expect("a topic"), body.payload));
                }
                buffer
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn encode(c: &mut Criterion) {
    let topic = Topic::parse("settlement/eur").expect("a topic");
    let payload = Bytes::from(vec![7; PAYLOAD]);
    let mut batch = BytesMut::with_capacity(64 * 1024);
    let mut group = c.benchmark_group("codec");
    group.throughput(Throughput::Elements(1));
    group.bench_function("encode 1 KiB, head only", |b| {
        b.iter(|| {
            Encoded::with_topic(Type::UNICAST, Seq::from_u128(7), 0, &topic, black_box(payload.clone()))
        });
    });
    group.bench_function("encode 1 KiB, and copy into a batch", |b| {
        b.iter(|| {
            batch.clear();
            let frame =
                Encoded::with_topic(Type::UNICAST, Seq::from_u128(7), 0, &topic, black_box(payload.clone()));
            frame.put(&mut batch);
            black_box(&batch);
        });
    });
    let client = ClientIdentity { fingerprint: Fingerprint::new([3; 32]), name: "settlement".into() };
    let sender =
        Sender { institution: "bank-a".into(), node: NodeId::new([9; 32]), client: Arc::new(client) };
    group.bench_function("encode 1 KiB for an extension client, and copy into a batch", |b| {
        b.iter(|| {
            batch.clear();
            let deliver = FromNode::Deliver {
                mode: Mode::Unicast,
                topic: topic.clone(),
                sender: sender.clone(),
                answer_within: Duration::from_secs(5),
                message: Some(Seq::from_u128(8)),
                context: None,
                payload: black_box(payload.clone()),
            };
            deliver.encode(Seq::from_u128(7)).put(&mut batch);
            black_box(&batch);
        });
    });
    group.finish();
}

criterion_group!(benches, decode, encode);
criterion_main!(benches);
