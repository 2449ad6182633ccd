//! Every code with its causes, and nothing else.

use std::time::Duration;

use amop::config::Config;
use amop_client::{Cause, Compatibility, ErrorKind, RequestOptions};
use amop_protocol::Status;

use super::*;

const SOON: Duration = Duration::from_millis(200);

#[tokio::test]
async fn nobody_there_is_100() {
    let mesh = Mesh::line(2).await;
    let till = mesh.client(0).await;
    let _private = Served::echo(mesh.client(1).await, "#!$TopicNeedVerify_secret").await;
    for (topic, cause) in [
        ("nobody", Cause::NoSubscriber),
        // Not even the client sends that: it would not be encrypted.
        ("#!$TopicNeedVerify_secret", Cause::ReservedTopic),
        ("_block_notify_1", Cause::ReservedTopic),
    ] {
        let request = till.request(topic, "x").await.expect_err("no way");
        assert_eq!((request.code(), request.cause()), (100, cause), "{topic}: {request}");
        let publication = till.publish(topic, "x").await.expect_err("no way");
        assert_eq!((publication.code(), publication.cause()), (100, cause), "{topic}: {publication}");
    }
    let secret = till.private_topic("secret", [], Compatibility::Version2).await.expect("a topic");
    let request = secret.request("x").await.expect_err("nobody is verified");
    assert_eq!((request.code(), request.cause()), (100, Cause::NotVerified));
    let publication = secret.publish("x").await.expect_err("nobody is verified");
    assert_eq!((publication.code(), publication.cause()), (100, Cause::NotVerified));
}

#[tokio::test]
async fn a_subscription_that_ends_is_known_everywhere() {
    let mesh = Mesh::line(3).await;
    let till = mesh.client(0).await;
    let client = mesh.client(2).await;
    let subscription = client.subscribe("t").await.expect("subscribed");
    till.publish("t", "x").await.expect("delivered");
    drop(subscription);
    wait::until("100", async || till.publish("t", "x").await.is_err_and(|error| error.code() == 100)).await;
}

#[tokio::test]
async fn a_refusal_is_101() {
    let mesh = Mesh::line(3).await;
    let refusing = Served::with(mesh.client(2).await, "t", |delivery| delivery.refuse(7)).await;
    let error = mesh.client(0).await.request("t", "x").await.expect_err("refused");
    assert_eq!(
        (error.code(), error.kind(), error.cause()),
        (101, ErrorKind::Refused, Cause::SubscriberRefused)
    );
    assert_eq!(refusing.handled(), 1);
}

