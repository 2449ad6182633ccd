//! The two halves of a key pair on secp256k1, and what is done with them.

use std::fmt;

use amop_tls::secp256k1::{self as curve, POINT_BYTES};
use secp256k1::{Message, ecdsa::Signature};
use zeroize::Zeroizing;

use crate::{
    encoding::{self, Hex},
    pkcs12::{self, Pkcs12Error},
};

/// Bytes of a signature as AMOP sends it: r, s (32 each, big-endian), and the recovery id, 0 or 1.
pub const SIGNATURE_BYTES: usize = 65;

/// What a subscriber proves who it is with. Erased when dropped; clones share one copy.
#[derive(Clone, Debug)]
pub struct PrivateKey(curve::PrivateKey);

/// What a publisher names a subscriber by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(secp256k1::PublicKey);

/// Why bytes are not a key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Nothing that is known as an encoding of keys.
    #[error("this is no key: expected {0}")]
    Unknown(&'static str),
    /// A PEM section of another kind.
    #[error("this is a {found}, but a {wanted} is needed")]
    Other {
        /// What the PEM section says it is, as far as we know such.
        found: &'static str,
        /// What is looked for.
        wanted: &'static str,
    },
    /// The PEM text does not parse.
    #[error("the PEM text is damaged; copy or create it again")]
    Damaged,
    /// A key of another kind, or on another curve.
    #[error("not a key on the curve secp256k1; make one with `amop keys generate`")]
    OtherCurve,
    /// Hexadecimal digits that are no point or scalar on the curve.
    #[error("these hexadecimal digits are no {0} on the curve secp256k1")]
    NotOnCurve(&'static str),
    /// No randomness to make a key from.
    #[error("the system gives no randomness")]
    NoRandomness,
    /// PKCS#12 that cannot be opened.
    #[error(transparent)]
    Pkcs12(#[from] Pkcs12Error),
}

impl PrivateKey {
    /// A new key.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        curve::PrivateKey::generate().map(Self).map_err(|_| KeyError::NoRandomness)
    }

    /// Reads any of the encodings that FISCO BCOS's SDKs take: PEM (PKCS#8, or SEC1 with its
    /// curve named), 64 hexadecimal digits, or PKCS#12, of which it is the first key.
    ///
    /// # Errors
    /// When `bytes` are none of these, or the key is on another curve.
    pub fn parse(bytes: &[u8], password: &str) -> Result<Self, KeyError> {
        if pkcs12::is_pkcs12(bytes) {
            return Ok(Self(pkcs12::open(bytes, password)?));
        }
        match Hex::parse(bytes) {
            Some(digits) => Self::from_hex(digits),
            None => encoding::private_from_pem(bytes).map(Self),
        }
    }

    /// This key as PEM, PKCS#8.
    pub fn to_pem(&self) -> Zeroizing<String> {
        encoding::private_to_pem(&self.0.to_pkcs8())
    }

    /// This key as 64 hexadecimal digits.
    pub fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode(self.0.scalar().as_slice()))
    }

    /// This key as PKCS#12 under `password`, as Java's key stores read it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn to_pkcs12(&self, password: &str) -> Result<Vec<u8>, KeyError> {
        Ok(pkcs12::write(&self.0.to_pkcs8(), password)?)
    }

    /// The half to give to publishers.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.public_key())
    }

    /// Signs a digest: deterministic (RFC 6979), s low.
    pub(crate) fn sign(&self, digest: [u8; 32]) -> [u8; SIGNATURE_BYTES] {
        self.0.sign_recoverable(digest)
    }

    fn from_hex(digits: Hex<'_>) -> Result<Self, KeyError> {
        let wrong = KeyError::NotOnCurve("private key");
        let Some(scalar) = digits.decode::<32>() else { return Err(wrong) };
        curve::PrivateKey::from_scalar(&scalar).map(Self).map_err(|_| wrong)
    }
}

