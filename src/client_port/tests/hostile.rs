//! Clients that break rules, do not read, or should not be here.

use rustls::ClientConnection;

use super::*;
use crate::client_port::metrics::{CloseLabels, CloseReason, HandshakeFailure, HandshakeLabels};

fn closed(bed: &Bed, reason: CloseReason) -> u64 {
    bed.metrics().closed.get_or_create(&CloseLabels { reason }).get()
}

fn failed(bed: &Bed, reason: HandshakeFailure) -> u64 {
    bed.metrics().handshakes_failed.get_or_create(&HandshakeLabels { reason }).get()
}

#[tokio::test]
async fn a_bad_length_closes_the_session_before_anything_is_buffered() {
    let bed = Bed::new(|_| {}).await;
    for length in [0, 41, 100 * 1024 * 1024 + 1, u32::MAX] {
        let mut client = bed.client().await;
        client.send_raw(&length.to_be_bytes()).await;
        assert_eq!(client.try_receive().await, None, "{length}");
    }
    until("counted", || closed(&bed, CloseReason::Protocol) == 4).await;
    let mut honest = bed.client().await;
    assert_eq!(honest.ask(Type::HEARTBEAT, "0").await.body, "1", "others do not notice");
}

#[tokio::test]
async fn incomplete_frames_share_a_bounded_room() {
    let bed = Bed::new(|config| config.max_partial_bytes = 1_000_000).await;
    let mut honest = bed.client().await;
    let mut greedy = bed.client().await;
    let mut frame = BytesMut::new();
    message(Type::UNICAST, 1, "t", vec![0; 5_000_000]).put(&mut frame);
    frame.truncate(2_000_000);
    // The node closes while this is being written.
    let _ = greedy.tls.write_all(&frame).await;
    until("closed", || closed(&bed, CloseReason::Memory) == 1).await;
    assert_eq!(honest.ask(Type::HEARTBEAT, "0").await.body, "1");
}

#[tokio::test]
async fn unknown_types_are_ignored_and_counted() {
    let bed = Bed::new(|_| {}).await;
    let mut client = bed.client().await;
    for kind in [0x00, 0x11, 0x33, 0x0400, 0x0402, 0x04ff, 0x1000, 0x1001, 0xffff] {
        client.send(Encoded::new(Type(kind), Seq([b'1'; 32]), 0, b"whatever", Bytes::new())).await;
    }
    client.send(Encoded::new(Type::ANSWER, Seq([0xff; 32]), 0, b"", Bytes::new())).await;
    for kind in [Type::VERIFY, Type::VERIFIED] {
        client.send(Encoded::empty(kind, Seq([b'1'; 32]), 0)).await;
    }
    assert_eq!(client.ask(Type::HEARTBEAT, "0").await.body, "1");
    let count = |reason| bed.metrics().ignored.get_or_create(&metrics::IgnoredLabels { reason }).get();
    assert_eq!((count("unknown_type"), count("unknown_answer")), (9, 1));
    assert_eq!(
        (count("verification"), count("malformed")),
        (1, 1),
        "an acknowledgement, and an empty verdict"
    );
}

/// With TLS 1.3 a refused client believes for a moment that it is in; it must find out.
async fn is_refused(bed: &Bed, leaf: Option<&Leaf>) -> bool {
    let Ok(tls) = bed.connect(client_config(leaf, &[&rustls::version::TLS13])).await else { return true };
    Client { tls, input: BytesMut::new() }.try_receive().await.is_none()
}

#[tokio::test]
async fn only_clients_of_the_consortium_get_in() {
    let bed = Bed::new(|_| {}).await;
    let stranger = Consortium::new().institution("bank-a").client("till");
    let node = bed.bank.node("node-2");
    let expired = bed.bank.leaf("till", "client").expired().build();
    for leaf in [None, Some(&stranger), Some(&node), Some(&expired)] {
        assert!(is_refused(&bed, leaf).await);
    }
    until("counted", || failed(&bed, HandshakeFailure::Failed) == 4).await;
    assert!(bed.broker.state.lock().opened.is_empty());
    let other_bank = bed.consortium.institution("bank-b").client("desk");
    let mut client = bed.client_as(&other_bank, &[&rustls::version::TLS13]).await;
    client.ask(Type::HEARTBEAT, "0").await;
    let info = bed.broker.state.lock().opened[0].clone();
    assert_eq!((&*info.client.name, &*info.institution), ("desk", "bank-b"));
    assert_eq!(info.client.fingerprint, crate::identity::fingerprint(&other_bank.chain()[0]));
}

