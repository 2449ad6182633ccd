//! Receivers that lie, and accidents at either end.

use std::{fs, time::Duration};

use amop_client::{Address, FileError, Mode, RecipientState, SendOptions};
use amop_protocol::wire::files::{Range, Reason, State, Step};
use amop_testkit::wait;
use futures::StreamExt;

use super::{
    CHUNK, Desk, accept_all,
    attacks::{left, names},
    content,
    forger::{Forger, Impostor, answer, chunk, offer, say},
    receiver,
};
use crate::mesh::{Mesh, spawn};

const ALL: Range = Range { first: 0, count: 1 << 29 };

fn impatient() -> SendOptions {
    let mut options = SendOptions::default();
    options.patience = Duration::from_millis(300);
    options
}

/// Chunks are held, refused, or acknowledged as others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_does_not_acknowledge_is_left_and_the_state_is_kept() {
    let mesh = Mesh::line(2).await;
    let (from, to) = (mesh.client(0).await, mesh.client(1).await);
    let desk = Desk::new();
    let path = desk.file("a.bin", &content(3 * CHUNK, 1));
    let mut impostor = Impostor::new(to, 1).await;
    for way in 0..3 {
        let state = tempfile::tempdir().expect("a directory");
        let mut options = impatient();
        options.state = Some(state.path().to_owned());
        let mut sending = from.send_file("files", &path, options).await.expect("begun");
        let transfer = impostor.accept(vec![ALL]).await;
        let ended = {
            let ended = wait::within("its end", sending.finished());
            tokio::pin!(ended);
            let mut held = Vec::new();
            loop {
                tokio::select! {
                    ended = &mut ended => break ended,
                    (step, delivery) = impostor.next() => match (way, step) {
                        (0, _) => held.push(delivery),
                        (1, _) => delivery.refuse(7),
                        (_, Step::Chunk { index, .. }) => {
                            answer(delivery, transfer, Step::Stored { index: index + 1 });
                        }
                        _ => {}
                    },
                }
            }
        };
        let error = ended.expect_err("nothing was acknowledged");
        assert!(matches!(error, FileError::Stalled(_)) && error.is_resumable(), "{way}: {error}");
        let kept = fs::read_dir(state.path()).expect("a directory").count();
        assert_eq!(kept, 2, "its tree and its record");
    }
}

/// It is there, says so again and again, and takes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_only_talks_is_left() {
    let mesh = Mesh::line(2).await;
    let (from, to) = (mesh.client(0).await, mesh.client(1).await);
    let desk = Desk::new();
    let path = desk.file("a.bin", &content(2 * CHUNK, 1));
    let mut impostor = Impostor::new(to, 1).await;
    let mut sending = from.send_file("files", &path, impatient()).await.expect("begun");
    // Nothing is missing, it says, and then that it is working on it.
    let transfer = impostor.accept(Vec::new()).await;
    let talking = spawn(async move {
        loop {
            let (step, delivery) = impostor.next().await;
            assert_eq!(step, Step::Ask);
            answer(delivery, transfer, Step::State(State::Working));
        }
    });
    let error = wait::within("its end", sending.finished()).await.expect_err("it never is done");
    assert!(matches!(error, FileError::Stalled(_)), "{error}");
    talking.abort();
}

