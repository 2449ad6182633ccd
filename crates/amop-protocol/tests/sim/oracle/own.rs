//! Whoever publishes is no subscriber: neither the session, nor others of the same application.

use amop_protocol::broker::event::Mode;

use super::{Oracle, Publication, SessionLife};

impl Oracle {
    /// Whether a session is the one that sent this, or another of the same application.
    pub(super) fn is_own(&self, publication: &Publication, session: usize, life: &SessionLife) -> bool {
        session == publication.session || self.is_of_the_application(publication, life)
    }

    /// Whether an application with several sessions sent this, and the session is one of them.
    fn is_of_the_application(&self, publication: &Publication, life: &SessionLife) -> bool {
        life.instance.is_some() && life.instance == self.sessions[&publication.session].instance
    }

    /// No application is handed its own multicast, wherever it has sessions. A request of its own
    /// comes to the session that sent it, and only if nobody else could be asked.
    pub(super) fn judge_own(&self, faults: &mut Vec<String>) {
        for ((message, session), times) in &self.handed {
            let life = &self.sessions[session];
            let copies = self.by_message.get(message).into_iter().flatten().map(|n| &self.publications[*n]);
            let (own, others): (Vec<_>, Vec<_>) = copies.partition(|sent| self.is_own(sent, *session, life));
            let Some(first) = own.first() else { continue };
            let told = |wrong| format!("session {session} was handed its own message {message}: {wrong}");
            let sent = own.iter().find(|sent| sent.session == *session && sent.at <= times[0]);
            match (first.mode, sent) {
                (Mode::Multicast, _) if self.is_of_the_application(first, life) => {
                    faults.push(told("a multicast of its application".into()));
                }
                (Mode::Unicast, None) => faults.push(told("a request of another session".into())),
                // Of a copy through a session that is a stranger to this one it is a subscriber.
                (Mode::Unicast, Some(sent)) if others.is_empty() && !self.forgets() => {
                    let other = self.standing(sent, times[0]).next();
                    faults.extend(other.map(|(other, _)| told(format!("session {other} was there"))));
                }
                _ => {}
            }
        }
    }

    /// Whether a request may first go where only its publisher is, which other requests may overtake.
    pub(super) fn may_go_past_its_own(&self, publication: &Publication, topic: u32) -> bool {
        publication.mode == Mode::Unicast
            && self.sessions.iter().any(|(session, life)| {
                *session != publication.session
                    && self.is_of_the_application(publication, life)
                    && life.topics.contains_key(&topic)
            })
    }

    /// How many sends were of applications with several sessions.
    pub(super) fn of_applications(&self) -> u64 {
        let publishers = self.publications.iter().map(|sent| &self.sessions[&sent.session]);
        publishers.filter(|life| life.instance.is_some()).count() as u64
    }
}
