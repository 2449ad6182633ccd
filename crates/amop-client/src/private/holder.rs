//! The subscriber's end: proves that it holds the key, and opens what it is sent.

use std::{collections::VecDeque, fmt, sync::Arc};

use amop_auth::{
    Party, PrivateKey,
    challenge::{Accept, Challenge, ChallengeError},
    content::{ContentError, Opener, Reply, Scope, is_sealed},
    exchange::{Proving, Step, StepError},
};
use amop_protocol::{Fingerprint, Topic, broker::event::Mode, session::client::Deliver};
use bytes::Bytes;
use parking_lot::Mutex;

use super::Compatibility;

/// Exchanges that are remembered, for the grants to come; beyond, the oldest is forgotten.
const MAX_EXCHANGES: usize = 256;
/// Of one publisher among them.
const MAX_OF_PUBLISHER: usize = 16;
/// Content keys; beyond, the oldest is forgotten.
const MAX_KEYS: usize = 256;

/// Why a proof was not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unproved {
    #[error("the publisher knows the handshake of 2.x only, which this subscription does not allow")]
    NotVersion2,
    #[error("the node does not say who asks, so a proof would be for anybody")]
    Nameless,
    #[error(transparent)]
    Challenge(#[from] ChallengeError),
    #[error(transparent)]
    Step(#[from] StepError),
}

/// A private topic that this client may receive.
pub(crate) struct Holder {
    topic: Topic,
    key: PrivateKey,
    compatibility: Compatibility,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    exchanges: VecDeque<Proving>,
    /// Each with whose messages it opens, oldest first.
    openers: VecDeque<(Fingerprint, Arc<Mutex<Opener>>)>,
}

/// What a message says.
#[derive(Debug)]
pub(crate) enum Unsealed {
    /// It was not encrypted.
    Plain,
    /// What was encrypted, and what encrypts its answer.
    Opened(Bytes, AnswerSeal),
}

impl Unsealed {
    /// Puts what the message says in its place; gives what encrypts its answer.
    pub(crate) fn put(self, message: &mut Deliver) -> Option<AnswerSeal> {
        match self {
            Self::Plain => None,
            Self::Opened(payload, seal) => {
                message.payload = payload;
                Some(seal)
            }
        }
    }
}

/// Encrypts the answer to one message.
pub(crate) struct AnswerSeal {
    opener: Arc<Mutex<Opener>>,
    reply: Reply,
}

impl AnswerSeal {
    pub(crate) fn seal(self, answer: &[u8]) -> Bytes {
        self.opener.lock().seal_answer(self.reply, answer).into()
    }
}

impl fmt::Debug for AnswerSeal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnswerSeal")
    }
}

impl Holder {
    pub(crate) fn new(topic: Topic, key: PrivateKey, compatibility: Compatibility) -> Self {
        Self { topic, key, compatibility, state: Mutex::default() }
    }

    pub(crate) fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Whether a subscription with these would be the same.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.key.public() == other.key.public() && self.compatibility == other.compatibility
    }

    /// What to answer to what came over the verify channel. `publisher` is who sent it, as far as the
    /// node says; `subscriber` this client.
    pub(crate) fn prove(
        &self,
        payload: &Bytes,
        publisher: Option<Party>,
        subscriber: Party,
    ) -> Result<Bytes, Unproved> {
        match Step::decode(payload) {
            Ok(step) if step.is_offer() => {
                let publisher = publisher.ok_or(Unproved::Nameless)?;
                let topic = self.topic.clone();
                let (proving, proof) = Proving::answer(&step, topic, publisher, subscriber, &self.key)?;
                self.state.lock().remember(proving);
                Ok(proof)
            }
            Ok(grant) => {
                self.state.lock().take(&grant)?;
                Ok(Step::granted())
            }
            Err(StepError::NotVersion2) => self.prove_2x(payload),
            Err(error) => Err(error.into()),
        }
    }

    fn prove_2x(&self, payload: &Bytes) -> Result<Bytes, Unproved> {
        let accept = match self.compatibility {
            Compatibility::Version2 => return Err(Unproved::NotVersion2),
            Compatibility::Strict => Accept::Strict,
            Compatibility::All => Accept::All,
        };
        let challenge = Challenge::parse(payload, accept)?;
        tracing::warn!(topic = %self.topic, "proved by the handshake of 2.x; what comes is not encrypted");
        Ok(Bytes::copy_from_slice(&challenge.sign(&self.key)))
    }

    /// Opens a message on the topic.
    ///
    /// # Errors
    /// When it was not encrypted for this subscriber, unless 2.x is allowed and it was not encrypted
    /// at all.
    pub(crate) fn unseal(&self, message: &Deliver) -> Result<Unsealed, ContentError> {
        let publisher = message.sender.as_ref().map(|sender| sender.client.fingerprint);
        let state = self.state.lock();
        let mut theirs = state.openers.iter().filter(|(whose, _)| Some(*whose) == publisher);
        let keyed = theirs.clone().next().is_some();
        let opener = theirs.find(|(_, opener)| opener.lock().opens(&message.payload));
        let Some((publisher, opener)) = opener else {
            return match (self.compatibility.allows_2x(), is_sealed(&message.payload)) {
                (true, sealed) if !(sealed && keyed) => Ok(Unsealed::Plain),
                (_, true) => Err(ContentError::UnknownKey),
                (_, false) => Err(ContentError::Malformed),
            };
        };
        let unicast = message.mode == Mode::Unicast;
        let scope = Scope { topic: self.topic.as_str(), unicast, publisher: *publisher };
        let (payload, reply) = opener.lock().open(&message.payload, scope)?;
        Ok(Unsealed::Opened(payload.into(), AnswerSeal { opener: opener.clone(), reply }))
    }
}

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Holder").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl State {
    fn remember(&mut self, proving: Proving) {
        let publisher = proving.publisher().client;
        let theirs = |other: &Proving| other.publisher().client == publisher;
        if self.exchanges.iter().filter(|other| theirs(other)).count() >= MAX_OF_PUBLISHER {
            let oldest = self.exchanges.iter().position(theirs);
            oldest.and_then(|at| self.exchanges.remove(at));
        }
        if self.exchanges.len() >= MAX_EXCHANGES {
            self.exchanges.pop_front();
        }
        self.exchanges.push_back(proving);
    }

    fn take(&mut self, grant: &Step) -> Result<(), StepError> {
        let exchange = self.exchanges.iter().rev().find(|exchange| exchange.is_for(grant));
        let exchange = exchange.ok_or(StepError::Unexpected)?;
        let (publisher, mut opener) = (exchange.publisher().client, exchange.open(grant)?);
        // What was opened under the same key stays opened. Another publisher's key is never the same.
        self.openers.retain(|(whose, former)| *whose != publisher || !opener.inherit(&mut former.lock()));
        if self.openers.len() >= MAX_KEYS {
            self.openers.pop_front();
        }
        self.openers.push_back((publisher, Arc::new(Mutex::new(opener))));
        Ok(())
    }
}
