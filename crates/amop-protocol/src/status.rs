//! Status codes and causes: the only table of how a send can end.

use std::fmt;

pub use crate::wire::generated::{Cause, Retry};

/// A documented AMOP status: the only ones a client ever sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i32)]
pub enum Status {
    /// A subscriber answered (unicast) or was handed the message (multicast).
    Success = 0,
    /// The message did not reach any node.
    NoNode = 99,
    /// No path to a node that can take the message.
    NoPath = 100,
    /// Reached the subscriber's node, but no session there could be handed the message.
    NotHanded = 101,
    /// Handed to a subscriber that did not answer in time.
    TimedOut = 102,
    /// Refused for bandwidth or quota.
    Refused = 103,
}

impl Status {
    /// The code on the wire.
    pub const fn code(self) -> i32 {
        self as i32
    }

    /// The status with this code on the wire.
    pub const fn from_code(code: i32) -> Option<Self> {
        Some(match code {
            0 => Self::Success,
            99 => Self::NoNode,
            100 => Self::NoPath,
            101 => Self::NotHanded,
            102 => Self::TimedOut,
            103 => Self::Refused,
            _ => return None,
        })
    }

    /// The rank by which one of several differing failures is reported: 102 over 101 over 103 over 100.
    pub const fn severity(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::NoNode => 1,
            Self::NoPath => 2,
            Self::Refused => 3,
            Self::NotHanded => 4,
            Self::TimedOut => 5,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code())
    }
}

impl Cause {
    /// The status this cause is reported as.
    pub const fn status(self) -> Status {
        match self {
            Self::Delivered => Status::Success,
            Self::Draining | Self::NotConnected => Status::NoNode,
            Self::Unspecified
            | Self::NoSubscriber
            | Self::Unreachable
            | Self::HopLimit
            | Self::NotVerified
            | Self::BadTopic
            | Self::ReservedTopic
            | Self::NoneHanded => Status::NoPath,
            Self::SessionGone | Self::QueueFull | Self::WriteFailed | Self::SubscriberRefused => {
                Status::NotHanded
            }
            Self::PushTimeout | Self::Deadline | Self::OutcomeLost | Self::AnswerLost => Status::TimedOut,
            Self::NodeBandwidth | Self::ClientQuota | Self::RelayLimit | Self::NoRoom => Status::Refused,
        }
    }

    /// Whether to send again what ended so; what counts is whether anybody may have been handed it.
    pub const fn retry(self) -> Retry {
        match self {
            Self::Delivered | Self::BadTopic | Self::ReservedTopic | Self::SubscriberRefused => Retry::Never,
            Self::Draining
            | Self::NotConnected
            | Self::NoSubscriber
            | Self::HopLimit
            | Self::NotVerified
            | Self::QueueFull
            | Self::NodeBandwidth
            | Self::ClientQuota
            | Self::RelayLimit
            | Self::NoRoom => Retry::Safe,
            Self::Unspecified
            | Self::Unreachable
            | Self::SessionGone
            | Self::WriteFailed
            | Self::PushTimeout
            | Self::Deadline
            | Self::OutcomeLost
            | Self::NoneHanded
            | Self::AnswerLost => Retry::MayRepeat,
        }
    }

    /// One sentence for people: what happened.
    pub const fn explain(self) -> &'static str {
        match self {
            Self::Unspecified => "the reason is not known to this version",
            Self::Delivered => "delivered",
            Self::Draining => "the node is shutting down and takes no new messages",
            Self::NotConnected => "no node is connected",
            Self::NoSubscriber => "nobody is subscribed to the topic",
            Self::Unreachable => "the nodes of the subscribers cannot be reached",
            Self::HopLimit => "the way to the subscriber has too many hops",
            Self::NotVerified => "the private topic has no verified subscriber",
            Self::BadTopic => "the topic name is not valid",
            Self::ReservedTopic => "the topic is reserved and cannot be published to",
            Self::SessionGone => "the subscriber disconnected before it was handed the message",
            Self::QueueFull => "the subscriber's queue is full",
            Self::WriteFailed => "writing to the subscriber failed",
            Self::SubscriberRefused => "the subscriber answered with an error of its own",
            Self::PushTimeout => "the subscriber did not answer in time",
            Self::Deadline => "the deadline passed before an answer came",
            Self::OutcomeLost => "this message was sent before, and its outcome is no longer known",
            Self::NodeBandwidth => "the node's outgoing bandwidth limit is used up",
            Self::ClientQuota => "the client's quota is used up",
            Self::RelayLimit => "a relay's limit is used up",
            Self::NoRoom => "a node has no room for more messages at once",
            Self::NoneHanded => "every reachable subscriber failed to take the message",
            Self::AnswerLost => "the subscriber took the message and went away before it answered",
        }
    }

    /// Of two failures of one send, the one to report.
    pub fn worse(self, other: Self) -> Self {
        if other.status().severity() > self.status().severity() { other } else { self }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.explain())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_documented_codes_exist() {
        for number in 0..=64 {
            if let Ok(cause) = Cause::try_from(number) {
                let code = cause.status().code();
                assert!(code == 0 || (99..=103).contains(&code), "{cause:?} gives {code}");
                assert_eq!(Status::from_code(code), Some(cause.status()));
            }
        }
        assert_eq!(Status::from_code(104), None);
    }

    #[test]
    fn the_worse_of_two_failures_is_reported() {
        let order = [Cause::NoSubscriber, Cause::RelayLimit, Cause::QueueFull, Cause::PushTimeout];
        for (i, low) in order.iter().enumerate() {
            for high in &order[i..] {
                assert_eq!(low.worse(*high).status(), high.status());
                assert_eq!(high.worse(*low).status(), high.status());
            }
        }
    }
}
