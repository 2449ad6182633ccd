//! What breaks.

use super::{Act, Behaviour, ClientBelief, Duration, Generator, Mode, Noise, RngExt, Step, TOPICS, micros};

impl Generator {
    pub(super) fn fault(&mut self) {
        let link = self.rng.random_range(0..self.setup.links.len());
        let node = self.rng.random_range(0..self.setup.nodes);
        match self.rng.random_range(0..28) {
            0..5 => self.link_down(link),
            5..9 => self.link_up(link),
            9..11 => {
                let noticed = [(); 2].map(|()| micros(&mut self.rng, 0..200_000));
                self.act(Act::Reconnect { link, noticed });
            }
            11..13 => {
                let (lane, noticed) =
                    (self.rng.random_range(0..2), micros(&mut self.rng, 10_000..10_000_000));
                self.act(Act::OneWay { link, lane, noticed });
            }
            13..15 => self.noise(link),
            15 => self.crash(node),
            16 => self.start(node),
            17..20 => self.restart(node),
            20..22 => self.forgetful_publisher(),
            22 => self.partition(),
            25..28 => self.publisher_goes_elsewhere(),
            _ => self.swallowed_answers(),
        }
    }

    pub(super) fn link_up(&mut self, link: usize) {
        self.act(Act::LinkUp { link });
    }

    fn link_down(&mut self, link: usize) {
        // Mostly a reset is seen at once; sometimes only silence tells.
        let ceiling = if self.rng.random_bool(0.2) { 8_000_000 } else { 20_000 };
        let noticed = [(); 2].map(|()| micros(&mut self.rng, 0..ceiling));
        self.act(Act::LinkDown { link, noticed });
    }

    /// A line goes bad, or a bad one good.
    fn noise(&mut self, link: usize) {
        if let Some(link) = self.noisy.pop().filter(|_| self.rng.random_bool(0.5)) {
            return self.act(Act::Noise { link, noise: Noise::default() });
        }
        let noise = Noise { lost: self.rng.random_range(0.02..0.6), twice: self.rng.random_range(0.0..0.3) };
        self.noisy.push(link);
        self.act(Act::Noise { link, noise });
    }

    fn crash(&mut self, node: usize) {
        self.forget_clients(node);
        self.act(Act::Crash { node });
    }

    fn forget_clients(&mut self, node: usize) {
        self.up[node] = false;
        self.clients.iter_mut().filter(|client| client.node == node).for_each(|client| client.open = false);
    }

    /// With a clock that may be a minute off: it may well come up "earlier" than before.
    pub(super) fn start(&mut self, node: usize) {
        if self.up[node] {
            return;
        }
        self.up[node] = true;
        let skew = micros(&mut self.rng, 0..120_000_000);
        self.act(Act::Start { node, skew });
        for link in 0..self.setup.links.len() {
            let (a, b) = self.setup.links[link].ends;
            if a == node || b == node {
                self.link_up(link);
            }
        }
    }

    /// A node is back within a gossip period, its clients with the same topics or others, or none.
    pub(super) fn restart(&mut self, node: usize) {
        let mut before: Vec<ClientBelief> =
            self.clients.iter().filter(|client| client.open && client.node == node).cloned().collect();
        if self.rng.random_bool(0.3)
            && let Some(client) = self.some_client(|client| client.node == node)
        {
            // A node whose topics have changed often has a higher sequence than it starts again with.
            for _ in 0..self.rng.random_range(2..8) {
                let topics = self.some_topics();
                self.subscribe(client, topics);
                self.pause(6_000..30_000);
            }
        }
        self.crash(node);
        self.pause(0..1_000_000);
        self.start(node);
        let same = self.rng.random_bool(0.4);
        before.truncate(self.rng.random_range(0..3));
        for client in before {
            self.pause(0..50_000);
            self.open(node, same.then_some(client.topics));
        }
    }

    /// A publisher's node forgets its sends, whose answers come when it has others.
    fn forgetful_publisher(&mut self) {
        let Some(client) = self.some_client(|client| client.reads) else { return };
        let node = self.clients[client].node;
        let Some(elsewhere) = self.some_node().filter(|other| *other != node) else { return };
        let topic = self.rng.random_range(0..TOPICS);
        let slow = Behaviour::Prompt(micros(&mut self.rng, 300_000..900_000));
        self.open_as(elsewhere, 201, slow, vec![topic]);
        self.pause(50_000..400_000);
        for _ in 0..4 {
            let message = self.message();
            self.send(client, message, Mode::Unicast, topic);
        }
        self.pause(20_000..200_000);
        self.crash(node);
        self.start(node);
        let client = self.open_as(node, 202, slow, Vec::new());
        self.pause(50_000..150_000);
        for _ in 0..4 {
            let message = self.message();
            self.send(client, message, Mode::Unicast, topic);
        }
    }

