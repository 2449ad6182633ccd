//! The data path: core calls made where the frame is.
//!
//! Session and link tasks call in here with what they read. A call reads the routing snapshot,
//! runs the delivery machine of one shard under its lock, and puts what comes of it on the queue
//! of the next link or session; it never waits. **Invariant**: nothing that is called while a
//! shard is locked calls back into the data path.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use amop_protocol::{
    Cause, NodeId, SessionId, Time,
    broker::{
        bandwidth::{Bandwidth, Refusal, Shared},
        budget::Budget,
        dedup::{Keyer, MessageKey},
        deliver::{Config, Counters, Delivery, MAX_SHARDS, refusal, route_frame},
        event::{Action, Answer, AnswerBody, Hop, Mode, Outcome, Publish, PushError, PushId, Subscriber},
        journal::{Entry, Key, Name, Step},
        routing::{NodeIndex, Routing},
        seal::{self, Unheard},
    },
    wire::{
        inquiry,
        link::LinkFrame,
        peer::{self, Body, DataError, Envelope, SendRef},
    },
};
use arc_swap::{ArcSwap, Guard};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{
    failures::Failures,
    links::Links,
    metrics::Metrics,
    trace::{Inquiries, Relayed},
};
use crate::{
    client_port::Registry,
    tasks::{self, Tasks},
    telemetry::overview::Failed,
};

/// Shards of pending state: enough that tasks on a few cores seldom meet.
pub(super) const SHARDS: usize = 8;
const _: () = assert!(SHARDS <= MAX_SHARDS);
/// Payloads above this size take long to hash.
const LARGE: usize = 1024 * 1024;
/// Entries of a journal that are read under one lock: tens of microseconds.
const PORTION: usize = 1024;
/// When to try again if a large frame found no room.
const RELAY_AGAIN: Duration = Duration::from_millis(100);

/// What a data path is made with.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) delivery: Config,
    /// What clients may send to other nodes; no limit if absent.
    pub(super) bandwidth: Option<Shared>,
    /// What is relayed for others; no limit if absent.
    pub(super) relay: Option<Bandwidth>,
    /// Payload bytes held at once.
    pub(super) budget: Budget,
    /// A number that no other start of this node has.
    pub(super) incarnation: u64,
    /// Makes message keys that nobody outside can compute.
    pub(super) secret: [u64; 2],
    /// Takes questions about messages, and answers to this node's own.
    pub(super) inquiries: Inquiries,
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
    bandwidth: Option<Mutex<Shared>>,
    relay: Option<Mutex<Bandwidth>>,
    budget: Budget,
    incarnation: u64,
    draining: AtomicBool,
    /// When the timer task will next look, in nanoseconds since the start.
    next_look: AtomicU64,
    sooner: Notify,
    failures: Failures,
    metrics: Metrics,
    relayed: Relayed,
    inquiries: Inquiries,
}

