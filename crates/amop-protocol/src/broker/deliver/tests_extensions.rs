//! What extension clients ask for and say, on the two nodes of [`super::tests`].

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    Config,
    tests::{PUBLISHER, Pair, body, client},
};
use crate::{
    Cause, ClientIdentity, Fingerprint, Retry, Seq, SessionId, TraceContext,
    broker::{
        dedup::Bounds,
        event::{Mode, PushError, Subscriber},
        testing::{id, routing},
        wishes::{Address, Wishes},
    },
    wire::recipients::{Recipient, Recipients},
};

fn who(certificate: u8) -> Arc<ClientIdentity> {
    Arc::new(ClientIdentity { fingerprint: Fingerprint::new([certificate; 32]), name: "desk".into() })
}

/// Sessions of node 2: number, certificate and instance.
fn pair(sessions: &[(u64, u8, u128)]) -> Pair {
    let numbers: Vec<u64> = sessions.iter().map(|(session, ..)| *session).collect();
    let mut pair = Pair::new(&numbers);
    for (session, certificate, instance) in sessions {
        let instance = Some(*instance).filter(|instance| *instance != 0);
        let subscriber = Subscriber { client: who(*certificate), instance };
        pair.nodes[1].handle_subscriber(SessionId(*session), subscriber);
    }
    pair
}

impl Pair {
    /// Pushes given to sessions, in order.
    fn pushed_to(&self) -> Vec<u64> {
        self.pushes.iter().map(|push| push.session.0).collect()
    }

    /// The frame of a push was written to a client that says itself when it has received it.
    fn only_written(&mut self, push: usize) {
        let (id, session) = (self.pushes[push].id, self.pushes[push].session);
        self.nodes[1].handle_written(session, id);
    }

    fn ask(&mut self, mode: Mode, seq: u128, wishes: Wishes) {
        self.publish_with(PUBLISHER, mode, seq, Some(Box::new(wishes)));
        self.carry_all();
    }
}

fn to(address: Address) -> Wishes {
    Wishes { address, ..Wishes::default() }
}

#[test]
fn written_without_a_word_is_a_timeout_and_unwritten_is_not_handed() {
    for (written, cause) in [(true, Cause::PushTimeout), (false, Cause::WriteFailed)] {
        let mut pair = pair(&[(7, 1, 0)]);
        pair.publish(Mode::Unicast, 1);
        pair.carry_all();
        if written {
            pair.only_written(0);
        }
        pair.pass(Duration::from_secs(6), false);
        assert_eq!(pair.causes(), [cause]);
        assert_eq!(pair.outcomes[0].hop.as_ref().map(|hop| hop.node), Some(id(2)), "it failed there");
    }
}

/// A publisher's request to its own certificate, which node 2 does not have and 7, it itself, or `others`
/// at its node do: (how it ended, pushes written).
fn to_its_own_certificate(seq: u128, others: &[u64]) -> (Vec<Cause>, usize) {
    let path_timeout = Duration::from_millis(500);
    let default_deadline = path_timeout + Duration::from_millis(31);
    let mut pair = Pair::with(Config { path_timeout, default_deadline, ..Config::default() }, &[70]);
    let here: Vec<u64> = [7].iter().chain(others).copied().collect();
    pair.routing[0] = routing(1, &[(1, 2)], &[(2, 9)], &here);
    for session in here {
        let subscriber = Subscriber { client: client(), instance: None };
        pair.nodes[0].handle_subscriber(SessionId(session), subscriber);
    }
    let own = to(Address::default().of_client(client().fingerprint));
    pair.publish_with(SessionId(7), Mode::Unicast, seq, Some(Box::new(own)));
    assert_eq!(pair.wire.len(), 1, "node 2 is asked first");
    pair.carry_all();
    let (id, session) = (pair.pushes[0].id, pair.pushes[0].session);
    pair.nodes[0].handle_written(session, id);
    pair.pass(Duration::from_secs(1), false);
    (pair.causes(), pair.pushes.len())
}

#[test]
fn a_push_that_is_overdue_with_its_send_counts_before_the_deadline_does() {
    assert_eq!(to_its_own_certificate(1, &[]), (vec![Cause::PushTimeout], 1));
}

#[test]
fn at_the_deadline_nobody_else_is_given_the_message() {
    assert_eq!(to_its_own_certificate(3, &[8, 9]), (vec![Cause::PushTimeout], 1));
}