#[tokio::test]
async fn a_subscriber_that_does_not_answer_is_102() {
    let mesh = Mesh::new(3, Topology::Line, |_, config| {
        config.delivery.min_push_timeout = SOON;
        config.delivery.max_push_timeout = SOON;
    })
    .await;
    let count = Arc::default();
    let _slow = Served::with(mesh.client(2).await, "t", keep(&count)).await;
    let till = mesh.client(0).await;
    let error = till.request("t", "x").await.expect_err("no answer");
    assert_eq!((error.code(), error.cause()), (102, Cause::PushTimeout), "{error}");

    let deadline = RequestOptions::default().deadline(Duration::from_millis(50));
    let error = till.request_with("t", "x", deadline).await.expect_err("no answer");
    assert_eq!((error.code(), error.kind()), (102, ErrorKind::TimedOut), "{error}");
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_silent_subscriber_is_given_up_for_the_next() {
    let mesh = Mesh::new(3, Topology::Line, |_, config| {
        config.delivery.min_push_timeout = SOON;
        config.delivery.max_push_timeout = SOON;
    })
    .await;
    let count = Arc::default();
    let _silent = Served::with(mesh.client(1).await, "t", keep(&count)).await;
    let _live = Served::answer(mesh.client(2).await, "t", "here").await;
    let till = mesh.client(0).await;
    let requests = (0..16).map(|_| till.request("t", "x"));
    let answers = wait::within("all answers", futures::future::join_all(requests)).await;
    assert!(answers.iter().all(|answer| answer.as_deref() == Ok(&b"here"[..])), "{answers:?}");
    assert!(count.load(Ordering::SeqCst) > 0, "the silent one was tried");
}

#[tokio::test]
async fn a_subscriber_that_goes_away_before_it_answers_leaves_an_outcome() {
    let mesh = Mesh::line(3).await;
    let leaf = mesh.nodes[2].institution.client("old");
    let mut old = Plain::subscriber(mesh.nodes[2].addresses.channel, &leaf, &["t"]).await;
    let till = mesh.client(0).await;
    wait::until("the topic", async || mesh.knows(0, "t").await).await;
    let asking = till.request("t", "x");
    let leaving = async {
        assert_eq!(old.receive().await.kind, Type::UNICAST);
        drop(old);
    };
    let (answer, ()) = wait::within("an outcome", futures::future::join(asking, leaving)).await;
    let error = answer.expect_err("no answer");
    assert_eq!((error.code(), error.cause()), (102, Cause::AnswerLost), "{error}");
}

#[tokio::test]
async fn a_subscriber_that_does_not_read_is_101_once_its_queue_is_full_and_slows_nobody() {
    let mesh = Mesh::new(3, Topology::Line, |_, config| config.client_port.queue_bytes = 1_000_000).await;
    let _live = Served::echo(mesh.client(2).await, "live").await;
    let leaf = mesh.nodes[2].institution.client("old");
    let _stuck = Plain::subscriber(mesh.nodes[2].addresses.channel, &leaf, &["stuck"]).await;
    let till = mesh.client(0).await;
    wait::until("the topic", async || mesh.knows(0, "stuck").await).await;
    let full = Arc::new(AtomicUsize::new(0));
    let mut sent = 0;
    while full.load(Ordering::SeqCst) == 0 {
        let (sender, full) = (till.clone(), full.clone());
        crate::mesh::spawn(async move {
            let error = sender.request("stuck", vec![0; 400_000]).await.expect_err("nobody answers");
            if error.cause() == Cause::QueueFull {
                assert_eq!((error.code(), error.kind()), (101, ErrorKind::NotHanded));
                full.fetch_add(1, Ordering::SeqCst);
            }
        });
        sent += 1;
        assert!(sent < 500, "the queue is never full");
        assert!(wait::within("an answer", till.request("live", "x")).await.is_ok());
    }
}

#[tokio::test]
async fn more_than_the_bandwidth_limit_is_103_and_says_when_to_retry() {
    let mesh = Mesh::new(2, Topology::Line, |_, config| {
        config.limits.outgoing_bandwidth_limit = Some(0.5);
    })
    .await;
    let _echo = Served::answer(mesh.client(1).await, "t", "ok").await;
    let till = mesh.client(0).await;
    till.request("t", vec![0; 500_000]).await.expect("one message may go into debt");
    let error = till.request("t", "x").await.expect_err("in debt");
    assert_eq!((error.code(), error.kind(), error.cause()), (103, ErrorKind::Limited, Cause::NodeBandwidth));
    let retry_after = error.retry_after().expect("when to retry");
    assert!(retry_after > Duration::ZERO && retry_after < Duration::from_secs(8), "{retry_after:?}");
    assert_eq!(till.publish("t", "x").await.map_err(|error| error.code()), Err(103));
}

#[tokio::test]
async fn a_client_over_its_own_limit_is_103_and_others_are_served() {
    let mesh = Mesh::new(2, Topology::Line, |_, config| {
        config.limits.client_bandwidth_limit = Some(0.5);
    })
    .await;
    let _echo = Served::answer(mesh.client(1).await, "t", "ok").await;
    let [greedy, modest] = [mesh.client(0).await, mesh.client(0).await];
    greedy.request("t", vec![0; 500_000]).await.expect("one message may go into debt");
    let error = greedy.request("t", "x").await.expect_err("in debt");
    assert_eq!((error.code(), error.cause()), (103, Cause::ClientQuota));
    assert!(error.retry_after().is_some_and(|wait| wait > Duration::ZERO), "{error:?}");
    assert!(modest.request("t", "x").await.is_ok(), "a quota of its own");
}

#[tokio::test]
async fn a_relay_over_its_limit_is_gone_around_or_it_is_103() {
    let limited = |index: usize, config: &mut Config| {
        if index == 1 {
            config.limits.relay_bandwidth_limit = Some(0.01);
        }
    };
    let mesh = Mesh::new(3, Topology::Line, limited).await;
    let _echo = Served::answer(mesh.client(2).await, "t", "ok").await;
    let till = mesh.client(0).await;
    till.request("t", vec![0; 100_000]).await.expect("one message may go into debt");
    let error = till.request("t", "x").await.expect_err("in debt");
    assert_eq!((error.code(), error.cause()), (103, Cause::RelayLimit));
    assert!(error.retry_after().is_some_and(|wait| wait > Duration::from_secs(1)), "{error:?}");

    let mesh = Mesh::new(4, Topology::Ring, limited).await;
    let _echo = Served::answer(mesh.client(2).await, "t", "ok").await;
    let till = mesh.client(0).await;
    for _ in 0..10 {
        let answer = wait::within("an answer", till.request("t", vec![0; 10_000])).await;
        assert_eq!(answer.as_deref(), Ok(&b"ok"[..]), "the other way round");
    }
}

#[tokio::test]
async fn one_message_through_two_nodes_runs_once() {
    let mesh = Mesh::line(3).await;
    let server = Served::echo(mesh.client(2).await, "t").await;
    let mut news = mesh.client(2).await.subscribe("news").await.expect("subscribed");
    let leaf = mesh.nodes[0].institution.client("old");
    let mut first = Plain::subscriber(mesh.nodes[0].addresses.channel, &leaf, &[]).await;
    let mut second = Plain::subscriber(mesh.nodes[1].addresses.channel, &leaf, &[]).await;
    for _ in 0..10 {
        let seq = first.seq();
        for client in [&mut first, &mut second] {
            client.send(message(Type::UNICAST, seq, "t", "once")).await;
        }
        for client in [&mut first, &mut second] {
            let outcome = client.receive().await;
            assert_eq!((outcome.kind, outcome.seq, outcome.result), (Type::ANSWER, seq, 0));
            assert_eq!(&outcome.body[..], b"\x02tonce");
        }
    }
    assert_eq!(server.handled(), 10);

    let seq = first.seq();
    for client in [&mut first, &mut second] {
        client.send(message(Type::MULTICAST, seq, "news", "once")).await;
        assert_eq!(client.receive().await.result, Status::Success.code());
    }
    mesh.client(1).await.publish("news", "end").await.expect("delivered");
    for expected in ["once", "end"] {
        let delivery = wait::within("a message", news.next()).await.expect("a message");
        assert_eq!(delivery.payload, expected);
    }
}
