//! Plans with private topics: publishers with different lists of keys, subscribers that hold them or
//! not, and everything that goes wrong while they find each other.

use super::{
    Act, Behaviour, ClientBelief, Dialect, Duration, Generator, Plan, QUIET, Receipts, RngExt, SeedableRng,
    StdRng, list_bounds, micros, setup,
};
use crate::{
    plan::Limits,
    private::{Forgery, KEYS, Role, TOPICS},
};

/// Seeds from here on are of such plans.
pub const PRIVATE: u64 = 1 << 32;

/// A session that has to do with private topics, as the plan believes.
struct Actor {
    client: usize,
    role: Role,
}

struct Private {
    base: Generator,
    actors: Vec<Actor>,
    channels: u64,
}

pub fn plan(seed: u64) -> Plan {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut setup = setup(&mut rng, list_bounds(&mut StdRng::seed_from_u64(!seed)));
    let (window_bytes, window_entries, in_flight) = (1 << 20, 100_000, 1_024);
    setup.limits = Limits { window_bytes, window_entries, in_flight, ..setup.limits };
    let mut private = Private { base: Generator::new(seed, rng, setup), actors: Vec::new(), channels: 0 };
    private.begin();
    let heals = private.base.now + Duration::from_millis(1);
    private.base.now = heals + QUIET;
    private.coda();
    let Generator { mut steps, setup, .. } = private.base;
    steps.sort_by_key(|step| step.at);
    Plan { seed, setup, steps, heals }
}

impl Private {
    fn begin(&mut self) {
        for node in 0..self.base.setup.nodes {
            if self.base.chance(0.4) {
                self.base.open(node, None);
            }
        }
        self.base.now += Duration::from_secs(3);
        self.publisher();
        let faults = if self.base.chance(0.6) { self.base.rng.random_range(2..30) } else { 0 };
        for _ in 0..self.base.rng.random_range(20..80) {
            self.step(faults);
        }
    }

    fn step(&mut self, faults: u32) {
        let breaks = self.base.rng.random_range(0..100) < faults;
        match self.base.rng.random_range(0..100) {
            _ if breaks => self.base.fault(),
            0..8 => self.publisher(),
            8..22 => _ = self.subscriber(),
            22..26 => self.copycat(),
            26..34 => self.change(),
            34..38 => self.end_meanwhile(faults > 0),
            38..41 => self.revoke(),
            41..48 => self.forge(),
            48..52 => self.send_as_stranger(),
            52..55 => self.base.publish(),
            _ => self.send(),
        }
        let most = if self.base.chance(0.3) { 5_000 } else { 500_000 };
        self.base.pause(0..most);
    }

    fn open(&mut self, role: Role) -> Option<usize> {
        let node = self.base.some_node()?;
        let client = self.base.clients.len();
        let dialects = [Dialect::V1, Dialect::V3, Dialect::Extended];
        let dialect = dialects[self.base.rng.random_range(0..dialects.len())];
        let certificate = self.base.rng.random_range(0..200);
        let behaviour = Behaviour::Prompt(micros(&mut self.base.rng, 0..50_000));
        let receipts = Receipts::After(micros(&mut self.base.rng, 0..2_000));
        self.base.act(Act::Open { client, node, dialect, certificate, behaviour, receipts, instance: None });
        let (open, reads, topics) = (true, false, Vec::new());
        self.base.clients.push(ClientBelief { node, certificate, open, reads, topics });
        self.base.act(Act::Private { client, role: Some(role.clone()) });
        self.actors.push(Actor { client, role });
        Some(client)
    }

    fn publisher(&mut self) {
        let rng = &mut self.base.rng;
        let topic = rng.random_range(0..TOPICS);
        let trusts = (1..=KEYS).filter(|_| rng.random_bool(0.6)).collect();
        let decides =
            if rng.random_bool(0.8) { micros(rng, 0..20_000) } else { micros(rng, 500_000..3_000_000) };
        self.open(Role::Publisher { topic, trusts, decides });
    }

    fn subscriber(&mut self) -> Option<usize> {
        let topic = self.base.rng.random_range(0..TOPICS);
        self.channels += 1;
        let role = self.subscriber_over(topic, self.channels);
        self.open(role)
    }

    fn subscriber_over(&mut self, topic: u32, channel: u64) -> Role {
        let rng = &mut self.base.rng;
        // One above is on nobody's list.
        let key = rng.random_range(1..=KEYS + 1);
        let answers = match rng.random_range(0..10) {
            0 => None,
            1 => Some(micros(rng, 500_000..3_000_000)),
            _ => Some(micros(rng, 0..20_000)),
        };
        Role::Subscriber { topic, channel, key, answers }
    }

