//! What a relay reads of private topics.

use amop_client::{Compatibility, PrivateKey};
use futures::StreamExt;

use super::*;
use crate::mesh::spawn;

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
