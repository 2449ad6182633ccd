//! Links that delay, lose, repeat and break, and what their ends notice of it.

use std::time::Duration;

use amop_protocol::{NodeId, Time};
use rand::{RngExt, rngs::StdRng};

use super::{Event, World};
use crate::{
    node::key_of,
    plan::{LinkSetup, Noise},
};

type Pair = (usize, usize);

pub(super) fn pair(a: usize, b: usize) -> Pair {
    (a.min(b), a.max(b))
}

pub(super) struct Link {
    latency: Duration,
    jitter: Duration,
    /// The newest connection; those up to `dead` are lost.
    generation: u32,
    dead: u32,
    noise: Noise,
    /// Lanes on which everything vanishes.
    mute: [bool; 2],
    /// When the last frame each way arrives: streams do not reorder, and what comes before the
    /// receiver knows of the link waits for it.
    busy: [Time; 2],
    rng: StdRng,
}

impl Link {
    pub(super) fn new(setup: &LinkSetup, rng: StdRng) -> Self {
        let LinkSetup { latency, jitter, .. } = *setup;
        let (noise, busy) = (Noise::default(), [Time::ZERO; 2]);
        Self { latency, jitter, generation: 0, dead: 0, noise, mute: [false; 2], busy, rng }
    }

    pub(super) fn is_up(&self) -> bool {
        self.generation > self.dead
    }

    /// Whether anybody may rely on it.
    fn is_sound(&self) -> bool {
        self.is_up() && self.noise == Noise::default() && self.mute == [false; 2]
    }

    /// How many copies of a frame arrive.
    fn copies(&mut self) -> usize {
        if self.noise == Noise::default() {
            return 1;
        }
        match self.rng.random_range(0.0..1.0) {
            draw if draw < self.noise.lost => 0,
            draw if draw > 1.0 - self.noise.twice => 2,
            _ => 1,
        }
    }
}

/// Frames from the lower number to the higher travel on lane 0.
fn lane(from: usize, to: usize) -> usize {
    usize::from(from > to)
}

impl World {
    pub(super) fn link_up(&mut self, number: usize) {
        let ends = self.numbered[number];
        let (a, b) = ends;
        if self.links[&ends].is_up() || self.slots[a].node.is_none() || self.slots[b].node.is_none() {
            return;
        }
        let [first, second] = self.soon(a).map(|after| after / 10);
        self.connect(ends, [first, second]);
    }

    /// A new connection, beside the old one if that still stands.
    fn connect(&mut self, ends: Pair, noticed: [Duration; 2]) {
        let (now, (a, b)) = (self.now, ends);
        let Some(link) = self.links.get_mut(&ends) else { return };
        link.generation += 1;
        link.mute = [false; 2];
        link.busy = [now + noticed[1], now + noticed[0]];
        let generation = link.generation;
        self.note("link up", &[a as u64, b as u64]);
        self.judge_link(ends, false);
        self.notice(a, b, generation, true, noticed[0]);
        self.notice(b, a, generation, true, noticed[1]);
    }

    pub(super) fn reconnect(&mut self, number: usize, noticed: [Duration; 2]) {
        let ends = self.numbered[number];
        if self.links[&ends].is_up() {
            // What was sent on the old connection may be lost.
            self.oracle.link(ends, false, false, self.now);
            self.connect(ends, noticed);
        }
    }

    pub(super) fn link_down(&mut self, ends: Pair, noticed: [Duration; 2]) {
        let Some(link) = self.links.get_mut(&ends).filter(|link| link.is_up()) else { return };
        let (before, generation) = (link.dead, link.generation);
        link.dead = generation;
        let (a, b) = ends;
        self.note("link down", &[a as u64, b as u64]);
        self.oracle.faults_injected += 1;
        self.judge_link(ends, false);
        for generation in before + 1..=generation {
            self.notice(a, b, generation, false, noticed[0]);
            self.notice(b, a, generation, false, noticed[1]);
        }
    }

