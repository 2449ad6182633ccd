//! The subscriber's end: proves that it holds the key, and opens what it is sent.

use std::{collections::VecDeque, fmt};

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

/// Exchanges that are remembered, for the grants to come; beyond, one without a grant is forgotten, or
/// the one that was used the longest ago.
const MAX_EXCHANGES: usize = 1_024;
/// Of one publisher at one node among them.
const MAX_OF_PUBLISHER: usize = 64;
/// Content keys of one publisher: that in force, and two before it whose messages may be under way.
const MAX_OF_KEYS: usize = 3;
/// Content keys of all.
const MAX_KEYS: usize = 1_024;

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
    openers: VecDeque<(Fingerprint, Opener)>,
}

/// What a message says.
#[derive(Debug)]
pub(crate) enum Unsealed {
    /// It was not encrypted.
    Plain,
    /// What was encrypted, and what encrypts its answer.
    Opened(Bytes, Reply),
}

impl Unsealed {
    /// Puts what the message says in its place; gives what encrypts its answer.
    pub(crate) fn put(self, message: &mut Deliver) -> Option<Reply> {
        match self {
            Self::Plain => None,
            Self::Opened(payload, seal) => {
                message.payload = payload;
                Some(seal)
            }
        }
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
                let publisher = publisher.ok_or(Unproved::Nameless)?;
                self.state.lock().take(&grant, &publisher)?;
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
        let mut state = self.state.lock();
        let theirs = |whose: &Fingerprint| Some(*whose) == publisher;
        let keyed = state.openers.iter().any(|(whose, _)| theirs(whose));
        let fits =
            |(whose, opener): &&mut (Fingerprint, Opener)| theirs(whose) && opener.opens(&message.payload);
        let Some((publisher, opener)) = state.openers.iter_mut().find(fits) else {
            return match (self.compatibility.allows_2x(), is_sealed(&message.payload)) {
                (true, sealed) if !(sealed && keyed) => Ok(Unsealed::Plain),
                (_, true) => Err(ContentError::UnknownKey),
                (_, false) => Err(ContentError::Malformed),
            };
        };
        let unicast = message.mode == Mode::Unicast;
        let scope = Scope { topic: self.topic.as_str(), unicast, publisher: *publisher };
        let (payload, reply) = opener.open(&message.payload, scope)?;
        Ok(Unsealed::Opened(payload.into(), reply))
    }
}

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Holder").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl State {
    fn remember(&mut self, proving: Proving) {
        let publisher = proving.publisher().clone();
        self.make_room(MAX_OF_PUBLISHER, |other| *other.publisher() == publisher);
        self.make_room(MAX_EXCHANGES, |_| true);
        self.exchanges.push_back(proving);
    }

    /// Forgets one of these exchanges if there are so many.
    fn make_room(&mut self, most: usize, concerned: impl Fn(&Proving) -> bool) {
        if self.exchanges.iter().filter(|other| concerned(other)).count() < most {
            return;
        }
        let useless = self.exchanges.iter().position(|other| concerned(other) && !other.was_granted());
        let oldest = useless.or_else(|| self.exchanges.iter().position(concerned));
        oldest.and_then(|at| self.exchanges.remove(at));
    }

    /// Takes a content key from the publisher to which the exchange was a proof.
    fn take(&mut self, grant: &Step, publisher: &Party) -> Result<(), StepError> {
        let fits = |exchange: &Proving| exchange.is_for(grant) && exchange.publisher() == publisher;
        let at = self.exchanges.iter().rposition(fits).ok_or(StepError::Unexpected)?;
        let mut exchange = self.exchanges.remove(at).ok_or(StepError::Unexpected)?;
        let opened = exchange.open(grant);
        self.exchanges.push_back(exchange);
        self.add(publisher.client, opened?)
    }

    fn add(&mut self, publisher: Fingerprint, mut opener: Opener) -> Result<(), StepError> {
        let theirs = |(whose, _): &(Fingerprint, Opener)| *whose == publisher;
        let mut same = None;
        for (at, former) in self.openers.iter_mut().enumerate().filter(|(_, former)| theirs(former)) {
            // What was opened under the same key stays opened.
            if opener.inherit(&mut former.1)? {
                same = Some(at);
            }
        }
        let enough = self.openers.iter().filter(|former| theirs(former)).count() >= MAX_OF_KEYS;
        let full = (self.openers.len() >= MAX_KEYS).then_some(0);
        let oldest = if enough { self.openers.iter().position(theirs) } else { full };
        same.or(oldest).and_then(|at| self.openers.remove(at));
        self.openers.push_back((publisher, opener));
        Ok(())
    }
}
