//! The virtual network: a clock, a queue of events, nodes that crash.

mod checks;
mod clients;
mod links;
mod private;

use std::{collections::BTreeMap, hash::Hasher, time::Duration};

use amop_protocol::{
    NodeId, Seq, SessionId, Time,
    broker::{control::Counters, event::PushId},
    session::once::{Answer, Once, Ticket},
    wire::{channel::Frame, generated::control::Message, link::LinkFrame},
};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use siphasher::sip::SipHasher13;

use self::{
    links::Link,
    private::{Decision, Handshakes},
};
use crate::{
    client::Client,
    node::{Out, SimNode, key_of},
    oracle::{Oracle, Totals},
    plan::{Act, Limits, Plan},
};

/// Events after which a run is stopped: something goes round for ever.
const MAX_EVENTS: u64 = 1_000_000;

enum Event {
    Control {
        from: usize,
        to: usize,
        generation: u32,
        message: Message,
    },
    Data {
        from: usize,
        to: usize,
        generation: u32,
        frame: LinkFrame,
    },
    Noticed {
        node: usize,
        incarnation: u32,
        peer: usize,
        generation: u32,
        up: bool,
    },
    /// Frames of a link have vanished one way for long enough.
    GivenUp {
        link: (usize, usize),
        generation: u32,
    },
    Wake {
        node: usize,
        incarnation: u32,
    },
    Written {
        at: Place,
        client: usize,
        frame: Frame,
        push: Option<PushId>,
    },
    /// A client answers a message, or says that it has received it.
    Answer {
        at: Place,
        client: usize,
        frame: Frame,
        message: u64,
    },
    /// A publisher decides about a subscriber.
    Decides {
        at: Place,
        client: usize,
        decision: Box<Decision>,
    },
    /// An application with several sessions answers a request, by all ways it came.
    AnswerAll {
        instance: usize,
        ticket: Ticket,
        answer: Answer,
    },
}

/// A session of one start of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    node: usize,
    incarnation: u32,
    session: SessionId,
}

/// A push that came to an application.
#[derive(Clone, Copy, Debug)]
struct Way {
    at: Place,
    client: usize,
    push: Seq,
}

struct Slot {
    node: Option<SimNode>,
    incarnation: u32,
    wake_at: Option<Time>,
    /// Peers whose link this node believes to be up, with the link's generation.
    believes: BTreeMap<usize, u32>,
    rng: StdRng,
}

pub struct World {
    pub now: Time,
    pub oracle: Oracle,
    limits: Limits,
    slots: Vec<Slot>,
    ids: BTreeMap<NodeId, usize>,
    links: BTreeMap<(usize, usize), Link>,
    /// Links in the order of the plan.
    numbered: Vec<(usize, usize)>,
    clients: BTreeMap<usize, (Client, Place)>,
    /// What applications with several sessions have had.
    instances: BTreeMap<usize, Once<Way>>,
    handshakes: Handshakes,
    queue: BTreeMap<(Time, u64), Event>,
    next_event: u64,
    promises: checks::Promises,
    trace: SipHasher13,
    verbose: bool,
}

impl World {
    /// A plan's nodes and links, before the first step.
    pub fn new(plan: &Plan, verbose: bool) -> Self {
        let mut world = Self {
            now: Time::ZERO,
            oracle: Oracle::new(&plan.setup),
            limits: plan.setup.limits,
            slots: Vec::new(),
            ids: BTreeMap::new(),
            links: BTreeMap::new(),
            numbered: plan.setup.links.iter().map(|link| link.ends).collect(),
            clients: BTreeMap::new(),
            instances: BTreeMap::new(),
            handshakes: Handshakes::default(),
            queue: BTreeMap::new(),
            next_event: 0,
            promises: checks::Promises::default(),
            trace: SipHasher13::new(),
            verbose,
        };
        for number in 0..plan.setup.nodes {
            world.ids.insert(key_of(number).id(), number);
            let rng = StdRng::seed_from_u64(plan.seed.wrapping_mul(64).wrapping_add(number as u64));
            let (incarnation, believes) = (0, BTreeMap::new());
            world.slots.push(Slot { node: None, incarnation, wake_at: None, believes, rng });
            let skew = Duration::from_micros(world.slots[number].rng.random_range(0..120_000_000));
            world.start(number, skew);
        }
        for (number, link) in plan.setup.links.iter().enumerate() {
            let rng = StdRng::seed_from_u64(!plan.seed.wrapping_mul(64).wrapping_add(number as u64));
            world.links.insert(link.ends, Link::new(link, rng));
            world.link_up(number);
        }
        world
    }

