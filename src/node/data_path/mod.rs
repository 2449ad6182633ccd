//! The data path: core calls made where the frame is.
//!
//! Session and link tasks call in here with what they read. A call reads the routing snapshot,
//! runs the delivery machine of one shard under its lock, and puts what comes of it on the queue
//! of the next link or session; it never waits. **Invariant**: nothing that is called while a
//! shard is locked calls back into the data path.

mod frames;
mod journals;
mod limit;
mod standing;
mod timers;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use amop_protocol::{
    Cause, NodeId, SessionId, Time,
    broker::{
        bandwidth::{Bandwidth, Refusal, Shared},
        budget::Budget,
        dedup::Keyer,
        deliver::{Config, Delivery, MAX_SHARDS},
        event::{Action, Answer, AnswerBody, Hop, Mode, Outcome, Publish, PushError, PushId, Subscriber},
        routing::{NodeIndex, Routing},
    },
    wire::link::LinkFrame,
};
use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;

use self::{limit::Limit, timers::NextLook};
pub(super) use self::{standing::Standing, timers::sleep_until};
use super::{
    failures::Failures,
    links::Links,
    metrics::Metrics,
    trace::{Inquiries, Relayed},
};
use crate::{client_port::Registry, tasks};

/// Shards of pending state: enough that tasks on a few cores seldom meet.
pub(super) const SHARDS: usize = 8;
const _: () = assert!(SHARDS <= MAX_SHARDS);
/// Payloads above this size take long to hash.
const LARGE: usize = 1024 * 1024;

/// What a data path is made with.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) bounds: Bounds,
    /// A number that decides which holders of payloads share a place, and that nobody outside can know.
    pub(super) spread: u64,
    /// A number that no other start of this node has.
    pub(super) incarnation: u64,
    /// Makes message keys that nobody outside can compute.
    pub(super) secret: [u64; 2],
    /// Takes questions about messages, and answers to this node's own.
    pub(super) inquiries: Inquiries,
}

/// The part of the settings that may change while the node runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bounds {
    pub(super) delivery: Config,
    /// Mbit/s that clients together may send to other nodes; no limit if absent.
    pub(super) outgoing: Option<f64>,
    /// Mbit/s that each of them may send; no limit if absent.
    pub(super) of_client: Option<f64>,
    /// Mbit/s that are relayed for others; no limit if absent.
    pub(super) relayed: Option<f64>,
    /// Payload bytes held at once.
    pub(super) payloads: usize,
}

/// Everything a message needs on its way through this node.
#[derive(Debug)]
pub(super) struct DataPath {
    started: Instant,
    keyer: Keyer,
    shards: Vec<Mutex<Delivery>>,
    routing: ArcSwap<Routing>,
    registry: Arc<Registry>,
    links: Arc<Links>,
    bandwidth: Limit<Shared>,
    relay: Limit<Bandwidth>,
    budget: Budget,
    incarnation: u64,
    draining: AtomicBool,
    next_look: NextLook,
    failures: Failures,
    metrics: Metrics,
    relayed: Relayed,
    inquiries: Inquiries,
}

impl DataPath {
    /// A data path of the node that `routing` is the snapshot of.
    pub(super) fn new(
        settings: Settings,
        routing: Routing,
        registry: Arc<Registry>,
        links: Arc<Links>,
        metrics: Metrics,
    ) -> Self {
        let me = routing.me();
        let Settings { bounds, spread, incarnation, secret, inquiries } = settings;
        let Bounds { delivery, outgoing, of_client, relayed, payloads } = bounds;
        let budget = Budget::keyed(payloads, spread);
        let shard = |shard| Delivery::new(delivery, me, incarnation, shard).with_budget(budget.clone());
        let shards = (0..SHARDS).map(|number| Mutex::new(shard(number as u8)));
        Self {
            started: Instant::now(),
            keyer: Keyer::new(secret),
            shards: shards.collect(),
            relay: Limit::new(relayed.map(Bandwidth::from_mbit)),
            incarnation,
            routing: ArcSwap::from_pointee(routing),
            registry,
            links,
            bandwidth: Limit::new(Shared::from_mbit(outgoing, of_client)),
            draining: AtomicBool::new(false),
            next_look: NextLook::default(),
            failures: Failures::default(),
            metrics,
            budget,
            relayed: Relayed::new(SHARDS, delivery.journal),
            inquiries,
        }
    }

