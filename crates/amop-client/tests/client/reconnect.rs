use std::time::Duration;

use amop_client::{Cause, Client, ErrorKind, Mode, Reconnect, RequestOptions};
use amop_protocol::{Seq, wire::extension::FromNode};
use futures::StreamExt;

use crate::{
    consortium::Consortium,
    node::{Node, Speaks, within},
};

#[tokio::test]
async fn a_lost_connection_moves_to_the_next_node_and_subscribes_anew() {
    let consortium = Consortium::new();
    let (first, second) =
        (Node::start(&consortium, Speaks::Extended).await, Node::start(&consortium, Speaks::Extended).await);
    let mut options = consortium.options(&[first.address(), second.address()]);
    options.homes = 1;
    let (client, mut peer) = tokio::join!(Client::connect(options), first.accept());
    let client = client.unwrap();
    let (subscription, _) = within(async { tokio::join!(client.subscribe("t"), peer.confirm()) }).await;
    let mut subscription = subscription.unwrap();
    drop(peer);
    let mut peer = second.accept().await;
    assert_eq!(peer.confirm().await, ["t"]);
    assert_eq!(within(client.connected()).await.unwrap().address, second.address());
    peer.deliver(Mode::Multicast, "t", 1, b"again").await;
    assert_eq!(within(subscription.next()).await.unwrap().payload, "again");
}

#[tokio::test]
async fn what_was_sent_has_an_unknown_outcome_and_what_was_not_gets_99() {
    let consortium = Consortium::new();
    let node = Node::start(&consortium, Speaks::Extended).await;
    let mut options = consortium.options(&[node.address()]);
    options.reconnect = Reconnect { first: Duration::from_secs(60), most: Duration::from_secs(60) };
    options.connect_timeout = Duration::from_millis(200);
    let (client, mut peer) = tokio::join!(Client::connect(options), node.accept());
    let client = client.unwrap();
    let break_it = async {
        peer.message().await;
        drop(peer);
        drop(node);
    };
    let hasty = RequestOptions::default().deadline(Duration::from_millis(500));
    let (answer, ()) = within(async { tokio::join!(client.request_with("t", "ask", hasty), break_it) }).await;
    let error = answer.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::ConnectionLost, 102));
    within(client.disconnected()).await;
    let error = within(client.request("t", "ask")).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code(), error.cause()),
        (ErrorKind::NotConnected, 99, Cause::NotConnected)
    );
    assert!(client.node().is_none());
}

#[tokio::test]
async fn an_answer_never_goes_out_on_a_later_connection() {
    let consortium = Consortium::new();
    let node = Node::start(&consortium, Speaks::Extended).await;
    let options = consortium.options(&[node.address()]);
    let (client, mut peer) = tokio::join!(Client::connect(options), node.accept());
    let client = client.unwrap();
    let (subscription, _) = within(async { tokio::join!(client.subscribe("t"), peer.confirm()) }).await;
    let mut subscription = subscription.unwrap();
    peer.deliver(Mode::Unicast, "t", 1, b"old").await;
    let old = within(subscription.next()).await.unwrap();
    drop(peer);
    let mut peer = node.accept().await;
    peer.confirm().await;
    peer.deliver(Mode::Unicast, "t", 2, b"new").await;
    old.answer("too late");
    within(subscription.next()).await.unwrap().answer("in time");
    let (seq, _) = peer.message().await;
    assert_eq!(seq, Seq::from_u128(2));
}

#[tokio::test]
async fn a_draining_node_is_left_when_all_is_finished() {
    let consortium = Consortium::new();
    let (first, second) =
        (Node::start(&consortium, Speaks::Extended).await, Node::start(&consortium, Speaks::Extended).await);
    let mut options = consortium.options(&[first.address(), second.address()]);
    options.homes = 1;
    let (client, mut peer) = tokio::join!(Client::connect(options), first.accept());
    let client = client.unwrap();
    let drain = async {
        let (seq, _) = peer.message().await;
        peer.send(FromNode::Goodbye { grace: Duration::from_secs(30) }.encode(Seq::from_u128(1))).await;
        peer.end(seq, Cause::Delivered, b"finished").await;
        (second.accept().await, peer.next().await)
    };
    let (answer, (_next, end)) = within(async { tokio::join!(client.request("t", "ask"), drain) }).await;
    assert_eq!(answer.unwrap(), "finished");
    assert!(end.is_none(), "the old connection is closed");
}

#[tokio::test]
async fn what_a_node_cuts_at_the_end_of_its_grace_has_its_outcome() {
    let consortium = Consortium::new();
    let node = Node::start(&consortium, Speaks::Extended).await;
    let (client, mut peer) =
        tokio::join!(Client::connect(consortium.options(&[node.address()])), node.accept());
    let client = client.unwrap();
    let cut = async {
        let (seq, _) = peer.message().await;
        peer.send(FromNode::Goodbye { grace: Duration::ZERO }.encode(Seq::from_u128(1))).await;
        // The goodbye has been heard once what follows it is answered.
        peer.deliver(Mode::Unicast, "nobody listens", 2, b"x").await;
        peer.message().await;
        peer.end(seq, Cause::Deadline, b"").await;
    };
    let (answer, ()) = within(async { tokio::join!(client.request("t", "ask"), cut) }).await;
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::TimedOut);
}

#[tokio::test]
async fn a_silent_node_is_given_up() {
    let consortium = Consortium::new();
    let node = Node::start(&consortium, Speaks::Extended).await;
    let mut options = consortium.options(&[node.address()]);
    options.heartbeat = Duration::from_millis(30);
    options.silence = Duration::from_millis(120);
    let (client, _silent) = tokio::join!(Client::connect(options), node.accept());
    let client = client.unwrap();
    let _again = node.accept().await;
    assert!(within(client.connected()).await.is_some());
}

#[tokio::test]
async fn closing_writes_the_last_answer_and_ends_every_stream() {
    let consortium = Consortium::new();
    let node = Node::start(&consortium, Speaks::Extended).await;
    let (client, mut peer) =
        tokio::join!(Client::connect(consortium.options(&[node.address()])), node.accept());
    let client = client.unwrap();
    let (subscription, _) = within(async { tokio::join!(client.subscribe("t"), peer.confirm()) }).await;
    let mut subscription = subscription.unwrap();
    peer.deliver(Mode::Unicast, "t", 1, b"ask").await;
    within(subscription.next()).await.unwrap().answer("last");
    within(client.close()).await;
    assert_eq!(peer.message().await.0, Seq::from_u128(1));
    assert!(peer.next().await.is_none());
    assert!(within(subscription.next()).await.is_none());
    assert_eq!(client.publish("t", "x").await.unwrap_err().code(), 99);
}

#[tokio::test]
async fn dropping_the_last_handle_closes_the_connection() {
    let consortium = Consortium::new();
    let node = Node::start(&consortium, Speaks::Extended).await;
    let (client, mut peer) =
        tokio::join!(Client::connect(consortium.options(&[node.address()])), node.accept());
    drop(client.unwrap());
    assert!(peer.next().await.is_none());
}