#[test]
fn word_that_comes_after_the_end_or_from_another_changes_nothing() {
    let mut pair = pair(&[(7, 1, 0)]);
    pair.publish(Mode::Multicast, 1);
    pair.carry_all();
    pair.only_written(0);
    let push = pair.pushes[0].id;
    pair.nodes[1].handle_pushed(pair.now, &pair.routing[1], SessionId(8), push, Ok(()));
    pair.collect();
    assert_eq!(pair.causes(), []);
    pair.pass(Duration::from_secs(6), false);
    assert_eq!(pair.causes(), [Cause::NoneHanded]);
    pair.written(0, Ok(()));
    assert_eq!(pair.causes(), [Cause::NoneHanded]);
}

#[test]
fn who_wants_to_know_hears_of_the_hand_over_once() {
    let mut pair = pair(&[(7, 1, 0)]);
    pair.ask(Mode::Unicast, 1, Wishes { tell_handed: true, ..Wishes::default() });
    pair.publish(Mode::Unicast, 1);
    assert_eq!(pair.noted, []);
    pair.written(0, Ok(()));
    assert_eq!((&pair.noted[..], pair.causes().len()), (&[Seq::from_u128(1)][..], 0));
    pair.ask(Mode::Unicast, 1, Wishes { tell_handed: true, ..Wishes::default() });
    assert_eq!(pair.noted.len(), 2, "who asks later is told at once");
    pair.answer(0, 0, body(b"", b""));
    assert_eq!((pair.noted.len(), pair.causes()), (2, vec![Cause::Delivered; 3]));
}

#[test]
fn an_address_leaves_out_all_others() {
    let sessions = [(7, 1, 0), (8, 2, 0), (9, 2, 0)];
    let mut pair = pair(&sessions);
    pair.ask(Mode::Multicast, 1, to(Address::default().of_client(Fingerprint::new([2; 32]))));
    assert_eq!(pair.pushed_to(), [8, 9]);
    pair.ask(Mode::Unicast, 2, to(Address::default().of_client(Fingerprint::new([1; 32])).at_node(id(2))));
    assert_eq!(pair.pushed_to(), [8, 9, 7]);
    pair.ask(Mode::Unicast, 3, to(Address::default().at_institution("bank")));
    assert_eq!(pair.pushes.len(), 4);
    for mode in [Mode::Unicast, Mode::Multicast] {
        for nobody in [
            Address::default().of_client(Fingerprint::new([3; 32])),
            Address::default().at_node(id(1)),
            Address::default().at_institution("Bank"),
        ] {
            let told = pair.outcomes.len();
            let seq = 10 + told as u128;
            pair.ask(mode, seq, to(nobody.clone()));
            let ended = pair.outcomes.get(told).map(|outcome| (outcome.cause, outcome.retry));
            assert_eq!(ended, Some((Cause::NoSubscriber, Retry::Safe)), "{mode:?} {nobody:?}");
        }
    }
    assert_eq!(pair.pushes.len(), 4);
}

#[test]
fn sessions_of_one_application_are_one_subscriber() {
    let mut pair = pair(&[(6, 1, 0), (7, 1, 5), (8, 1, 5), (9, 2, 5)]);
    pair.publish(Mode::Multicast, 1);
    pair.carry_all();
    assert_eq!(pair.pushed_to(), [6, 8, 9], "the newest of the two; another certificate is another");
    pair.written(1, Err(PushError::Full));
    assert_eq!(pair.pushed_to(), [6, 8, 9, 7], "the other, if that one cannot");
    pair.written(3, Err(PushError::Gone));
    assert_eq!(pair.pushes.len(), 4);
    [0, 2].into_iter().for_each(|push| pair.written(push, Ok(())));
    assert_eq!(pair.causes(), [Cause::Delivered]);
}

#[test]
fn an_application_that_may_have_had_a_request_does_not_get_it_by_its_other_session() {
    for (had, pushes) in [(true, 1), (false, 2)] {
        let mut pair = pair(&[(7, 1, 5), (8, 1, 5)]);
        pair.publish(Mode::Unicast, 1);
        pair.carry_all();
        if had {
            pair.only_written(0);
        }
        pair.written(0, Err(PushError::Gone));
        assert_eq!(pair.pushes.len(), pushes, "had: {had}");
    }
}

