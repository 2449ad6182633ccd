//! One error per operation, each with a kind to match on and the documented code.

use std::{fmt, time::Duration};

use amop_auth::content::ContentError;
use amop_protocol::{
    Cause, Retry, Status,
    broker::event::Hop,
    session::client::{Ended, SendError},
    topic,
    wire::recipients::Recipients,
};
use bytes::Bytes;

pub use crate::{connector::DialError, tls::IdentityError};

/// No node could be connected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The options name no node.
    #[error("no node to connect to; name at least one as host:port")]
    NoNode,
    /// The certificates cannot be used.
    #[error("the certificates cannot be used")]
    Identity(#[from] IdentityError),
    /// Every node was tried.
    #[error("cannot connect to {}", list(.0))]
    Failed(Vec<(String, DialError)>),
}

fn list(failures: &[(String, DialError)]) -> String {
    let each: Vec<_> = failures.iter().map(|(node, error)| format!("{node}: {error}")).collect();
    each.join("; ")
}

/// A subscription did not come about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// Not a topic name.
    #[error("{name:?} is not a topic")]
    Topic {
        /// The name.
        name: String,
        /// Why.
        source: topic::ParseError,
    },
    /// No topic was named.
    #[error("a subscription needs at least one topic")]
    NoTopic,
    /// The node does not accept it.
    #[error("the node refused the topic {0:?}")]
    Refused(String),
    /// This client has as many subscriptions as it may.
    #[error("this client has {0} subscriptions, which is the limit; drop some")]
    TooMany(usize),
    /// The node did not confirm in time.
    #[error("no node confirmed the subscription within {0:?}")]
    TimedOut(Duration),
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
    /// The topic is private and cannot be received so.
    #[error(transparent)]
    Private(#[from] PrivateError),
}

/// A private topic cannot be used so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PrivateError {
    /// Not the name of a private topic.
    #[error("this is not the name of a private topic")]
    Topic(#[from] topic::ParseError),
    /// This client receives the topic with another key, or otherwise.
    #[error(
        "this client receives the topic already, with another key or in another way; drop that subscription first"
    )]
    Held,
    /// This client publishes the topic already.
    #[error("this client publishes the topic already; use that handle, or drop it first")]
    Published,
    /// More keys than a topic may have.
    #[error("more than {0} keys; split the topic")]
    TooManyKeys(usize),
    /// Nodes could not be told that this client publishes the topic.
    #[error("nodes could not be told that this client publishes the topic: {0}")]
    Unannounced(Box<SubscribeError>),
    /// What encrypts cannot be made.
    #[error("the topic cannot be encrypted")]
    Encryption(#[source] ContentError),
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
}

/// How a send failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The topic is not a valid name, or reserved. Never retry.
    Topic,
    /// The message does not fit a frame. Never retry.
    TooLarge,
    /// The message is for certain subscribers only, and the node speaks plain 2.x frames, which cannot
    /// say so. Retry at another node.
    NotAddressable,
    /// No node is connected: the message went nowhere. Retry when connected.
    NotConnected,
    /// The node is shutting down: the message went nowhere. Retry at another node.
    Draining,
    /// The connection broke after the message was sent: whether it arrived is not known.
    ConnectionLost,
    /// Nobody subscribed, or no way to those who did.
    NoPath,
    /// Reached the subscriber's node, but no subscriber could be handed it.
    NotHanded,
    /// The subscriber answered with an error of its own.
    Refused,
    /// No answer in time: whether it was handled is not known.
    TimedOut,
    /// On a private topic: the message could not be encrypted, or the answer is not one that the
    /// subscriber encrypted for it. In the second case the message was handled by somebody.
    Unreadable,
    /// Bandwidth or quota is used up. Retry after [`retry_after`](RequestError::retry_after).
    Limited,
}

/// What both errors of sending hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    kind: ErrorKind,
    status: Status,
    cause: Cause,
    retry_after: Option<Duration>,
    retry: Retry,
    hop: Option<Box<Hop>>,
    /// A report on each recipient of a multicast, as it came.
    report: Bytes,
    detail: Option<Detail>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Detail {
    Topic(topic::ParseError),
    Unsent(SendError),
    Unsealed(ContentError),
    Private,
}

impl Failure {
    pub(crate) fn not_connected() -> Self {
        Self::new(ErrorKind::NotConnected, Cause::NotConnected)
    }

    pub(crate) fn draining() -> Self {
        Self::new(ErrorKind::Draining, Cause::Draining)
    }

    pub(crate) fn lost() -> Self {
        Self::new(ErrorKind::ConnectionLost, Cause::OutcomeLost)
    }

    /// A message to a private topic by another way than its handle.
    pub(crate) fn private() -> Self {
        let failure = Self::new(ErrorKind::Topic, Cause::ReservedTopic);
        Self { detail: Some(Detail::Private), ..failure }
    }

    /// A message that could not be encrypted.
    pub(crate) fn unsealed(error: ContentError) -> Self {
        let failure = Self::new(ErrorKind::Unreadable, Cause::NotConnected);
        Self { detail: Some(Detail::Unsealed(error)), ..failure }
    }

    /// An answer that cannot be read.
    pub(crate) fn unreadable(error: ContentError) -> Self {
        let failure = Self::new(ErrorKind::Unreadable, Cause::SubscriberRefused);
        Self { detail: Some(Detail::Unsealed(error)), ..failure }
    }

