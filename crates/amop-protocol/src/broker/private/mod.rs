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
mod pair;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use imbl::OrdMap;

pub use self::name::topic_of_channel;
pub use self::pair::Question;
use self::{
    name::Meaning,
    pair::{Pair, State},
};
use crate::{ClientIdentity, NodeId, SessionId, Time, Topic};

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

/// A subscriber that a publisher trusts with a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    subscriber: Holder,
    question: Question,
}

impl Verified {
    /// Whom messages may go to.
    pub fn subscriber(&self) -> Holder {
        self.subscriber
    }
}

/// Who may receive what: part of the routing snapshot. Clones share all; a change costs what changed.
#[derive(Clone, Debug, Default)]
pub struct PrivateTable {
    verified: OrdMap<Key, Verified>,
    channels: OrdMap<Topic, Arc<[Holder]>>,
    publishers: OrdMap<Topic, BTreeSet<SessionId>>,
}

impl PrivateTable {
    /// The subscribers that `publisher`, a session of this node, has verified for `topic`, in order.
    pub fn verified(&self, publisher: SessionId, topic: &Topic) -> impl Iterator<Item = &Verified> {
        let first = Key { publisher, topic: topic.clone(), subscriber: Holder::FIRST };
        let topic = topic.clone();
        let from = self.verified.range(first..);
        from.take_while(move |(key, _)| key.publisher == publisher && key.topic == topic).map(|(_, it)| it)
    }

    /// Where a challenge over `channel` goes, if `publisher` may send one.
    pub fn challenged(&self, publisher: SessionId, channel: &Topic) -> &[Holder] {
        let may = topic_of_channel(channel)
            .and_then(|topic| self.publishers.get(&topic))
            .is_some_and(|publishers| publishers.contains(&publisher));
        if may { self.channels.get(channel).map_or(&[], |owners| owners) } else { &[] }
    }

    fn publishers(&self, topic: &Topic) -> BTreeSet<SessionId> {
        self.publishers.get(topic).cloned().unwrap_or_default()
    }
}

