//! Transfers that are interrupted, and go on where they were.

use std::time::Duration;

use amop_client::{
    Client, FileError, FileReceiver, ReceiveOptions, ReceiveProgress, SendOptions, SendProgress,
};
use futures::StreamExt;

use super::{CHUNK, Desk, accept_all, content, receiver};
use crate::mesh::{Mesh, Topology};

const SIZE: usize = 400 * CHUNK;

/// What is sent at most after that, with what was on its way.
const REST: u64 = SIZE as u64 - SIZE as u64 / 4 + WINDOW;

fn some_is_here(progress: &ReceiveProgress) -> bool {
    progress.bytes > (SIZE / 4) as u64
}

/// What is on its way at most.
const WINDOW: u64 = 32 * CHUNK as u64;

/// The receiver's application ends in the midst of it, and begins again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_restarts_gets_only_what_it_lacks() {
    let mesh = Mesh::line(3).await;
    let from = mesh.client(0).await;
    let desk = Desk::new();
    let content = content(SIZE, 1);
    let path = desk.file("a.bin", &content);
    let certificate = mesh.certificate(2);
    let first = mesh.connect(&[2], certificate.clone()).await;
    let mut sending = {
        let mut receiver = receiver(&first, desk.into.path()).await;
        let sending = from.send_file("files", path, SendOptions::default()).await.expect("begun");
        let receiving = receiver.next().await.expect("an offer").accept();
        receiving.progress().wait_for(some_is_here).await.expect("chunks");
        sending
    };
    first.close().await;
    let mut again = receiver_again(&mesh.connect(&[2], certificate).await, &desk).await;
    let offer = again.next().await.expect("the same file");
    assert_eq!(offer.file.name, "a.bin");
    let path = offer.accept().finished().await.expect("received");
    assert!(std::fs::read(path).expect("a file") == content);
    let receipt = sending.finished().await.expect("sent");
    assert!(receipt.recipients[0].resent <= WINDOW, "{receipt:?}");
}

/// The directory is free as soon as the receiver before has let go of it.
async fn receiver_again(client: &Client, desk: &Desk) -> FileReceiver {
    loop {
        match client.receive_files(["files"], desk.into.path(), ReceiveOptions::default()).await {
            Ok(receiver) => return receiver,
            Err(FileError::InUse(_)) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

/// The sender's application ends in the midst of it, and begins again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_restarts_goes_on_where_it_was() {
    let mesh = Mesh::line(3).await;
    let to = mesh.client(2).await;
    let desk = Desk::new();
    let content = content(SIZE, 1);
    let path = desk.file("a.bin", &content);
    let mut receiver = receiver(&to, desk.into.path()).await;
    let state = tempfile::tempdir().expect("a directory");
    let options = || {
        let mut options = SendOptions::default();
        options.state = Some(state.path().to_owned());
        options
    };
    let certificate = mesh.certificate(0);
    let connect = async || mesh.connect(&[0], certificate.clone()).await;
    let (transfer, mut receiving) = {
        let from = connect().await;
        let _sending = from.send_file("files", &path, options()).await.expect("begun");
        let receiving = receiver.next().await.expect("an offer").accept();
        receiving.progress().wait_for(some_is_here).await.expect("chunks");
        let second = from.send_file("files", &path, options()).await.expect("begun").finished().await;
        assert!(matches!(second, Err(FileError::InUse(_))), "{second:?}");
        (receiving.file.transfer, receiving)
    };
    let before = mesh.nodes[0].counted("client_port_received_bytes").await;
    let from = connect().await;
    let mut sending = loop {
        let mut sending = from.send_file("files", &path, options()).await.expect("begun");
        let hashed = |progress: &SendProgress| progress.transfer.is_some();
        if sending.progress().wait_for(hashed).await.is_ok() {
            break sending;
        }
        assert!(matches!(sending.finished().await, Err(FileError::InUse(_))));
    };
    let receipt = sending.finished().await.expect("sent");
    assert_eq!(receipt.transfer, transfer, "the same one");
    let path = receiving.finished().await.expect("received");
    assert!(std::fs::read(path).expect("a file") == content);
    let sent = mesh.nodes[0].counted("client_port_received_bytes").await - before;
    assert!(sent < REST, "{sent} bytes were sent the second time");
    assert_eq!(std::fs::read_dir(state.path()).expect("a directory").count(), 0, "nothing is left");
}

/// A sender without state that sends the file again: another transfer, but not from the beginning.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_file_offered_anew_goes_on_with_what_is_there() {
    let mesh = Mesh::line(2).await;
    let (from, to) = (mesh.client(0).await, mesh.client(1).await);
    let desk = Desk::new();
    let content = content(SIZE, 1);
    let path = desk.file("a.bin", &content);
    let mut options = ReceiveOptions::default();
    options.patience = Duration::from_millis(500);
    let mut receiver = to.receive_files(["files"], desk.into.path(), options).await.expect("receives");
    let mut first = {
        let _sending = from.send_file("files", &path, SendOptions::default()).await.expect("begun");
        let receiving = receiver.next().await.expect("an offer").accept();
        receiving.progress().wait_for(some_is_here).await.expect("chunks");
        receiving
    };
    let stalled = first.finished().await.expect_err("its sender has gone");
    assert!(matches!(stalled, FileError::Stalled(_)) && stalled.is_resumable(), "{stalled}");
    let before = mesh.nodes[0].counted("client_port_received_bytes").await;
    let mut sending = from.send_file("files", &path, SendOptions::default()).await.expect("begun");
    let received = accept_all(receiver, 1);
    sending.finished().await.expect("sent");
    let paths = received.await.expect("a receiver");
    assert!(std::fs::read(&paths[0]).expect("a file") == content);
    let sent = mesh.nodes[0].counted("client_port_received_bytes").await - before;
    assert!(sent < REST, "{sent} bytes were sent the second time");
}

/// The relay is switched off in the midst of it; there is another way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_is_lost_is_gone_around() {
    let mut mesh = Mesh::new(4, Topology::Ring, |_, _| {}).await;
    let (from, to) = (mesh.client(0).await, mesh.client(2).await);
    let desk = Desk::new();
    let content = content(SIZE, 1);
    let path = desk.file("a.bin", &content);
    let mut receiver = receiver(&to, desk.into.path()).await;
    let mut sending = from.send_file("files", path, SendOptions::default()).await.expect("begun");
    let mut receiving = receiver.next().await.expect("an offer").accept();
    receiving.progress().wait_for(some_is_here).await.expect("chunks");
    mesh.abort(1);
    let path = receiving.finished().await.expect("received");
    assert!(std::fs::read(path).expect("a file") == content);
    sending.finished().await.expect("sent");
}