/// Whatever a receiver says it lacks, it gets what there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn absurd_wishes_are_those_for_the_file() {
    let mesh = Mesh::line(2).await;
    let (from, to) = (mesh.client(0).await, mesh.client(1).await);
    let desk = Desk::new();
    let content = content(2 * CHUNK + 1, 1);
    let path = desk.file("a.bin", &content);
    let mut impostor = Impostor::new(to, 1).await;
    let beyond = Range { first: 1 << 20, count: (1 << 30) - (1 << 20) };
    for (missing, expected) in
        [(vec![ALL], 3), (vec![beyond], 0), (vec![Range { first: 2, count: 9 }, beyond], 1)]
    {
        let mut sending = from.send_file("files", &path, SendOptions::default()).await.expect("begun");
        let transfer = impostor.accept(missing).await;
        let mut got = 0;
        loop {
            let (step, delivery) = impostor.next().await;
            match step {
                Step::Chunk { index, proof, data } => {
                    assert_eq!(chunk(&content, index as usize), Step::Chunk { index, proof, data });
                    got += 1;
                    answer(delivery, transfer, Step::Stored { index });
                }
                Step::Ask => {
                    answer(delivery, transfer, Step::State(State::Done { receiver: impostor.receiver }));
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(got, expected);
        wait::within("a receipt", sending.finished()).await.expect("it says that it is done");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receivers_that_end_it_are_believed_with_their_reason() {
    let mesh = Mesh::line(2).await;
    let (from, to) = (mesh.client(0).await, mesh.client(1).await);
    let desk = Desk::new();
    let path = desk.file("a.bin", &content(2 * CHUNK, 1));
    let mut impostor = Impostor::new(to, 1).await;
    let receiver = impostor.receiver;
    let why = "no\u{1b}[2J".to_owned();
    for number in 0..3 {
        let mut sending = from.send_file("files", &path, SendOptions::default()).await.expect("begun");
        let transfer = match number {
            0 => {
                let transfer = impostor.offered().await;
                impostor.tell(transfer, Step::Decline { receiver, why: why.clone() }).await;
                transfer
            }
            1 => {
                let transfer = impostor.accept(vec![ALL]).await;
                let stop =
                    Step::Stop { reason: Reason::DiskFull, why: why.clone(), receiver: Some(receiver) };
                impostor.tell(transfer, stop).await;
                transfer
            }
            _ => {
                let transfer = impostor.accept(vec![ALL]).await;
                let delivery = impostor.next_of(transfer).await;
                let stop = Step::Stop { reason: Reason::Disk, why: why.clone(), receiver: None };
                answer(delivery, transfer, stop);
                transfer
            }
        };
        let error = wait::within("its end", sending.finished()).await.expect_err("it was ended");
        assert!(!error.to_string().contains('\u{1b}'), "{error}");
        match (number, &error) {
            (0, FileError::Declined(why)) => assert_eq!(why, "no [2J"),
            (1, FileError::Stopped { reason: Reason::DiskFull, .. }) => assert!(error.is_resumable()),
            (2, FileError::Stopped { reason: Reason::Disk, .. }) => assert!(error.is_resumable()),
            _ => panic!("{number} {transfer}: {error}"),
        }
    }
}

/// It says that good chunks are bad: the sender looks, and leaves it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_calls_good_chunks_bad_is_left() {
    let mesh = Mesh::line(2).await;
    let (from, to) = (mesh.client(0).await, mesh.client(1).await);
    let desk = Desk::new();
    let path = desk.file("a.bin", &content(2 * CHUNK, 1));
    let mut impostor = Impostor::new(to, 1).await;
    let mut sending = from.send_file("files", &path, SendOptions::default()).await.expect("begun");
    let transfer = impostor.accept(vec![ALL]).await;
    let lying = spawn(async move {
        loop {
            let stop = Step::Stop { reason: Reason::BadChunk, why: String::new(), receiver: None };
            answer(impostor.next().await.1, transfer, stop);
        }
    });
    let error = wait::within("its end", sending.finished()).await.expect_err("a liar");
    assert!(matches!(error, FileError::WrongContent), "{error}");
    lying.abort();
}

/// A file that is for one client, and another that accepts it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_those_who_are_addressed_can_accept() {
    let mesh = Mesh::line(3).await;
    let (from, to, thief) = (mesh.client(0).await, mesh.client(1).await, mesh.client(2).await);
    let desk = Desk::new();
    let mut receiver = receiver(&to, desk.into.path()).await;
    let thief = Impostor::new(thief, 9).await;
    let content = content(3 * CHUNK, 1);
    let path = desk.file("a.bin", &content);
    for mode in [Mode::Unicast, Mode::Multicast] {
        let mut options = SendOptions::default();
        (options.mode, options.to) = (mode, Address::default().at_node(mesh.id(1)));
        let mut sending = from.send_file("files", &path, options).await.expect("begun");
        let offered = wait::within("an offer", receiver.next()).await.expect("a client");
        let transfer = offered.file.transfer;
        let accept = Step::Accept { receiver: thief.receiver, missing: vec![ALL] };
        let refused = say(&thief.client, transfer, transfer, accept).await;
        assert!(refused.is_err(), "{refused:?}");
        let done = Step::State(State::Done { receiver: thief.receiver });
        let refused = say(&thief.client, transfer, transfer, done).await;
        assert!(refused.is_err(), "{refused:?}");
        let path = wait::within("a file", offered.accept().finished()).await.expect("received");
        assert!(fs::read(path).expect("a file") == content);
        let receipt = wait::within("a receipt", sending.finished()).await.expect("sent");
        assert_eq!(receipt.recipients.len(), 1);
        assert_eq!(receipt.recipients[0].institution.as_ref(), "bank-1");
    }
}

/// One receiver of an offer to all that speaks in the name of another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_speaks_for_a_receiver_that_has_spoken() {
    let mesh = Mesh::line(2).await;
    let (from, to, thief) = (mesh.client(0).await, mesh.client(1).await, mesh.client(1).await);
    let desk = Desk::new();
    let mut honest = Impostor::new(to, 1).await;
    let content = content(2 * CHUNK, 1);
    let path = desk.file("a.bin", &content);
    let mut options = SendOptions::default();
    options.mode = Mode::Multicast;
    let mut sending = from.send_file("files", &path, options).await.expect("begun");
    let transfer = honest.accept(vec![ALL]).await;
    for step in [
        Step::State(State::Done { receiver: honest.receiver }),
        Step::Decline { receiver: honest.receiver, why: "no".into() },
        Step::Stop { reason: Reason::Cancelled, why: String::new(), receiver: Some(honest.receiver) },
    ] {
        assert!(say(&thief, transfer, transfer, step).await.is_err());
    }
    let mut left = 2;
    while left > 0 {
        let (step, delivery) = honest.next().await;
        let Step::Chunk { index, .. } = step else { panic!("{step:?}") };
        answer(delivery, transfer, Step::Stored { index });
        left -= 1;
    }
    honest.tell(transfer, Step::State(State::Done { receiver: honest.receiver })).await;
    let receipt = wait::within("a receipt", sending.finished()).await.expect("sent");
    assert_eq!(receipt.recipients.len(), 1);
    assert_eq!(receipt.recipients[0].state, RecipientState::Done);
}

/// It is changed, cut or removed after it was offered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_changes_while_it_is_sent_does_not_arrive() {
    let mesh = Mesh::line(2).await;
    let (from, to) = (mesh.client(0).await, mesh.client(1).await);
    let desk = Desk::new();
    let mut receiver = receiver(&to, desk.into.path()).await;
    let original = content(4 * CHUNK, 1);
    for cut in [false, true] {
        let path = desk.file("a.bin", &original);
        let mut sending = from.send_file("files", &path, SendOptions::default()).await.expect("begun");
        let offered = wait::within("an offer", receiver.next()).await.expect("a client");
        let file = fs::OpenOptions::new().write(true).open(&path).expect("the source");
        if cut {
            file.set_len(3 * CHUNK as u64 + 5).expect("cut");
        } else {
            std::os::unix::fs::FileExt::write_all_at(&file, b"other", 2 * CHUNK as u64).expect("changed");
        }
        let mut receiving = offered.accept();
        let error = wait::within("its end", sending.finished()).await.expect_err("it has changed");
        assert!(matches!(&error, FileError::Changed(changed) if *changed == path), "{error}");
        let error = wait::within("its end", receiving.finished()).await.expect_err("it has changed");
        assert!(matches!(error, FileError::Stopped { reason: Reason::Changed, .. }), "{error}");
        assert!(names(desk.into.path()).is_empty());
        assert_eq!(left(desk.into.path()), 0);
    }
    // Only its name goes: whoever has it open has it.
    let path = desk.file("b.bin", &original);
    let mut sending = from.send_file("files", &path, SendOptions::default()).await.expect("begun");
    let offered = wait::within("an offer", receiver.next()).await.expect("a client");
    fs::remove_file(path).expect("removed");
    let path = wait::within("a file", offered.accept().finished()).await.expect("received");
    assert!(fs::read(path).expect("a file") == original);
    wait::within("a receipt", sending.finished()).await.expect("sent");
}

