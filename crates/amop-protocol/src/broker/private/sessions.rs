//! Which session, here or elsewhere, holds which names; every change says whom it concerns.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Holder, Reserved, Verification, name::Meaning};
use crate::{NodeId, SessionId, Time, Topic, broker::lists::HolderChange};

/// What a change of one session's names concerns.
#[derive(Debug)]
pub(super) enum Touched {
    /// Whether it wants the topic.
    Subscriber(Topic),
    /// Whether it can verify subscribers of the topic.
    Publisher(Topic),
    /// Whose the channel is.
    Channel {
        /// The topic it is for.
        topic: Topic,
        /// Its name.
        channel: Topic,
    },
}

impl Verification {
    /// A session of this or another node has these topics now; `None`: it is gone. Another client
    /// under the same number counts as another session.
    pub fn handle_session(&mut self, now: Time, at: Holder, after: Option<Reserved>) {
        let before = self.sessions.get(&at).cloned();
        if before == after {
            return;
        }
        let replaced = before.as_ref().zip(after.as_ref()).is_some_and(|(b, a)| b.client != a.client);
        if replaced {
            self.handle_session(now, at, None);
            return self.handle_session(now, at, after);
        }
        let names = |reserved: &Option<Reserved>| -> BTreeSet<Topic> {
            reserved.as_ref().map(|reserved| reserved.topics.clone()).unwrap_or_default()
        };
        let (old, new) = (names(&before), names(&after));
        match after {
            Some(reserved) => self.sessions.insert(at, reserved),
            None => self.sessions.remove(&at),
        };
        let lost = old.difference(&new).filter_map(|name| self.lose(at, name));
        let mut touched: Vec<Touched> = lost.collect();
        touched.extend(new.difference(&old).filter_map(|name| self.gain(at, name)));
        for touched in touched {
            self.refresh(now, at, &touched);
        }
    }

    /// This node's own sessions are numbered in another epoch from now on.
    pub fn handle_own_epoch(&mut self, now: Time, epoch: u64) {
        let first = Holder { node: self.me, ..Holder::FIRST };
        let own = self.sessions.range(first..).take_while(|(at, _)| at.node == self.me);
        let own: Vec<(Holder, Reserved)> = own.map(|(at, reserved)| (*at, reserved.clone())).collect();
        self.handle_node_gone(now, self.me);
        for (at, reserved) in own {
            self.handle_session(now, Holder { epoch, ..at }, Some(reserved));
        }
    }

    /// Another node tells what one of its sessions holds now, and what it does no longer.
    pub fn handle_changes(&mut self, now: Time, at: Holder, changes: Vec<HolderChange>) {
        let mut after = self.sessions.get(&at).cloned();
        for (name, _, client) in changes {
            match client {
                None => {
                    let _ = after.as_mut().map(|reserved| reserved.topics.remove(&name));
                }
                Some(client) => {
                    let topics = BTreeSet::new();
                    let reserved = after.get_or_insert(Reserved { client: client.clone(), topics });
                    reserved.client = client;
                    reserved.topics.insert(name);
                }
            }
        }
        self.handle_session(now, at, after.filter(|reserved| !reserved.topics.is_empty()));
    }

    /// A node has started anew, or is forgotten: all of its sessions are gone. About new ones nobody is
    /// asked before it is said to be reachable again: a challenge would not find its new epoch.
    pub fn handle_node_gone(&mut self, now: Time, node: NodeId) {
        self.reachable.remove(&node);
        let first = Holder { node, ..Holder::FIRST };
        let gone: Vec<Holder> =
            self.sessions.range(first..).map(|(at, _)| *at).take_while(|at| at.node == node).collect();
        gone.into_iter().for_each(|at| self.handle_session(now, at, None));
    }

