//! The proof of FISCO BCOS 2.x: a signature over the keccak-256 of a challenge (channel spec, 6.3).
//!
//! Whoever signs what it is sent can be made to sign something else: the same kind of key and digest
//! signs transactions. So only bytes that no 2.x SDK would not make as a challenge, and that are
//! no transaction, are a [`Challenge`]; and there is no other way to make such a signature.
//!
//! What the signature does not cover is the topic, the publisher and the nodes. That is in the
//! wire of 2.x, and no check here makes up for it; docs/security.md says what follows.

use sha3::{Digest, Keccak256};

use crate::{PrivateKey, Proven, PublicKey, SIGNATURE_BYTES};

/// Bytes of a Java SDK's challenge: hexadecimal digits of 128 random bits.
const JAVA_BYTES: usize = 32;
/// Most bytes of a Go SDK's challenge: an integer below 2^130 - 1, without leading zeros.
const GO_BYTES: usize = 17;
/// Fewest: one challenge in 2^34 is shorter, and shorter bytes are somebody's trick.
const GO_LEAST_BYTES: usize = 12;

/// Which challenges a subscriber answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Accept {
    /// Those of the Java and of the Go SDK.
    #[default]
    All,
    /// Only those of the Java SDK, which our own uses too: 32 hexadecimal digits, which cannot be
    /// anything else. Publishers with the Go SDK are not answered.
    Strict,
}

/// Bytes that are a challenge, and nothing else that a key might sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Challenge<'a>(&'a [u8]);

/// Why bytes are not signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChallengeError {
    /// Neither of the forms.
    #[error(
        "these {0} bytes are no challenge of a private topic: neither 32 hexadecimal digits nor a number below 2^130; they are not signed"
    )]
    Malformed(usize),
    /// A number, which the policy does not take.
    #[error("the challenge is not 32 hexadecimal digits, and the policy is strict; it is not signed")]
    NotStrict,
    /// A number whose bytes could also be a transaction.
    #[error("the challenge could be a transaction; it is not signed")]
    Transaction,
}

impl<'a> Challenge<'a> {
    /// The text of a new challenge, in the form of the Java SDK, from 128 random bits.
    pub fn text(random: u128) -> String {
        format!("{random:032x}")
    }

    /// Checks bytes that came as a challenge.
    ///
    /// # Errors
    /// When they are none, or the policy does not take them.
    pub fn parse(bytes: &'a [u8], accept: Accept) -> Result<Self, ChallengeError> {
        if bytes.len() == JAVA_BYTES && bytes.iter().all(u8::is_ascii_hexdigit) {
            return Ok(Self(bytes));
        }
        if !is_go_number(bytes) {
            return Err(ChallengeError::Malformed(bytes.len()));
        }
        if accept == Accept::Strict {
            return Err(ChallengeError::NotStrict);
        }
        if is_transaction(bytes) { Err(ChallengeError::Transaction) } else { Ok(Self(bytes)) }
    }

    /// The answer to it: r, s, and the recovery id.
    pub fn sign(&self, key: &PrivateKey) -> [u8; SIGNATURE_BYTES] {
        key.sign(self.digest())
    }

    /// Which of `keys` answered this challenge with `signature`, if any did. Costs one verification
    /// (some 60 µs) for each key until one fits.
    pub fn verify<'k>(
        &self,
        signature: &[u8],
        keys: impl IntoIterator<Item = &'k PublicKey>,
    ) -> Option<Proven> {
        Proven::find(self.digest(), signature, keys)
    }

    fn digest(&self) -> [u8; 32] {
        Keccak256::digest(self.0).into()
    }
}

/// A number below 2^130, big-endian without leading zeros, and not improbably small.
fn is_go_number(bytes: &[u8]) -> bool {
    match (bytes.len(), bytes.first()) {
        (GO_BYTES, Some(first)) => (1..4).contains(first),
        (GO_LEAST_BYTES..GO_BYTES, Some(first)) => *first != 0,
        _ => false,
    }
}

