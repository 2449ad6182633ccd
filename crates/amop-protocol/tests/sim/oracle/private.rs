//! Who may read a private topic, by what publishers and subscribers said alone.
//!
//! A publisher trusts a subscriber from its verdict on the newest question over the channel by which
//! that very session was challenged, until it takes that back or one of the two ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use amop_protocol::{
    Status, Time, Topic,
    broker::event::Mode,
    session::verification::{Inquiry, Verdict},
};

use super::Oracle;
use crate::{
    client::Ended,
    private::{Role, channel_number, private},
};

/// How soon a publisher must be asked once both are known, and for each hop that news may take.
const ASKED_WITHIN: Duration = Duration::from_millis(200);
const PER_NODE: Duration = Duration::from_millis(25);
/// A verdict within this time counts for certain.
const PATIENCE: Duration = Duration::from_millis(900);
/// How soon a multicast is handed to those who can be reached.
const HANDED_WITHIN: Duration = Duration::from_secs(6);
/// What a node waits for an outcome, and then some.
const DEADLINE: Duration = Duration::from_millis(30_100);
/// What one dead subscriber may cost a send.
const COST_OF_THE_DEAD: Duration = Duration::from_secs(3);

/// A message to a private topic.
#[derive(Clone, Copy, Debug)]
pub struct PrivateSend {
    pub message: u64,
    pub session: usize,
    pub mode: Mode,
    pub topic: u32,
    pub at: Time,
}

/// A time in which a session had a role, open if it has no end.
#[derive(Clone, Debug)]
struct Stint {
    session: usize,
    topic: u32,
    /// Of a subscriber.
    channel: Option<u64>,
    since: Time,
    until: Option<Time>,
}

#[derive(Clone, Debug)]
struct Asked {
    publisher: usize,
    channel: u64,
    at: Time,
    decided: bool,
}

#[derive(Clone, Debug)]
struct Trust {
    publisher: usize,
    subscriber: usize,
    topic: u32,
    question: String,
    since: Time,
    until: Option<Time>,
    /// Whether the node must have taken the verdict.
    certain: bool,
}

/// What is known of private topics.
#[derive(Default)]
pub struct Private {
    stints: Vec<Stint>,
    asked: BTreeMap<String, Asked>,
    /// The newest question to a publisher over a channel.
    newest: BTreeMap<(usize, u64), String>,
    trusts: Vec<Trust>,
    sends: Vec<(PrivateSend, Vec<(Time, Ended)>)>,
    handed: BTreeMap<(u64, usize), Vec<Time>>,
    /// Sends that had a verified subscriber and a path all the time.
    pub certain: u64,
    /// Questions that had to be put at once.
    pub prompt: u64,
}

impl Stint {
    fn lasts(&self, from: Time, to: Time) -> bool {
        self.since <= from && self.until.is_none_or(|until| until > to)
    }
}

impl Private {
    /// A session has this role from now on, and no other.
    pub fn reports(&mut self, session: usize, role: Option<&Role>, now: Time) {
        let (topic, channel) = match role {
            Some(Role::Publisher { topic, .. }) => (Some(*topic), None),
            Some(Role::Subscriber { topic, channel, .. }) => (Some(*topic), Some(*channel)),
            None => (None, None),
        };
        let before = self.stints.iter_mut().rev().find(|stint| stint.session == session);
        if let Some(stint) = before.filter(|stint| stint.until.is_none()) {
            if (Some(stint.topic), stint.channel) == (topic, channel) {
                return;
            }
            stint.until = Some(now);
            if channel.is_none() && stint.channel.is_none() {
                self.distrust(now, |trust| trust.publisher == session);
            }
        }
        if let Some(topic) = topic {
            self.stints.push(Stint { session, topic, channel, since: now, until: None });
        }
    }

    pub fn session_ends(&mut self, session: usize, now: Time) {
        self.reports(session, None, now);
        self.distrust(now, |trust| trust.publisher == session || trust.subscriber == session);
    }

