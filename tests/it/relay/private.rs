//! What a relay reads of private topics.

use amop_client::{Compatibility, PrivateKey};
use amop_protocol::wire::channel::Type;
use futures::StreamExt;

use super::*;
use crate::mesh::{Plain, message, spawn};

const SECRET: &[u8] = b"the secret price";

fn reads_secret(relay: &Relay) -> bool {
    let holds = |bytes: &Bytes| bytes.windows(SECRET.len()).any(|window| window == SECRET);
    relay.passed().iter().any(|passing| holds(&passing.frame.payload) || holds(&passing.frame.header))
}

#[tokio::test]
async fn a_relay_finds_no_plaintext() {
    let (mesh, relay) = line(Duration::from_secs(30)).await;
    let (desk, till) = (mesh.client(0).await, mesh.client(1).await);
    let key = PrivateKey::generate().expect("randomness");
    let how = Compatibility::Version2;
    let mut subscription = till.subscribe_private("prices", key.clone(), how).await.expect("subscribed");
    let echo = spawn(async move {
        while let Some(delivery) = subscription.next().await {
            assert_eq!(&delivery.payload[..], SECRET);
            let answer = delivery.payload.clone();
            delivery.answer(answer);
        }
    });
    let prices = desk.private_topic("prices", [key.public()], how).await.expect("a topic");
    wait::within("the verification", prices.verified()).await;
    assert_eq!(prices.request(SECRET).await.as_deref(), Ok(SECRET));
    prices.publish(SECRET).await.expect("handed");
    assert!(relay.passed().iter().filter(|passing| is_message(&passing.frame)).count() >= 4);
    assert!(!reads_secret(&relay));
    // That it would find any.
    let _served = Served::echo(till, "ordinary").await;
    assert_eq!(desk.request("ordinary", SECRET).await.as_deref(), Ok(SECRET));
    assert!(reads_secret(&relay));
    echo.abort();
}

/// The proof that the holder of the key gave to this very publisher, for this very topic, seen on its
/// way: presented again it answers another offer than was made.
#[tokio::test]
async fn a_proof_that_a_relay_saw_is_worth_nothing_again() {
    const PRIVATE: &str = "#!$TopicNeedVerify_prices";
    const CHANNEL: &str = "#!$VerifyChannel_#!$TopicNeedVerify_prices_00000000000000000000000000000001";
    let (mesh, relay) = line(Duration::from_secs(30)).await;
    let (key, how) = (PrivateKey::generate().expect("randomness"), Compatibility::Version2);
    let desk = mesh.client(0).await;
    let prices = desk.private_topic("prices", [key.public()], how).await.expect("a topic");
    let till = mesh.client(1).await;
    let _held = till.subscribe_private("prices", key, how).await.expect("subscribed");
    wait::within("the verification", prices.verified()).await;
    let proof = relay.passed().into_iter().map(|passing| passing.frame.payload).find(is_proof);
    let proof = proof.expect("the proof went over the relay");
    for node in [0, 1] {
        let at = &mesh.nodes[node];
        let leaf = at.institution.client("thief");
        let mut thief = Plain::subscriber(at.addresses.channel, &leaf, &[PRIVATE, CHANNEL]).await;
        let offer = thief.receive().await;
        assert_eq!(offer.kind, Type::UNICAST);
        thief.send(message(Type::ANSWER, offer.seq, CHANNEL, proof.clone())).await;
        wait::until("the failure", async || mesh.nodes[0].counted("private_failed").await == node as u64 + 1)
            .await;
    }
    assert_eq!(mesh.nodes[0].counted("private_verified").await, 1);
}

fn is_proof(payload: &Bytes) -> bool {
    let step = payload.strip_prefix(b"amop/private/2\n").and_then(|step| pb::PrivateStep::decode(step).ok());
    matches!(step.and_then(|step| step.step), Some(pb::private_step::Step::Proof(_)))
}
