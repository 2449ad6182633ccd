//! The judge: its own record of what was so and what happened, sharing no code with the core.

mod judge;
mod order;
mod truth;

use std::{collections::BTreeMap, fmt, ops::AddAssign, time::Duration};

use amop_protocol::{Status, Time, broker::event::Mode};

use crate::{
    client::{Client, Ended},
    plan::{Behaviour, Limits},
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

/// One frame that a publisher sent.
#[derive(Clone, Debug)]
struct Publication {
    message: u64,
    session: usize,
    mode: Mode,
    /// `None`: none that can be published to.
    topic: Option<u32>,
    at: Time,
    deadline: Duration,
    outcomes: Vec<(Time, Ended)>,
}

/// What runs came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    pub publications: u64,
    pub succeeded: u64,
    /// By code, from 99 to 103.
    pub failed: [u64; 5],
    pub handed: u64,
    /// Sends that had a path and a live subscriber all the time.
    pub certain: u64,
    pub ordered: u64,
    /// Messages that came to an application by a second way.
    pub came_again: u64,
    pub faults_injected: u64,
    /// Whole lists of topics that nodes took in, and changes of lists.
    pub lists: u64,
    pub deltas: u64,
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.publications += other.publications;
        self.succeeded += other.succeeded;
        self.failed.iter_mut().zip(other.failed).for_each(|(sum, more)| *sum += more);
        self.handed += other.handed;
        self.certain += other.certain;
        self.ordered += other.ordered;
        self.came_again += other.came_again;
        self.faults_injected += other.faults_injected;
        self.lists += other.lists;
        self.deltas += other.deltas;
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { publications, succeeded, failed, certain, handed, ordered, .. } = self;
        let Self { came_again, faults_injected, lists, deltas, .. } = self;
        let failed: Vec<String> =
            (FIRST_CODE..).zip(failed).map(|(code, count)| format!("{code}: {count}")).collect();
        write!(
            f,
            "{publications} sends, {succeeded} succeeded ({certain} had to), {} failed, {handed} hand-overs \
             ({ordered} judged by their order), {came_again} came again by another way, {faults_injected} faults, \
             {lists} lists of topics and {deltas} changes taken in",
            failed.join(", ")
        )
    }
}

/// The lowest code of a failure.
const FIRST_CODE: i32 = 99;
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
    sessions: BTreeMap<usize, SessionLife>,
    publications: Vec<Publication>,
    by_message: BTreeMap<u64, Vec<usize>>,
    /// (message, session) to the times its handler ran.
    handed: BTreeMap<(u64, usize), Vec<Time>>,
    /// (message, session) to when its node knew that it was handed over.
    confirmed: BTreeMap<(u64, usize), Time>,
    answered: BTreeMap<(u64, usize), ()>,
    /// Per link, the periods it could be relied on.
    links: BTreeMap<(usize, usize), Periods>,
    /// Moments at which some link changed, so that connectivity is judged at each.
    changes: Vec<Time>,
    /// Moments at which something broke or was repaired.
    disturbances: Vec<Time>,
    certain: u64,
    ordered: u64,
    came_again: u64,
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

impl Oracle {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            sessions: BTreeMap::new(),
            publications: Vec::new(),
            by_message: BTreeMap::new(),
            handed: BTreeMap::new(),
            confirmed: BTreeMap::new(),
            answered: BTreeMap::new(),
            links: BTreeMap::new(),
            changes: Vec::new(),
            disturbances: Vec::new(),
            certain: 0,
            ordered: 0,
            came_again: 0,
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

    pub fn disturbed(&mut self, now: Time) {
        self.disturbances.push(now);
    }

    pub fn session_begins(&mut self, session: usize, client: &Client) {
        let Client { node, behaviour, receipts, instance, .. } = *client;
        let confirms = !client.says_received() || receipts.is_prompt();
        let topics = BTreeMap::new();
        let (ended, drained, stopped) = (None, None, None);
        let life = SessionLife { node, behaviour, confirms, instance, ended, drained, stopped, topics };
        self.sessions.insert(session, life);
    }

    pub fn session_ends(&mut self, session: usize, now: Time) {
        let Some(life) = self.sessions.get_mut(&session) else { return };
        life.ended = life.ended.or(Some(now));
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

    pub fn publishes(
        &mut self,
        message: u64,
        session: usize,
        mode: Mode,
        topic: Option<u32>,
        deadline: Option<Duration>,
        at: Time,
    ) {
        let deadline = deadline.unwrap_or(DEADLINE).min(MAX_DEADLINE);
        let number = self.publications.len();
        let outcomes = Vec::new();
        self.publications.push(Publication { message, session, mode, topic, at, deadline, outcomes });
        self.by_message.entry(message).or_default().push(number);
    }

    pub fn is_handed(&mut self, message: u64, session: usize, now: Time) {
        self.handed.entry((message, session)).or_default().push(now);
    }

    /// The session's node knows that it was handed the message: all of it was written to a 2.x client,
    /// or an extension client said so.
    /// That is so of all that the session was handed before, too.
    pub fn is_confirmed(&mut self, message: u64, session: usize, now: Time) {
        self.confirmed.entry((message, session)).or_insert(now);
        let Some(newest) = self.handed.get(&(message, session)).and_then(|times| times.last()) else {
            return;
        };
        let before = self.handed.iter().filter(|((_, who), times)| *who == session && times[0] <= *newest);
        for (key, _) in before {
            self.confirmed.entry(*key).or_insert(now);
        }
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
    pub fn outcome(&mut self, message: u64, session: usize, ended: Ended, now: Time) {
        let sent = self.by_message.get(&message).into_iter().flatten().copied();
        let mut sent = sent.filter(|n| self.publications[*n].session == session);
        let mut open = sent.clone().filter(|n| self.publications[*n].outcomes.is_empty());
        let next = if ended.status == Status::Refused { open.next_back() } else { open.next() };
        let next = next.or(sent.next_back());
        let Some(number) = next else {
            self.broken.push(format!("an outcome for message {message}, which session {session} never sent"));
            return;
        };
        let publication = &mut self.publications[number];
        publication.outcomes.push((now, ended));
        if ended.status == Status::Success && publication.mode == Mode::Unicast {
            match ended.answer {
                Some(key @ (answered, _)) if answered == message && self.answered.contains_key(&key) => {}
                other => self
                    .broken
                    .push(format!("message {message} succeeded with {other:?}, no such answer was given")),
            }
        }
    }

    pub fn totals(&self) -> Totals {
        let outcomes = self.publications.iter().flat_map(|publication| &publication.outcomes);
        let (mut succeeded, mut failed) = (0, [0; 5]);
        for (_, ended) in outcomes {
            match usize::try_from(ended.status.code() - FIRST_CODE) {
                Ok(at) => failed[at] += 1,
                Err(_) => succeeded += 1,
            }
        }
        Totals {
            publications: self.publications.len() as u64,
            succeeded,
            failed,
            handed: self.handed.len() as u64,
            certain: self.certain,
            ordered: self.ordered,
            came_again: self.came_again,
            faults_injected: self.faults_injected,
            lists: 0,
            deltas: 0,
        }
    }
}
