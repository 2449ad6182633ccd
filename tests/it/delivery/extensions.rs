//! What extension clients can ask for: word of the hand-over, addresses, recipients, where it failed.

use amop_client::{Address, Cause, PublishOptions, Recipients, RequestOptions, Retry};
use amop_protocol::wire::{
    channel::{Encoded, Frame},
    extension::{FromClient, FromNode},
};

use super::*;

#[tokio::test]
async fn a_publisher_hears_of_the_hand_over_before_the_answer() {
    let mesh = Mesh::line(3).await;
    let (kept, mut asked) = tokio::sync::mpsc::channel(1);
    let _desk = Served::with(mesh.client(2).await, "t", move |delivery| {
        kept.try_send(delivery).expect("one at a time");
    })
    .await;
    let till = mesh.client(0).await;
    let mut request = till.start_request("t", "x", RequestOptions::default()).await.expect("sent");
    assert!(wait::within("the hand-over", request.handed()).await);
    let delivery = wait::within("the request", asked.recv()).await.expect("a request");
    delivery.answer("late");
    assert_eq!(wait::within("the answer", request).await.as_deref(), Ok(&b"late"[..]));

    let mut nobody = till.start_request("nobody", "x", RequestOptions::default()).await.expect("sent");
    assert!(!wait::within("no hand-over", nobody.handed()).await);
    assert_eq!(wait::within("its end", nobody).await.map_err(|error| error.code()), Err(100));
}

#[tokio::test]
async fn a_failure_says_where_and_whether_to_try_again() {
    let mesh = Mesh::line(3).await;
    let _refusing = Served::with(mesh.client(2).await, "t", |delivery| delivery.refuse(7)).await;
    let till = mesh.client(0).await;
    let error = till.request("t", "x").await.expect_err("refused");
    let hop = error.hop().expect("a node");
    assert_eq!((hop.node, &*hop.name, &*hop.institution), (mesh.id(2), "node-2", "bank-2"));
    assert_eq!(error.retry(), Retry::Never);
    assert!(error.to_string().ends_with("at node bank-2/node-2"), "{error}");

    let error = till.publish("nobody", "x").await.expect_err("nobody is there");
    assert_eq!(error.hop().map(|hop| hop.node), Some(mesh.id(0)), "{error}");
    assert_eq!(error.retry(), Retry::Safe);
}

#[tokio::test]
async fn an_address_chooses_institution_node_and_client() {
    let mesh = Mesh::line(3).await;
    let mut desks = Vec::new();
    for (node, says) in [(0, "zero"), (1, "one"), (2, "two"), (2, "two again")] {
        desks.push(Served::answer(mesh.client(node).await, "t", says).await);
    }
    let till = mesh.client(0).await;
    let ask = async |address: Address| {
        let options = RequestOptions::default().to(address);
        wait::within("an outcome", till.request_with("t", "x", options)).await
    };
    for _ in 0..10 {
        assert_eq!(ask(Address::default().at_institution("bank-1")).await.as_deref(), Ok(&b"one"[..]));
        let at_node = ask(Address::default().at_node(mesh.id(2))).await.expect("an answer");
        assert!(at_node.starts_with(b"two"));
    }
    // A subscriber learns its own certificate from what it sends.
    let mut told = mesh.client(0).await.subscribe("who").await.expect("subscribed");
    desks[3].client.publish("who", "").await.expect("delivered");
    let sender = wait::within("a message", told.next()).await.and_then(|d| d.sender).expect("a sender");
    let this = Address::default().of_client(sender.client.fingerprint);
    for _ in 0..10 {
        assert_eq!(ask(this.clone()).await.as_deref(), Ok(&b"two again"[..]));
    }
    let publication = PublishOptions::default().to(this.clone()).report();
    let report = till.publish_with("t", "x", publication).await.expect("delivered");
    assert_eq!((report.handed, report.failed), (1, 0), "{report:?}");

    for nobody in [
        Address::default().at_institution("bank"),
        this.clone().at_node(mesh.id(1)),
        Address::default().of_client(amop_client::Fingerprint::new([7; 32])),
    ] {
        let error = ask(nobody.clone()).await.expect_err("nobody matches");
        assert_eq!((error.code(), error.cause()), (100, Cause::NoSubscriber), "{nobody:?}: {error}");
        let options = PublishOptions::default().to(nobody);
        let error = till.publish_with("t", "x", options).await.expect_err("nobody matches");
        assert_eq!((error.code(), error.cause()), (100, Cause::NoSubscriber), "{error}");
    }
}

