use amop_client::{Client, Mode, Options, REFUSED_BUSY, REFUSED_UNANSWERED, SubscribeError};
use amop_protocol::{
    Seq,
    wire::{
        channel::{Encoded, Type},
        extension::{FromClient, FromNode},
    },
};
use bytes::Bytes;
use futures::StreamExt;

use crate::{
    consortium::Consortium,
    node::{Node, Peer, Speaks, sender, within},
};

async fn connected(speaks: Speaks, change: impl FnOnce(&mut Options)) -> (Client, Node, Peer) {
    let consortium = Consortium::new();
    let node = Node::start(&consortium, speaks).await;
    let mut options = consortium.options(&[node.address()]);
    change(&mut options);
    let (client, peer) = tokio::join!(Client::connect(options), node.accept());
    (client.unwrap(), node, peer)
}

#[tokio::test]
async fn a_delivery_names_its_sender_and_is_answered() {
    let (client, _node, mut peer) = connected(Speaks::Extended, |_| ()).await;
    let (subscription, topics) = within(async { tokio::join!(client.subscribe("t"), peer.confirm()) }).await;
    let mut subscription = subscription.unwrap();
    assert_eq!(topics, ["t"]);
    assert!(subscription.is_complete());
    peer.deliver(Mode::Unicast, "t", 1, b"ask").await;
    let delivery = within(subscription.next()).await.unwrap();
    assert_eq!((&delivery.payload[..], delivery.sender.as_ref()), (&b"ask"[..], Some(&sender())));
    assert!(delivery.is_request() && delivery.answer_within.is_some());
    delivery.answer("yes");
    let (seq, answer) = peer.message().await;
    assert_eq!(seq, Seq::from_u128(1));
    assert_eq!(answer, FromClient::Answer { result: 0, payload: Bytes::from_static(b"yes") });
}

#[tokio::test]
async fn an_unanswered_request_is_refused_at_once() {
    let (client, _node, mut peer) = connected(Speaks::Extended, |_| ()).await;
    let (subscription, _) = within(async { tokio::join!(client.subscribe("t"), peer.confirm()) }).await;
    let mut subscription = subscription.unwrap();
    for number in 1..=3 {
        peer.deliver(Mode::Unicast, "t", number, b"ask").await;
    }
    drop(within(subscription.next()).await.unwrap());
    within(subscription.next()).await.unwrap().refuse(77);
    for expected in [(1, REFUSED_UNANSWERED), (2, 77)] {
        assert_eq!(refusal(&mut peer).await, expected);
    }
    // The third waits in the stream, or is on its way there.
    drop(subscription);
    let (number, code) = refusal(&mut peer).await;
    assert!(number == 3 && (code == REFUSED_UNANSWERED || code == REFUSED_BUSY));
}

