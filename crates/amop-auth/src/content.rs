//! End-to-end encryption of private topics, version 2.
//!
//! A publisher has one [`ContentKey`] for a topic at a time. Each subscriber that it verified is given
//! that key once, sealed by HPKE (RFC 9180: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256,
//! ChaCha20-Poly1305) to a key of the subscriber's session, under the [`Statement`] that the subscriber
//! signed. Messages are then encrypted once, whoever they go to. Answers are encrypted under a secret
//! that only this publisher and that subscriber share.
//!
//! ```text
//! message   02 ‖ key id (16) ‖ counter (8) ‖ ciphertext ‖ tag (16)
//! answer    02 ‖ pair id (8) ‖ counter (8) ‖ ciphertext ‖ tag (16)
//! ```

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use amop_protocol::Fingerprint;
use hpke::{
    Deserializable, Kem, OpModeR, OpModeS, Serializable, aead::ChaCha20Poly1305, kdf::HkdfSha256,
    kem::X25519HkdfSha256, setup_receiver, setup_sender_with_rng,
};
use rand::{SeedableRng, rngs::StdRng};
use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom, SystemRandom},
};
use zeroize::Zeroizing;

use crate::{Proven, Statement};

/// Bytes of the public key a content key is sealed to.
pub const SEALING_KEY_BYTES: usize = 32;
/// Bytes that encryption adds to a message.
pub const MESSAGE_OVERHEAD: usize = MESSAGE_HEAD + TAG_BYTES;
/// Bytes that encryption adds to an answer.
pub const ANSWER_OVERHEAD: usize = ANSWER_HEAD + TAG_BYTES;
/// Messages under one key, after which its publisher makes another.
pub const MAX_MESSAGES: u64 = 1 << 32;

const VERSION: u8 = 2;
const KEY_ID_BYTES: usize = 16;
const PAIR_ID_BYTES: usize = 8;
const MESSAGE_HEAD: usize = 1 + KEY_ID_BYTES + 8;
const ANSWER_HEAD: usize = 1 + PAIR_ID_BYTES + 8;
const TAG_BYTES: usize = 16;
/// How far behind the highest counter a message may come: at 500 messages a second, two minutes.
const WINDOW: u64 = 65_536;

/// Why something cannot be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContentError {
    /// Not encrypted, by another version, or cut off.
    #[error("this is no encrypted message of version {VERSION}; its publisher may not encrypt")]
    Malformed,
    /// Under a key this subscriber was not given.
    #[error("the message is encrypted under a key that is not known here")]
    UnknownKey,
    /// Changed on the way, or for another topic, mode or publisher.
    #[error("the message is not genuine, or not meant for this topic")]
    NotGenuine,
    /// It was opened before, or is too old to tell.
    #[error("the message was received before")]
    Replayed,
    /// The key was used for too many messages.
    #[error("the content key is used up; make another")]
    UsedUp,
    /// No randomness.
    #[error("the system gives no randomness")]
    NoRandomness,
}

/// What a ciphertext is good for, besides its key.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// The private topic.
    pub topic: &'a str,
    /// Whether it goes to one subscriber or to all.
    pub unicast: bool,
    /// Its publisher's certificate. The node does not count: a publisher may fail over to another.
    pub publisher: Fingerprint,
}

/// The key pair to which a subscriber's session has content keys sealed.
pub struct SealingKey {
    private: <X25519HkdfSha256 as Kem>::PrivateKey,
    public: [u8; SEALING_KEY_BYTES],
}

/// A publisher's key for the messages of a topic.
pub struct ContentKey {
    id: [u8; KEY_ID_BYTES],
    secret: Zeroizing<[u8; 32]>,
    key: LessSafeKey,
    next: AtomicU64,
}

/// A content key at a subscriber.
pub struct Opener {
    id: [u8; KEY_ID_BYTES],
    /// Tells keys apart that somebody gave the same id.
    digest: [u8; 32],
    key: LessSafeKey,
    seen: Seen,
    answers: Arc<AnswerKey>,
}

/// What encrypts the answers of one subscriber to one publisher.
pub struct AnswerKey {
    pair: [u8; PAIR_ID_BYTES],
    key: LessSafeKey,
}