    /// A publisher loses its node, or only the connection, with sends in flight, and sends the same
    /// messages through another.
    fn publisher_goes_elsewhere(&mut self) {
        let Some(client) = self.some_client(|client| client.reads) else { return };
        let ClientBelief { node, certificate, .. } = self.clients[client].clone();
        let Some(other) = self.some_node().filter(|other| *other != node) else { return };
        let prompt = Behaviour::Prompt(Duration::from_millis(5));
        let elsewhere = self.open_as(other, certificate, prompt, Vec::new());
        let sent: Vec<(u64, Mode, u32)> = (0..self.rng.random_range(1..6))
            .map(|_| (self.message(), self.mode(), self.rng.random_range(0..TOPICS)))
            .collect();
        for (message, mode, topic) in &sent {
            self.send(client, *message, *mode, *topic);
            self.pause(0..10_000);
        }
        self.pause(0..300_000);
        let how = self.rng.random_range(0..3);
        match how {
            0 => self.close(client),
            1 => self.act(Act::Drain { node }),
            _ => self.crash(node),
        }
        self.pause(0..30_000);
        for (message, mode, topic) in sent {
            self.send(elsewhere, message, mode, topic);
            self.pause(0..5_000);
        }
        if how == 1 {
            self.pause(0..2_000_000);
            self.act(Act::Stop { node });
            self.forget_clients(node);
        }
    }

    /// A relay restarts, or its lines go bad, just when the answers of a subscriber pass.
    fn swallowed_answers(&mut self) {
        let Some(client) = self.some_client(|client| client.reads) else { return };
        let node = self.clients[client].node;
        let Some(elsewhere) = self.some_node().filter(|other| *other != node) else { return };
        let Some(relay) = self.some_node().filter(|relay| *relay != node && *relay != elsewhere) else {
            return;
        };
        let topic = self.rng.random_range(0..TOPICS);
        let answers_after = micros(&mut self.rng, 100_000..500_000);
        self.open_as(elsewhere, 203, Behaviour::Prompt(answers_after), vec![topic]);
        self.pause(1_000_000..1_200_000);
        for _ in 0..4 {
            let message = self.message();
            self.send(client, message, Mode::Unicast, topic);
            self.pause(0..10_000);
        }
        self.now += answers_after;
        self.pause(0..40_000);
        if self.chance(0.5) {
            self.crash(relay);
            return self.start(relay);
        }
        let lines = (0..self.setup.links.len()).filter(|link| {
            let (a, b) = self.setup.links[*link].ends;
            a == relay || b == relay
        });
        for (link, lost) in lines.flat_map(|link| [(link, 0.999), (link, 0.0)]).collect::<Vec<_>>() {
            let at = self.now + Duration::from_millis(if lost > 0.0 { 0 } else { 200 });
            self.steps.push(Step { at, act: Act::Noise { link, noise: Noise { lost, twice: 0.0 } } });
        }
        self.now += Duration::from_millis(200);
    }

    /// All links between two halves are lost at once.
    fn partition(&mut self) {
        let half: Vec<bool> = (0..self.setup.nodes).map(|_| self.rng.random_bool(0.5)).collect();
        for link in 0..self.setup.links.len() {
            let (a, b) = self.setup.links[link].ends;
            if half[a] != half[b] {
                self.link_down(link);
            }
        }
    }

    /// A node shuts down in an orderly way, with sends in flight.
    pub(super) fn shut_down(&mut self) {
        let Some(node) = self.some_node() else { return };
        for _ in 0..6 {
            self.publish();
        }
        let Some(client) = self.some_client(|client| client.node == node && client.reads) else { return };
        for mode in [Mode::Unicast, Mode::Multicast] {
            let message = self.message();
            self.send(client, message, mode, 0);
        }
        self.pause(1_000..2_000);
        self.act(Act::Drain { node });
        let message = self.message();
        self.send(client, message, Mode::Unicast, 0);
        self.pause(0..5_000_000);
        self.act(Act::Stop { node });
        self.up[node] = false;
    }
}
