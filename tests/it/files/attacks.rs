//! Senders that lie, third parties, and what nobody sent on purpose.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use amop_client::{Address, Client, FileError, FileReceiver, ReceiveOptions, RequestOptions, SendOptions};
use amop_protocol::wire::files::{Id, Reason, State, Step};
use amop_testkit::wait;
use bytes::Bytes;
use futures::StreamExt;

use super::{
    CHUNK, Desk, accept_all, content,
    forger::{Forger, chunk, id, offer, proof, say},
    receiver,
};
use crate::mesh::{Mesh, spawn};

/// What is in a directory beside `.amop`.
pub(super) fn names(into: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(into).expect("a directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"));
    names.filter(|name| name != ".amop").collect()
}

/// What is in `.amop` beside the receiver's name and the list of what is done.
pub(super) fn left(into: &Path) -> usize {
    fs::read_dir(into.join(".amop")).expect("a directory").count() - 2
}

fn bad(receiver: Id) -> Step {
    Step::Stop { reason: Reason::BadChunk, why: String::new(), receiver: Some(receiver) }
}

/// Chunks of a file of three that are none of it.
fn lies(content: &[u8]) -> Vec<Step> {
    let data = || Bytes::copy_from_slice(&content[CHUNK..2 * CHUNK]);
    let mut bent = data().to_vec();
    bent[CHUNK - 1] ^= 1;
    let mut other_proof = proof(content, 1).to_vec();
    other_proof[40] ^= 1;
    let step = |index, data: Bytes, proof| Step::Chunk { index, proof, data };
    vec![
        step(1, data().slice(1..), proof(content, 1)),
        step(1, [&data()[..], b"x"].concat().into(), proof(content, 1)),
        step(1, Bytes::new(), proof(content, 1)),
        step(1, bent.into(), proof(content, 1)),
        step(1, data(), other_proof.into()),
        step(1, data(), Bytes::new()),
        step(1, data(), [&proof(content, 1)[..], &[0; 32]].concat().into()),
        step(0, data(), proof(content, 1)),
        step(2, data(), proof(content, 1)),
        step(3, data(), proof(content, 1)),
        step(u64::MAX, data(), proof(content, 1)),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_that_are_no_part_of_the_file_change_nothing() {
    let mesh = Mesh::line(2).await;
    let (from, to) = (mesh.client(0).await, mesh.client(1).await);
    let desk = Desk::new();
    let mut offers = receiver(&to, desk.into.path()).await;
    let content = content(2 * CHUNK + 77, 1);
    let mut forger = Forger::new(&from, 1).await;
    assert!(matches!(forger.offer(offer("a.bin", &content)).await, Ok(Step::Seen { .. })));
    let mut receiving = wait::within("an offer", offers.next()).await.expect("a client").accept();
    let receiver = forger.accepted().await;
    for lie in lies(&content) {
        assert_eq!(forger.say(receiver, lie).await.expect("an answer"), bad(receiver));
    }
    let huge = Step::Chunk { index: 1, proof: Bytes::new(), data: vec![0; CHUNK + 8 * 1024].into() };
    forger.say(receiver, huge).await.expect_err("it is refused unread");
    assert!(names(desk.into.path()).is_empty());
    // The last one first, and each twice.
    for index in [2, 2, 0, 0, 1] {
        let stored = forger.say(receiver, chunk(&content, index)).await.expect("an answer");
        assert_eq!(stored, Step::Stored { index: index as u64 });
    }
    let path = wait::within("a file", receiving.finished()).await.expect("received");
    assert_eq!(path, desk.into.path().join("a.bin"));
    // After its end, once that is noted.
    wait::until("the end", async || {
        forger
            .say(receiver, Step::Ask)
            .await
            .is_ok_and(|state| state == Step::State(State::Done { receiver }))
    })
    .await;
    for lie in lies(&content).into_iter().chain([chunk(&content, 1)]) {
        assert!(matches!(forger.say(receiver, lie).await, Ok(Step::Stored { .. })));
    }
    let stop = Step::Stop { reason: Reason::Cancelled, why: String::new(), receiver: None };
    assert_eq!(forger.say(receiver, stop).await.expect("an answer"), Step::Noted);
    assert!(desk.received("a.bin") == content && left(desk.into.path()) == 0);
}

/// Offers a file, has it accepted, and gives what became of it there when all this was said.
async fn received_of(
    from: &Client,
    receiver: &mut FileReceiver,
    number: u64,
    offered: amop_protocol::wire::files::Offer,
    steps: Vec<Step>,
) -> Result<std::path::PathBuf, FileError> {
    let mut forger = Forger::new(from, number).await;
    assert!(matches!(forger.offer(offered).await, Ok(Step::Seen { .. })));
    let mut receiving = wait::within("an offer", receiver.next()).await.expect("a client").accept();
    let to = forger.accepted().await;
    for step in steps {
        // After its end it is not known any longer.
        let _ = forger.say(to, step).await;
    }
    let Forger { mut inbox, .. } = forger;
    let noting = spawn(async move {
        loop {
            super::forger::told(&mut inbox).await;
        }
    });
    let ended = wait::within("its end", receiving.finished()).await;
    noting.abort();
    ended
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_lies_about_its_file_gets_nothing_under_its_name() {
    let mesh = Mesh::line(2).await;
    let (from, to) = (mesh.client(0).await, mesh.client(1).await);
    let desk = Desk::new();
    let mut options = ReceiveOptions::default();
    options.patience = Duration::from_millis(500);
    let mut receiver = to.receive_files(["files"], desk.into.path(), options).await.expect("receives");
    let content = content(10 * CHUNK, 1);
    let good = || (0..10).map(|index| chunk(&content, index)).collect::<Vec<_>>();
    // One byte less, one chunk less, one more, another hash: each chunk is measured by what was offered.
    let sizes = [10 * CHUNK - 1, 9 * CHUNK, 11 * CHUNK];
    for (number, size) in (1..).zip(sizes) {
        let lie = amop_protocol::wire::files::Offer { size: size as u64, ..offer("lie", &content) };
        let error = received_of(&from, &mut receiver, number, lie, [good(), good()].concat()).await;
        let error = error.expect_err("a lie");
        assert!(matches!(error, FileError::WrongContent | FileError::Stalled(_)), "{size}: {error}");
    }
    let lie = amop_protocol::wire::files::Offer { root: [0; 32], ..offer("lie", &content) };
    let error = received_of(&from, &mut receiver, 5, lie, [good(), good()].concat()).await;
    assert!(matches!(error, Err(FileError::WrongContent)), "{error:?}");
    // Less than was offered: it waits, and what has come stays.
    let error = received_of(&from, &mut receiver, 6, offer("less", &content), good()[..9].to_vec()).await;
    assert!(matches!(&error, Err(error @ FileError::Stalled(_)) if error.is_resumable()), "{error:?}");
    assert!(names(desk.into.path()).is_empty());
    // More than was offered: the file is there, what is more is nowhere.
    let path = received_of(&from, &mut receiver, 7, offer("more", &content), [good(), good()].concat()).await;
    assert!(fs::read(path.expect("received")).expect("a file") == content);
}

/// What a sender may call a file, and where that is then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_lead_nowhere_but_into_the_directory() {
    let mesh = Mesh::line(2).await;
    let (from, to) = (mesh.client(0).await, mesh.client(1).await);
    let desk = Desk::new();
    let mut receiver = receiver(&to, desk.into.path()).await;
    let long = "长".repeat(4_096 / 3);
    let claims = [
        ("../../etc/x", "___.._etc_x"),
        ("/etc/cron.d/x", "_etc_cron.d_x"),
        ("..", "unnamed"),
        ("a\0b", "a_b"),
        ("a\nb\u{1b}[31m", "a_b_[31m"),
        ("NUL", "_NUL"),
        ("com1.txt", "_com1.txt"),
        (".amop", "_amop"),
        (".amop/done", "_amop_done"),
        ("c:\\x", "c__x"),
        ("年度报告（最终版）.docx", "年度报告（最终版）.docx"),
        ("\u{202e}fdp.exe", "_fdp.exe"),
        ("unnamed", "unnamed (1)"),
        (long.as_str(), &long[..198]),
    ];
    for (number, (claimed, expected)) in (1..).zip(claims) {
        let content = content(9, number);
        let steps = vec![Step::Chunk { index: 0, proof: Bytes::new(), data: content.clone().into() }];
        let path = received_of(&from, &mut receiver, number, offer(claimed, &content), steps).await;
        assert_eq!(path.expect("received"), desk.into.path().join(expected), "{claimed:?}");
        assert!(desk.received(expected) == content, "{claimed:?}");
    }
    assert_eq!(names(desk.into.path()).len(), claims.len());
    assert_eq!(left(desk.into.path()), 0);
    let forger = Forger::new(&from, 99).await;
    forger.offer(offer(&"x".repeat(4_097), b"x")).await.expect_err("longer than a name may be");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_senders_with_one_name_replace_nothing() {
    let mesh = Mesh::line(3).await;
    let to = mesh.client(1).await;
    let desk = Desk::new();
    let received = accept_all(receiver(&to, desk.into.path()).await, 2);
    let contents = [content(5 * CHUNK, 1), content(5 * CHUNK, 2)];
    let send = async |node: usize, content: &[u8]| {
        let out = Desk::new();
        let path = out.file("a.bin", content);
        let from = mesh.client(node).await;
        let mut sending = from.send_file("files", path, SendOptions::default()).await.expect("begun");
        sending.finished().await.expect("sent");
    };
    futures::join!(send(0, &contents[0]), send(2, &contents[1]));
    received.await.expect("a receiver");
    assert_eq!(names(desk.into.path()), BTreeSet::from(["a.bin".into(), "a (1).bin".into()]));
    let mut there = [desk.received("a.bin"), desk.received("a (1).bin")];
    if there[0] != contents[0] {
        there.reverse();
    }
    assert!(there == contents);
}

/// It knows the transfer and the receiver, and even subscribes their inboxes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_third_party_changes_nothing_and_gets_nothing() {
    let mesh = Mesh::line(2).await;
    let (from, to, thief) = (mesh.client(0).await, mesh.client(1).await, mesh.client(1).await);
    let desk = Desk::new();
    let mut receiver = receiver(&to, desk.into.path()).await;
    let content = content(20 * CHUNK, 1);
    let path = desk.file("a.bin", &content);
    let mut sending = from.send_file("files", path, SendOptions::default()).await.expect("begun");
    let offered = wait::within("an offer", receiver.next()).await.expect("a client");
    let transfer = offered.file.transfer;
    let named = fs::read_to_string(desk.into.path().join(".amop/receiver")).expect("a name");
    let own = Id::from_hex(&named).expect("an id");
    // As a sender.
    let stop = || Step::Stop { reason: Reason::Cancelled, why: String::new(), receiver: None };
    for step in [chunk(&content, 0), Step::Ask, stop()] {
        let answer = say(&thief, own, transfer, step).await.expect("an answer");
        assert!(matches!(answer, Step::Stop { reason: Reason::Unknown, .. }), "{answer:?}");
    }
    // As a receiver, by another name.
    let other = id(5);
    for step in [
        Step::Accept { receiver: other, missing: Vec::new() },
        Step::State(State::Done { receiver: other }),
        Step::Decline { receiver: other, why: "no".into() },
        Step::Stop { reason: Reason::DiskFull, why: String::new(), receiver: Some(other) },
        stop(),
    ] {
        let to_sender = RequestOptions::default().to(Address::default().at_node(mesh.id(0)));
        let frame = amop_protocol::wire::files::Frame { transfer, step }.encode();
        // Understood or refused: it makes no difference.
        let _ = thief.request_with(&transfer.inbox(), frame, to_sender).await;
    }
    // As somebody who listens.
    let mut inboxes = thief.subscribe_all([own.inbox(), transfer.inbox()]).await.expect("subscribed");
    let seen = spawn(async move {
        let mut seen = 0;
        while let Some(delivery) = inboxes.next().await {
            seen += 1;
            super::forger::answer(delivery, transfer, Step::State(State::Done { receiver: own }));
        }
        seen
    });
    let mut receiving = offered.accept();
    let receipt = wait::within("a receipt", sending.finished()).await.expect("sent");
    assert_eq!(receipt.recipients.len(), 1);
    let path = wait::within("a file", receiving.finished()).await.expect("received");
    assert!(fs::read(path).expect("a file") == content);
    thief.close().await;
    assert_eq!(seen.await.expect("a thief"), 0, "frames that were not for it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_offers_than_there_is_room_for_are_told_so() {
    let mesh = Mesh::line(2).await;
    let (from, to) = (mesh.client(0).await, mesh.client(1).await);
    let desk = Desk::new();
    let mut options = ReceiveOptions::default();
    options.max_transfers = 2;
    let mut receiver = to.receive_files(["files"], desk.into.path(), options).await.expect("receives");
    let mut forgers = Vec::new();
    for number in 0..12 {
        let forger = Forger::new(&from, number).await;
        let answer = forger.offer(offer("a.bin", &content(9, number))).await.expect("an answer");
        match number {
            0 | 1 => assert!(matches!(answer, Step::Seen { .. }), "{answer:?}"),
            _ => assert!(matches!(answer, Step::Stop { reason: Reason::Busy, .. }), "{answer:?}"),
        }
        forgers.push(forger);
    }
    // The same one again is no other one.
    let again = forgers[1].offer(offer("a.bin", &content(9, 1))).await.expect("an answer");
    assert!(matches!(again, Step::Seen { .. }), "{again:?}");
    let path = desk.file("b.bin", b"b");
    let mut sending = from.send_file("files", &path, SendOptions::default()).await.expect("begun");
    let busy = wait::within("its end", sending.finished()).await.expect_err("no room");
    assert!(
        matches!(&busy, FileError::Stopped { reason: Reason::Busy, .. }) && busy.is_resumable(),
        "{busy}"
    );
    // Room again when one is decided on.
    receiver.next().await.expect("an offer").decline("no");
    assert_eq!(
        super::forger::told(&mut forgers[0].inbox).await,
        Step::Decline {
            receiver: Id::from_hex(
                &fs::read_to_string(desk.into.path().join(".amop/receiver")).expect("a name")
            )
            .expect("an id"),
            why: "no".into(),
        }
    );
    wait::until("room", async || {
        matches!(forgers[5].offer(offer("a.bin", &content(9, 5))).await, Ok(Step::Seen { .. }))
    })
    .await;
    assert_eq!(left(desk.into.path()), 0, "nothing is written before anything is accepted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_on_any_topic_is_refused() {
    let mesh = Mesh::line(2).await;
    let (from, to) = (mesh.client(0).await, mesh.client(1).await);
    let desk = Desk::new();
    let received = accept_all(receiver(&to, desk.into.path()).await, 1);
    let named = fs::read_to_string(desk.into.path().join(".amop/receiver")).expect("a name");
    let inbox = Id::from_hex(&named).expect("an id").inbox();
    let label = amop_protocol::wire::files::LABEL;
    let noted = amop_protocol::wire::files::Frame { transfer: id(1), step: Step::Noted }.encode();
    let garbage = [
        Bytes::new(),
        Bytes::from_static(b"hello"),
        Bytes::from_static(label),
        [label, &[0, 0]].concat().into(),
        [label, &[0xff, 0xff], &[7; 100]].concat().into(),
        [label, &[0, 4, 0xff, 0xff, 0xff, 0xff]].concat().into(),
        noted.slice(..noted.len() - 1),
        noted,
        Bytes::from_static(&[0xff, 0xff, 0xff, 0x80, 0x7f, 0xff, 0xff, 0xff, 1]),
    ];
    let path = desk.file("a.bin", b"content");
    for topic in ["files", &inbox] {
        for bytes in &garbage {
            let answer = wait::within("an answer", from.request(topic, bytes.clone())).await;
            let is_stop = answer.as_ref().is_ok_and(|answer| {
                let frame = amop_protocol::wire::files::Frame::decode(answer);
                matches!(frame, Ok(frame) if matches!(frame.step, Step::Stop { reason: Reason::Unknown, .. }))
            });
            assert!(answer.is_err() || is_stop, "{topic} {bytes:?}: {answer:?}");
            from.publish(topic, bytes.clone()).await.expect("handed over");
        }
    }
    assert!(names(desk.into.path()).is_empty() && left(desk.into.path()) == 0);
    from.send_file("files", path, SendOptions::default())
        .await
        .expect("begun")
        .finished()
        .await
        .expect("sent");
    received.await.expect("a receiver");
}

/// A sender that was killed, and sends again before the receiver has noticed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_file_offered_anew_takes_over_at_once() {
    let mesh = Mesh::line(2).await;
    let (from, to) = (mesh.client(0).await, mesh.client(1).await);
    let desk = Desk::new();
    let mut receiver = receiver(&to, desk.into.path()).await;
    let content = content(4 * CHUNK, 1);
    let mut first = Forger::new(&from, 1).await;
    first.offer(offer("a.bin", &content)).await.expect("seen");
    let mut old = wait::within("an offer", receiver.next()).await.expect("a client").accept();
    let own = first.accepted().await;
    first.say(own, chunk(&content, 2)).await.expect("stored");
    // One that is declined takes nothing away.
    let declined = Forger::new(&from, 2).await;
    declined.offer(offer("a.bin", &content)).await.expect("seen");
    wait::within("an offer", receiver.next()).await.expect("a client").decline("I have it already");
    let mut inbox = declined.inbox;
    assert!(matches!(super::forger::told(&mut inbox).await, Step::Decline { .. }));
    let state = first.say(own, Step::Ask).await.expect("an answer");
    assert!(matches!(&state, Step::State(State::Missing(missing)) if missing.len() == 2), "{state:?}");
    // One that is accepted goes on with it.
    let path = desk.file("a.bin", &content);
    let mut sending = from.send_file("files", path, SendOptions::default()).await.expect("begun");
    let mut new = wait::within("an offer", receiver.next()).await.expect("a client").accept();
    let ended = wait::within("its end", old.finished()).await.expect_err("another goes on with it");
    assert!(matches!(ended, FileError::Stopped { reason: Reason::Busy, .. }), "{ended}");
    let path = wait::within("a file", new.finished()).await.expect("received");
    assert!(fs::read(path).expect("a file") == content);
    wait::within("a receipt", sending.finished()).await.expect("sent");
    let unknown = first.say(own, chunk(&content, 0)).await.expect("an answer");
    assert!(matches!(unknown, Step::Stop { reason: Reason::Unknown, .. }), "{unknown:?}");
    assert_eq!(names(desk.into.path()).len(), 1);
    assert_eq!(left(desk.into.path()), 0);
}
