//! Private topics at the publisher's node: who is asked, and who has been verified.
//!
//! For each own session that can verify subscribers of a topic (a *publisher*) and each session
//! anywhere that has the topic (a *subscriber*), the publisher is asked whether it trusts that
//! subscriber, as soon as both are known. It challenges the subscriber over a channel that the
//! subscriber's session reported, and says how it went. Channel spec, section 6, with the corrections
//! of the product description: verification is per publisher session, subscriber session and topic.
//!
//! **Invariant**: a [`Verified`] is made only from the verdict of the publisher that was asked, on the
//! question it was asked, while both sessions are as they were.
//! **Invariant**: it ends with either session, or when either gives up the topic.

mod name;
mod own;
mod pair;
mod pairs;
mod table;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

pub(super) use self::own::OwnHolders;
use self::{
    name::Meaning,
    pair::{Pair, State},
};
pub use self::{
    name::topic_of_channel,
    pair::Question,
    table::{PrivateTable, Recipient, Verified},
};
use super::lists::HolderChange;
use crate::{
    ClientIdentity, NodeId, Seq, SessionId, Time, Topic,
    mutations::{self, Mutation},
};

/// A session anywhere in the overlay. A node that restarts numbers its sessions in a new epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder {
    /// Its node.
    pub node: NodeId,
    /// The epoch of its node.
    pub epoch: u64,
    /// Its number there.
    pub session: SessionId,
}

impl Holder {
    const FIRST: Self = Self { node: NodeId::new([0; 32]), epoch: 0, session: SessionId(0) };
}

/// What a session has to do with private topics, as its node tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// Whose session it is.
    pub client: Arc<ClientIdentity>,
    /// Its topics; those that are not reserved may be among them and mean nothing here.
    pub topics: BTreeSet<Topic>,
}

/// What the publisher's session is to be asked (frame 0x37).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The publisher.
    pub publisher: SessionId,
    /// Numbers the questions of this node.
    pub number: u64,
    /// Names the question; the verdict repeats it.
    pub question: Question,
    /// The private topic.
    pub topic: Topic,
    /// The channel to challenge the subscriber over.
    pub channel: Topic,
    /// Which session would be verified.
    pub subscriber: Holder,
    /// Whose session that is, as its node tells.
    pub client: Arc<ClientIdentity>,
}

/// The upper half of every question's seq, so that none is ever taken for a push's.
const ASKED: u64 = u64::MAX;

impl Ask {
    /// The seq of the frame that carries it.
    pub fn to_seq(&self) -> Seq {
        Seq::from_u128(u128::from(ASKED) << 64 | u128::from(self.number))
    }

    /// Whether a frame with this seq can be the acknowledgement of a question.
    pub fn is_seq(seq: Seq) -> bool {
        seq.to_u128().is_some_and(|value| value >> 64 == u128::from(ASKED))
    }
}

/// What has been counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Questions put to publishers.
    pub asked: u64,
    /// Subscribers that were verified.
    pub verified: u64,
    /// Subscribers that failed.
    pub failed: u64,
    /// Verifications their publisher took back.
    pub revoked: u64,
    /// Verdicts on no question that was asked of that session.
    pub stray: u64,
    /// Subscribers of a publisher beyond a bound, not asked about until they report again.
    pub over_capacity: u64,
}

/// One publisher, one topic, one subscriber.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    publisher: SessionId,
    topic: Topic,
    subscriber: Holder,
}

