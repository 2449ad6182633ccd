//! Clients of several nodes: nothing is lost with one of them, and nothing is handled twice.

use std::time::Duration;

use amop_client::{
    Cause, Client, ErrorKind, Mode, REFUSED_FORGOTTEN, Remember, RequestOptions, Subscription,
};
use amop_protocol::{
    Seq,
    wire::extension::{FromClient, FromNode},
};
use futures::{FutureExt, StreamExt};

use crate::{
    consortium::Consortium,
    node::{Node, Peer, Speaks, within},
};

/// A client of two nodes, which have accepted it.
struct Two {
    client: Client,
    nodes: [Node; 2],
    peers: [Peer; 2],
}

impl Two {
    async fn connected() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut amop_client::Options)) -> Self {
        let consortium = Consortium::new();
        let nodes = [
            Node::start(&consortium, Speaks::Extended).await,
            Node::start(&consortium, Speaks::Extended).await,
        ];
        let mut options = consortium.options(&[nodes[0].address(), nodes[1].address()]);
        change(&mut options);
        let (client, first, second) =
            tokio::join!(Client::connect(options), nodes[0].accept(), nodes[1].accept());
        let client = client.unwrap();
        assert_eq!(client.node().unwrap().address, nodes[0].address(), "sends go through the first");
        Self { client, nodes, peers: [first, second] }
    }

    async fn subscribed(&mut self, topic: &str) -> Subscription {
        let [first, second] = &mut self.peers;
        let confirmed = async { tokio::join!(first.confirm(), second.confirm()) };
        let (subscription, _) = within(async { tokio::join!(self.client.subscribe(topic), confirmed) }).await;
        subscription.unwrap()
    }
}

async fn answered(peer: &mut Peer) -> (Seq, i32, Vec<u8>) {
    let (seq, message) = peer.message().await;
    let FromClient::Answer { result, payload } = message else { panic!("{message:?}") };
    (seq, result, payload.to_vec())
}

/// What was published, under which name.
async fn published(peer: &mut Peer) -> (Seq, Vec<u8>) {
    let (seq, message) = peer.message().await;
    let FromClient::Publish { payload, .. } = message else { panic!("{message:?}") };
    (seq, payload.to_vec())
}

const MESSAGE: Option<Seq> = Some(Seq([b'1'; 32]));
const OTHER: Option<Seq> = Some(Seq([b'2'; 32]));

#[tokio::test]
async fn a_subscription_is_complete_when_all_nodes_have_confirmed_it() {
    let mut two = Two::connected().await;
    assert_eq!(two.client.nodes().len(), 2);
    let subscribing = two.client.subscribe("t");
    tokio::pin!(subscribing);
    let [first, second] = &mut two.peers;
    let one = async { tokio::join!(first.confirm(), second.message()).1 };
    let (seq, _) = within(async {
        tokio::select! {
            early = &mut subscribing => panic!("one node has not confirmed it: {early:?}"),
            message = one => message,
        }
    })
    .await;
    assert!(subscribing.as_mut().now_or_never().is_none());
    let confirmed = FromNode::Subscribed { accepted: 1, refused: vec![], complete: true };
    second.send(confirmed.encode(seq)).await;
    assert!(within(subscribing).await.unwrap().is_complete());
}

#[tokio::test]
async fn what_comes_through_both_nodes_is_handed_over_once() {
    let mut two = Two::connected().await;
    let mut subscription = two.subscribed("t").await;
    for peer in &mut two.peers {
        peer.deliver_named(Mode::Multicast, "t", 1, MESSAGE, b"once").await;
        peer.deliver_named(Mode::Unicast, "t", 2, OTHER, b"ask").await;
    }
    let mut got = Vec::new();
    while got.len() < 2 {
        let delivery = within(subscription.next()).await.unwrap();
        got.push(delivery.payload.to_vec());
        delivery.answer("yes");
    }
    got.sort();
    assert_eq!(got, [b"ask".to_vec(), b"once".to_vec()]);
    for peer in &mut two.peers {
        assert_eq!(answered(peer).await, (Seq::from_u128(2), 0, b"yes".to_vec()));
    }
    // A request that comes once more is answered as before, and the application does not notice.
    two.peers[1].deliver_named(Mode::Unicast, "t", 3, OTHER, b"ask").await;
    assert_eq!(answered(&mut two.peers[1]).await, (Seq::from_u128(3), 0, b"yes".to_vec()));
    assert!(subscription.next().now_or_never().is_none());
}