    /// A node puts a question to a publisher: the one before it over the same channel is void.
    pub fn asked(&mut self, publisher: usize, inquiry: &Inquiry, at: Time) {
        let (question, channel) = (inquiry.question.clone(), channel_number(&inquiry.channel));
        self.newest.insert((publisher, channel), question.clone());
        self.asked.insert(question, Asked { publisher, channel, at, decided: false });
    }

    /// Whether the question was decided for good.
    pub fn is_decided(&self, question: &str) -> bool {
        self.asked.get(question).is_some_and(|asked| asked.decided)
    }

    /// A publisher decides on the subscriber that answered its challenge.
    pub fn decides(&mut self, publisher: usize, subscriber: usize, verdict: &Verdict, now: Time) {
        let Verdict { question, topic, trusted } = verdict;
        let Some(asked) = self.asked.get_mut(question) else { return };
        let channel = asked.channel;
        let newest = self.newest.get(&(publisher, channel)) == Some(question);
        if std::mem::replace(&mut asked.decided, true) || !newest || asked.publisher != publisher {
            return;
        }
        let (at, topic) = (asked.at, topic_number(topic));
        if !trusted {
            let same = |trust: &Trust| {
                (trust.publisher, trust.subscriber, trust.topic) == (publisher, subscriber, topic)
            };
            return self.distrust(now, same);
        }
        let had = |session: usize, channel| {
            let stints = self.stints.iter().filter(|stint| stint.session == session && stint.topic == topic);
            stints.filter(|stint| stint.channel == channel).any(|stint| stint.lasts(at, now))
        };
        // A challenge meant for another owner of the channel, who has left, may have come to this one.
        let left = |stint: &Stint| stint.channel == Some(channel) && stint.session != subscriber;
        let sole = !self.stints.iter().any(|stint| left(stint) && stint.until.is_some());
        let asked_for = had(publisher, None) && had(subscriber, Some(channel));
        let certain = asked_for && sole && now.since(at) < PATIENCE;
        if !self
            .stints
            .iter()
            .any(|s| s.session == subscriber && s.topic == topic && s.until.is_none_or(|u| u >= at))
        {
            return;
        }
        let question = question.clone();
        self.trusts.push(Trust { publisher, subscriber, topic, question, since: now, until: None, certain });
    }

    /// A publisher takes its trust back.
    pub fn revokes(&mut self, publisher: usize, verdict: &Verdict, now: Time) {
        self.distrust(now, |trust| trust.publisher == publisher && trust.question == verdict.question);
    }

    fn distrust(&mut self, now: Time, which: impl Fn(&Trust) -> bool) {
        for trust in self.trusts.iter_mut().filter(|trust| trust.until.is_none() && which(trust)) {
            trust.until = Some(now);
        }
    }

    pub fn publishes(&mut self, send: PrivateSend) {
        self.sends.push((send, Vec::new()));
    }

    pub fn is_handed(&mut self, message: u64, session: usize, now: Time) {
        self.handed.entry((message, session)).or_default().push(now);
    }

    pub fn outcome(&mut self, message: u64, ended: Ended, now: Time) {
        let sent = self.sends.iter_mut().find(|(send, _)| send.message == message);
        sent.into_iter().for_each(|(_, outcomes)| outcomes.push((now, ended)));
    }

    pub fn handed_over(&self) -> u64 {
        self.handed.len() as u64
    }

    /// Whether the publisher trusted the session at some time between, and it wanted the topic then.
    fn may_have(&self, send: &PrivateSend, session: usize, by: Time) -> bool {
        let trusted = self.trusts.iter().any(|trust| {
            (trust.publisher, trust.subscriber, trust.topic) == (send.session, session, send.topic)
                && trust.since <= by
                && trust.until.is_none_or(|until| until >= send.at)
        });
        let wanted = self.stints.iter().any(|stint| {
            stint.session == session
                && stint.topic == send.topic
                && stint.channel.is_some()
                && stint.since <= by
                && stint.until.is_none_or(|until| until >= send.at)
        });
        trusted && wanted
    }

