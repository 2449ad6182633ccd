//! Each message once: the window of messages seen, and how they ended.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasherDefault, Hash, Hasher},
};

use siphasher::sip128::{Hasher128, SipHasher13};

use super::event::Mode;
use crate::{Fingerprint, NodeId, Seq, Time, Topic};

/// What makes two messages the same one: publisher's certificate, frame type, topic, seq, and
/// payload. Without the payload, a node that relays a message could bring one of its own under the
/// same names first, and have the genuine one taken for its duplicate.
///
/// A keyed 128-bit hash: without this node's secret nobody can make two messages collide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessageKey(u128);

impl MessageKey {
    /// A number spread evenly over all messages, for choosing a shard.
    pub fn spread(self) -> u64 {
        (self.0 >> 64) as u64
    }

    /// Another key for every node the message comes from: the mistake of not knowing it again.
    pub(super) fn mixed_with(self, origin: &NodeId) -> Self {
        let mut hasher = SipHasher13::new();
        hasher.write(origin.as_bytes());
        Self(self.0 ^ hasher.finish128().as_u128())
    }
}

impl Hash for MessageKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0 as u64);
    }
}

/// Payloads up to this size go into the key as they are; for larger ones a digest is faster.
const HASHED_AT_ONCE: usize = 8 * 1024;

/// Makes message keys under a secret of this node's process.
#[derive(Clone, Copy, Debug)]
pub struct Keyer {
    secret: [u64; 2],
}

impl Keyer {
    /// A keyer with this secret.
    pub const fn new(secret: [u64; 2]) -> Self {
        Self { secret }
    }

    /// The key of a message.
    pub fn key(
        &self,
        publisher: &Fingerprint,
        mode: Mode,
        topic: &Topic,
        seq: &Seq,
        payload: &[u8],
    ) -> MessageKey {
        let mut hasher = SipHasher13::new_with_keys(self.secret[0], self.secret[1]);
        hasher.write(publisher.as_bytes());
        hasher.write(&seq.0);
        hasher.write_u8(mode as u8);
        hasher.write(topic.as_str().as_bytes());
        match payload.len() {
            ..=HASHED_AT_ONCE => hasher.write(payload),
            _ => hasher.write(blake3::hash(payload).as_bytes()),
        }
        hasher.write_usize(payload.len());
        MessageKey(hasher.finish128().as_u128())
    }
}

/// A hasher for keys that are hashes already.
#[derive(Clone, Copy, Debug, Default)]
pub struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {}
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// Bounds of one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Ended messages remembered; beyond, the oldest is forgotten and counted.
    pub entries: usize,
    /// Bytes of outcomes remembered; beyond, the oldest outcomes are dropped, their messages not.
    pub bytes: usize,
}

/// What a window holds of that which [`Bounds`] bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Ended messages.
    pub entries: usize,
    /// Bytes of their outcomes.
    pub bytes: usize,
}

/// What is known of a message.
#[derive(Debug)]
pub enum Seen<R, D> {
    /// It is on its way.
    Running(R),
    /// It ended so.
    Done(D),
    /// It ended, and how was dropped at the byte bound.
    Dropped,
}

/// Messages seen: those running, and those that ended not long ago.
#[derive(Debug)]
pub struct Window<R, D> {
    bounds: Bounds,
    entries: HashMap<MessageKey, Seen<R, D>, BuildHasherDefault<AsIs>>,
    ended: VecDeque<(Time, MessageKey)>,
    heavy: VecDeque<(MessageKey, usize)>,
    bytes: usize,
    /// Ended messages forgotten before their time because of [`Bounds::entries`].
    pub evicted: u64,
    /// Outcomes dropped because of [`Bounds::bytes`].
    pub dropped: u64,
}

