//! One publisher and one subscriber: asked, trusted, or failed.

use std::{collections::VecDeque, fmt, time::Duration};

use crate::{Time, Topic, ident::hex};

/// How long an answer to a question is waited for before it is put again: first, and at most; longer
/// than SDKs wait for the answer to a challenge. The first tries are closer together because what
/// fails them, such as a link that is lost, passes soon.
const FIRST_PATIENCE: Duration = Duration::from_secs(1);
const MOST_PATIENCE: Duration = Duration::from_secs(10);
/// The same once so many questions were not answered: a node that invents subscribers does not keep
/// publishers busy.
const LONG_PATIENCE: Duration = Duration::from_secs(60);
const MANY_TRIES: u32 = 8;
/// After a failure no other channel of the subscriber is tried for so long; doubled by every further
/// one, up to the most.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MOST_PAUSE: Duration = Duration::from_secs(60);
/// Failed channels of one subscriber that are remembered.
const MAX_FAILED: usize = 16;

/// Names one question to one publisher: what SDKs take for a node's id, 128 hexadecimal digits, and
/// repeat. Nobody else can know it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Question([u8; 64]);

impl Question {
    pub(super) fn new(secret: &[u8; 32], number: u64) -> Self {
        let mut name = [0; 64];
        blake3::Hasher::new_keyed(secret).update(&number.to_be_bytes()).finalize_xof().fill(&mut name);
        Self(name)
    }

    /// The 128 digits.
    pub fn to_hex(self) -> String {
        hex(&self.0)
    }

    /// The question with this name.
    pub fn from_hex(digits: &str) -> Option<Self> {
        let mut name = [0; 64];
        let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
        if pairs.len() != name.len() || !rest.is_empty() {
            return None;
        }
        for (byte, [high, low]) in name.iter_mut().zip(pairs) {
            let digit = |c: u8| char::from(c).to_digit(16).filter(|_| !c.is_ascii_uppercase());
            *byte = u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()?;
        }
        Some(Self(name))
    }
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "question {}", hex(&self.0[..4]))
    }
}

/// How far a pair has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    /// There is no channel to challenge the subscriber over.
    #[default]
    Waiting,
    /// The publisher was asked.
    Asked {
        /// What it was asked.
        question: Question,
        /// The channel it was given.
        channel: Topic,
        /// When it is asked again.
        until: Time,
    },
    /// The publisher trusts the subscriber.
    Verified {
        /// What it was asked.
        question: Question,
    },
    /// It does not. Over another channel it may be asked again, but not before the end of a pause.
    Failed {
        /// That end, if it is still to come.
        until: Option<Time>,
    },
}

/// One publisher, one topic, one subscriber.
#[derive(Clone, Debug, Default)]
pub(super) struct Pair {
    state: State,
    /// Questions that nobody answered.
    tries: u32,
    /// Failures, each of which doubles the pause.
    failures: u32,
    /// Channels that failed, oldest first.
    failed: VecDeque<Topic>,
}

impl Pair {
    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// The question that a verdict may be about.
    pub(super) fn question(&self) -> Option<Question> {
        match &self.state {
            State::Asked { question, .. } | State::Verified { question } => Some(*question),
            State::Waiting | State::Failed { .. } => None,
        }
    }

    /// The channel over which an open question is being decided.
    pub(super) fn channel(&self) -> Option<&Topic> {
        match &self.state {
            State::Asked { channel, .. } => Some(channel),
            State::Waiting | State::Verified { .. } | State::Failed { .. } => None,
        }
    }

    /// Whether an open question leads nowhere: nobody answered in time, or its channel is gone.
    pub(super) fn has_lapsed(&self, now: Time, channels: &[Topic]) -> bool {
        matches!(&self.state, State::Asked { channel, until, .. } if now >= *until || !channels.contains(channel))
    }

    /// An open question is void.
    pub(super) fn withdrawn(&mut self) {
        if matches!(self.state, State::Asked { .. }) {
            self.state = State::Waiting;
        }
    }

    /// When this pair is to be looked at again.
    pub(super) fn due(&self) -> Option<Time> {
        match &self.state {
            State::Asked { until, .. } => Some(*until),
            State::Failed { until } => *until,
            State::Waiting | State::Verified { .. } => None,
        }
    }

    /// The channel to ask over now, of those that the subscriber has.
    pub(super) fn next(&mut self, now: Time, channels: &[Topic]) -> Option<Topic> {
        let untried = || channels.iter().find(|channel| !self.failed.contains(channel)).cloned();
        match &self.state {
            State::Verified { .. } | State::Asked { .. } => None,
            State::Failed { until: Some(until) } if now < *until => None,
            State::Failed { .. } => {
                let next = untried();
                self.state = State::Failed { until: None };
                next
            }
            State::Waiting => untried(),
        }
    }

    /// The publisher has been asked.
    pub(super) fn asked(&mut self, now: Time, question: Question, channel: Topic) {
        let patience = match self.tries {
            MANY_TRIES.. => LONG_PATIENCE,
            tries => (FIRST_PATIENCE * 2u32.saturating_pow(tries)).min(MOST_PATIENCE),
        };
        self.tries = self.tries.saturating_add(1);
        self.state = State::Asked { question, channel, until: now + patience };
    }

    /// The publisher trusts the subscriber.
    pub(super) fn verified(&mut self, question: Question) {
        self.state = State::Verified { question };
    }

    /// The publisher does not trust the subscriber, or no longer: the channel it was asked over is
    /// used up.
    pub(super) fn failed(&mut self, now: Time, channels: &[Topic]) {
        let pause = (FIRST_PAUSE * 2u32.saturating_pow(self.failures.min(8))).min(MOST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        self.tries = 0;
        for channel in channels {
            if !self.failed.contains(channel) {
                self.failed.push_back(channel.clone());
            }
        }
        while self.failed.len() > MAX_FAILED {
            self.failed.pop_front();
        }
        self.state = State::Failed { until: Some(now + pause) };
    }
}