/// What a change of one session's names concerns.
#[derive(Debug)]
enum Touched {
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

/// Subscribers that one publisher session is asked about for one topic, at most.
pub const MAX_SUBSCRIBERS: usize = 10_000;
/// Those of one node among them.
pub const MAX_SUBSCRIBERS_OF_NODE: usize = 1_000;
/// Publishers and their subscribers, of all topics together.
pub const MAX_PAIRS: usize = 100_000;

/// A publisher's subscribers of a topic; with a node, only those there.
type Count = (SessionId, Topic, Option<NodeId>);

/// The machine.
#[derive(Debug)]
pub struct Verification {
    me: NodeId,
    secret: [u8; 32],
    questions: u64,
    sessions: BTreeMap<Holder, Reserved>,
    subscribers: BTreeMap<Topic, BTreeSet<Holder>>,
    /// Who says that a channel is theirs, in the order they were heard.
    claims: BTreeMap<Topic, Vec<Holder>>,
    pairs: BTreeMap<Key, Pair>,
    /// How many pairs there are of each kind that is bounded.
    pairs_of: BTreeMap<Count, usize>,
    asked: BTreeMap<Question, Key>,
    timers: BTreeSet<(Time, Key)>,
    /// Other nodes that can be reached.
    reachable: BTreeSet<NodeId>,
    table: PrivateTable,
    /// Whether the table has changed since it was taken.
    changed: bool,
    actions: VecDeque<Ask>,
    counters: Counters,
}

impl Verification {
    /// For the sessions of the node `me`. From `secret`, new at every start, come the questions.
    pub fn new(me: NodeId, secret: [u8; 32]) -> Self {
        Self {
            me,
            secret,
            questions: 0,
            sessions: BTreeMap::new(),
            subscribers: BTreeMap::new(),
            claims: BTreeMap::new(),
            pairs: BTreeMap::new(),
            pairs_of: BTreeMap::new(),
            asked: BTreeMap::new(),
            timers: BTreeSet::new(),
            reachable: BTreeSet::new(),
            table: PrivateTable::default(),
            changed: false,
            actions: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Who may receive what, as it is now.
    pub fn table(&self) -> PrivateTable {
        self.table.clone()
    }

    /// Whether the table has changed since it was taken last.
    pub fn has_changed(&self) -> bool {
        self.changed
    }

    /// The table, to be put in force.
    pub fn take_table(&mut self) -> PrivateTable {
        self.changed = false;
        self.table.clone()
    }

    /// What has been counted.
    pub fn counters(&self) -> Counters {
        self.counters
    }

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

    /// A verdict that names no question.
    pub fn stray(&mut self) {
        self.counters.stray += 1;
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

    /// A node has started anew, or is forgotten: all of its sessions are gone.
    pub fn handle_node_gone(&mut self, now: Time, node: NodeId) {
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

    /// The verdict of an own session on a question it was asked. After a first `true`, `false` takes
    /// it back; anything else that does not fit what was asked changes nothing.
    pub fn handle_verdict(
        &mut self,
        now: Time,
        from: SessionId,
        question: Question,
        topic: &Topic,
        trusted: bool,
    ) {
        let entitled = |key: &&Key| {
            let asked = key.publisher == from || mutations::on(Mutation::VerdictFromAnybody);
            asked && key.topic == *topic
        };
        let key = self.asked.get(&question).filter(entitled).cloned();
        let Some((key, pair)) = key.and_then(|key| Some((key.clone(), self.pairs.get_mut(&key)?))) else {
            self.counters.stray += 1;
            return;
        };
        match (pair.state().clone(), trusted) {
            (State::Asked { channel, .. }, true) => self.trust(now, &key, question, &channel),
            (State::Asked { channel, .. }, false) => {
                self.fail(now, &key, question, &[channel]);
                self.counters.failed += 1;
            }
            (State::Verified { .. }, false) => {
                let all = self.channels(&key);
                self.fail(now, &key, question, &all);
                self.counters.revoked += 1;
            }
            _ => self.counters.stray += 1,
        }
    }

    fn trust(&mut self, now: Time, key: &Key, question: Question, channel: &Topic) {
        self.forget_timer(key);
        let Some(client) = self.sessions.get(&key.subscriber).map(|reserved| reserved.client.clone()) else {
            return;
        };
        if let Some(pair) = self.pairs.get_mut(key) {
            pair.verified(question);
        }
        self.table.verified.insert(key.clone(), Verified::new(key.subscriber, client, question));
        self.changed = true;
        self.counters.verified += 1;
        self.free(now, key, Some(channel));
    }

    /// The publisher does not trust the subscriber, or no longer: `channels` are used up.
    fn fail(&mut self, now: Time, key: &Key, question: Question, channels: &[Topic]) {
        self.forget_timer(key);
        self.asked.remove(&question);
        self.changed |= self.table.verified.remove(key).is_some();
        let Some(pair) = self.pairs.get_mut(key) else { return };
        let channel = pair.channel().cloned();
        pair.failed(now, channels);
        if let Some(due) = pair.due() {
            self.timers.insert((due, key.clone()));
        }
        self.free(now, key, channel.as_ref());
    }

    /// Time passed: questions nobody answered are put again.
    pub fn handle_timeout(&mut self, now: Time) {
        while self.timers.first().is_some_and(|(due, _)| *due <= now)
            && let Some((_, key)) = self.timers.pop_first()
        {
            self.proceed(now, &key);
        }
    }

    /// When [`Verification::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// What to ask next.
    pub fn poll_action(&mut self) -> Option<Ask> {
        self.actions.pop_front()
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
