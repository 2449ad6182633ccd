//! Mistakes put in on purpose, to see whether the simulation catches them.
//!
//! Without the feature `mutations`, which only this crate's own tests ask for, the switch is a
//! constant and no mistake is compiled.

/// A mistake that systems of this kind have made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// A unicast whose candidate failed goes to the same candidate again.
    RetryPicksTheFailed,
    /// That another node has no subscriber any more ends the send.
    NoSubscriberIsFinal,
    /// A list of a restarted node is compared with that of its earlier start by sequence alone.
    SequenceWithoutEpoch,
    /// A multicast that nobody was handed is a success.
    MulticastWithoutRecipient,
    /// The same message through two nodes is two messages.
    TwiceThroughTwoNodes,
    /// Once "handed" was said nobody asks again for the answer, which a relay may have swallowed.
    LostAnswerStaysLost,
    /// A report on a send of an earlier start counts for the one that has its number now.
    ReusedIdTakesLateAnswer,
    /// An application that is connected to several nodes does not know a message again.
    SubscriberForgets,
    /// A publisher that is connected to several nodes is handed its own message at another one.
    PublisherIsRecipientElsewhere,
    /// A verdict on a subscriber of a private topic counts from whichever session it comes.
    VerdictFromAnybody,
    /// Where one subscriber of a private topic is verified, its node gives messages to all that have it.
    NodeIsVerified,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::RetryPicksTheFailed,
        Self::NoSubscriberIsFinal,
        Self::SequenceWithoutEpoch,
        Self::MulticastWithoutRecipient,
        Self::TwiceThroughTwoNodes,
        Self::LostAnswerStaysLost,
        Self::ReusedIdTakesLateAnswer,
        Self::SubscriberForgets,
        Self::PublisherIsRecipientElsewhere,
        Self::VerdictFromAnybody,
        Self::NodeIsVerified,
    ];

    /// Whether it concerns private topics only.
    pub fn is_private(self) -> bool {
        matches!(self, Self::VerdictFromAnybody | Self::NodeIsVerified)
    }
}

/// Whether this mistake is to be made.
#[cfg(not(feature = "mutations"))]
pub(crate) const fn on(_: Mutation) -> bool {
    false
}

#[cfg(feature = "mutations")]
pub(crate) use switch::on;
#[cfg(feature = "mutations")]
pub use switch::with;

#[cfg(feature = "mutations")]
mod switch {
    use std::cell::Cell;

    use super::Mutation;

    thread_local! {
        static ON: Cell<Option<Mutation>> = const { Cell::new(None) };
    }

    pub(crate) fn on(mutation: Mutation) -> bool {
        ON.get() == Some(mutation)
    }

    /// Runs something on this thread with a mistake in the core, or with none.
    pub fn with<T>(mutation: Option<Mutation>, run: impl FnOnce() -> T) -> T {
        let before = ON.replace(mutation);
        let result = run();
        ON.set(before);
        result
    }
}
