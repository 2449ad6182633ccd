//! The judge: its own record of what was so and what happened, sharing no code with the core.

mod judge;
mod order;
mod own;
mod private;
mod totals;
mod truth;
mod wishes;

use std::{collections::BTreeMap, time::Duration};

use amop_protocol::{NodeId, Status, Time, broker::event::Mode, wire::recipients::Recipients};
use bytes::Bytes;

pub use self::{
    private::{Private, PrivateSend},
    totals::Totals,
};
use crate::{
    client::{Client, Ended},
    node::key_of,
    plan::{Behaviour, Limits, Setup},
    wants::Wants,
};

/// When something was so; the last period may be open.
type Periods = Vec<Period>;

#[derive(Clone, Copy, Debug)]
struct Period {
    since: Time,
    until: Option<Time>,
    /// From when on it may be relied on.
    settled: Time,
}

/// A session that ever was: where, and when it had which topic.
#[derive(Clone, Debug)]
struct SessionLife {
    node: usize,
    certificate: u8,
    behaviour: Behaviour,
    /// Whether its node soon knows that it was handed a message.
    confirms: bool,
    /// The application, if it has several sessions.
    instance: Option<usize>,
    ended: Option<Time>,
    /// When its node began to shut down.
    drained: Option<Time>,
    /// When its node gave up what was in flight.
    stopped: Option<Time>,
    topics: BTreeMap<u32, Periods>,
}

/// What a publisher sends.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    pub message: u64,
    pub session: usize,
    pub mode: Mode,
    /// `None`: none that can be published to.
    pub topic: Option<u32>,
    pub deadline: Option<Duration>,
    pub wants: Wants,
}

/// One frame that a publisher sent.
#[derive(Clone, Debug)]
struct Publication {
    message: u64,
    session: usize,
    mode: Mode,
    /// `None`: none that can be published to.
    topic: Option<u32>,
    at: Time,
    /// Whether its node was shutting down: a node may begin to in the very instant of the frame, after it.
    draining: bool,
    deadline: Duration,
    /// What else it asked for.
    wants: Wants,
    /// Whether it was told that somebody was handed the message.
    hand_over_told: bool,
    outcomes: Vec<(Time, Ended)>,
    /// How the recipients fared, if that was asked for.
    report: Option<Recipients>,
}

/// How long a link must have been up before it is relied on.
const LINK_SETTLES: Duration = Duration::from_secs(1);
/// How long it takes until what a bad line swallowed is made good.
const GOSSIP_REPAIRS: Duration = Duration::from_millis(10_500);
/// How long a subscription must have stood before it is relied on, unless it was confirmed.
const TOPIC_SETTLES: Duration = Duration::from_secs(1);
/// What a node waits for an outcome if the publisher does not say; and at most.
const DEADLINE: Duration = Duration::from_secs(30);
const MAX_DEADLINE: Duration = Duration::from_secs(120);

pub struct Oracle {
    limits: Limits,
    /// No way through a sound network takes longer.
    longest_way: Duration,
    sessions: BTreeMap<usize, SessionLife>,
    publications: Vec<Publication>,
    by_message: BTreeMap<u64, Vec<usize>>,
    /// (message, session) to the times its handler ran.
    handed: BTreeMap<(u64, usize), Vec<Time>>,
    /// (message, session) to when its node knew that it was handed over.
    confirmed: BTreeMap<(u64, usize), Time>,
    /// What each session has read, in order.
    read: BTreeMap<usize, Vec<u64>>,
    answered: BTreeMap<(u64, usize), ()>,
    /// Per link, the periods it could be relied on.
    links: BTreeMap<(usize, usize), Periods>,
    /// Moments at which some link changed, so that connectivity is judged at each.
    changes: Vec<Time>,
    /// The epochs that nodes have, and when one rose above that of an earlier start.
    epochs: BTreeMap<usize, u64>,
    risen: Vec<(usize, Time)>,
    /// By message, when a relay first did not pass it on.
    refused_on_the_way: BTreeMap<u64, Time>,
    relay_refusals: u64,
    nodes: BTreeMap<NodeId, usize>,
    /// Moments at which something broke or was repaired.
    disturbances: Vec<Time>,
    certain: u64,
    ordered: u64,
    came_again: u64,
    pub private: Private,
    pub broken: Vec<String>,
    pub faults_injected: u64,
}

