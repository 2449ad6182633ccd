//! Private topics: only subscribers that prove to hold a key which the publisher named.
//!
//! A subscriber calls [`Client::subscribe_private`](crate::Client::subscribe_private) with its private
//! key, a publisher [`Client::private_topic`](crate::Client::private_topic) with the public keys of
//! those that may receive. All else goes by itself: nodes tell the publisher of every subscriber, the
//! publisher has it prove that it holds a key, and only then do nodes give it messages.
//!
//! With version 2 of the handshake, which is the default, a proof counts for one topic, one publisher
//! and one subscriber, and messages are encrypted from publisher to subscribers: nodes see ciphertext
//! only. The handshake of FISCO BCOS 2.x has neither; [`Compatibility`] says who goes along with it.
//!
//! - [`holder`] and [`channels`]: the subscriber's end; [`publisher`] and [`answers`]: the publisher's end, all without IO.
//! - [`topic`]: what a publisher's application holds.

mod answers;
pub(crate) mod channels;
pub(crate) mod holder;
pub(crate) mod publisher;
#[cfg(test)]
mod tests;
pub(crate) mod topic;

use std::time::{SystemTime, UNIX_EPOCH};

use amop_protocol::{
    Topic,
    topic::{MAX_TOPIC_BYTES, PRIVATE_PREFIX, PUSH_PREFIX, ParseError, VERIFY_PREFIX},
};

/// Bytes that a verify channel's name has behind the topic's: an underscore and 32 digits.
const CHANNEL_SUFFIX: usize = 33;

/// Whether an end of a private topic goes along with the handshake of FISCO BCOS 2.x.
///
/// In that handshake a signature says nothing but that somebody holds the key: whoever can have a
/// challenge signed, by passing it on, is taken for the holder. And messages are not encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compatibility {
    /// No: version 2 with everybody, or nothing.
    #[default]
    Version2,
    /// With other ends that have nothing better, but of their challenges only 32 hexadecimal
    /// digits are signed, as the Java SDK makes them, which cannot be anything else.
    Strict,
    /// With all other ends that have nothing better, those with the Go SDK included: its challenge
    /// is a number of up to 17 bytes.
    All,
}

impl Compatibility {
    pub(crate) fn allows_2x(self) -> bool {
        self != Self::Version2
    }
}

/// The private topic with this name, which may be written with its prefix or without.
///
/// # Errors
/// When it is no topic, or too long for the names of its channels: 185 bytes without the prefix.
pub(crate) fn private(name: &str) -> Result<Topic, ParseError> {
    let name = name.strip_prefix(PRIVATE_PREFIX).unwrap_or(name);
    if name.is_empty() {
        return Err(ParseError::Empty);
    }
    let longest = VERIFY_PREFIX.len() + PRIVATE_PREFIX.len() + name.len() + CHANNEL_SUFFIX;
    if longest > MAX_TOPIC_BYTES {
        return Err(ParseError::TooLong(longest));
    }
    Topic::parse(&format!("{PRIVATE_PREFIX}{name}"))
}

/// What a publisher reports so that it is asked about subscribers.
pub(crate) fn push_channel(topic: &Topic) -> Result<Topic, ParseError> {
    Topic::parse(&format!("{PUSH_PREFIX}{topic}"))
}

/// What a subscriber reports so that it can be asked for a proof. `random` is new for each session.
pub(crate) fn verify_channel(topic: &Topic, random: u128) -> Result<Topic, ParseError> {
    Topic::parse(&format!("{VERIFY_PREFIX}{topic}_{random:032x}"))
}

/// The private topic that a verify channel is for.
pub(crate) fn of_channel(channel: &Topic) -> Option<&str> {
    let name = channel.as_str().strip_prefix(VERIFY_PREFIX)?;
    name.get(..name.len().checked_sub(CHANNEL_SUFFIX)?)
}

/// Milliseconds since 1970.
fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod names {
    use super::*;

    #[test]
    fn names_fit_each_other() {
        let topic = private("prices").unwrap();
        assert_eq!(private(topic.as_str()).unwrap(), topic);
        let channel = verify_channel(&topic, 7).unwrap();
        assert_eq!(of_channel(&channel), Some(topic.as_str()));
        assert_eq!(of_channel(&topic), None);
        assert_eq!(of_channel(&Topic::parse(VERIFY_PREFIX).unwrap()), None);
        assert_eq!(push_channel(&topic).unwrap().as_str(), "#!$PushChannel_#!$TopicNeedVerify_prices");
    }

    #[test]
    fn the_longest_name_fits_its_channels() {
        let longest = private(&"x".repeat(185)).unwrap();
        assert_eq!(verify_channel(&longest, u128::MAX).unwrap().as_str().len(), MAX_TOPIC_BYTES);
        assert_eq!(private(&"x".repeat(186)), Err(ParseError::TooLong(255)));
        assert_eq!(private(PRIVATE_PREFIX), Err(ParseError::Empty));
        // The digits may split what is not ours.
        assert_eq!(of_channel(&Topic::parse(&format!("{VERIFY_PREFIX}{}", "é".repeat(20))).unwrap()), None);
    }
}
