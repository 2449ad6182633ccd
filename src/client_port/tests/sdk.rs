//! Our own SDK at the port: extension frames, both ends real.

use amop_client::{Client as Sdk, ErrorKind, Options};
use futures::StreamExt;

use super::*;

async fn sdk(bed: &Bed, name: &str) -> Sdk {
    let directory = tempfile::tempdir().expect("a directory");
    bed.bank.client(name).write_client_dir(directory.path());
    let options = Options::new([bed.address().to_string()], directory.path());
    Sdk::connect(options).await.expect("connected")
}

#[tokio::test]
async fn a_request_is_answered_and_knows_its_sender() {
    let bed = Bed::new(|_| {}).await;
    let (subscriber, publisher) = (sdk(&bed, "desk").await, sdk(&bed, "till").await);
    let node = publisher.node().expect("connected");
    assert!(node.extended);
    assert_eq!((&*node.name, &*node.institution), ("node-1", "bank-a"));
    let mut subscription = subscriber.subscribe("t").await.expect("subscribed");
    assert!(subscription.is_complete());
    let answering = async {
        for _ in 0..100 {
            let delivery = subscription.next().await.expect("a delivery");
            let sender = delivery.sender.clone().expect("a sender");
            assert_eq!((&*sender.institution, &*sender.client.name), ("bank-a", "till"));
            let answer = delivery.payload.clone();
            delivery.answer(answer);
        }
        drop(subscription.next().await.expect("one more"));
    };
    let asking = async {
        for n in 0..100 {
            assert_eq!(publisher.request("t", n.to_string()).await.expect("an answer"), n.to_string());
        }
        publisher.request("t", "unanswered").await.expect_err("dropped without an answer")
    };
    let ((), refused) = tokio::join!(answering, asking);
    assert_eq!((refused.kind(), refused.code()), (ErrorKind::Refused, 101));
    let nobody = publisher.request("nobody", "x").await.expect_err("nobody is there");
    assert_eq!((nobody.kind(), nobody.cause()), (ErrorKind::NoPath, Cause::NoSubscriber));
}

#[tokio::test]
async fn a_dropped_subscription_leaves_the_port() {
    let bed = Bed::new(|_| {}).await;
    let (subscriber, publisher) = (sdk(&bed, "desk").await, sdk(&bed, "till").await);
    let mut subscription = subscriber.subscribe("t").await.expect("subscribed");
    publisher.publish("t", "all").await.expect("delivered");
    assert_eq!(subscription.next().await.expect("a delivery").payload, "all");
    drop(subscription);
    until("unsubscribed", || bed.broker.state.lock().topics.values().all(BTreeSet::is_empty)).await;
    assert_eq!(publisher.publish("t", "all").await.expect_err("nobody").kind(), ErrorKind::NoPath);
}
