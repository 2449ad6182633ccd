//! The control machine: links, reports and gossip in any order, from neighbours that lie.
//!
//! Node 1 is under test. Node 2 is an honest neighbour with the same bounds: whatever node 1 says
//! to it must be to its liking, and in the end both must know the same. Nodes 3 to 7 are strangers.

mod belief;
mod ops;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use amop_protocol::{
    NodeId, SessionId, Time, Topic, Version,
    broker::{
        control::{Action, Config, Control},
        lists,
        routing::Routing,
    },
    limits::GOSSIP_PERIOD,
    topic,
    wire::{
        generated::{self as pb, control::Message},
        link::{Kind, LinkFrame},
    },
};
use arbitrary::Unstructured;
use bytes::Bytes;

use self::{
    belief::Belief,
    ops::{Claim, Op, Sort, known, liar, number, record, wide},
};
use crate::world::{self, ME, id};

/// The honest neighbour.
const HONEST: u8 = 2;
/// Nodes there are, from [`ME`] on.
const NODES: u8 = 7;
/// More operations than this tell nothing new.
const MOST: usize = 200;
/// Messages between two honest nodes after one operation, at most.
const MOST_ECHOES: usize = 400;

fn config() -> Config {
    Config {
        max_nodes: 4,
        max_tombstones: 3,
        max_own_topics: 3,
        lists: lists::Bounds {
            max_topics: 5,
            piece_bytes: 24,
            max_deltas: 2,
            delta_bytes: 200,
            max_list_bytes: 900,
            max_unfinished_bytes: 1_500,
        },
        burst: Duration::from_secs(5),
        max_links: 5,
        max_waves: 3,
        ..Config::default()
    }
}

/// Operations on the control machine in any order.
pub fn control(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let mut pair = Pair::new();
    for _ in 0..MOST {
        if input.is_empty() {
            break;
        }
        let Ok(op) = input.arbitrary::<Op>() else { break };
        crate::trace(&op);
        pair.apply(op);
        pair.settle();
        pair.check();
    }
    pair.converge();
}

/// One control message of a neighbour, as bytes.
pub fn control_message(data: &[u8]) {
    let mut pair = Pair::new();
    pair.link(3, true);
    let version = Version { epoch: 1, sequence: 1 };
    for n in [3, 4] {
        world::announce(&mut pair.mine, pair.now, 3, n, version, &[ME, 3, 4], &[(0, 1), (1, 1)]);
        pair.belief.signed(n, version, world::list(&[(0, 1), (1, 1)]));
    }
    pair.raw(3, data);
    pair.settle();
    pair.check();
    pair.converge();
}

struct Pair {
    mine: Control,
    other: Control,
    now: Time,
    up: BTreeSet<u8>,
    /// What was said on the link between the two and has not arrived; whether it is for node 1.
    between: VecDeque<(bool, Message)>,
    said: Vec<Message>,
    version: Version,
    draining: bool,
    belief: Belief,
}

impl Pair {
    fn new() -> Self {
        let mine = world::control(ME, 1, config());
        Self {
            version: mine.version(),
            mine,
            other: world::control(HONEST, 1, config()),
            now: Time::ZERO,
            up: BTreeSet::new(),
            between: VecDeque::new(),
            said: Vec::new(),
            draining: false,
            belief: Belief::default(),
        }
    }

    fn apply(&mut self, op: Op) {
        let now = self.now;
        match op {
            Op::LinkUp(n) => self.link(HONEST + n % (NODES - 1), true),
            Op::LinkDown(n) => self.link(HONEST + n % (NODES - 1), false),
            Op::RoundTrip(n, millis) => {
                self.mine.handle_round_trip(now, id(known(n)), Duration::from_millis(millis.into()));
            }
            Op::Report { session, topics } => self.report(session, topics),
            Op::Close { session } => {
                let session = SessionId(u64::from(session % 4));
                self.mine.handle_session_closed(now, session);
            }
            Op::Drain => {
                self.draining = true;
                self.mine.handle_drain(now);
            }
            Op::Pass(millis) => self.pass(Duration::from_millis(u64::from(millis) * 2)),
            Op::Raw { from, message } => self.raw(liar(from), &message),
            said => self.hear(said),
        }
    }

