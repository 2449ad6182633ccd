use std::time::Duration;

use amop_protocol::{
    Cause, NodeId, Seq, Time,
    broker::journal::{Key, Step},
    wire::{
        generated::{JournalKind, JournalStep},
        inquiry::{MAX_ACCOUNT_BYTES, Subject},
        peer::{Body, DataMessage, Route, SendRef, encode},
    },
};
use amop_testkit::network::{self, Announced};
use bytes::Bytes;

use super::{
    Asker, Relayed,
    account::{self, Noted},
    answer::{Extent, by_policy},
    inquiries::{EACH, channel},
    metrics::Metrics,
    pace::{OTHERS, Pace, QUESTION, entries_for},
};
use crate::config::Show;

fn id(n: u8) -> NodeId {
    NodeId::new([n; 32])
}

#[test]
fn others_are_told_of_their_own_messages_and_only_what_the_policy_says() {
    for show in [Show::Nothing, Show::Hops, Show::All] {
        let told = |theirs, origin| by_policy(theirs, "mine", origin, show);
        for origin in [None, Some("mine"), Some("theirs")] {
            assert_eq!(told("mine", origin), Extent::All, "our own nodes");
            assert_eq!(told("", origin), Extent::Nothing, "nobody knows who asks");
        }
        for origin in [None, Some(""), Some("mine"), Some("somebody else's")] {
            assert_eq!(told("theirs", origin), Extent::Nothing, "{origin:?}");
        }
        let theirs = match show {
            Show::Nothing => Extent::Nothing,
            Show::Hops => Extent::Hops,
            Show::All => Extent::All,
        };
        assert_eq!(told("theirs", Some("theirs")), theirs);
    }
    assert_eq!(by_policy("", "", Some(""), Show::All), Extent::Nothing, "no name is no institution");
}

fn bank(name: &str) -> Asker {
    Asker::Other(name.into())
}

/// Reading what is usual costs a hundredth of what is there in a second for strangers.
const USUAL: usize = OTHERS as usize / 100 - QUESTION;

#[test]
fn what_is_read_counts_and_not_how_often_is_asked() {
    let admitted = |entries| {
        let mut pace = Pace::default();
        (0..10_000).filter(|_| pace.admits(Time::ZERO, &bank("b"), entries)).count()
    };
    assert_eq!(admitted(USUAL), 101, "the last one into debt");
    assert_eq!(admitted(10 * USUAL + 9 * QUESTION), 11);
    assert_eq!(admitted(0), OTHERS as usize / QUESTION + 1, "and to be asked at all");
    assert_eq!(admitted(usize::MAX), 1);
    let send = Subject::Send { origin: id(1), epoch: 1, send: 2 };
    assert_eq!([send, Subject::Seq(Seq([0; 32]))].map(|subject| entries_for(subject, 7)), [7, 14]);
}

#[test]
fn strangers_take_nothing_from_colleagues_nor_all_from_each_other() {
    let mut pace = Pace::default();
    let now = Time::ZERO;
    let greedy = (0..10_000).filter(|_| pace.admits(now, &bank("greedy"), USUAL)).count();
    assert_eq!(greedy, 101);
    let own = (0..10_000).filter(|_| pace.admits(now, &Asker::Own(id(1)), USUAL)).count();
    assert_eq!(own, 201, "twice as much is for colleagues");
    assert!(pace.admits(now, &Asker::Own(id(2)), USUAL), "and one leaves the others their part");
    assert!(pace.admits(now, &bank("modest"), USUAL), "as an institution does");
    assert!(!pace.admits(now, &bank("greedy"), USUAL));
    let mut modest = 0;
    for millis in 1..=1000 {
        let now = now + Duration::from_millis(millis);
        let _ = pace.admits(now, &bank("greedy"), USUAL);
        modest += usize::from(millis % 25 == 0 && pace.admits(now, &bank("modest"), USUAL));
    }
    assert_eq!(modest, 40, "whatever the greedy one asks");
    assert!(pace.admits(now + Duration::from_secs(3), &bank("greedy"), USUAL), "time pays debts");
}

#[tokio::test]
async fn strangers_fill_no_queue_but_their_own() {
    let (inquiries, mut arrivals) = channel(Metrics::default());
    for n in 0..1000 {
        inquiries.take(id(3), Some(bank("b")), n, false, Bytes::new());
    }
    for n in 0..8 {
        inquiries.take(id(6), Some(bank("modest")), n, false, Bytes::new());
    }
    inquiries.take(id(4), Some(Asker::Own(id(4))), 7, false, Bytes::new());
    inquiries.take(id(5), None, 8, false, Bytes::new());
    let metrics = &inquiries.metrics;
    assert_eq!((metrics.dropped.get(), metrics.refused.get()), (1000 - EACH as u64, 1));
    let (mut own, mut modest) = (0, 0);
    for _ in 0..EACH + 8 + 1 {
        let asked = arrivals.next().await.expect("another");
        own += usize::from(asked.asker == Asker::Own(id(4)));
        modest += usize::from(asked.asker == bank("modest"));
    }
    assert_eq!((own, modest), (1, 8));
    inquiries.take(id(3), Some(bank("b")), 1, false, Bytes::new());
    assert!(arrivals.next().await.is_some(), "there is room again");
}