#[tokio::test]
async fn a_full_port_refuses_and_takes_again_when_somebody_leaves() {
    let bed = Bed::new(|config| config.max_clients = 1).await;
    let leaf = bed.bank.client("till");
    let mut first = bed.client().await;
    first.ask(Type::HEARTBEAT, "0").await;
    assert!(is_refused(&bed, Some(&leaf)).await);
    drop(first);
    until("left", || bed.broker.state.lock().closed.len() == 1).await;
    until("room", || bed.metrics().open.get() == 0).await;
    let started = Instant::now();
    loop {
        let mut client = bed.client().await;
        client.send(Encoded::new(Type::HEARTBEAT, Seq([b'1'; 32]), 0, b"0", Bytes::new())).await;
        if client.try_receive().await.is_some() {
            break;
        }
        assert!(started.elapsed() < DEADLINE);
    }
}

#[tokio::test]
async fn of_too_many_unfinished_handshakes_the_oldest_gives_way() {
    let bed = Bed::new(|config| {
        config.max_handshakes = 2;
        config.handshake_timeout = DEADLINE;
    })
    .await;
    let mut half_open = Vec::new();
    for n in 1..=3 {
        half_open.push(TcpStream::connect(bed.address()).await.expect("connected"));
        until("accepted", || bed.metrics().accepted.get() == n).await;
    }
    let read = tokio::time::timeout(DEADLINE, half_open[0].read(&mut [0; 9])).await;
    assert!(matches!(read, Ok(Ok(0) | Err(_))), "the oldest is closed");
    until("counted", || failed(&bed, HandshakeFailure::Evicted) == 1).await;
    // An honest client gets in past those that remain.
    let mut client = bed.client().await;
    assert_eq!(client.ask(Type::HEARTBEAT, "0").await.body, "1");
}

#[tokio::test]
async fn an_unfinished_handshake_ends_in_time() {
    let bed = Bed::new(|config| config.handshake_timeout = Duration::from_millis(50)).await;
    let mut half_open = TcpStream::connect(bed.address()).await.expect("connected");
    let read = tokio::time::timeout(DEADLINE, half_open.read(&mut [0; 9])).await;
    assert!(matches!(read, Ok(Ok(0) | Err(_))));
    until("counted", || failed(&bed, HandshakeFailure::TimedOut) == 1).await;
}

#[tokio::test]
async fn a_multicast_to_a_client_that_does_not_read_closes_it_and_harms_nobody() {
    let bed = Bed::new(|config| config.max_queued_bytes = 2_000_000).await;
    let _slow = bed.subscriber(&["t"]).await;
    let mut reader = bed.subscriber(&["t"]).await;
    let mut publisher = bed.subscriber(&[]).await;
    let mut sent = 0;
    while closed(&bed, CloseReason::Slow) == 0 {
        publisher.send(message(Type::MULTICAST, sent, "t", vec![7; 500_000])).await;
        assert_eq!(reader.receive().await.body.len(), 500_002);
        assert_eq!(publisher.receive().await.result, 0, "the reader was handed it");
        sent += 1;
        assert!(sent < 1000, "the slow one is never closed");
    }
    until("closed", || bed.broker.state.lock().closed.len() == 1).await;
    let state = bed.broker.state.lock();
    let lost = state.pushed.iter().filter(|result| result.is_err()).count();
    assert!(lost > 0, "what was queued for it is reported");
    assert!(bed.metrics().pushes_refused.get() >= 1);
}

#[tokio::test]
async fn a_unicast_to_a_full_queue_is_refused_and_the_session_stays() {
    let bed = Bed::new(|config| config.max_queued_bytes = 2_000_000).await;
    let slow = bed.subscriber(&["t"]).await;
    let mut publisher = bed.subscriber(&[]).await;
    let mut sent = 0;
    while bed.metrics().pushes_refused.get() == 0 {
        publisher.send(message(Type::UNICAST, sent, "t", vec![7; 500_000])).await;
        sent += 1;
        let published = || bed.broker.published.load(Ordering::SeqCst) as u128 == sent;
        until("handled", published).await;
        assert!(sent < 1000);
    }
    assert_eq!(publisher.receive().await.result, 100, "the test's broker has no other code");
    assert!(bed.broker.state.lock().closed.is_empty());
    drop(slow);
}