/// The right to answer one message, once.
pub struct Reply {
    answers: Arc<AnswerKey>,
    key_id: [u8; KEY_ID_BYTES],
    counter: u64,
}

/// Whether a payload has the form of an encrypted message. Other payloads may have it by chance.
pub fn is_sealed(payload: &[u8]) -> bool {
    parts::<KEY_ID_BYTES>(payload).is_ok()
}

impl SealingKey {
    /// A new key pair.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate() -> Result<Self, ContentError> {
        let (private, public) = X25519HkdfSha256::derive_keypair(&*random::<32>()?);
        Ok(Self { private, public: public.to_bytes().into() })
    }

    /// The half that the subscriber signs and sends.
    pub fn public(&self) -> &[u8; SEALING_KEY_BYTES] {
        &self.public
    }

    /// Takes the content key a publisher sealed after it verified `statement`.
    ///
    /// # Errors
    /// When it was not sealed to this key, under this statement.
    pub fn open(&self, sealed: &[u8], statement: &Statement) -> Result<Opener, ContentError> {
        let (encapped, sealed) = sealed.split_at_checked(SEALING_KEY_BYTES).ok_or(ContentError::Malformed)?;
        let encapped = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(encapped)
            .map_err(|_| ContentError::Malformed)?;
        let mut context = setup_receiver::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &self.private,
            &encapped,
            &statement.digest(),
        )
        .map_err(|_| ContentError::NotGenuine)?;
        let opened = Zeroizing::new(context.open(sealed, &[]).map_err(|_| ContentError::NotGenuine)?);
        let (id, secret) = opened.split_first_chunk().ok_or(ContentError::Malformed)?;
        let secret: &[u8; 32] = secret.try_into().map_err(|_| ContentError::Malformed)?;
        let answers = Arc::new(AnswerKey::export(|label, out| context.export(label, out)));
        let mut digest = [0; 32];
        digest.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, secret).as_ref());
        Ok(Opener { id: *id, digest, key: aead(secret), seen: Seen::default(), answers })
    }
}

impl ContentKey {
    /// A new key.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate() -> Result<Self, ContentError> {
        let (id, secret) = (*random()?, random()?);
        Ok(Self { id, key: aead(&secret), secret, next: AtomicU64::new(1) })
    }

    /// Seals this key to a subscriber who has proved, by `statement`, to hold a key. Gives what to
    /// send, and what will open that subscriber's answers. Costs two multiplications on X25519.
    ///
    /// # Errors
    /// When the subscriber's sealing key is none, or there is no randomness.
    pub fn seal_to(
        &self,
        statement: &Statement,
        _proven: &Proven,
    ) -> Result<(Vec<u8>, AnswerKey), ContentError> {
        let to = <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(&statement.sealing_key)
            .map_err(|_| ContentError::NotGenuine)?;
        let (encapped, mut context) =
            setup_sender_with_rng::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
                &OpModeS::Base,
                &to,
                &statement.digest(),
                &mut StdRng::from_seed(*random()?),
            )
            .map_err(|_| ContentError::NotGenuine)?;
        let content = Zeroizing::new([&self.id[..], self.secret.as_slice()].concat());
        let sealed = context.seal(&content, &[]).map_err(|_| ContentError::NotGenuine)?;
        let answers = AnswerKey::export(|label, out| context.export(label, out));
        Ok(([encapped.to_bytes().as_slice(), &sealed].concat(), answers))
    }

    /// How many messages were encrypted.
    pub fn used(&self) -> u64 {
        self.next.load(Ordering::Relaxed) - 1
    }

    /// Encrypts a message.
    ///
    /// # Errors
    /// When the key was used for [`MAX_MESSAGES`].
    pub fn seal(&self, payload: &[u8], scope: Scope<'_>) -> Result<Vec<u8>, ContentError> {
        let counter = self.next.fetch_add(1, Ordering::Relaxed);
        if counter > MAX_MESSAGES {
            return Err(ContentError::UsedUp);
        }
        Ok(seal(&self.key, &self.id, counter, payload, &scope.bytes()))
    }
}

impl Opener {
    /// Whether `message` says that it is encrypted under this key.
    pub fn opens(&self, message: &[u8]) -> bool {
        message.len() >= MESSAGE_OVERHEAD && message[0] == VERSION && message[1..][..KEY_ID_BYTES] == self.id
    }