    /// Carries out one step of the plan.
    pub fn act(&mut self, act: &Act) {
        if act.disturbs() {
            self.calm(false);
            self.oracle.disturbed(self.now);
        }
        match act.clone() {
            Act::Open { client, node, dialect, certificate, behaviour, receipts, instance } => {
                self.open(client, Client::new(node, dialect, behaviour, receipts, instance), certificate);
            }
            Act::Subscribe { client, topics } => self.subscribe(client, &topics),
            Act::SubscribeMany { client, first, count } => {
                self.subscribe(client, &(first..first + count).collect::<Vec<_>>());
            }
            Act::Close { client } => self.close(client),
            Act::Publish { client, message, mode, topic, deadline, wants } => {
                self.publish(client, message, mode, topic, deadline, wants);
            }
            Act::PublishBadly { client, message, how } => self.publish_badly(client, message, how),
            Act::Private { client, role } => self.take_role(client, role),
            Act::PublishPrivate { client, message, mode, topic } => {
                self.publish_private(client, message, mode, topic);
            }
            Act::Challenge { client, message, topic, channel } => {
                self.challenge_unasked(client, message, topic, channel);
            }
            Act::Revoke { client } => self.revoke(client),
            Act::Forge { client, how } => self.forge(client, how),
            Act::LinkUp { link } => self.link_up(link),
            Act::LinkDown { link, noticed } => self.link_down(self.numbered[link], noticed),
            Act::Reconnect { link, noticed } => self.reconnect(link, noticed),
            Act::OneWay { link, lane, noticed } => self.one_way(link, lane, noticed),
            Act::Noise { link, noise } => self.noise(link, noise),
            Act::Crash { node } => self.crash(node),
            Act::Start { node, skew } => self.start(node, skew),
            Act::Drain { node } => self.drain(node),
            Act::Stop { node } => self.stop(node),
        }
    }

    /// Starts what is down, anew what is only shutting down, and gives every link a new connection on a good line.
    pub fn repair(&mut self) {
        self.calm(false);
        self.oracle.disturbed(self.now);
        for node in 0..self.slots.len() {
            // A part of a plan may leave out the end of a shutdown.
            if self.slots[node].node.as_ref().is_some_and(|sim| sim.drained.is_some()) {
                self.stop(node);
            }
            self.start(node, Duration::from_secs(60));
        }
        for link in 0..self.numbered.len() {
            self.repair_link(link);
        }
    }

    pub fn start(&mut self, number: usize, skew: Duration) {
        if self.slots[number].node.is_some() {
            return;
        }
        let epoch = 100_000_000 + (self.now.since_start() + skew).as_micros() as u64;
        let slot = &mut self.slots[number];
        let seed = slot.rng.next_u64();
        slot.node = Some(SimNode::start(number, self.now, epoch, seed, self.limits));
        slot.incarnation += 1;
        slot.wake_at = None;
        slot.believes.clear();
        self.note("starts", &[number as u64, epoch]);
        self.oracle.starts(number, epoch);
        self.settle(number);
    }

    pub fn crash(&mut self, number: usize) {
        let Some(node) = self.slots[number].node.take() else { return };
        self.note("crashes", &[number as u64]);
        let ups: Vec<_> = self.links.keys().filter(|(a, b)| *a == number || *b == number).copied().collect();
        for ends in ups {
            let noticed = self.soon(number);
            self.link_down(ends, noticed);
        }
        for session in node.sessions.values() {
            self.clients.remove(&session.number);
            self.oracle.session_ends(session.number, self.now);
        }
    }

    /// No more new sends here; those in flight go on.
    fn drain(&mut self, node: usize) {
        let Some(sim) = &mut self.slots[node].node else { return };
        let sessions: Vec<usize> = sim.sessions.values().map(|session| session.number).collect();
        sim.begin_drain(self.now);
        self.oracle.drains(&sessions, self.now);
        self.note("drains", &[node as u64]);
        self.settle(node);
    }

