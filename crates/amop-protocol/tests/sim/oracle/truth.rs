//! Who could be reached, and who was entitled to what: by graph and subscriptions alone.

use std::{collections::BTreeSet, time::Duration};

use amop_protocol::Time;

use super::{Oracle, Period, Publication, SessionLife};
use crate::plan::Behaviour;

/// What one dead subscriber may cost a send, before it goes on to the next.
const COST_OF_THE_DEAD: Duration = Duration::from_secs(3);

/// How soon an epoch is known to all who are connected.
const LEARNT_WITHIN: Duration = Duration::from_secs(1);

impl SessionLife {
    /// Whether it had the topic at some time between the two.
    pub(super) fn wanted(&self, topic: u32, from: Time, to: Time) -> bool {
        let periods = self.topics.get(&topic).into_iter().flatten();
        periods.into_iter().any(|p| p.since <= to && p.until.is_none_or(|until| until >= from))
    }

    fn wanted_throughout(&self, topic: u32, from: Time, to: Time) -> bool {
        self.topics.get(&topic).into_iter().flatten().any(|period| period.covers(from, to))
    }

    pub(super) fn is_prompt(&self) -> bool {
        matches!(self.behaviour, Behaviour::Prompt(_))
    }
}

impl Oracle {
    /// Sessions, other than its publishers', that had the topic and were connected to the
    /// publisher through sound links all the time.
    pub(super) fn standing<'a>(
        &'a self,
        publication: &'a Publication,
        to: Time,
    ) -> impl Iterator<Item = (usize, &'a SessionLife)> {
        let from = publication.at;
        let origin = self.sessions[&publication.session].node;
        let publishers: BTreeSet<usize> =
            self.by_message[&publication.message].iter().map(|n| self.publications[*n].session).collect();
        self.sessions.iter().map(|(session, life)| (*session, life)).filter(move |(session, life)| {
            publication.topic.is_some_and(|topic| life.wanted_throughout(topic, from, to))
                && life.is_meant(publication)
                && !publishers.contains(session)
                && !self.shares_its_node(publication, *session, life)
                && (life.node == origin || life.drained.is_none_or(|drained| drained > to))
                && self.connected_throughout(origin, life.node, from, to)
                && (life.node == origin || !self.rises(life.node, from, to))
        })
    }

    /// Whether the send had time enough for all the dead before the living. So had every copy of
    /// it through other nodes: one in a hurry may use up a subscriber that the others wait for.
    pub(super) fn is_patient(&self, publication: &Publication, to: Time) -> bool {
        let Some(topic) = publication.topic else { return false };
        let from = publication.at;
        // Those who are out of reach or leave meanwhile, and those whose departure may not be
        // known yet, count as dead.
        let known = Time::ZERO + from.since(Time::ZERO + Duration::from_secs(10));
        let living: BTreeSet<usize> =
            self.standing(publication, to).filter(|(_, life)| life.is_prompt()).map(|(n, _)| n).collect();
        let wanting = self.sessions.iter().filter(|(_, life)| life.wanted(topic, known, to));
        let dead = wanting.filter(|(session, _)| !living.contains(session));
        let needed = COST_OF_THE_DEAD * (1 + dead.count() as u32);
        self.by_message[&publication.message].iter().all(|n| self.publications[*n].deadline >= needed)
    }

    /// Whether another session of the same application, or the publisher's own, is at its node: to
    /// that node they are one subscriber.
    fn shares_its_node(&self, publication: &Publication, session: usize, life: &SessionLife) -> bool {
        let same = |other: &SessionLife| life.instance.is_some() && other.instance == life.instance;
        same(&self.sessions[&publication.session])
            || self.sessions.iter().any(|(n, other)| *n != session && other.node == life.node && same(other))
    }

    /// Whether the node meets an epoch of an earlier start about then. The record that brings it outranks
    /// all that the present start has said, so others take the node for restarted until it has risen above.
    pub(super) fn rises(&self, node: usize, from: Time, to: Time) -> bool {
        let about = |at: Time| at + LEARNT_WITHIN > from && to + LEARNT_WITHIN > at;
        self.risen.iter().any(|(who, at)| *who == node && about(*at))
    }

    pub(super) fn connected_throughout(&self, a: usize, b: usize, from: Time, to: Time) -> bool {
        let changes = self.changes.iter().filter(|at| **at >= from && **at <= to);
        a == b || std::iter::once(&from).chain(changes).all(|at| self.connected(a, b, *at))
    }

    fn connected(&self, a: usize, b: usize, at: Time) -> bool {
        let sound = |periods: &[Period]| periods.iter().any(|period| period.covers(at, at));
        let links: Vec<(usize, usize)> =
            self.links.iter().filter(|(_, periods)| sound(periods)).map(|(ends, _)| *ends).collect();
        let mut reached = BTreeSet::from([a]);
        loop {
            let before = reached.len();
            for (x, y) in &links {
                if reached.contains(x) || reached.contains(y) {
                    reached.extend([*x, *y]);
                }
            }
            if reached.len() == before {
                return reached.contains(&b);
            }
        }
    }
}
