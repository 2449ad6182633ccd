//! The publisher's end: who has proved what, and under which key messages go out.
//!
//! **Invariant**: the content key in force was given to nobody whose key is not on the list.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use amop_auth::{
    PublicKey,
    challenge::{Accept, Challenge},
    content::{AnswerKey, ContentError, ContentKey, MAX_MESSAGES, Scope},
    exchange::{Offered, Step, StepError, Trusted},
};
use amop_protocol::{Fingerprint, NodeId, Topic, broker::event::Mode, session::verification::Inquiry};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};

use super::{Compatibility, answers::Answers, unix_millis};

/// Keys that one topic may name.
pub(crate) const MAX_KEYS: usize = 1_024;
/// Subscribers that are remembered; beyond, the oldest is taken back.
const MAX_SUBSCRIBERS: usize = 10_000;
/// How long a subscriber has for one step.
pub(crate) const STEP: Duration = Duration::from_secs(5);
/// How often a subscriber of 2.x is challenged again while messages that it could not read are under way.
const ROUNDS: u8 = 16;
/// How often a subscriber that does not take another key is given it again before it is taken back.
const GRANT_TRIES: u8 = 3;
/// How long one content key is used.
const KEY_LIFE: Duration = Duration::from_secs(3_600);

/// A topic that this client publishes, with those that may receive it.
pub(crate) struct Publisher {
    topic: Topic,
    publisher: Fingerprint,
    compatibility: Compatibility,
    max_subscribers: usize,
    state: Mutex<State>,
    /// Whether all subscribers have the content key in force; until they do nothing goes out.
    pub(crate) ready: watch::Sender<bool>,
    /// How often a subscriber has been verified.
    pub(crate) verified: watch::Sender<u64>,
}

struct State {
    keys: Vec<PublicKey>,
    content: Arc<ContentKey>,
    made: Instant,
    subscribers: BTreeMap<u64, Subscriber>,
    next: u64,
    answers: Answers,
    /// Every encrypted message whose outcome is not known holds one.
    encrypted: Arc<()>,
    /// Forgotten for want of room; the nodes are yet to be told.
    evicted: Vec<(u64, Inquiry)>,
    /// Until then nothing is encrypted: a subscriber of 2.x has signed and is about to be trusted.
    plain_until: Option<Instant>,
}

/// A session that was verified, on the question that it was asked about.
struct Subscriber {
    home: u64,
    inquiry: Inquiry,
    proof: Proof,
}

#[derive(Clone)]
enum Proof {
    Version2(Box<Trusted>),
    /// The signature said which key, and nothing else.
    Plain2x(PublicKey),
}

/// How far the exchange with one subscriber has come.
pub(crate) enum Stage {
    Offered(Offered),
    Challenged { text: String, rounds: u8 },
    Granting(Box<Grant>),
}

/// A content key is on its way to a subscriber.
pub(crate) struct Grant {
    trusted: Trusted,
    content: Arc<ContentKey>,
    /// The subscriber, if it has been verified before.
    known: Option<u64>,
    /// How often, and until when, it is given again if it is not taken.
    again: (u8, Instant),
}

/// What follows.
pub(crate) enum Next {
    /// This goes to the subscriber.
    Send(Stage, Bytes),
    /// This is what the node is to be told.
    Decide(bool),
    /// Nothing: the node asks again.
    Leave,
}

/// A message as it goes out, and what is needed to read its answer.
pub(crate) struct Sealed {
    pub(crate) payload: Bytes,
    pub(crate) content: Option<Arc<ContentKey>>,
    /// Nobody is trusted meanwhile that could not read it.
    pub(crate) _under_way: Option<Arc<()>>,
}

/// What a change of the keys asks for.
#[derive(Default)]
pub(crate) struct Change {
    /// No longer trusted: their homes and questions.
    pub(crate) revoked: Vec<(u64, Inquiry)>,
    /// To be given the new content key.
    pub(crate) grants: Vec<(u64, Inquiry, Stage, Bytes)>,
}

