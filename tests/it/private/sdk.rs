//! Private topics with our SDK at both ends, and with plain 2.x frames at one.

use std::sync::Arc;

use amop_client::{
    Client, Compatibility, ErrorKind, Mode, PrivateError, PrivateKey, PrivateTopic, RequestOptions,
    SubscribeError, Subscription,
};
use amop_protocol::wire::channel::Type;
use amop_testkit::wait;
use bytes::Bytes;
use futures::StreamExt;
use tokio::task::JoinHandle;

use super::{TOPIC, decide_on, key, publisher as plain_publisher, read, sign, subscriber};
use crate::mesh::{Mesh, Topology, spawn};

pub(super) const V2: Compatibility = Compatibility::Version2;

pub(super) async fn topic(client: &Client, keys: &[&PrivateKey], how: Compatibility) -> PrivateTopic {
    let keys = keys.iter().map(|key| key.public());
    client.private_topic("prices", keys, how).await.expect("a topic")
}

pub(super) async fn subscribe(client: &Client, key: &PrivateKey, how: Compatibility) -> Subscription {
    client.subscribe_private("prices", key.clone(), how).await.expect("subscribed")
}

/// Answers requests with this and what they said, and collects what they were.
pub(super) fn serve(mut subscription: Subscription, name: &'static str) -> JoinHandle<Vec<(Mode, Bytes)>> {
    spawn(async move {
        let mut seen = Vec::new();
        while let Some(delivery) = subscription.next().await {
            seen.push((delivery.mode, delivery.payload.clone()));
            if &delivery.payload[..] == b"end" {
                break;
            }
            let answer = [name.as_bytes(), b":", &delivery.payload].concat();
            delivery.answer(answer);
        }
        seen
    })
}

pub(super) async fn verified(topic: &PrivateTopic, times: u64) {
    wait::until("verifications", async || topic.verifications() >= times).await;
}

/// Near and far, several at a time, and nobody else.
#[tokio::test]
async fn those_who_hold_a_key_receive_and_nobody_else() {
    let mesh = Mesh::line(3).await;
    let (one, two, wrong) = (key(), key(), key());
    let desk = mesh.client(0).await;
    let prices = topic(&desk, &[&one, &two], V2).await;
    assert_eq!(prices.request("early").await.expect_err("nobody").kind(), ErrorKind::NoPath);
    let mut served = Vec::new();
    for (node, key) in [(0, &one), (1, &two), (2, &one)] {
        served.push(serve(subscribe(&mesh.client(node).await, key, V2).await, "till"));
    }
    let stranger = serve(subscribe(&mesh.client(2).await, &wrong, V2).await, "stranger");
    verified(&prices, 3).await;
    wait::until("the failure", async || mesh.nodes[0].counted("private_failed").await == 1).await;
    assert!(prices.is_encrypted());
    for _ in 0..10 {
        assert_eq!(prices.request("quote").await.as_deref(), Ok(&b"till:quote"[..]));
    }
    let mut request = prices.start_request("quote", RequestOptions::default()).await.expect("sent");
    assert!(request.handed().await);
    assert_eq!(request.await.as_deref(), Ok(&b"till:quote"[..]));
    let report = prices.publish_with("end", amop_client::PublishOptions::default().report()).await;
    assert_eq!(report.map(|report| (report.handed, report.failed)), Ok((3, 0)));
    let mut requests = 0;
    for till in served {
        let seen = wait::within("the end", till).await.expect("no panic");
        assert_eq!(seen.last(), Some(&(Mode::Multicast, Bytes::from_static(b"end"))));
        requests += seen.len() - 1;
    }
    assert_eq!(requests, 11);
    desk.close().await;
    assert!(!stranger.is_finished());
    stranger.abort();
}

/// What a 2.x publisher on the subscriber's node is asked about, our subscriber does not sign unless
/// it is told to; then it does, and takes what comes unencrypted.
#[tokio::test]
async fn publishers_of_2x_are_served_by_those_who_allow_it() {
    let mesh = Mesh::line(2).await;
    let key = key();
    let mut desk = plain_publisher(&mesh, 0).await;
    let strict = mesh.client(1).await;
    let _refuses = subscribe(&strict, &key, V2).await;
    let inquiry = desk.asked().await;
    let seq = desk.publish(Type::UNICAST, inquiry.channel.as_str(), "0123456789abcdef0123456789abcdef").await;
    let refused = desk.receive().await;
    assert_eq!((refused.seq, refused.result), (seq, 101));
    strict.close().await;

    let open = mesh.client(1).await;
    let till = serve(subscribe(&open, &key, Compatibility::Strict).await, "till");
    let trusted = decide_on(&mut desk, &[key.public()]).await;
    assert!(trusted);
    let seq = desk.publish(Type::UNICAST, TOPIC, "quote").await;
    let answer = desk.receive().await;
    assert_eq!((answer.seq, answer.result), (seq, 0));
    assert_eq!(read(&answer), (TOPIC.to_owned(), Bytes::from_static(b"till:quote")));
    till.abort();
}