impl Period {
    fn begin(now: Time, settles: Duration) -> Self {
        Self { since: now, until: None, settled: now + settles }
    }

    fn is_open(&self) -> bool {
        self.until.is_none()
    }

    /// Whether it could be relied on from one moment to another.
    fn covers(&self, from: Time, to: Time) -> bool {
        self.settled <= from && self.until.is_none_or(|until| until > to)
    }
}

fn begin(periods: &mut Periods, now: Time, settles: Duration) {
    if !periods.last().is_some_and(Period::is_open) {
        periods.push(Period::begin(now, settles));
    }
}

fn end(periods: &mut Periods, now: Time) {
    if let Some(period) = periods.last_mut().filter(|period| period.is_open()) {
        period.until = Some(now);
    }
}

/// What is sent again, and the report on it, may go any way that comes to no node twice: at worst by the
/// slowest links, one fewer than there are nodes.
fn longest_way(setup: &Setup) -> Duration {
    let mut links: Vec<Duration> = setup.links.iter().map(|link| link.latency + link.jitter).collect();
    links.sort_unstable_by(|a, b| b.cmp(a));
    links.iter().take(setup.nodes.saturating_sub(1)).sum()
}

impl Oracle {
    pub fn new(setup: &Setup) -> Self {
        let Setup { limits, nodes, .. } = *setup;
        Self {
            limits,
            longest_way: longest_way(setup),
            sessions: BTreeMap::new(),
            publications: Vec::new(),
            by_message: BTreeMap::new(),
            handed: BTreeMap::new(),
            confirmed: BTreeMap::new(),
            read: BTreeMap::new(),
            answered: BTreeMap::new(),
            links: BTreeMap::new(),
            changes: Vec::new(),
            epochs: BTreeMap::new(),
            risen: Vec::new(),
            refused_on_the_way: BTreeMap::new(),
            relay_refusals: 0,
            nodes: (0..nodes).map(|number| (key_of(number).id(), number)).collect(),
            disturbances: Vec::new(),
            certain: 0,
            ordered: 0,
            came_again: 0,
            private: Private::default(),
            broken: Vec::new(),
            faults_injected: 0,
        }
    }

    // ---- the world tells what is so ------------------------------------------------

    /// A link can, or cannot, be relied on. Where it was `deaf`, gossip has to repair what was lost.
    pub fn link(&mut self, ends: (usize, usize), sound: bool, deaf: bool, now: Time) {
        let periods = self.links.entry(ends).or_default();
        let settles = if deaf { GOSSIP_REPAIRS } else { LINK_SETTLES };
        if sound {
            begin(periods, now, settles)
        } else {
            end(periods, now)
        }
        self.changes.push(now);
    }

    pub fn starts(&mut self, node: usize, epoch: u64) {
        self.epochs.insert(node, epoch);
    }

    /// A running node has this epoch.
    pub fn runs(&mut self, node: usize, epoch: u64, now: Time) {
        if self.epochs.get(&node) != Some(&epoch) {
            self.epochs.insert(node, epoch);
            self.risen.push((node, now));
        }
    }

    pub fn disturbed(&mut self, now: Time) {
        self.disturbances.push(now);
    }

    pub fn session_begins(
        &mut self,
        session: usize,
        client: &Client,
        certificate: u8,
        drained: Option<Time>,
    ) {
        let Client { node, behaviour, receipts, instance, .. } = *client;
        let confirms = !client.says_received() || receipts.is_prompt();
        let topics = BTreeMap::new();
        let (ended, stopped) = (None, None);
        let life =
            SessionLife { node, certificate, behaviour, confirms, instance, ended, drained, stopped, topics };
        self.sessions.insert(session, life);
    }

    pub fn session_ends(&mut self, session: usize, now: Time) {
        let Some(life) = self.sessions.get_mut(&session) else { return };
        life.ended = life.ended.or(Some(now));
        self.private.session_ends(session, now);
        life.topics.values_mut().for_each(|periods| end(periods, now));
    }

