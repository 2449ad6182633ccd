//! The judge: its own model of who could be reached when, and what it makes of what happened.

use std::{collections::BTreeMap, fmt, ops::AddAssign, time::Duration};

use amop_protocol::{Cause, Status, Time, broker::event::Mode};

/// How a subscriber in the simulation treats what it is handed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Answers after this long.
    Prompt(Duration),
    /// Never answers.
    Silent,
    /// Answers with an error of its own.
    Refuses,
    /// Its connection takes no bytes.
    Stuck,
}

/// When something was so; the last period may be open.
pub type Periods = Vec<(Time, Option<Time>)>;

/// A session that ever was: where, and when it had which topic.
#[derive(Clone, Debug)]
pub struct SessionLife {
    pub node: usize,
    pub behaviour: Behaviour,
    pub ended: Option<Time>,
    /// When its node began to shut down.
    pub drained: Option<Time>,
    /// When its node gave up what was in flight.
    pub stopped: Option<Time>,
    /// Topic to the periods it was subscribed, the last possibly open.
    pub topics: BTreeMap<u32, Periods>,
}

impl SessionLife {
    /// Whether it never made a unicast on the topic go on to the next candidate.
    fn always_answers(&self, topic: u32) -> bool {
        let Some(periods) = self.topics.get(&topic) else { return true };
        matches!(self.behaviour, Behaviour::Prompt(_)) && periods.iter().all(|(_, until)| until.is_none())
    }
}

/// One frame that a publisher sent.
#[derive(Clone, Debug)]
struct Publication {
    message: u64,
    session: usize,
    mode: Mode,
    topic: u32,
    at: Time,
    outcomes: Vec<(Time, Cause)>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    pub publications: u64,
    pub succeeded: u64,
    pub failed: u64,
    pub handed: u64,
    pub faults_injected: u64,
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.publications += other.publications;
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.handed += other.handed;
        self.faults_injected += other.faults_injected;
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { publications, succeeded, failed, handed, faults_injected } = self;
        write!(
            f,
            "{publications} sends, {succeeded} succeeded, {failed} failed, {handed} hand-overs, {faults_injected} faults"
        )
    }
}

/// How long a link must have been up before the oracle relies on it.
const LINK_SETTLES: Duration = Duration::from_secs(1);
/// How long a subscription must have stood before the oracle relies on it.
const TOPIC_SETTLES: Duration = Duration::from_secs(1);
/// How much later than its deadline an outcome may come: a tick of the timer wheel, and then some.
const SLACK: Duration = Duration::from_millis(100);

#[derive(Default)]
pub struct Oracle {
    pub sessions: Vec<SessionLife>,
    publications: Vec<Publication>,
    by_message: BTreeMap<u64, Vec<usize>>,
    /// (message, session) to the times it was written to that session.
    handed: BTreeMap<(u64, usize), Vec<Time>>,
    answered: BTreeMap<(u64, usize), Time>,
    /// Per link, the periods it was up.
    links: BTreeMap<(usize, usize), Periods>,
    /// Moments at which some link changed, so that connectivity is judged at each.
    changes: Vec<Time>,
    pub broken: Vec<String>,
    deadline: Duration,
    pub faults_injected: u64,
    /// Whether nothing ever broke.
    pub calm: bool,
}

impl Oracle {
    pub fn new(deadline: Duration) -> Self {
        Self { deadline, ..Self::default() }
    }

    pub fn link_up(&mut self, link: (usize, usize), now: Time) {
        self.links.entry(link).or_default().push((now, None));
        self.changes.push(now);
    }

    pub fn link_down(&mut self, link: (usize, usize), now: Time) {
        if let Some((_, until @ None)) = self.links.entry(link).or_default().last_mut() {
            *until = Some(now);
            self.changes.push(now);
        }
    }

    pub fn session_begins(&mut self, node: usize, behaviour: Behaviour) -> usize {
        self.sessions.push(SessionLife {
            node,
            behaviour,
            ended: None,
            drained: None,
            stopped: None,
            topics: BTreeMap::new(),
        });
        self.sessions.len() - 1
    }

    pub fn session_ends(&mut self, session: usize, now: Time) {
        let life = &mut self.sessions[session];
        life.ended = Some(now);
        for periods in life.topics.values_mut() {
            if let Some((_, until @ None)) = periods.last_mut() {
                *until = Some(now);
            }
        }
    }

    pub fn reports(&mut self, session: usize, topics: &[u32], now: Time) {
        let life = &mut self.sessions[session];
        for (topic, periods) in &mut life.topics {
            if let Some((_, until @ None)) = periods.last_mut()
                && !topics.contains(topic)
            {
                *until = Some(now);
            }
        }
        for topic in topics {
            let periods = life.topics.entry(*topic).or_default();
            if !matches!(periods.last(), Some((_, None))) {
                periods.push((now, None));
            }
        }
    }

