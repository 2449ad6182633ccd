use std::time::Duration;

use amop_client::{ChainError, Client, ConnectError, DialError};
use tokio::net::TcpListener;

use crate::{
    consortium::Consortium,
    node::{Node, Speaks, within},
};

fn only(error: ConnectError) -> DialError {
    match error {
        ConnectError::Failed(mut failures) if failures.len() == 1 => failures.remove(0).1,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_node_of_another_consortium_is_not_believed() {
    let (ours, other) = (Consortium::new(), Consortium::new());
    let node = Node::start(&other, Speaks::Extended).await;
    let options = ours.options(&[node.address()]);
    let (client, ()) = within(async { tokio::join!(Client::connect(options), node.accept_refusal()) }).await;
    let error = only(client.unwrap_err());
    assert!(matches!(error, DialError::Certificate(ChainError::Signature { .. })), "{error:?}");
    assert!(error.to_string().contains("another consortium"), "{error}");
}

#[tokio::test]
async fn a_client_that_poses_as_a_node_is_not_believed() {
    let consortium = Consortium::new();
    let tls = consortium.server(&consortium.leaf("client", "impostor"));
    let node = Node::with(tls, Speaks::Extended).await;
    let options = consortium.options(&[node.address()]);
    let (client, ()) = within(async { tokio::join!(Client::connect(options), node.accept_refusal()) }).await;
    let error = only(client.unwrap_err());
    assert!(matches!(error, DialError::Certificate(ChainError::Role { .. })), "{error:?}");
}

#[tokio::test]
async fn a_client_the_node_does_not_know_is_told_so() {
    let (ours, other) = (Consortium::new(), Consortium::new());
    // Trusts the right root, but shows a certificate of another consortium.
    std::fs::copy(other.file("sdk.crt"), ours.file("sdk.crt")).unwrap();
    std::fs::copy(other.file("sdk.key"), ours.file("sdk.key")).unwrap();
    let node = Node::start(&ours, Speaks::Extended).await;
    let options = ours.options(&[node.address()]);
    let (client, ()) = within(async { tokio::join!(Client::connect(options), node.accept_refusal()) }).await;
    let error = only(client.unwrap_err());
    assert!(matches!(error, DialError::Refused(_)), "{error:?}");
}

#[tokio::test]
async fn nodes_are_tried_in_turn_and_every_failure_is_named() {
    let consortium = Consortium::new();
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let node = Node::start(&consortium, Speaks::Extended).await;
    let options = consortium.options(&[gone.clone(), node.address()]);
    let (client, _peer) = within(async { tokio::join!(Client::connect(options), node.accept()) }).await;
    assert_eq!(client.unwrap().node().unwrap().address, node.address());

    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut options = consortium.options(&[gone.clone(), mute.local_addr().unwrap().to_string()]);
    options.connect_timeout = Duration::from_millis(100);
    let error = within(Client::connect(options)).await.unwrap_err();
    assert!(error.to_string().contains(&gone), "{error}");
    let ConnectError::Failed(failures) = error else { panic!("{error:?}") };
    assert!(matches!(&failures[..], [(_, DialError::Tcp(_)), (_, DialError::TimedOut(_))]), "{failures:?}");
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named() {
    let consortium = Consortium::new();
    let options = || consortium.options(&["127.0.0.1:1".into()]);
    let error = async || match Client::connect(options()).await.unwrap_err() {
        ConnectError::Identity(error) => error.to_string(),
        other => panic!("{other:?}"),
    };
    let key = std::fs::read(consortium.file("sdk.key")).unwrap();
    std::fs::write(consortium.file("sdk.key"), "no key").unwrap();
    assert!(error().await.contains("sdk.key"));
    std::fs::write(consortium.file("sdk.key"), Consortium::new().leaf("client", "x").key).unwrap();
    assert!(error().await.contains("belong to each other"));
    std::fs::write(consortium.file("sdk.key"), key).unwrap();
    std::fs::write(consortium.file("sdk.crt"), "").unwrap();
    assert!(error().await.contains("sdk.crt"));
    std::fs::remove_file(consortium.file("ca.crt")).unwrap();
    assert!(error().await.contains("ca.crt"));
    let none = Client::connect(consortium.options(&[])).await.unwrap_err();
    assert!(matches!(none, ConnectError::NoNode));
}
