use std::time::Duration;

use amop_client::{Cause, Client, ErrorKind, Mode, RequestOptions};
use amop_protocol::wire::{channel::Encoded, channel::Type, extension::FromClient};
use bytes::Bytes;

use crate::{
    consortium::Consortium,
    node::{Node, Speaks, within},
};

async fn connected(speaks: Speaks) -> (Client, Node, crate::node::Peer) {
    let consortium = Consortium::new();
    let node = Node::start(&consortium, speaks).await;
    let options = consortium.options(&[node.address()]);
    let (client, peer) = tokio::join!(Client::connect(options), node.accept());
    (client.unwrap(), node, peer)
}

#[tokio::test]
async fn a_request_brings_its_answer() {
    let (client, _node, mut peer) = connected(Speaks::Extended).await;
    let options = RequestOptions::default().deadline(Duration::from_millis(1500));
    let node = async {
        let (seq, message) = peer.message().await;
        let FromClient::Publish { mode, topic, deadline, payload, .. } = message else {
            panic!("{message:?}")
        };
        assert_eq!((mode, topic.as_str(), &payload[..]), (Mode::Unicast, "t", &b"ask"[..]));
        assert_eq!(deadline, options.deadline);
        peer.end(seq, Cause::Delivered, b"answer").await;
    };
    let (answer, ()) =
        within(async { tokio::join!(client.request_with("t", "ask", options.clone()), node) }).await;
    assert_eq!(answer.unwrap(), "answer");
    let connected = client.node().unwrap();
    assert_eq!((&*connected.name, &*connected.institution), ("node-1", "Bank A"));
    assert!(connected.extended && connected.key.is_some());
}

#[tokio::test]
async fn every_code_comes_with_its_kind() {
    let (client, _node, mut peer) = connected(Speaks::Extended).await;
    for (cause, code, kind) in [
        (Cause::NoSubscriber, 100, ErrorKind::NoPath),
        (Cause::ReservedTopic, 100, ErrorKind::Topic),
        (Cause::SessionGone, 101, ErrorKind::NotHanded),
        (Cause::SubscriberRefused, 101, ErrorKind::Refused),
        (Cause::PushTimeout, 102, ErrorKind::TimedOut),
        (Cause::ClientQuota, 103, ErrorKind::Limited),
        // The last: the client leaves a node that drains.
        (Cause::Draining, 99, ErrorKind::Draining),
    ] {
        let node = async {
            let (seq, _) = peer.message().await;
            peer.end(seq, cause, b"").await;
        };
        let (sent, ()) = within(async { tokio::join!(client.publish("t", "x"), node) }).await;
        let error = sent.unwrap_err();
        assert_eq!((error.code(), error.kind(), error.cause()), (code, kind, cause));
        assert_eq!(error.retry_after().is_some(), code == 103);
        assert!(error.to_string().contains(&code.to_string()), "{error}");
    }
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_at_once() {
    let (client, _node, _peer) = connected(Speaks::Extended).await;
    let bad = client.publish("a\tb", "x").await.unwrap_err();
    assert_eq!((bad.kind(), bad.code()), (ErrorKind::Topic, 100));
    let large = Bytes::from(vec![0; amop_protocol::limits::MAX_CHANNEL_FRAME]);
    let large = within(client.request("t", large)).await.unwrap_err();
    assert_eq!((large.kind(), large.code()), (ErrorKind::TooLarge, 99));
}

#[tokio::test]
async fn many_requests_at_once_keep_their_answers_apart() {
    let (client, _node, mut peer) = connected(Speaks::Extended).await;
    // More than may be in flight: the rest wait in line.
    let requests = (0..1500_u32).map(|i| {
        let client = client.clone();
        async move { client.request("t", i.to_string()).await.unwrap() == i.to_string() }
    });
    let node = async {
        for _ in 0..1500 {
            let (seq, message) = peer.message().await;
            let FromClient::Publish { payload, .. } = message else { panic!("{message:?}") };
            peer.end(seq, Cause::Delivered, &payload).await;
        }
    };
    let (right, ()) = within(async { tokio::join!(futures::future::join_all(requests), node) }).await;
    assert!(right.into_iter().all(|right| right));
}

#[tokio::test]
async fn a_large_payload_crosses_both_ways() {
    let (client, _node, mut peer) = connected(Speaks::Extended).await;
    let large: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    let node = async {
        let (seq, message) = peer.message().await;
        let FromClient::Publish { payload, .. } = message else { panic!("{message:?}") };
        peer.end(seq, Cause::Delivered, &payload).await;
    };
    let (answer, ()) = within(async { tokio::join!(client.request("t", large.clone()), node) }).await;
    assert!(answer.unwrap() == large);
}

#[tokio::test]
async fn a_node_without_the_extension_gets_plain_frames() {
    let (client, _node, mut peer) = connected(Speaks::Plain).await;
    assert!(!client.node().unwrap().extended);
    let node = async {
        let frame = peer.next().await.unwrap();
        assert_eq!((frame.kind, &frame.body[..]), (Type::UNICAST, &b"\x02task"[..]));
        peer.send(Encoded::new(Type::ANSWER, frame.seq, 0, b"\x02tanswer", Bytes::new())).await;
        let frame = peer.next().await.unwrap();
        assert_eq!(frame.kind, Type::MULTICAST);
        peer.send(Encoded::empty(Type::ANSWER, frame.seq, 100)).await;
    };
    let sends = async {
        assert_eq!(client.request("t", "ask").await.unwrap(), "answer");
        assert_eq!(client.publish("t", "all").await.unwrap_err().kind(), ErrorKind::NoPath);
    };
    within(async { tokio::join!(node, sends) }).await;
}

#[tokio::test]
async fn a_deadline_holds_even_if_a_plain_node_never_answers() {
    let (client, _node, mut peer) = connected(Speaks::Plain).await;
    let options = RequestOptions::default().deadline(Duration::from_millis(50));
    let (answer, frame) =
        within(async { tokio::join!(client.request_with("t", "ask", options.clone()), peer.next()) }).await;
    assert!(frame.is_some());
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::TimedOut);
}