    /// These other nodes can be reached now. About sessions of others nobody is asked anew.
    pub fn handle_reachable(&mut self, now: Time, nodes: BTreeSet<NodeId>) {
        let before = std::mem::replace(&mut self.reachable, nodes);
        let new: Vec<NodeId> = self.reachable.difference(&before).copied().collect();
        for node in new {
            let first = Holder { node, ..Holder::FIRST };
            let sessions = self.sessions.range(first..).take_while(|(at, _)| at.node == node);
            let topics = |(at, reserved): (&Holder, &Reserved)| {
                let names = reserved.topics.iter().filter_map(Meaning::of);
                let topics = names.filter_map(|meaning| match meaning {
                    Meaning::Subscriber(topic) => Some(topic),
                    Meaning::Channel { .. } | Meaning::Publisher(_) => None,
                });
                topics.map(|topic| (*at, topic)).collect::<Vec<_>>()
            };
            let waiting: Vec<(Holder, Topic)> = sessions.flat_map(topics).collect();
            for (at, topic) in waiting {
                self.refresh(now, at, &Touched::Subscriber(topic));
            }
        }
    }

    /// `at` no longer has `name`.
    fn lose(&mut self, at: Holder, name: &Topic) -> Option<Touched> {
        Some(match Meaning::of(name)? {
            Meaning::Subscriber(topic) => {
                remove(&mut self.subscribers, &topic, &at);
                Touched::Subscriber(topic)
            }
            Meaning::Publisher(topic) => {
                let mut publishers = self.table.publishers(&topic);
                if at.node != self.me || !publishers.remove(&at.session) {
                    return None;
                }
                self.set_publishers(&topic, publishers);
                Touched::Publisher(topic)
            }
            Meaning::Channel { topic } => {
                if let Some(claims) = self.claims.get_mut(name) {
                    claims.retain(|claim| *claim != at);
                }
                self.settle_owners(name);
                Touched::Channel { topic, channel: name.clone() }
            }
        })
    }

    /// `at` has `name` now.
    fn gain(&mut self, at: Holder, name: &Topic) -> Option<Touched> {
        Some(match Meaning::of(name)? {
            Meaning::Subscriber(topic) => {
                self.subscribers.entry(topic.clone()).or_default().insert(at);
                Touched::Subscriber(topic)
            }
            Meaning::Publisher(topic) => {
                let mut publishers = self.table.publishers(&topic);
                if at.node != self.me || !publishers.insert(at.session) {
                    return None;
                }
                self.set_publishers(&topic, publishers);
                Touched::Publisher(topic)
            }
            Meaning::Channel { topic } => {
                self.claims.entry(name.clone()).or_default().push(at);
                self.settle_owners(name);
                Touched::Channel { topic, channel: name.clone() }
            }
        })
    }

    fn set_publishers(&mut self, topic: &Topic, publishers: BTreeSet<SessionId>) {
        self.changed = true;
        if publishers.is_empty() {
            self.table.publishers.remove(topic);
        } else {
            self.table.publishers.insert(topic.clone(), publishers);
        }
    }

    /// Works out whose `channel` is: at each node, of the session that claimed it first. Another
    /// node's claim takes nothing from anybody, because a challenge goes to the one who is asked about.
    fn settle_owners(&mut self, channel: &Topic) {
        let claims = self.claims.get(channel).map_or(&[][..], |claims| claims);
        let mut nodes = BTreeSet::new();
        let first = claims.iter().filter(|at| nodes.insert(at.node));
        let owners: Arc<[_]> =
            first.filter_map(|at| Some((*at, self.sessions.get(at)?.client.clone()))).collect();
        self.changed = true;
        if owners.is_empty() {
            self.table.channels.remove(channel);
        } else {
            self.table.channels.insert(channel.clone(), owners);
        }
        if claims.is_empty() {
            self.claims.remove(channel);
        }
    }
}

/// Removes a member of a set, and a set that has none left.
fn remove<K: Ord, V: Ord>(sets: &mut BTreeMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(set) = sets.get_mut(key) {
        set.remove(value);
        if set.is_empty() {
            sets.remove(key);
        }
    }
}
