//! One send's life: candidates, attempts, hand-over, resend, outcome; multicast fan-out.
//!
//! A [`Delivery`] is one shard. Every event of one message goes to the shard its key or number
//! names ([`Delivery::shard_of`]), so shards share nothing. As origin (`origin`, `fan_out`) a
//! shard sees its own clients' sends to their outcomes; as destination (`destination`) it hands
//! messages to its own sessions, each at most once.
//!
//! **Invariant**: every publish handed in leads to exactly one [`Outcome`](super::event::Outcome) for its session and seq.
//! **Invariant**: no session is handed the same message twice while the window remembers it.

mod actions;
mod arrivals;
mod attempts;
mod audience;
mod candidates;
mod config;
mod counters;
mod destination;
mod detour;
mod fan_out;
mod ledger;
mod notes;
mod origin;
mod outcome;
mod private;
mod pushes;
mod reception;
mod recipients;
mod refused;
mod relay;
mod reports;
mod resting;
mod send;
mod stale;
mod subscribers;
mod tell;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_extensions;
#[cfg(test)]
mod tests_own;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;

pub(crate) use attempts::MAX_ATTEMPTS;
pub use config::{Config, Preference};
pub use counters::Counters;
pub(crate) use origin::MAX_WAITERS;
pub(crate) use reception::MAX_REQUESTERS;
pub(crate) use refused::MAX_AROUND;
pub use relay::{Routed, refusal, route_frame};
pub(crate) use stale::MAX_LANES;

use self::{
    actions::Actions,
    outcome::{Ended, Pages},
    reception::{ActivePush, Reception},
    recipients::LastRecipients,
    send::Send,
    stale::Numbers,
    subscribers::Subscribers,
};
use super::{
    budget::Budget,
    dedup::{Load, MessageKey, Window},
    event::{Action, Answer, Publish, PushError, PushId, Subscriber},
    journal::Journal,
    routing::Routing,
    seal,
    timer::Wheel,
};
use crate::{
    NodeId, SessionId, Time,
    wire::peer::{Body, DataMessage, Destinations, Route, SendRef},
};

/// Timers fired in one go.
const MAX_WOKEN: usize = 64;
/// Shards a node may have: send and push numbers carry theirs in the lowest byte.
pub const MAX_SHARDS: usize = 256;

/// Whom a report about a message goes to: a send of some node, this one included.
#[derive(Clone, Copy, Debug)]
struct Requester {
    node: NodeId,
    send: SendRef,
    /// The neighbour over which it asked last, if that is known.
    over: Option<NodeId>,
}

/// Whichever way it asks, it is the same.
impl PartialEq for Requester {
    fn eq(&self, other: &Self) -> bool {
        (self.node, &self.send) == (other.node, &other.send)
    }
}

#[derive(Clone, Copy, Debug)]
enum Wake {
    Send(u64),
    Push(PushId),
}

/// One shard of the delivery machine.
#[derive(Debug)]
pub struct Delivery {
    config: Config,
    me: NodeId,
    epoch: u64,
    shard: u8,
    next: u64,
    subscribers: Subscribers,
    last_recipients: LastRecipients,
    sends: BTreeMap<u64, Send>,
    pushes: BTreeMap<PushId, ActivePush>,
    sent: Window<u64, Ended>,
    received: Window<Box<Reception>, Ended>,
    /// What `sent` remembers lies in the one, what `received` does in the other: each forgets in its own order.
    sent_pages: Pages,
    received_pages: Pages,
    /// Receptions that wait for a next attempt, oldest first, and until when.
    resting: VecDeque<(Time, MessageKey)>,
    wheel: Wheel<Wake>,
    /// Timers that are due and not fired yet, and since when.
    due: VecDeque<Wake>,
    due_since: Time,
    local_reports: VecDeque<(Body, Bytes)>,
    actions: Actions,
    draining: bool,
    counters: Counters,
    budget: Budget,
    numbers: Numbers,
    journal: Journal,
}