/// A 2.x subscriber gets nothing from a publisher that wants version 2, and plain messages from one
/// that allows 2.x, which says so.
#[tokio::test]
async fn subscribers_of_2x_are_verified_where_the_publisher_allows_it() {
    let mesh = Mesh::line(2).await;
    let held = key();
    let mut till = subscriber(&mesh, 1, 1).await;
    let desk = mesh.client(0).await;
    let prices = topic(&desk, &[&held], V2).await;
    sign(&mut till, &held).await;
    wait::until("the failure", async || mesh.nodes[0].counted("private_failed").await == 1).await;
    assert_eq!(prices.request("quote").await.expect_err("nobody").kind(), ErrorKind::NoPath);
    drop(prices);

    let other = mesh.client(0).await;
    let prices = topic(&other, &[&held], Compatibility::All).await;
    // First the offer of version 2, which a 2.x SDK signs as if it were a challenge, then one.
    sign(&mut till, &held).await;
    sign(&mut till, &held).await;
    verified(&prices, 1).await;
    assert!(!prices.is_encrypted());
    let asked = spawn(async move { (prices.request("quote").await, prices) });
    assert_eq!(till.serve(b"seen").await, (TOPIC.to_owned(), Bytes::from_static(b"quote")));
    let (answer, prices) = wait::within("the answer", asked).await.expect("no panic");
    assert_eq!(answer.as_deref(), Ok(&b"seen"[..]));
    // Taken off the list, it is nobody again, and all is encrypted.
    prices.set_keys([key().public()]).await.expect("changed");
    assert!(prices.is_encrypted());
    assert_eq!(prices.request("quote").await.expect_err("nobody").kind(), ErrorKind::NoPath);
}

/// What was encrypted before a 2.x subscriber came is not for it, however long that is under way; what
/// is sent from then on it can read.
#[tokio::test]
async fn a_subscriber_of_2x_is_given_nothing_that_was_encrypted_before_it_came() {
    let mesh = Mesh::line(2).await;
    let held = key();
    let prices = topic(&mesh.client(0).await, &[&held], Compatibility::All).await;
    let desk = Arc::new(prices);
    let mut slow = subscribe(&mesh.client(1).await, &held, V2).await;
    verified(&desk, 1).await;
    let asked = spawn({
        let desk = desk.clone();
        async move { desk.request("early").await }
    });
    let early = wait::within("the request", slow.next()).await.expect("a message");
    let mut till = subscriber(&mesh, 1, 1).await;
    // The offer of version 2, and two challenges: with the first it has proved all there is to prove.
    for _ in 0..3 {
        sign(&mut till, &held).await;
    }
    assert_eq!((desk.verifications(), desk.is_encrypted()), (1, false));
    early.answer("late");
    let answer = wait::within("the answer", asked).await.expect("no panic");
    assert_eq!(answer.as_deref(), Ok(&b"late"[..]));
    drop(slow);
    let signs = async {
        loop {
            sign(&mut till, &held).await;
        }
    };
    tokio::select! {
        () = verified(&desk, 2) => {}
        () = signs => {}
    }
    let asked = spawn(async move { desk.request("quote").await });
    assert_eq!(till.serve(b"seen").await, (TOPIC.to_owned(), Bytes::from_static(b"quote")));
    assert_eq!(wait::within("the answer", asked).await.expect("no panic").as_deref(), Ok(&b"seen"[..]));
}

/// Who is taken off the list receives nothing any more; the others read on under another key.
#[tokio::test]
async fn a_key_that_is_taken_back_ends_what_it_verified() {
    let mesh = Mesh::line(3).await;
    let (stays, goes) = (key(), key());
    let prices = topic(&mesh.client(1).await, &[&stays, &goes], V2).await;
    let (kept, ended) = (mesh.client(0).await, mesh.client(2).await);
    let kept = serve(subscribe(&kept, &stays, V2).await, "kept");
    let ended = serve(subscribe(&ended, &goes, V2).await, "ended");
    verified(&prices, 2).await;
    prices.set_keys([stays.public()]).await.expect("changed");
    for _ in 0..6 {
        assert_eq!(prices.request("quote").await.as_deref(), Ok(&b"kept:quote"[..]));
    }
    prices.publish("end").await.expect("handed");
    assert_eq!(wait::within("the end", kept).await.expect("no panic").len(), 7);
    assert!(!ended.is_finished());
    ended.abort();
    assert_eq!(mesh.nodes[1].counted("private_revoked").await, 1);
}

