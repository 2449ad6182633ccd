//! Topic names. Parsing is the only way to make one, so a [`Topic`] is always valid.

use std::{borrow::Borrow, fmt, sync::Arc};

/// Longest topic name in bytes; the channel body's length byte counts itself (channel spec, 2.1).
pub const MAX_TOPIC_BYTES: usize = 254;

/// The prefix that every name with a meaning to the private-topic handshake starts with.
pub const RESERVED_PREFIX: &str = "#!$";
/// A private topic.
pub const PRIVATE_PREFIX: &str = "#!$TopicNeedVerify_";
/// The route of a private topic's challenge, made by its subscriber.
pub const VERIFY_PREFIX: &str = "#!$VerifyChannel_";
/// Marks a publisher that can verify subscribers of a private topic.
pub const PUSH_PREFIX: &str = "#!$PushChannel_";
/// Block height notifications: every 2.x SDK reports one.
pub const BLOCK_NOTIFY_PREFIX: &str = "_block_notify_";

/// A valid topic name: UTF-8, 1 to 254 bytes, no control characters. Clones share the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Arc<str>);

/// What a topic's name makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Anybody may subscribe and publish.
    Ordinary,
    /// `#!$TopicNeedVerify_…`: reaches verified subscribers only.
    Private,
    /// `#!$VerifyChannel_…` and `#!$PushChannel_…`: the handshake of private topics.
    Handshake,
    /// `_block_notify_…`: accepted in a subscription, kept out of gossip, never published to.
    BlockNotify,
}

/// Why bytes are not a topic name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// No bytes at all.
    #[error("a topic name must not be empty")]
    Empty,
    /// More than [`MAX_TOPIC_BYTES`].
    #[error("a topic name has at most {MAX_TOPIC_BYTES} bytes, this one has {0}")]
    TooLong(usize),
    /// Not UTF-8.
    #[error("a topic name must be UTF-8")]
    NotUtf8,
    /// A control character, which would forge entries in logs and lists.
    #[error("a topic name must not contain control characters (one is at byte {0})")]
    Control(usize),
}

impl Topic {
    /// Parses a topic name.
    ///
    /// # Errors
    /// When `name` is empty, too long or contains a control character.
    pub fn parse(name: &str) -> Result<Self, ParseError> {
        check(name)?;
        Ok(Self(name.into()))
    }

    /// Parses a topic name from the wire.
    ///
    /// # Errors
    /// As [`Topic::parse`], and when `name` is not UTF-8.
    pub fn from_bytes(name: &[u8]) -> Result<Self, ParseError> {
        if name.len() > MAX_TOPIC_BYTES {
            return Err(ParseError::TooLong(name.len()));
        }
        Self::parse(std::str::from_utf8(name).map_err(|_| ParseError::NotUtf8)?)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the name makes of the topic.
    pub fn kind(&self) -> Kind {
        let name = self.as_str();
        if name.starts_with(PRIVATE_PREFIX) {
            Kind::Private
        } else if name.starts_with(VERIFY_PREFIX) || name.starts_with(PUSH_PREFIX) {
            Kind::Handshake
        } else if name.starts_with(BLOCK_NOTIFY_PREFIX) {
            Kind::BlockNotify
        } else {
            Kind::Ordinary
        }
    }

    /// Whether it belongs to the verification of private topics, so that only sessions chosen one by
    /// one are given what is sent to it.
    pub fn is_reserved(&self) -> bool {
        matches!(self.kind(), Kind::Private | Kind::Handshake)
    }
}

impl Borrow<str> for Topic {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

fn check(name: &str) -> Result<(), ParseError> {
    if name.is_empty() {
        return Err(ParseError::Empty);
    }
    if name.len() > MAX_TOPIC_BYTES {
        return Err(ParseError::TooLong(name.len()));
    }
    match name.char_indices().find(|(_, c)| c.is_control()) {
        Some((at, _)) => Err(ParseError::Control(at)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_topics() {
        for name in ["a", "hello world", "市场/行情", &"t".repeat(254), "#!$x"] {
            assert_eq!(Topic::parse(name).map(|t| t.to_string()), Ok(name.to_owned()));
        }
    }

    #[test]
    fn names_that_are_not() {
        assert_eq!(Topic::parse(""), Err(ParseError::Empty));
        assert_eq!(Topic::parse(&"t".repeat(255)), Err(ParseError::TooLong(255)));
        assert_eq!(Topic::parse("a\tb"), Err(ParseError::Control(1)));
        assert_eq!(Topic::parse("a\u{85}"), Err(ParseError::Control(1)), "C1 controls too");
        assert_eq!(Topic::from_bytes(&[0xff, 0xfe]), Err(ParseError::NotUtf8));
    }

    #[test]
    fn prefixes_decide_the_kind() {
        let kind = |name: &str| Topic::parse(name).map(|t| t.kind());
        assert_eq!(kind("#!$TopicNeedVerify_t"), Ok(Kind::Private));
        assert_eq!(kind("#!$VerifyChannel_#!$TopicNeedVerify_t_0"), Ok(Kind::Handshake));
        assert_eq!(kind("#!$PushChannel_#!$TopicNeedVerify_t"), Ok(Kind::Handshake));
        assert_eq!(kind("_block_notify_1"), Ok(Kind::BlockNotify));
        assert_eq!(kind("block_notify_1"), Ok(Kind::Ordinary));
    }
}
