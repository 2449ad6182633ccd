//! What is tried against our SDK: by clients that are not trusted, and by ends that pass on to others
//! what was meant for them.

use amop_client::{Compatibility, ErrorKind, PrivateTopic};

use super::{
    sdk::{V2, serve, subscribe, topic, verified},
    *,
};

const OTHER: &str = "#!$TopicNeedVerify_other";
const OTHER_PUSH: &str = "#!$PushChannel_#!$TopicNeedVerify_other";

/// Puts this before the subscriber that a publisher was asked about: what it signed, if it did.
async fn have_signed(publisher: &mut Plain, channel: &str, payload: &[u8]) -> Option<Bytes> {
    let seq = publisher.seq();
    publisher.send(message(Type::UNICAST, seq, channel, Bytes::copy_from_slice(payload))).await;
    let answer = next(publisher, Type::ANSWER).await;
    assert_eq!(answer.seq, seq);
    assert!(answer.result == 0 || answer.result == 101, "{answer:?}");
    (answer.result == 0).then(|| read(&answer).1)
}

/// The next frame of this kind; questions that are put again, and replies, are passed over.
async fn next(client: &mut Plain, kind: Type) -> Frame {
    loop {
        let frame = client.receive().await;
        if frame.kind == kind {
            return frame;
        }
        assert!(frame.kind == Type::VERIFY || frame.kind == Type::HEARTBEAT, "{frame:?}");
    }
}

/// What a subscriber of 2.x is challenged with: it takes offers for challenges. On a busy machine there may be several,
/// since a question that has waited for a second is put again.
async fn challenged(subscriber: &mut Plain) -> Frame {
    loop {
        let frame = next(subscriber, Type::UNICAST).await;
        if !read(&frame).1.starts_with(b"amop/private/2\n") {
            return frame;
        }
        subscriber.send(message(Type::ANSWER, frame.seq, &channel(1), vec![7; 65])).await;
    }
}

/// What a key for a blockchain account must not sign, and what no handshake asks for.
#[tokio::test]
async fn nothing_but_a_challenge_is_signed() {
    let mut transaction = vec![0xc0 + 15];
    transaction.extend([0x80; 15]);
    let refused: [&[u8]; 8] = [
        b"",
        &[0x11; 32],
        &transaction,
        b"\x19Ethereum Signed Message:\n32",
        &[b'0'; 64],
        &[4; 17],
        b"amop/private/2\n",
        b"amop/private/2\n\x0a\x02\x0a\x00",
    ];
    let go: &[u8] = &[3; 17];
    let java: &[u8] = b"0123456789abcdef0123456789abcdef";
    for (how, signs) in
        [(V2, [false, false]), (Compatibility::Strict, [false, true]), (Compatibility::All, [true; 2])]
    {
        let mesh = Mesh::line(2).await;
        let mut evil = publisher(&mesh, 0).await;
        let _subscription = subscribe(&mesh.client(1).await, &key(), how).await;
        let channel = evil.asked().await.channel.to_string();
        for payload in refused {
            assert_eq!(have_signed(&mut evil, &channel, payload).await, None, "{how:?}: {payload:?}");
        }
        for (payload, signs) in [go, java].into_iter().zip(signs) {
            let signed = have_signed(&mut evil, &channel, payload).await;
            assert_eq!(signed.map(|signature| signature.len()), signs.then_some(65), "{how:?}: {payload:?}");
        }
    }
}

/// Who has no key passes the publisher's offer on to one who has, as a publisher itself, for the same
/// topic and for another, beside the publisher and elsewhere; and answers with what it is given, then
/// and again. In the handshake of 2.x that works, which is why both ends must allow it.
#[tokio::test]
async fn what_is_passed_on_to_the_holder_of_the_key_proves_nothing() {
    for (node, push, of) in [(0, PUSH, TOPIC), (1, PUSH, TOPIC), (2, OTHER_PUSH, OTHER)] {
        let mesh = Mesh::line(3).await;
        let key = key();
        let honest = mesh.client(2).await;
        let till = serve(subscribe(&honest, &key, V2).await, "till");
        let _other = honest.subscribe_private(OTHER, key.clone(), V2).await.expect("subscribed");
        let prices = topic(&mesh.client(0).await, &[&key], V2).await;
        verified(&prices, 1).await;

        let mut oracle = client(&mesh, node, &[push]).await;
        let inquiry = oracle.asked().await;
        assert_eq!(inquiry.topic.as_str(), of);
        let mut thief = subscriber(&mesh, node, 1).await;
        let offer = thief.receive().await;
        let proof =
            have_signed(&mut oracle, inquiry.channel.as_str(), &read(&offer).1).await.expect("a proof");
        let mut asked = offer.seq;
        for failed in 1..=2 {
            thief.send(message(Type::ANSWER, asked, &channel(failed), proof.clone())).await;
            wait::until("the failure", async || {
                mesh.nodes[0].counted("private_failed").await == u64::from(failed)
            })
            .await;
            if failed == 1 {
                let topics = serde_json::json!([TOPIC, channel(2)]).to_string();
                let seq = thief.seq();
                thief.send(Encoded::new(Type::TOPICS, seq, 0, &[], topics.into())).await;
                asked = next(&mut thief, Type::UNICAST).await.seq;
            }
        }
        for _ in 0..4 {
            assert_eq!(prices.request("quote").await.as_deref(), Ok(&b"till:quote"[..]));
        }
        till.abort();
    }
}

