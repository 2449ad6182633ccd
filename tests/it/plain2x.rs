//! Clients as the SDKs of FISCO BCOS 2.x are, frame by frame, through two nodes.

use amop_protocol::wire::channel::{Encoded, Type};
use amop_testkit::wait;
use bytes::Bytes;
use serde_json::json;

use crate::mesh::{Mesh, Plain, Served, message};

const VERSIONS: [&rustls::SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

async fn connect(mesh: &Mesh, node: usize, version: &'static rustls::SupportedProtocolVersion) -> Plain {
    let node = &mesh.nodes[node];
    Plain::connect(node.addresses.channel, &node.institution.client("old"), version).await
}

async fn subscriber(mesh: &Mesh, node: usize, topics: &[&str]) -> Plain {
    let node = &mesh.nodes[node];
    Plain::subscriber(node.addresses.channel, &node.institution.client("old"), topics).await
}

#[tokio::test]
async fn the_java_sdk_starts() {
    let mesh = Mesh::line(2).await;
    for version in VERSIONS {
        let mut java = connect(&mesh, 0, version).await;
        let client_version = java.rpc("getClientVersion", "[]").await;
        assert_eq!(client_version["Supported Version"], "2.10.0");
        let hello = r#"{"minimumSupport":1,"maximumSupport":3,"clientType":"java-sdk"}"#;
        let reply = java.ask(Type::HANDSHAKE, hello).await;
        let reply: serde_json::Value = serde_json::from_slice(&reply.body).expect("JSON");
        assert_eq!(reply["protocol"], 3);
        assert_eq!(java.ask(Type::HEARTBEAT, r#"{"value":0}"#).await.body, "{\"heartBeat\":1}\n");
        assert_eq!(java.rpc("getGroupList", "[]").await, json!([1]));
        let number = java.rpc("getBlockNumber", "[1]").await;
        assert!(number.as_str().is_some_and(|number| number.starts_with("0x")), "{number}");
        java.rpc("getClientVersion", "[]").await;
        java.rpc("getGroupList", "[]").await;
        java.report(&["_block_notify_1"]).await;
        for kind in [Type::EVENT_REGISTER, Type::EVENT_UNREGISTER] {
            assert_eq!(java.ask(kind, b"\x01{}").await.body, "\x01{\"result\":-41002}\n");
        }
    }
}

#[tokio::test]
async fn the_go_and_python_sdks_start() {
    let mesh = Mesh::line(1).await;
    for version in VERSIONS {
        let mut go = connect(&mesh, 0, version).await;
        go.ask(Type::HANDSHAKE, r#"{"minimumSupport":1,"maximumSupport":3,"clientType":"Go-SDK"}"#).await;
        go.report(&["_block_notify_1"]).await;
        let client_version = go.rpc("getClientVersion", "[]").await;
        let parts = client_version["Supported Version"].as_str().expect("text").split('.');
        assert_eq!(parts.filter(|part| part.parse::<u32>().is_ok()).count(), 3);
        assert_eq!(client_version["Chain Id"], "1");
        assert!(!client_version["FISCO-BCOS Version"].as_str().expect("text").contains("gm"));

        // No handshake at all: version 1, where an empty heartbeat has no reply.
        let mut python = connect(&mesh, 0, version).await;
        assert!(python.rpc("getBlockNumber", "[1]").await.is_string());
        let seq = python.seq();
        python.send(Encoded::new(Type::TOPICS, seq, 0, b"[\"_block_notify_1\"]", Bytes::new())).await;
        let seq = python.seq();
        python.send(Encoded::empty(Type::HEARTBEAT, seq, 0)).await;
        assert!(python.rpc("getBlockNumber", "[1]").await.is_string(), "nothing came before this reply");
    }
}

#[tokio::test]
async fn messages_cross_two_nodes_both_ways() {
    let mesh = Mesh::line(2).await;
    let mut ends =
        [subscriber(&mesh, 0, &["west", "all"]).await, subscriber(&mesh, 1, &["east", "all"]).await];
    wait::until("the topics", async || mesh.knows(0, "east").await && mesh.knows(1, "west").await).await;
    for (from, to, topic) in [(0, 1, "east"), (1, 0, "west")] {
        let seq = ends[from].seq();
        ends[from].send(message(Type::UNICAST, seq, topic, "question")).await;
        let push = ends[to].receive().await;
        assert_eq!(push.kind, Type::UNICAST);
        assert_eq!(push.body, [&[5], topic.as_bytes(), b"question"].concat());
        let answer = [&[5], topic.as_bytes(), b"answer"].concat();
        ends[to].send(Encoded::new(Type::ANSWER, push.seq, 0, &answer, Bytes::new())).await;
        let outcome = ends[from].receive().await;
        assert_eq!((outcome.kind, outcome.seq, outcome.result), (Type::ANSWER, seq, 0));
        assert_eq!(outcome.body, answer, "the answer's body as it is");

        let seq = ends[from].seq();
        ends[from].send(message(Type::MULTICAST, seq, "all", "news")).await;
        let push = ends[to].receive().await;
        assert_eq!((push.kind, &push.body[..]), (Type::MULTICAST, &b"\x04allnews"[..]));
        let outcome = ends[from].receive().await;
        assert_eq!((outcome.kind, outcome.seq, outcome.result), (Type::ANSWER, seq, 0));
        assert_eq!(outcome.body, "\x04all");
    }
}

#[tokio::test]
async fn a_subscriber_that_refuses_is_101_with_an_empty_body() {
    let mesh = Mesh::line(2).await;
    let mut refusing = subscriber(&mesh, 1, &["t"]).await;
    let mut asking = subscriber(&mesh, 0, &[]).await;
    wait::until("the topic", async || mesh.knows(0, "t").await).await;
    let seq = asking.seq();
    asking.send(message(Type::UNICAST, seq, "t", "x")).await;
    let push = refusing.receive().await;
    refusing.send(Encoded::new(Type::ANSWER, push.seq, -3, b"\x02tno", Bytes::new())).await;
    let outcome = asking.receive().await;
    assert_eq!((outcome.seq, outcome.result, outcome.body.len()), (seq, 101, 0));
}

#[tokio::test]
async fn malformed_and_empty_topics_are_100_with_an_empty_body() {
    let mesh = Mesh::line(2).await;
    let _server = Served::echo(mesh.client(1).await, "t").await;
    let mut client = subscriber(&mesh, 0, &[]).await;
    let bad = [&b""[..], b"\0t", b"\x01t", b"\x20t", b"\x03a\tb", b"\x03\xff\xfe", b"\x10_block_notify_1x"];
    for body in bad.into_iter().chain([&b"\x07nobody"[..]]) {
        for kind in [Type::UNICAST, Type::MULTICAST] {
            let seq = client.seq();
            client.send(Encoded::new(kind, seq, 0, body, Bytes::new())).await;
            let outcome = client.receive().await;
            assert_eq!((outcome.kind, outcome.seq), (Type::ANSWER, seq));
            assert_eq!((outcome.result, outcome.body.len()), (100, 0), "{body:?}");
        }
    }
    let seq = client.seq();
    client.send(message(Type::UNICAST, seq, "t", "still fine")).await;
    assert_eq!(client.receive().await.body, "\x02tstill fine");
}

#[tokio::test]
async fn relayed_nodes_are_listed_with_their_topics() {
    let mesh = Mesh::line(3).await;
    let _far = subscriber(&mesh, 2, &["far", "_block_notify_1"]).await;
    let mut client = subscriber(&mesh, 0, &["near"]).await;
    wait::until("the far topic", async || mesh.knows(0, "far").await).await;
    let peers = client.rpc("getPeers", "[1]").await;
    let mut listed: Vec<_> = peers
        .as_array()
        .expect("a list")
        .iter()
        .map(|peer| (&peer["Node"], &peer["Agency"], &peer["Topic"]))
        .collect();
    listed.sort_by_key(|(name, ..)| name.to_string());
    assert_eq!(json!(listed), json!([["node-1", "bank-1", []], ["node-2", "bank-2", ["far"]]]));
    assert_eq!(client.rpc("getNodeInfo", "[]").await["Node"], "node-0");
    assert_eq!(client.rpc("getNodeIDList", "[1]").await.as_array().map(Vec::len), Some(3));
}