#[tokio::test]
async fn an_answer_that_is_not_remembered_is_a_refusal_and_no_second_run() {
    let mut two = Two::with(|options| options.remember = Remember { bytes: 0, ..Remember::default() }).await;
    let mut subscription = two.subscribed("t").await;
    two.peers[0].deliver_named(Mode::Unicast, "t", 1, MESSAGE, b"ask").await;
    within(subscription.next()).await.unwrap().answer("yes");
    assert_eq!(answered(&mut two.peers[0]).await.1, 0);
    two.peers[1].deliver_named(Mode::Unicast, "t", 2, MESSAGE, b"ask").await;
    assert_eq!(answered(&mut two.peers[1]).await, (Seq::from_u128(2), REFUSED_FORGOTTEN, Vec::new()));
    assert!(subscription.next().now_or_never().is_none());
}

#[tokio::test]
async fn an_answer_owed_to_a_lost_node_goes_to_the_one_that_asks_again() {
    let mut two = Two::connected().await;
    let mut subscription = two.subscribed("t").await;
    two.peers[0].deliver_named(Mode::Unicast, "t", 1, MESSAGE, b"ask").await;
    let delivery = within(subscription.next()).await.unwrap();
    let Two { client, nodes: _nodes, peers: [first, mut second] } = two;
    drop(first);
    within(async {
        while client.nodes().len() > 1 {
            client.nodes_changed().await.unwrap();
        }
    })
    .await;
    delivery.answer("late");
    second.deliver_named(Mode::Unicast, "t", 2, MESSAGE, b"ask").await;
    assert_eq!(answered(&mut second).await, (Seq::from_u128(2), 0, b"late".to_vec()));
}

#[tokio::test]
async fn losing_one_node_loses_neither_subscription_nor_request() {
    let mut two = Two::connected().await;
    let mut subscription = two.subscribed("t").await;
    let Two { client, nodes, peers: [mut first, mut second] } = two;
    let lost = async {
        let sent = published(&mut first).await;
        drop(first);
        // The same message, by its name and content, comes through the other node.
        let again = published(&mut second).await;
        assert_eq!(sent, again);
        second.end(again.0, Cause::Delivered, b"answer").await;
        second
    };
    let (answer, mut second) = within(async { tokio::join!(client.request("u", "ask"), lost) }).await;
    assert_eq!(answer.unwrap(), "answer");
    second.deliver_named(Mode::Multicast, "t", 1, MESSAGE, b"still here").await;
    assert_eq!(within(subscription.next()).await.unwrap().payload, "still here");
    // And the lost node is connected again, with the subscription.
    let mut again = nodes[0].accept().await;
    assert_eq!(again.confirm().await, ["t"]);
}

#[tokio::test]
async fn requests_keep_their_order_when_they_are_sent_again() {
    let Two { client, nodes: _nodes, peers: [mut first, mut second] } = Two::connected().await;
    let requests = (0..50_u8).map(|number| client.request("t", vec![number]));
    let serve = async {
        for _ in 0..50 {
            first.message().await;
        }
        drop(first);
        for number in 0..50_u8 {
            let (seq, payload) = published(&mut second).await;
            assert_eq!(payload, [number]);
            second.end(seq, Cause::Delivered, &[number]).await;
        }
    };
    let (answers, ()) = within(async { tokio::join!(futures::future::join_all(requests), serve) }).await;
    let answers: Vec<u8> = answers.into_iter().map(|answer| answer.unwrap()[0]).collect();
    assert!(answers.into_iter().eq(0..50));
}

#[tokio::test]
async fn a_request_waits_for_the_restored_connection() {
    let consortium = Consortium::new();
    let node = Node::start(&consortium, Speaks::Extended).await;
    let options = consortium.options(&[node.address()]);
    let (client, mut peer) = tokio::join!(Client::connect(options), node.accept());
    let client = client.unwrap();
    let serve = async {
        let sent = published(&mut peer).await;
        drop(peer);
        let mut peer = node.accept().await;
        let again = published(&mut peer).await;
        assert_eq!(sent, again);
        peer.end(again.0, Cause::Delivered, b"answer").await;
        peer
    };
    let (answer, _peer) = within(async { tokio::join!(client.request("t", "ask"), serve) }).await;
    assert_eq!(answer.unwrap(), "answer");
}

#[tokio::test]
async fn a_node_that_drains_passes_its_sends_on_at_once() {
    let Two { client, nodes: _nodes, peers: [mut first, mut second] } = Two::connected().await;
    let serve = async {
        let sent = published(&mut first).await;
        first.end(sent.0, Cause::Draining, b"").await;
        let again = published(&mut second).await;
        assert_eq!(sent, again);
        second.end(again.0, Cause::Delivered, b"answer").await;
        // The next does not try the first at all.
        let next = published(&mut second).await;
        second.end(next.0, Cause::Delivered, b"another").await;
    };
    let ask = async {
        assert_eq!(client.request("t", "ask").await.unwrap(), "answer");
        assert_eq!(client.request("t", "ask").await.unwrap(), "another");
    };
    within(async { tokio::join!(ask, serve) }).await;
}

