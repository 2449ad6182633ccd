//! Files that arrive: of all sizes, to one and to many, declined and cancelled, beside each other.

use std::time::Duration;

use amop_client::{
    Address, FileError, FileRecipient, ReceiveOptions, RecipientState, SendOptions, SendProgress,
};
use amop_testkit::wait;
use futures::{StreamExt, future::join_all};

use super::{CHUNK, Desk, accept_all, content, multicast, receiver};
use crate::mesh::{Mesh, spawn};

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
        let FileRecipient { state, bytes, resent, institution, .. } = &receipt.recipients[0];
        assert_eq!((state, *bytes, *resent), (&RecipientState::Done, size as u64, 0));
        assert_eq!(institution.as_ref(), "bank-2");
        assert!(desk.received(&name) == content, "{size}");
    }
    assert_eq!(received.await.expect("a receiver").len(), sizes.len());
    let left = std::fs::read_dir(desk.into.path().join(".amop")).expect("a directory").count();
    assert_eq!(left, 2, "the receiver's name and the list of what is done");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_known_of_a_file_comes_with_its_offer() {
    let mesh = Mesh::line(2).await;
    let (from, to) = (mesh.client(0).await, mesh.client(1).await);
    let desk = Desk::new();
    let mut receiver = receiver(&to, desk.into.path()).await;
    let path = desk.file("a", b"content");
    let mut options = SendOptions::default();
    options.name = Some("对账单/2026.pdf".into());
    options.media_type = Some("application/pdf".into());
    let mut sending = from.send_file("files", path, options).await.expect("begun");
    let offer = receiver.next().await.expect("an offer");
    assert_eq!(offer.file.name, "对账单_2026.pdf");
    assert_eq!(offer.file.claimed_name, "对账单/2026.pdf");
    assert_eq!((offer.file.size, offer.file.media_type.as_str()), (7, "application/pdf"));
    assert_eq!(offer.file.topic.as_str(), "files");
    assert_eq!(offer.file.hash, Some(*blake3::hash(b"content").as_bytes()));
    let sender = offer.file.sender.clone().expect("a sender");
    assert_eq!((sender.institution.as_ref(), sender.node), ("bank-0", mesh.id(0)));
    let path = offer.accept().finished().await.expect("received");
    assert_eq!(path, desk.into.path().join("对账单_2026.pdf"));
    sending.finished().await.expect("sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_multicast_reaches_all_that_accept_and_says_who_did_not() {
    let mesh = Mesh::line(3).await;
    let from = mesh.client(0).await;
    let content = content(5 * CHUNK + 3, 1);
    let desks: Vec<Desk> = (0..3).map(|_| Desk::new()).collect();
    let mut clients = Vec::new();
    for (node, desk) in [0, 2, 2].into_iter().zip(&desks) {
        let client = mesh.client(node).await;
        clients.push((accept_all(receiver(&client, desk.into.path()).await, 1), client));
    }
    let unwilling = mesh.client(1).await;
    let desk = Desk::new();
    let mut declining = receiver(&unwilling, desk.into.path()).await;
    spawn(async move {
        while let Some(offer) = declining.next().await {
            offer.decline("not today");
        }
    });
    let path = desk.file("all.bin", &content);
    let mut sending = from.send_file("files", path, multicast()).await.expect("begun");
    let receipt = sending.finished().await.expect("sent");
    let state = |state: &RecipientState| receipt.recipients.iter().filter(|r| r.state == *state).count();
    assert_eq!((state(&RecipientState::Done), state(&RecipientState::Declined("not today".into()))), (3, 1));
    for desk in &desks {
        assert!(desk.received("all.bin") == content);
    }
    assert!(!desk.into.path().join("all.bin").exists());
    join_all(clients.into_iter().map(|(receiver, _)| receiver)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_receiver_or_its_consent_nothing_is_sent() {
    let mesh = Mesh::line(2).await;
    let (from, to) = (mesh.client(0).await, mesh.client(1).await);
    let desk = Desk::new();
    let path = desk.file("a", b"content");
    let send = async |options: SendOptions| {
        let mut sending = from.send_file("files", &path, options).await.expect("begun");
        sending.finished().await.expect_err("not sent")
    };
    let unsubscribed = send(SendOptions::default()).await;
    assert!(matches!(&unsubscribed, FileError::NotOffered(error) if error.code() == 100), "{unsubscribed}");
    let unsubscribed = send(multicast()).await;
    assert!(matches!(&unsubscribed, FileError::NotPublished(error) if error.code() == 100), "{unsubscribed}");

    // Somebody who answers requests but knows nothing of files.
    let mut other = to.subscribe("files").await.expect("subscribed");
    let serving = spawn(async move { other.next().await.expect("a message").answer("what?") });
    assert!(matches!(send(SendOptions::default()).await, FileError::NoReceiver));
    serving.await.expect("answered");

    let mut receiver = receiver(&to, desk.into.path()).await;
    let (declined, ()) = tokio::join!(send(SendOptions::default()), async {
        receiver.next().await.expect("an offer").decline("no\u{1b}[2J room");
    });
    assert!(matches!(&declined, FileError::Declined(why) if why == "no [2J room"), "{declined}");
    let mut hasty = SendOptions::default();
    hasty.decide_within = Duration::from_millis(300);
    let (undecided, offer) = tokio::join!(send(hasty), receiver.next());
    assert!(matches!(undecided, FileError::Undecided(_)), "{undecided}");
    drop(offer);
    let mut elsewhere = SendOptions::default();
    elsewhere.to = Address { institution: Some("bank-0".into()), ..Address::default() };
    assert!(matches!(send(elsewhere).await, FileError::NotOffered(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn either_end_can_end_it_and_nothing_is_left() {
    let mesh = Mesh::line(2).await;
    let (from, to) = (mesh.client(0).await, mesh.client(1).await);
    let desk = Desk::new();
    let mut receiver = receiver(&to, desk.into.path()).await;
    let path = desk.file("a", &content(600 * CHUNK, 1));
    for sender_ends in [true, false] {
        let mut sending = from.send_file("files", &path, SendOptions::default()).await.expect("begun");
        let mut receiving = receiver.next().await.expect("an offer").accept();
        let begun = |progress: &amop_client::ReceiveProgress| progress.bytes > 0;
        receiving.progress().wait_for(begun).await.expect("chunks");
        if sender_ends {
            sending.cancel()
        } else {
            receiving.cancel()
        }
        let (sent, received) = (
            sending.finished().await.expect_err("not sent"),
            receiving.finished().await.expect_err("not received"),
        );
        let (mine, theirs) = if sender_ends { (sent, received) } else { (received, sent) };
        assert!(matches!(mine, FileError::Cancelled), "{mine}");
        assert!(theirs.to_string().contains("cancelled there"), "{theirs}");
        assert!(!theirs.is_resumable());
        wait::until("nothing to be left", async || {
            let names = std::fs::read_dir(desk.into.path().join(".amop")).expect("a directory");
            names.count() == 2
        })
        .await;
    }
    assert_eq!(std::fs::read_dir(desk.into.path()).expect("a directory").count(), 1);
}

/// Several files at once to several receivers in both directions, one name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_go_beside_each_other_and_none_replaces_another() {
    const EACH: usize = 4;
    let mesh = Mesh::line(2).await;
    let desk = Desk::new();
    let to = mesh.client(1).await;
    let mut receiver = receiver(&to, desk.into.path()).await;
    let receiving = spawn(async move {
        let mut all = Vec::new();
        while all.len() < 2 * EACH
            && let Some(offer) = receiver.next().await
        {
            let mut file = offer.accept();
            all.push(spawn(async move { file.finished().await.expect("received") }));
        }
        join_all(all).await.into_iter().map(|path| path.expect("a task")).collect::<Vec<_>>()
    });
    let senders = [mesh.client(0).await, mesh.client(1).await];
    let mut sent = Vec::new();
    for number in 0..EACH {
        for (of, client) in senders.iter().enumerate() {
            let out = Desk::new();
            let path = out.file("same.bin", &content((number + 1) * CHUNK + of, number as u64));
            let mut sending = client.send_file("files", path, SendOptions::default()).await.expect("begun");
            sent.push(spawn(async move {
                let _out = out;
                sending.finished().await.expect("sent").hash
            }));
        }
    }
    let mut hashes: Vec<_> = join_all(sent).await.into_iter().map(|hash| hash.expect("a task")).collect();
    let paths = receiving.await.expect("a receiver");
    let mut there: Vec<_> =
        paths.iter().map(|path| *blake3::hash(&std::fs::read(path).expect("a file")).as_bytes()).collect();
    hashes.sort_unstable();
    there.sort_unstable();
    assert_eq!(there, hashes);
    let mut names: Vec<_> = paths.iter().map(|path| path.file_name().expect("a name").to_owned()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 2 * EACH);
    assert!(names.iter().any(|name| name == "same.bin") && names.iter().any(|name| name == "same (7).bin"));
}

/// As the Java demo sends it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_whole_frame_is_a_file_too() {
    let mesh = Mesh::line(2).await;
    let (from, to) = (mesh.client(0).await, mesh.client(1).await);
    let desk = Desk::new();
    let content = content(3 * CHUNK, 1);
    let path = desk.file("报告.pdf", &content);
    let received = accept_all(receiver(&to, desk.into.path()).await, 2);
    for options in [SendOptions::default(), multicast()] {
        let sent = from.send_file_in_one_frame("files", &path, options).await.expect("sent");
        assert_eq!(sent, content.len() as u64);
    }
    let paths = received.await.expect("a receiver");
    for (path, name) in paths.iter().zip(["报告.pdf", "报告 (1).pdf"]) {
        assert_eq!(*path, desk.into.path().join(name));
        assert!(std::fs::read(path).expect("a file") == content);
    }
    let large = std::fs::File::create(desk.out.path().join("large")).expect("a file");
    large.set_len(200 << 20).expect("space");
    let path = desk.out.path().join("large");
    let refused = from.send_file_in_one_frame("files", path, SendOptions::default()).await;
    assert!(matches!(refused, Err(FileError::TooLargeForFrame { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_file_is_not_sent() {
    let mesh = Mesh::line(1).await;
    let client = mesh.client(0).await;
    let desk = Desk::new();
    let error = async |path: &std::path::Path| {
        client.send_file("files", path, SendOptions::default()).await.expect_err("refused")
    };
    assert!(matches!(error(desk.out.path()).await, FileError::NotRegular(_)));
    assert!(matches!(error("/dev/zero".as_ref()).await, FileError::NotRegular(_)));
    assert!(matches!(error(&desk.out.path().join("none")).await, FileError::Source { .. }));
    let path = desk.file("a", b"content");
    for media_type in ["pdf", "a/", "/b", "text/\u{1b}", &format!("a/{}", "b".repeat(300))] {
        let mut options = SendOptions::default();
        options.media_type = Some(media_type.into());
        let refused = client.send_file("files", &path, options).await;
        assert!(matches!(refused, Err(FileError::Option { what: "media type", .. })), "{media_type}");
    }
    let started = |progress: &SendProgress| progress.transfer.is_some();
    let sending = client.send_file("files", &path, SendOptions::default()).await.expect("begun");
    sending.progress().wait_for(started).await.expect("hashed");
    let held = receiver(&client, desk.into.path()).await;
    let second = client.receive_files(["other"], desk.into.path(), ReceiveOptions::default()).await;
    assert!(matches!(second, Err(FileError::InUse(_))));
    drop(held);
}