impl Delivery {
    /// A shard of node `me` in `epoch`.
    pub fn new(config: Config, me: NodeId, epoch: u64, shard: u8) -> Self {
        Self {
            config,
            me,
            epoch,
            shard,
            next: 1,
            subscribers: Subscribers::default(),
            last_recipients: LastRecipients::default(),
            sends: BTreeMap::new(),
            pushes: BTreeMap::new(),
            sent: Window::new(config.sent),
            received: Window::new(config.received),
            sent_pages: Pages::default(),
            received_pages: Pages::default(),
            resting: VecDeque::new(),
            wheel: Wheel::default(),
            due: VecDeque::new(),
            due_since: Time::ZERO,
            local_reports: VecDeque::new(),
            actions: Actions::default(),
            draining: false,
            counters: Counters::default(),
            budget: Budget::default(),
            numbers: Numbers::default(),
            journal: Journal::new(config.journal),
        }
    }

    /// The same, with a bound on the payloads it holds.
    pub fn with_budget(self, budget: Budget) -> Self {
        Self { budget, ..self }
    }

    /// Changes times and bounds for everything that comes from now on. The journal keeps its size.
    pub fn configure(&mut self, config: Config) {
        self.config = Config { journal: self.config.journal, ..config };
        self.sent.set_bounds(config.sent);
        self.received.set_bounds(config.received);
    }

    /// The shard, of `shards`, that all events of a new message go to.
    pub fn shard_of(key: MessageKey, shards: usize) -> usize {
        (key.spread() % shards as u64) as usize
    }

    /// The shard that made this push or send number.
    pub fn shard_of_number(number: u64) -> usize {
        (number & 0xff) as usize
    }

    /// A client publishes. `key` is the message's; the outcome comes as an action, now or later.
    pub fn handle_publish(&mut self, now: Time, routing: &Routing, key: MessageKey, publish: Publish) {
        self.counters.publishes += 1;
        self.journal.set_now(now);
        self.publish(now, routing, key, publish);
        self.settle(now, routing);
    }

    /// Who is at the other end of a session; to be told before its topics are in the routing snapshot.
    pub fn handle_subscriber(&mut self, session: SessionId, subscriber: Subscriber) {
        self.subscribers.insert(session, subscriber);
    }

    /// A push was written in full to a session that says itself when it has received it.
    pub fn handle_written(&mut self, session: SessionId, push: PushId) {
        if let Some(push) = self.pushes.get_mut(&push) {
            push.written(session);
        }
    }

    /// A session was handed a push, or could not be.
    pub fn handle_pushed(
        &mut self,
        now: Time,
        routing: &Routing,
        session: SessionId,
        push: PushId,
        result: Result<(), PushError>,
    ) {
        self.journal.set_now(now);
        self.push_written(now, routing, session, push, result);
        self.settle(now, routing);
    }

    /// A session answered a push.
    pub fn handle_answer(
        &mut self,
        now: Time,
        routing: &Routing,
        session: SessionId,
        push: PushId,
        answer: Answer,
    ) {
        self.journal.set_now(now);
        self.push_answered(now, routing, session, push, answer);
        self.settle(now, routing);
    }

    /// A session is gone: its pushes fail, and nobody is told of its own sends any more.
    pub fn handle_session_closed(&mut self, now: Time, routing: &Routing, session: SessionId) {
        self.journal.set_now(now);
        let pushes: Vec<PushId> =
            self.pushes.iter().filter(|(_, push)| push.concerns(session)).map(|(id, _)| *id).collect();
        for push in pushes {
            self.push_written(now, routing, session, push, Err(PushError::Gone));
        }
        self.subscribers.remove(session);
        self.settle(now, routing);
    }

    /// Routes changed: what was on its way over a way that changed is sent again.
    pub fn handle_routing(&mut self, now: Time, routing: &Routing) {
        self.journal.set_now(now);
        let ids: Vec<u64> = self.sends.keys().copied().collect();
        for id in ids {
            self.reroute_send(now, routing, id);
        }
        self.settle(now, routing);
    }

    /// From now on new publishes are refused with 99.
    pub fn handle_drain(&mut self) {
        self.draining = true;
    }

    /// The end of the grace period: everything in flight gets the outcome of how far it came.
    pub fn handle_stop(&mut self, now: Time, routing: &Routing) {
        self.journal.set_now(now);
        let ids: Vec<u64> = self.sends.keys().copied().collect();
        for id in ids {
            self.give_up(now, routing, id);
        }
    }

