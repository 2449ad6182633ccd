//! What extension clients asked for beside the message: addresses, reports, word of the hand-over;
//! and whose limits may have refused it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use amop_protocol::{
    Cause, Fingerprint, Retry, Status, Time,
    broker::{budget::OVERHEAD, event::Mode},
    wire::recipients::{NodeRecipients, Recipients},
};

use super::{Oracle, Publication, SessionLife};
use crate::client::Ended;

/// With less time a report may come before everybody was heard.
const REPORTS_ARE_COMPLETE: Duration = Duration::from_secs(20);
/// Longer than a node holds the payload of a message.
const HELD: Duration = Duration::from_secs(131);
/// Bytes of a recipient in a report: fingerprint, the name of clients here, cause.
const RECIPIENT: usize = 48;

impl SessionLife {
    /// Whether the publication is for this subscriber.
    pub(super) fn is_meant(&self, publication: &Publication) -> bool {
        publication.wants.admits(self.node, self.certificate)
    }
}

impl Oracle {
    /// A relay that is at its limit did not pass a message on.
    pub fn relay_refuses(&mut self, message: u64, now: Time) {
        self.relay_refusals += 1;
        self.refused_on_the_way.entry(message).or_insert(now);
    }

    /// A publisher was told that somebody was handed its message.
    pub fn hand_over_told(&mut self, message: u64, session: usize, now: Time) {
        if self.confirmed.range((message, 0)..=(message, usize::MAX)).next().is_none() {
            self.broken.push(format!("at {now:?} nobody is known to have been handed message {message}"));
        }
        let sent = self.by_message.get(&message).into_iter().flatten().copied();
        let mut waiting = sent.filter(|n| {
            let publication = &self.publications[*n];
            publication.session == session
                && publication.wants.handed
                && !publication.hand_over_told
                && publication.outcomes.is_empty()
        });
        match waiting.next() {
            Some(number) => self.publications[number].hand_over_told = true,
            None => self.broken.push(format!("session {session} did not wait for word of message {message}")),
        }
    }

    pub(super) fn was_refused_on_the_way(&self, message: u64, by: Time) -> bool {
        self.refused_on_the_way.get(&message).is_some_and(|at| *at <= by)
    }

    /// Whether nothing but the network decides how a send ends: no limit, and no copy of it that asks
    /// for other subscribers.
    pub(super) fn is_unhindered(&self, publication: &Publication, by: Time) -> bool {
        let address = |publication: &Publication| {
            let wants = publication.wants;
            (wants.institution, wants.node, wants.certificate)
        };
        let mut copies = self.by_message[&publication.message].iter().map(|n| &self.publications[*n]);
        self.limits.room.is_none()
            && !self.was_refused_on_the_way(publication.message, by)
            && copies.all(|copy| address(copy) == address(publication))
    }

    /// Why a send cannot have been refused, if it cannot.
    pub(super) fn wrongly_refused(
        &self,
        publication: &Publication,
        at: Time,
        cause: Option<Cause>,
    ) -> Option<String> {
        let may_be = |possible| cause.is_none_or(|cause| cause == possible);
        let quota = may_be(Cause::ClientQuota) && self.in_flight(publication) >= self.limits.in_flight;
        let relay = may_be(Cause::RelayLimit) && self.was_refused_on_the_way(publication.message, at);
        let room = may_be(Cause::NoRoom) && self.room_may_be_used_up(publication.at, at);
        (!quota && !relay && !room).then(|| "no limit was reached".into())
    }

    /// Whether all that was sent of late, each held twice, is more than a node has room for, with what nodes
    /// have told of their recipients.
    pub(super) fn room_may_be_used_up(&self, from: Time, to: Time) -> bool {
        let Some(room) = self.limits.room else { return false };
        let late = self.publications.iter().filter(|sent| sent.at <= to && sent.at + HELD > from);
        let bytes: usize =
            late.map(|sent| 2 * (sent.wants.bytes + OVERHEAD) + self.room_for_report(sent, to)).sum();
        bytes > room - room / 8
    }

    /// What the publisher's node holds of a report until it is complete: each node's part counts like a message.
    fn room_for_report(&self, publication: &Publication, by: Time) -> usize {
        let asked = publication.wants.report && publication.mode == Mode::Multicast;
        let Some(topic) = publication.topic.filter(|_| asked) else { return 0 };
        // Whoever has just left may be asked still.
        let known = Time::ZERO + publication.at.since(Time::ZERO + Duration::from_secs(10));
        let wanting = self.sessions.values().filter(|life| life.wanted(topic, known, by));
        let nodes: Vec<usize> = wanting.map(|life| life.node).collect();
        let recipients = nodes.len() * RECIPIENT;
        nodes.into_iter().collect::<BTreeSet<_>>().len() * OVERHEAD + recipients
    }

