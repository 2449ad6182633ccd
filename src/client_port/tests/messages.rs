//! Messages between clients, in the frames that each kind of client reads.

use amop_protocol::{
    Retry, Status,
    wire::extension::{FromClient, FromNode},
};

use super::*;

#[tokio::test]
async fn a_unicast_is_answered_by_its_subscriber() {
    let bed = Bed::new(|_| {}).await;
    let mut subscriber = bed.subscriber(&["t"]).await;
    let mut publisher = bed.subscriber(&["t"]).await;
    for (answer, expected) in [
        (&b"\x02tok"[..], &b"\x02tok"[..]),
        (b"\x04xyzok", b"\x04xyzok"),
        (b"", b""),
        (b"\x09x", b"\x02t\x09x"),
        (b"\0x", b"\x02t\0x"),
    ] {
        publisher.send(message(Type::UNICAST, 77, "t", "question")).await;
        let push = subscriber.receive().await;
        assert_eq!((push.kind, &push.body[..]), (Type::UNICAST, &b"\x02tquestion"[..]));
        assert_ne!(push.seq, Seq::from_u128(77), "pushes carry seqs of their own");
        subscriber.send(Encoded::new(Type::ANSWER, push.seq, 0, answer, Bytes::new())).await;
        let outcome = publisher.receive().await;
        assert_eq!((outcome.kind, outcome.seq, outcome.result), (Type::ANSWER, Seq::from_u128(77), 0));
        assert_eq!(&outcome.body[..], expected);
    }
    until("told", || bed.broker.state.lock().pushed.len() == 5).await;
    assert!(bed.broker.state.lock().pushed.iter().all(Result::is_ok));
}

#[tokio::test]
async fn a_refusal_and_an_absence_come_back_with_an_empty_body() {
    let bed = Bed::new(|_| {}).await;
    let mut subscriber = bed.subscriber(&["t"]).await;
    let mut publisher = bed.subscriber(&[]).await;
    publisher.send(message(Type::UNICAST, 1, "t", "x")).await;
    let push = subscriber.receive().await;
    subscriber.send(Encoded::new(Type::ANSWER, push.seq, -5, b"\x02tno", Bytes::new())).await;
    let outcome = publisher.receive().await;
    assert_eq!((outcome.result, outcome.body.len()), (101, 0));
    publisher.send(message(Type::UNICAST, 2, "nobody", "x")).await;
    let outcome = publisher.receive().await;
    assert_eq!((outcome.result, outcome.body.len()), (100, 0));
}

#[tokio::test]
async fn a_multicast_reaches_all_others_and_its_outcome_names_the_topic() {
    let bed = Bed::new(|_| {}).await;
    let mut subscribers = [bed.subscriber(&["t"]).await, bed.subscriber(&["t"]).await];
    let mut publisher = bed.subscriber(&["t"]).await;
    publisher.send(message(Type::MULTICAST, 8, "t", "all")).await;
    for subscriber in &mut subscribers {
        let push = subscriber.receive().await;
        assert_eq!((push.kind, &push.body[..]), (Type::MULTICAST, &b"\x02tall"[..]));
    }
    let outcome = publisher.receive().await;
    assert_eq!((outcome.kind, outcome.result, &outcome.body[..]), (Type::ANSWER, 0, &b"\x02t"[..]));
}

#[tokio::test]
async fn sends_that_cannot_be_read_are_answered_100_and_empty() {
    let bed = Bed::new(|_| {}).await;
    let mut client = bed.client().await;
    for body in
        [&b""[..], b"\0abc", b"\x20abc", b"\x01x", b"\x03a\tb", b"\x03\xff\xfe", b"\x10_block_notify_1x"]
    {
        for kind in [Type::UNICAST, Type::MULTICAST] {
            client.send(Encoded::new(kind, Seq([b'7'; 32]), 0, body, Bytes::new())).await;
            let outcome = client.receive().await;
            assert_eq!((outcome.kind, outcome.seq), (Type::ANSWER, Seq([b'7'; 32])));
            assert_eq!((outcome.result, outcome.body.len()), (100, 0), "{body:?}");
        }
    }
    assert_eq!(bed.broker.published.load(Ordering::SeqCst), 0);
    use amop_protocol::Cause;
    let refused = |cause| bed.metrics().sends_refused.of(cause).get();
    assert_eq!([Cause::BadTopic, Cause::ReservedTopic, Cause::ClientQuota].map(refused), [12, 2, 0]);
}

