mod renew;
mod topics;

use std::cell::Cell;

use bytes::Bytes;
use prost::Message as _;

use super::*;
use crate::{
    NodeKey,
    broker::{
        announce::{NodeInfo, sign},
        lists::ListHash,
        seal::MacSecret,
    },
    wire::generated::{self as pb, record::Content},
};

/// Signatures for tests: the signer's key and the body itself.
struct Trust(NodeKey);

impl Authenticator for Trust {
    fn sign(&self, body: &[u8]) -> Bytes {
        [self.0.as_bytes(), body].concat().into()
    }

    fn verify_chain(&self, chain: &[Bytes]) -> Option<NodeInfo> {
        let key: [u8; 64] = chain.first()?[..].try_into().ok()?;
        Some(info(NodeKey::new(key)))
    }

    fn verify(&self, key: &NodeKey, body: &[u8], signature: &[u8]) -> bool {
        Self(*key).sign(body) == signature
    }
}

fn info(key: NodeKey) -> NodeInfo {
    NodeInfo { key, name: "node".into(), institution: "bank".into() }
}

fn key(n: u8) -> NodeKey {
    NodeKey::new([n; 64])
}

fn id(n: u8) -> NodeId {
    key(n).id()
}

fn client() -> Arc<ClientIdentity> {
    Arc::new(ClientIdentity { fingerprint: crate::Fingerprint::new([1; 32]), name: "client".into() })
}

fn control(n: u8, config: Config) -> Control {
    let chain = vec![Bytes::copy_from_slice(key(n).as_bytes())];
    let me = Me { info: info(key(n)), chain, address: "".into(), epoch: 10, mac: MacSecret::new([n; 32]) };
    Control::new(config, me, 0, Box::new(Trust(key(n))), Time::ZERO)
}

/// Node 1, linked to node 2, which the tests play themselves.
fn linked(config: Config) -> Control {
    let mut control = control(1, config);
    control.handle_link_up(Time::ZERO, id(2));
    said(&mut control);
    control
}

/// What it sends and whom it blames, since it was asked last.
fn said(control: &mut Control) -> (Vec<Message>, Vec<PeerFault>) {
    let (mut sent, mut faults) = (Vec::new(), Vec::new());
    while let Some(action) = control.poll_action() {
        match action {
            Action::Send { message, .. } => sent.push(message),
            Action::PeerFault { fault, .. } => faults.push(fault),
            Action::Routing(_) | Action::Settled { .. } | Action::Ask(_) => {}
        }
    }
    (sent, faults)
}

/// An identity that shows the certificate of node `n`.
fn shows(n: u8) -> Content {
    let chain = vec![Bytes::copy_from_slice(key(n).as_bytes())];
    let x25519_key = Bytes::copy_from_slice(&MacSecret::new([9; 32]).public());
    Content::Identity(pb::IdentityContent { chain, x25519_key, ..pb::IdentityContent::default() })
}

fn record(n: u8, signer: u8, epoch: u64, sequence: u64, content: Content) -> Message {
    Message::Record(sign(&Trust(key(signer)), id(n), Version { epoch, sequence }, content))
}

fn identity(n: u8, epoch: u64) -> Message {
    record(n, n, epoch, 1, shows(n))
}

fn links(n: u8, epoch: u64, sequence: u64, neighbours: &[u8]) -> Message {
    let neighbours = neighbours.iter().map(|n| Bytes::copy_from_slice(id(*n).as_bytes())).collect();
    record(n, n, epoch, sequence, Content::Links(pb::LinksContent { neighbours }))
}

fn topics(n: u8, signer: u8, sequence: u64, name: &str) -> Message {
    record(n, signer, 10, sequence, whole(&[name]))
}

fn hash(names: &[&str]) -> Bytes {
    let list = ListHash::of(names.iter().map(|name| (*name, 1)));
    Bytes::copy_from_slice(&list.to_bytes())
}

fn entries(names: &[&str], subscribers: u32) -> Vec<pb::TopicCount> {
    names.iter().map(|name| pb::TopicCount { topic: (*name).into(), subscribers, holder: None }).collect()
}

/// A list in one piece.
fn whole(names: &[&str]) -> Content {
    let topics = entries(names, 1);
    Content::Topics(pb::TopicsContent { topics, piece: 0, pieces: 1, hash: hash(names) })
}

/// Long enough after everything else that routes are worked out at once.
fn hear(control: &mut Control, message: Message) -> (Vec<Message>, Vec<PeerFault>) {
    thread_local! {
        static NOW: Cell<Time> = const { Cell::new(Time::ZERO) };
    }
    NOW.set(NOW.get() + Duration::from_millis(10));
    control.handle_message(NOW.get(), id(2), message);
    said(control)
}