    pub fn drains(&mut self, sessions: &[usize], now: Time) {
        sessions.iter().for_each(|session| self.sessions[*session].drained = Some(now));
    }

    pub fn stopped(&mut self, sessions: &[usize], now: Time) {
        sessions.iter().for_each(|session| self.sessions[*session].stopped = Some(now));
    }

    pub fn publishes(&mut self, message: u64, session: usize, mode: Mode, topic: u32, at: Time) -> usize {
        let number = self.publications.len();
        self.publications.push(Publication { message, session, mode, topic, at, outcomes: Vec::new() });
        self.by_message.entry(message).or_default().push(number);
        number
    }

    pub fn is_handed(&mut self, message: u64, session: usize, now: Time) {
        self.handed.entry((message, session)).or_default().push(now);
    }

    pub fn answers(&mut self, message: u64, session: usize, now: Time) {
        self.answered.insert((message, session), now);
    }

    /// An outcome reached `session` for the message; frames with one seq are told in order.
    pub fn outcome(
        &mut self,
        message: u64,
        session: usize,
        cause: Cause,
        answer: Option<(u64, usize)>,
        now: Time,
    ) {
        let open = self.by_message.get(&message).into_iter().flatten().copied();
        let mut open = open.filter(|n| self.publications[*n].session == session);
        let Some(number) =
            open.clone().find(|n| self.publications[*n].outcomes.is_empty()).or(open.next_back())
        else {
            self.broken.push(format!("an outcome for message {message}, which session {session} never sent"));
            return;
        };
        self.publications[number].outcomes.push((now, cause));
        let mode = self.publications[number].mode;
        if cause.status() == Status::Success && mode == Mode::Unicast {
            match answer {
                Some(key @ (answered, _)) if answered == message && self.answered.contains_key(&key) => {}
                other => self
                    .broken
                    .push(format!("message {message} succeeded with {other:?}, no such answer was given")),
            }
        }
    }

    /// Judges everything once the run is over.
    pub fn judge(&mut self, end: Time) -> Vec<String> {
        let mut faults = std::mem::take(&mut self.broken);
        for (number, publication) in self.publications.iter().enumerate() {
            self.judge_outcome(number, publication, end, &mut faults);
        }
        if self.calm {
            self.judge_order(&mut faults);
        }
        for ((message, session), times) in &self.handed {
            if times.len() > 1 {
                faults.push(format!("message {message} was handed to session {session} at {times:?}"));
            }
        }
        faults
    }

    fn judge_outcome(&self, number: usize, publication: &Publication, end: Time, faults: &mut Vec<String>) {
        let life = &self.sessions[publication.session];
        let due = publication.at + self.deadline + SLACK;
        let due = life.stopped.map_or(due, |stopped| stopped.min(due));
        let gone = life.stopped.is_none() && life.ended.is_some_and(|ended| ended < due);
        match publication.outcomes.as_slice() {
            [] if gone || due > end => {}
            [] => faults.push(format!("publication {number} never got an outcome: {publication:?}")),
            [(at, cause)] => {
                if *at > due {
                    faults.push(format!("publication {number}'s outcome came at {at:?}, due {due:?}"));
                }
                let (at, cause) = (*at, *cause);
                faults.extend(self.wrong(publication, at, cause).map(|wrong| {
                    format!(
                        "publication {number} ended with {cause:?} at {at:?}, yet {wrong}: {publication:?}"
                    )
                }));
            }
            several => {
                faults.push(format!("publication {number} got {} outcomes: {publication:?}", several.len()))
            }
        }
    }

    /// Why this cannot be how the publication ended, if it cannot.
    fn wrong(&self, publication: &Publication, at: Time, cause: Cause) -> Option<String> {
        let life = &self.sessions[publication.session];
        let draining = life.drained.is_some_and(|drained| drained <= publication.at);
        if draining || cause.status() == Status::NoNode {
            return (!draining || cause != Cause::Draining).then(|| "99 is for nodes shutting down".into());
        }
        let handed: Vec<&SessionLife> = self.handed_to(publication.message, at).collect();
        let copies = &self.by_message[&publication.message];
        let first = copies.iter().map(|n| &self.publications[*n]).find(|p| p.session == publication.session);
        if let Some([(_, told)]) = first.map(|first| first.outcomes.as_slice())
            && *told != cause
        {
            return Some(format!("it repeats one that ended with {told:?}"));
        }
        if cause == Cause::SubscriberRefused {
            let refuser = handed.iter().any(|life| life.behaviour == Behaviour::Refuses);
            return (!refuser).then(|| "nobody who refuses was handed it".into());
        }
        match cause.status() {
            Status::Success if handed.is_empty() => return Some("nobody was handed it".into()),
            Status::TimedOut if handed.is_empty() => return Some("nobody was handed it".into()),
            Status::NoPath if self.calm && copies.len() == 1 && !handed.is_empty() => {
                return Some("somebody was handed it".into());
            }
            Status::NotHanded if self.calm && !self.could_not_be_handed(publication, at) => {
                return Some("everybody could be handed it".into());
            }
            Status::Refused => return Some("nothing is limited here".into()),
            _ => {}
        }
        let stopped = life.stopped.is_some_and(|stopped| stopped <= at);
        if cause.status() == Status::Success || stopped || copies.len() > 1 {
            return None;
        }
        let session = self.reachable_throughout(publication, at)?;
        Some(format!("session {session} could be reached, {:?}", self.sessions[session]))
    }