    /// Decrypts a message, once.
    ///
    /// # Errors
    /// When it is no message under this key, not genuine for this scope, or was opened before.
    pub fn open(&mut self, message: &[u8], scope: Scope<'_>) -> Result<(Vec<u8>, Reply), ContentError> {
        let (id, counter, sealed) = parts::<KEY_ID_BYTES>(message)?;
        if id != self.id {
            return Err(ContentError::UnknownKey);
        }
        let payload = open(&self.key, counter, sealed, &scope.bytes())?;
        if !self.seen.first_time(counter) {
            return Err(ContentError::Replayed);
        }
        Ok((payload, Reply { answers: self.answers.clone(), key_id: self.id, counter }))
    }

    /// Takes over what `former` has opened, if it is of the same key; whether it is.
    ///
    /// # Errors
    /// When it is another key under the same id.
    pub fn inherit(&mut self, former: &mut Self) -> Result<bool, ContentError> {
        match (self.id == former.id, self.digest == former.digest) {
            (false, _) => Ok(false),
            (true, false) => Err(ContentError::NotGenuine),
            (true, true) => {
                self.seen = std::mem::take(&mut former.seen);
                Ok(true)
            }
        }
    }
}

impl Reply {
    /// Encrypts the answer, for the publisher of the message alone.
    pub fn seal(self, answer: &[u8]) -> Vec<u8> {
        seal(&self.answers.key, &self.answers.pair, self.counter, answer, &self.key_id)
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("counter", &self.counter).finish_non_exhaustive()
    }
}

impl AnswerKey {
    /// Which subscriber's an answer says it is: what [`AnswerKey::pair_of`] gives for it.
    pub fn pair(&self) -> [u8; PAIR_ID_BYTES] {
        self.pair
    }

    /// The pair whose key opens this answer.
    ///
    /// # Errors
    /// When it is no encrypted answer.
    pub fn pair_of(answer: &[u8]) -> Result<[u8; PAIR_ID_BYTES], ContentError> {
        parts(answer).map(|(pair, _, _)| pair)
    }

    /// Decrypts the answer to `message`, which was encrypted under `key`.
    ///
    /// # Errors
    /// When it is not genuine, or answers another message.
    pub fn open(&self, answer: &[u8], message: &[u8], key: &ContentKey) -> Result<Vec<u8>, ContentError> {
        let (pair, counter, sealed) = parts::<PAIR_ID_BYTES>(answer)?;
        let (_, asked, _) = parts::<KEY_ID_BYTES>(message)?;
        if pair != self.pair {
            return Err(ContentError::UnknownKey);
        }
        if counter != asked {
            return Err(ContentError::NotGenuine);
        }
        open(&self.key, counter, sealed, &key.id)
    }

    /// The secret that both ends of an HPKE context have beside its key.
    fn export<E>(export: impl Fn(&[u8], &mut [u8]) -> Result<(), E>) -> Self {
        let (mut secret, mut pair) = (Zeroizing::new([0; 32]), [0; PAIR_ID_BYTES]);
        let exported = export(b"amop answer key", secret.as_mut_slice()).and(export(b"amop pair", &mut pair));
        assert!(exported.is_ok(), "HPKE exports up to 64 KiB");
        Self { pair, key: aead(&secret) }
    }
}

impl Scope<'_> {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![u8::from(self.unicast)];
        bytes.extend(self.publisher.as_bytes());
        bytes.extend(self.topic.as_bytes());
        bytes
    }
}

/// The counters of the messages opened: all below a window are, within it each is one bit.
struct Seen {
    highest: u64,
    bits: Box<[u64]>,
}

impl Default for Seen {
    fn default() -> Self {
        Self { highest: 0, bits: vec![0; (WINDOW / 64) as usize].into() }
    }
}

impl Seen {
    fn first_time(&mut self, counter: u64) -> bool {
        if counter + WINDOW <= self.highest {
            return false;
        }
        for passed in self.highest + 1..=counter.min(self.highest + WINDOW) {
            // The slot of one that has left the window.
            *self.word(passed) &= !(1 << (passed % 64));
        }
        if counter > self.highest + WINDOW {
            self.bits.fill(0);
        }
        self.highest = self.highest.max(counter);
        let (word, bit) = (self.word(counter), 1 << (counter % 64));
        let first = *word & bit == 0;
        *word |= bit;
        first
    }

