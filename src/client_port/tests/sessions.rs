//! Start-up, handshake, heartbeats, subscriptions, the end.

use amop_protocol::wire::extension::{FromClient, FromNode};

use super::*;

#[tokio::test]
async fn an_sdk_gets_its_start_up_answers() {
    let bed = Bed::new(|config| config.startup.groups = vec![1]).await;
    for versions in [&[&rustls::version::TLS12][..], &[&rustls::version::TLS13]] {
        let mut client = bed.client_as(&bed.bank.client("till"), versions).await;
        let call = |method: &str| format!(r#"{{"jsonrpc":"2.0","id":7,"method":"{method}"}}"#);
        let version = client.ask(Type::JSON_RPC, call("getClientVersion")).await;
        let version: serde_json::Value = serde_json::from_slice(&version.body).expect("JSON");
        assert_eq!(version["result"]["Supported Version"], "2.10.0");
        let groups = client.ask(Type::JSON_RPC, call("getGroupList")).await;
        assert_eq!(groups.body, "{\"id\":7,\"jsonrpc\":\"2.0\",\"result\":[1]}\n");
        let reply = client.ask(Type::HANDSHAKE, r#"{"minimumSupport":1,"maximumSupport":3}"#).await;
        assert_eq!(reply.body, "{\"nodeVersion\":\"2.10.0\",\"protocol\":3}\n");
        let info = client.ask(Type::JSON_RPC, call("getNodeInfo")).await;
        let info: serde_json::Value = serde_json::from_slice(&info.body).expect("JSON");
        assert_eq!(info["result"]["Node"], "node-1");
        for kind in [Type::EVENT_REGISTER, Type::EVENT_UNREGISTER] {
            assert_eq!(client.ask(kind, b"\x01{}").await.body, &b"\x01{\"result\":-41002}\n"[..]);
        }
    }
}

#[tokio::test]
async fn heartbeats_follow_the_version() {
    let bed = Bed::new(|_| {}).await;
    let mut client = bed.client().await;
    // Version 1: the empty one gets no reply, so the next reply is the digit's.
    client.send(Encoded::empty(Type::HEARTBEAT, Seq([b'0'; 32]), 0)).await;
    assert_eq!(client.ask(Type::HEARTBEAT, "0").await.body, "1");
    client.handshake().await;
    assert_eq!(client.ask(Type::HEARTBEAT, "").await.body, "{\"heartBeat\":1}\n");
    assert_eq!(bed.metrics().ignored.get_or_create(&metrics::IgnoredLabels { reason: "heartbeat" }).get(), 1);
}

#[tokio::test]
async fn without_a_common_version_the_session_is_closed_without_reply() {
    let bed = Bed::new(|_| {}).await;
    let mut client = bed.client().await;
    let body = br#"{"minimumSupport":4,"maximumSupport":5}"#;
    client.send(Encoded::new(Type::HANDSHAKE, Seq([b'1'; 32]), 0, body, Bytes::new())).await;
    assert_eq!(client.try_receive().await, None);
    until("closed", || bed.broker.state.lock().closed.len() == 1).await;
}

#[tokio::test]
async fn topics_are_in_force_before_the_next_frame_is_handled() {
    let bed = Bed::new(|_| {}).await;
    bed.broker.reports.forget_permits(1000);
    let mut client = bed.client().await;
    let mut other = bed.client().await;
    client.send(Encoded::new(Type::TOPICS, Seq([b'1'; 32]), 0, b"[\"t\"]", Bytes::new())).await;
    client.send(message(Type::UNICAST, 1, "elsewhere", "")).await;
    // Meanwhile the node serves others, and writes to this client what others send.
    assert_eq!(other.ask(Type::HEARTBEAT, "0").await.body, "1");
    assert_eq!(bed.broker.published.load(Ordering::SeqCst), 0, "the frame after the report waits");
    bed.broker.reports.add_permits(1);
    assert_eq!(client.receive().await.result, 100);
    assert_eq!(bed.broker.published.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn bad_topics_are_dropped_singly_and_too_many_close() {
    let bed = Bed::new(|config| config.max_topics = 3).await;
    let mut client = bed.subscriber(&["a", "", "b\tc", "c"]).await;
    assert_eq!(bed.broker.state.lock().topics.values().map(BTreeSet::len).sum::<usize>(), 2);
    assert_eq!(bed.metrics().bad_topics.get(), 2);
    // Not JSON: the set stays as it was.
    client.send(Encoded::new(Type::TOPICS, Seq([b'1'; 32]), 0, b"hello", Bytes::new())).await;
    client.ask(Type::HEARTBEAT, "").await;
    assert_eq!(bed.broker.state.lock().topics.values().map(BTreeSet::len).sum::<usize>(), 2);
    let body = br#"["1","2","3","4"]"#;
    client.send(Encoded::new(Type::TOPICS, Seq([b'1'; 32]), 0, body, Bytes::new())).await;
    assert_eq!(client.try_receive().await, None);
}

#[tokio::test]
async fn a_silent_client_is_disconnected_and_a_talking_one_is_not() {
    let bed = Bed::new(|config| config.idle_timeout = Duration::from_millis(1500)).await;
    let (mut silent, mut talking) = (bed.client().await, bed.client().await);
    let ended = spawn(async move { silent.try_receive().await });
    while !ended.is_finished() {
        assert_eq!(talking.ask(Type::HEARTBEAT, "0").await.body, "1");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(ended.await.expect("ran"), None);
    assert_eq!(talking.ask(Type::HEARTBEAT, "0").await.body, "1");
}

#[tokio::test]
async fn sessions_end_in_order_once_their_queues_are_written() {
    let bed = Bed::new(|_| {}).await;
    let mut plain = bed.subscriber(&["t"]).await;
    let mut extended = bed.client().await;
    extended.extend().await;
    let mut publisher = bed.subscriber(&[]).await;
    publisher.send(message(Type::MULTICAST, 1, "t", vec![9; 3_000_000])).await;
    assert_eq!(publisher.receive().await.result, 0);
    bed.port.drain(Duration::from_secs(5));
    let goodbye = FromNode::decode(&extended.receive().await);
    assert_eq!(goodbye, Ok(FromNode::Goodbye { grace: Duration::from_secs(5) }));
    let reading = spawn(async move {
        let first = plain.receive().await;
        (first.body.len(), plain.try_receive().await)
    });
    assert!(bed.port.close(DEADLINE).await, "all sessions ended in time");
    assert_eq!(reading.await.expect("ran"), (3_000_002, None), "all of it, and then the end");
    let state = bed.broker.state.lock();
    assert_eq!((state.opened.len(), state.closed.len()), (3, 3));
    assert_eq!(state.pushed, [Ok(())]);
    assert!(bed.broker.registry.is_empty());
}

#[tokio::test]
async fn after_draining_nobody_gets_in() {
    let bed = Bed::new(|_| {}).await;
    bed.port.drain(Duration::ZERO);
    let started = Instant::now();
    // The listener's task needs a moment to close the socket.
    while TcpStream::connect(bed.address()).await.is_ok() {
        assert!(started.elapsed() < DEADLINE);
    }
    bed.tasks.finish().await;
}

#[tokio::test]
async fn a_subscription_of_an_extension_client_is_acknowledged() {
    let bed = Bed::new(|_| {}).await;
    let mut client = bed.client().await;
    client.extend().await;
    let topics = vec!["a".into(), "b\n".into(), "a".into()];
    client.send(FromClient::Subscribe { topics }.encode(Seq::from_u128(5))).await;
    let frame = client.receive().await;
    assert_eq!(frame.seq, Seq::from_u128(5));
    let expected = FromNode::Subscribed { accepted: 1, refused: vec!["b\n".into()], complete: true };
    assert_eq!(FromNode::decode(&frame), Ok(expected));
}

#[tokio::test]
async fn metrics_are_registered_under_the_ports_prefix() {
    let bed = Bed::new(|_| {}).await;
    let mut client = bed.client().await;
    client.handshake().await;
    let mut registry = prometheus_client::registry::Registry::default();
    bed.metrics().register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("text");
    assert!(text.contains("\nclient_port_open 1\n"), "{text}");
    assert!(text.contains("\nclient_port_frames_received_total 1\n"), "{text}");
}

#[tokio::test]
async fn answers_are_read_while_nothing_can_be_written() {
    let bed = Bed::new(|config| config.max_queued_bytes = 100_000_000).await;
    let mut subscriber = bed.subscriber(&["t"]).await;
    let mut publisher = bed.subscriber(&[]).await;
    // More than all buffers on the way hold, so the writer stands still.
    for seq in 0..20 {
        publisher.send(message(Type::UNICAST, seq, "t", vec![7; 2_000_000])).await;
    }
    until("sent", || bed.broker.published.load(Ordering::SeqCst) == 20).await;
    subscriber.send(Encoded::empty(Type::ANSWER, Seq::from_u128(1), 0)).await;
    let outcome = publisher.receive().await;
    assert_eq!((outcome.seq, outcome.result), (Seq::from_u128(0), 0));
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let bed = Bed::new(|_| {}).await;
    let leaf = bed.bank.node("node-2");
    let tls = credentials(&leaf).client_tls(Clients::OfConsortium);
    let error = Listener::bind(bed.address(), tls).await.err().expect("in use");
    assert!(error.to_string().contains(&bed.address().to_string()), "{error}");
}