#[tokio::test]
async fn a_report_names_every_recipient_and_how_it_fared() {
    let mesh = Mesh::new(3, Topology::Line, |_, config| {
        config.delivery.min_push_timeout = std::time::Duration::from_millis(300);
        config.delivery.max_push_timeout = std::time::Duration::from_millis(300);
    })
    .await;
    let mut live = Vec::new();
    for node in [1, 2] {
        live.push(mesh.client(node).await.subscribe("t").await.expect("subscribed"));
    }
    let leaf = mesh.nodes[2].institution.client("mute");
    let _mute = mute(&mesh, 2, &leaf, "t").await;
    let old = mesh.nodes[0].institution.client("old");
    let _old = Plain::subscriber(mesh.nodes[0].addresses.channel, &old, &["t"]).await;
    let till = mesh.client(0).await;
    wait::until("all three nodes", async || {
        let report = till.publish_with("t", "x", PublishOptions::default().report()).await;
        report.is_ok_and(|report| report.nodes.len() == 3 && report.handed + report.failed == 4)
    })
    .await;
    let report = till.publish_with("t", "x", PublishOptions::default().report()).await.expect("delivered");
    assert_eq!((report.handed, report.failed), (3, 1), "{report:?}");
    assert_eq!(fared(&report, "old"), [Cause::Delivered]);
    assert_eq!(fared(&report, "mute"), [Cause::PushTimeout], "it never says that it received anything");
    assert!(report.nodes.iter().all(|node| node.cause.is_none() && !node.institution.is_empty()));
    let plain = till.publish_with("t", "x", PublishOptions::default()).await.expect("delivered");
    assert_eq!(plain, Recipients::default(), "who does not ask is not told");
}

#[tokio::test]
async fn who_never_says_received_was_not_handed_a_message() {
    let mesh = Mesh::new(2, Topology::Line, |_, config| {
        config.delivery.min_push_timeout = std::time::Duration::from_millis(300);
        config.delivery.max_push_timeout = std::time::Duration::from_millis(300);
    })
    .await;
    let leaf = mesh.nodes[1].institution.client("mute");
    let mut mute = mute(&mesh, 1, &leaf, "t").await;
    let till = mesh.client(0).await;
    wait::until("the topic", async || mesh.knows(0, "t").await).await;
    let error = till.request("t", "x").await.expect_err("no word");
    assert_eq!((error.code(), error.cause()), (102, Cause::PushTimeout), "{error}");
    let error = till.publish("t", "x").await.expect_err("no word");
    assert_eq!((error.code(), error.cause()), (100, Cause::NoneHanded), "{error}");
    // Its answer is word enough.
    let asking = till.request("t", "y");
    let answering = async {
        let push = deliver(&mut mute, b"y").await;
        let answer = FromClient::Answer { result: 0, payload: Bytes::from_static(b"yes") };
        mute.send(answer.encode(push.seq)).await;
    };
    let (answer, ()) = wait::within("an answer", futures::future::join(asking, answering)).await;
    assert_eq!(answer.as_deref(), Ok(&b"yes"[..]));
}

/// How the recipients of this name fared.
fn fared(report: &Recipients, name: &str) -> Vec<Cause> {
    let all = report.nodes.iter().flat_map(|node| &node.recipients);
    let named = all.filter(|who| who.client.as_ref().is_some_and(|client| &*client.name == name));
    named.map(|who| who.cause).collect()
}

/// An extension client that is subscribed and says nothing.
async fn mute(mesh: &Mesh, node: usize, leaf: &amop_testkit::ca::Leaf, topic: &str) -> Plain {
    let mut client = Plain::subscriber(mesh.nodes[node].addresses.channel, leaf, &[]).await;
    let seq = client.seq();
    let hello = br#"{"minimumSupport":1,"maximumSupport":3,"clientType":"mute","amop":{"version":1}}"#;
    client.send(Encoded::new(Type::HANDSHAKE, seq, 0, hello, Bytes::new())).await;
    while client.receive().await.kind != Type::HANDSHAKE {}
    let seq = client.seq();
    client.send(FromClient::Subscribe { topics: vec![topic.to_owned()] }.encode(seq)).await;
    while client.receive().await.kind != Type::SUBSCRIBED {}
    client
}

/// The frame that delivers this payload.
async fn deliver(client: &mut Plain, wanted: &[u8]) -> Frame {
    loop {
        let frame = wait::within("a message", client.receive()).await;
        if matches!(FromNode::decode(&frame), Ok(FromNode::Deliver { payload, .. }) if payload == wanted) {
            return frame;
        }
    }
}