impl Proof {
    fn key(&self) -> PublicKey {
        match self {
            Self::Version2(trusted) => trusted.key(),
            Self::Plain2x(key) => *key,
        }
    }
}

impl Publisher {
    /// # Errors
    /// When the system gives no randomness.
    pub(crate) fn new(
        topic: Topic,
        publisher: Fingerprint,
        keys: Vec<PublicKey>,
        compatibility: Compatibility,
    ) -> Result<Self, ContentError> {
        let state = State {
            keys,
            content: Arc::new(ContentKey::generate()?),
            made: Instant::now(),
            subscribers: BTreeMap::new(),
            next: 0,
            answers: Answers::default(),
            encrypted: Arc::default(),
            evicted: Vec::new(),
            plain_until: None,
        };
        let (ready, verified) = (watch::Sender::new(true), watch::Sender::new(0));
        let state = Mutex::new(state);
        Ok(Self { topic, publisher, compatibility, max_subscribers: MAX_SUBSCRIBERS, state, ready, verified })
    }

    /// With room for so many subscribers.
    #[cfg(test)]
    pub(super) fn with_room(self, max_subscribers: usize) -> Self {
        Self { max_subscribers, ..self }
    }

    pub(crate) fn topic(&self) -> &Topic {
        &self.topic
    }

    pub(crate) fn keys(&self) -> Vec<PublicKey> {
        self.state.lock().keys.clone()
    }

    /// Whether messages are encrypted now: they are unless 2.x is allowed and spoken by a subscriber.
    pub(crate) fn encrypts(&self) -> bool {
        self.encrypts_in(&self.state.lock())
    }

    fn encrypts_in(&self, state: &State) -> bool {
        !self.compatibility.allows_2x() || state.encrypts()
    }

    /// Whether it is time for another content key.
    pub(crate) fn is_stale(&self) -> bool {
        let state = self.state.lock();
        state.made.elapsed() >= KEY_LIFE || state.content.used() >= MAX_MESSAGES / 2
    }

    /// Begins the exchange with a subscriber. `node` is this client's node, if it is known.
    pub(crate) fn begin(&self, node: Option<NodeId>) -> Next {
        let expires = unix_millis() + u64::try_from(STEP.as_millis()).unwrap_or(u64::MAX);
        match Offered::new(self.topic.clone(), self.publisher, node, expires) {
            Ok(offered) => {
                let payload = offered.to_payload();
                Next::Send(Stage::Offered(offered), payload)
            }
            Err(error) => {
                tracing::error!(%error, "a subscriber of a private topic cannot be verified");
                Next::Leave
            }
        }
    }

    /// The subscriber has answered, or, with `None`, has not.
    pub(crate) fn advance(&self, home: u64, inquiry: &Inquiry, stage: Stage, answer: Option<&Bytes>) -> Next {
        match (stage, answer) {
            (Stage::Offered(offered), Some(answer)) => self.proved(&offered, answer),
            (Stage::Challenged { text, rounds }, Some(answer)) => {
                self.signed(home, inquiry, &text, rounds, answer)
            }
            (Stage::Granting(grant), answer) => {
                let taken = answer.is_some_and(Step::is_granted);
                self.granted(home, inquiry, grant, taken)
            }
            (_, None) => Next::Leave,
        }
    }

    fn proved(&self, offered: &Offered, answer: &Bytes) -> Next {
        let keys = self.keys();
        match offered.verify(unix_millis(), answer, &keys) {
            Ok(trusted) => self.grant(trusted, None, (0, Instant::now())),
            Err(StepError::NotVersion2) if self.compatibility.allows_2x() => challenge_2x(ROUNDS),
            // It may do better when the node asks again.
            Err(StepError::Expired) => Next::Leave,
            Err(error) => {
                tracing::warn!(topic = %self.topic, %error, "a subscriber is not verified");
                Next::Decide(false)
            }
        }
    }