/// The handshake of 2.x cannot tell: docs/security.md says so.
#[tokio::test]
async fn in_2x_whoever_can_have_a_challenge_signed_is_taken_for_the_holder() {
    for (how, fooled) in [(Compatibility::All, true), (V2, false)] {
        let mesh = Mesh::line(2).await;
        let key = key();
        let _held = subscribe(&mesh.client(1).await, &key, how).await;
        let mut oracle = publisher(&mesh, 0).await;
        let way = oracle.asked().await.channel.to_string();
        let mut thief = subscriber(&mesh, 0, 1).await;
        oracle.asked().await;
        let prices = topic(&mesh.client(0).await, &[&key], Compatibility::All).await;
        let challenge = challenged(&mut thief).await;
        let signature = have_signed(&mut oracle, &way, &read(&challenge).1).await;
        assert_eq!(signature.is_some(), fooled);
        thief.send(message(Type::ANSWER, challenge.seq, &channel(1), signature.unwrap_or_default())).await;
        let counted = if fooled { "private_verified" } else { "private_failed" };
        wait::until("the verdict", async || mesh.nodes[0].counted(counted).await >= 1).await;
        assert_eq!(prices.is_encrypted(), !fooled);
    }
}

/// A publisher that asks for no proof is one that the subscriber has given none.
#[tokio::test]
async fn what_was_not_encrypted_is_not_taken() {
    let mesh = Mesh::line(2).await;
    let key = key();
    let till = serve(subscribe(&mesh.client(1).await, &key, V2).await, "till");
    let mut evil = publisher(&mesh, 0).await;
    let inquiry = evil.asked().await;
    evil.decide(&inquiry, true).await;
    let mut sealed = vec![2; 41];
    sealed[17..25].copy_from_slice(&1_u64.to_be_bytes());
    for payload in ["plain text", std::str::from_utf8(&sealed).expect("ASCII")] {
        assert_eq!(evil.result_of(Type::UNICAST, TOPIC, payload).await, 101);
    }
    // Nobody says that it has arrived.
    assert_eq!(evil.result_of(Type::MULTICAST, TOPIC, "plain text").await, 100);
    let prices = topic(&mesh.client(0).await, &[&key], V2).await;
    verified(&prices, 1).await;
    prices.publish("end").await.expect("handed");
    assert_eq!(wait::within("the end", till).await.expect("no panic").len(), 1);
}

/// Whoever was taken off the list may come again as often as it likes.
#[tokio::test]
async fn who_subscribes_again_after_its_key_was_taken_back_gets_nothing() {
    let mesh = Mesh::line(2).await;
    let (stays, goes) = (key(), key());
    let prices = topic(&mesh.client(0).await, &[&stays, &goes], V2).await;
    let first = mesh.client(1).await;
    let _first = subscribe(&first, &goes, V2).await;
    verified(&prices, 1).await;
    prices.set_keys([stays.public()]).await.expect("changed");
    assert_eq!(nobody(&prices).await, ErrorKind::NoPath);
    for n in 1..=2 {
        let again = mesh.client(1).await;
        let _again = subscribe(&again, &goes, V2).await;
        wait::until("the failure", async || mesh.nodes[0].counted("private_failed").await == n).await;
        assert_eq!(nobody(&prices).await, ErrorKind::NoPath);
    }
}

async fn nobody(prices: &PrivateTopic) -> ErrorKind {
    prices.request("quote").await.expect_err("nobody may have it").kind()
}
