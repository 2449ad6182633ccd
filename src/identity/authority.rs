//! Whom a consortium's members believe: the one rule for certificate chains.

use std::sync::Arc;

use amop_protocol::{
    NodeKey,
    certificate::{self, Description, Role, Subject},
};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};

use super::{
    node_id::{WrongKey, node_key},
    tls,
};

/// Most certificates a presented chain may hold: leaf, institution CA, and a root or two that came along.
pub(super) const MAX_CHAIN: usize = 4;
/// Largest certificate that is looked at, in bytes.
pub(super) const MAX_CERTIFICATE_BYTES: usize = 16 * 1024;

/// The consortium's roots, and the rule by which they vouch for nodes and clients.
///
/// A chain is genuine if its leaf was issued by an institution CA which a root issued, and all
/// three are valid now. Nothing deeper is accepted: a CA below an institution's could otherwise
/// name itself after another institution. A CA in `ca.crt` that is not a root (an institution's
/// own, listed so that clients may send their leaf alone) vouches for leaves only.
#[derive(Clone)]
pub struct Authority(Arc<Inner>);

struct Inner {
    anchors: Vec<TrustAnchor<'static>>,
    /// Encoded subjects of the anchors that issued themselves; only they vouch for other CAs.
    roots: Vec<Vec<u8>>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// Why a certificate chain is not believed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// No certificate came.
    #[error("no certificate was presented")]
    Missing,
    /// More or larger certificates than any chain of a consortium has.
    #[error("the chain is too large: at most {MAX_CHAIN} certificates of {MAX_CERTIFICATE_BYTES} bytes")]
    TooLarge,
    /// The leaf, or the CA above it, is past its end.
    #[error("{whose} expired on {}; it must be renewed", date(*.not_after))]
    Expired {
        /// Which of the chain's certificates, in words.
        whose: &'static str,
        /// The end, Unix time.
        not_after: i64,
    },
    /// The leaf, or the CA above it, is not valid yet.
    #[error("{whose} is valid only from {}; is the clock right?", date(*.not_before))]
    NotValidYet {
        /// Which of the chain's certificates, in words.
        whose: &'static str,
        /// The start, Unix time.
        not_before: i64,
    },
    /// No root of the consortium vouches for it.
    #[error(
        "it does not chain to a root of the consortium: no CA in ca.crt, with those that came along, leads to its issuer {issuer}"
    )]
    UnknownIssuer {
        /// The issuer the leaf names.
        issuer: String,
    },
    /// A signature in the chain is not that of a CA of the consortium, whatever the names say.
    #[error(
        "its issuer {issuer}, or the one above, is signed by no CA of the consortium; it comes from another consortium with the same names, or is forged"
    )]
    Signature {
        /// The issuer the leaf names.
        issuer: String,
    },
    /// Genuine, but with a CA between institution and leaf.
    #[error(
        "it was issued by a CA below an institution's CA; leaves must come from the institution's CA itself"
    )]
    TooDeep,
    /// Genuine, but for another purpose.
    #[error("its role is {found}, but a {expected} certificate is needed")]
    Role {
        /// The role that is needed here.
        expected: Role,
        /// The role in the certificate.
        found: Role,
    },
    /// Genuine, but of an institution that this port does not serve.
    #[error("it belongs to {found:?}, but this port serves clients of {own:?} only (same_institution_only)")]
    Institution {
        /// The certificate's institution.
        found: Arc<str>,
        /// The node's own.
        own: Arc<str>,
    },
    /// Genuine, but its names do not say who it is.
    #[error(transparent)]
    Subject(#[from] certificate::ParseError),
    /// Genuine, but no node id can be had from its key.
    #[error(transparent)]
    Key(#[from] WrongKey),
    /// A CA's certificate where a node's or client's belongs.
    #[error("it is a CA's certificate; the node's or client's own must come first in the chain")]
    IsCa,
    /// An X.509 version 1 certificate.
    #[error("it is an X.509 version 1 certificate; version 3 is needed")]
    Version1,
    /// Anything else that is wrong with its making.
    #[error("it is not a valid certificate chain: {0}")]
    Invalid(#[source] webpki::Error),
}

impl Authority {
    /// An authority that believes what `roots` vouch for.
    ///
    /// # Errors
    /// With the position of the first certificate that cannot be a root, and why.
    pub fn new(roots: &[CertificateDer<'_>]) -> Result<Self, (usize, ChainError)> {
        let mut inner = Inner {
            anchors: Vec::new(),
            roots: Vec::new(),
            algorithms: tls::provider().signature_verification_algorithms,
        };
        for (at, certificate) in roots.iter().enumerate() {
            let anchor = webpki::anchor_from_trusted_cert(certificate)
                .map_err(|error| (at, ChainError::Invalid(error)))?
                .to_owned();
            let description = Description::parse(certificate).map_err(|error| (at, error.into()))?;
            if description.is_self_issued {
                inner.roots.push(anchor.subject.to_vec());
            }
            inner.anchors.push(anchor);
        }
        Ok(Self(Arc::new(inner)))
    }

    /// Verifies a chain, leaf first, now, for a holder of the given role.
    ///
    /// # Errors
    /// When the chain is not genuine, or its leaf is not of that role.
    pub fn verify_chain(&self, chain: &[CertificateDer<'_>], expected: Role) -> Result<Subject, ChainError> {
        self.verify_chain_at(chain, expected, UnixTime::now())
    }

    /// As [`Authority::verify_chain`], at a given moment.
    ///
    /// # Errors
    /// As [`Authority::verify_chain`].
    pub fn verify_chain_at(
        &self,
        chain: &[CertificateDer<'_>],
        expected: Role,
        now: UnixTime,
    ) -> Result<Subject, ChainError> {
        let (leaf, intermediates) = chain.split_first().ok_or(ChainError::Missing)?;
        if chain.len() > MAX_CHAIN || chain.iter().any(|c| c.len() > MAX_CERTIFICATE_BYTES) {
            return Err(ChainError::TooLarge);
        }
        self.verify_path(leaf, intermediates, expected, now)?;
        let subject = Subject::parse(leaf)?;
        if subject.role != expected {
            return Err(ChainError::Role { expected, found: subject.role });
        }
        if expected == Role::Node {
            node_key(&subject)?;
        }
        Ok(subject)
    }

    /// Whether `signature` is that of the holder of `key` over `label` and `bytes`.
    pub fn verify(&self, key: &NodeKey, label: &str, bytes: &[u8], signature: &[u8]) -> bool {
        let mut point = [4; 65];
        point[1..].copy_from_slice(key.as_bytes());
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            .verify(&signed_message(label, bytes), signature)
            .is_ok()
    }

    pub(super) fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.0.algorithms
    }

    fn verify_path(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        role: Role,
        now: UnixTime,
    ) -> Result<(), ChainError> {
        let usage = match role {
            Role::Node => webpki::KeyUsage::server_auth(),
            Role::Client => webpki::KeyUsage::client_auth(),
        };
        let end_entity = webpki::EndEntityCert::try_from(leaf).map_err(unusable)?;
        // A revocation list per institution will be the sixth argument.
        let path = end_entity.verify_for_usage(
            self.0.algorithms.all,
            &self.0.anchors,
            intermediates,
            now,
            usage,
            None,
            None,
        );
        match path {
            Ok(path) if self.is_shallow(&path) => Ok(()),
            Ok(_) => Err(ChainError::TooDeep),
            Err(error) => Err(chain_error(error, leaf)),
        }
    }

    fn is_shallow(&self, path: &webpki::VerifiedPath<'_>) -> bool {
        match path.intermediate_certificates().count() {
            0 => true,
            1 => self.0.roots.iter().any(|subject| **subject == *path.anchor().subject),
            _ => false,
        }
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("anchors", &self.0.anchors.len()).finish()
    }
}

/// What is signed when a node signs `bytes` for the purpose `label`: no signature made for one
/// purpose is good for another.
pub(super) fn signed_message(label: &str, bytes: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(label.len() + 1 + bytes.len());
    message.extend_from_slice(label.as_bytes());
    message.push(0);
    message.extend_from_slice(bytes);
    message
}

fn chain_error(error: webpki::Error, leaf: &CertificateDer<'_>) -> ChainError {
    match error {
        webpki::Error::CertExpired { not_after, .. } => {
            let not_after = unix(not_after);
            let is_leaf = Description::parse(leaf).is_ok_and(|leaf| leaf.not_after == not_after);
            ChainError::Expired { whose: whose(is_leaf), not_after }
        }
        webpki::Error::CertNotValidYet { not_before, .. } => {
            let not_before = unix(not_before);
            let is_leaf = Description::parse(leaf).is_ok_and(|leaf| leaf.not_before == not_before);
            ChainError::NotValidYet { whose: whose(is_leaf), not_before }
        }
        webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => {
            match Description::parse(leaf) {
                Ok(Description { issuer, .. }) if error == webpki::Error::UnknownIssuer => {
                    ChainError::UnknownIssuer { issuer }
                }
                Ok(Description { issuer, .. }) => ChainError::Signature { issuer },
                Err(error) => error.into(),
            }
        }
        error => unusable(error),
    }
}

fn unix(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

fn whose(is_leaf: bool) -> &'static str {
    if is_leaf { "the certificate" } else { "the certificate of the CA that issued it" }
}

fn unusable(error: webpki::Error) -> ChainError {
    match error {
        webpki::Error::CaUsedAsEndEntity => ChainError::IsCa,
        webpki::Error::UnsupportedCertVersion => ChainError::Version1,
        error => ChainError::Invalid(error),
    }
}

/// A day as people write it, for messages.
pub(crate) fn date(unix: i64) -> String {
    match time::OffsetDateTime::from_unix_timestamp(unix) {
        Ok(moment) => moment.date().to_string(),
        Err(_) => "a date out of range".to_owned(),
    }
}