    pub(crate) fn ended(ended: &Ended) -> Self {
        let kind = match (ended.status, ended.cause) {
            (_, Cause::BadTopic | Cause::ReservedTopic) => ErrorKind::Topic,
            (_, Cause::SubscriberRefused) => ErrorKind::Refused,
            (Status::NoNode, _) => ErrorKind::Draining,
            (Status::Success | Status::NoPath, _) => ErrorKind::NoPath,
            (Status::NotHanded, _) => ErrorKind::NotHanded,
            (Status::TimedOut, _) => ErrorKind::TimedOut,
            (Status::Refused, _) => ErrorKind::Limited,
        };
        let Ended { status, cause, retry_after, retry, ref hop, ref payload } = *ended;
        Self {
            kind,
            status,
            cause,
            retry_after,
            retry,
            hop: hop.clone(),
            report: payload.clone(),
            detail: None,
        }
    }

    fn new(kind: ErrorKind, cause: Cause) -> Self {
        let (retry, report) = (cause.retry(), Bytes::new());
        Self {
            kind,
            status: cause.status(),
            cause,
            retry_after: None,
            retry,
            hop: None,
            report,
            detail: None,
        }
    }
}

impl From<topic::ParseError> for Failure {
    fn from(error: topic::ParseError) -> Self {
        let failure = Self::new(ErrorKind::Topic, Cause::BadTopic);
        Self { detail: Some(Detail::Topic(error)), ..failure }
    }
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        // It reached no node: the code for that, though nobody is missing.
        let kind = match error {
            SendError::TooLarge(_) => ErrorKind::TooLarge,
            _ => ErrorKind::NotAddressable,
        };
        Self { detail: Some(Detail::Unsent(error)), ..Self::new(kind, Cause::NotConnected) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.status.code();
        match (&self.detail, self.kind, self.cause) {
            (Some(Detail::Topic(error)), ..) => write!(f, "{error}"),
            (Some(Detail::Unsent(error)), ..) => write!(f, "{error}"),
            (Some(Detail::Unsealed(error)), ..) => write!(f, "{error}"),
            (Some(Detail::Private), ..) => {
                write!(f, "the topic is private: publish it through Client::private_topic, with keys")
            }
            (None, ErrorKind::ConnectionLost, _) => {
                write!(f, "the connection broke before the outcome came; the message may have arrived")
            }
            (None, _, Cause::Unspecified) => write!(f, "{} (code {code})", plain(self.status)),
            (None, _, cause) => write!(f, "{cause} (code {code})"),
        }?;
        match &self.hop {
            Some(hop) => write!(f, ", at node {}", At(hop)),
            None => Ok(()),
        }
    }
}

/// A node for people: `bank-b/node-2`, or its id if nothing else is known.
struct At<'a>(&'a Hop);

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Hop { node, name, institution } = self.0;
        // Names come from certificates; nobody's terminal is to be changed by one.
        let plain = |text: &str| text.chars().filter(|c| !c.is_control()).collect::<String>();
        match (&**institution, &**name) {
            (_, "") => write!(f, "{node}"),
            ("", name) => f.write_str(&plain(name)),
            (institution, name) => write!(f, "{}/{}", plain(institution), plain(name)),
        }
    }
}

/// What a code says when the node gave no cause.
fn plain(status: Status) -> &'static str {
    match status {
        Status::Success => "delivered",
        Status::NoNode => "the message did not reach any node",
        Status::NoPath => "no path to a node that can take the message; is anybody subscribed?",
        Status::NotHanded => "no subscriber could be handed the message",
        Status::TimedOut => "no answer in time",
        Status::Refused => "refused for bandwidth or quota; send less, or later",
    }
}

macro_rules! send_error {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name(pub(crate) Failure);

        impl $name {
            /// What to match on.
            pub fn kind(&self) -> ErrorKind {
                self.0.kind
            }

            /// The documented code: 99 to 103.
            pub fn code(&self) -> i32 {
                self.0.status.code()
            }

            /// Why, as closely as the node said.
            pub fn cause(&self) -> Cause {
                self.0.cause
            }

            /// With [`ErrorKind::Limited`]: when to try again, if the node said so.
            pub fn retry_after(&self) -> Option<Duration> {
                self.0.retry_after
            }

            /// Whether to send it again; as the node said, or as the cause has it.
            pub fn retry(&self) -> Retry {
                self.0.retry
            }

            /// Where it failed: the node that found out. `None` if it failed in this client, or the
            /// node speaks plain 2.x frames.
            pub fn hop(&self) -> Option<&Hop> {
                self.0.hop.as_deref()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::error::Error for $name {}

        impl From<Failure> for $name {
            fn from(failure: Failure) -> Self {
                Self(failure)
            }
        }
    };
}

send_error! {
    /// A message was handed to nobody, or it is not known whether it was.
    PublishError
}

send_error! {
    /// A request brought no answer.
    RequestError
}

impl PublishError {
    /// How each recipient fared, if [`PublishOptions::report`](crate::PublishOptions::report) asked
    /// for it and the node told.
    pub fn recipients(&self) -> Recipients {
        Recipients::decode(self.0.report.clone()).unwrap_or_default()
    }
}