    /// Why the publisher should not have been told that it may safely send again, if so.
    pub(super) fn wrong_retry(&self, publication: &Publication, at: Time, ended: Ended) -> Option<String> {
        let safe = ended.status != Status::Success && ended.retry == Some(Retry::Safe);
        let handed =
            safe && self.is_alone(publication) && self.handed_to(publication.message, at).next().is_some();
        handed.then(|| "it is called safe to send again, and somebody was handed it".into())
    }

    /// What is wrong with the report on the recipients, if something is.
    pub(super) fn wrong_report(&self, publication: &Publication, at: Time, ended: Ended) -> Option<String> {
        let report = publication.report.as_ref().filter(|_| self.is_alone(publication))?;
        if matches!(ended.status, Status::NoNode | Status::Refused) || self.forgets() {
            return None;
        }
        let sums = report
            .nodes
            .iter()
            .fold((0, 0), |(handed, failed), node| (handed + node.handed, failed + node.failed));
        if sums != (report.handed, report.failed) {
            return Some(format!("its report does not add up: {report:?}"));
        }
        if (report.handed > 0) != (ended.status == Status::Success) {
            return Some(format!("its report says something else: {report:?}"));
        }
        let wrong = report.nodes.iter().find_map(|node| self.wrong_of_node(publication, at, node));
        wrong.or_else(|| self.missing_in(report, publication, at))
    }

    /// What a node says of its subscribers must be so.
    fn wrong_of_node(&self, publication: &Publication, at: Time, said: &NodeRecipients) -> Option<String> {
        let Some(number) = self.nodes.get(&said.node) else {
            return Some("its report names strangers".into());
        };
        let topic = publication.topic?;
        let here =
            || self.sessions.iter().filter(|(_, life)| life.node == *number && life.is_meant(publication));
        let wanting = here().filter(|(session, life)| {
            life.wanted(topic, publication.at, at) && !self.is_own(publication, **session, life)
        });
        let wanting = wanting.count();
        let message = publication.message;
        let known = |session| self.confirmed.get(&(message, session)).is_some_and(|since| *since <= at);
        let mut handed: BTreeMap<Fingerprint, usize> = BTreeMap::new();
        for (_, life) in here().filter(|(session, _)| known(**session)) {
            *handed.entry(Fingerprint::new([life.certificate; 32])).or_default() += 1;
        }
        if said.handed as usize > handed.values().sum() {
            return Some(format!("node {number} was handed less than it says: {said:?}"));
        }
        if (said.handed + said.failed) as usize > wanting {
            return Some(format!("node {number} has {wanting} subscribers: {said:?}"));
        }
        for one in said.recipients.iter().filter(|one| one.cause == Cause::Delivered) {
            let left = one.client.as_ref().and_then(|client| handed.get_mut(&client.fingerprint));
            match left.filter(|left| **left > 0) {
                Some(left) => *left -= 1,
                None => return Some(format!("node {number} did not hand it to {:?}", one.client)),
            }
        }
        None
    }

    /// Whoever could be reached and takes what it is given is in the report.
    fn missing_in(&self, report: &Recipients, publication: &Publication, at: Time) -> Option<String> {
        let stopped = self.sessions[&publication.session].stopped.is_some();
        let complete = !stopped
            && publication.deadline >= REPORTS_ARE_COMPLETE
            && self.limits.window_bytes >= 1024
            && self.is_unhindered(publication, at);
        let mut named: BTreeMap<(usize, Fingerprint), usize> = BTreeMap::new();
        for node in &report.nodes {
            let delivered = node.recipients.iter().filter(|one| one.cause == Cause::Delivered);
            for client in delivered.filter_map(|one| one.client.as_ref()) {
                *named.entry((self.nodes[&node.node], client.fingerprint)).or_default() += 1;
            }
        }
        let mut live = self.standing(publication, at).filter(|(_, life)| life.is_prompt() && life.confirms);
        let missing = live.find(|(_, life)| {
            let left = named.get_mut(&(life.node, Fingerprint::new([life.certificate; 32])));
            left.filter(|left| **left > 0).map(|left| *left -= 1).is_none()
        });
        let (session, _) = missing.filter(|_| complete)?;
        Some(format!("session {session} is missing in {report:?}"))
    }

    /// Reads a report, if this is how a multicast ended whose publisher asked for one.
    pub(super) fn read_report(&mut self, number: usize, ended: Ended, report: bytes::Bytes) {
        let publication = &mut self.publications[number];
        let asked = publication.wants.report && publication.mode == Mode::Multicast;
        if !asked || matches!(ended.status, Status::NoNode | Status::Refused) {
            return;
        }
        match Recipients::decode(report) {
            Ok(report) => publication.report = Some(report),
            Err(error) => {
                self.broken
                    .push(format!("a report on message {} cannot be read: {error}", publication.message));
            }
        }
    }
}