/// What delivery holds at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Standing {
    /// Messages given to sessions and not answered.
    pub(super) pushes: usize,
    /// Messages remembered.
    pub(super) remembered: usize,
    /// Bytes of their outcomes.
    pub(super) remembered_bytes: usize,
    /// Messages that failed at a session and may be asked for again.
    pub(super) resting: usize,
    /// Timers that are armed, most of which will find nothing to do.
    pub(super) timers: usize,
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
        let Settings { delivery, bandwidth, relay, budget, incarnation, secret, inquiries } = settings;
        let shard = |shard| Delivery::new(delivery, me, incarnation, shard).with_budget(budget.clone());
        let shards = (0..SHARDS).map(|number| Mutex::new(shard(number as u8)));
        Self {
            started: Instant::now(),
            keyer: Keyer::new(secret),
            shards: shards.collect(),
            relay: relay.map(Mutex::new),
            incarnation,
            routing: ArcSwap::from_pointee(routing),
            registry,
            links,
            bandwidth: bandwidth.map(Mutex::new),
            draining: AtomicBool::new(false),
            next_look: AtomicU64::new(u64::MAX),
            sooner: Notify::new(),
            failures: Failures::default(),
            metrics,
            budget,
            relayed: Relayed::new(SHARDS, delivery.journal),
            inquiries,
        }
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

    /// A data frame came over the link from `from`: for this node, to be relayed, or both.
    ///
    /// # Errors
    /// When the frame breaks the protocol.
    pub(super) fn frame(&self, from: NodeId, frame: LinkFrame) -> Result<(), DataError> {
        let routed = route_frame(&self.routing.load(), from, &frame)?;
        if routed.dropped.is_some() {
            self.metrics.unroutable.inc();
        }
        if let Some(cause) = routed.dropped {
            self.relayed.stopped(self.now(), None, &frame.header, cause);
        }
        for (to, copy) in routed.onwards {
            self.relay(from, to, copy);
        }
        if !routed.here {
            return Ok(());
        }
        if frame.payload.len() > LARGE {
            tasks::at_length(|| self.take(from, frame));
        } else {
            self.take(from, frame);
        }
        Ok(())
    }

    /// A data frame for this node.
    fn take(&self, from: NodeId, frame: LinkFrame) {
        // The neighbour vouches for the route, not for what some other node wrote: what a newer or a
        // faulty origin sends must not cost the link between two that do nothing wrong.
        let message = match seal::open(&self.routing.load(), from, &frame) {
            Ok(message) => message,
            Err(cause) => {
                self.unheard(from, &cause);
                return;
            }
        };
        if let Body::Inquiry { id, is_answer } = message.body {
            return self.inquiries.take(message.origin, id, is_answer, frame.payload);
        }
        let key = self.key_of(&message.body, &frame.payload);
        let shard = match key {
            Some(key) => Delivery::shard_of(key, SHARDS),
            None => shard_of_report(&message.body),
        };
        self.in_shard(shard, |delivery, now, routing| {
            delivery.handle_message_over(now, routing, from, key, message, frame.payload);
        });
    }

    fn unheard(&self, from: NodeId, cause: &Unheard) {
        match cause {
            Unheard::Forged(_) => {
                self.metrics.forged_frames.inc();
            }
            _ => {
                self.metrics.bad_frames.inc();
            }
        }
        tracing::debug!(neighbour = %from, %cause, "data frame ignored");
    }

    /// A large frame from a neighbour found no room while its parts came in.
    pub(super) fn dropped(&self, head: &LinkFrame) {
        self.relayed.stopped(self.now(), None, &head.header, Cause::NoRoom);
        self.refuse(head, Refusal { cause: Cause::NoRoom, retry_after: RELAY_AGAIN });
    }

    /// Passes a frame on for others. Reports are never refused, only charged: whoever waits for one
    /// would only ask again.
    fn relay(&self, from: NodeId, to: NodeId, frame: LinkFrame) {
        if let Some(relay) = &self.relay {
            let mut relay = relay.lock();
            let debt = relay.check(self.now());
            if let Err(retry_after) = debt
                && peer::carries_message(&frame.header)
            {
                drop(relay);
                self.metrics.relay_refused.inc();
                self.relayed.stopped(self.now(), Some(to), &frame.header, Cause::RelayLimit);
                return self.refuse(&frame, Refusal { cause: Cause::RelayLimit, retry_after });
            }
            relay.charge(frame.wire_len());
        }
        self.metrics.relayed.inc();
        self.relayed.passed(self.now(), from, to, &frame.header);
        self.forward(to, frame);
    }

    /// Tells the origin of a message that it does not get to its destinations from here.
    fn refuse(&self, frame: &LinkFrame, cause: Refusal) {
        let routing = self.routing.load();
        if let Some((to, report)) = refusal(&routing, self.incarnation, &frame.header, cause) {
            self.forward(to, report);
        }
    }

    /// Payload bytes held now.
    pub(super) fn held_bytes(&self) -> usize {
        self.budget.held()
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

    /// Whether anything is in flight: sends of own clients, or pushes to them.
    pub(super) fn is_busy(&self) -> bool {
        self.shards.iter().any(|shard| shard.lock().is_busy())
    }

    /// Sends that ended with each cause, in order of the causes' numbers.
    pub(super) fn endings(&self) -> Vec<u64> {
        self.metrics.endings()
    }

    /// The last sends that failed.
    pub(super) fn failures(&self) -> Vec<Failed> {
        self.failures.show(Instant::now())
    }

    /// Sends without an outcome.
    pub(super) fn in_flight(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().in_flight()).sum()
    }

    /// What is held now, in all shards together.
    pub(super) fn standing(&self) -> Standing {
        let mut all = Standing::default();
        for shard in &self.shards {
            let shard = shard.lock();
            let loads = shard.window_loads();
            let (sent, received) = shard.remembered();
            all.pushes += shard.running().1;
            all.remembered += sent + received;
            all.remembered_bytes += loads.iter().map(|load| load.bytes).sum::<usize>();
            all.resting += shard.resting();
            all.timers += shard.timers();
        }
        all
    }

    /// The sum over all shards of something they have counted.
    pub(super) fn counted(&self, what: impl Fn(&Counters) -> u64) -> u64 {
        self.shards.iter().map(|shard| what(&shard.lock().counters())).sum()
    }

    /// Fires the shards' timers until the group ends. Woken when a timer is due, or an earlier one is set.
    pub(super) async fn run_timers(self: Arc<Self>, tasks: Tasks) {
        loop {
            // Before the shards are asked: a timer that is set meanwhile then counts as sooner, and
            // wakes this task again.
            self.next_look.store(u64::MAX, Ordering::Release);
            let next = self.shards.iter().filter_map(|shard| shard.lock().poll_timeout()).min();
            self.next_look.fetch_min(next.map_or(u64::MAX, nanos), Ordering::AcqRel);
            let due = next.map(|at| self.instant(at));
            tokio::select! {
                biased;
                () = tasks.cancelled() => return,
                () = sleep_until(due) => self.in_every_shard(Delivery::handle_timeout),
                () = self.sooner.notified() => {}
            }
        }
    }

    /// A price is paid once per copy that may leave for another node.
    fn charge(&self, publish: &Publish) -> Result<(), Refusal> {
        let bandwidth = self.bandwidth.as_ref().filter(|_| !self.draining.load(Ordering::Relaxed));
        let Some(bandwidth) = bandwidth else { return Ok(()) };
        let routing = self.routing.load();
        let nodes = nodes_elsewhere(&routing, publish);
        let copies = if publish.mode == Mode::Unicast { nodes.min(1) } else { nodes };
        if copies == 0 {
            return Ok(());
        }
        let bytes = publish.payload.len().saturating_mul(copies);
        bandwidth.lock().take(self.now(), publish.client.fingerprint, bytes)
    }

    fn key_of(&self, body: &Body, payload: &[u8]) -> Option<MessageKey> {
        let key = |Envelope { publisher, topic, seq, .. }: &Envelope, mode| {
            self.keyer.key(&publisher.fingerprint, mode, topic, seq, payload)
        };
        match body {
            Body::Attempt { envelope, .. } => Some(key(envelope, Mode::Unicast)),
            Body::FanOut { envelope, .. } => Some(key(envelope, Mode::Multicast)),
            Body::Handed { .. }
            | Body::Outcome { .. }
            | Body::FanOutReport { .. }
            | Body::Refused { .. }
            | Body::Inquiry { .. } => None,
        }
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
            self.look_at(nanos(at));
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

    /// A send that never reached a shard.
    fn note_refused(&self, publish: &Publish, cause: Cause) {
        let key = Key::new(self.routing.load().me(), SendRef { epoch: self.incarnation, id: 0 });
        let step = Step::AtOnce { seq: publish.seq, topic: Name::of(&publish.topic), cause };
        self.relayed.own(self.now(), key, step);
    }

    /// Shows every step that is written down, oldest first within each journal, with the shard it was in if it was
    /// in one. Journals are locked for a portion at a time, so that no message waits for all of it.
    pub(super) fn read_journals(&self, mut each: impl FnMut(&Entry, Option<&Delivery>)) {
        for shard in 0..SHARDS {
            self.read_shard(shard, 0, &mut each);
        }
        for journal in 0..self.relayed.len() {
            let mut place = Some(0);
            while let Some(from) = place {
                place = self.relayed.read(journal, from, PORTION, |entry| each(entry, None));
            }
        }
    }

    /// The same of one shard, from entry number `from` on; says where to go on.
    pub(super) fn read_shard(
        &self,
        shard: usize,
        mut from: u64,
        each: &mut impl FnMut(&Entry, Option<&Delivery>),
    ) -> u64 {
        let Some(shard) = self.shards.get(shard) else { return from };
        loop {
            let delivery = shard.lock();
            from = delivery.journal().read(from, PORTION, |entry| each(entry, Some(&*delivery)));
            if from >= delivery.journal().written() {
                return from;
            }
        }
    }

    /// How far each shard's journal has been written.
    pub(super) fn journals_written(&self) -> Vec<u64> {
        self.shards.iter().map(|shard| shard.lock().journal().written()).collect()
    }

    /// Sends a question about a message, or an answer; false if there is no way or no room.
    pub(super) fn inquire(&self, to: NodeId, body: Body, payload: Bytes) -> bool {
        let frame = inquiry::frame(&self.routing.load(), self.incarnation, to, body, payload);
        frame.is_some_and(|(next, frame)| self.links.send(next, frame))
    }

    fn look_at(&self, at: u64) {
        if self.next_look.fetch_min(at, Ordering::AcqRel) > at {
            self.sooner.notify_one();
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

fn shard_of_report(body: &Body) -> usize {
    match body {
        Body::Handed { send, .. }
        | Body::Outcome { send, .. }
        | Body::FanOutReport { send, .. }
        | Body::Refused { send, .. } => Delivery::shard_of_number(send.id),
        Body::Attempt { send, .. } | Body::FanOut { send, .. } => Delivery::shard_of_number(*send),
        // The desk has it.
        Body::Inquiry { .. } => 0,
    }
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

fn nanos(at: Time) -> u64 {
    u64::try_from(at.since_start().as_nanos()).unwrap_or(u64::MAX)
}

/// Resolves at `due`, never if there is none. Cancel safe.
pub(super) async fn sleep_until(due: Option<tokio::time::Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