    /// Changes bounds for everything that comes from now on.
    pub(super) fn configure(&self, bounds: Bounds) {
        let Bounds { delivery, outgoing, of_client, relayed, payloads } = bounds;
        self.bandwidth.set(self.now(), outgoing, of_client);
        self.relay.set(self.now(), relayed);
        self.budget.set_max(payloads);
        self.in_every_shard(|shard, _, _| shard.configure(delivery));
    }

    /// Now, on the clock that the core is driven by.
    pub(super) fn now(&self) -> Time {
        Time::from_start(self.started.elapsed())
    }

    /// A moment of the core's clock on tokio's.
    pub(super) fn instant(&self, at: Time) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.started + at.since_start())
    }

    /// The current routing snapshot.
    pub(super) fn routing(&self) -> Guard<Arc<Routing>> {
        self.routing.load()
    }

    /// Puts a new snapshot in force for everything that follows.
    pub(super) fn set_routing(&self, routing: Routing) {
        let ways_differ = routing.ways_differ(&self.routing.load());
        self.routing.store(Arc::new(routing));
        if ways_differ {
            self.in_every_shard(Delivery::handle_routing);
        }
    }

    /// A client sends.
    pub(super) fn publish(&self, publish: Publish) {
        self.metrics.sends.inc();
        if let Err(refusal) = self.charge(&publish) {
            self.note_refused(&publish, refusal.cause);
            return self.ended(refused(&self.routing.load(), &publish, refusal));
        }
        let Publish { client, mode, topic, seq, payload, .. } = &publish;
        let key = || self.keyer.key(&client.fingerprint, *mode, topic, seq, payload);
        let key = if payload.len() > LARGE { tasks::at_length(key) } else { key() };
        let shard = Delivery::shard_of(key, SHARDS);
        self.in_shard(shard, |delivery, now, routing| delivery.handle_publish(now, routing, key, publish));
    }

    /// A client answers a push.
    pub(super) fn answer(&self, session: SessionId, push: PushId, answer: Answer) {
        self.in_shard(Delivery::shard_of_number(push.0), |delivery, now, routing| {
            delivery.handle_answer(now, routing, session, push, answer);
        });
    }

    /// Pushes were written in full, or will not be.
    pub(super) fn pushed(&self, session: SessionId, pushes: &[PushId], result: Result<(), PushError>) {
        for (shard, pushes) in by_shard(pushes) {
            self.in_shard(shard, |delivery, now, routing| {
                pushes.for_each(|push| delivery.handle_pushed(now, routing, session, push, result));
            });
        }
    }

    /// Who is at the other end of a session.
    pub(super) fn subscriber(&self, session: SessionId, subscriber: &Subscriber) {
        self.in_every_shard(|delivery, _, _| delivery.handle_subscriber(session, subscriber.clone()));
    }

    /// Pushes were written to a session that says itself when it has received them.
    pub(super) fn written(&self, session: SessionId, pushes: &[PushId]) {
        for (shard, pushes) in by_shard(pushes) {
            if let Some(shard) = self.shards.get(shard) {
                let mut delivery = shard.lock();
                pushes.for_each(|push| delivery.handle_written(session, push));
            }
        }
    }

    /// A session is gone.
    pub(super) fn closed(&self, session: SessionId) {
        self.in_every_shard(|delivery, now, routing| delivery.handle_session_closed(now, routing, session));
    }

    /// New sends get 99 from now on.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.in_every_shard(|delivery, _, _| delivery.handle_drain());
    }

    /// Everything in flight gets the outcome of how far it came; returns how many sends that were.
    pub(super) fn stop(&self) -> usize {
        let left = self.in_flight();
        self.in_every_shard(Delivery::handle_stop);
        left
    }

    /// A price is paid once per copy that may leave for another node.
    fn charge(&self, publish: &Publish) -> Result<(), Refusal> {
        if !self.bandwidth.is_set() || self.draining.load(Ordering::Relaxed) {
            return Ok(());
        }
        let routing = self.routing.load();
        let nodes = nodes_elsewhere(&routing, publish);
        let copies = if publish.mode == Mode::Unicast { nodes.min(1) } else { nodes };
        if copies == 0 {
            return Ok(());
        }
        let bytes = publish.payload.len().saturating_mul(copies);
        let Some(mut bandwidth) = self.bandwidth.lock() else { return Ok(()) };
        bandwidth.take(self.now(), publish.client.fingerprint, bytes)
    }

    fn in_every_shard(&self, mut call: impl FnMut(&mut Delivery, Time, &Routing)) {
        for shard in 0..SHARDS {
            self.in_shard(shard, &mut call);
        }
    }

    /// Runs the machine of one shard, carries out what comes of it, and sees that its timers fire.
    /// A number from outside may name no shard of ours; then there is nothing it could concern.
    fn in_shard(&self, shard: usize, call: impl FnOnce(&mut Delivery, Time, &Routing)) {
        let Some(shard) = self.shards.get(shard) else { return };
        let mut delivery = shard.lock();
        // Under the lock: whoever changes the routes has stored them before it comes here to have
        // sends rerouted, so none can start over an old way after that.
        let routing = self.routing.load();
        let now = self.now();
        call(&mut delivery, now, &routing);
        while let Some(action) = delivery.poll_action() {
            self.carry_out(action, &mut delivery, now, &routing);
        }
        if let Some(at) = delivery.poll_timeout() {
            self.next_look.by(at);
        }
    }

    fn carry_out(&self, action: Action, delivery: &mut Delivery, now: Time, routing: &Routing) {
        match action {
            Action::Push(push) => {
                let (session, id) = (push.session, push.id);
                if let Err(error) = self.registry.push(push) {
                    delivery.handle_pushed(now, routing, session, id, Err(error));
                }
            }
            Action::Outcome(outcome) => self.ended(outcome),
            Action::Handed { session, seq } => self.registry.handed(session, seq),
            Action::Forward { to, frame } => self.forward(to, frame),
        }
    }

    fn ended(&self, outcome: Outcome) {
        self.metrics.outcome(outcome.cause);
        self.failures.note(&outcome);
        self.registry.outcome(outcome);
    }

    fn forward(&self, to: NodeId, frame: LinkFrame) {
        let header = frame.header.clone();
        if !self.links.send(to, frame) {
            self.metrics.not_queued.inc();
            self.relayed.stopped(self.now(), Some(to), &header, Cause::Unreachable);
        }
    }
}