    fn word(&mut self, counter: u64) -> &mut u64 {
        &mut self.bits[(counter % WINDOW / 64) as usize]
    }
}

fn seal(key: &LessSafeKey, id: &[u8], counter: u64, payload: &[u8], aad: &[u8]) -> Vec<u8> {
    let head = 1 + id.len() + 8;
    let mut message = Vec::with_capacity(head + payload.len() + TAG_BYTES);
    message.push(VERSION);
    message.extend(id);
    message.extend(counter.to_be_bytes());
    message.extend(payload);
    let tag = key.seal_in_place_separate_tag(nonce(counter), Aad::from(aad), &mut message[head..]);
    let tag = tag.unwrap_or_else(|_| unreachable!("a payload of 100 MiB is far below the cipher's 256 GiB"));
    message.extend(tag.as_ref());
    message
}

fn open(key: &LessSafeKey, counter: u64, sealed: &[u8], aad: &[u8]) -> Result<Vec<u8>, ContentError> {
    let mut opened = sealed.to_vec();
    let length = key
        .open_in_place(nonce(counter), Aad::from(aad), &mut opened)
        .map_err(|_| ContentError::NotGenuine)?
        .len();
    opened.truncate(length);
    Ok(opened)
}

/// Id, counter, and what is sealed.
fn parts<const N: usize>(message: &[u8]) -> Result<([u8; N], u64, &[u8]), ContentError> {
    let (version, rest) = message.split_first().ok_or(ContentError::Malformed)?;
    let (id, rest) = rest.split_first_chunk::<N>().ok_or(ContentError::Malformed)?;
    let (counter, sealed) = rest.split_first_chunk::<8>().ok_or(ContentError::Malformed)?;
    let counter = u64::from_be_bytes(*counter);
    let whole = *version == VERSION && sealed.len() >= TAG_BYTES && (1..=MAX_MESSAGES).contains(&counter);
    if whole { Ok((*id, counter, sealed)) } else { Err(ContentError::Malformed) }
}

