//! How trust ends, and begins again.

use super::*;

/// A publisher at node 0 that has verified a subscriber at node 1.
async fn verified(mesh: &Mesh, key: &PrivateKey) -> (Plain, Plain) {
    let mut desk = publisher(mesh, 0).await;
    let mut till = subscriber(mesh, 1, 1).await;
    assert!(verify(&mut desk, &mut till, key, &[key.public()]).await);
    exchange(&mut desk, &mut till, "quote").await;
    (desk, till)
}

async fn refused(desk: &mut Plain) {
    wait::until("100", async || desk.result_of(Type::UNICAST, TOPIC, "x").await == 100).await;
}

#[tokio::test]
async fn trust_ends_with_the_session_and_with_the_topic() {
    let mesh = Mesh::line(2).await;
    let key = key();
    let (mut desk, mut till) = verified(&mesh, &key).await;
    till.report(&[&channel(1)]).await;
    refused(&mut desk).await;
    till.report(&[TOPIC, &channel(2)]).await;
    assert!(verify(&mut desk, &mut till, &key, &[key.public()]).await, "it has to prove it anew");
    exchange(&mut desk, &mut till, "again").await;
    drop(till);
    wait::until("not 0", async || desk.result_of(Type::UNICAST, TOPIC, "x").await != 0).await;
    refused(&mut desk).await;
    // The same client under the same names is another session.
    let mut till = subscriber(&mesh, 1, 1).await;
    assert!(verify(&mut desk, &mut till, &key, &[key.public()]).await);
    exchange(&mut desk, &mut till, "back").await;
}

/// The Java SDK reports a new channel whenever its topics change.
#[tokio::test]
async fn a_new_channel_takes_no_trust_away() {
    let mesh = Mesh::line(2).await;
    let key = key();
    let (mut desk, mut till) = verified(&mesh, &key).await;
    till.report(&[TOPIC, &channel(2), "other"]).await;
    wait::until("the report", async || mesh.knows(0, "other").await).await;
    exchange(&mut desk, &mut till, "still").await;
}

#[tokio::test]
async fn trust_ends_when_the_publisher_gives_up_or_takes_it_back() {
    let mesh = Mesh::line(2).await;
    let key = key();
    let (mut desk, mut till) = verified(&mesh, &key).await;
    desk.report(&[]).await;
    assert_eq!(desk.result_of(Type::UNICAST, TOPIC, "x").await, 100);
    desk.report(&[PUSH]).await;
    let again = desk.asked().await;
    assert_eq!(desk.result_of(Type::UNICAST, TOPIC, "x").await, 100, "everybody has to prove it anew");
    desk.decide(&again, true).await;
    exchange(&mut desk, &mut till, "again").await;
    desk.decide(&again, false).await;
    assert_eq!(desk.result_of(Type::UNICAST, TOPIC, "x").await, 100);
    assert_eq!(mesh.nodes[0].counted("private_revoked").await, 1);
    assert!(till.is_left_alone().await);
}

#[tokio::test]
async fn a_node_that_starts_anew_is_trusted_with_nothing() {
    let mut mesh = Mesh::line(3).await;
    let key = key();
    let mut desk = publisher(&mesh, 0).await;
    let mut till = subscriber(&mesh, 2, 1).await;
    assert!(verify(&mut desk, &mut till, &key, &[key.public()]).await);
    mesh.abort(2);
    refused(&mut desk).await;
    mesh.restart(2).await;
    mesh.linked().await;
    // Its first session has the number that the verified one had.
    let mut thief = client(&mesh, 2, &[TOPIC]).await;
    refused(&mut desk).await;
    assert!(thief.is_left_alone().await);
    let mut till = subscriber(&mesh, 2, 2).await;
    assert!(verify(&mut desk, &mut till, &key, &[key.public()]).await);
    exchange(&mut desk, &mut till, "back").await;
    assert!(thief.is_left_alone().await);
}

#[tokio::test]
async fn failed_is_not_for_ever() {
    let mesh = Mesh::line(2).await;
    let (right, wrong) = (key(), key());
    let mut desk = publisher(&mesh, 0).await;
    let mut till = subscriber(&mesh, 1, 1).await;
    assert!(!verify(&mut desk, &mut till, &wrong, &[right.public()]).await);
    assert_eq!(desk.result_of(Type::UNICAST, TOPIC, "x").await, 100);
    till.report(&[TOPIC, &channel(2)]).await;
    assert!(verify(&mut desk, &mut till, &right, &[right.public()]).await);
    exchange(&mut desk, &mut till, "now").await;
}