    /// From when on the session has had the topic without a break, if it did up to a moment.
    fn wants_since(&self, session: usize, topic: u32, to: Time) -> Option<Time> {
        let own = self.stints.iter().filter(|stint| stint.session == session && stint.since <= to);
        let mut since = None;
        for stint in own {
            let goes_on = since.filter(|(_, until)| *until == Some(stint.since));
            let begun = goes_on.map_or(stint.since, |(begun, _)| begun);
            since = (stint.topic == topic && stint.channel.is_some()).then_some((begun, stint.until));
        }
        since.filter(|(_, until)| until.is_none_or(|until| until > to)).map(|(begun, _)| begun)
    }
}

impl Oracle {
    /// Judges what was handed to whom, what publishers were told, and how soon they were asked.
    pub(super) fn judge_private(&mut self, end: Time) {
        let mut faults = Vec::new();
        self.judge_private_hand_overs(&mut faults);
        let mut certain = 0;
        for (send, outcomes) in &self.private.sends {
            let wrong = self.wrong_private(send, outcomes, end, &mut certain);
            faults.extend(wrong.map(|wrong| format!("{wrong}: {send:?}, {outcomes:?}")));
        }
        let prompt = self.judge_questions(end, &mut faults);
        (self.private.certain, self.private.prompt) = (certain, prompt);
        self.broken.extend(faults);
    }

    fn judge_private_hand_overs(&self, faults: &mut Vec<String>) {
        for ((message, session), times) in &self.private.handed {
            let sent = self.private.sends.iter().find(|(send, _)| send.message == *message);
            let entitled = sent.is_some_and(|(send, _)| self.private.may_have(send, *session, times[0]));
            if !entitled {
                let at = times[0];
                faults.push(format!("session {session} was handed {sent:?} at {at:?} and is not verified"));
            }
            if times.len() > 1 {
                faults
                    .push(format!("private message {message} was handed to session {session} at {times:?}"));
            }
        }
    }

    fn wrong_private(
        &self,
        send: &PrivateSend,
        outcomes: &[(Time, Ended)],
        end: Time,
        certain: &mut u64,
    ) -> Option<String> {
        let life = &self.sessions[&send.session];
        let due = send.at + DEADLINE;
        let (at, ended) = match outcomes {
            [] if life.ended.is_some_and(|ended| ended < due) || due > end => return None,
            [] => return Some("it never got an outcome".into()),
            [(at, _)] if *at > due => return Some("its outcome came too late".into()),
            [one] => *one,
            several => return Some(format!("it got {} outcomes", several.len())),
        };
        let draining = life.drained.is_some_and(|drained| drained <= send.at);
        if draining || ended.status == Status::NoNode {
            return (draining != (ended.status == Status::NoNode))
                .then(|| "99 is for nodes shutting down".into());
        }
        let stopped = life.stopped.is_some_and(|stopped| stopped <= at);
        let all = self.private.handed.range((send.message, 0)..=(send.message, usize::MAX));
        let handed: BTreeSet<usize> =
            all.filter(|(_, times)| times[0] <= at).map(|((_, session), _)| *session).collect();
        let answered =
            ended.answer.is_some_and(|(message, who)| message == send.message && handed.contains(&who));
        match ended.status {
            Status::Success if send.mode == Mode::Unicast && !answered => {
                return Some("it succeeded, and no such answer was given".into());
            }
            Status::Success | Status::TimedOut if handed.is_empty() => {
                return Some("nobody was handed it".into());
            }
            Status::Refused => return Some("nothing is limited here".into()),
            _ => {}
        }
        if stopped {
            return None;
        }
        let to = if send.mode == Mode::Unicast { at } else { (send.at + HANDED_WITHIN).min(end) };
        let standing = self.standing_privately(send, to);
        if standing.is_empty() || !self.is_patient_privately(send, &standing) {
            return None;
        }
        *certain += 1;
        if ended.status != Status::Success {
            return Some(format!("sessions {standing:?} are verified and could be reached"));
        }
        let left = standing.iter().find(|session| {
            send.mode == Mode::Multicast && !self.private.handed.contains_key(&(send.message, **session))
        });
        left.map(|session| format!("session {session} is verified and was not handed it"))
    }

