//! What made SDKs fail with the original nodes (the channel specification's section 11), one by
//! one, frame by frame. `interop/` does the same with the SDKs themselves.

use std::time::Duration;

use amop_protocol::wire::channel::{Encoded, Type};
use amop_testkit::wait;
use bytes::{Bytes, BytesMut};
use rustls::version::TLS12;

use crate::mesh::{Mesh, Plain, Topology, message};

async fn subscriber(mesh: &Mesh, node: usize, topics: &[&str]) -> Plain {
    let node = &mesh.nodes[node];
    Plain::subscriber(node.addresses.channel, &node.institution.client("old"), topics).await
}

/// Row 18, and rule 3 the other way round: a client may send many frames at once, and in pieces.
#[tokio::test]
async fn coalesced_and_cut_frames_are_all_read() {
    let mesh = Mesh::line(1).await;
    let mut client = subscriber(&mesh, 0, &[]).await;
    let seqs: Vec<_> = (0..50).map(|_| client.seq()).collect();
    let mut all = BytesMut::new();
    for seq in &seqs {
        message(Type::UNICAST, *seq, "nobody", "x").put(&mut all);
    }
    for piece in all.chunks(97) {
        client.send_raw(piece).await;
    }
    for seq in seqs {
        let outcome = client.receive().await;
        assert_eq!((outcome.kind, outcome.seq, outcome.result), (Type::ANSWER, seq, 100));
    }
}

/// Row 12: SDKs look for the seq before the type, so a push must never carry a seq of their own.
#[tokio::test]
async fn a_publisher_that_is_its_own_subscriber_is_not_confused() {
    let mesh = Mesh::line(1).await;
    let mut client = subscriber(&mesh, 0, &["mine"]).await;
    for _ in 0..20 {
        let seq = client.seq();
        client.send(message(Type::UNICAST, seq, "mine", "ping")).await;
        let push = client.receive().await;
        assert_eq!((push.kind, &push.body[..]), (Type::UNICAST, &b"\x05mineping"[..]));
        assert_ne!(push.seq, seq);
        client.send(Encoded::new(Type::ANSWER, push.seq, 0, b"\x05minepong", Bytes::new())).await;
        let outcome = client.receive().await;
        assert_eq!((outcome.kind, outcome.seq), (Type::ANSWER, seq));
        assert_eq!(outcome.body, "\x05minepong");
    }
}

/// Rows 15 and 18: go-sdk waits without a timeout, and a Java callback may return nothing.
#[tokio::test]
async fn a_send_that_nobody_answers_still_ends() {
    let mesh = Mesh::new(2, Topology::Line, |_, config| {
        config.delivery.default_deadline = Duration::from_secs(1);
        config.delivery.min_push_timeout = Duration::from_millis(100);
        config.delivery.max_push_timeout = Duration::from_millis(100);
    })
    .await;
    let mut silent = subscriber(&mesh, 1, &["t"]).await;
    let mut client = subscriber(&mesh, 0, &[]).await;
    wait::until("the topic", async || mesh.knows(0, "t").await).await;
    for (kind, result) in [(Type::UNICAST, 102), (Type::MULTICAST, 0)] {
        let seq = client.seq();
        client.send(message(kind, seq, "t", "?")).await;
        assert_eq!(silent.receive().await.kind, kind);
        let outcome = client.receive().await;
        assert_eq!((outcome.kind, outcome.seq, outcome.result), (Type::ANSWER, seq, result));
    }
}

