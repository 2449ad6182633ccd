//! A seed's plan: a graph, clients, what they do, and what breaks.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use amop_protocol::broker::{event::Mode, lists};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use self::applications::Application;
use crate::{
    plan::{
        Act, BadTopic, Behaviour, Dialect, Limits, LinkSetup, Noise, Plan, Receipts, Setup, Step, TOPICS,
    },
    wants::Wants,
};

/// After the repair: two gossip periods, and what settling takes on top.
pub const QUIET: Duration = Duration::from_secs(22);

/// How a seed becomes a plan. What it believes to be there may have gone: that is passed over.
struct Generator {
    seed: u64,
    rng: StdRng,
    now: Duration,
    steps: Vec<Step>,
    setup: Setup,
    up: Vec<bool>,
    clients: Vec<ClientBelief>,
    noisy: Vec<usize>,
    messages: u64,
    instances: usize,
    wanted: BTreeMap<u64, Wants>,
    applications: Vec<Application>,
    own_messages: u64,
}

#[derive(Clone)]
struct ClientBelief {
    node: usize,
    certificate: u8,
    open: bool,
    reads: bool,
    topics: Vec<u32>,
}

pub fn plan(seed: u64) -> Plan {
    if seed >= PRIVATE {
        return private::plan(seed);
    }
    let mut rng = StdRng::seed_from_u64(seed);
    let mut setup = setup(&mut rng, list_bounds(&mut StdRng::seed_from_u64(!seed)));
    setup.limits = wants::seldom_limited(seed, setup.limits);
    let mut generator = Generator::new(seed, rng, setup);
    generator.begin();
    let heals = generator.now + Duration::from_millis(1);
    generator.applications_publish(heals);
    generator.now = heals + QUIET;
    generator.coda();
    let Generator { mut steps, setup, .. } = generator;
    steps.sort_by_key(|step| step.at);
    Plan { seed, setup, steps, heals }
}

/// Lists in many pieces, and changes that soon make a new list.
fn list_bounds(rng: &mut StdRng) -> lists::Bounds {
    let mut one = |of: [usize; 4]| of[rng.random_range(0..of.len())];
    lists::Bounds {
        piece_bytes: one([60, 120, 300, 256 * 1024]),
        max_deltas: one([1, 3, 64, 64]),
        delta_bytes: one([200, 1_000, 4_096, 4_096]),
        ..lists::Bounds::default()
    }
}

fn setup(rng: &mut StdRng, lists: lists::Bounds) -> Setup {
    let nodes = if rng.random_bool(0.03) { rng.random_range(13..=30) } else { rng.random_range(2..=12) };
    let mut links: Vec<LinkSetup> = Vec::new();
    let mut add = |rng: &mut StdRng, a: usize, b: usize| {
        let ends = (a.min(b), a.max(b));
        if a != b && links.iter().all(|link| link.ends != ends) {
            let latency = micros(rng, 100..20_000);
            links.push(LinkSetup { ends, latency, jitter: micros(rng, 0..5_000) });
        }
    };
    // Trees, lines and rings, with a few links across or none.
    let (tree, ring) = (rng.random_bool(0.6), rng.random_bool(0.3));
    for node in 1..nodes {
        let other = if tree { rng.random_range(0..node) } else { node - 1 };
        add(rng, node, other);
    }
    if ring {
        add(rng, 0, nodes - 1);
    }
    for _ in 0..rng.random_range(0..=nodes) * usize::from(tree || rng.random_bool(0.3)) {
        let (a, b) = (rng.random_range(0..nodes), rng.random_range(0..nodes));
        add(rng, a, b);
    }
    let seldom = |rng: &mut StdRng, tight, roomy| if rng.random_bool(0.1) { tight } else { roomy };
    let limits = Limits {
        window_bytes: seldom(rng, 48, 1 << 20),
        window_entries: seldom(rng, 6, 100_000),
        in_flight: seldom(rng, 2, 1_024),
        waves: seldom(rng, 2, 64),
        relay: None,
        room: None,
        lists,
    };
    Setup { nodes, links, limits, to_the_end: rng.random_bool(0.03) }
}

fn micros(rng: &mut StdRng, range: Range<u64>) -> Duration {
    Duration::from_micros(rng.random_range(range))
}

impl Generator {
    fn new(seed: u64, rng: StdRng, setup: Setup) -> Self {
        Self {
            seed,
            rng,
            now: Duration::ZERO,
            steps: Vec::new(),
            up: vec![true; setup.nodes],
            setup,
            clients: Vec::new(),
            noisy: Vec::new(),
            messages: 0,
            instances: 0,
            wanted: BTreeMap::new(),
            applications: Vec::new(),
            own_messages: 0,
        }
    }