    /// Everything on one lane vanishes, until the end that hears nothing gives up.
    pub(super) fn one_way(&mut self, number: usize, lane: usize, noticed: Duration) {
        let link = self.numbered[number];
        let Some(found) = self.links.get_mut(&link).filter(|found| found.is_up()) else { return };
        found.mute[lane] = true;
        let generation = found.generation;
        self.note("one way", &[link.0 as u64, link.1 as u64, lane as u64]);
        self.oracle.faults_injected += 1;
        self.judge_link(link, false);
        self.schedule(self.now + noticed, Event::GivenUp { link, generation });
    }

    pub(super) fn given_up(&mut self, ends: Pair, generation: u32) {
        if self.links[&ends].generation == generation {
            let noticed = self.soon(ends.0);
            self.link_down(ends, noticed);
        }
    }

    pub(super) fn noise(&mut self, number: usize, noise: Noise) {
        let ends = self.numbered[number];
        let Some(link) = self.links.get_mut(&ends) else { return };
        link.noise = noise;
        self.note("noise", &[ends.0 as u64, ends.1 as u64]);
        self.oracle.faults_injected += 1;
        self.judge_link(ends, true);
    }

    pub(super) fn repair_link(&mut self, number: usize) {
        let ends = self.numbered[number];
        let Some(link) = self.links.get_mut(&ends) else { return };
        let muted = link.mute != [false; 2];
        link.noise = Noise::default();
        if muted {
            self.link_down(ends, [Duration::ZERO; 2]);
        }
        self.judge_link(ends, false);
        self.link_up(number);
    }

    /// Tells the oracle whether the link can be relied on.
    fn judge_link(&mut self, ends: Pair, deaf: bool) {
        let sound = self.links[&ends].is_sound();
        self.oracle.link(ends, sound, deaf, self.now);
    }

    fn notice(&mut self, node: usize, peer: usize, generation: u32, up: bool, after: Duration) {
        let incarnation = self.slots[node].incarnation;
        self.schedule(self.now + after, Event::Noticed { node, incarnation, peer, generation, up });
    }

    pub(super) fn noticed(&mut self, node: usize, incarnation: u32, peer: usize, generation: u32, up: bool) {
        let now = self.now;
        let id = key_of(peer).id();
        let slot = &mut self.slots[node];
        let Some(sim) = slot.node.as_mut().filter(|_| slot.incarnation == incarnation) else { return };
        let link = &self.links[&pair(node, peer)];
        let known = slot.believes.get(&peer).copied();
        if up {
            if generation > link.dead && known.is_none_or(|known| known < generation) {
                // In place of an older one that is still believed in, if there is one.
                slot.believes.insert(peer, generation);
                sim.link_up(now, id);
            }
        } else if known == Some(generation) {
            slot.believes.remove(&peer);
            sim.link_down(now, id);
        }
        self.settle(node);
    }

    /// Whether a frame on this connection reaches a receiver that still, or already, believes in it.
    pub(super) fn arrives(&self, from: usize, to: usize, generation: u32) -> bool {
        let believed = self.slots[to].believes.get(&from) == Some(&generation);
        generation > self.links[&pair(from, to)].dead && believed
    }

    pub(super) fn transmit(&mut self, from: usize, to: NodeId, event: impl Fn(usize, usize, u32) -> Event) {
        let Some(to) = self.ids.get(&to).copied() else { return };
        let Some(generation) = self.slots[from].believes.get(&to).copied() else { return };
        let Some(link) = self.links.get_mut(&pair(from, to)) else { return };
        let lane = lane(from, to);
        if generation <= link.dead || link.mute[lane] {
            return;
        }
        for _ in 0..link.copies() {
            let link = self.links.get_mut(&pair(from, to)).expect("it was there");
            let jitter = link.rng.random_range(0..=link.jitter.as_micros() as u64);
            let arrives = self.now + link.latency + Duration::from_micros(jitter);
            link.busy[lane] = arrives.max(link.busy[lane]);
            let at = link.busy[lane];
            self.schedule(at, event(from, to, generation));
        }
    }
}