/// The next answer, which must be a refusal; reports on the way are passed over.
async fn refusal(peer: &mut Peer) -> (u128, i32) {
    loop {
        match peer.message().await {
            (seq, FromClient::Answer { result, payload }) if payload.is_empty() => {
                return (seq.to_u128().unwrap(), result);
            }
            (_, FromClient::Subscribe { .. }) => {}
            (_, other) => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn dropping_a_subscription_unsubscribes() {
    let (client, _node, mut peer) = connected(Speaks::Extended, |_| ()).await;
    let subscribe = async {
        (client.subscribe("a").await.unwrap(), client.subscribe_all(["b", "c", "b"]).await.unwrap())
    };
    let confirm = async { (peer.confirm().await, peer.confirm().await) };
    let ((a, bc), (first, second)) = within(async { tokio::join!(subscribe, confirm) }).await;
    assert_eq!((first, second), (vec!["a".to_owned()], vec!["a".into(), "b".into(), "c".into()]));
    drop(bc);
    assert_eq!(peer.confirm().await, ["a"]);
    drop(a);
    assert_eq!(peer.confirm().await, [""; 0]);
}

#[tokio::test]
async fn a_subscription_given_up_is_withdrawn() {
    let (client, _node, mut peer) = connected(Speaks::Extended, |_| ()).await;
    let given_up = tokio::select! {
        _ = client.subscribe("t") => false,
        (_, asked) = peer.message() => matches!(asked, FromClient::Subscribe { .. }),
    };
    assert!(given_up);
    assert_eq!(peer.confirm().await, [""; 0]);
}

#[tokio::test]
async fn multicast_reaches_every_subscription_and_requests_go_in_turn() {
    let (client, _node, mut peer) = connected(Speaks::Extended, |_| ()).await;
    let subscribe = async { (client.subscribe("t").await.unwrap(), client.subscribe("t").await.unwrap()) };
    let confirm = async { (peer.confirm().await, peer.confirm().await) };
    let ((mut one, mut two), _) = within(async { tokio::join!(subscribe, confirm) }).await;
    peer.deliver(Mode::Multicast, "t", 1, b"all").await;
    peer.deliver(Mode::Unicast, "t", 2, b"r").await;
    peer.deliver(Mode::Unicast, "t", 3, b"r").await;
    for subscription in [&mut one, &mut two] {
        let all = within(subscription.next()).await.unwrap();
        assert_eq!((all.mode, all.is_request()), (Mode::Multicast, false));
        assert!(within(subscription.next()).await.unwrap().is_request());
    }
}

#[tokio::test]
async fn a_slow_subscription_loses_multicasts_and_refuses_requests() {
    let (client, _node, mut peer) = connected(Speaks::Extended, |options| options.queue_messages = 2).await;
    let subscribe =
        async { (client.subscribe("slow").await.unwrap(), client.subscribe("other").await.unwrap()) };
    let confirm = async { (peer.confirm().await, peer.confirm().await) };
    let ((mut slow, mut other), _) = within(async { tokio::join!(subscribe, confirm) }).await;
    for number in 1..=5 {
        peer.deliver(Mode::Multicast, "slow", number, b"x").await;
    }
    peer.deliver(Mode::Unicast, "slow", 6, b"x").await;
    peer.deliver(Mode::Multicast, "other", 7, b"x").await;
    let (seq, refusal) = peer.message().await;
    assert_eq!(seq, Seq::from_u128(6));
    assert_eq!(refusal, FromClient::Answer { result: REFUSED_BUSY, payload: Bytes::new() });
    assert!(within(other.next()).await.is_some(), "others are not held up");
    assert_eq!(slow.dropped(), 3);
    assert!(within(slow.next()).await.is_some() && within(slow.next()).await.is_some());
}

#[tokio::test]
async fn what_has_arrived_is_said_to_have_whether_it_is_taken_or_not() {
    let (client, _node, mut peer) = connected(Speaks::Extended, |_| ()).await;
    let (subscription, _) = within(async { tokio::join!(client.subscribe("t"), peer.confirm()) }).await;
    let _subscription = subscription.unwrap();
    for (mode, number) in [(Mode::Multicast, 1), (Mode::Unicast, 2)] {
        peer.deliver(mode, "t", number, b"x").await;
        assert_eq!(within(peer.word()).await, (Seq::from_u128(number.into()), FromClient::Received));
    }
}

#[tokio::test]
async fn bytes_are_bounded_too_but_one_message_always_fits() {
    let (client, _node, mut peer) = connected(Speaks::Extended, |options| options.queue_bytes = 10).await;
    let (subscription, _) = within(async { tokio::join!(client.subscribe("t"), peer.confirm()) }).await;
    let mut subscription = subscription.unwrap();
    peer.deliver(Mode::Multicast, "t", 1, &[1; 100]).await;
    peer.deliver(Mode::Multicast, "t", 2, &[2; 1]).await;
    peer.deliver(Mode::Unicast, "nobody", 3, b"").await;
    peer.message().await;
    assert_eq!(subscription.dropped(), 1);
    assert_eq!(within(subscription.next()).await.unwrap().payload.len(), 100);
}

#[tokio::test]
async fn what_the_node_refuses_is_an_error() {
    let (client, _node, mut peer) = connected(Speaks::Extended, |_| ()).await;
    let refuse = async {
        let (seq, _) = peer.message().await;
        let refused = vec!["t".to_owned()];
        peer.send(FromNode::Subscribed { accepted: 0, refused, complete: true }.encode(seq)).await;
    };
    let (subscribed, ()) = within(async { tokio::join!(client.subscribe("t"), refuse) }).await;
    assert_eq!(subscribed.unwrap_err(), SubscribeError::Refused("t".into()));
    assert!(matches!(client.subscribe("a\nb").await, Err(SubscribeError::Topic { .. })));
    assert!(matches!(client.subscribe_all([""; 0]).await, Err(SubscribeError::NoTopic)));
}

#[tokio::test]
async fn plain_frames_carry_subscriptions_and_answers() {
    let (client, _node, mut peer) = connected(Speaks::Plain, |_| ()).await;
    let node = async {
        let report = peer.next().await.unwrap();
        assert_eq!((report.kind, &report.body[..]), (Type::TOPICS, &br#"["t"]"#[..]));
        let push = Encoded::new(Type::UNICAST, Seq::from_u128(4), 0, b"\x02task", Bytes::new());
        // Its acknowledgement is the heartbeat behind it, which this answers on the way.
        peer.send(push).await;
        peer.next().await.unwrap()
    };
    let subscriber = async {
        let mut subscription = client.subscribe("t").await.unwrap();
        assert!(!subscription.is_complete());
        let delivery = subscription.next().await.unwrap();
        assert_eq!(delivery.sender, None);
        delivery.answer("ok");
        subscription
    };
    let (answer, _subscription) = within(async { tokio::join!(node, subscriber) }).await;
    assert_eq!(
        (answer.kind, answer.seq, &answer.body[..]),
        (Type::ANSWER, Seq::from_u128(4), &b"\x02tok"[..])
    );
}