/// The receiver's directory goes, or something else comes in its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_vanishes_is_said_at_both_ends() {
    let mesh = Mesh::line(2).await;
    let (from, to) = (mesh.client(0).await, mesh.client(1).await);
    let content = content(3 * CHUNK, 1);
    // Before anything comes.
    let desk = Desk::new();
    let path = desk.file("a.bin", &content);
    let mut first = receiver(&to, desk.into.path()).await;
    let mut sending = from.send_file("files", &path, SendOptions::default()).await.expect("begun");
    let offered = wait::within("an offer", first.next()).await.expect("a client");
    fs::remove_dir_all(desk.into.path().join(".amop")).expect("removed");
    fs::write(desk.into.path().join(".amop"), "a file").expect("written");
    let error = wait::within("its end", offered.accept().finished()).await.expect_err("no directory");
    assert!(matches!(&error, FileError::Directory { .. }) && error.is_resumable(), "{error}");
    let error = wait::within("its end", sending.finished()).await.expect_err("no directory there");
    assert!(matches!(error, FileError::Stopped { reason: Reason::Disk, .. }), "{error}");
    assert_eq!(names(desk.into.path()).len(), 0);
    drop(first);
    // In the midst of it.
    let client = mesh.client(1).await;
    let gone = desk.into.path().join("gone");
    let mut second = client
        .receive_files(["files"], &gone, amop_client::ReceiveOptions::default())
        .await
        .expect("receives");
    let mut forger = Forger::new(&from, 1).await;
    wait::until("the second receiver alone", async || forger.offer(offer("a.bin", &content)).await.is_ok())
        .await;
    let mut receiving = wait::within("an offer", second.next()).await.expect("a client").accept();
    let own = forger.accepted().await;
    forger.say(own, chunk(&content, 0)).await.expect("stored");
    fs::remove_dir_all(&gone).expect("removed");
    for index in 1..3 {
        forger.say(own, chunk(&content, index)).await.expect("an answer");
    }
    let stop = loop {
        match super::forger::told(&mut forger.inbox).await {
            Step::Accept { .. } => {}
            step => break step,
        }
    };
    assert!(matches!(stop, Step::Stop { reason: Reason::Disk, .. }), "{stop:?}");
    let error = wait::within("its end", receiving.finished()).await.expect_err("no directory");
    assert!(matches!(error, FileError::Directory { .. }), "{error}");
    assert!(!gone.exists(), "it is not made again");
    // The receiver is as good as before once there is a directory again.
    drop(accept_all(receiver(&client, &desk.into.path().join("new")).await, 0));
}

