//! Whom to ask about whom: the pairs of publishers and subscribers, and their questions.
//!
//! Over one channel a publisher is asked about one session at a time, and its challenge goes there:
//! whoever else claims the channel, at another node, proves nothing by what its owner signs.

use super::{
    Ask, Holder, Key, MAX_PAIRS, MAX_SUBSCRIBERS, MAX_SUBSCRIBERS_OF_NODE, Verification,
    name::Meaning,
    pair::{Pair, Question},
    sessions::Touched,
};
use crate::{Time, Topic};

impl Verification {
    /// Brings the pairs that a change at `at` concerns in line with it.
    pub(super) fn refresh(&mut self, now: Time, at: Holder, touched: &Touched) {
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
                let owners = self.table.owners(channel).iter().map(|(owner, _)| *owner);
                let mut concerned: Vec<Holder> = owners.collect();
                if !concerned.contains(&at) {
                    concerned.push(at);
                }
                for subscriber in concerned {
                    self.refresh(now, subscriber, &Touched::Subscriber(topic.clone()));
                }
            }
        }
    }

    fn refresh_pair(&mut self, now: Time, key: Key) {
        let publishes = self.table.is_publisher(key.publisher, &key.topic);
        let subscribes = self.subscribers.get(&key.topic).is_some_and(|of| of.contains(&key.subscriber));
        // A publisher's own session does not receive what it publishes.
        let same = key.subscriber.node == self.me && key.subscriber.session == key.publisher;
        if !publishes || !subscribes || same {
            return self.forget(now, &key);
        }
        if !self.pairs.contains_key(&key) {
            if !self.has_room(&key) {
                self.counters.over_capacity += 1;
                return;
            }
            for count in counts(&key) {
                *self.pairs_of.entry(count).or_default() += 1;
            }
            self.pairs.insert(key.clone(), Pair::default());
        }
        self.proceed(now, &key);
    }

    fn has_room(&self, key: &Key) -> bool {
        let count = |of| self.pairs_of.get(&of).copied().unwrap_or(0);
        let [all, of_node] = counts(key).map(count);
        all < MAX_SUBSCRIBERS && of_node < MAX_SUBSCRIBERS_OF_NODE && self.pairs.len() < MAX_PAIRS
    }

    fn forget(&mut self, now: Time, key: &Key) {
        self.forget_timer(key);
        let Some(pair) = self.pairs.remove(key) else { return };
        self.changed |= self.table.verified.remove(key).is_some();
        for count in counts(key) {
            if let Some(left) = self.pairs_of.get_mut(&count) {
                *left -= 1;
                if *left == 0 {
                    self.pairs_of.remove(&count);
                }
            }
        }
        if let Some(question) = pair.question() {
            self.asked.remove(&question);
        }
        self.free(now, key, pair.channel());
    }

    /// The question that a pair was last asked is void.
    pub(super) fn withdraw(&mut self, now: Time, key: &Key) {
        self.forget_timer(key);
        let Some(pair) = self.pairs.get_mut(key) else { return };
        let (question, channel) = (pair.question(), pair.channel().cloned());
        pair.withdrawn();
        if let Some(question) = question {
            self.asked.remove(&question);
        }
        self.free(now, key, channel.as_ref());
    }

    /// The channel of a pair is not needed any longer: others of its owners may be asked about.
    pub(super) fn free(&mut self, now: Time, key: &Key, channel: Option<&Topic>) {
        let Some(channel) = channel else { return };
        let of = (key.publisher, channel.clone());
        if self.table.asked.get(&of) != Some(&key.subscriber) {
            return;
        }
        self.table.asked.remove(&of);
        self.changed = true;
        let owners: Vec<Holder> = self.table.owners(channel).iter().map(|(owner, _)| *owner).collect();
        let after = owners.iter().position(|owner| *owner == key.subscriber).map_or(0, |at| at + 1);
        let (before, after) = owners.split_at(after.min(owners.len()));
        for subscriber in after.iter().chain(before).filter(|owner| **owner != key.subscriber) {
            self.proceed(now, &Key { subscriber: *subscriber, ..key.clone() });
            if self.table.asked.contains_key(&of) {
                return;
            }
        }
    }

    pub(super) fn forget_timer(&mut self, key: &Key) {
        if let Some(due) = self.pairs.get(key).and_then(Pair::due) {
            self.timers.remove(&(due, key.clone()));
        }
    }

    /// Asks about a pair if it is time and there is a channel.
    pub(super) fn proceed(&mut self, now: Time, key: &Key) {
        let channels = self.channels(key);
        let lapsed = self.pairs.get(key).is_some_and(|pair| pair.has_lapsed(now, &channels));
        if lapsed {
            self.withdraw(now, key);
        }
        // Another may have taken what became free.
        let channels: Vec<Topic> =
            channels.into_iter().filter(|channel| self.is_free(key, channel)).collect();
        self.forget_timer(key);
        let Some(pair) = self.pairs.get_mut(key) else { return };
        if let Some(channel) = pair.next(now, &channels) {
            self.ask(now, key, channel);
        }
        if let Some(due) = self.pairs.get(key).and_then(Pair::due) {
            self.timers.insert((due, key.clone()));
        }
    }

    fn ask(&mut self, now: Time, key: &Key, channel: Topic) {
        let (Some(pair), Some(reserved)) = (self.pairs.get_mut(key), self.sessions.get(&key.subscriber))
        else {
            return;
        };
        self.questions += 1;
        let question = Question::new(&self.secret, self.questions);
        pair.asked(now, question, channel.clone());
        self.asked.insert(question, key.clone());
        self.table.asked.insert((key.publisher, channel.clone()), key.subscriber);
        self.changed = true;
        self.counters.asked += 1;
        self.actions.push_back(Ask {
            publisher: key.publisher,
            number: self.questions,
            question,
            topic: key.topic.clone(),
            channel,
            subscriber: key.subscriber,
            client: reserved.client.clone(),
        });
    }

    /// The channels of a pair's subscriber, as far as they are its own and it can be reached, in order.
    pub(super) fn channels(&self, key: &Key) -> Vec<Topic> {
        let node = key.subscriber.node;
        let reached = node == self.me || self.reachable.contains(&node);
        let Some(reserved) = self.sessions.get(&key.subscriber).filter(|_| reached) else {
            return Vec::new();
        };
        let is_channel = |name: &&Topic| {
            matches!(Meaning::of(name), Some(Meaning::Channel { topic }) if topic == key.topic)
                && self.table.owns(name, key.subscriber)
        };
        reserved.topics.iter().filter(is_channel).cloned().collect()
    }

    fn is_free(&self, key: &Key, channel: &Topic) -> bool {
        let asked = self.table.asked.get(&(key.publisher, channel.clone()));
        asked.is_none_or(|asked| *asked == key.subscriber)
    }
}

/// What a pair counts for: its publisher's subscribers of the topic, and those of one node among them.
fn counts(key: &Key) -> [super::Count; 2] {
    let Key { publisher, topic, subscriber } = key;
    [None, Some(subscriber.node)].map(|node| (*publisher, topic.clone(), node))
}
