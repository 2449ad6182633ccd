//! What ends of a private topic are sent by each other, and by whoever can send to them.

use std::sync::LazyLock;

use amop_auth::{
    Party, PrivateKey, PublicKey,
    challenge::{Accept, Challenge},
    content::{AnswerKey, ContentError, ContentKey, MESSAGE_OVERHEAD, Opener, Scope, is_sealed},
    exchange::{Offered, Proving, Step},
};
use amop_protocol::{Fingerprint, NodeId, Topic};
use bytes::Bytes;
use parking_lot::Mutex;

use crate::script::Script;

const SCOPE: Scope<'_> = Scope { topic: "t", unicast: true, publisher: PUBLISHER };
const PUBLISHER: Fingerprint = Fingerprint::new([1; 32]);

/// A publisher and a subscriber that it has verified.
struct Ends {
    key: PrivateKey,
    content: ContentKey,
    proving: Proving,
    opener: Opener,
    answers: AnswerKey,
}

static ENDS: LazyLock<Mutex<Ends>> = LazyLock::new(|| Mutex::new(Ends::meet()));

impl Ends {
    fn meet() -> Self {
        let key = PrivateKey::generate().expect("randomness");
        let content = ContentKey::generate().expect("randomness");
        let offered = offered();
        let offer = Step::decode(&offered.to_payload()).expect("an offer");
        let (mut proving, proof) =
            Proving::answer(&offer, topic(), party(1), party(2), &key).expect("an answer to an offer");
        let trusted = offered.verify(0, &proof, &[key.public()]).expect("a proof");
        let (grant, answers) = trusted.grant(&content).expect("a grant");
        let opener = proving.open(&Step::decode(&grant).expect("a grant")).expect("opened");
        Self { key, content, proving, opener, answers }
    }
}

fn topic() -> Topic {
    Topic::parse("t").expect("a topic")
}

fn party(n: u8) -> Party {
    Party { institution: "bank".into(), node: NodeId::new([n; 32]), client: Fingerprint::new([n; 32]) }
}

fn offered() -> Offered {
    Offered::new(topic(), PUBLISHER, None, 1).expect("randomness")
}

/// Files of keys, challenges, steps of the handshake, messages and answers.
pub fn private_topic(data: &[u8]) {
    let mut script = Script::new(data);
    let ends = &mut *ENDS.lock();
    match script.byte() % 6 {
        0 => key_files(script.rest()),
        1 => challenged(script.rest(), &ends.key),
        2 => {
            let answer = Bytes::copy_from_slice(script.rest());
            offered().verify(0, &answer, &[ends.key.public()]).expect_err("nobody signed this offer");
        }
        3 => stepped(script.rest(), ends),
        4 => made_up(script.rest(), ends),
        _ => changed(script.byte(), script.byte(), script.rest(), ends),
    }
}

fn key_files(file: &[u8]) {
    if let Ok(key) = PrivateKey::parse(file, "") {
        let again = PrivateKey::parse(key.to_pem().as_bytes(), "").expect("what was read can be written");
        assert_eq!(again.public(), key.public());
    }
    if let Ok(key) = PublicKey::parse(file) {
        assert_eq!(PublicKey::parse(key.to_hex().as_bytes()), Ok(key));
    }
}

/// What is signed is a challenge in one of two forms, and the strict form is one of them.
fn challenged(bytes: &[u8], key: &PrivateKey) {
    let challenge = Challenge::parse(bytes, Accept::All);
    if Challenge::parse(bytes, Accept::Strict).is_ok() {
        assert!(challenge.is_ok() && bytes.len() == 32 && bytes.iter().all(u8::is_ascii_hexdigit));
    } else if challenge.is_ok() {
        assert!((12..=17).contains(&bytes.len()));
    }
    if let Ok(challenge) = challenge {
        assert!(challenge.verify(&challenge.sign(key), &[key.public()]).is_some());
    }
}

fn stepped(bytes: &[u8], ends: &mut Ends) {
    let Ok(step) = Step::decode(&Bytes::copy_from_slice(bytes)) else { return };
    assert!(!step.is_offer() || !ends.proving.is_for(&step));
    ends.proving.open(&step).err().expect("nobody granted this");
    let answer = Proving::answer(&step, topic(), party(1), party(2), &ends.key);
    assert!(step.is_offer() || answer.is_err());
}

fn made_up(bytes: &[u8], ends: &mut Ends) {
    let opened = ends.opener.open(bytes, SCOPE).map(|_| ());
    let expected = if is_sealed(bytes) { ContentError::UnknownKey } else { ContentError::Malformed };
    // The id of the key may have been guessed by the fuzzer, from a corpus of the same process.
    assert!(opened == Err(expected) || ends.opener.opens(bytes) && opened.is_err());
    let message = ends.content.seal(b"", SCOPE).expect("far below the limit");
    ends.answers.open(bytes, &message, &ends.content).expect_err("nobody sealed this answer");
}

/// A message arrives as it was sent, and not at all when a byte of it is another.
fn changed(at: u8, by: u8, payload: &[u8], ends: &mut Ends) {
    let message = ends.content.seal(payload, SCOPE).expect("far below the limit");
    assert_eq!(message.len(), payload.len() + MESSAGE_OVERHEAD);
    let mut other = message.clone();
    let at = usize::from(at) % other.len();
    other[at] ^= by;
    if by != 0 {
        ends.opener.open(&other, SCOPE).expect_err("a byte is another");
    }
    let (opened, reply) = ends.opener.open(&message, SCOPE).expect("as it was sent");
    assert_eq!(opened, payload);
    let answer = reply.seal(payload);
    assert_eq!(ends.answers.open(&answer, &message, &ends.content).as_deref(), Ok(payload));
}
