//! One outcome per send, the right one; each message once.

use std::{collections::BTreeMap, time::Duration};

use amop_protocol::{Cause, Status, Time, broker::event::Mode};

use super::{Oracle, Publication, SessionLife};
use crate::{client::Ended, plan::Behaviour};

/// How much later than its deadline an outcome may come: a tick of the timer wheel, and then some.
const SLACK: Duration = Duration::from_millis(100);

/// For so long at least a node waits to hear that a client has received what it has read.
const WAITS_FOR_WORD: Duration = Duration::from_millis(4_900);

impl Oracle {
    /// Judges everything once the run is over.
    pub fn judge(&mut self, end: Time) {
        let mut faults = Vec::new();
        for (number, publication) in self.publications.iter().enumerate() {
            let wrong = self.judge_outcomes(publication, end);
            faults.extend(wrong.map(|wrong| format!("publication {number}: {wrong}: {publication:?}")));
        }
        let certain = self.publications.iter().filter(|publication| match publication.outcomes.as_slice() {
            [(at, ended)] if ended.status != Status::Refused => {
                self.had_to_succeed(publication, *at).is_some()
            }
            _ => false,
        });
        self.certain = certain.count() as u64;
        self.judge_hand_overs(&mut faults);
        self.judge_own(&mut faults);
        self.judge_applications(&mut faults);
        self.judge_order(&mut faults);
        self.judge_private(end);
        self.broken.extend(faults);
    }

    fn judge_outcomes(&self, publication: &Publication, end: Time) -> Option<String> {
        let life = &self.sessions[&publication.session];
        let due = self.deadline(publication) + SLACK;
        let due = life.stopped.map_or(due, |stopped| due.min(stopped + SLACK));
        let gone = life.stopped.is_none() && life.ended.is_some_and(|ended| ended < due);
        match publication.outcomes.as_slice() {
            [] if gone || due > end => None,
            [] => Some("it never got an outcome".into()),
            [(at, _)] if *at > due => Some(format!("its outcome came after {due:?}")),
            [(at, ended)] => self
                .wrong(publication, *at, *ended)
                .or_else(|| self.wrong_retry(publication, *at, *ended))
                .or_else(|| self.wrong_report(publication, *at, *ended)),
            several => Some(format!("it got {} outcomes", several.len())),
        }
    }

    /// The latest that may apply.
    fn deadline(&self, publication: &Publication) -> Time {
        self.deadlines(publication).max().unwrap_or(publication.at)
    }

    /// The publication's own, and those of other frames with its message which it may have joined.
    fn deadlines<'a>(&'a self, publication: &'a Publication) -> impl Iterator<Item = Time> + 'a {
        let node = |publication: &Publication| self.sessions[&publication.session].node;
        let same = self.by_message[&publication.message].iter().map(|n| &self.publications[*n]);
        let same = same.filter(move |other| node(other) == node(publication) && other.at <= publication.at);
        same.map(|other| other.at + other.deadline)
    }

    /// Why this cannot be how the publication ended, if it cannot.
    fn wrong(&self, publication: &Publication, at: Time, ended: Ended) -> Option<String> {
        let Ended { status, cause, .. } = ended;
        let draining = publication.draining;
        if status == Status::Refused {
            return self.wrongly_refused(publication, at, cause);
        }
        let Some(topic) = publication.topic else {
            let ok = status == Status::NoPath || draining && status == Status::NoNode;
            return (!ok).then(|| "nobody can publish there".into());
        };
        if draining || status == Status::NoNode {
            return (draining != (status == Status::NoNode)).then(|| "99 is for nodes shutting down".into());
        }
        if let Some(first) = self.repeated(publication) {
            return self.differs(first, ended);
        }
        if self.was_forgotten(cause, status) {
            return None;
        }
        let handed: Vec<&SessionLife> = self.handed_to(publication.message, at).collect();
        let impossible = match status {
            Status::Success | Status::TimedOut if handed.is_empty() => Some("nobody was handed it"),
            Status::Success if publication.mode == Mode::Multicast && !self.is_known(publication, at) => {
                Some("no node knew that anybody was handed it")
            }
            Status::NoPath
                if self.was_said_in_time(publication, at) && self.is_calm() && self.is_alone(publication) =>
            {
                Some("somebody was handed it")
            }
            // At its deadline a publisher's node knows only that nobody said "handed".
            Status::NoPath if self.deadlines(publication).any(|deadline| at >= deadline) => None,
            Status::NoPath
                if publication.mode == Mode::Unicast
                    && self.is_calm()
                    && self.is_unhindered(publication, at) =>
            {
                self.standing(publication, at).next().map(|_| "there was a subscriber")
            }
            Status::NotHanded if !self.could_not_be_handed(topic, self.first_sent(publication), at) => {
                Some("everybody could be handed it")
            }
            _ => None,
        };
        impossible.map(str::to_owned).or_else(|| self.should_have_succeeded(publication, at, status, &handed))
    }

