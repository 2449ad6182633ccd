//! Private topics, as plans have them: who publishes, who wants to read, and with which key.
//!
//! A key here is a number, and a signature the number of the session that made it: nobody has another
//! one's by accident, and the core never looks at either.

use std::time::Duration;

use amop_protocol::Topic;

/// Private topics that messages are sent to.
pub const TOPICS: u32 = 2;
/// Keys that publishers may trust; a subscriber may also have one above, which nobody trusts.
pub const KEYS: u8 = 4;
/// Messages to private topics are numbered from here, challenges from there.
pub const MESSAGES: u64 = 1 << 40;
pub const CHALLENGES: u64 = 1 << 41;

/// What a session has to do with a private topic.
#[derive(Clone, Debug)]
pub enum Role {
    Publisher {
        topic: u32,
        /// The keys on its list.
        trusts: Vec<u8>,
        /// How long it takes from the answer of a subscriber to its verdict.
        decides: Duration,
    },
    Subscriber {
        topic: u32,
        channel: u64,
        key: u8,
        /// How soon it answers a challenge, if it does.
        answers: Option<Duration>,
    },
}

/// What a session says that it must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgery {
    /// A verdict on what another session was asked.
    OfAnother { trusted: bool },
    /// A verdict on what it was asked itself, for another topic.
    OtherTopic,
    /// Trust, once more, in what it was asked first: void by now, or decided.
    Repeated,
}

impl Role {
    pub fn topic(&self) -> u32 {
        match self {
            Self::Publisher { topic, .. } | Self::Subscriber { topic, .. } => *topic,
        }
    }

    /// What it reports.
    pub fn names(&self) -> Vec<Topic> {
        match self {
            Self::Publisher { topic, .. } => vec![name(&format!("#!$PushChannel_{}", topic_name(*topic)))],
            Self::Subscriber { topic, channel, .. } => {
                vec![private(*topic), self::channel(*topic, *channel)]
            }
        }
    }
}

/// The private topic with this number.
pub fn private(topic: u32) -> Topic {
    name(&topic_name(topic))
}

/// Where a subscriber of a topic can be challenged.
pub fn channel(topic: u32, channel: u64) -> Topic {
    name(&format!("#!$VerifyChannel_{}_{channel:032x}", topic_name(topic)))
}

/// The number of the channel with this name.
pub fn channel_number(name: &Topic) -> u64 {
    let digits = name.as_str().rsplit('_').next().unwrap_or_default();
    u64::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("{name} is no channel of a plan"))
}

fn topic_name(topic: u32) -> String {
    format!("#!$TopicNeedVerify_t{topic}")
}

fn name(name: &str) -> Topic {
    Topic::parse(name).expect("a valid name")
}
