//! Why certificate chains are refused: one table for all rules, each with its cure.

use std::sync::Arc;

use amop_protocol::certificate::{self, Role};

use crate::{MAX_CERTIFICATE_BYTES, MAX_CHAIN, Profile, WrongKey};

/// Whose validity is at fault.
pub(crate) const LEAF: &str = "the certificate";
/// As [`LEAF`].
pub(crate) const ISSUER: &str = "the certificate of the CA that issued it";
/// As [`LEAF`].
pub(crate) const CHAIN: &str = "the certificate of the chain's CA";

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
    /// The leaf, or the CA above it, was taken back by whoever issued it.
    #[error(
        "{whose} (serial {serial}) was revoked by its issuer {issuer} on {}; a new one is needed",
        date(*.since)
    )]
    Revoked {
        /// Which of the chain's certificates, in words.
        whose: &'static str,
        /// Its serial number in hex.
        serial: String,
        /// The issuer that revoked it.
        issuer: String,
        /// From when on, Unix time.
        since: i64,
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
    #[error(
        "it is an X.509 version 1 certificate, as FISCO BCOS makes them, but certificates of the profile default are needed here; both ends must use one profile, so connect to a listener of the certificate's own"
    )]
    Version1,
    /// A certificate of another profile.
    #[error(
        "its key is {found}, but certificates of the profile {needed} are needed here; both ends must use one profile, so connect to a listener of the certificate's own"
    )]
    Profile {
        /// The profile that is needed here.
        needed: Profile,
        /// The kind of key in the certificate.
        found: &'static str,
    },
    /// An RSA key of a size that is not accepted.
    #[error("its RSA key has {0} bits; 2048 to 8192 are accepted")]
    RsaBits(usize),
    /// A key that is no uncompressed point on secp256k1.
    #[error("its key is not an uncompressed point on secp256k1; make a new one")]
    Key256k1,
    /// A signature algorithm that is not accepted.
    #[error(
        "it is signed with the algorithm {0}; SHA-256, 384 or 512 with the issuer's kind of key is needed"
    )]
    Algorithm(String),
    /// Signature algorithms inside and outside of what is signed that differ.
    #[error("it names two signature algorithms; it is damaged or forged")]
    TwoAlgorithms,
    /// A critical extension that is not understood.
    #[error("it has the critical extension {0}, which is not understood here; it must be made without")]
    Extension(String),
    /// A certificate made for another use.
    #[error("it must not be used for this: it lacks the {0}")]
    Usage(&'static str),
    /// No configured CA has the name of its issuer.
    #[error(
        "its issuer {issuer} is none of the CAs configured here, nor issued by one; use a certificate of this agency, or add that CA (`agencies` of a listener, ca.crt of an SDK)"
    )]
    UnknownCa {
        /// The issuer it names.
        issuer: String,
    },
    /// A configured CA has the name of its issuer, and did not sign it.
    #[error(
        "it is not signed by the CA configured here as {issuer}; it comes from another CA with the same name, or is forged"
    )]
    OtherCa {
        /// The issuer it names.
        issuer: String,
    },
    /// A CA that came along, or stands below another, with a version 1 certificate.
    #[error(
        "the CA that issued it has an X.509 version 1 certificate; such a CA must be configured, or be remade with CA:TRUE"
    )]
    Version1Ca,
    /// A certificate that is not a CA's where one must be.
    #[error("the certificate it is issued by, or that is configured as a CA, says that it is no CA")]
    NoCa,
    /// Anything else that is wrong with its making.
    #[error("it is not a valid certificate chain: {0}")]
    Invalid(#[source] webpki::Error),
}

/// A day as people write it, for messages.
pub(crate) fn date(unix: i64) -> String {
    match time::OffsetDateTime::from_unix_timestamp(unix) {
        Ok(moment) => moment.date().to_string(),
        Err(_) => "a date out of range".to_owned(),
    }
}