#[test]
fn a_report_tells_of_all_recipients_when_all_are_known() {
    let mut pair = pair(&[(7, 1, 0), (8, 2, 0), (9, 3, 0)]);
    pair.ask(Mode::Multicast, 1, Wishes { recipients: true, tell_handed: true, ..Wishes::default() });
    pair.written(0, Ok(()));
    assert_eq!((pair.noted.len(), pair.causes()), (1, vec![]), "the first hand-over is not the end");
    pair.written(1, Err(PushError::Full));
    pair.only_written(2);
    pair.pass(Duration::from_secs(6), false);
    assert_eq!(pair.causes(), [Cause::Delivered]);
    let report = Recipients::decode(pair.outcomes[0].body.payload.clone()).expect("a report");
    assert_eq!((report.handed, report.failed, report.nodes.len()), (1, 2, 1));
    let named = [(1, Cause::Delivered), (2, Cause::QueueFull), (3, Cause::PushTimeout)];
    let named = named.map(|(n, cause)| Recipient { client: Some((*who(n)).clone()), cause });
    assert_eq!((report.nodes[0].node, &report.nodes[0].recipients[..]), (id(2), &named[..]));
    // The same again gets the same report.
    pair.ask(Mode::Multicast, 1, Wishes { recipients: true, ..Wishes::default() });
    assert_eq!(pair.outcomes[1].body, pair.outcomes[0].body);
}

#[test]
fn what_was_sent_twice_may_have_been_handed_over_before_a_restart() {
    for mode in [Mode::Unicast, Mode::Multicast] {
        for (lost, retry) in [(0, Retry::Safe), (1, Retry::MayRepeat)] {
            let mut pair = Pair::new(&[7]);
            // The table of node 2 as it starts anew; node 1 does not know yet.
            pair.routing[1] = routing(2, &[(1, 2)], &[], &[]);
            pair.publish(mode, 1);
            pair.wire.drain(..lost);
            pair.carry_all();
            pair.pass(Duration::from_secs(1), false);
            let ended: Vec<_> = pair.outcomes.iter().map(|outcome| (outcome.cause, outcome.retry)).collect();
            assert_eq!(ended, [(Cause::NoSubscriber, retry)], "{mode:?}");
        }
    }
}

#[test]
fn a_node_that_has_forgotten_the_end_takes_back_nothing_that_it_said_before() {
    let received = Bounds { entries: 10, bytes: 1 };
    let mut pair = Pair::with(Config { received, ..Config::default() }, &[7, 8]);
    pair.ask(Mode::Multicast, 1, Wishes { recipients: true, ..Wishes::default() });
    pair.written(0, Ok(()));
    let (id, session) = (pair.pushes[1].id, pair.pushes[1].session);
    pair.nodes[1].handle_pushed(pair.now, &pair.routing[1], session, id, Ok(()));
    pair.collect();
    assert_eq!(pair.wire.drain(..).count(), 1, "the word that both were handed it is lost on the way");
    pair.pass(Duration::from_secs(8), false);
    assert_eq!(pair.causes(), [Cause::Delivered]);
    let report = Recipients::decode(pair.outcomes[0].body.payload.clone()).expect("a report");
    assert_eq!((report.handed, report.failed), (1, 0), "at least");
    assert_eq!((report.nodes[0].handed, report.nodes[0].cause), (1, Some(Cause::OutcomeLost)));
}

#[test]
fn a_node_that_does_not_report_is_listed_with_the_cause() {
    let mut pair = pair(&[(7, 1, 0)]);
    pair.publish_with(
        PUBLISHER,
        Mode::Multicast,
        1,
        Some(Box::new(Wishes { recipients: true, ..Wishes::default() })),
    );
    pair.wire.clear();
    pair.pass(Duration::from_secs(31), true);
    assert_eq!(pair.causes(), [Cause::NoneHanded]);
    let report = Recipients::decode(pair.outcomes[0].body.payload.clone()).expect("a report");
    assert_eq!((report.nodes[0].node, report.nodes[0].cause), (id(2), Some(Cause::Deadline)));
    assert_eq!(pair.outcomes[0].body.prefix, Bytes::new());
}

/// Whoever records traces finds each behind the first step of its message, where that ended at once too.
#[test]
fn the_trace_of_a_message_stands_behind_its_first_step() {
    let context = TraceContext::from_slice(&[3; 25]);
    let wishes = || Wishes { context, ..Wishes::default() };
    let mut pair = pair(&[(7, 1, 0)]);
    pair.ask(Mode::Unicast, 1, wishes());
    pair.nodes[0].handle_drain();
    pair.ask(Mode::Unicast, 2, wishes());
    pair.ask(Mode::Unicast, 3, Wishes::default());
    for (node, expected) in [(0, &["Published", "AtOnce"][..]), (1, &["Arrived"])] {
        let (mut before, mut found) = (String::new(), Vec::new());
        pair.nodes[node].journal().read(0, 100, |entry| {
            let step = format!("{:?}", entry.step);
            if step.starts_with("Context") {
                found.push(before.clone());
            }
            before = step.split(' ').next().unwrap_or_default().to_owned();
        });
        assert_eq!(found, expected);
    }
}