#[test]
fn a_claim_of_our_epoch_does_nothing_without_our_signature() {
    let mut control = linked(Config::default());
    let node = Bytes::copy_from_slice(id(1).as_bytes());
    let claim = pb::Versions { node, epoch: u64::MAX, links: 9, topics: 9, identity: 0 };
    let vector = pb::Vector { entries: vec![claim], partial: false };
    let (sent, faults) = hear(&mut control, Message::Vector(vector));
    assert!(matches!(&sent[..], [Message::Pull(_)]), "it asks for the proof: {sent:?}");
    assert_eq!((control.version().epoch, faults), (10, vec![]));
    let forged = record(1, 2, 99, 1, shows(1));
    assert_eq!(hear(&mut control, forged).1, [PeerFault::Signature(id(1))]);
    assert_eq!(control.version().epoch, 10);
}

#[test]
fn an_own_record_of_a_higher_epoch_raises_ours_above_it() {
    let mut control = linked(Config::default());
    let (sent, faults) = hear(&mut control, identity(1, 99));
    assert!(control.version().epoch > 99);
    assert_eq!((faults, control.counters().epochs_raised), (vec![], 1));
    assert_eq!(sent.len(), 3, "identity, links and topics anew");
}

#[test]
fn what_is_forged_or_foreign_is_refused_and_its_bringer_blamed() {
    let mut control = linked(Config::default());
    let foreign = record(3, 3, 10, 1, shows(4));
    assert_eq!(hear(&mut control, foreign).1, [PeerFault::Chain(id(3))]);
    let forged = record(3, 2, 10, 1, shows(3));
    assert_eq!(hear(&mut control, forged).1, [PeerFault::Signature(id(3))]);
    assert_eq!(hear(&mut control, identity(3, 10)).1, []);
    assert_eq!(hear(&mut control, topics(3, 2, 1, "t")).1, [PeerFault::Signature(id(3))]);
    assert!(control.routing().topic("t").is_none());
    assert_eq!(control.counters().refused, 3);
}

#[test]
fn a_list_that_is_not_wanted_is_not_even_decoded() {
    let mut control = linked(Config::default());
    hear(&mut control, identity(3, 10));
    assert_eq!(hear(&mut control, topics(3, 3, 5, "t")).1, []);
    let node = Bytes::copy_from_slice(id(3).as_bytes());
    let head = pb::Record { node, epoch: 10, sequence: 4, content: None };
    // Field 6, the topics, with bytes that are no list.
    let body = [&head.encode_to_vec()[..], &[0x32, 2, 0xff, 0xff]].concat();
    let stale = pb::SignedRecord { body: body.into(), signature: Bytes::new() };
    let before = control.counters().stale;
    assert_eq!(hear(&mut control, Message::Record(stale)).1, []);
    assert_eq!(control.counters().stale, before + 1);
}

#[test]
fn old_lists_do_not_come_back() {
    let mut control = linked(Config::default());
    for message in [identity(2, 10), links(2, 10, 1, &[1, 3]), identity(3, 10), links(3, 10, 1, &[2])] {
        hear(&mut control, message);
    }
    hear(&mut control, topics(3, 3, 2, "new"));
    hear(&mut control, topics(3, 3, 1, "old"));
    assert!(control.routing().topic("new").is_some() && control.routing().topic("old").is_none());
    hear(&mut control, identity(3, 11));
    assert!(control.routing().topic("new").is_none(), "it restarted, and has yet to say what it wants");
    hear(&mut control, topics(3, 3, 3, "older epoch"));
    assert!(control.routing().topic("older epoch").is_none());
}

#[test]
fn who_is_out_of_reach_gives_way_to_a_newcomer() {
    let mut control = linked(Config { max_nodes: 2, ..Config::default() });
    for message in [identity(2, 10), links(2, 10, 1, &[1]), identity(3, 10), identity(4, 10)] {
        assert_eq!(hear(&mut control, message).1, []);
    }
    assert_eq!((control.counters().expired, control.counters().over_capacity), (1, 0), "node 3 gave way");
    hear(&mut control, links(4, 10, 1, &[2]));
    hear(&mut control, links(2, 10, 2, &[1, 4]));
    hear(&mut control, identity(5, 10));
    assert_eq!(control.counters().over_capacity, 1, "all known nodes can be reached");
}

#[test]
fn no_more_links_are_announced_than_others_take() {
    let config = Config { max_links: 3, ..Config::default() };
    let mut hub = control(1, config);
    (2..9).for_each(|n| hub.handle_link_up(Time::ZERO, id(n)));
    let mut other = control(2, config);
    other.handle_link_up(Time::ZERO, id(1));
    for message in said(&mut hub).0 {
        other.handle_message(Time::ZERO, id(1), message);
    }
    other.handle_timeout(Time::ZERO + GOSSIP_PERIOD);
    assert_eq!(said(&mut other).1, [], "an honest node is not blamed for having many neighbours");
    assert_eq!(other.routing().reachable().count(), 2);
}

