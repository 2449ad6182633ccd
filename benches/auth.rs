//! What private topics cost: proofs, keys for subscribers, and encryption of messages.

use std::hint::black_box;

use amop_auth::{
    Party, PrivateKey, Statement,
    challenge::{Accept, Challenge},
    content::{ContentKey, Scope, SealingKey},
};
use amop_protocol::{Fingerprint, NodeId, Topic};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

fn party(n: u8) -> Party {
    Party { institution: "bank-a".into(), node: NodeId::new([n; 32]), client: Fingerprint::new([n; 32]) }
}

fn proofs(criterion: &mut Criterion) {
    let key = PrivateKey::generate().expect("randomness");
    let keys = [key.public()];
    let text = Challenge::text(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
    let challenge = Challenge::parse(text.as_bytes(), Accept::Strict).expect("a challenge");
    let signature = challenge.sign(&key);
    let mut group = criterion.benchmark_group("proof");
    group.bench_function("sign", |b| b.iter(|| black_box(&challenge).sign(&key)));
    group.bench_function("verify", |b| b.iter(|| black_box(&challenge).verify(&signature, &keys)));
    group.finish();
}

fn content(criterion: &mut Criterion) {
    let topic = Topic::parse("#!$TopicNeedVerify_bench").expect("a topic");
    let (key, sealing) =
        (PrivateKey::generate().expect("randomness"), SealingKey::generate().expect("randomness"));
    let statement = Statement {
        topic: topic.clone(),
        publisher: party(1),
        subscriber: party(2),
        nonce: [3; 32],
        expires: 4,
        sealing_key: *sealing.public(),
    };
    let proven = statement.verify(&statement.sign(&key), &[key.public()]).expect("proven");
    let content = ContentKey::generate().expect("randomness");
    let (sealed, _) = content.seal_to(&statement, &proven).expect("sealed");
    let scope = Scope { topic: topic.as_str(), unicast: false, publisher: party(1).client };

    let mut group = criterion.benchmark_group("content key, per subscriber");
    group.bench_function("seal", |b| b.iter(|| content.seal_to(black_box(&statement), &proven)));
    group.bench_function("open", |b| b.iter(|| sealing.open(black_box(&sealed), &statement)));
    group.finish();

    let mut group = criterion.benchmark_group("message");
    for size in [128, 1024, 65_536] {
        let payload = vec![0x5a; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(format!("seal {size} B"), |b| {
            b.iter(|| content.seal(black_box(&payload), scope))
        });
        let mut opener = sealing.open(&sealed, &statement).expect("opened");
        group.bench_function(format!("open {size} B"), |b| {
            b.iter_batched(
                || content.seal(&payload, scope).expect("sealed"),
                |message| opener.open(&message, scope),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, proofs, content);
criterion_main!(benches);
