//! Files on private topics.

use amop_client::{Compatibility, FileError, PrivateKey, ReceiveOptions, RecipientState, SendOptions};

use super::{CHUNK, Desk, accept_all, content, multicast};
use crate::mesh::Mesh;

const V2: Compatibility = Compatibility::Version2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_reach_those_who_hold_a_key_and_nobody_else() {
    let mesh = Mesh::line(3).await;
    let bank = mesh.client(0).await;
    let (one, other) = (PrivateKey::generate().expect("a key"), PrivateKey::generate().expect("a key"));
    let topic = bank.private_topic("statements", [one.public()], V2).await.expect("a topic");
    let (desk, wrong) = (Desk::new(), Desk::new());
    let content = content(7 * CHUNK + 1, 1);
    let path = desk.file("secret.bin", &content);
    let options = ReceiveOptions::default;
    let (to, outsider) = (mesh.client(2).await, mesh.client(2).await);
    let uninvited =
        outsider.receive_private_files("statements", other, V2, wrong.into.path(), options()).await;
    let mut early = topic.send_file(&path, SendOptions::default()).await.expect("begun");
    assert!(matches!(early.finished().await, Err(FileError::NotOffered(error)) if error.code() == 100));
    let receiver = to.receive_private_files("statements", one, V2, desk.into.path(), options()).await;
    let received = accept_all(receiver.expect("receives"), 2);
    topic.verified().await;
    for how in [SendOptions::default(), multicast()] {
        let receipt = topic.send_file(&path, how).await.expect("begun").finished().await.expect("sent");
        assert_eq!(receipt.recipients.len(), 1);
        assert_eq!(receipt.recipients[0].state, RecipientState::Done);
    }
    assert_eq!(received.await.expect("a receiver").len(), 2);
    assert!(desk.received("secret.bin") == content && desk.received("secret (1).bin") == content);
    drop(uninvited.expect("receives"));
    assert_eq!(std::fs::read_dir(wrong.into.path()).expect("a directory").count(), 1);
}