impl PublicKey {
    /// Reads any of the encodings that FISCO BCOS's SDKs take: PEM (SubjectPublicKeyInfo), or
    /// hexadecimal digits: x and y (128), the same after `04` (130), or a compressed point (66).
    ///
    /// # Errors
    /// When `bytes` are none of these, or the key is on another curve.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyError> {
        match Hex::parse(bytes) {
            Some(digits) => Self::from_hex(digits),
            None => encoding::public_from_pem(bytes).and_then(|point| {
                secp256k1::PublicKey::from_slice(&point).map(Self).map_err(|_| KeyError::OtherCurve)
            }),
        }
    }

    /// This key as PEM, SubjectPublicKeyInfo.
    pub fn to_pem(&self) -> String {
        encoding::public_to_pem(&self.0.serialize_uncompressed())
    }

    /// x and y as 128 hexadecimal digits, as Java writes a public key.
    pub fn to_hex(&self) -> String {
        hex::encode(&self.0.serialize_uncompressed()[1..])
    }

    /// Whether the holder of the private half signed this digest. Of `signature`, r and s count; s
    /// must be low, as go-sdk has it, so that a signature has one form only.
    pub(crate) fn verifies(&self, digest: [u8; 32], signature: &[u8; SIGNATURE_BYTES]) -> bool {
        Signature::from_compact(&signature[..64])
            .is_ok_and(|signature| signature.verify(Message::from_digest(digest), &self.0).is_ok())
    }

    fn from_hex(digits: Hex<'_>) -> Result<Self, KeyError> {
        let mut point = [4; POINT_BYTES];
        let whole = if let Some(coordinates) = digits.decode::<64>() {
            point[1..].copy_from_slice(&*coordinates);
            secp256k1::PublicKey::from_slice(&point)
        } else if let Some(point) = digits.decode::<POINT_BYTES>() {
            secp256k1::PublicKey::from_slice(&*point)
        } else if let Some(point) = digits.decode::<33>() {
            secp256k1::PublicKey::from_slice(&*point)
        } else {
            return Err(KeyError::NotOnCurve("public key"));
        };
        whole.map(Self).map_err(|_| KeyError::NotOnCurve("public key"))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

#[cfg(test)]
mod tests {
    use ring::{
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair},
    };

    use super::*;

    /// A field of one of the channel specification's vectors: its key is the one that is public.
    fn vector(name: &str, field: &str) -> String {
        let all: serde_json::Value = serde_json::from_str(crate::VECTORS).unwrap();
        let vector = all["vectors"].as_array().unwrap().iter().find(|vector| vector["name"] == name);
        vector.unwrap()["decoded"][field].as_str().unwrap().to_owned()
    }

    fn private(text: &str) -> Result<String, KeyError> {
        PrivateKey::parse(text.as_bytes(), "").map(|key| key.to_hex().to_string())
    }

    fn public(text: &str) -> Result<String, KeyError> {
        PublicKey::parse(text.as_bytes()).map(|key| key.to_hex())
    }

    #[test]
    fn all_encodings_give_the_same_key() {
        let scalar = vector("sig_go_challenge", "private_key_hex");
        let coordinates = vector("sig_go_challenge", "public_key_java_hex");
        let (scalar, coordinates) = (scalar.as_str(), coordinates.as_str());
        let public_pem = vector("key_files", "public_pem");
        assert_eq!(private(scalar).as_deref(), Ok(scalar));
        assert_eq!(private(&format!("0x{}\n", scalar.to_uppercase())).as_deref(), Ok(scalar));
        assert_eq!(private(&vector("key_files", "private_pkcs8_pem")).as_deref(), Ok(scalar));
        let key = PrivateKey::parse(scalar.as_bytes(), "").unwrap();
        assert_eq!(private(&key.to_pem()).as_deref(), Ok(scalar));
        assert_eq!(key.public().to_string(), coordinates);

        let compressed = hex::encode(key.public().0.serialize());
        for text in
            [coordinates, &format!("04{coordinates}"), &compressed, &public_pem, &key.public().to_pem()]
        {
            assert_eq!(public(text).as_deref(), Ok(coordinates), "{text}");
        }
        assert_eq!(key.public().to_pem(), public_pem);
    }

    #[test]
    fn pkcs12_comes_back_under_its_password_only() {
        let key = PrivateKey::generate().unwrap();
        let stored = key.to_pkcs12("geheim").unwrap();
        let read = PrivateKey::parse(&stored, "geheim").unwrap();
        assert_eq!(read.public(), key.public());
        assert!(matches!(PrivateKey::parse(&stored, "other"), Err(KeyError::Pkcs12(_))));
        assert!(matches!(PrivateKey::parse(&stored[..stored.len() / 2], "geheim"), Err(KeyError::Pkcs12(_))));
    }

    #[test]
    fn what_is_no_key_is_named() {
        let key = PrivateKey::generate().unwrap();
        let (public_pem, private_pem) = (key.public().to_pem(), key.to_pem());
        assert_eq!(private(&public_pem), Err(KeyError::Other { found: "public key", wanted: "private key" }));
        assert_eq!(public(&private_pem), Err(KeyError::Other { found: "private key", wanted: "public key" }));
        assert_eq!(private(&"0".repeat(64)), Err(KeyError::NotOnCurve("private key")));
        assert_eq!(private(&"f".repeat(64)), Err(KeyError::NotOnCurve("private key")));
        assert_eq!(private("abcd"), Err(KeyError::NotOnCurve("private key")));
        assert_eq!(public(&"0".repeat(128)), Err(KeyError::NotOnCurve("public key")));
        assert!(matches!(private("hello"), Err(KeyError::Unknown(_))));
        assert!(matches!(public(""), Err(KeyError::Unknown(_))));
        let truncated = &private_pem[..private_pem.len() - 30];
        assert_eq!(private(truncated), Err(KeyError::Damaged));
        let p256 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new()).unwrap();
        let p256 = encoding::private_to_pem(p256.as_ref());
        assert_eq!(private(&p256), Err(KeyError::OtherCurve));
    }

    #[test]
    fn a_private_key_does_not_print_itself() {
        let key = PrivateKey::generate().unwrap();
        assert!(!format!("{key:?}").contains(&key.to_hex()[..8]));
    }
}