#[tokio::test]
async fn an_answer_counts_once_and_from_whom_was_asked() {
    let (inquiries, _arrivals) = channel(Metrics::default());
    let (sender, mut answers) = tokio::sync::mpsc::channel(4);
    let first = inquiries.expect(id(1), sender.clone());
    let second = inquiries.expect(id(2), sender);
    for (from, id) in [(id(2), first), (id(9), first), (id(1), 77), (id(1), first), (id(1), first)] {
        inquiries.take(from, None, id, true, Bytes::from_static(b"said"));
    }
    assert_eq!(answers.recv().await, Some((id(1), Bytes::from_static(b"said"))));
    inquiries.forget(&[first, second]);
    assert_eq!(answers.recv().await, None, "nothing else counted");
    assert_eq!(inquiries.metrics.unanswered.get(), 1);
}

/// What waits is in no budget, so that it must be small.
#[tokio::test]
async fn a_question_longer_than_any_is_not_kept() {
    let (inquiries, mut arrivals) = channel(Metrics::default());
    for (number, length) in [(1, MAX_ACCOUNT_BYTES), (2, MAX_ACCOUNT_BYTES + 1), (3, 0)] {
        for asker in [bank("b"), Asker::Own(id(3))] {
            inquiries.take(id(3), Some(asker), number, false, vec![0; length].into());
        }
    }
    let metrics = &inquiries.metrics;
    assert_eq!((metrics.questions.get(), metrics.dropped.get()), (6, 2));
    drop(inquiries);
    let mut kept = Vec::new();
    while let Some(asked) = arrivals.next().await {
        kept.push((asked.id, asked.question.len()));
    }
    kept.sort_unstable();
    assert_eq!(kept, [(1, MAX_ACCOUNT_BYTES), (1, MAX_ACCOUNT_BYTES), (3, 0), (3, 0)]);
}

/// Whoever else says how a send ended: a node between, at the destination, or the one that is asked.
#[test]
fn only_the_origin_decides_the_outcome_that_a_trace_shows() {
    let announced = |links| Announced { links, topics: Vec::new() };
    let others = [(1, announced(vec![0, 2])), (2, announced(vec![1]))];
    let routing = network::routing(0, &[1], &[], others);
    let key = Key { origin: network::id(1).into(), epoch: 1, send: 2 };
    let said = |node: usize, millis, kind: JournalKind, cause: Cause| Noted {
        node: network::id(node),
        key,
        at: Duration::from_millis(millis),
        give_or_take: Duration::ZERO,
        step: JournalStep { kind: kind.into(), cause: cause.into(), ..JournalStep::default() },
    };
    for kind in [JournalKind::Told, JournalKind::AtOnce] {
        let lies = [0, 2].map(|node| [1, 9].map(|at| said(node, at, kind, Cause::Delivered))).concat();
        let message = account::message(&routing, key, lies.clone());
        assert_eq!((message.outcome, message.failed_at), (None, None), "{kind:?}");
        let truth = said(1, 5, kind, Cause::NoSubscriber);
        let message = account::message(&routing, key, [&lies[..], &[truth]].concat());
        let ending = message.outcome.as_ref().map(|ending| &*ending.cause);
        assert_eq!(ending, Some(Cause::NoSubscriber.as_str_name()), "{kind:?}");
        assert!(message.verdict.starts_with("failed with 100 after 4.0 ms"), "{}", message.verdict);
        let failing = &message.steps[message.failed_at.expect("a step")];
        assert_eq!(failing.node.id, message.origin.id, "{kind:?}");
    }
}

#[test]
fn what_is_relayed_is_found_by_its_send() {
    let relayed = Relayed::new(4, 8);
    let message = DataMessage {
        origin: id(5),
        origin_epoch: 1,
        body: Body::Handed { send: SendRef { epoch: 9, id: 6 }, number: 2 },
    };
    let header =
        encode(&message, &Route { destinations: vec![id(7)].into(), path: vec![] }, 0, Bytes::new()).header;
    relayed.passed(Time::ZERO, id(1), id(2), &header);
    relayed.stopped(Time::ZERO, None, &header, Cause::RelayLimit);
    relayed.passed(Time::ZERO, id(1), id(2), &Bytes::from_static(b"\xff"));
    let mut found = Vec::new();
    for journal in 0..relayed.len() {
        let next = relayed.read(journal, 0, 100, |entry| found.push((journal, *entry)));
        assert_eq!(next, None);
    }
    let key = Key::new(id(7), SendRef { epoch: 9, id: 6 });
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.iter().all(|(journal, entry)| *journal == 2 && entry.key() == key && entry.attempt() == 2));
    assert!(
        matches!(found[0].1.step, Step::Relayed { from, to, .. } if (from, to) == (id(1).into(), id(2).into()))
    );
    assert!(matches!(found[1].1.step, Step::Stopped { cause: Cause::RelayLimit, .. }));
}
