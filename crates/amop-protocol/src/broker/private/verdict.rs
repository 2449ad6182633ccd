//! Verdicts: what publishers say of the subscribers they were asked about.

use super::{Key, Question, Verification, Verified, pair::State};
use crate::{
    SessionId, Time, Topic,
    mutations::{self, Mutation},
};

impl Verification {
    /// A verdict that names no question.
    pub fn stray(&mut self) {
        self.counters.stray += 1;
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
}
