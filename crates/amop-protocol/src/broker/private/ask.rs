//! A question to a publisher, and the frame that carries it.

use std::sync::Arc;

use super::{Holder, Question};
use crate::{ClientIdentity, Seq, SessionId, Topic};

/// What the publisher's session is to be asked (frame 0x37).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The publisher.
    pub publisher: SessionId,
    /// Numbers the questions of this node.
    pub number: u64,
    /// Names the question; the verdict repeats it.
    pub question: Question,
    /// The private topic.
    pub topic: Topic,
    /// The channel to challenge the subscriber over.
    pub channel: Topic,
    /// Which session would be verified.
    pub subscriber: Holder,
    /// Whose session that is, as its node tells.
    pub client: Arc<ClientIdentity>,
}

/// The upper half of every question's seq, so that none is ever taken for a push's.
const ASKED: u64 = u64::MAX;

impl Ask {
    /// The seq of the frame that carries it.
    pub fn to_seq(&self) -> Seq {
        Seq::from_u128(u128::from(ASKED) << 64 | u128::from(self.number))
    }

    /// Whether a frame with this seq can be the acknowledgement of a question.
    pub fn is_seq(seq: Seq) -> bool {
        seq.to_u128().is_some_and(|value| value >> 64 == u128::from(ASKED))
    }
}