/// A node that hears nothing of the first subscriber offers a request to a second one: only one of them gets
/// the file, and the other one is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_accepts_what_another_has_is_told_so() {
    let mesh = Mesh::line(2).await;
    let (from, to) = (mesh.client(0).await, mesh.client(1).await);
    let desk = Desk::new();
    let path = desk.file("a.bin", &content(2 * CHUNK, 1));
    let mut impostor = Impostor::new(to.clone(), 1).await;
    let _sending = from.send_file("files", &path, SendOptions::default()).await.expect("begun");
    let transfer = impostor.accept(vec![ALL]).await;
    let late = Step::Accept { receiver: super::forger::id(2), missing: vec![ALL] };
    let answered = say(&mesh.client(1).await, transfer, transfer, late).await.expect("an answer");
    assert!(matches!(answered, Step::Stop { reason: Reason::Cancelled, .. }), "{answered:?}");
    drop(impostor);

    // And at the other end: a sender that says so.
    let mut receiver = receiver(&to, desk.into.path()).await;
    let mut forger = super::forger::Forger::new(&from, 2).await;
    forger.offer(offer("b.bin", &content(2 * CHUNK, 2))).await.expect("seen");
    let mut receiving = receiver.next().await.expect("an offer").accept();
    let delivery = wait::within("an accept", forger.inbox.next()).await.expect("a client");
    let over =
        Step::Stop { reason: Reason::Cancelled, why: "another receiver has it".into(), receiver: None };
    answer(delivery, forger.transfer, over);
    let error = wait::within("its end", receiving.finished()).await.expect_err("another has it");
    assert!(error.to_string().ends_with("(another receiver has it)"), "{error}");
    wait::until("nothing to be left", async || left(desk.into.path()) == 0).await;
}