#[test]
fn a_vector_may_name_its_sender_and_all_nodes_that_may_be_known() {
    let mut control = linked(Config { max_nodes: 2, ..Config::default() });
    let versions = |n: u8| pb::Versions {
        node: Bytes::copy_from_slice(id(n).as_bytes()),
        epoch: 10,
        links: 1,
        topics: 1,
        identity: 0,
    };
    let vector =
        |last| Message::Vector(pb::Vector { entries: (2..=last).map(versions).collect(), partial: false });
    assert_eq!(hear(&mut control, vector(4)).1, []);
    assert_eq!(hear(&mut control, vector(5)).1.len(), 1, "one more is too many");
}

#[test]
fn a_lone_change_is_announced_within_milliseconds_and_many_are_gathered() {
    let mut control = linked(Config::default());
    let debounce = Config::default().debounce;
    let topic = |n: u32| vec![Topic::parse(&format!("t{n}")).unwrap()];
    let (mut now, mut announced) = (Time::ZERO + Duration::from_secs(1), 0);
    control.handle_timeout(now);
    control.handle_report(now, SessionId(1), &client(), topic(0));
    assert_eq!(control.poll_timeout(), Some(now + debounce));
    for change in 1..1_000 {
        now += Duration::from_millis(1);
        control.handle_timeout(now);
        control.handle_report(now, SessionId(1), &client(), topic(change));
        let records = said(&mut control).0.into_iter().filter(|m| matches!(m, Message::Record(_)));
        announced += records.count();
    }
    assert!((10..30).contains(&announced), "the neighbour never says settled: {announced}");
}

/// Bytes two neighbours send each other in one quiet gossip period.
fn steady_bytes(topics: usize) -> usize {
    let mut nodes = [control(1, Config::default()), control(2, Config::default())];
    let names = (0..topics).map(|n| Topic::parse(&format!("topic-{n}")).unwrap()).collect();
    nodes[0].handle_report(Time::ZERO, SessionId(1), &client(), names);
    for (at, peer) in [(0, 2), (1, 1)] {
        nodes[at].handle_link_up(Time::ZERO, id(peer));
    }
    let mut bytes = 0;
    for second in 0..20 {
        let now = Time::from_start(Duration::from_secs(second));
        bytes = if second % 5 == 0 { 0 } else { bytes };
        nodes.iter_mut().for_each(|node| node.handle_timeout(now));
        loop {
            let sent: Vec<_> = nodes.each_mut().map(|node| said(node).0).into();
            if sent.iter().all(Vec::is_empty) {
                break;
            }
            for (from, messages) in sent.into_iter().enumerate() {
                for message in messages {
                    bytes += pb::Control { message: Some(message.clone()) }.encoded_len();
                    nodes[1 - from].handle_message(now, id(from as u8 + 1), message);
                }
            }
        }
    }
    assert_eq!(nodes[1].routing().topics().count(), topics);
    bytes
}

#[test]
fn steady_state_bytes_do_not_grow_with_topics() {
    assert_eq!(steady_bytes(1), steady_bytes(10_000));
}

#[test]
fn a_publisher_is_asked_as_soon_as_both_are_known_and_may_challenge_then() {
    let name = |name: &str| Topic::parse(name).unwrap();
    let (private, channel) = (name("#!$TopicNeedVerify_a"), name("#!$VerifyChannel_#!$TopicNeedVerify_a_01"));
    let mut control = linked(Config::default());
    hear(&mut control, identity(2, 10));
    hear(&mut control, links(2, 10, 1, &[1]));
    let push = name("#!$PushChannel_#!$TopicNeedVerify_a");
    control.handle_report(Time::ZERO, SessionId(1), &client(), vec![push]);
    said(&mut control);
    let held = |topic: &Topic| pb::TopicCount::from((topic.clone(), SessionId(5), Some(client())));
    let topics = vec![held(&private), held(&channel)];
    let hash = ListHash::of(&topics).to_bytes().to_vec().into();
    let list = Content::Topics(pb::TopicsContent { topics, piece: 0, pieces: 1, hash });
    control.handle_message(Time::ZERO, id(2), record(2, 2, 10, 1, list));
    let (mut may, mut asked) = (false, None);
    while let Some(action) = control.poll_action() {
        match action {
            Action::Routing(routing) => may = routing.private().challenged(SessionId(1), &channel).is_some(),
            Action::Ask(ask) => {
                assert!(may, "the snapshot comes first");
                asked = Some(ask);
            }
            Action::Send { .. } | Action::Settled { .. } => {}
            Action::PeerFault { fault, .. } => panic!("{fault}"),
        }
    }
    let ask = asked.unwrap();
    assert_eq!((ask.subscriber.session, ask.subscriber.epoch), (SessionId(5), 10));
    control.handle_verdict(Time::ZERO, SessionId(1), "no question", &private, true);
    control.handle_verdict(Time::ZERO, SessionId(1), &ask.question.to_hex(), &private, true);
    let trusted = |control: &Control| control.routing().private().verified(SessionId(1), &private).count();
    assert_eq!((trusted(&control), control.counters().private.stray), (1, 1));
    hear(&mut control, identity(2, 11));
    assert_eq!(trusted(&control), 0, "its node has started anew");
}
