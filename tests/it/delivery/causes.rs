//! Every cause, provoked on real nodes: here are those that no other test of this folder provokes.

use std::time::Duration;

use amop_client::{Cause, ErrorKind, RequestError, RequestOptions};
use amop_protocol::wire::channel::Encoded;

use super::*;

const SOON: Duration = Duration::from_millis(200);
/// A frame passes so many links and no more.
const MAX_HOPS: usize = 32;

/// The test that provokes a cause. A new cause does not compile without one.
fn provoked_by(cause: Cause) -> &'static str {
    match cause {
        // What an SDK makes of a 2.x node, which names no cause.
        Cause::Unspecified => "",
        Cause::Delivered => "at_the_byte_bound_a_duplicate_is_102",
        Cause::Draining => "a_node_that_drains_is_99",
        Cause::NotConnected => "no_node_is_99",
        Cause::NoSubscriber | Cause::NotVerified | Cause::ReservedTopic => "nobody_there_is_100",
        Cause::Unreachable => "a_node_that_is_gone_is_100",
        Cause::HopLimit => "too_many_hops_are_100",
        Cause::BadTopic => "a_bad_topic_is_100",
        Cause::SessionGone => "a_session_that_goes_before_its_turn_is_101",
        Cause::QueueFull => "a_subscriber_that_does_not_read_is_101_once_its_queue_is_full_and_slows_nobody",
        Cause::WriteFailed => "a_subscriber_that_takes_no_bytes_is_101",
        Cause::SubscriberRefused => "a_refusal_is_101",
        Cause::PushTimeout => "a_subscriber_that_does_not_answer_is_102",
        Cause::Deadline => "a_deadline_that_passes_is_102",
        Cause::OutcomeLost => "at_the_byte_bound_a_duplicate_is_102",
        Cause::AnswerLost => "a_subscriber_that_goes_away_before_it_answers_leaves_an_outcome",
        Cause::NodeBandwidth => "more_than_the_bandwidth_limit_is_103_and_says_when_to_retry",
        Cause::ClientQuota => "a_client_over_its_own_limit_is_103_and_others_are_served",
        Cause::RelayLimit => "a_relay_over_its_limit_is_gone_around_or_it_is_103",
        Cause::NoRoom => "no_room_for_a_payload_is_103",
        Cause::NoneHanded => "a_multicast_that_nobody_takes_is_100",
    }
}

#[test]
fn every_cause_is_provoked() {
    let tests = [include_str!("causes.rs"), include_str!("failures.rs"), include_str!("mod.rs")];
    let tests: Vec<&str> = tests.iter().flat_map(|file| file.split("\n#[tokio::test]\nasync fn ")).collect();
    for cause in (1..=64).filter_map(|number| Cause::try_from(number).ok()) {
        let name = format!("{}()", provoked_by(cause));
        let test = tests.iter().find(|test| test.starts_with(&name));
        let test = test.unwrap_or_else(|| panic!("{cause:?}: there is no test {name}"));
        assert!(test.contains(&format!("Cause::{cause:?}")), "{name} does not mention {cause:?}");
    }
}

fn is(error: &RequestError, code: i32, cause: Cause) -> bool {
    (error.code(), error.cause()) == (code, cause)
}

/// Outcomes a node has counted with this cause.
async fn outcomes(node: &crate::mesh::MeshNode, cause: Cause) -> u64 {
    let page = amop::telemetry::client::get(node.admin(), "/metrics").await.expect("the admin port answers");
    let label = format!("cause=\"{}\"", cause.as_str_name());
    let text = String::from_utf8_lossy(&page);
    let line = text.lines().find(|line| line.starts_with("amop_delivery_outcomes") && line.contains(&label));
    line.map_or(0, |line| line.rsplit(' ').next().and_then(|count| count.parse().ok()).expect("a number"))
}