    /// What a stranger says.
    fn hear(&mut self, op: Op) {
        let node_bytes = |n: u8| Bytes::copy_from_slice(id(known(n)).as_bytes());
        let (from, message) = match op {
            Op::Identity { from, node, epoch, forged } => {
                (from, record(node, epoch, 1, world::identity(known(node)), forged))
            }
            Op::Links { from, node, epoch, sequence, neighbours, forged } => {
                let linked = (0..8).filter(|bit| neighbours >> bit & 1 == 1).map(known);
                (from, record(node, epoch, sequence, world::links(linked), forged))
            }
            Op::Topics { from, node, epoch, sequence, counts, forged } => {
                let counts = wide(&counts);
                self.signs(node, epoch, sequence, world::list(&counts), forged);
                (from, record(node, epoch, sequence, world::topics(&counts), forged))
            }
            Op::Piece { from, node, epoch, sequence, counts, nth, of, forged } => {
                let list = world::list(&wide(&counts));
                let piece = world::piece(&list, u32::from(nth % 4), u32::from(of % 4));
                self.signs(node, epoch, sequence, list, forged);
                (from, record(node, epoch, sequence, piece, forged))
            }
            Op::Delta { from, node, epoch, base, sequence, changes, sort } => {
                let version = Version { epoch: number(epoch), sequence: number(base) };
                let changes = wide(&changes);
                let result = belief::changed(self.belief.list(known(node), version), &changes);
                let hash = match sort {
                    Sort::Inconsistent => Bytes::from_static(&[7; 32]),
                    Sort::Right | Sort::Forged => world::hash(&result),
                };
                self.signs(node, epoch, sequence, result, sort != Sort::Right);
                let delta = world::delta(version.sequence, &changes, hash);
                (from, record(node, epoch, sequence, delta, sort == Sort::Forged))
            }
            Op::Heartbeat { from, own, digest } => {
                (from, Message::Heartbeat(pb::Heartbeat { own: Some(own.versions()), digest }))
            }
            Op::Vector { from, entries, partial } => {
                let entries = entries.iter().map(Claim::versions).collect();
                (from, Message::Vector(pb::Vector { entries, partial }))
            }
            Op::Pull { from, node, kinds, epoch, topics } => {
                let kinds = kinds.into_iter().map(i32::from).collect();
                (
                    from,
                    Message::Pull(pb::Pull {
                        node: node_bytes(node),
                        kinds,
                        epoch: number(epoch),
                        topics: number(topics),
                    }),
                )
            }
            Op::Settled { from, node, epoch, sequence } => {
                let (epoch, sequence) = (number(epoch), number(sequence));
                (from, Message::Settled(pb::Settled { node: node_bytes(node), epoch, sequence }))
            }
            Op::Echo { from, nth } => match self.said.get(usize::from(nth)) {
                Some(said) => (from, said.clone()),
                None => return,
            },
            _ => return,
        };
        self.mine.handle_message(self.now, id(liar(from)), message);
    }

    fn signs(&mut self, node: u8, epoch: u8, sequence: u8, list: world::List, forged: bool) {
        if !forged {
            let version = Version { epoch: number(epoch), sequence: number(sequence) };
            self.belief.signed(known(node), version, list);
        }
    }

    fn raw(&mut self, from: u8, message: &[u8]) {
        let (header, payload) = (Bytes::new(), Bytes::copy_from_slice(message));
        let frame = LinkFrame { kind: Kind::Control, hops: 0, flow: 0, header, payload };
        if let Ok(Some(message)) = frame.into_control() {
            self.mine.handle_message(self.now, id(from), message);
        }
    }

    fn report(&mut self, session: u8, topics: u8) {
        let session = SessionId(u64::from(session % 4));
        let topics: BTreeSet<Topic> = (0..4).filter(|bit| topics >> bit & 1 == 1).map(world::topic).collect();
        self.mine.handle_report(
            self.now,
            session,
            &world::client(session.0 as u8),
            topics.iter().cloned().collect(),
        );
        let table = self.mine.routing().topics();
        let held = table.filter(|(_, routes)| routes.sessions.contains(&session)).count();
        // A reserved name takes room once for each session.
        let room =
            |(topic, sessions): (&Topic, usize)| if topic.is_reserved() { sessions } else { sessions.min(1) };
        let table = self.mine.routing().topics();
        let taken: usize = table.map(|(topic, routes)| room((topic, routes.sessions.len()))).sum();
        assert!(held == topics.len() || taken == config().max_own_topics, "dropped though there is room");
    }

