//! Messages of one session to one other on one topic come in the order sent, while the path stands.

use std::{collections::BTreeMap, time::Duration};

use amop_protocol::{Time, broker::event::Mode};

use super::{Oracle, Publication};

/// How long after a disturbance routes may still change: silence is noticed, then gossip repairs.
const ROUTES_SETTLE: Duration = Duration::from_secs(21);

impl Oracle {
    pub(super) fn judge_order(&mut self, faults: &mut Vec<String>) {
        let mut last: BTreeMap<(usize, usize, u32), (Time, u64)> = BTreeMap::new();
        let mut judged = 0;
        for publication in &self.publications {
            let Some(topic) = publication.topic.filter(|topic| self.is_orderly(publication, *topic)) else {
                continue;
            };
            let message = publication.message;
            for ((_, session), times) in self.handed.range((message, 0)..=(message, usize::MAX)) {
                if !self.path_stands(publication.at, times[0])
                    || self.may_be_turned_away(publication, times[0])
                {
                    continue;
                }
                judged += 1;
                let way = (publication.session, *session, topic);
                let (before, other) = last.insert(way, (times[0], message)).unwrap_or_default();
                if times[0] < before {
                    faults.push(format!("message {message} overtook {other} on the way {way:?}"));
                }
            }
        }
        self.ordered = judged;
    }

    /// Sent once, and nobody who has the topic makes a send go on to another candidate.
    fn is_orderly(&self, publication: &Publication, topic: u32) -> bool {
        let from = Time::ZERO + publication.at.since(Time::ZERO + Duration::from_secs(10));
        let to = publication.at + publication.deadline;
        let mut wanting = self.sessions.values().filter(|life| life.wanted(topic, from, to));
        self.is_alone(publication)
            && publication.wants.certificate.is_none()
            && !self.may_go_past_its_own(publication, topic)
            && !self.refused_on_the_way.contains_key(&publication.message)
            && wanting.all(|life| {
                let periods = &life.topics[&topic];
                life.is_prompt() && periods.iter().all(|period| period.until.is_none_or(|end| end > to))
            })
    }

    /// Whether a request may first go where there is no room for it: then it goes on to another candidate.
    fn may_be_turned_away(&self, publication: &Publication, by: Time) -> bool {
        publication.mode == Mode::Unicast && self.room_may_be_used_up(publication.at, by)
    }

    fn path_stands(&self, from: Time, to: Time) -> bool {
        self.disturbances.iter().all(|at| *at > to || *at + ROUTES_SETTLE < from)
    }
}