#[tokio::test]
async fn a_node_that_drains_is_99() {
    let mut mesh = Mesh::new(1, Topology::Line, |_, config| {
        config.shutdown.grace = Duration::from_secs(20);
    })
    .await;
    let kept = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let keep = kept.clone();
    let desk = Served::with(mesh.client(0).await, "t", move |delivery| keep.lock().push(delivery)).await;
    let leaf = mesh.nodes[0].institution.client("old");
    let mut old = Plain::subscriber(mesh.nodes[0].addresses.channel, &leaf, &[]).await;
    let waiting = old.seq();
    old.send(message(Type::UNICAST, waiting, "t", "please")).await;
    wait::until("the request to arrive", async || desk.handled() == 1).await;
    let admin = mesh.nodes[0].admin();
    let during = async {
        let draining = async || amop::telemetry::client::get(admin, "/readyz").await.is_err();
        wait::until("the node to drain", draining).await;
        let seq = old.seq();
        old.send(message(Type::UNICAST, seq, "t", "too late")).await;
        let refused = old.receive().await;
        assert_eq!((refused.seq, refused.result), (seq, Cause::Draining.status().code()));
        kept.lock().drain(..).for_each(|delivery| delivery.answer("done"));
        let answer = old.receive().await;
        assert_eq!((answer.seq, answer.result), (waiting, 0));
    };
    let (report, ()) = futures::future::join(mesh.stop(0), during).await;
    assert_eq!(report.cut, 0);
}

#[tokio::test]
async fn no_node_is_99() {
    let mut mesh = Mesh::line(1).await;
    let till = mesh.client(0).await;
    mesh.abort(0);
    wait::within("the loss", till.disconnected()).await;
    let error = wait::within("an outcome", till.request("t", "x")).await.expect_err("nobody");
    assert!(is(&error, 99, Cause::NotConnected), "{error}");
}

#[tokio::test]
async fn a_node_that_is_gone_is_100() {
    let mut mesh = Mesh::line(2).await;
    let _desk = Served::answer(mesh.client(1).await, "t", "here").await;
    let till = mesh.client(0).await;
    mesh.abort(1);
    let error = wait::within("an outcome", till.request("t", "x")).await.expect_err("nobody");
    assert!(is(&error, 100, Cause::Unreachable), "{error}");
}

#[tokio::test]
async fn too_many_hops_are_100() {
    let mesh = Mesh::line(MAX_HOPS + 2).await;
    let _desk = Served::answer(mesh.client(MAX_HOPS).await, "as far as may be", "here").await;
    let _too_far = mesh.client(MAX_HOPS + 1).await.subscribe("too far").await.expect("subscribed");
    let till = mesh.client(0).await;
    let answer = wait::within("an answer", till.request("as far as may be", "x")).await;
    assert_eq!(answer.as_deref(), Ok(&b"here"[..]));
    wait::until("the topic", async || mesh.knows(0, "too far").await).await;
    let error = wait::within("an outcome", till.request("too far", "x")).await.expect_err("too far");
    assert!(is(&error, 100, Cause::HopLimit), "{error}");
}

#[tokio::test]
async fn a_bad_topic_is_100() {
    let mesh = Mesh::line(1).await;
    for name in ["", "a\tb"] {
        let error = mesh.client(0).await.request(name, "x").await.expect_err("refused");
        assert!(is(&error, 100, Cause::BadTopic) && error.kind() == ErrorKind::Topic, "{error}");
    }
    let leaf = mesh.nodes[0].institution.client("old");
    let mut old = Plain::subscriber(mesh.nodes[0].addresses.channel, &leaf, &[]).await;
    for body in [&b""[..], b"\x01", b"\x04a\tbx", b"\xffshort"] {
        let seq = old.seq();
        old.send(Encoded::new(Type::UNICAST, seq, 0, body, Bytes::new())).await;
        let outcome = old.receive().await;
        assert_eq!((outcome.seq, outcome.result, &outcome.body[..]), (seq, 100, &b""[..]), "{body:?}");
    }
}

#[tokio::test]
async fn a_session_that_goes_before_its_turn_is_101() {
    let mesh = Mesh::new(2, Topology::Line, |_, config| {
        config.delivery.max_push_timeout = Duration::from_secs(30);
        config.delivery.min_push_timeout = Duration::from_secs(30);
    })
    .await;
    let leaf = mesh.nodes[1].institution.client("old");
    let stuck = Plain::subscriber(mesh.nodes[1].addresses.channel, &leaf, &["t"]).await;
    let till = mesh.client(0).await;
    wait::until("the topic", async || mesh.knows(0, "t").await).await;
    // As many as the connection takes, and as its queue does.
    let mut requests = Vec::new();
    while mesh.nodes[1].counted("client_port_pushes_refused").await == 0 {
        let till = till.clone();
        requests.push(crate::mesh::spawn(async move { till.request("t", vec![0; 1 << 20]).await }));
        let came = requests.len() as u64;
        wait::until("its arrival", async || mesh.nodes[1].counted("delivery_pushes").await >= came).await;
        assert!(came < 500, "the queue is never full");
    }
    drop(stuck);
    let mut causes = Vec::new();
    for request in requests {
        let error = wait::within("an outcome", request).await.expect("no panic").expect_err("no answer");
        assert_eq!(error.code(), error.cause().status().code());
        causes.push(error.cause());
    }
    assert!(causes.contains(&Cause::SessionGone), "{causes:?}");
}

