//! Private keys: made, read from PKCS#8 or SEC1, and used to sign handshakes.

use std::{fmt, sync::Arc};

use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
};
use rustls::{
    Error, SignatureAlgorithm, SignatureScheme,
    sign::{Signer, SigningKey, public_key_to_spki},
};
use rustls_pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer, alg_id};
use secp256k1::{
    Message, PublicKey, SecretKey,
    ecdsa::{self, RecoverableSignature},
};
use x509_parser::asn1_rs::{Any, FromDer, Tag};
use zeroize::{Zeroize, Zeroizing};

use super::POINT_BYTES;

/// `1.2.840.10045.2.1`, an EC key, encoded.
const EC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// `1.3.132.0.10`, this curve, encoded.
const CURVE: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x0a];
/// What stands around the scalar in PKCS#8 without the public key, as OpenSSL reads it.
const PKCS8_HEAD: &[u8] = &[
    0x30, 0x81, 0x84, 0x02, 0x01, 0x00, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01,
    0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a, 0x04, 0x6d, 0x30, 0x6b, 0x02, 0x01, 0x01, 0x04, 0x20,
];
/// Between scalar and public key.
const PKCS8_MIDDLE: &[u8] = &[0xa1, 0x44, 0x03, 0x42, 0x00];

/// A private key on secp256k1. Erased when dropped; clones share one copy.
#[derive(Clone)]
pub struct PrivateKey(Arc<Secret>);

struct Secret(SecretKey);

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.non_secure_erase();
    }
}

/// Bytes that are no private key on secp256k1, or no randomness to make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a private key on secp256k1")]
pub struct BadKey;

impl PrivateKey {
    /// A new key.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate() -> Result<Self, BadKey> {
        let random = SystemRandom::new();
        let mut scalar = Zeroizing::new([0; 32]);
        loop {
            random.fill(scalar.as_mut_slice()).map_err(|_| BadKey)?;
            // All but one in 2^128 are good. A leading zero byte upsets FISCO BCOS's own tools.
            if scalar[0] != 0
                && let Ok(key) = Self::from_scalar(&scalar)
            {
                return Ok(key);
            }
        }
    }

    /// The key with this scalar, big-endian.
    ///
    /// # Errors
    /// When it is zero, or not below the order of the curve.
    pub fn from_scalar(scalar: &[u8; 32]) -> Result<Self, BadKey> {
        let secret = SecretKey::from_secret_bytes(*scalar).map_err(|_| BadKey)?;
        Ok(Self(Arc::new(Secret(secret))))
    }

    /// Reads PKCS#8 or SEC1.
    ///
    /// # Errors
    /// When it is neither, or the key is on another curve.
    pub fn from_der(der: &PrivateKeyDer<'_>) -> Result<Self, BadKey> {
        let scalar = match der {
            PrivateKeyDer::Pkcs8(der) => pkcs8_scalar(der.secret_pkcs8_der()),
            PrivateKeyDer::Sec1(der) => sec1_scalar(der.secret_sec1_der(), Parameters::Needed),
            _ => None,
        };
        scalar.ok_or(BadKey).and_then(Self::from_scalar)
    }

    /// The key in PKCS#8, with its public point.
    pub fn to_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        let mut scalar = self.0.0.to_secret_bytes();
        let der = [PKCS8_HEAD, &scalar, PKCS8_MIDDLE, &self.public()].concat();
        scalar.zeroize();
        Zeroizing::new(der)
    }

    /// The public point, uncompressed.
    pub fn public(&self) -> [u8; POINT_BYTES] {
        self.public_key().serialize_uncompressed()
    }

    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        PublicKey::from_secret_key(&self.0.0)
    }

    /// Signs with SHA-256; the signature in DER, its s low.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, message).as_ref());
        ecdsa::sign(Message::from_digest(hash), &self.0.0).serialize_der().to_vec()
    }

    /// Signs a digest; r and s, big-endian, s low, and the recovery id, 0 or 1. Deterministic (RFC 6979).
    pub fn sign_recoverable(&self, digest: [u8; 32]) -> [u8; 65] {
        let signature = RecoverableSignature::sign_ecdsa_recoverable(Message::from_digest(digest), &self.0.0);
        let (recovery, compact) = signature.serialize_compact();
        let mut written = [0; 65];
        written[..64].copy_from_slice(&compact);
        written[64] = recovery.to_u8();
        written
    }

    /// The scalar, big-endian.
    pub fn scalar(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.0.to_secret_bytes())
    }

    pub(super) fn secret(&self) -> &SecretKey {
        &self.0.0
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("secp256k1::PrivateKey")
    }
}

impl SigningKey for PrivateKey {
    /// 0x0403: in TLS 1.2 it means ECDSA with SHA-256 on whatever curve the certificate has.
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let offered = offered.contains(&SignatureScheme::ECDSA_NISTP256_SHA256);
        offered.then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(public_key_to_spki(&alg_id::ECDSA_P256K1, self.public()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for PrivateKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(PrivateKey::sign(self, message))
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}

/// Whether a SEC1 key must name its curve itself.
#[derive(PartialEq, Eq)]
enum Parameters {
    Needed,
    KnownFromAround,
}

fn pkcs8_scalar(der: &[u8]) -> Option<&[u8; 32]> {
    let (rest, _version) = element(whole(der, Tag::Sequence)?, Tag::Integer)?;
    let (rest, algorithm) = element(rest, Tag::Sequence)?;
    let (curve, kind) = element(algorithm, Tag::Oid)?;
    let (_, key) = element(rest, Tag::OctetString)?;
    (kind == EC_KEY && whole(curve, Tag::Oid)? == CURVE)
        .then(|| sec1_scalar(key, Parameters::KnownFromAround))
        .flatten()
}

fn sec1_scalar(der: &[u8], parameters: Parameters) -> Option<&[u8; 32]> {
    let (rest, _version) = element(whole(der, Tag::Sequence)?, Tag::Integer)?;
    let (rest, scalar) = element(rest, Tag::OctetString)?;
    // [0], explicit: the curve.
    let curve = match element(rest, Tag(0)) {
        Some((_, curve)) => Some(whole(curve, Tag::Oid)?),
        None => None,
    };
    let right = match curve {
        Some(curve) => curve == CURVE,
        None => parameters == Parameters::KnownFromAround,
    };
    scalar.try_into().ok().filter(|_| right)
}

/// The content of the element that `der` is, whole.
fn whole(der: &[u8], tag: Tag) -> Option<&[u8]> {
    element(der, tag).filter(|(rest, _)| rest.is_empty()).map(|(_, content)| content)
}

/// What follows the first element of `der`, and that element's content.
fn element(der: &[u8], tag: Tag) -> Option<(&[u8], &[u8])> {
    let (rest, found) = Any::from_der(der).ok()?;
    (found.tag() == tag).then_some((rest, found.data))
}