/// Whether the bytes are an RLP list of just their length, alone or behind the type byte of a
/// typed transaction. One of the Go SDK's numbers in two hundred is; its publisher is then asked again.
fn is_transaction(bytes: &[u8]) -> bool {
    let is_list =
        |list: &[u8]| list.first().is_some_and(|first| usize::from(*first) == 0xc0 + list.len() - 1);
    is_list(bytes) || bytes.get(1..).is_some_and(is_list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_as_recorded() {
        let all: serde_json::Value = serde_json::from_str(crate::VECTORS).unwrap();
        for name in ["sig_go_challenge", "sig_java_challenge"] {
            let vector =
                all["vectors"].as_array().unwrap().iter().find(|vector| vector["name"] == name).unwrap();
            let field = |field: &str| vector["decoded"][field].as_str().unwrap();
            let key = PrivateKey::parse(field("private_key_hex").as_bytes(), "").unwrap();
            let challenge = hex::decode(field("challenge_hex")).unwrap();
            let challenge = Challenge::parse(&challenge, Accept::All).unwrap();
            let signed = challenge.sign(&key);
            assert_eq!(hex::encode(signed), vector["bytes_hex"].as_str().unwrap());
            let other = PrivateKey::generate().unwrap().public();
            let proven = challenge.verify(&signed, &[other, key.public()]);
            assert_eq!(proven.map(|proven| proven.key()), Some(key.public()));
            assert_eq!(challenge.verify(&signed, &[other]), None);
        }
    }

    #[test]
    fn a_signature_has_one_form() {
        let challenge = Challenge::parse(b"00112233445566778899aabbccddeeff", Accept::Strict).unwrap();
        let key = PrivateKey::generate().unwrap();
        let good = challenge.sign(&key);
        let verify = |signature: &[u8]| challenge.verify(signature, &[key.public()]).is_some();
        assert!(verify(&good));
        assert!(!verify(&good[..64]), "without the recovery id");
        assert!(!verify(&[0; 65]));
        let mut high = good;
        // n - s.
        const N: &str = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
        let n = hex::decode(N).unwrap();
        let mut borrow = 0i16;
        for i in (0..32).rev() {
            let digit = i16::from(n[i]) - i16::from(good[32 + i]) - borrow;
            borrow = i16::from(digit < 0);
            high[32 + i] = digit.rem_euclid(256) as u8;
        }
        assert!(!verify(&high), "high s");
    }

    #[test]
    fn only_challenges_are_signed() {
        let parse = |bytes: &[u8]| Challenge::parse(bytes, Accept::All).map(|_| ());
        assert_eq!(parse(Challenge::text(7).as_bytes()), Ok(()));
        assert_eq!(parse(b"0123456789ABCDEFabcdef0123456789"), Ok(()));
        assert_eq!(parse(&[3; 17]), Ok(()));
        assert_eq!(parse(&[0xff; 16]), Ok(()));
        for bytes in [
            &[4; 17][..],
            &[0; 16],
            &[1; 11],
            &[],
            &[1; 18],
            &[b'g'; 32],
            &[b'0'; 64],
            b"\x19Ethereum Signed Message:\n32",
        ] {
            assert_eq!(parse(bytes), Err(ChallengeError::Malformed(bytes.len())));
        }
        let strict = Challenge::parse(&[3; 17], Accept::Strict);
        assert_eq!(strict, Err(ChallengeError::NotStrict));
    }

    #[test]
    fn a_short_transaction_is_no_challenge() {
        let mut list = vec![0xc0 + 15];
        list.extend([0x80; 15]);
        assert_eq!(Challenge::parse(&list, Accept::All), Err(ChallengeError::Transaction));
        list.insert(0, 2);
        assert_eq!(Challenge::parse(&list, Accept::All), Err(ChallengeError::Transaction), "typed");
    }
}
