//! What is to be known of some causes beyond that they are given: each is provoked in `provoke`.

use std::time::Duration;

use amop_client::{Cause, ErrorKind, RequestError};
use amop_protocol::wire::channel::Encoded;

use super::*;

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
async fn no_node_is_99() {
    let mut mesh = Mesh::line(1).await;
    let till = mesh.client(0).await;
    mesh.abort(0);
    wait::within("the loss", till.disconnected()).await;
    let error = wait::within("an outcome", till.request("t", "x")).await.expect_err("nobody");
    assert!(is(&error, 99, Cause::NotConnected), "{error}");
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