impl<R, D> Window<R, D> {
    /// An empty window.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            entries: HashMap::default(),
            ended: VecDeque::new(),
            heavy: VecDeque::new(),
            bytes: 0,
            evicted: 0,
            dropped: 0,
        }
    }

    /// Changes the bounds, and forgets at once what is beyond them.
    pub fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
        self.enforce();
    }

    /// What is known of a message.
    pub fn get(&self, key: MessageKey) -> Option<&Seen<R, D>> {
        self.entries.get(&key)
    }

    /// The running message, to change it.
    pub fn running(&mut self, key: MessageKey) -> Option<&mut R> {
        match self.entries.get_mut(&key) {
            Some(Seen::Running(running)) => Some(running),
            _ => None,
        }
    }

    /// A message begins.
    pub fn begin(&mut self, key: MessageKey, running: R) {
        self.entries.insert(key, Seen::Running(running));
    }

    /// A message ends; it is remembered until `until`. `bytes` is what remembering `done` holds on to.
    pub fn end(&mut self, key: MessageKey, done: D, bytes: usize, until: Time) {
        self.entries.insert(key, Seen::Done(done));
        self.ended.push_back((until, key));
        if bytes > 0 {
            self.heavy.push_back((key, bytes));
            self.bytes += bytes;
        }
        self.enforce();
    }

    /// Forgets what is past its time.
    pub fn expire(&mut self, now: Time) {
        while self.ended.front().is_some_and(|(until, _)| *until <= now) {
            self.forget_oldest();
        }
    }

    /// When the oldest ended message may be forgotten.
    pub fn next_expiry(&self) -> Option<Time> {
        self.ended.front().map(|(until, _)| *until)
    }

    /// Messages known, running and ended.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// What the ended messages take up.
    pub fn load(&self) -> Load {
        Load { entries: self.ended.len(), bytes: self.bytes }
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn enforce(&mut self) {
        while self.ended.len() > self.bounds.entries {
            self.forget_oldest();
            self.evicted += 1;
        }
        while self.bytes > self.bounds.bytes {
            let Some((key, bytes)) = self.heavy.pop_front() else { break };
            self.bytes -= bytes;
            if let Some(entry @ Seen::Done(_)) = self.entries.get_mut(&key) {
                *entry = Seen::Dropped;
                self.dropped += 1;
            }
        }
    }

    /// Entries end in the order in which they entered `heavy`, so the oldest can only be at its front.
    fn forget_oldest(&mut self) {
        let Some((_, key)) = self.ended.pop_front() else { return };
        self.entries.remove(&key);
        if self.heavy.front().is_some_and(|(heavy, _)| *heavy == key) {
            let (_, bytes) = self.heavy.pop_front().unwrap_or((key, 0));
            self.bytes -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u128) -> MessageKey {
        MessageKey(n)
    }

    fn at(secs: u64) -> Time {
        Time::from_start(std::time::Duration::from_secs(secs))
    }

    fn window(entries: usize, bytes: usize) -> Window<(), u32> {
        Window::new(Bounds { entries, bytes })
    }

    #[test]
    fn a_message_is_another_if_anything_differs() {
        let keyer = Keyer::new([1, 2]);
        let topic = Topic::parse("t").unwrap();
        let base = keyer.key(&Fingerprint::new([1; 32]), Mode::Unicast, &topic, &Seq([7; 32]), b"x");
        assert_eq!(base, keyer.key(&Fingerprint::new([1; 32]), Mode::Unicast, &topic, &Seq([7; 32]), b"x"));
        for other in [
            keyer.key(&Fingerprint::new([2; 32]), Mode::Unicast, &topic, &Seq([7; 32]), b"x"),
            keyer.key(&Fingerprint::new([1; 32]), Mode::Multicast, &topic, &Seq([7; 32]), b"x"),
            keyer.key(
                &Fingerprint::new([1; 32]),
                Mode::Unicast,
                &Topic::parse("u").unwrap(),
                &Seq([7; 32]),
                b"x",
            ),
            keyer.key(&Fingerprint::new([1; 32]), Mode::Unicast, &topic, &Seq([8; 32]), b"x"),
            keyer.key(&Fingerprint::new([1; 32]), Mode::Unicast, &topic, &Seq([7; 32]), b"y"),
            Keyer::new([1, 3]).key(&Fingerprint::new([1; 32]), Mode::Unicast, &topic, &Seq([7; 32]), b"x"),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn ended_messages_are_remembered_until_their_time() {
        let mut window = window(10, 100);
        window.begin(key(1), ());
        window.end(key(1), 5, 1, at(10));
        window.expire(at(9));
        assert!(matches!(window.get(key(1)), Some(Seen::Done(5))));
        window.expire(at(10));
        assert!(window.get(key(1)).is_none());
        assert_eq!(window.bytes, 0);
    }

    #[test]
    fn at_the_byte_bound_the_outcome_goes_and_the_message_stays() {
        let mut window = window(10, 100);
        for n in 0..3 {
            window.end(key(n), 0, 50, at(10));
        }
        assert!(matches!(window.get(key(0)), Some(Seen::Dropped)));
        assert!(matches!(window.get(key(1)), Some(Seen::Done(_))));
        assert_eq!((window.bytes, window.dropped), (100, 1));
    }

    #[test]
    fn at_the_entry_bound_the_oldest_is_forgotten_and_running_ones_never() {
        let mut window = window(2, 100);
        window.begin(key(9), ());
        for n in 0..3 {
            window.end(key(n), 0, 0, at(10));
        }
        assert!(window.get(key(0)).is_none());
        assert!(matches!(window.get(key(9)), Some(Seen::Running(()))));
        assert_eq!(window.evicted, 1);
    }
}
