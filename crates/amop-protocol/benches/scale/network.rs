//! A whole network on a virtual clock.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap},
    time::{Duration, Instant},
};

use amop_protocol::{
    NodeId, SessionId, Time,
    broker::control::{Action, Control},
    limits::GOSSIP_PERIOD,
    wire::{generated::control::Message, link::LinkFrame},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{
    DEGREE, TOPICS,
    node::{client, control, id, topic},
};

/// The prefix of a frame.
const PREFIX: usize = 12;
/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// What something took.
pub struct Cost {
    pub time: Duration,
    pub bytes: f64,
    pub computing: Duration,
}

enum Event {
    Wake,
    Hear { from: usize, message: Message },
}

pub struct Network {
    nodes: Vec<Control>,
    numbers: HashMap<NodeId, usize>,
    /// Both ways; a link that is cut keeps its place.
    links: BTreeMap<(usize, usize), Duration>,
    cut: BTreeSet<(usize, usize)>,
    now: Time,
    queue: BinaryHeap<Reverse<(Time, u64, usize)>>,
    events: HashMap<u64, Event>,
    next: u64,
    armed: Vec<Time>,
    bytes: usize,
    computing: Duration,
}

/// A ring, and links across at random; both ways, with their latencies.
pub fn links(nodes: usize, seed: u64) -> BTreeMap<(usize, usize), Duration> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut links = BTreeMap::new();
    for at in 0..nodes * DEGREE / 2 {
        let (a, b) = match at {
            at if at < nodes => (at, (at + 1) % nodes),
            _ => (rng.random_range(0..nodes), rng.random_range(0..nodes)),
        };
        let latency = Duration::from_micros(rng.random_range(1_000..20_000));
        if a != b {
            links.insert((a, b), latency);
            links.insert((b, a), latency);
        }
    }
    links
}

impl Network {
    /// A ring, and links across at random.
    pub fn new(nodes: usize, seed: u64) -> Self {
        let links = links(nodes, seed);
        Self {
            nodes: (0..nodes).map(control).collect(),
            numbers: (0..nodes).map(|n| (id(n), n)).collect(),
            links,
            cut: BTreeSet::new(),
            now: Time::ZERO,
            queue: BinaryHeap::new(),
            events: HashMap::new(),
            next: 0,
            armed: vec![Time::from_start(Duration::MAX); nodes],
            bytes: 0,
            computing: Duration::ZERO,
        }
    }

    /// Topics, then all links at once; how long until everybody knows everything.
    pub fn form(&mut self) -> Duration {
        for node in 0..self.nodes.len() {
            self.subscribe(node, TOPICS);
        }
        let links: Vec<_> = self.links.keys().copied().collect();
        for (a, b) in links {
            self.on(a, |control, now| control.handle_link_up(now, id(b)));
        }
        self.until_all_agree()
    }

    /// The two halves of the ring lose sight of each other.
    pub fn cut(&mut self) {
        let half = self.nodes.len() / 2;
        self.cut = self.links.keys().copied().filter(|(a, b)| (*a < half) != (*b < half)).collect();
        for (a, b) in self.cut.clone() {
            self.on(a, |control, now| control.handle_link_down(now, id(b)));
        }
    }

    /// All links come back; how long until everybody knows everything.
    pub fn heal(&mut self) -> Duration {
        for (a, b) in std::mem::take(&mut self.cut) {
            self.on(a, |control, now| control.handle_link_up(now, id(b)));
        }
        self.until_all_agree()
    }

    /// What one gossip period costs.
    pub fn period(&mut self) -> Cost {
        (self.bytes, self.computing) = (0, Duration::ZERO);
        self.pass(GOSSIP_PERIOD);
        Cost { time: GOSSIP_PERIOD, bytes: self.bytes as f64, computing: self.computing }
    }

    /// One node has one more topic; what it takes until all know.
    pub fn change(&mut self) -> Cost {
        let begun = self.now;
        (self.bytes, self.computing) = (0, Duration::ZERO);
        self.subscribe(0, TOPICS + 1);
        let new = topic(0, TOPICS);
        self.until(|network| {
            network.nodes.iter().all(|node| {
                let routes = node.routing().topic(new.as_str());
                let at = node.routing().indexed().find(|(_, found)| found.id == id(0)).map(|(at, _)| at);
                routes.is_some_and(|routes| routes.nodes.iter().any(|(index, _)| Some(*index) == at))
            })
        });
        Cost { time: self.now.since(begun), bytes: self.bytes as f64, computing: self.computing }
    }

    pub fn subscribe(&mut self, node: usize, topics: usize) {
        let topics = (0..topics).map(|n| topic(node, n)).collect();
        self.on(node, |control, now| control.handle_report(now, SessionId(1), &client(), topics));
    }

    pub fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(Reverse((at, _, _))) = self.queue.peek()
            && *at <= until
        {
            self.step();
        }
        self.now = until;
    }

    fn until_all_agree(&mut self) -> Duration {
        let begun = self.now;
        self.until(Self::all_agree);
        self.now.since(begun)
    }

    /// Goes on until it is so, to the millisecond.
    fn until(&mut self, done: impl Fn(&Self) -> bool) {
        let begun = self.now;
        while !done(self) {
            assert!(self.now.since(begun) < PATIENCE, "there is no end of it");
            self.pass(Duration::from_millis(1));
        }
    }

    /// Everybody reaches everybody, and has the list of everybody in the newest version.
    fn all_agree(&self) -> bool {
        let reached = |node: &Control| node.routing().reachable().count() == self.nodes.len();
        let first = self.nodes[0].digest();
        self.nodes.iter().all(|node| node.digest() == first && reached(node))
    }

    fn step(&mut self) {
        let Some(Reverse((at, event, node))) = self.queue.pop() else { return };
        self.now = at;
        match self.events.remove(&event) {
            Some(Event::Hear { from, message }) if !self.cut.contains(&(from, node)) => {
                self.on(node, |control, now| control.handle_message(now, id(from), message));
            }
            Some(Event::Wake) => {
                self.armed[node] = Time::from_start(Duration::MAX);
                self.on(node, Control::handle_timeout);
            }
            _ => {}
        }
    }

    /// Something happens at a node; carries out what it then wants.
    fn on(&mut self, node: usize, event: impl FnOnce(&mut Control, Time)) {
        let begun = Instant::now();
        event(&mut self.nodes[node], self.now);
        let mut said = Vec::new();
        while let Some(action) = self.nodes[node].poll_action() {
            match action {
                Action::Send { to, message } => said.push((to, message)),
                Action::PeerFault { fault, .. } => panic!("an honest node is blamed: {fault}"),
                Action::Routing(_) | Action::Settled { .. } => {}
                Action::Ask(ask) => panic!("nobody here has private topics: {ask:?}"),
            }
        }
        let due = self.nodes[node].poll_timeout();
        self.computing += begun.elapsed();
        for (to, message) in said {
            self.send(node, self.numbers[&to], message);
        }
        if let Some(due) = due.filter(|due| *due < self.armed[node]) {
            self.armed[node] = due;
            self.schedule(due.max(self.now), node, Event::Wake);
        }
    }

    fn send(&mut self, from: usize, to: usize, message: Message) {
        let frame = LinkFrame::control(message.clone());
        self.bytes += PREFIX + frame.header.len() + frame.payload.len();
        let at = self.now + self.links[&(from, to)];
        self.schedule(at, to, Event::Hear { from, message });
    }

    fn schedule(&mut self, at: Time, node: usize, event: Event) {
        self.events.insert(self.next, event);
        self.queue.push(Reverse((at, self.next, node)));
        self.next += 1;
    }
}
