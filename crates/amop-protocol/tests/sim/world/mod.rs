//! The virtual network: a clock, a queue of events, links that delay and break, nodes that crash.

mod checks;

use std::{collections::BTreeMap, hash::Hasher, time::Duration};

use amop_protocol::{
    NodeId, Seq, SessionId, Time,
    broker::event::{Answer, AnswerBody, Mode, Outcome, Push, PushError, PushId},
    wire::{generated::control::Message, link::LinkFrame},
};
use bytes::Bytes;
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use siphasher::sip::SipHasher13;

use crate::{
    node::{Out, SimNode, key_of, topic},
    oracle::{Behaviour, Oracle, Totals},
};

/// Deadline of the simulation's sends.
pub const DEADLINE: Duration = Duration::from_secs(30);

type Pair = (usize, usize);

enum Event {
    Control { from: usize, to: usize, generation: u32, message: Message },
    Data { from: usize, to: usize, generation: u32, frame: LinkFrame },
    Noticed { node: usize, incarnation: u32, peer: usize, generation: u32, up: bool },
    Wake { node: usize, incarnation: u32 },
    Written { node: usize, incarnation: u32, session: SessionId, push: PushId, message: u64 },
    Answered { node: usize, incarnation: u32, session: SessionId, push: PushId, message: u64, result: i32 },
}

struct Link {
    latency: Duration,
    jitter: Duration,
    up: bool,
    generation: u32,
    /// When the last frame each way arrives: streams do not reorder, and what comes before the
    /// receiver knows of the link waits for it.
    busy: [Time; 2],
}

struct Slot {
    node: Option<SimNode>,
    incarnation: u32,
    wake_at: Option<Time>,
    /// Peers whose link this node believes to be up, with the link's generation.
    believes: BTreeMap<usize, u32>,
}

pub struct World {
    pub rng: StdRng,
    pub now: Time,
    pub oracle: Oracle,
    slots: Vec<Slot>,
    ids: BTreeMap<NodeId, usize>,
    links: BTreeMap<Pair, Link>,
    queue: BTreeMap<(Time, u64), Event>,
    next_event: u64,
    next_message: u64,
    promises: checks::Promises,
    trace: SipHasher13,
    verbose: bool,
}

fn pair(a: usize, b: usize) -> Pair {
    (a.min(b), a.max(b))
}