#[tokio::test]
async fn an_extension_client_reads_extension_frames_and_a_2x_client_never() {
    let bed = Bed::new(|_| {}).await;
    let mut plain = bed.subscriber(&["plain"]).await;
    let mut extended = bed.client().await;
    extended.extend().await;
    extended.report(&["extended"]).await;

    plain.send(message(Type::UNICAST, 1, "extended", "hi")).await;
    let frame = extended.receive().await;
    let Ok(FromNode::Deliver { mode, topic, sender, payload, .. }) = FromNode::decode(&frame) else {
        panic!("{frame:?} is no delivery");
    };
    assert_eq!((mode, topic.as_str(), &payload[..]), (Mode::Unicast, "extended", &b"hi"[..]));
    assert_eq!((&*sender.client.name, &*sender.institution), ("till", "bank-a"));
    let payload = Bytes::from_static(b"ho");
    extended.send(FromClient::Answer { result: 0, payload: payload.clone() }.encode(frame.seq)).await;
    let outcome = plain.receive().await;
    assert_eq!((outcome.kind, outcome.result, &outcome.body[..]), (Type::ANSWER, 0, &b"\x09extendedho"[..]));

    let (mode, topic) = (Mode::Unicast, Topic::parse("plain").expect("a topic"));
    let publish =
        FromClient::Publish { mode, topic, deadline: None, wishes: None, payload: Bytes::from_static(b"yo") };
    extended.send(publish.encode(Seq::from_u128(2))).await;
    let push = plain.receive().await;
    assert_eq!((push.kind, &push.body[..]), (Type::UNICAST, &b"\x06plainyo"[..]));
    plain.send(Encoded::new(Type::ANSWER, push.seq, 0, b"\x06plainho", Bytes::new())).await;
    let (status, cause) = (Status::Success, Cause::Delivered);
    let (retry, hop) = (Retry::Never, None);
    let expected = FromNode::PublishResult { status, cause, retry_after: None, retry, hop, payload };
    assert_eq!(FromNode::decode(&extended.receive().await), Ok(expected));

    // Without the handshake the same frame is one of unknown type.
    plain.send(FromClient::Subscribe { topics: vec![] }.encode(Seq::from_u128(3))).await;
    assert_eq!(plain.ask(Type::HEARTBEAT, "").await.kind, Type::HEARTBEAT);
}

#[tokio::test]
async fn sends_without_an_outcome_are_bounded_per_client() {
    let bed = Bed::new(|config| config.max_in_flight = 3).await;
    let mut client = bed.client().await;
    for seq in 1..=3 {
        client.send(message(Type::UNICAST, seq, "silence", "")).await;
    }
    client.send(message(Type::UNICAST, 4, "silence", "")).await;
    let outcome = client.receive().await;
    assert_eq!((outcome.seq, outcome.result, outcome.body.len()), (Seq::from_u128(4), 103, 0));
    assert_eq!(bed.broker.published.load(Ordering::SeqCst), 3);
    // Another client has room of its own.
    let mut other = bed.client().await;
    other.send(message(Type::UNICAST, 9, "nobody", "")).await;
    assert_eq!(other.receive().await.result, 100);
}

#[tokio::test]
async fn large_frames_pass_whole() {
    let bed = Bed::new(|_| {}).await;
    let mut subscriber = bed.subscriber(&["t"]).await;
    let mut publisher = bed.subscriber(&[]).await;
    let payload: Bytes = (0..20_000_000u32).map(|i| (i % 251) as u8).collect::<Vec<_>>().into();
    let sent = payload.clone();
    let sending = spawn(async move {
        publisher.send(message(Type::UNICAST, 1, "t", sent)).await;
        publisher
    });
    let push = subscriber.receive().await;
    assert!(push.body[2..] == payload[..]);
    let mut publisher = sending.await.expect("sent");
    subscriber.send(Encoded::empty(Type::ANSWER, push.seq, 0)).await;
    assert_eq!(publisher.receive().await.result, 0);
    until("nothing is held", || bed.metrics().partial_bytes.get() == 0).await;
}