    pub fn reports(&mut self, session: usize, topics: &[u32], now: Time) {
        let Some(life) = self.sessions.get_mut(&session) else { return };
        let dropped = life.topics.iter_mut().filter(|(topic, _)| !topics.contains(topic));
        dropped.for_each(|(_, periods)| end(periods, now));
        for topic in topics {
            begin(life.topics.entry(*topic).or_default(), now, TOPIC_SETTLES);
        }
    }

    /// The node acknowledged the topics; with `complete` all reachable nodes know them.
    pub fn confirmed(&mut self, session: usize, complete: bool, now: Time) {
        let calm = self.disturbances.is_empty();
        let Some(life) = self.sessions.get_mut(&session).filter(|_| complete && calm) else { return };
        for period in life.topics.values_mut().filter_map(|periods| periods.last_mut()) {
            period.settled = period.settled.min(now);
        }
    }

    pub fn drains(&mut self, sessions: &[usize], now: Time) {
        for session in sessions {
            self.sessions.entry(*session).and_modify(|life| life.drained = Some(now));
        }
    }

    pub fn stopped(&mut self, sessions: &[usize], now: Time) {
        for session in sessions {
            self.sessions.entry(*session).and_modify(|life| life.stopped = Some(now));
        }
    }

    // ---- and what happens ----------------------------------------------------------

    pub fn publishes(&mut self, sent: Sent, at: Time) {
        let Sent { message, session, mode, topic, deadline, wants } = sent;
        let deadline = deadline.unwrap_or(DEADLINE).min(MAX_DEADLINE);
        let number = self.publications.len();
        let draining = self.sessions.get(&session).is_some_and(|life| life.drained.is_some());
        let (outcomes, hand_over_told, report) = (Vec::new(), false, None);
        let publication = Publication {
            message,
            session,
            mode,
            topic,
            at,
            draining,
            deadline,
            wants,
            hand_over_told,
            outcomes,
            report,
        };
        self.publications.push(publication);
        self.by_message.entry(message).or_default().push(number);
    }

    pub fn is_handed(&mut self, message: u64, session: usize, now: Time) {
        self.handed.entry((message, session)).or_default().push(now);
    }

    /// The session's node knows that it was handed the message: all of it was written to a 2.x client,
    /// or an extension client said so.
    /// That is so of all that the session was handed before, too.
    pub fn is_confirmed(&mut self, message: u64, session: usize, now: Time) {
        let read = self.read.get(&session).map_or(&[][..], Vec::as_slice);
        let newest = read.iter().rposition(|known| *known == message);
        for earlier in newest.map_or(&[][..], |newest| &read[..=newest]) {
            self.confirmed.entry((*earlier, session)).or_insert(now);
        }
    }

    /// A session read a message, new to it or not.
    pub fn reads(&mut self, message: u64, session: usize) {
        self.read.entry(session).or_default().push(message);
    }

    /// A message came to an application that had had it.
    pub fn came_again(&mut self) {
        self.came_again += 1;
    }

    pub fn answers(&mut self, message: u64, session: usize) {
        self.answered.insert((message, session), ());
    }

    /// An outcome reached `session` for the message. Frames with one seq are told in order, but a
    /// frame that the node refuses is told so at once.
    pub fn outcome(&mut self, message: u64, session: usize, ended: Ended, report: Bytes, now: Time) {
        let sent = self.by_message.get(&message).into_iter().flatten().copied();
        let mut sent = sent.filter(|n| self.publications[*n].session == session);
        let mut open = sent.clone().filter(|n| self.publications[*n].outcomes.is_empty());
        let by_quota =
            ended.status == Status::Refused && self.limits.relay.or(self.limits.room.map(|_| 0)).is_none();
        let next = if by_quota { open.next_back() } else { open.next() };
        let next = next.or(sent.next_back());
        let Some(number) = next else {
            self.broken.push(format!("an outcome for message {message}, which session {session} never sent"));
            return;
        };
        let publication = &mut self.publications[number];
        publication.outcomes.push((now, ended));
        let publication = &self.publications[number];
        if ended.status == Status::Success && publication.mode == Mode::Unicast {
            match ended.answer {
                Some(key @ (answered, _)) if answered == message && self.answered.contains_key(&key) => {}
                other => self
                    .broken
                    .push(format!("message {message} succeeded with {other:?}, no such answer was given")),
            }
        }
        self.read_report(number, ended, report);
    }
}