    fn link(&mut self, n: u8, up: bool) {
        let now = self.now;
        if n == HONEST {
            self.between.clear();
        }
        if up {
            self.up.insert(n);
            self.mine.handle_link_up(now, id(n));
        } else {
            self.up.remove(&n);
            self.mine.handle_link_down(now, id(n));
        }
        match (n, up) {
            (HONEST, true) => self.other.handle_link_up(now, id(ME)),
            (HONEST, false) => self.other.handle_link_down(now, id(ME)),
            _ => {}
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        let now = self.now;
        for node in [&mut self.mine, &mut self.other] {
            node.handle_timeout(now);
            assert!(node.poll_timeout() > Some(now), "what is due was done");
        }
    }

    /// Lets the two talk until they have nothing more to say.
    fn settle(&mut self) {
        for _ in 0..MOST_ECHOES {
            self.drain_mine();
            while let Some(action) = self.other.poll_action() {
                match action {
                    Action::Send { to, message } if to == id(ME) => self.between.push_back((true, message)),
                    // Node 2 hears of liars from node 1 only; it may believe what they signed.
                    Action::PeerFault { fault, .. } => panic!("the neighbour blames us: {fault}"),
                    _ => {}
                }
            }
            let Some((for_me, message)) = self.between.pop_front() else { return };
            match for_me {
                true => self.mine.handle_message(self.now, id(HONEST), message),
                false => self.other.handle_message(self.now, id(ME), message),
            }
        }
        panic!("two honest nodes do not stop talking");
    }

    fn drain_mine(&mut self) {
        while let Some(action) = self.mine.poll_action() {
            match action {
                Action::Send { to, message } => {
                    let n = to.as_bytes()[0];
                    assert!(self.up.contains(&n), "said to {to}, which is no neighbour");
                    let again = LinkFrame::control(message.clone()).into_control();
                    assert_eq!(again.as_ref(), Ok(&Some(message.clone())), "what is said can be read");
                    if n == HONEST {
                        self.between.push_back((false, message.clone()));
                    }
                    if self.said.len() < 64 {
                        self.said.push(message);
                    }
                }
                Action::Routing(routing) => assert_eq!(routing.me(), id(ME)),
                Action::Settled { version } => assert!(version <= self.mine.version()),
                Action::Ask(ask) => panic!("nobody here verifies anybody: {ask:?}"),
                Action::PeerFault { peer, .. } => assert_ne!(peer, id(HONEST), "an honest node is blamed"),
            }
        }
    }

    fn check(&mut self) {
        let version = self.mine.version();
        assert!(version >= self.version, "{version:?} after {:?}", self.version);
        self.version = version;
        assert!(self.mine.local_topics() <= config().max_own_topics);
        assert!(self.mine.settling() <= (config().max_nodes + 1) * config().max_waves, "waves are joined");
        assert!(self.mine.unfinished_bytes() <= config().lists.max_unfinished_bytes);
        assert!(self.mine.claims() <= usize::from(NODES) * (config().max_nodes + 1));
        coherent(self.mine.routing(), &self.up);
        self.belief.check(self.mine.routing());
    }

    /// The strangers leave; then the two must come to know the same, whatever was said.
    fn converge(&mut self) {
        for n in self.up.clone() {
            self.link(n, false);
            self.settle();
        }
        self.link(HONEST, true);
        self.settle();
        for _ in 0..4 {
            self.pass(GOSSIP_PERIOD);
            self.settle();
            self.check();
        }
        let bound = config().max_nodes + config().max_tombstones;
        assert!(self.mine.known() <= bound, "{} nodes remembered, {bound} allowed", self.mine.known());
        let own = self.own_topics();
        assert_eq!(subscribers(self.mine.routing(), id(ME)), own);
        // A node that drains keeps its own to itself.
        let announced = if self.draining { BTreeMap::new() } else { own };
        assert_eq!(subscribers(self.other.routing(), id(ME)), announced, "both know the same");
        assert!(self.mine.is_settled(), "the only neighbour has it");
    }

    /// What the sessions of node 1 have, by its own table.
    fn own_topics(&self) -> BTreeMap<String, u32> {
        let own = self.mine.routing().topics().filter(|(topic, _)| topic.kind() == topic::Kind::Ordinary);
        own.filter(|(_, routes)| !routes.sessions.is_empty())
            .map(|(topic, routes)| (topic.to_string(), routes.sessions.len() as u32))
            .collect()
    }
}

fn subscribers(routing: &Routing, node: NodeId) -> BTreeMap<String, u32> {
    let at = routing.indexed().find(|(_, found)| found.id == node).map(|(index, _)| index);
    let topics = routing.topics().filter(|(topic, _)| topic.kind() == topic::Kind::Ordinary);
    topics
        .filter_map(|(topic, routes)| {
            let (_, count) = routes.nodes.iter().find(|(index, _)| Some(*index) == at)?;
            Some((topic.to_string(), *count))
        })
        .collect()
}

fn coherent(routing: &Routing, up: &BTreeSet<u8>) {
    for node in routing.reachable() {
        assert_eq!(routing.find(&node.id), Some(node));
        let neighbour = up.contains(&node.next_hop.as_bytes()[0]);
        assert!(if node.id == routing.me() { node.hops == 0 } else { neighbour && node.hops > 0 });
    }
    for (_, routes) in routing.topics() {
        assert!(routes.sessions.is_sorted_by(|a, b| a < b), "each session once");
        assert!(!routes.nodes.is_empty() || !routes.sessions.is_empty());
        assert!(routes.nodes.iter().all(|(_, count)| *count > 0));
    }
}