    fn handed_to(&self, message: u64, by: Time) -> impl Iterator<Item = &SessionLife> {
        let all = self.handed.range((message, 0)..=(message, usize::MAX));
        all.filter(move |(_, times)| times[0] <= by).map(|((_, session), _)| &self.sessions[*session])
    }

    /// Whether some subscriber's connection took nothing, or it left meanwhile.
    fn could_not_be_handed(&self, publication: &Publication, by: Time) -> bool {
        let wants = |life: &&SessionLife| life.topics.contains_key(&publication.topic);
        self.sessions
            .iter()
            .filter(wants)
            .any(|life| life.behaviour == Behaviour::Stuck || life.ended.is_some_and(|ended| ended <= by))
    }

    /// While nothing breaks and everybody answers, a subscriber gets one publisher's messages on
    /// one topic in the order sent.
    fn judge_order(&self, faults: &mut Vec<String>) {
        let mut last: BTreeMap<(usize, usize, u32), (Time, u64)> = BTreeMap::new();
        for publication in self.publications.iter().filter(|p| self.by_message[&p.message].len() == 1) {
            if !self.sessions.iter().all(|life| life.always_answers(publication.topic)) {
                continue;
            }
            for ((message, session), times) in
                self.handed.range((publication.message, 0)..=(publication.message, usize::MAX))
            {
                let way = (publication.session, *session, publication.topic);
                let (before, other) = last.insert(way, (times[0], *message)).unwrap_or_default();
                if times[0] < before {
                    faults.push(format!("message {message} overtook {other} on the way {way:?}"));
                }
            }
        }
    }

    /// A prompt subscriber that was subscribed and connected through settled links all the time.
    fn reachable_throughout(&self, publication: &Publication, until: Time) -> Option<usize> {
        let from = publication.at;
        let origin = self.sessions[publication.session].node;
        (0..self.sessions.len()).find(|session| {
            let life = &self.sessions[*session];
            *session != publication.session
                && matches!(life.behaviour, Behaviour::Prompt(_))
                && self.subscribed_throughout(life, publication.topic, from, until)
                && (life.node == origin || life.drained.is_none_or(|drained| drained > until))
                && self.connected_throughout(origin, life.node, from, until)
        })
    }

    fn subscribed_throughout(&self, life: &SessionLife, topic: u32, from: Time, until: Time) -> bool {
        let periods = life.topics.get(&topic).into_iter().flatten();
        periods
            .into_iter()
            .any(|(since, ended)| *since + TOPIC_SETTLES <= from && ended.is_none_or(|ended| ended > until))
    }

    fn connected_throughout(&self, a: usize, b: usize, from: Time, until: Time) -> bool {
        let changes = self.changes.iter().filter(|at| **at >= from && **at <= until);
        std::iter::once(&from).chain(changes).all(|at| self.connected(a, b, *at))
    }

    fn connected(&self, a: usize, b: usize, at: Time) -> bool {
        let mut reached = vec![a];
        let mut next = 0;
        while let Some(node) = reached.get(next).copied() {
            next += 1;
            for ((x, y), periods) in &self.links {
                let other = if *x == node {
                    *y
                } else if *y == node {
                    *x
                } else {
                    continue;
                };
                let up = periods.iter().any(|(since, until)| {
                    *since + LINK_SETTLES <= at && until.is_none_or(|until| until > at)
                });
                if up && !reached.contains(&other) {
                    reached.push(other);
                }
            }
        }
        reached.contains(&b)
    }

    pub fn totals(&self) -> Totals {
        let outcomes = || self.publications.iter().flat_map(|publication| &publication.outcomes);
        let succeeded = outcomes().filter(|(_, cause)| cause.status() == Status::Success).count() as u64;
        Totals {
            publications: self.publications.len() as u64,
            succeeded,
            failed: outcomes().count() as u64 - succeeded,
            handed: self.handed.len() as u64,
            faults_injected: self.faults_injected,
        }
    }
}
