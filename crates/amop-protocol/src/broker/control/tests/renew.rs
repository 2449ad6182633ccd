//! New certificates while the network goes on, and those that are no longer believed.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering::Relaxed},
};

use super::*;

/// Node 1 with node 2 as neighbour and node 3, which wants topic "t", behind it.
fn network() -> Control {
    of(linked(Config::default()))
}

fn of(mut control: Control) -> Control {
    for message in [identity(2, 10), links(2, 10, 1, &[1, 3]), identity(3, 10), links(3, 10, 1, &[2])] {
        hear(&mut control, message);
    }
    hear(&mut control, topics(3, 3, 1, "t"));
    control
}

fn renewed(n: u8, sequence: u64) -> Message {
    record(n, n, 10, sequence, shows(n))
}

fn pull_of(sent: &[Message]) -> Option<Vec<i32>> {
    sent.iter().find_map(|message| match message {
        Message::Pull(pull) => Some(pull.kinds.clone()),
        _ => None,
    })
}

#[test]
fn a_renewed_identity_leaves_links_and_topics_as_they_are() {
    let mut control = network();
    control.handle_link_up(Time::ZERO, id(4));
    said(&mut control);
    let accepted = control.counters().accepted;
    let (sent, faults) = hear(&mut control, renewed(3, 2));
    assert_eq!((faults, control.counters().accepted), (vec![], accepted + 1));
    assert!(matches!(&sent[..], [Message::Record(_)]), "passed on to node 4: {sent:?}");
    assert!(control.routing().topic("t").is_some() && control.routing().find(&id(3)).is_some());
    hear(&mut control, renewed(3, 2));
    hear(&mut control, identity(3, 10));
    assert_eq!(control.counters().accepted, accepted + 1, "nothing old comes back");
    assert_eq!(hear(&mut control, record(3, 2, 10, 3, shows(3))).1, [PeerFault::Signature(id(3))]);
}

#[test]
fn who_missed_a_renewed_identity_asks_for_it() {
    let mut control = network();
    let node = Bytes::copy_from_slice(id(3).as_bytes());
    let claim = |identity| {
        let versions = pb::Versions { node: node.clone(), epoch: 10, links: 1, topics: 1, identity };
        Message::Vector(pb::Vector { entries: vec![versions], partial: true })
    };
    assert_eq!(pull_of(&hear(&mut control, claim(0)).0), None);
    let asked = pull_of(&hear(&mut control, claim(2)).0);
    assert_eq!(asked, Some(vec![RecordKind::Identity.into()]));
    hear(&mut control, renewed(3, 2));
    assert_eq!((pull_of(&hear(&mut control, claim(2)).0), control.claims()), (None, 0));
}

#[test]
fn an_own_renewed_identity_is_told_and_shown_in_what_is_compared() {
    let mut control = network();
    let (digest, version) = (control.digest(), control.version());
    control.handle_renewed(vec![Bytes::copy_from_slice(key(1).as_bytes())]);
    let (sent, _) = said(&mut control);
    assert!(matches!(&sent[..], [Message::Record(_)]));
    assert_ne!(control.digest(), digest);
    assert_eq!(control.version(), version);
    let mut other = control_that_hears(sent);
    assert!(other.routing().find(&id(1)).is_none(), "no link of it is known");
    let pull =
        pb::Pull { node: Bytes::copy_from_slice(id(1).as_bytes()), kinds: vec![1], ..Default::default() };
    let (sent, _) = hear(&mut other, Message::Pull(pull));
    assert!(matches!(&sent[..], [Message::Record(_)]), "it has it, and gives it: {sent:?}");
}

fn control_that_hears(messages: Vec<Message>) -> Control {
    let mut other = control(5, Config::default());
    other.handle_link_up(Time::ZERO, id(2));
    said(&mut other);
    for message in messages {
        assert_eq!(hear(&mut other, message).1, []);
    }
    other
}

/// As [`Trust`], but for one node.
struct Doubting(Trust, Arc<AtomicU8>);

impl Authenticator for Doubting {
    fn sign(&self, body: &[u8]) -> Bytes {
        self.0.sign(body)
    }

    fn verify_chain(&self, chain: &[Bytes]) -> Option<NodeInfo> {
        let doubted = key(self.1.load(Relaxed));
        self.0.verify_chain(chain).filter(|info| info.key != doubted)
    }

    fn verify(&self, key: &NodeKey, body: &[u8], signature: &[u8]) -> bool {
        self.0.verify(key, body, signature)
    }
}

#[test]
fn who_is_no_longer_believed_is_forgotten_until_it_is_again() {
    let doubted = Arc::new(AtomicU8::new(0));
    let chain = vec![Bytes::copy_from_slice(key(1).as_bytes())];
    let me = Me { info: info(key(1)), chain, address: "".into(), epoch: 10, mac: MacSecret::new([1; 32]) };
    let trust = Doubting(Trust(key(1)), doubted.clone());
    let mut control = Control::new(Config::default(), me, 0, Box::new(trust), Time::ZERO);
    control.handle_link_up(Time::ZERO, id(2));
    let mut control = of(control);
    let now = Time::ZERO;
    assert_eq!(control.handle_trust_changed(now), [id(2), id(3)]);
    assert!(control.routing().topic("t").is_some());
    doubted.store(3, Relaxed);
    assert_eq!(control.handle_trust_changed(now), [id(2)]);
    assert!(control.routing().topic("t").is_none() && control.routing().find(&id(3)).is_none());
    assert!(control.routing().find(&id(2)).is_some());
    assert_eq!(hear(&mut control, renewed(3, 2)).1, [PeerFault::Chain(id(3))]);
    doubted.store(0, Relaxed);
    for message in [renewed(3, 2), links(3, 10, 1, &[2]), topics(3, 3, 1, "t")] {
        assert_eq!(hear(&mut control, message).1, []);
    }
    assert!(control.routing().find(&id(3)).is_some());
}
