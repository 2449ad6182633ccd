//! Files that arrive.

use amop_client::{RecipientState, SendOptions};

use super::{CHUNK, Desk, accept_all, content, receiver};
use crate::mesh::Mesh;

/// Every size at which something begins or ends, over a relay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_all_sizes_arrive_as_they_were() {
    let mesh = Mesh::line(3).await;
    let (from, to) = (mesh.client(0).await, mesh.client(2).await);
    let desk = Desk::new();
    let sizes = [0, 1, 1023, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 17, 40 * CHUNK];
    let received = accept_all(receiver(&to, desk.into.path()).await, sizes.len());
    for size in sizes {
        let (name, content) = (format!("{size}.bin"), content(size, size as u64));
        let path = desk.file(&name, &content);
        let mut sending = from.send_file("files", path, SendOptions::default()).await.expect("begun");
        let receipt = sending.finished().await.expect("sent");
        assert_eq!(receipt.hash, *blake3::hash(&content).as_bytes(), "{size}");
        assert_eq!(receipt.recipients.len(), 1);
        let recipient = &receipt.recipients[0];
        assert_eq!((&recipient.state, recipient.bytes), (&RecipientState::Done, size as u64));
        assert_eq!(recipient.institution.as_ref(), "bank-2");
        assert!(desk.received(&name) == content, "{size}");
    }
    assert_eq!(received.await.expect("a receiver").len(), sizes.len());
}