    fn begin(&mut self) {
        for node in 0..self.setup.nodes {
            for _ in 0..self.rng.random_range(0..3) {
                self.open(node, None);
            }
        }
        for _ in 0..self.rng.random_range(0..3) {
            self.open_at_two();
        }
        self.now += Duration::from_secs(3);
        let faulty = self.rng.random_bool(0.75);
        let faults = if faulty { self.rng.random_range(2..40) } else { 0 };
        let steps = if self.chance(0.05) { 80..400 } else { 20..80 };
        for _ in 0..self.rng.random_range(steps) {
            self.step(faults);
        }
        if self.rng.random_bool(0.1) {
            self.shut_down();
        }
        if faulty && self.rng.random_bool(0.05) {
            // Longer than lists outlive their nodes: what is left are tombstones.
            self.now += Duration::from_secs(80);
        }
    }

    /// Something happens; `faults` in a hundred times it breaks something.
    fn step(&mut self, faults: u32) {
        let breaks = self.rng.random_range(0..100) < faults;
        match self.rng.random_range(0..100) {
            _ if breaks => self.fault(),
            0..2 => self.churn(),
            2..12 => self.client_change(),
            12..17 => self.publish_through_two(),
            17..19 => self.leave_while_sent_to(),
            19..21 => self.publish_badly(),
            21 => self.open_at_two(),
            _ => self.publish(),
        }
        // Now and then a burst, so that messages could overtake each other.
        let most = if self.rng.random_bool(0.3) { 1_000 } else { 400_000 };
        self.pause(0..most);
    }

    fn pause(&mut self, micros_range: Range<u64>) {
        self.now += micros(&mut self.rng, micros_range);
    }

    fn act(&mut self, act: Act) {
        self.steps.push(Step { at: self.now, act });
    }

    fn chance(&mut self, chance: f64) -> bool {
        self.rng.random_bool(chance)
    }

    fn some_node(&mut self) -> Option<usize> {
        let up: Vec<usize> = (0..self.up.len()).filter(|node| self.up[*node]).collect();
        (!up.is_empty()).then(|| up[self.rng.random_range(0..up.len())])
    }

    fn some_client(&mut self, wanted: impl Fn(&ClientBelief) -> bool) -> Option<usize> {
        let found: Vec<usize> =
            (0..self.clients.len()).filter(|n| self.clients[*n].open && wanted(&self.clients[*n])).collect();
        (!found.is_empty()).then(|| found[self.rng.random_range(0..found.len())])
    }

    // ---- clients -------------------------------------------------------------------

    fn open(&mut self, node: usize, topics: Option<Vec<u32>>) -> usize {
        let behaviour = self.behaviour();
        let certificate = self.rng.random_range(0..200);
        let topics = topics.unwrap_or_else(|| self.some_topics());
        self.open_as(node, certificate, behaviour, topics)
    }

    fn open_as(&mut self, node: usize, certificate: u8, behaviour: Behaviour, topics: Vec<u32>) -> usize {
        let client = self.clients.len();
        let dialects = [Dialect::V1, Dialect::V3, Dialect::Extended, Dialect::Extended];
        let dialect = dialects[self.rng.random_range(0..dialects.len())];
        let receipts = self.receipts();
        self.act(Act::Open { client, node, dialect, certificate, behaviour, receipts, instance: None });
        self.clients.push(ClientBelief {
            node,
            certificate,
            open: true,
            reads: behaviour.reads(),
            topics: Vec::new(),
        });
        if !topics.is_empty() {
            self.subscribe(client, topics);
        }
        client
    }

    /// An application with sessions at two nodes, or twice at one, that has the same topics at both.
    fn open_at_two(&mut self) {
        let (behaviour, certificate, topics) =
            (self.behaviour(), self.rng.random_range(0..200), self.some_topics());
        self.instances += 1;
        let since = self.now + Duration::from_millis(10);
        let mut sessions = Vec::new();
        for _ in 0..2 {
            let Some(node) = self.some_node() else { return };
            let (client, dialect) = (self.clients.len(), Dialect::Extended);
            let instance = Some(self.instances);
            let receipts = self.receipts();
            self.act(Act::Open { client, node, dialect, certificate, behaviour, receipts, instance });
            // What it publishes is drawn apart.
            let reads = false;
            self.clients.push(ClientBelief { node, certificate, open: true, reads, topics: Vec::new() });
            self.subscribe(client, topics.clone());
            self.pause(0..20_000);
            sessions.push(client);
        }
        if behaviour.reads() {
            self.applications.push(Application { sessions, certificate, topics, since });
        }
    }

    fn behaviour(&mut self) -> Behaviour {
        match self.rng.random_range(0..40) {
            0..2 => Behaviour::Silent,
            2..4 => Behaviour::Refuses,
            4..6 => Behaviour::Stuck,
            6 => Behaviour::Full,
            7 => Behaviour::Leaves,
            8..11 => Behaviour::Slow(micros(&mut self.rng, 1_200_000..12_000_000)),
            11..17 => Behaviour::Prompt(micros(&mut self.rng, 50_000..800_000)),
            _ => Behaviour::Prompt(micros(&mut self.rng, 0..50_000)),
        }
    }

    fn receipts(&mut self) -> Receipts {
        match self.rng.random_range(0..20) {
            0 => Receipts::Never,
            1..4 => Receipts::After(micros(&mut self.rng, 2_000..2_000_000)),
            4..7 => Receipts::After(micros(&mut self.rng, 5_500_000..9_000_000)),
            _ => Receipts::After(micros(&mut self.rng, 0..2_000)),
        }
    }