#[tokio::test]
async fn a_subscriber_that_takes_no_bytes_is_101() {
    let mesh = Mesh::new(2, Topology::Line, |_, config| {
        config.delivery.min_push_timeout = SOON;
        config.delivery.max_push_timeout = SOON;
    })
    .await;
    let leaf = mesh.nodes[1].institution.client("old");
    let _stuck = Plain::subscriber(mesh.nodes[1].addresses.channel, &leaf, &["t"]).await;
    let till = mesh.client(0).await;
    wait::until("the topic", async || mesh.knows(0, "t").await).await;
    // The first ones fill the connection, and count as handed.
    wait::until("101", async || {
        let error = till.request("t", vec![0; 1 << 20]).await.expect_err("nobody answers");
        is(&error, 101, Cause::WriteFailed)
    })
    .await;
}

#[tokio::test]
async fn a_deadline_that_passes_is_102() {
    let mesh = Mesh::line(3).await;
    let _silent = Served::with(mesh.client(2).await, "t", keep(&Arc::default())).await;
    let options = RequestOptions::default().deadline(SOON);
    let error = mesh.client(0).await.request_with("t", "x", options).await.expect_err("no answer");
    // Both clocks run out at once: whichever is read first.
    let is_late = [Cause::Deadline, Cause::PushTimeout].iter().any(|cause| is(&error, 102, *cause));
    assert!(is_late, "{error}");
}

#[tokio::test]
async fn at_the_byte_bound_a_duplicate_is_102() {
    let mesh = Mesh::new(1, Topology::Line, |_, config| config.delivery.seen_bytes = 0).await;
    let desk = Served::echo(mesh.client(0).await, "t").await;
    let leaf = mesh.nodes[0].institution.client("old");
    let mut old = Plain::subscriber(mesh.nodes[0].addresses.channel, &leaf, &[]).await;
    let seq = old.seq();
    for cause in [Cause::Delivered, Cause::OutcomeLost] {
        old.send(message(Type::UNICAST, seq, "t", "once")).await;
        assert_eq!(old.receive().await.result, cause.status().code());
        assert_eq!(outcomes(&mesh.nodes[0], cause).await, 1);
    }
    assert_eq!(desk.handled(), 1);
}

#[tokio::test]
async fn no_room_for_a_payload_is_103() {
    let mesh = Mesh::new(2, Topology::Line, |_, config| config.limits.payload_bytes = 1_000_000).await;
    let count = Arc::default();
    let _slow = Served::with(mesh.client(1).await, "t", keep(&count)).await;
    let till = mesh.client(0).await;
    let first = {
        let till = till.clone();
        crate::mesh::spawn(async move { till.request("t", vec![0; 800_000]).await })
    };
    wait::until("the first to be held", async || count.load(Ordering::SeqCst) == 1).await;
    let error = till.request("t", vec![0; 200_000]).await.expect_err("no room");
    assert!(is(&error, 103, Cause::NoRoom), "{error}");
    assert!(error.retry_after().is_some_and(|wait| wait > Duration::ZERO), "{error:?}");
    first.abort();
}

#[tokio::test]
async fn a_multicast_that_nobody_takes_is_100() {
    let mesh = Mesh::new(2, Topology::Line, |_, config| {
        config.delivery.max_push_timeout = SOON;
        config.delivery.min_push_timeout = SOON;
    })
    .await;
    let leaf = mesh.nodes[1].institution.client("old");
    let _stuck = Plain::subscriber(mesh.nodes[1].addresses.channel, &leaf, &["t"]).await;
    let till = mesh.client(0).await;
    wait::until("the topic", async || mesh.knows(0, "t").await).await;
    wait::until("100", async || {
        let error = till.publish("t", vec![0; 1 << 20]).await.err();
        error.is_some_and(|error| (error.code(), error.cause()) == (100, Cause::NoneHanded))
    })
    .await;
}