    /// A session that claims the channel of another.
    fn copycat(&mut self) {
        let Some((_, Role::Subscriber { topic, channel, .. })) = self.some(is_subscriber) else { return };
        let role = self.subscriber_over(topic, channel);
        self.open(role);
    }

    fn some(&mut self, wanted: impl Fn(&Role) -> bool) -> Option<(usize, Role)> {
        let open = |actor: &&Actor| self.base.clients[actor.client].open && wanted(&actor.role);
        let found: Vec<(usize, Role)> =
            self.actors.iter().filter(open).map(|actor| (actor.client, actor.role.clone())).collect();
        (!found.is_empty()).then(|| found[self.base.rng.random_range(0..found.len())].clone())
    }

    fn report(&mut self, client: usize, role: Option<Role>) {
        if let Some(role) = &role {
            let actor = self.actors.iter_mut().find(|actor| actor.client == client);
            actor.into_iter().for_each(|actor| actor.role = role.clone());
        }
        self.base.act(Act::Private { client, role });
    }

    /// A subscriber has a new channel; a session gives its topic up, and perhaps has it again; or ends.
    fn change(&mut self) {
        let Some((client, role)) = self.some(|_| true) else { return };
        match (self.base.rng.random_range(0..10), role) {
            (0..5, Role::Subscriber { topic, .. }) => {
                self.channels += 1;
                let role = self.subscriber_over(topic, self.channels);
                self.report(client, Some(role));
            }
            (5..8, role) => {
                self.report(client, None);
                self.base.pause(0..300_000);
                self.report(client, Some(role));
            }
            _ => self.base.close(client),
        }
    }

    /// One of the two ends, or its node does, just while they find each other.
    fn end_meanwhile(&mut self, breaks: bool) {
        let Some((publisher, _)) = self.some(is_publisher) else { return };
        let Some(subscriber) = self.subscriber() else { return };
        self.base.pause(0..80_000);
        let one = if self.base.chance(0.5) { publisher } else { subscriber };
        let node = self.base.clients[one].node;
        match self.base.rng.random_range(0..3) {
            0 if breaks => self.base.restart(node),
            1 => self.report(one, None),
            _ => self.base.close(one),
        }
    }

    fn revoke(&mut self) {
        let Some((client, _)) = self.some(is_publisher) else { return };
        self.base.act(Act::Revoke { client });
        self.base.pause(0..10_000);
        self.send_by(client);
    }

    fn forge(&mut self) {
        let Some((client, _)) = self.some(|_| true) else { return };
        let all = [
            Forgery::OfAnother { trusted: true },
            Forgery::OfAnother { trusted: true },
            Forgery::OfAnother { trusted: false },
            Forgery::OtherTopic,
            Forgery::Repeated,
        ];
        let how = all[self.base.rng.random_range(0..all.len())];
        self.base.act(Act::Forge { client, how });
    }

    fn send(&mut self) {
        match self.some(is_publisher) {
            Some((client, _)) => self.send_by(client),
            None => self.publisher(),
        }
    }

    fn send_by(&mut self, client: usize) {
        let actor = self.actors.iter().find(|actor| actor.client == client);
        let Some(topic) = actor.map(|actor| actor.role.topic()) else { return };
        self.send_to(client, topic);
    }

    fn send_to(&mut self, client: usize, topic: u32) {
        let (message, mode) = (self.base.message(), self.base.mode());
        self.base.act(Act::PublishPrivate { client, message, mode, topic });
    }

    /// Who verified nobody sends, to the topic or to a channel.
    fn send_as_stranger(&mut self) {
        let Some((client, Role::Subscriber { topic, channel, .. })) = self.some(is_subscriber) else {
            return;
        };
        if self.base.chance(0.5) {
            return self.send_to(client, topic);
        }
        let message = self.base.message();
        self.base.act(Act::Challenge { client, message, topic, channel });
    }

    /// Where nothing breaks: some find each other, and publish.
    fn coda(&mut self) {
        self.publisher();
        for _ in 0..self.base.rng.random_range(1..5) {
            self.subscriber();
            self.base.pause(0..20_000);
        }
        self.base.now += Duration::from_millis(1_500);
        for _ in 0..self.base.rng.random_range(2..12) {
            self.send();
            self.base.pause(0..20_000);
        }
    }
}

fn is_publisher(role: &Role) -> bool {
    matches!(role, Role::Publisher { .. })
}

fn is_subscriber(role: &Role) -> bool {
    matches!(role, Role::Subscriber { .. })
}