/// What the publisher's session is to be asked (frame 0x37).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The publisher.
    pub publisher: SessionId,
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
    /// Subscribers of a publisher beyond the bound, not asked about.
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
    /// How many pairs each publisher has for a topic.
    pairs_of: BTreeMap<(SessionId, Topic), usize>,
    asked: BTreeMap<Question, Key>,
    timers: BTreeSet<(Time, Key)>,
    table: PrivateTable,
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
            table: PrivateTable::default(),
            actions: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Who may receive what, as it is now.
    pub fn table(&self) -> PrivateTable {
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
        let key =
            self.asked.get(&question).filter(|key| key.publisher == from && key.topic == *topic).cloned();
        let Some((key, pair)) = key.and_then(|key| Some((key.clone(), self.pairs.get_mut(&key)?))) else {
            self.counters.stray += 1;
            return;
        };
        match (pair.state().clone(), trusted) {
            (State::Asked { .. }, true) => {
                self.forget_timer(&key);
                let verified = Verified { subscriber: key.subscriber, question };
                self.pairs.entry(key.clone()).or_default().verified(question);
                self.table.verified.insert(key, verified);
                self.counters.verified += 1;
            }
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
        if publishers.is_empty() {
            self.table.publishers.remove(topic);
        } else {
            self.table.publishers.insert(topic.clone(), publishers);
        }
    }

    /// Works out whose `channel` is: of whoever claimed it first, and of that client's sessions at
    /// other nodes.
    fn settle_owners(&mut self, channel: &Topic) {
        let claims = self.claims.get(channel).map_or(&[][..], |claims| claims);
        let client = |at: &Holder| self.sessions.get(at).map(|reserved| reserved.client.fingerprint);
        let first = claims.first().and_then(client);
        let mut nodes = BTreeSet::new();
        let owners: Arc<[Holder]> =
            claims.iter().filter(|at| client(at) == first && nodes.insert(at.node)).copied().collect();
        if owners.is_empty() {
            self.claims.remove(channel);
            self.table.channels.remove(channel);
        } else {
            self.table.channels.insert(channel.clone(), owners);
        }
    }

    /// Brings the pairs that a change at `at` concerns in line with it.
    fn refresh(&mut self, now: Time, at: Holder, touched: &Touched) {
        match touched {
            Touched::Subscriber(topic) => {
                for publisher in self.table.publishers(topic) {
                    self.refresh_pair(now, Key { publisher, topic: topic.clone(), subscriber: at });
                }
            }
            Touched::Publisher(topic) => {
                let publisher = at.session;
                for subscriber in self.subscribers.get(topic).cloned().unwrap_or_default() {
                    self.refresh_pair(now, Key { publisher, topic: topic.clone(), subscriber });
                }
            }
            Touched::Channel { topic, channel } => {
                let mut concerned: BTreeSet<Holder> = self.owners(channel).iter().copied().collect();
                concerned.insert(at);
                for subscriber in concerned {
                    self.refresh(now, subscriber, &Touched::Subscriber(topic.clone()));
                }
            }
        }
    }

    fn refresh_pair(&mut self, now: Time, key: Key) {
        let publishes = self.table.publishers(&key.topic).contains(&key.publisher);
        let subscribes = self.subscribers.get(&key.topic).is_some_and(|of| of.contains(&key.subscriber));
        // A publisher's own session receives what it publishes only if nobody else does.
        let same = key.subscriber.node == self.me && key.subscriber.session == key.publisher;
        if !publishes || !subscribes || same {
            return self.forget(&key);
        }
        if !self.pairs.contains_key(&key) {
            let count = self.pairs_of.entry((key.publisher, key.topic.clone())).or_default();
            if *count >= MAX_SUBSCRIBERS {
                self.counters.over_capacity += 1;
                return;
            }
            *count += 1;
            self.pairs.insert(key.clone(), Pair::default());
        }
        self.proceed(now, &key);
    }

    fn forget(&mut self, key: &Key) {
        let Some(pair) = self.pairs.remove(key) else { return };
        self.table.verified.remove(key);
        if let Some(count) = self.pairs_of.get_mut(&(key.publisher, key.topic.clone())) {
            *count -= 1;
            if *count == 0 {
                self.pairs_of.remove(&(key.publisher, key.topic.clone()));
            }
        }
        if let Some(question) = pair.question() {
            self.asked.remove(&question);
        }
        if let Some(due) = pair.due() {
            self.timers.remove(&(due, key.clone()));
        }
    }

    /// The publisher does not trust the subscriber, or no longer: `channels` are used up.
    fn fail(&mut self, now: Time, key: &Key, question: Question, channels: &[Topic]) {
        self.forget_timer(key);
        self.asked.remove(&question);
        self.table.verified.remove(key);
        if let Some(pair) = self.pairs.get_mut(key) {
            pair.failed(now, channels);
        }
        self.proceed(now, key);
    }

    fn forget_timer(&mut self, key: &Key) {
        if let Some(due) = self.pairs.get(key).and_then(Pair::due) {
            self.timers.remove(&(due, key.clone()));
        }
    }

    /// Asks about a pair if it is time and there is a channel.
    fn proceed(&mut self, now: Time, key: &Key) {
        self.forget_timer(key);
        let channels = self.channels(key);
        let Some(pair) = self.pairs.get_mut(key) else { return };
        let void = pair.question();
        if let Some(channel) = pair.next(now, &channels) {
            if let Some(void) = void {
                self.asked.remove(&void);
            }
            self.questions += 1;
            let question = Question::new(&self.secret, self.questions);
            pair.asked(now, question, channel.clone());
            self.asked.insert(question, key.clone());
            self.counters.asked += 1;
            if let Some(reserved) = self.sessions.get(&key.subscriber) {
                self.actions.push_back(Ask {
                    publisher: key.publisher,
                    question,
                    topic: key.topic.clone(),
                    channel,
                    subscriber: key.subscriber,
                    client: reserved.client.clone(),
                });
            }
        }
        if let Some(due) = self.pairs.get(key).and_then(Pair::due) {
            self.timers.insert((due, key.clone()));
        }
    }

    /// The channels of a pair's subscriber, as far as they are its own, in order.
    fn channels(&self, key: &Key) -> Vec<Topic> {
        let Some(reserved) = self.sessions.get(&key.subscriber) else { return Vec::new() };
        let is_channel = |name: &&Topic| {
            matches!(Meaning::of(name), Some(Meaning::Channel { topic }) if topic == key.topic)
                && self.owners(name).contains(&key.subscriber)
        };
        reserved.topics.iter().filter(is_channel).cloned().collect()
    }

    fn owners(&self, channel: &Topic) -> &[Holder] {
        self.table.channels.get(channel).map_or(&[], |owners| owners)
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
