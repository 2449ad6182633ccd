//! What other nodes are told of this node's sessions and the reserved names they hold.
//!
//! Subscribers of private topics are announced session by session; a channel only for the session
//! that reported it first, whose it is; which session is a publisher is this node's own affair.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::name::Meaning;
use crate::{ClientIdentity, SessionId, Topic, broker::lists::HolderChange};

/// This node's sessions with reserved names.
#[derive(Debug, Default)]
pub(in crate::broker) struct OwnHolders {
    clients: BTreeMap<SessionId, Arc<ClientIdentity>>,
    /// Who holds a name, in the order they reported it.
    names: BTreeMap<Topic, Vec<SessionId>>,
    of_session: BTreeMap<SessionId, BTreeSet<Topic>>,
    announced: BTreeMap<Topic, BTreeSet<SessionId>>,
    changed: BTreeSet<Topic>,
}

impl OwnHolders {
    /// A session's whole set of topics; true if others should know of a change.
    pub(in crate::broker) fn report(
        &mut self,
        session: SessionId,
        client: Option<&Arc<ClientIdentity>>,
        topics: &[Topic],
    ) -> bool {
        let after: BTreeSet<Topic> = topics.iter().filter(|topic| is_told(topic)).cloned().collect();
        let before = self.of_session.remove(&session).unwrap_or_default();
        for name in before.difference(&after) {
            if let Some(holders) = self.names.get_mut(name) {
                holders.retain(|holder| *holder != session);
                if holders.is_empty() {
                    self.names.remove(name);
                }
            }
        }
        for name in after.difference(&before) {
            self.names.entry(name.clone()).or_default().push(session);
        }
        let changed = before != after;
        self.changed.extend(before.symmetric_difference(&after).cloned());
        match client.filter(|_| !after.is_empty()) {
            None => drop(self.clients.remove(&session)),
            Some(client) => {
                self.clients.insert(session, client.clone());
                self.of_session.insert(session, after);
            }
        }
        changed
    }

    /// What has changed since this was asked last.
    pub(in crate::broker) fn take_changes(&mut self) -> Vec<HolderChange> {
        let mut changes = Vec::new();
        for name in std::mem::take(&mut self.changed) {
            let after = self.told_of(&name);
            let before = self.announced.remove(&name).unwrap_or_default();
            changes.extend(before.difference(&after).map(|session| (name.clone(), *session, None)));
            let new = after.difference(&before).filter_map(|session| self.held(&name, *session));
            changes.extend(new);
            if !after.is_empty() {
                self.announced.insert(name, after);
            }
        }
        changes
    }

    /// Everything, as if nothing had been announced before.
    pub(in crate::broker) fn take_all(&mut self) -> Vec<HolderChange> {
        self.announced.clear();
        self.changed = self.names.keys().cloned().collect();
        self.take_changes()
    }

    fn told_of(&self, name: &Topic) -> BTreeSet<SessionId> {
        let holders = self.names.get(name).map_or(&[][..], |holders| holders);
        let first = match Meaning::of(name) {
            Some(Meaning::Channel { .. }) => 1,
            _ => usize::MAX,
        };
        holders.iter().take(first).copied().collect()
    }

    fn held(&self, name: &Topic, session: SessionId) -> Option<HolderChange> {
        let client = self.clients.get(&session)?;
        Some((name.clone(), session, Some(client.clone())))
    }
}

fn is_told(name: &Topic) -> bool {
    name.is_reserved() && matches!(Meaning::of(name), Some(Meaning::Subscriber(_) | Meaning::Channel { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fingerprint;

    const TOPIC: &str = "#!$TopicNeedVerify_a";
    const CHANNEL: &str = "#!$VerifyChannel_#!$TopicNeedVerify_a_01";
    const PUSH: &str = "#!$PushChannel_#!$TopicNeedVerify_a";

    fn report(holders: &mut OwnHolders, session: u64, names: &[&str]) -> bool {
        let client = ClientIdentity { fingerprint: Fingerprint::new([session as u8; 32]), name: "c".into() };
        let topics: Vec<Topic> = names.iter().map(|name| Topic::parse(name).unwrap()).collect();
        holders.report(SessionId(session), Some(&Arc::new(client)), &topics)
    }

    fn told(holders: &mut OwnHolders) -> Vec<(String, u64, bool)> {
        let changes = holders.take_changes().into_iter();
        changes.map(|(name, session, client)| (name.to_string(), session.0, client.is_some())).collect()
    }

    #[test]
    fn subscribers_are_told_of_each_and_publishers_never() {
        let mut holders = OwnHolders::default();
        assert!(!report(&mut holders, 1, &[PUSH, "ordinary", "#!$VerifyChannel_x"]));
        assert!(report(&mut holders, 2, &[TOPIC]) && report(&mut holders, 3, &[TOPIC]));
        let both = [(TOPIC.to_owned(), 2, true), (TOPIC.to_owned(), 3, true)];
        assert_eq!(told(&mut holders), both);
        assert!(!report(&mut holders, 3, &[TOPIC]));
        assert_eq!(told(&mut holders), []);
        report(&mut holders, 2, &[]);
        assert_eq!(told(&mut holders), [(TOPIC.to_owned(), 2, false)]);
        assert_eq!(holders.take_all().len(), 1);
    }

    #[test]
    fn a_channel_is_that_of_the_session_that_reported_it_first() {
        let mut holders = OwnHolders::default();
        report(&mut holders, 7, &[CHANNEL]);
        report(&mut holders, 2, &[CHANNEL]);
        assert_eq!(told(&mut holders), [(CHANNEL.to_owned(), 7, true)]);
        report(&mut holders, 7, &[]);
        assert_eq!(told(&mut holders), [(CHANNEL.to_owned(), 7, false), (CHANNEL.to_owned(), 2, true)]);
        report(&mut holders, 2, &[]);
        assert_eq!(told(&mut holders), [(CHANNEL.to_owned(), 2, false)]);
        assert!(holders.names.is_empty() && holders.clients.is_empty() && holders.announced.is_empty());
    }
}