    /// Subscribers that were verified for certain and could be reached from then on.
    fn standing_privately(&self, send: &PrivateSend, to: Time) -> Vec<usize> {
        let origin = self.sessions[&send.session].node;
        let holds = |trust: &&Trust| {
            let Trust { publisher, subscriber, topic, since, until, certain, .. } = **trust;
            let life = &self.sessions[&subscriber];
            certain
                && (publisher, topic) == (send.session, send.topic)
                && since < send.at
                && until.is_none_or(|until| until > to)
                && life.is_prompt()
                && life.ended.is_none_or(|ended| ended > to)
                && life.drained.is_none_or(|drained| drained > to)
                && self.private.wants_since(subscriber, topic, to).is_some_and(|wanted| wanted <= since)
                && !self.rises(origin, since, to)
                && !self.rises(life.node, since, to)
                && self.connected_throughout(origin, life.node, since, to)
        };
        self.private.trusts.iter().filter(holds).map(|trust| trust.subscriber).collect()
    }

    fn is_patient_privately(&self, send: &PrivateSend, standing: &[usize]) -> bool {
        let trusts = self.private.trusts.iter();
        let dead: BTreeSet<usize> = trusts
            .filter(|trust| trust.publisher == send.session && !standing.contains(&trust.subscriber))
            .map(|trust| trust.subscriber)
            .collect();
        COST_OF_THE_DEAD * (1 + dead.len() as u32) <= DEADLINE
    }

    /// A publisher is asked about a subscriber as soon as its node knows both, not with the gossip.
    fn judge_questions(&self, end: Time, faults: &mut Vec<String>) -> u64 {
        let within = ASKED_WITHIN + PER_NODE * self.nodes.len() as u32;
        let stints = &self.private.stints;
        let mut prompt = 0;
        for publisher in stints.iter().filter(|stint| stint.channel.is_none()) {
            for subscriber in stints.iter().filter(|stint| stint.topic == publisher.topic) {
                let Some(channel) = subscriber.channel.filter(|_| self.is_first(subscriber)) else {
                    continue;
                };
                let from = publisher.since.max(subscriber.since);
                let to = from + within;
                let (a, b) = (&self.sessions[&publisher.session], &self.sessions[&subscriber.session]);
                let both = publisher.lasts(from, to) && subscriber.lasts(from, to) && to <= end;
                let served = [a, b].iter().all(|life| life.drained.is_none_or(|drained| drained > to));
                if !both
                    || !served
                    || [a, b].iter().any(|life| self.rises(life.node, from, to))
                    || !self.connected_throughout(a.node, b.node, from, to)
                {
                    continue;
                }
                prompt += 1;
                let asked = self.private.asked.values().any(|asked| {
                    (asked.publisher, asked.channel) == (publisher.session, channel) && asked.at <= to
                });
                if !asked {
                    faults
                        .push(format!("{publisher:?} was not asked about {subscriber:?} within {within:?}"));
                }
            }
        }
        prompt
    }

    /// Whether the session had not had the topic before, and its channel is nobody else's.
    fn is_first(&self, subscriber: &Stint) -> bool {
        let others = self.private.stints.iter().filter(|other| !std::ptr::eq(*other, subscriber));
        let mut others =
            others.filter(|other| other.session == subscriber.session || other.channel == subscriber.channel);
        others.next().is_none()
    }
}

fn topic_number(topic: &Topic) -> u32 {
    (0..crate::private::TOPICS).find(|number| private(*number) == *topic).unwrap_or(u32::MAX)
}