/// Whose key comes onto the list later is asked again.
#[tokio::test]
async fn a_key_that_is_added_lets_in_who_is_there_already() {
    let mesh = Mesh::line(2).await;
    let (first, later) = (key(), key());
    let prices = topic(&mesh.client(0).await, &[&first], V2).await;
    let served = serve(subscribe(&mesh.client(1).await, &later, V2).await, "till");
    wait::until("the failure", async || mesh.nodes[0].counted("private_failed").await == 1).await;
    prices.set_keys([first.public(), later.public()]).await.expect("changed");
    verified(&prices, 1).await;
    assert_eq!(prices.request("quote").await.as_deref(), Ok(&b"till:quote"[..]));
    served.abort();
}

/// An application with two nodes at either end: each message once, and whichever node goes, the rest
/// goes on.
#[tokio::test]
async fn applications_with_two_nodes_lose_nothing() {
    let mut mesh = Mesh::new(4, Topology::Ring, |_, _| {}).await;
    let key = key();
    let desk = mesh.connect(&[0, 1], mesh.certificate(0)).await;
    let till = mesh.connect(&[2, 3], mesh.certificate(2)).await;
    for client in [&desk, &till] {
        wait::until("both nodes", async || client.nodes().len() == 2).await;
    }
    let prices = topic(&desk, &[&key], V2).await;
    let served = serve(subscribe(&till, &key, V2).await, "till");
    verified(&prices, 4).await;
    prices.publish("once").await.expect("handed");
    assert_eq!(prices.request("quote").await.as_deref(), Ok(&b"till:quote"[..]));
    for gone in [0, 3] {
        mesh.abort(gone);
        assert_eq!(prices.request("more").await.as_deref(), Ok(&b"till:more"[..]), "without node {gone}");
    }
    prices.publish("end").await.expect("handed");
    let seen = wait::within("the end", served).await.expect("no panic");
    let seen: Vec<&[u8]> = seen.iter().map(|(_, payload)| &payload[..]).collect();
    assert_eq!(seen, [&b"once"[..], b"quote", b"more", b"more", b"end"]);
}

/// What waits for a change of keys does not wait for ever.
#[tokio::test]
async fn a_client_that_is_closed_during_a_change_of_keys_ends_what_waits() {
    let mut mesh = Mesh::line(2).await;
    let key = key();
    let desk = mesh.client(0).await;
    let prices = Arc::new(topic(&desk, &[&key], V2).await);
    let _subscription = subscribe(&mesh.client(1).await, &key, V2).await;
    verified(&prices, 1).await;
    let (changed, waiting) = (prices.clone(), prices.clone());
    mesh.abort(1);
    let mut changing = Box::pin(async move { changed.set_keys([key.public()]).await });
    assert!(futures::poll!(&mut changing).is_pending());
    desk.close().await;
    // Whether the change was begun before the end or not, neither hangs.
    let _ = wait::within("the end of the change", changing).await;
    let sent = wait::within("the end of a send", waiting.publish("quote")).await;
    assert_eq!(sent.expect_err("closed").kind(), ErrorKind::NotConnected);
}

/// A client connects again, and is verified again.
#[tokio::test]
async fn after_a_restart_of_the_node_all_are_verified_anew() {
    let mut mesh = Mesh::line(2).await;
    let key = key();
    let prices = topic(&mesh.client(0).await, &[&key], V2).await;
    let served = serve(subscribe(&mesh.client(1).await, &key, V2).await, "till");
    verified(&prices, 1).await;
    mesh.stop(1).await;
    mesh.restart(1).await;
    verified(&prices, 2).await;
    assert_eq!(prices.request("quote").await.as_deref(), Ok(&b"till:quote"[..]));
    served.abort();
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    let mesh = Mesh::line(1).await;
    let client = mesh.client(0).await;
    let (one, other) = (key(), key());
    let first = subscribe(&client, &one, V2).await;
    let _again = subscribe(&client, &one, V2).await;
    let differs = client.subscribe_private("prices", other.clone(), V2).await;
    assert_eq!(differs.err(), Some(SubscribeError::Private(PrivateError::Held)));
    drop((first, _again));
    let _other = subscribe(&client, &other, V2).await;
    let prices = topic(&client, &[&one], V2).await;
    let twice = client.private_topic(TOPIC, [one.public()], V2).await;
    assert_eq!(twice.err(), Some(PrivateError::Published));
    drop(prices);
    let _prices = topic(&client, &[&one], V2).await;
    assert!(matches!(client.private_topic("", [], V2).await, Err(PrivateError::Topic(_))));
}