/// Rows 16 and 26: a message on such a topic ends the process of a Go client.
#[tokio::test]
async fn nothing_can_be_published_to_block_notifications() {
    let mesh = Mesh::line(2).await;
    let mut go = subscriber(&mesh, 0, &["_block_notify_1", "sentinel"]).await;
    let mut far = subscriber(&mesh, 1, &[]).await;
    wait::until("the topics", async || mesh.knows(1, "sentinel").await).await;
    assert!(!mesh.knows(1, "_block_notify_1").await, "kept out of gossip");
    for kind in [Type::UNICAST, Type::MULTICAST] {
        let seq = far.seq();
        far.send(message(kind, seq, "_block_notify_1", "boom")).await;
        let outcome = far.receive().await;
        assert_eq!((outcome.seq, outcome.result, outcome.body.len()), (seq, 100, 0));
    }
    // Nor from the same node.
    let mut near = subscriber(&mesh, 0, &[]).await;
    let seq = near.seq();
    near.send(message(Type::UNICAST, seq, "_block_notify_1", "boom")).await;
    assert_eq!(near.receive().await.result, 100);
    let seq = far.seq();
    far.send(message(Type::MULTICAST, seq, "sentinel", "")).await;
    assert_eq!(go.receive().await.body, "\x09sentinel", "the first push that came");
}

/// Row 13 and the python-sdk: sessions without a handshake are of version 1 and complete.
#[tokio::test]
async fn a_session_of_version_1_sends_and_receives() {
    let mesh = Mesh::line(2).await;
    let node = &mesh.nodes[0];
    let mut old = Plain::connect(node.addresses.channel, &node.institution.client("old"), &TLS12).await;
    let seq = old.seq();
    old.send(Encoded::new(Type::TOPICS, seq, 0, b"[\"old\"]", Bytes::new())).await;
    assert_eq!(old.ask(Type::HEARTBEAT, "0").await.body, "1");
    // Anything else has no reply on version 1; what comes next answers the next question.
    let seq = old.seq();
    old.send(Encoded::empty(Type::HEARTBEAT, seq, 0)).await;
    assert!(old.rpc("getBlockNumber", "[1]").await.is_string());

    let node = &mesh.nodes[1];
    let mut asked = Plain::connect(node.addresses.channel, &node.institution.client("v1"), &TLS12).await;
    let hello = r#"{"minimumSupport":1,"maximumSupport":1,"clientType":"old-sdk"}"#;
    let reply = asked.ask(Type::HANDSHAKE, hello).await;
    assert!(reply.body.windows(12).any(|word| word == b"\"protocol\":1"), "{reply:?}");
    wait::until("the topic", async || mesh.knows(1, "old").await).await;
    let seq = asked.seq();
    asked.send(message(Type::UNICAST, seq, "old", "hello")).await;
    let push = old.receive().await;
    old.send(Encoded::new(Type::ANSWER, push.seq, 0, b"\x04oldhi", Bytes::new())).await;
    let outcome = asked.receive().await;
    assert_eq!((outcome.seq, outcome.result, &outcome.body[..]), (seq, 0, &b"\x04oldhi"[..]));
}

/// Rows 2 and 19: the length byte counts itself and is unsigned, whatever some SDKs take it for.
#[tokio::test]
async fn topics_of_every_length_pass_and_longer_ones_are_dropped_singly() {
    let mesh = Mesh::line(2).await;
    let topics: Vec<String> =
        [1, 126, 127, 128, 168, 169, 185, 253, 254].iter().map(|len| "x".repeat(*len)).collect();
    let mut names: Vec<&str> = topics.iter().map(String::as_str).collect();
    let too_long = "x".repeat(255);
    names.insert(4, &too_long);
    let mut far = subscriber(&mesh, 1, &names).await;
    let mut near = subscriber(&mesh, 0, &[]).await;
    for topic in &topics {
        wait::until("the topic", async || mesh.knows(0, topic).await).await;
        for kind in [Type::UNICAST, Type::MULTICAST] {
            let seq = near.seq();
            near.send(message(kind, seq, topic, "payload")).await;
            let push = far.receive().await;
            let prefix = [&[topic.len() as u8 + 1], topic.as_bytes()].concat();
            assert_eq!(push.body, [&prefix[..], b"payload"].concat());
            if kind == Type::UNICAST {
                far.send(Encoded::new(Type::ANSWER, push.seq, 0, &prefix, Bytes::new())).await;
            }
            let outcome = near.receive().await;
            assert_eq!((outcome.seq, outcome.result, &outcome.body[..]), (seq, 0, &prefix[..]));
        }
    }
    assert!(!mesh.knows(0, &too_long).await);
}
