use std::time::Duration;

use amop_protocol::{
    Cause, NodeId, Time,
    broker::journal::{Key, Step},
    wire::peer::{Body, DataMessage, Route, SendRef, encode},
};
use bytes::Bytes;

use super::{
    Relayed,
    answer::{Extent, Pace, by_policy},
    inquiries::channel,
    metrics::Metrics,
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

#[test]
fn who_asks_too_often_waits_and_others_do_not() {
    let (mut pace, now) = (Pace::default(), Time::ZERO);
    let mut admitted = |now, node| (0..1000).filter(|_| pace.admits(now, id(node))).count();
    assert_eq!([admitted(now, 1), admitted(now, 2)], [16, 16]);
    assert_eq!(
        [admitted(now, 3), admitted(now, 4), admitted(now, 5)],
        [16, 16, 0],
        "all together have a bound, too"
    );
    let later = now + Duration::from_secs(1);
    assert_eq!([admitted(later, 1), admitted(later, 5)], [16, 16]);
}

#[tokio::test]
async fn an_answer_counts_once_and_from_whom_was_asked() {
    let (inquiries, mut arrivals) = channel(Metrics::default());
    let (sender, mut answers) = tokio::sync::mpsc::channel(4);
    let first = inquiries.expect(id(1), sender.clone());
    let second = inquiries.expect(id(2), sender);
    for (from, id) in [(id(2), first), (id(9), first), (id(1), 77), (id(1), first), (id(1), first)] {
        inquiries.take(from, id, true, Bytes::from_static(b"said"));
    }
    assert_eq!(answers.recv().await, Some((id(1), Bytes::from_static(b"said"))));
    inquiries.forget(&[first, second]);
    assert_eq!(answers.recv().await, None, "nothing else counted");
    assert_eq!(inquiries.metrics.unanswered.get(), 1);
    for n in 0..1000 {
        inquiries.take(id(3), n, false, Bytes::new());
    }
    assert_eq!(inquiries.metrics.dropped.get(), 1000 - super::inquiries::QUEUE as u64);
    assert_eq!(arrivals.next().await.map(|asked| (asked.by, asked.id)), Some((id(3), 0)));
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