    fn some_topics(&mut self) -> Vec<u32> {
        (0..TOPICS).filter(|_| self.rng.random_bool(0.4)).collect()
    }

    fn subscribe(&mut self, client: usize, topics: Vec<u32>) {
        self.clients[client].topics.clone_from(&topics);
        self.act(Act::Subscribe { client, topics });
    }

    fn close(&mut self, client: usize) {
        self.clients[client].open = false;
        self.act(Act::Close { client });
    }

    fn client_change(&mut self) {
        let known = self.some_client(|_| true);
        match known {
            Some(client) if self.chance(0.7) => {
                if self.chance(0.3) {
                    self.close(client);
                } else {
                    let topics = self.some_topics();
                    self.subscribe(client, topics);
                }
            }
            _ => {
                if let Some(node) = self.some_node() {
                    self.open(node, None);
                }
            }
        }
    }

    /// A client with many topics changes them every few milliseconds.
    fn churn(&mut self) {
        let Some(node) = self.some_node() else { return };
        let client = self.open_as(node, 0, Behaviour::Prompt(Duration::ZERO), Vec::new());
        let count = self.rng.random_range(10..300);
        for round in 0..self.rng.random_range(10..60) {
            self.act(Act::SubscribeMany { client, first: TOPICS + round, count });
            self.pause(500..15_000);
        }
        self.close(client);
    }

    // ---- messages ------------------------------------------------------------------

    fn mode(&mut self) -> Mode {
        if self.rng.random_bool(0.7) { Mode::Unicast } else { Mode::Multicast }
    }

    fn message(&mut self) -> u64 {
        self.messages += 1;
        self.messages
    }

    fn publish(&mut self) {
        let Some(client) = self.some_client(|client| client.reads) else {
            if let Some(node) = self.some_node() {
                self.open(node, None);
            }
            return;
        };
        let message = self.message();
        let mode = self.mode();
        let topic = self.rng.random_range(0..TOPICS);
        self.send(client, message, mode, topic);
        if self.chance(0.1) {
            self.pause(0..100_000);
            self.send(client, message, mode, topic);
        }
    }

    fn send(&mut self, client: usize, message: u64, mode: Mode, topic: u32) {
        let own = self.rng.random_bool(0.3);
        let deadline = own.then(|| micros(&mut self.rng, 500_000..60_000_000));
        let wants = self.wants(message);
        self.act(Act::Publish { client, message, mode, topic, deadline, wants });
    }

    /// One client, connected to several nodes, sends the same message through all of them.
    fn publish_through_two(&mut self) {
        let Some(client) = self.some_client(|client| client.reads) else { return };
        let ClientBelief { node, certificate, .. } = self.clients[client].clone();
        let message = self.message();
        let mode = if self.chance(0.5) { Mode::Unicast } else { Mode::Multicast };
        let topic = self.rng.random_range(0..TOPICS);
        let mut through = vec![client];
        for _ in 0..self.rng.random_range(1..3) {
            let Some(other) = self.some_node().filter(|other| *other != node) else { continue };
            let prompt = Behaviour::Prompt(Duration::from_millis(5));
            through.push(self.open_as(other, certificate, prompt, Vec::new()));
        }
        for client in through {
            self.send(client, message, mode, topic);
            self.pause(0..50_000);
        }
    }

    /// Subscribers go, or drop the topic, just when somebody elsewhere sends to it.
    fn leave_while_sent_to(&mut self) {
        let topic = self.rng.random_range(0..TOPICS);
        let Some(leaver) = self.some_client(|client| client.topics.contains(&topic)) else { return };
        let node = self.clients[leaver].node;
        let sender = self.some_client(|client| client.reads && client.node != node);
        if self.chance(0.5) {
            self.close(leaver);
        } else {
            self.subscribe(leaver, Vec::new());
        }
        for _ in 0..self.rng.random_range(1..4) {
            self.pause(0..8_000);
            let Some(client) = sender else { return };
            let message = self.message();
            self.send(client, message, Mode::Unicast, topic);
        }
    }

    fn publish_badly(&mut self) {
        let Some(client) = self.some_client(|client| client.reads) else { return };
        let all = [BadTopic::Malformed, BadTopic::BlockNotify, BadTopic::Private];
        let how = all[self.rng.random_range(0..all.len())];
        let message = self.message();
        self.act(Act::PublishBadly { client, message, how });
    }

    /// After the repair, where links are up and nothing breaks: changes and bursts.
    fn coda(&mut self) {
        for _ in 0..2 {
            let node = self.rng.random_range(0..self.setup.nodes);
            self.open(node, None);
        }
        self.now += Duration::from_millis(1_500);
        for _ in 0..self.rng.random_range(0..8) {
            self.publish();
            self.pause(0..2_000);
        }
    }
}

mod applications;
mod faults;
mod private;
mod wants;

pub use private::PRIVATE;