/// Never used twice under a key: counters only grow.
fn nonce(counter: u64) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[NONCE_LEN - 8..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

fn aead(secret: &[u8; 32]) -> LessSafeKey {
    let key = UnboundKey::new(&CHACHA20_POLY1305, secret);
    LessSafeKey::new(key.unwrap_or_else(|_| unreachable!("the cipher's keys have 32 bytes")))
}

pub(crate) fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, ContentError> {
    let mut bytes = Zeroizing::new([0; N]);
    SystemRandom::new().fill(bytes.as_mut_slice()).map_err(|_| ContentError::NoRandomness)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use amop_protocol::{NodeId, Topic};

    use super::*;
    use crate::{Party, PrivateKey};

    fn party(n: u8) -> Party {
        Party { institution: "bank".into(), node: NodeId::new([n; 32]), client: Fingerprint::new([n; 32]) }
    }

    fn scope(topic: &str) -> Scope<'_> {
        Scope { topic, unicast: true, publisher: party(1).client }
    }

    /// A subscriber with its opener, and the publisher's key for its answers.
    fn handshake(content: &ContentKey) -> (Opener, AnswerKey) {
        let (key, sealing) = (PrivateKey::generate().unwrap(), SealingKey::generate().unwrap());
        let topic = Topic::parse("t").unwrap();
        let statement = Statement {
            topic,
            publisher: party(1),
            subscriber: party(2),
            nonce: [3; 32],
            expires: 4,
            sealing_key: *sealing.public(),
        };
        let proven = statement.verify(&statement.sign(&key), &[key.public()]).unwrap();
        let (sealed, answers) = content.seal_to(&statement, &proven).unwrap();

        let other = Statement { nonce: [9; 32], ..statement.clone() };
        assert_eq!(sealing.open(&sealed, &other).err(), Some(ContentError::NotGenuine));
        let stranger = SealingKey::generate().unwrap();
        assert_eq!(stranger.open(&sealed, &statement).err(), Some(ContentError::NotGenuine));
        assert_eq!(sealing.open(&sealed[..20], &statement).err(), Some(ContentError::Malformed));
        (sealing.open(&sealed, &statement).unwrap(), answers)
    }

    #[test]
    fn every_subscriber_reads_a_message_and_only_its_publisher_the_answer() {
        let content = ContentKey::generate().unwrap();
        let (mut first, of_first) = handshake(&content);
        let (mut second, of_second) = handshake(&content);
        let message = content.seal(b"secret", scope("t")).unwrap();
        assert!(!message.windows(6).any(|window| window == b"secret"));
        assert!(first.opens(&message) && second.opens(&message));
        let (payload, reply) = first.open(&message, scope("t")).unwrap();
        assert_eq!(payload, b"secret");
        assert_eq!(second.open(&message, scope("t")).unwrap().0, b"secret");

        let answer = reply.seal(b"yes");
        assert_eq!(AnswerKey::pair_of(&answer), Ok(of_first.pair()));
        assert_eq!(of_first.open(&answer, &message, &content).as_deref(), Ok(&b"yes"[..]));
        assert_eq!(of_second.open(&answer, &message, &content), Err(ContentError::UnknownKey));
        let next = content.seal(b"", scope("t")).unwrap();
        assert_eq!(of_first.open(&answer, &next, &content), Err(ContentError::NotGenuine));
    }

    #[test]
    fn what_was_changed_or_meant_for_elsewhere_is_refused() {
        let content = ContentKey::generate().unwrap();
        let (mut opener, _) = handshake(&content);
        let message = content.seal(b"secret", scope("t")).unwrap();
        for at in 0..message.len() {
            let mut changed = message.clone();
            changed[at] ^= 1;
            assert!(opener.open(&changed, scope("t")).is_err(), "byte {at}");
        }
        let elsewhere = [
            scope("u"),
            Scope { unicast: false, ..scope("t") },
            Scope { publisher: party(7).client, ..scope("t") },
        ];
        for scope in elsewhere {
            assert_eq!(opener.open(&message, scope).err(), Some(ContentError::NotGenuine));
        }
        let (mut other, _) = handshake(&ContentKey::generate().unwrap());
        assert_eq!(other.open(&message, scope("t")).err(), Some(ContentError::UnknownKey));
        assert_eq!(opener.open(b"plain text", scope("t")).err(), Some(ContentError::Malformed));
        assert!(opener.open(&message, scope("t")).is_ok());
    }

    #[test]
    fn a_key_that_is_given_again_opens_nothing_again() {
        let content = ContentKey::generate().unwrap();
        let ((mut first, _), (mut second, _)) = (handshake(&content), handshake(&content));
        let messages = [content.seal(b"", scope("t")).unwrap(), content.seal(b"", scope("t")).unwrap()];
        assert!(first.open(&messages[0], scope("t")).is_ok());
        assert_eq!(second.inherit(&mut first), Ok(true));
        assert_eq!(second.open(&messages[0], scope("t")).err(), Some(ContentError::Replayed));
        assert!(second.open(&messages[1], scope("t")).is_ok());
        let (mut other, _) = handshake(&ContentKey::generate().unwrap());
        assert_eq!(other.inherit(&mut second), Ok(false));
        other.id = second.id;
        assert_eq!(other.inherit(&mut second), Err(ContentError::NotGenuine), "an id of somebody else");
        assert!(is_sealed(&messages[0]) && !is_sealed(b"plain text"));
    }

    #[test]
    fn a_message_is_opened_once() {
        let content = ContentKey::generate().unwrap();
        let (mut opener, _) = handshake(&content);
        let messages: Vec<_> = (0..WINDOW + 76).map(|_| content.seal(b"", scope("t")).unwrap()).collect();
        let mut open = |at: usize| opener.open(&messages[at], scope("t")).map(|_| ());
        for at in [5, 3, 4, WINDOW as usize - 1, 0] {
            assert_eq!(open(at), Ok(()), "{at}");
            assert_eq!(open(at), Err(ContentError::Replayed), "{at}");
        }
        assert_eq!(open(WINDOW as usize + 75), Ok(()));
        assert_eq!(open(1), Err(ContentError::Replayed), "too old to tell");
        assert_eq!(open(WINDOW as usize - 1), Err(ContentError::Replayed));
        assert_eq!(open(76), Ok(()));
    }
}
