//! What clients that are not trusted try.

use super::*;

/// On the subscriber's own node, with its topic and even with the name of its channel.
#[tokio::test]
async fn a_second_client_without_the_key_receives_nothing() {
    let mesh = Mesh::line(2).await;
    let key = key();
    let mut desk = publisher(&mesh, 0).await;
    let mut till = subscriber(&mesh, 1, 1).await;
    let mut thief = subscriber(&mesh, 1, 1).await;
    let mut neighbour = client(&mesh, 0, &[TOPIC]).await;
    assert!(verify(&mut desk, &mut till, &key, &[key.public()]).await);
    for n in 0..20 {
        exchange(&mut desk, &mut till, &format!("quote {n}")).await;
    }
    let seq = desk.publish(Type::MULTICAST, TOPIC, "to all").await;
    assert_eq!(till.receive().await.kind, Type::MULTICAST);
    assert_eq!(desk.receive().await.seq, seq);
    assert!(thief.is_left_alone().await && neighbour.is_left_alone().await && desk.is_left_alone().await);
}

/// The channel's name, claimed by a client of another node: that client is challenged itself.
#[tokio::test]
async fn whoever_claims_a_channel_that_is_taken_elsewhere_is_challenged_itself() {
    let mesh = Mesh::line(3).await;
    let key = key();
    let mut desk = publisher(&mesh, 1).await;
    let mut till = subscriber(&mesh, 0, 1).await;
    assert!(verify(&mut desk, &mut till, &key, &[key.public()]).await);
    let mut thief = subscriber(&mesh, 2, 1).await;
    let none = super::key();
    assert!(!verify(&mut desk, &mut thief, &none, &[key.public()]).await);
    exchange(&mut desk, &mut till, "quote").await;
    assert!(till.is_left_alone().await && thief.is_left_alone().await);
}

#[tokio::test]
async fn a_verdict_counts_only_from_whom_and_for_what_was_asked() {
    let mesh = Mesh::line(2).await;
    let mut desk = publisher(&mesh, 0).await;
    let mut till = subscriber(&mesh, 1, 1).await;
    let inquiry = desk.asked().await;
    // Another session of that node, a publisher as well, and a session of another node.
    let mut other = publisher(&mesh, 0).await;
    other.asked().await;
    let mut far = client(&mesh, 1, &[TOPIC]).await;
    for forger in [&mut other, &mut far] {
        forger.decide(&inquiry, true).await;
    }
    let topic = amop_protocol::Topic::parse("#!$TopicNeedVerify_other").expect("a topic");
    for forged in [
        Inquiry { topic, ..inquiry.clone() },
        Inquiry { question: "0".repeat(128), ..inquiry.clone() },
        Inquiry { question: mesh.id(1).to_string(), ..inquiry.clone() },
    ] {
        desk.decide(&forged, true).await;
    }
    assert_eq!(desk.result_of(Type::UNICAST, TOPIC, "x").await, 100);
    // A decision stands: what comes after it, or again, is nothing.
    desk.decide(&inquiry, false).await;
    for _ in 0..2 {
        desk.decide(&inquiry, true).await;
    }
    assert_eq!(desk.result_of(Type::UNICAST, TOPIC, "x").await, 100);
    assert_eq!(mesh.nodes[0].counted("private_verified").await, 0);
    let stray = mesh.nodes[0].counted("private_stray_verdicts").await;
    assert_eq!(stray + mesh.nodes[1].counted("private_stray_verdicts").await, 7);
    assert!(till.is_left_alone().await && far.is_left_alone().await);
}

#[tokio::test]
async fn nobody_but_a_publisher_challenges() {
    let mesh = Mesh::line(2).await;
    let key = key();
    let mut desk = publisher(&mesh, 0).await;
    let mut till = subscriber(&mesh, 1, 1).await;
    let channel = channel(1);
    // With and without the topic, at both nodes; over a channel of its own, too.
    let mut there = client(&mesh, 1, &[TOPIC]).await;
    let mut here = client(&mesh, 0, &["#!$PushChannel_#!$TopicNeedVerify_other"]).await;
    for oracle in [&mut there, &mut here] {
        for kind in [Type::UNICAST, Type::MULTICAST] {
            assert_eq!(oracle.result_of(kind, &channel, &Challenge::text(7)).await, 100);
        }
        assert_eq!(oracle.result_of(Type::UNICAST, PUSH, "x").await, 100);
    }
    assert!(verify(&mut desk, &mut till, &key, &[key.public()]).await);
    assert_eq!(desk.result_of(Type::MULTICAST, &channel, "x").await, 100);
    assert_eq!(desk.result_of(Type::UNICAST, PUSH, "x").await, 100);
    assert_eq!(here.result_of(Type::UNICAST, TOPIC, "x").await, 100, "no publisher of this topic");
    assert!(till.is_left_alone().await);
}