#[tokio::test]
async fn what_a_draining_node_gives_up_is_asked_of_another() {
    let Two { client, nodes: _nodes, peers: [mut first, mut second] } = Two::connected().await;
    let serve = async {
        let sent = published(&mut first).await;
        first.send(FromNode::Goodbye { grace: Duration::ZERO }.encode(Seq::from_u128(1))).await;
        first.end(sent.0, Cause::Deadline, b"").await;
        let again = published(&mut second).await;
        assert_eq!(sent, again);
        second.end(again.0, Cause::Delivered, b"answer").await;
    };
    let (answer, ()) = within(async { tokio::join!(client.request("t", "ask"), serve) }).await;
    assert_eq!(answer.unwrap(), "answer");
}

#[tokio::test]
async fn a_publisher_does_not_get_its_own_through_its_other_node() {
    let mut two = Two::connected().await;
    let mut subscription = two.subscribed("t").await;
    let Two { client, nodes: _nodes, peers: [mut first, mut second] } = two;
    let serve = async {
        let (seq, payload) = published(&mut first).await;
        second.deliver_named(Mode::Multicast, "t", 1, Some(seq), &payload).await;
        // Its node need not wait for it, though the application never sees the message.
        assert_eq!(second.word().await, (Seq::from_u128(1), FromClient::Received));
        second.deliver_named(Mode::Multicast, "t", 2, MESSAGE, b"of another").await;
        first.end(seq, Cause::Delivered, b"").await;
    };
    let (sent, ()) = within(async { tokio::join!(client.publish("t", "own"), serve) }).await;
    sent.unwrap();
    assert_eq!(within(subscription.next()).await.unwrap().payload, "of another");
}

#[tokio::test]
async fn a_node_without_the_extension_is_not_kept_beside_another() {
    let consortium = Consortium::new();
    let extended = Node::start(&consortium, Speaks::Extended).await;
    let plain = Node::start(&consortium, Speaks::Plain).await;
    let options = consortium.options(&[extended.address(), plain.address()]);
    let accepted = async { tokio::join!(extended.accept(), plain.accept()) };
    let (client, (first, second)) = tokio::join!(Client::connect(options), accepted);
    let client = client.unwrap();
    let mut left = if client.node().unwrap().extended { second } else { first };
    assert!(left.next().await.is_none(), "it is hung up on");
    assert_eq!(client.nodes().len(), 1);
}

#[tokio::test]
async fn what_was_sent_to_a_node_without_the_extension_is_not_sent_again() {
    let consortium = Consortium::new();
    let node = Node::start(&consortium, Speaks::Plain).await;
    let options = consortium.options(&[node.address()]);
    let (client, mut peer) = tokio::join!(Client::connect(options), node.accept());
    let client = client.unwrap();
    let hasty = RequestOptions::default().deadline(Duration::from_secs(15));
    let lose = async {
        peer.next().await.unwrap();
        drop(peer);
    };
    let (answer, ()) = within(async { tokio::join!(client.request_with("t", "ask", hasty), lose) }).await;
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::ConnectionLost);
}

#[tokio::test]
async fn connecting_does_not_wait_for_a_node_that_cannot_be_reached() {
    let consortium = Consortium::new();
    let node = Node::start(&consortium, Speaks::Extended).await;
    let gone = Node::start(&consortium, Speaks::Extended).await.address();
    let options = consortium.options(&[gone, node.address()]);
    let (client, _peer) = within(async { tokio::join!(Client::connect(options), node.accept()) }).await;
    assert_eq!(client.unwrap().nodes().len(), 1);
}

#[tokio::test]
async fn a_draining_node_gets_the_answers_it_waits_for() {
    let mut two = Two::connected().await;
    let mut subscription = two.subscribed("t").await;
    let Two { client: _client, nodes: _nodes, peers: [mut first, _second] } = two;
    for number in 0..20 {
        first.deliver_named(Mode::Unicast, "t", number, Some(Seq::from_u128(number.into())), b"ask").await;
    }
    let mut asked = Vec::new();
    while asked.len() < 20 {
        asked.push(within(subscription.next()).await.unwrap());
    }
    first.send(FromNode::Goodbye { grace: Duration::from_secs(30) }.encode(Seq::from_u128(1))).await;
    // A multicast that comes behind the goodbye: it has been heard.
    first.deliver_named(Mode::Multicast, "t", 20, MESSAGE, b"heard").await;
    assert_eq!(within(subscription.next()).await.unwrap().payload, "heard");
    asked.into_iter().for_each(|delivery| delivery.answer("yes"));
    for number in 0..20 {
        assert_eq!(answered(&mut first).await, (Seq::from_u128(number), 0, b"yes".to_vec()));
    }
    assert!(first.next().await.is_none(), "then it is left");
}
