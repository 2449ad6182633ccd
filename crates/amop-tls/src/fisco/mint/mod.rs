//! Making FISCO BCOS certificates: keys, and certificates out of templates.
//!
//! A [`Template`] makes what it is told, bad certificates for tests included; which ones a chain
//! needs is decided where `amop certs` makes them.

mod crl;

use std::fmt;

use ring::{
    rand::{SecureRandom, SystemRandom},
    rsa,
    signature::RSA_PKCS1_SHA256,
};
use rustls::sign::public_key_to_spki;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, alg_id};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

pub use self::crl::ListTemplate;
use super::Kind;
use crate::{der, secp256k1::PrivateKey};

/// Bits of the RSA keys that are made.
const RSA_BITS: usize = 2048;
/// Content of the object identifiers that are used.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ORGANISATION: &[u8] = &[0x55, 0x04, 0x0a];
const UNIT: &[u8] = &[0x55, 0x04, 0x0b];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];

/// Why a key or a certificate could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MintError {
    /// The system gives no randomness, or the cryptography fails.
    #[error("the cryptography fails; does the system give randomness?")]
    Crypto,
    /// Bytes that are no key of the kind.
    #[error("it is not {} key in PKCS#8", match .0 { Kind::Rsa => "an RSA", Kind::Ec => "a secp256k1" })]
    Key(Kind),
    /// Bytes that are no certificate.
    #[error("it is not an X.509 certificate")]
    Certificate,
}

/// A key that signs certificates, or goes with one.
pub struct KeyPair(Pair);

enum Pair {
    Rsa { signer: Box<rsa::KeyPair>, pkcs8: Zeroizing<Vec<u8>> },
    Ec(PrivateKey),
}

impl KeyPair {
    /// A new key.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate(kind: Kind) -> Result<Self, MintError> {
        match kind {
            Kind::Rsa => Self::from_der(kind, &rsa_key()?).map_err(|_| MintError::Crypto),
            Kind::Ec => PrivateKey::generate().map(|key| Self(Pair::Ec(key))).map_err(|_| MintError::Crypto),
        }
    }

    /// Reads a key.
    ///
    /// # Errors
    /// When it is not a key of this kind.
    pub fn from_der(kind: Kind, der: &PrivateKeyDer<'_>) -> Result<Self, MintError> {
        match (kind, der) {
            (Kind::Rsa, PrivateKeyDer::Pkcs8(pkcs8)) => {
                let pkcs8 = Zeroizing::new(pkcs8.secret_pkcs8_der().to_vec());
                let signer = rsa::KeyPair::from_pkcs8(&pkcs8).map_err(|_| MintError::Key(kind))?;
                Ok(Self(Pair::Rsa { signer: Box::new(signer), pkcs8 }))
            }
            (Kind::Rsa, _) => Err(MintError::Key(kind)),
            (Kind::Ec, der) => {
                PrivateKey::from_der(der).map(|key| Self(Pair::Ec(key))).map_err(|_| MintError::Key(kind))
            }
        }
    }

    /// The private key, PKCS#8.
    pub fn to_pkcs8(&self) -> PrivatePkcs8KeyDer<'static> {
        match &self.0 {
            Pair::Rsa { pkcs8, .. } => pkcs8.to_vec().into(),
            Pair::Ec(key) => key.to_pkcs8().to_vec().into(),
        }
    }

    /// The public key, without its algorithm.
    pub fn public(&self) -> Vec<u8> {
        match &self.0 {
            Pair::Rsa { signer, .. } => signer.public().as_ref().to_vec(),
            Pair::Ec(key) => key.public().to_vec(),
        }
    }

    fn public_info(&self) -> Vec<u8> {
        let algorithm = match &self.0 {
            Pair::Rsa { .. } => alg_id::RSA_ENCRYPTION,
            Pair::Ec(_) => alg_id::ECDSA_P256K1,
        };
        public_key_to_spki(&algorithm, self.public()).to_vec()
    }

    /// Name of the signatures this key makes.
    fn algorithm(&self) -> Vec<u8> {
        let content = match &self.0 {
            Pair::Rsa { .. } => alg_id::RSA_PKCS1_SHA256,
            Pair::Ec(_) => alg_id::ECDSA_SHA256,
        };
        der::sequence(&[&content])
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, MintError> {
        let signer = match &self.0 {
            Pair::Ec(key) => return Ok(key.sign(message)),
            Pair::Rsa { signer, .. } => signer,
        };
        let mut signature = vec![0; signer.public().modulus_len()];
        signer
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
            .map_err(|_| MintError::Crypto)?;
        Ok(signature)
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Pair::Rsa { .. } => "KeyPair(RSA)",
            Pair::Ec(_) => "KeyPair(secp256k1)",
        })
    }
}