    /// A path and a live subscriber throughout the send's life: success.
    fn should_have_succeeded(
        &self,
        publication: &Publication,
        at: Time,
        status: Status,
        handed: &[&SessionLife],
    ) -> Option<String> {
        let stopped = self.sessions[&publication.session].stopped.is_some_and(|stopped| stopped <= at);
        let refused = status == Status::NotHanded
            && publication.mode == Mode::Unicast
            && handed.iter().any(|life| life.behaviour == Behaviour::Refuses);
        if status == Status::Success || stopped || refused {
            return None;
        }
        let (session, life) = self.had_to_succeed(publication, at)?;
        Some(format!("session {session} could be reached, {life:?}"))
    }

    /// The live subscriber that there was a path to, throughout and for long enough. Where messages
    /// are forgotten at a bound, one that failed at one session may not be given to another.
    fn had_to_succeed<'a>(
        &'a self,
        publication: &'a Publication,
        at: Time,
    ) -> Option<(usize, &'a SessionLife)> {
        let unicast = publication.mode == Mode::Unicast;
        let mut live = self.standing(publication, at);
        let mut live = live.by_ref().filter(|(_, life)| life.is_prompt() && (unicast || life.confirms));
        let free = !self.forgets() && self.is_unhindered(publication, at);
        live.next().filter(|_| free && self.is_patient(publication, at))
    }

    /// Whether some node knew by then that the message was handed over.
    fn is_known(&self, publication: &Publication, by: Time) -> bool {
        let message = publication.message;
        self.confirmed.range((message, 0)..=(message, usize::MAX)).any(|(_, at)| *at <= by)
    }

    /// Whether some node knew it while it still waited for the word: later it has reported already. And so
    /// early that its report came before the publisher's node gave up, if that did at the deadline.
    fn was_said_in_time(&self, publication: &Publication, by: Time) -> bool {
        let SessionLife { node: origin, .. } = self.sessions[&publication.session];
        let deadline = self.deadline(publication);
        let message = publication.message;
        self.confirmed.range((message, 0)..=(message, usize::MAX)).any(|(key, at)| {
            let handed = self.handed.get(key).and_then(|times| times.first());
            let far = self.sessions[&key.1].node != origin;
            let way = if far { self.longest_way } else { Duration::ZERO };
            let is_heard = if by < deadline { *at <= by } else { *at + way <= deadline };
            is_heard && handed.is_some_and(|handed| at.since(*handed) < WAITS_FOR_WORD)
        })
    }

    fn is_calm(&self) -> bool {
        self.disturbances.is_empty()
    }

    /// When the first frame with its message was sent: that one may have used up a subscriber who left.
    fn first_sent(&self, publication: &Publication) -> Time {
        let first = self.by_message[&publication.message].first();
        first.map_or(publication.at, |n| self.publications[*n].at)
    }

    /// Whether this is the only frame with its message.
    pub(super) fn is_alone(&self, publication: &Publication) -> bool {
        self.by_message[&publication.message].len() == 1
    }

    /// The frame, of the same session or another one at the same node, that this one repeats, if
    /// there is one.
    fn repeated(&self, publication: &Publication) -> Option<&Publication> {
        let node = self.sessions[&publication.session].node;
        let same = self.by_message[&publication.message].iter().map(|n| &self.publications[*n]);
        let mut same = same.filter(|other| {
            // A session that is gone may be of an earlier start of the node.
            let SessionLife { node: theirs, ended, .. } = self.sessions[&other.session];
            other.session == publication.session
                || theirs == node && ended.is_none_or(|ended| ended > publication.at)
        });
        same.next().filter(|first| !std::ptr::eq(*first, publication))
    }

    fn differs(&self, first: &Publication, repeated: Ended) -> Option<String> {
        match first.outcomes.as_slice() {
            [(_, told)] if told.status != repeated.status => {
                let refused = told.status == Status::Refused;
                let forgotten = self.was_forgotten(repeated.cause, repeated.status);
                (!refused && !forgotten && !self.forgets())
                    .then(|| format!("it repeats one that ended with {told:?}"))
            }
            _ => None,
        }
    }

    /// Whether an outcome may have been dropped for want of room.
    fn was_forgotten(&self, cause: Option<Cause>, status: Status) -> bool {
        let tight = self.limits.window_bytes < 1024;
        tight && status == Status::TimedOut && cause.is_none_or(|cause| cause == Cause::OutcomeLost)
    }

    /// Whether messages may have been forgotten before their time.
    pub(super) fn forgets(&self) -> bool {
        self.limits.window_entries < 1024
    }

    /// Sends of the same session that had no outcome yet when this one was sent.
    pub(super) fn in_flight(&self, publication: &Publication) -> usize {
        let others = self.publications.iter().take_while(|other| !std::ptr::eq(*other, publication));
        let theirs = others.filter(|other| other.session == publication.session);
        theirs.filter(|other| other.outcomes.first().is_none_or(|(at, _)| *at >= publication.at)).count()
    }

    pub(super) fn handed_to(&self, message: u64, by: Time) -> impl Iterator<Item = &SessionLife> {
        let all = self.handed.range((message, 0)..=(message, usize::MAX));
        all.filter(move |(_, times)| times[0] <= by).map(|((_, session), _)| &self.sessions[session])
    }

    /// Whether some subscriber's connection took nothing, or it refused, or left meanwhile.
    fn could_not_be_handed(&self, topic: u32, from: Time, by: Time) -> bool {
        self.sessions.values().filter(|life| life.topics.contains_key(&topic)).any(|life| {
            !life.behaviour.reads()
                || life.behaviour == Behaviour::Refuses
                || life.ended.is_some_and(|ended| ended <= by && ended >= from)
        })
    }

    /// Each message once per session, to those who wanted it, and not to its own publisher.
    fn judge_hand_overs(&self, faults: &mut Vec<String>) {
        for ((message, session), times) in &self.handed {
            if times.len() > 1 && !self.forgets() {
                faults.push(format!("message {message} was handed to session {session} at {times:?}"));
            }
            let Some(first) = self.by_message.get(message).and_then(|all| all.first()) else {
                faults.push(format!("session {session} was handed message {message}, which nobody sent"));
                continue;
            };
            let publication = &self.publications[*first];
            let life = &self.sessions[session];
            let entitled = self.by_message[message].iter().map(|n| &self.publications[*n]).any(|sent| {
                let wanted = |topic| life.wanted(topic, sent.at, times[0]) && life.is_meant(sent);
                sent.topic.is_some_and(wanted)
            });
            if !entitled {
                faults.push(format!("session {session} was handed message {message}, which it did not want"));
            }
            let own = publication.mode == Mode::Multicast && publication.session == *session;
            let taken = publication.outcomes.iter().all(|(_, ended)| ended.status != Status::Refused);
            // Otherwise its node may know only the copy that came through another one.
            let alike = self.is_unhindered(publication, times[0]);
            if own && taken && alike && !self.forgets() {
                faults.push(format!("session {session} was handed its own multicast {message}"));
            }
        }
    }

    /// Each message once per application, however many sessions it has, whatever nodes forget.
    fn judge_applications(&self, faults: &mut Vec<String>) {
        let mut handed: BTreeMap<(u64, usize), Vec<Time>> = BTreeMap::new();
        for ((message, session), times) in &self.handed {
            if let Some(instance) = self.sessions[session].instance {
                handed.entry((*message, instance)).or_default().extend(times);
            }
        }
        let twice = handed.iter().filter(|(_, times)| times.len() > 1);
        faults.extend(twice.map(|((message, instance), times)| {
            format!("message {message} was handed to application {instance} at {times:?}")
        }));
    }
}
