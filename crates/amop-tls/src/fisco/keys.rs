//! A certificate and its key as a pair for TLS, without asking that it be of version 3.

use std::sync::Arc;

use rustls::{
    SignatureAlgorithm,
    sign::{CertifiedKey, SigningKey},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo};

use super::{Kind, certificate::Certificate};
use crate::{ChainError, provider};

/// Why a certificate and a key are no pair.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The key cannot be used.
    #[error("it is not {} key in PKCS#8, PKCS#1 or SEC1", match .0 {
        Kind::Rsa => "an RSA (2048 to 4096 bits)",
        Kind::Ec => "a secp256k1",
    })]
    Kind(Kind),
    /// The certificate is none of this kind.
    #[error(transparent)]
    Certificate(#[from] ChainError),
    /// They are of different pairs.
    #[error("it does not belong to the certificate; put the pair that was made together there")]
    Mismatch,
}

/// Which kind of certificate goes with a key, if it is one of FISCO BCOS's.
pub fn kind_of_key(key: &PrivateKeyDer<'_>) -> Option<Kind> {
    kind(signing_key(key)?.as_ref())
}

/// A chain, leaf first, with the leaf's key.
///
/// # Errors
/// When the key is of another kind, or not that of the leaf.
pub fn certified_key(
    kind: Kind,
    chain: Vec<CertificateDer<'static>>,
    key: &PrivateKeyDer<'_>,
) -> Result<Arc<CertifiedKey>, KeyError> {
    let leaf = chain.first().ok_or(ChainError::Missing)?;
    let of_leaf = Certificate::parse(kind, leaf)?;
    let key =
        signing_key(key).filter(|key| self::kind(key.as_ref()) == Some(kind)).ok_or(KeyError::Kind(kind))?;
    if public(key.as_ref()).as_deref() != Some(of_leaf.key()) {
        return Err(KeyError::Mismatch);
    }
    Ok(Arc::new(CertifiedKey::new(chain, key)))
}

fn signing_key(key: &PrivateKeyDer<'_>) -> Option<Arc<dyn SigningKey>> {
    provider::fisco().key_provider.load_private_key(key.clone_key()).ok()
}

fn kind(key: &dyn SigningKey) -> Option<Kind> {
    match key.algorithm() {
        SignatureAlgorithm::RSA => Some(Kind::Rsa),
        // The only curve among ours whose points FISCO BCOS knows.
        SignatureAlgorithm::ECDSA if public(key).is_some_and(|p| crate::secp256k1::is_point(&p)) => {
            Some(Kind::Ec)
        }
        _ => None,
    }
}

/// The public key, without its algorithm.
fn public(key: &dyn SigningKey) -> Option<Vec<u8>> {
    let info = key.public_key()?;
    let (_, info) = SubjectPublicKeyInfo::from_der(&info).ok()?;
    Some(info.subject_public_key.data.to_vec())
}