impl World {
    pub fn new(seed: u64, verbose: bool) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            now: Time::ZERO,
            oracle: Oracle::new(DEADLINE),
            slots: Vec::new(),
            ids: BTreeMap::new(),
            links: BTreeMap::new(),
            queue: BTreeMap::new(),
            next_event: 0,
            next_message: 1,
            promises: checks::Promises::default(),
            trace: SipHasher13::new(),
            verbose,
        }
    }

    // ---- building ------------------------------------------------------------------

    pub fn add_node(&mut self) -> usize {
        let number = self.slots.len();
        self.ids.insert(key_of(number).id(), number);
        self.slots.push(Slot { node: None, incarnation: 0, wake_at: None, believes: BTreeMap::new() });
        self.start_node(number);
        number
    }

    pub fn add_link(&mut self, a: usize, b: usize) {
        let latency = Duration::from_micros(self.rng.random_range(100..20_000));
        let jitter = Duration::from_micros(self.rng.random_range(0..5_000));
        self.links
            .insert(pair(a, b), Link { latency, jitter, up: false, generation: 0, busy: [Time::ZERO; 2] });
    }

    pub fn start_node(&mut self, number: usize) {
        // A clock that is off by up to a minute either way: a restart may well come up "earlier".
        let skew = self.rng.random_range(0..120_000);
        let epoch = 100_000 + self.now.since_start().as_millis() as u64 + skew;
        let seed = self.rng.next_u64();
        let node = SimNode::start(number, self.now, epoch, seed, DEADLINE);
        let slot = &mut self.slots[number];
        slot.node = Some(node);
        slot.incarnation += 1;
        slot.wake_at = None;
        slot.believes.clear();
        self.note("starts", &[number as u64, epoch]);
        self.settle(number);
    }

    pub fn crash(&mut self, number: usize) {
        self.note("crashes", &[number as u64]);
        self.oracle.faults_injected += 1;
        let ups: Vec<Pair> = self
            .links
            .iter()
            .filter(|((a, b), link)| link.up && (*a == number || *b == number))
            .map(|(p, _)| *p)
            .collect();
        for (a, b) in ups {
            self.link_down(a, b);
        }
        if let Some(node) = self.slots[number].node.take() {
            for session in node.sessions.values() {
                self.oracle.session_ends(session.number, self.now);
            }
        }
    }

    pub fn link_up(&mut self, a: usize, b: usize) {
        let Some(link) = self.links.get_mut(&pair(a, b)) else { return };
        if link.up || self.slots[a].node.is_none() || self.slots[b].node.is_none() {
            return;
        }
        link.up = true;
        link.generation += 1;
        let generation = link.generation;
        let afters = [(); 2].map(|()| Duration::from_micros(self.rng.random_range(0..2_000)));
        let (low, high) = pair(a, b);
        link.busy = [self.now + afters[1], self.now + afters[0]];
        self.note("link up", &[a as u64, b as u64]);
        self.oracle.link_up(pair(a, b), self.now);
        self.notice(low, high, generation, true, afters[0]);
        self.notice(high, low, generation, true, afters[1]);
    }

    pub fn link_down(&mut self, a: usize, b: usize) {
        let Some(link) = self.links.get_mut(&pair(a, b)) else { return };
        if !link.up {
            return;
        }
        link.up = false;
        let generation = link.generation;
        self.note("link down", &[a as u64, b as u64]);
        self.oracle.faults_injected += 1;
        self.oracle.link_down(pair(a, b), self.now);
        let silent = self.rng.random_bool(0.2);
        for (node, peer) in [(a, b), (b, a)] {
            // Mostly a reset is seen at once; sometimes only keep-alives tell.
            let ceiling = if silent { 8_000_000 } else { 20_000 };
            let after = Duration::from_micros(self.rng.random_range(0..ceiling));
            self.notice(node, peer, generation, false, after);
        }
    }

    fn notice(&mut self, node: usize, peer: usize, generation: u32, up: bool, after: Duration) {
        let incarnation = self.slots[node].incarnation;
        self.schedule(after, Event::Noticed { node, incarnation, peer, generation, up });
    }

    // ---- clients -------------------------------------------------------------------

    pub fn alive(&self) -> Vec<usize> {
        (0..self.slots.len()).filter(|n| self.slots[*n].node.is_some()).collect()
    }

    pub fn nodes(&self) -> usize {
        self.slots.len()
    }

    pub fn link_pairs(&self) -> Vec<Pair> {
        self.links.keys().copied().collect()
    }

    pub fn open(&mut self, node: usize, certificate: u8, behaviour: Behaviour) -> Option<SessionId> {
        let number = self.oracle.session_begins(node, behaviour);
        Some(self.slots[node].node.as_mut()?.open(number, certificate, behaviour))
    }

    pub fn sessions(&self, node: usize) -> Vec<SessionId> {
        self.slots[node].node.iter().flat_map(|node| node.sessions.keys().copied()).collect()
    }

    pub fn report(&mut self, node: usize, session: SessionId, topics: Vec<u32>) {
        let Some(sim) = &mut self.slots[node].node else { return };
        let number = sim.sessions[&session].number;
        self.oracle.reports(number, &topics, self.now);
        sim.report(self.now, session, topics);
        self.note("reports", &[node as u64, session.0]);
        self.expect_settled(node);
        self.settle(node);
    }

    pub fn close(&mut self, node: usize, session: SessionId) {
        let Some(sim) = &mut self.slots[node].node else { return };
        let Some(life) = sim.sessions.get(&session) else { return };
        self.oracle.session_ends(life.number, self.now);
        sim.close(self.now, session);
        self.note("closes", &[node as u64, session.0]);
        self.expect_settled(node);
        self.settle(node);
    }

    pub fn certificate(&self, node: usize, session: SessionId) -> Option<u8> {
        let life = self.slots[node].node.as_ref()?.sessions.get(&session)?;
        Some(life.client.fingerprint.as_bytes()[0])
    }

    /// No more new sends here; those in flight go on.
    pub fn drain(&mut self, node: usize) {
        let Some(sim) = &mut self.slots[node].node else { return };
        let sessions: Vec<usize> = sim.sessions.values().map(|life| life.number).collect();
        sim.begin_drain(self.now);
        self.oracle.drains(&sessions, self.now);
        self.note("drains", &[node as u64]);
        self.settle(node);
    }

    /// The end of the grace: what is in flight gets its outcome, then the node is gone.
    pub fn stop(&mut self, node: usize) {
        let Some(sim) = &mut self.slots[node].node else { return };
        let sessions: Vec<usize> = sim.sessions.values().map(|life| life.number).collect();
        sim.stop(self.now);
        self.note("stops", &[node as u64]);
        self.settle(node);
        self.oracle.stopped(&sessions, self.now);
        self.crash(node);
    }

    pub fn new_message(&mut self) -> u64 {
        self.next_message += 1;
        self.next_message - 1
    }

    pub fn publish(&mut self, node: usize, session: SessionId, message: u64, mode: Mode, number: u32) {
        let Some(sim) = &mut self.slots[node].node else { return };
        let Some(publisher) = sim.sessions.get(&session) else { return };
        self.oracle.publishes(message, publisher.number, mode, number, self.now);
        let payload = Bytes::copy_from_slice(&message.to_be_bytes());
        sim.publish(self.now, session, Seq::from_u128(u128::from(message)), mode, topic(number), payload);
        self.note("publishes", &[node as u64, session.0, message]);
        self.settle(node);
    }

    // ---- running -------------------------------------------------------------------

    pub fn run_for(&mut self, span: Duration) {
        let until = self.now + span;
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > until {
                break;
            }
            let ((at, _), event) = entry.remove_entry();
            self.now = at;
            self.handle(event);
        }
        self.now = until;
    }

    fn schedule(&mut self, after: Duration, event: Event) {
        self.queue.insert((self.now + after, self.next_event), event);
        self.next_event += 1;
    }

    fn node(&mut self, number: usize, incarnation: u32) -> Option<&mut SimNode> {
        let slot = &mut self.slots[number];
        slot.node.as_mut().filter(|_| slot.incarnation == incarnation)
    }

    fn handle(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Control { from, to, generation, message } => {
                if let Some(id) = self.carried(from, to, generation)
                    && let Some(node) = &mut self.slots[to].node
                {
                    node.control_message(now, id, message);
                    self.settle(to);
                }
            }
            Event::Data { from, to, generation, frame } => {
                if let Some(id) = self.carried(from, to, generation)
                    && let Some(node) = &mut self.slots[to].node
                {
                    node.data_frame(now, id, frame);
                    self.settle(to);
                }
            }
            Event::Noticed { node, incarnation, peer, generation, up } => {
                self.noticed(node, incarnation, peer, generation, up);
            }
            Event::Wake { node, incarnation } => {
                if let Some(sim) = self.node(node, incarnation) {
                    sim.wake(now);
                    self.slots[node].wake_at = None;
                    self.settle(node);
                }
            }
            Event::Written { node, incarnation, session, push, message } => {
                self.written(node, incarnation, session, push, message);
            }
            Event::Answered { node, incarnation, session, push, message, result } => {
                self.answered(node, incarnation, session, push, message, result);
            }
        }
    }

    /// The sender's id if the link still is the one the frame was put on, both ends believing in it.
    fn carried(&self, from: usize, to: usize, generation: u32) -> Option<NodeId> {
        let link = &self.links[&pair(from, to)];
        let believed = self.slots[to].believes.get(&from) == Some(&generation);
        (link.up && link.generation == generation && believed).then(|| key_of(from).id())
    }

    fn noticed(&mut self, node: usize, incarnation: u32, peer: usize, generation: u32, up: bool) {
        let now = self.now;
        let id = key_of(peer).id();
        let slot = &mut self.slots[node];
        let Some(sim) = slot.node.as_mut().filter(|_| slot.incarnation == incarnation) else { return };
        let link = &self.links[&pair(node, peer)];
        let known = slot.believes.get(&peer).copied();
        if up {
            if link.up && link.generation == generation && known.is_none_or(|known| known < generation) {
                // A new link to a peer whose old one is still believed in replaces it.
                if known.is_some() {
                    sim.link_down(now, id);
                }
                slot.believes.insert(peer, generation);
                sim.link_up(now, id);
            }
        } else if known == Some(generation) {
            slot.believes.remove(&peer);
            sim.link_down(now, id);
        }
        self.settle(node);
    }

    fn written(&mut self, node: usize, incarnation: u32, session: SessionId, push: PushId, message: u64) {
        let now = self.now;
        let Some(sim) = self.node(node, incarnation) else { return };
        let Some(life) = sim.sessions.get(&session) else { return };
        let (number, behaviour) = (life.number, life.behaviour);
        sim.pushed(now, session, push, Ok(()));
        self.oracle.is_handed(message, number, now);
        let result = if behaviour == Behaviour::Refuses { 7 } else { 0 };
        let delay = match behaviour {
            Behaviour::Prompt(delay) => Some(delay),
            Behaviour::Refuses => Some(Duration::from_millis(1)),
            Behaviour::Silent | Behaviour::Stuck => None,
        };
        if let Some(delay) = delay {
            self.schedule(delay, Event::Answered { node, incarnation, session, push, message, result });
        }
        self.settle(node);
    }

    fn answered(
        &mut self,
        node: usize,
        incarnation: u32,
        session: SessionId,
        push: PushId,
        message: u64,
        result: i32,
    ) {
        let now = self.now;
        let Some(sim) = self.node(node, incarnation) else { return };
        let Some(life) = sim.sessions.get(&session) else { return };
        let number = life.number;
        let payload = [message.to_be_bytes(), (number as u64).to_be_bytes()].concat();
        let body = AnswerBody { prefix: Bytes::new(), payload: payload.into() };
        sim.answer(now, session, push, Answer { result, body });
        if result == 0 {
            self.oracle.answers(message, number, now);
        }
        self.settle(node);
    }

    /// Carries out what a node wants, and sees that it wakes when it wants to.
    fn settle(&mut self, number: usize) {
        let Some(node) = &mut self.slots[number].node else { return };
        for out in node.take_out() {
            match out {
                Out::Control { to, message } => self.transmit(number, to, |from, to, generation| {
                    Event::Control { from, to, generation, message }
                }),
                Out::Data { to, frame } => {
                    self.transmit(number, to, |from, to, generation| Event::Data {
                        from,
                        to,
                        generation,
                        frame,
                    });
                }
                Out::Push(push) => self.push(number, push),
                Out::Outcome(outcome) => self.outcome(number, outcome),
                Out::Settled(version) => self.settled(number, version),
            }
        }
        self.arm(number);
    }

    fn arm(&mut self, number: usize) {
        let slot = &mut self.slots[number];
        let Some(at) = slot.node.as_ref().and_then(SimNode::next_wake) else { return };
        if slot.wake_at.is_none_or(|armed| at < armed) {
            slot.wake_at = Some(at);
            let incarnation = slot.incarnation;
            self.schedule(at.since(self.now), Event::Wake { node: number, incarnation });
        }
    }

    fn transmit(&mut self, from: usize, to: NodeId, event: impl FnOnce(usize, usize, u32) -> Event) {
        let Some(to) = self.ids.get(&to).copied() else { return };
        let Some(generation) = self.slots[from].believes.get(&to).copied() else { return };
        let Some(link) = self.links.get_mut(&pair(from, to)) else { return };
        if !link.up || link.generation != generation {
            return;
        }
        let jitter = self.rng.random_range(0..=link.jitter.as_micros() as u64);
        let arrives = self.now + link.latency + Duration::from_micros(jitter);
        let lane = &mut link.busy[usize::from(from > to)];
        *lane = arrives.max(*lane);
        let after = lane.since(self.now);
        self.schedule(after, event(from, to, generation));
    }

    fn push(&mut self, node: usize, push: Push) {
        let message = u64::from_be_bytes(push.payload[..].try_into().expect("eight bytes"));
        self.note("pushes", &[node as u64, push.session.0, message]);
        let slot = &mut self.slots[node];
        let Some(sim) = &mut slot.node else { return };
        let Some(life) = sim.sessions.get(&push.session) else {
            sim.pushed(self.now, push.session, push.id, Err(PushError::Gone));
            return self.settle(node);
        };
        if life.behaviour == Behaviour::Stuck {
            return;
        }
        let incarnation = slot.incarnation;
        // A connection is a stream: what is written to it arrives in order.
        let after = Duration::from_micros(self.rng.random_range(10..2_000));
        let written = life.written.max(self.now + after);
        if let Some(life) = sim.sessions.get_mut(&push.session) {
            life.written = written;
        }
        self.schedule(
            written.since(self.now),
            Event::Written { node, incarnation, session: push.session, push: push.id, message },
        );
    }

    fn outcome(&mut self, node: usize, outcome: Outcome) {
        let message = outcome.seq.to_u128().expect("a seq of ours") as u64;
        self.note("outcome", &[node as u64, outcome.session.0, message, outcome.cause as u64]);
        let Some(sim) = &self.slots[node].node else { return };
        let Some(life) = sim.sessions.get(&outcome.session) else { return };
        let number = life.number;
        let answer = <[u8; 16]>::try_from(&outcome.body.payload[..]).ok().map(|bytes| {
            let half = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
            (half(0), half(8) as usize)
        });
        self.oracle.outcome(message, number, outcome.cause, answer, self.now);
    }

    // ---- judging -------------------------------------------------------------------

    pub fn faults(&self) -> Vec<String> {
        self.oracle.broken.clone()
    }

    pub fn totals(&self) -> Totals {
        self.oracle.totals()
    }

    pub fn summary(&self) -> String {
        format!("{} nodes, {} links: {}", self.slots.len(), self.links.len(), self.totals())
    }

    pub fn trace(&self) -> u64 {
        self.trace.finish()
    }

    fn note(&mut self, what: &str, numbers: &[u64]) {
        self.trace.write(what.as_bytes());
        self.trace.write_u128(self.now.since_start().as_nanos());
        for number in numbers {
            self.trace.write_u64(*number);
        }
        if self.verbose {
            println!("{:>12.6} {what} {numbers:?}", self.now.since_start().as_secs_f64());
        }
    }
}