    /// The end of the grace: what is in flight gets its outcome, its clients read it, then the node is gone.
    fn stop(&mut self, node: usize) {
        let Some(sim) = &mut self.slots[node].node else { return };
        let sessions: Vec<usize> = sim.sessions.values().map(|session| session.number).collect();
        sim.stop(self.now);
        self.note("stops", &[node as u64]);
        self.settle(node);
        self.oracle.stopped(&sessions, self.now);
        let flushed = self.slots[node].node.iter().flat_map(|sim| sim.sessions.values());
        let flushed = flushed.map(|session| session.written).max().unwrap_or(self.now);
        self.run_until(flushed.max(self.now));
        self.crash(node);
    }

    // ---- running -------------------------------------------------------------------

    pub fn run_for(&mut self, span: Duration) {
        self.run_until(self.now + span);
    }

    pub fn run_until(&mut self, until: Time) {
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= until) {
            let ((at, _), event) = entry.remove_entry();
            self.now = at;
            self.handle(event);
            if self.next_event > MAX_EVENTS {
                self.oracle.broken.push(format!("there is no end of events, at {at:?}"));
                return self.queue.clear();
            }
        }
        self.now = self.now.max(until);
    }

    fn schedule(&mut self, at: Time, event: Event) {
        self.queue.insert((at, self.next_event), event);
        self.next_event += 1;
    }

    fn node(&mut self, number: usize, incarnation: u32) -> Option<&mut SimNode> {
        let slot = &mut self.slots[number];
        slot.node.as_mut().filter(|_| slot.incarnation == incarnation)
    }

    /// Two moments in the next few milliseconds.
    fn soon(&mut self, node: usize) -> [Duration; 2] {
        [(); 2].map(|()| Duration::from_micros(self.slots[node].rng.random_range(0..20_000)))
    }

    fn handle(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Control { from, to, generation, message } => {
                if self.arrives(from, to, generation)
                    && let Some(node) = &mut self.slots[to].node
                {
                    node.control_message(now, key_of(from).id(), message);
                    self.settle(to);
                }
            }
            Event::Data { from, to, generation, frame } => {
                if self.arrives(from, to, generation)
                    && let Some(node) = &mut self.slots[to].node
                {
                    node.data_frame(now, key_of(from).id(), frame);
                    self.settle(to);
                }
            }
            Event::Noticed { node, incarnation, peer, generation, up } => {
                self.noticed(node, incarnation, peer, generation, up);
            }
            Event::GivenUp { link, generation } => self.given_up(link, generation),
            Event::Wake { node, incarnation } => {
                if let Some(sim) = self.node(node, incarnation) {
                    sim.wake(now);
                    self.slots[node].wake_at = None;
                    self.settle(node);
                }
            }
            Event::Written { at, client, frame, push } => self.written(at, client, frame, push),
            Event::Answer { at, client, frame, message } => self.client_answers(at, client, frame, message),
            Event::Decides { at, client, decision } => self.decides(at, client, *decision),
            Event::AnswerAll { instance, ticket, answer } => self.answer_all(instance, ticket, &answer),
        }
    }

    /// Carries out what a node wants, and sees that it wakes when it wants to.
    fn settle(&mut self, number: usize) {
        let Some(node) = &mut self.slots[number].node else { return };
        self.oracle.runs(number, node.control.version().epoch, self.now);
        for out in node.take_out() {
            match out {
                Out::Control { to, message } => self.transmit(number, to, |from, to, generation| {
                    Event::Control { from, to, generation, message: message.clone() }
                }),
                Out::Data { to, frame } => self.transmit(number, to, |from, to, generation| Event::Data {
                    from,
                    to,
                    generation,
                    frame: frame.clone(),
                }),
                Out::Write { session, client, frame, push } => {
                    self.write(number, session, client, &frame, push)
                }
                Out::Settled(version) => self.settled(number, version),
                Out::RefusedByRelay(message) => {
                    self.note("relay refuses", &[number as u64, message]);
                    self.oracle.relay_refuses(message, self.now);
                }
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
            self.schedule(at.max(self.now), Event::Wake { node: number, incarnation });
        }
    }

    fn alive(&self) -> Vec<usize> {
        (0..self.slots.len()).filter(|n| self.slots[*n].node.is_some()).collect()
    }

    // ---- told ----------------------------------------------------------------------

    pub fn totals(&self) -> Totals {
        let counted = self.slots.iter().filter_map(|slot| Some(slot.node.as_ref()?.control.counters()));
        let sum = |(lists, deltas), node: Counters| (lists + node.lists, deltas + node.deltas);
        let (lists, deltas) = counted.fold((0, 0), sum);
        Totals { lists, deltas, ..self.oracle.totals() }
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
