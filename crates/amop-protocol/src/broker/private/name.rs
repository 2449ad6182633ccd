//! What the names of the handshake say (channel spec, 6.2).

use crate::{
    Topic,
    topic::{PRIVATE_PREFIX, PUSH_PREFIX, VERIFY_PREFIX},
};

/// What reporting a name means for the verification of subscribers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The session wants this private topic.
    Subscriber(Topic),
    /// The session can be challenged over this channel, as a subscriber of `topic`.
    Channel {
        /// The private topic.
        topic: Topic,
    },
    /// The session can verify subscribers of this private topic.
    Publisher(Topic),
}

impl Meaning {
    /// What `name` means, if anything.
    pub(super) fn of(name: &Topic) -> Option<Self> {
        if name.as_str().starts_with(PRIVATE_PREFIX) {
            return Some(Self::Subscriber(name.clone()));
        }
        if let Some(topic) = name.as_str().strip_prefix(PUSH_PREFIX) {
            return private(topic).map(Self::Publisher);
        }
        let channel = name.as_str().strip_prefix(VERIFY_PREFIX)?;
        // The topic, and something that makes the name unique. A topic that is the beginning of
        // another one is not taken for it.
        let (topic, _unique) = channel.rsplit_once('_')?;
        private(topic).map(|topic| Self::Channel { topic })
    }
}

fn private(name: &str) -> Option<Topic> {
    name.starts_with(PRIVATE_PREFIX).then(|| Topic::parse(name).ok()).flatten()
}

/// The private topic whose subscribers are challenged over `channel`.
pub fn topic_of_channel(channel: &Topic) -> Option<Topic> {
    match Meaning::of(channel)? {
        Meaning::Channel { topic } => Some(topic),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(name: &str) -> Option<Meaning> {
        Meaning::of(&Topic::parse(name).unwrap())
    }

    #[test]
    fn names_say_who_is_who() {
        let topic = Topic::parse("#!$TopicNeedVerify_a_b").unwrap();
        assert_eq!(meaning("#!$TopicNeedVerify_a_b"), Some(Meaning::Subscriber(topic.clone())));
        assert_eq!(meaning("#!$PushChannel_#!$TopicNeedVerify_a_b"), Some(Meaning::Publisher(topic.clone())));
        let channel = meaning("#!$VerifyChannel_#!$TopicNeedVerify_a_b_0123456789abcdef0123456789abcdef");
        assert_eq!(channel, Some(Meaning::Channel { topic }));
    }

    #[test]
    fn other_names_say_nothing() {
        for name in
            ["a", "#!$x", "#!$PushChannel_a", "#!$VerifyChannel_a_0", "#!$VerifyChannel_", "#!$PushChannel_"]
        {
            assert_eq!(meaning(name), None, "{name}");
        }
    }
}
