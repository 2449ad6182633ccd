//! From a leaf certificate to the id its holder goes by.

use amop_protocol::{Fingerprint, NodeKey, certificate::Subject};
use rustls_pki_types::CertificateDer;

/// A node certificate whose key cannot be a node id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a node certificate needs a P-256 key, this one has {found}; make a new one with `amop certs node`")]
pub struct WrongKey {
    /// The kind of key the certificate has.
    pub found: &'static str,
}

/// The node key in a leaf certificate.
///
/// # Errors
/// When the certificate's key is not an uncompressed point on P-256.
pub fn node_key(subject: &Subject) -> Result<NodeKey, WrongKey> {
    subject.key.ok_or(WrongKey { found: subject.key_kind })
}

/// The fingerprint of a client's leaf certificate: SHA-256 of its DER bytes.
pub fn fingerprint(leaf: &CertificateDer<'_>) -> Fingerprint {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, leaf).as_ref());
    Fingerprint::new(bytes)
}