    fn signed(&self, home: u64, inquiry: &Inquiry, text: &str, rounds: u8, answer: &Bytes) -> Next {
        let keys = self.keys();
        let challenge = Challenge::parse(text.as_bytes(), Accept::Strict);
        let proven = challenge.ok().and_then(|challenge| challenge.verify(answer, &keys));
        let Some(proven) = proven else {
            tracing::warn!(topic = %self.topic, "a subscriber is not verified: no key that is trusted signed");
            return Next::Decide(false);
        };
        if self.turns_plain() {
            // Once it is trusted the node may give it what is encrypted and on its way already.
            return rounds.checked_sub(1).map_or(Next::Leave, challenge_2x);
        }
        tracing::warn!(topic = %self.topic, "a subscriber is verified by the handshake of 2.x: messages are not encrypted as long as it may be there");
        self.admit(home, inquiry, Proof::Plain2x(proven.key()));
        self.state.lock().plain_until = None;
        Next::Decide(true)
    }

    /// Encrypts nothing more for a while; whether encrypted messages are under way still.
    fn turns_plain(&self) -> bool {
        let mut state = self.state.lock();
        state.plain_until = Some(Instant::now() + STEP);
        Arc::strong_count(&state.encrypted) > 1
    }

    /// Gives the content key in force; if that is not taken, so many times more, until then.
    fn grant(&self, trusted: Trusted, known: Option<u64>, again: (u8, Instant)) -> Next {
        let mut state = self.state.lock();
        let content = state.content.clone();
        match trusted.grant(&content) {
            Ok((payload, answers)) => {
                // It answers as soon as it has the key, perhaps before it has said so.
                state.answers.add(content.clone(), answers);
                let grant = Box::new(Grant { trusted, content, known, again });
                Next::Send(Stage::Granting(grant), payload)
            }
            Err(error) => {
                tracing::warn!(topic = %self.topic, %error, "a subscriber cannot be given the key");
                Next::Decide(false)
            }
        }
    }

    fn granted(&self, home: u64, inquiry: &Inquiry, grant: Box<Grant>, taken: bool) -> Next {
        let Grant { trusted, content, known, again } = *grant;
        let mut state = self.state.lock();
        let trusts = state.keys.contains(&trusted.key());
        let (tries, until) = again;
        if !taken && trusts && tries > 0 && Instant::now() < until {
            drop(state);
            return self.grant(trusted, known, (tries - 1, until));
        }
        if !taken || !trusts {
            // One that has left, or cannot read what will come, is taken back; a new one that did not
            // answer is asked again.
            let forgotten = known.and_then(|number| state.subscribers.remove(&number));
            return if trusts && forgotten.is_none() { Next::Leave } else { Next::Decide(false) };
        }
        if !Arc::ptr_eq(&content, &state.content) {
            // Another key has come into force meanwhile.
            drop(state);
            return self.grant(trusted, known, again);
        }
        if known.is_some() {
            return Next::Leave;
        }
        drop(state);
        self.admit(home, inquiry, Proof::Version2(Box::new(trusted)));
        Next::Decide(true)
    }

    fn admit(&self, home: u64, inquiry: &Inquiry, proof: Proof) {
        let mut state = self.state.lock();
        if state.subscribers.len() >= self.max_subscribers {
            let oldest = state.subscribers.pop_first();
            state.evicted.extend(oldest.map(|(_, Subscriber { home, inquiry, .. })| (home, inquiry)));
        }
        let number = state.next;
        state.next += 1;
        state.subscribers.insert(number, Subscriber { home, inquiry: inquiry.clone(), proof });
    }

    /// Subscribers that are to be taken back because there are too many, with their homes.
    pub(crate) fn take_evicted(&self) -> Vec<(u64, Inquiry)> {
        std::mem::take(&mut self.state.lock().evicted)
    }