fn rsa_key() -> Result<PrivateKeyDer<'static>, MintError> {
    use ::rsa::{RsaPrivateKey, pkcs8::EncodePrivateKey, rand_core::OsRng};

    let key = RsaPrivateKey::new(&mut OsRng, RSA_BITS).map_err(|_| MintError::Crypto)?;
    let pkcs8 = key.to_pkcs8_der().map_err(|_| MintError::Crypto)?;
    Ok(PrivatePkcs8KeyDer::from(pkcs8.as_bytes().to_vec()).into())
}

/// A name as FISCO BCOS's generator makes them, encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(Vec<u8>);

impl Name {
    /// From its three parts.
    pub fn new(common_name: &str, organisation: &str, unit: &str) -> Self {
        let part = |oid: &[u8], text: &str| der::set(&[&der::sequence(&[&der::oid(oid), &der::utf8(text)])]);
        Self(der::sequence(&[
            &part(COMMON_NAME, common_name),
            &part(ORGANISATION, organisation),
            &part(UNIT, unit),
        ]))
    }

    /// The subject of a certificate, to be put as issuer into those it issues.
    ///
    /// # Errors
    /// When it is no certificate.
    pub fn subject_of(certificate: &CertificateDer<'_>) -> Result<Self, MintError> {
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| MintError::Certificate)?;
        Ok(Self(parsed.subject().as_raw().to_vec()))
    }
}

/// Which extensions a certificate has, and with them which version it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extensions {
    /// None: version 1.
    Version1,
    /// CA:TRUE, as agencies' CAs have it.
    Ca,
    /// CA:FALSE and the key usages of nodes and SDKs.
    Leaf,
    /// As [`Extensions::Leaf`], and a critical one that nobody knows.
    UnknownCritical,
    /// CA:FALSE, and a key usage that signs no handshake.
    NoSignature,
}

impl Extensions {
    fn encode(self) -> Option<Vec<u8>> {
        let ca = extension(BASIC_CONSTRAINTS, &[], &der::sequence(&[&der::element(1, &[0xff])]));
        let leaf = extension(BASIC_CONSTRAINTS, &[], &der::sequence(&[]));
        // digitalSignature, nonRepudiation, keyEncipherment; and the last of these alone.
        let usage = extension(KEY_USAGE, &[], &[3, 2, 5, 0xe0]);
        let encipherment = extension(KEY_USAGE, &[], &[3, 2, 5, 0x20]);
        let unknown = extension(&[0x2a, 0x03, 0x04], &der::element(1, &[0xff]), &[5, 0]);
        let list = match self {
            Self::Version1 => return None,
            Self::Ca => vec![ca],
            Self::Leaf => vec![leaf, usage],
            Self::UnknownCritical => vec![leaf, usage, unknown],
            Self::NoSignature => vec![leaf, encipherment],
        };
        Some(der::element(0xa3, &der::sequence(&[&list.concat()])))
    }
}

fn extension(oid: &[u8], critical: &[u8], value: &[u8]) -> Vec<u8> {
    der::sequence(&[&der::oid(oid), critical, &der::octets(value)])
}

/// What a certificate is to say.
#[derive(Clone, Debug)]
pub struct Template {
    /// Whose it is.
    pub subject: Name,
    /// Who issues it.
    pub issuer: Name,
    /// First second of validity.
    pub not_before: OffsetDateTime,
    /// Last second of validity.
    pub not_after: OffsetDateTime,
    /// Its extensions, and version.
    pub extensions: Extensions,
}

impl Template {
    /// The certificate for the holder of `holder`, signed by `issuer`, with a random serial number.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn sign(&self, holder: &KeyPair, issuer: &KeyPair) -> Result<CertificateDer<'static>, MintError> {
        let mut serial = [0; 16];
        SystemRandom::new().fill(&mut serial).map_err(|_| MintError::Crypto)?;
        // Positive, and without a leading zero byte.
        serial[0] = serial[0] & 0x7f | 0x40;
        let extensions = self.extensions.encode();
        let version = extensions.as_ref().map(|_| der::element(0xa0, &der::integer(&[2])));
        let signed = der::sequence(&[
            &version.unwrap_or_default(),
            &der::integer(&serial),
            &issuer.algorithm(),
            &self.issuer.0,
            &der::sequence(&[&der::moment(self.not_before), &der::moment(self.not_after)]),
            &self.subject.0,
            &holder.public_info(),
            &extensions.unwrap_or_default(),
        ]);
        let signature = issuer.sign(&signed)?;
        Ok(der::sequence(&[&signed, &issuer.algorithm(), &der::bits(&signature)]).into())
    }
}
