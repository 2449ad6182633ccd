//! The delivery contract, over real nodes: who gets a message, how often, and what its sender hears.

mod causes;
mod extensions;
mod failures;
mod paths;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use amop_client::{Delivery, Mode};
use amop_protocol::wire::channel::Type;
use amop_testkit::wait;
use bytes::Bytes;
use futures::StreamExt;

use crate::mesh::{Mesh, Plain, Served, Topology, message};

#[tokio::test]
async fn a_request_is_answered_over_one_three_and_five_nodes() {
    for nodes in [1, 3, 5] {
        let mesh = Mesh::line(nodes).await;
        let desk = Served::answer(mesh.client(nodes - 1).await, "settlement", "done").await;
        let till = mesh.client(0).await;
        let answer = wait::within("an answer", till.request("settlement", "please")).await;
        assert_eq!(answer.as_deref(), Ok(&b"done"[..]), "{nodes} nodes");
        assert_eq!(desk.handled(), 1);
    }
}

#[tokio::test]
async fn payloads_arrive_and_return_as_they_are() {
    let mesh = Mesh::line(3).await;
    let _echo = Served::echo(mesh.client(2).await, "Überweisung/日本円").await;
    let till = mesh.client(0).await;
    let noise = |len: usize| (0..len).map(|at| (at * at / 7) as u8).collect::<Vec<u8>>();
    for payload in [
        Vec::new(),
        b"\0\x01\xff".to_vec(),
        "grüße, 你好".as_bytes().to_vec(),
        noise(65_536),
        noise(1 << 20),
        noise(10 << 20),
    ] {
        let sent = Bytes::from(payload);
        let answer = wait::within("an answer", till.request("Überweisung/日本円", sent.clone())).await;
        assert!(answer.expect("an answer") == sent, "{} bytes came back changed", sent.len());
    }
}

#[tokio::test]
async fn the_sender_is_known_at_the_far_end() {
    let mesh = Mesh::line(3).await;
    let mut subscription = mesh.client(2).await.subscribe("t").await.expect("subscribed");
    let till = mesh.client(0).await;
    till.publish("t", "hello").await.expect("delivered");
    let delivery = wait::within("a message", subscription.next()).await.expect("a message");
    let sender = delivery.sender.expect("a sender");
    let node = till.node().expect("connected").key.expect("the node names itself").id();
    assert_eq!((&*sender.institution, sender.node), ("bank-0", node));
    assert!(sender.client.name.starts_with("client-"));
}

#[tokio::test]
async fn a_multicast_reaches_every_subscriber_once_and_not_its_publisher() {
    let mesh = Mesh::new(4, Topology::Ring, |_, _| {}).await;
    let mut everybody = Vec::new();
    for node in [0, 0, 1, 2, 2, 3] {
        everybody.push(mesh.client(node).await.subscribe("news").await.expect("subscribed"));
    }
    let publisher = mesh.client(0).await;
    let mut own = publisher.subscribe("news").await.expect("subscribed");
    for number in 0..20_u8 {
        publisher.publish("news", vec![number]).await.expect("delivered");
    }
    for subscription in &mut everybody {
        for number in 0..20_u8 {
            let delivery = wait::within("a message", subscription.next()).await.expect("a message");
            assert_eq!((delivery.mode, &delivery.payload[..]), (Mode::Multicast, &[number][..]));
        }
    }
    // What comes next at each is the end: nothing came twice.
    let other = mesh.client(3).await;
    other.publish("news", "end").await.expect("delivered");
    for subscription in everybody.iter_mut().chain([&mut own]) {
        let delivery = wait::within("the end", subscription.next()).await.expect("a message");
        assert_eq!(delivery.payload, "end", "the publisher gets none of its own, others each once");
    }
}

#[tokio::test]
async fn every_subscriber_is_equally_likely() {
    let mesh = Mesh::line(3).await;
    let mut servers = Vec::new();
    for node in [0, 1, 2, 2] {
        servers.push(Served::echo(mesh.client(node).await, "work").await);
    }
    let till = mesh.client(0).await;
    let requests = (0..400).map(|_| till.request("work", "x"));
    let answers = wait::within("all answers", futures::future::join_all(requests)).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    let shares: Vec<usize> = servers.iter().map(Served::handled).collect();
    assert_eq!(shares.iter().sum::<usize>(), 400);
    // Five standard deviations around an even share.
    assert!(shares.iter().all(|share| (57..=143).contains(share)), "{shares:?}");
}

#[tokio::test]
async fn a_publisher_serves_itself_only_when_nobody_else_is_there() {
    let mesh = Mesh::line(2).await;
    let alone = Served::answer(mesh.client(0).await, "mirror", "myself").await;
    let answer = wait::within("an answer", alone.client.request("mirror", "who?")).await;
    assert_eq!(answer.as_deref(), Ok(&b"myself"[..]));
    let _other = Served::answer(mesh.client(1).await, "mirror", "another").await;
    for _ in 0..20 {
        let answer = wait::within("an answer", alone.client.request("mirror", "who?")).await;
        assert_eq!(answer.as_deref(), Ok(&b"another"[..]));
    }
    assert_eq!(alone.handled(), 1);
}

#[tokio::test]
async fn messages_keep_their_order() {
    let mesh = Mesh::line(3).await;
    let mut log = mesh.client(2).await.subscribe("log").await.expect("subscribed");
    let leaf = mesh.nodes[0].institution.client("old");
    let mut till = Plain::subscriber(mesh.nodes[0].addresses.channel, &leaf, &[]).await;
    for number in 0..300_u32 {
        let seq = till.seq();
        till.send(message(Type::MULTICAST, seq, "log", number.to_be_bytes().to_vec())).await;
    }
    for number in 0..300_u32 {
        let delivery = wait::within("a message", log.next()).await.expect("a message");
        assert_eq!(delivery.payload[..], number.to_be_bytes());
        assert_eq!(till.receive().await.result, 0);
    }
}

/// Counts what it is given and keeps it unanswered.
fn keep(count: &Arc<AtomicUsize>) -> impl FnMut(Delivery) + Send + 'static {
    let (count, mut kept) = (count.clone(), Vec::new());
    move |delivery| {
        kept.push(delivery);
        count.fetch_add(1, Ordering::SeqCst);
    }
}