    /// The node has been told; what is sent from now on reaches the subscriber.
    pub(crate) fn announce(&self) {
        self.verified.send_modify(|count| *count += 1);
    }

    /// A connection is gone, and with it whatever its node was told.
    pub(crate) fn handle_lost(&self, home: u64) {
        self.state.lock().subscribers.retain(|_, subscriber| subscriber.home != home);
    }

    /// From now on these keys count, and another content key, which all remaining subscribers are
    /// to be given.
    ///
    /// # Errors
    /// When the system gives no randomness; nothing is changed then.
    pub(crate) fn change(&self, keys: Vec<PublicKey>) -> Result<Change, ContentError> {
        let content = Arc::new(ContentKey::generate()?);
        let mut state = self.state.lock();
        self.ready.send_replace(false);
        (state.content, state.made, state.keys) = (content, Instant::now(), keys);
        let mut change = Change::default();
        let State { subscribers, keys, .. } = &mut *state;
        let revoked = subscribers.extract_if(.., |_, subscriber| !keys.contains(&subscriber.proof.key()));
        change.revoked = revoked.map(|(_, Subscriber { home, inquiry, .. })| (home, inquiry)).collect();
        let remaining = subscribers.iter().filter_map(|(number, subscriber)| match &subscriber.proof {
            Proof::Version2(trusted) => {
                Some((*number, subscriber.home, subscriber.inquiry.clone(), Trusted::clone(trusted)))
            }
            Proof::Plain2x(_) => None,
        });
        let remaining: Vec<_> = remaining.collect();
        drop(state);
        let again = (GRANT_TRIES, Instant::now() + STEP);
        for (number, home, inquiry, trusted) in remaining {
            if let Next::Send(stage, payload) = self.grant(trusted, Some(number), again) {
                change.grants.push((home, inquiry, stage, payload));
            }
        }
        Ok(change)
    }

    /// A message as it is to go out; `None` while subscribers are being given another key.
    ///
    /// # Errors
    /// When the content key is used up.
    pub(crate) fn seal(&self, mode: Mode, payload: &Bytes) -> Result<Option<Sealed>, ContentError> {
        let state = self.state.lock();
        if !*self.ready.borrow() {
            return Ok(None);
        }
        if !self.encrypts_in(&state) {
            return Ok(Some(Sealed { payload: payload.clone(), content: None, _under_way: None }));
        }
        let (content, under_way) = (state.content.clone(), Some(state.encrypted.clone()));
        drop(state);
        let unicast = mode == Mode::Unicast;
        let scope = Scope { topic: self.topic.as_str(), unicast, publisher: self.publisher };
        let payload = content.seal(payload, scope)?.into();
        Ok(Some(Sealed { payload, content: Some(content), _under_way: under_way }))
    }

    /// Reads the answer to a message.
    ///
    /// # Errors
    /// When it was not encrypted for this message by a subscriber that was verified.
    pub(crate) fn open(&self, sealed: &Sealed, answer: Bytes) -> Result<Bytes, ContentError> {
        let Some(content) = &sealed.content else { return Ok(answer) };
        let pair = AnswerKey::pair_of(&answer)?;
        let answers = self.state.lock().answers.of(content, &pair).ok_or(ContentError::UnknownKey)?;
        Ok(answers.open(&answer, &sealed.payload, content)?.into())
    }
}

impl State {
    fn encrypts(&self) -> bool {
        let plain = |subscriber: &Subscriber| matches!(subscriber.proof, Proof::Plain2x(_));
        !self.subscribers.values().any(plain) && self.plain_until.is_none_or(|end| end <= Instant::now())
    }
}

/// The challenge of 2.x, as the Java SDK makes it.
fn challenge_2x(rounds: u8) -> Next {
    let text = Challenge::text(rand::random());
    let payload = Bytes::from(text.clone());
    Next::Send(Stage::Challenged { text, rounds }, payload)
}