    /// Fires what is due.
    pub fn handle_timeout(&mut self, now: Time, routing: &Routing) {
        self.journal.set_now(now);
        self.wake(now, routing);
        self.lapse_resting(now);
        self.sent.expire(now);
        self.received.expire(now);
        self.settle(now, routing);
    }

    /// Fires some of the timers that are due; the rest when it is called again, which
    /// [`Delivery::poll_timeout`] asks for at once: what many have caused must hold up nobody else.
    fn wake(&mut self, now: Time, routing: &Routing) {
        for _ in 0..MAX_WOKEN {
            while self.due.is_empty()
                && let Some(wakes) = self.wheel.pop_due(now)
            {
                self.due_since = now;
                self.due.extend(wakes);
            }
            match self.due.pop_front() {
                Some(Wake::Send(id)) => self.send_woken(now, routing, id),
                Some(Wake::Push(id)) => self.push_woken(now, routing, id),
                None => return,
            }
            // A push that is overdue has told its send why, before that send itself is overdue.
            self.settle(now, routing);
        }
    }

    /// When [`Delivery::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Time> {
        if !self.due.is_empty() {
            return Some(self.due_since);
        }
        let resting = self.resting.front().map(|(until, _)| *until);
        let expiry = [self.sent.next_expiry(), self.received.next_expiry(), resting];
        // Forgetting is not urgent: once a second for all that is due, not once for each.
        let expiry = expiry.into_iter().flatten().map(|at| at + Duration::from_secs(1));
        expiry.chain(self.wheel.next()).min()
    }

    /// What to do next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop()
    }

    /// Sends without an outcome yet.
    pub fn in_flight(&self) -> usize {
        self.sends.values().filter(|send| !send.is_told()).count()
    }

    /// Whether anything waits: sends of this node's clients, or pushes to them.
    pub fn is_busy(&self) -> bool {
        !self.sends.is_empty() || !self.pushes.is_empty()
    }

    /// What has been counted.
    pub fn counters(&self) -> Counters {
        Counters {
            forgotten: self.sent.evicted + self.received.evicted,
            outcomes_dropped: self.sent.dropped + self.received.dropped,
            journal_forgotten: self.journal.written() - self.journal.len() as u64,
            ..self.counters
        }
    }

    /// What is under way: (sends, whether their publishers were told or not, and pushes).
    pub fn running(&self) -> (usize, usize) {
        (self.sends.len(), self.pushes.len())
    }

    /// Messages remembered: (sent, received).
    pub fn remembered(&self) -> (usize, usize) {
        (self.sent.len(), self.received.len())
    }

    /// What is remembered of ended messages: sent and received.
    pub fn window_loads(&self) -> [Load; 2] {
        [self.sent.load(), self.received.load()]
    }

    /// Timers that are armed.
    pub fn timers(&self) -> usize {
        self.wheel.armed()
    }

    /// Messages that failed at a session here and may be asked for again.
    pub fn resting(&self) -> usize {
        self.resting.len()
    }

    /// Deals with what this node's two roles have told each other.
    fn settle(&mut self, now: Time, routing: &Routing) {
        while let Some((report, payload)) = self.local_reports.pop_front() {
            self.handle_report(now, routing, self.me, report, payload);
        }
    }

    fn number(&mut self) -> u64 {
        let number = self.next << 8 | u64::from(self.shard);
        self.next += 1;
        number
    }

    /// Sends a data message along the routing table, or along `path` if it is not empty. Returns the neighbour it
    /// goes to, if there is a way.
    fn forward(
        &mut self,
        routing: &Routing,
        destinations: Destinations,
        path: &[NodeId],
        flow: u32,
        body: Body,
        payload: Bytes,
    ) -> Option<NodeId> {
        let by_table = || routing.find(&destinations[0]).map(|node| node.next_hop);
        let (to, rest) = match path.split_first() {
            Some((next, rest)) => (Some(*next), rest),
            None => (by_table(), path),
        };
        let Some(to) = to else {
            self.counters.unroutable += 1;
            return None;
        };
        let message = DataMessage { origin: self.me, origin_epoch: self.epoch, body };
        let route = Route { destinations, path: rest.to_vec() };
        let frame = seal::seal(routing, to, &message, &route, flow, payload);
        self.actions.push(Action::Forward { to, frame });
        Some(to)
    }
}