/// Other nodes that a message may go to.
fn nodes_elsewhere(routing: &Routing, publish: &Publish) -> usize {
    let Publish { session, topic, .. } = publish;
    if topic.is_reserved() {
        let to = routing.private().recipients(*session, topic).into_iter();
        let nodes: BTreeSet<NodeId> = to.map(|to| to.holder().node).collect();
        return nodes.iter().filter(|node| **node != routing.me()).count();
    }
    let elsewhere = |(index, _): &&(NodeIndex, u32)| routing.node(*index).is_some_and(|node| node.hops > 0);
    routing.topic(topic.as_str()).map_or(0, |routes| routes.nodes.iter().filter(elsewhere).count())
}

/// Pushes by the shard they belong to, so that each is locked once.
fn by_shard(pushes: &[PushId]) -> impl Iterator<Item = (usize, impl Iterator<Item = PushId>)> {
    let shard_of = |push: &PushId| Delivery::shard_of_number(push.0);
    let mut concerned = [false; SHARDS];
    for push in pushes {
        // A number from outside may name no shard of ours; then there is nothing it could concern.
        if let Some(concerned) = concerned.get_mut(shard_of(push)) {
            *concerned = true;
        }
    }
    let shards = (0..SHARDS).filter(move |shard| concerned[*shard]);
    shards.map(move |shard| (shard, pushes.iter().copied().filter(move |push| shard_of(push) == shard)))
}

fn refused(routing: &Routing, publish: &Publish, Refusal { cause, retry_after }: Refusal) -> Outcome {
    Outcome {
        session: publish.session,
        seq: publish.seq,
        mode: publish.mode,
        topic: Some(publish.topic.clone()),
        cause,
        body: AnswerBody::default(),
        retry_after,
        retry: cause.retry(),
        hop: Some(Box::new(Hop::of(routing, routing.me()))),
    }
}
