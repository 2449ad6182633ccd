//! The channels over which publishers ask one session for proofs.
//!
//! A publisher that does not trust a subscriber is not asked about it again over the same channel. It
//! may change its mind, or the exchange may have been cut short; so as long as somebody who asked has
//! given nothing, new channels are made, ever more rarely. Those over which keys came stay: the next
//! keys come over them too.

use std::{collections::VecDeque, time::Duration};

use amop_protocol::Topic;
use rand::RngExt;
use tokio::time::Instant;

use super::verify_channel;

/// How long a proof may go without a key before another channel is made: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const MOST_PAUSE: Duration = Duration::from_secs(60);
/// Channels that are kept because keys came over them.
const MAX_KEPT: usize = 4;

/// The channels of one session for one topic.
pub(crate) struct Channels {
    /// Over which it can be asked now.
    current: Option<Topic>,
    /// Whether a key has come over it.
    granted: bool,
    /// Proofs that were given over it, less keys that came.
    unanswered: u32,
    kept: VecDeque<Topic>,
    renew_at: Option<Instant>,
    pause: Duration,
}

impl Channels {
    pub(crate) fn new(topic: &Topic) -> Self {
        Self {
            current: random(topic),
            granted: false,
            unanswered: 0,
            kept: VecDeque::new(),
            renew_at: None,
            pause: FIRST_PAUSE,
        }
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &Topic> {
        self.kept.iter().chain(&self.current)
    }

    pub(crate) fn due(&self) -> Option<Instant> {
        self.renew_at
    }

    /// A step over a channel was answered: a proof was given, or a key taken.
    pub(crate) fn stepped(&mut self, channel: &Topic, granted: bool, now: Instant) {
        if self.current.as_ref() != Some(channel) {
            return;
        }
        if granted {
            self.granted = true;
            self.unanswered = self.unanswered.saturating_sub(1);
        } else {
            self.unanswered += 1;
            self.renew_at.get_or_insert(now + self.pause);
        }
        if self.unanswered == 0 {
            (self.renew_at, self.pause) = (None, FIRST_PAUSE);
        }
    }

    /// A message came under a key that was not given.
    pub(crate) fn missed(&mut self, now: Instant) {
        self.unanswered = self.unanswered.max(1);
        self.renew_at.get_or_insert(now + self.pause);
    }

    /// Makes another channel if it is time; whether it is.
    pub(crate) fn renew(&mut self, now: Instant, topic: &Topic) -> bool {
        if self.renew_at.is_none_or(|at| now < at) {
            return false;
        }
        let former = std::mem::replace(&mut self.current, random(topic));
        self.kept.extend(former.filter(|_| self.granted));
        if self.kept.len() > MAX_KEPT {
            self.kept.pop_front();
        }
        (self.granted, self.unanswered, self.renew_at) = (false, 0, None);
        self.pause = (self.pause * 2).min(MOST_PAUSE);
        true
    }
}

/// A name nobody can guess. The length was looked at when the topic was taken.
fn random(topic: &Topic) -> Option<Topic> {
    verify_channel(topic, rand::rng().random()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::private::private;

    fn names(channels: &Channels) -> Vec<Topic> {
        channels.names().cloned().collect()
    }

    #[test]
    fn who_is_given_a_key_keeps_its_channel() {
        let (topic, now) = (private("t").unwrap(), Instant::now());
        let mut channels = Channels::new(&topic);
        let first = names(&channels)[0].clone();
        channels.stepped(&first, false, now);
        channels.stepped(&first, true, now);
        assert_eq!((channels.due(), channels.renew(now + MOST_PAUSE, &topic)), (None, false));
        assert_eq!(names(&channels), std::slice::from_ref(&first));
        // Another publisher gives nothing: the next channel is beside the first.
        channels.stepped(&first, false, now);
        assert!(!channels.renew(now, &topic) && channels.renew(now + FIRST_PAUSE, &topic));
        let both = names(&channels);
        assert_eq!((both.len(), &both[0]), (2, &first));
        channels.stepped(&first, true, now);
        assert_eq!(channels.due(), None);
    }

    #[test]
    fn who_is_given_nothing_tries_ever_more_rarely() {
        let (topic, mut now) = (private("t").unwrap(), Instant::now());
        let mut channels = Channels::new(&topic);
        let mut pauses = Vec::new();
        for _ in 0..6 {
            let channel = names(&channels).pop().unwrap();
            channels.stepped(&channel, false, now);
            let due = channels.due().unwrap();
            pauses.push((due - now).as_secs());
            now = due;
            assert!(channels.renew(now, &topic));
            assert_eq!(names(&channels).len(), 1);
            assert_ne!(names(&channels)[0], channel);
        }
        assert_eq!(pauses, [5, 10, 20, 40, 60, 60]);
        channels.missed(now);
        assert!(channels.renew(now + MOST_PAUSE, &topic));
    }
}