#[tokio::test]
async fn a_client_that_asks_without_reading_is_closed() {
    let bed = Bed::new(|config| config.max_queued_bytes = 100_000).await;
    let mut client = bed.subscriber(&[]).await;
    let mut asks = BytesMut::new();
    for _ in 0..1000 {
        Encoded::empty(Type::HEARTBEAT, Seq([b'1'; 32]), 0).put(&mut asks);
    }
    for _ in 0..100_000 {
        if closed(&bed, CloseReason::Slow) == 1 || client.tls.write_all(&asks).await.is_err() {
            break;
        }
    }
    until("closed", || closed(&bed, CloseReason::Slow) == 1).await;
}

/// Reads TLS records one by one, as they are on the wire.
struct Records {
    tcp: TcpStream,
    tls: ClientConnection,
}

impl Records {
    async fn new(bed: &Bed) -> Self {
        let config = client_config(Some(&bed.bank.client("old")), &[&rustls::version::TLS12]);
        let name = ServerName::try_from("localhost").expect("a name");
        let tls = ClientConnection::new(Arc::new(config), name).expect("a client");
        let mut records = Self { tcp: TcpStream::connect(bed.address()).await.expect("connected"), tls };
        while records.tls.is_handshaking() {
            records.flush().await;
            if records.tls.is_handshaking() {
                records.plaintext_of_next().await;
            }
        }
        records
    }

    async fn flush(&mut self) {
        let mut out = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut out).expect("a vector grows");
        }
        self.tcp.write_all(&out).await.expect("written");
    }

    async fn send(&mut self, frame: Encoded) {
        let mut bytes = Vec::new();
        frame.put(&mut bytes);
        std::io::Write::write_all(&mut self.tls.writer(), &bytes).expect("buffered");
        self.flush().await;
    }

    async fn plaintext_of_next(&mut self) -> Vec<u8> {
        let mut record = vec![0; 5];
        tokio::time::timeout(DEADLINE, self.tcp.read_exact(&mut record))
            .await
            .expect("in time")
            .expect("a record");
        let len = usize::from(u16::from_be_bytes([record[3], record[4]]));
        record.resize(5 + len, 0);
        self.tcp.read_exact(&mut record[5..]).await.expect("a whole record");
        let mut rest = &record[..];
        let mut there = 0;
        while !rest.is_empty() {
            self.tls.read_tls(&mut rest).expect("taken");
            there = self.tls.process_new_packets().expect("a good record").plaintext_bytes_to_read();
        }
        let mut plaintext = vec![0; there];
        std::io::Read::read_exact(&mut self.tls.reader(), &mut plaintext).expect("there");
        plaintext
    }
}

#[tokio::test]
async fn no_tls_record_holds_bytes_of_two_frames() {
    let bed = Bed::new(|_| {}).await;
    let mut old = Records::new(&bed).await;
    old.send(Encoded::new(Type::TOPICS, Seq([b'1'; 32]), 0, b"[\"t\"]", Bytes::new())).await;
    old.send(Encoded::new(Type::HEARTBEAT, Seq([b'1'; 32]), 0, b"0", Bytes::new())).await;
    assert_eq!(old.plaintext_of_next().await.len(), 43);
    let mut publisher = bed.subscriber(&[]).await;
    let sizes: Vec<usize> = (0..200).map(|n| if n % 50 == 0 { 40_000 } else { n }).collect();
    let mut all = BytesMut::new();
    for (seq, size) in sizes.iter().enumerate() {
        message(Type::MULTICAST, seq as u128, "t", vec![7; *size]).put(&mut all);
    }
    publisher.send_raw(&all).await;
    for size in sizes {
        let (len, mut got) = (44 + size, 0);
        while got < len {
            let plaintext = old.plaintext_of_next().await;
            if got == 0 {
                assert!(plaintext.len() >= len.min(16_384), "a small frame comes in one record");
                assert_eq!(plaintext[..4], (len as u32).to_be_bytes(), "a record begins with a frame");
            }
            got += plaintext.len();
        }
        assert_eq!(got, len, "a record ends with its frame");
    }
}
