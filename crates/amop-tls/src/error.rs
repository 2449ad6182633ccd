//! Why certificate chains are refused: one table for all rules, each with its cure.

use std::sync::Arc;

use amop_protocol::certificate::{self, Role};

use crate::{MAX_CERTIFICATE_BYTES, MAX_CHAIN, WrongKey};

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

/// A day as people write it, for messages.
fn date(unix: i64) -> String {
    match time::OffsetDateTime::from_unix_timestamp(unix) {
        Ok(moment) => moment.date().to_string(),
        Err(_) => "a date out of range".to_owned(),
    }
}
