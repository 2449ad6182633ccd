//! Where a node's certificates are, and why they cannot be used.

use std::path::{Path, PathBuf};

use amop_tls::{ChainError, CrlError};
use time::OffsetDateTime;

use super::pem::FileError;

/// Where a node's certificates and key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The consortium's roots, PEM.
    pub ca: PathBuf,
    /// The node's leaf certificate and its institution's CA, PEM, leaf first.
    pub cert: PathBuf,
    /// The node's private key, PEM, PKCS#8.
    pub key: PathBuf,
    /// What CAs have revoked, PEM: lists, and beside them the certificates of CAs that signed them.
    pub crl: Vec<PathBuf>,
}

impl Paths {
    /// The usual names, `ca.crt`, `node.crt` and `node.key`, in `directory`.
    pub fn in_directory(directory: &Path) -> Self {
        Self {
            ca: directory.join("ca.crt"),
            cert: directory.join("node.crt"),
            key: directory.join("node.key"),
            crl: Vec::new(),
        }
    }
}

/// Why a node has no usable identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A file is missing, damaged, or open to others.
    #[error(transparent)]
    File(#[from] FileError),
    /// A certificate in the file of roots cannot be a root.
    #[error("certificate {position} in {} cannot be a root: {source}", path.display())]
    Root {
        /// The file.
        path: PathBuf,
        /// Which certificate in it, counted from 1.
        position: usize,
        /// Why.
        source: ChainError,
    },
    /// The node's own certificate would be refused by every other node.
    #[error("the certificate in {} cannot be used: {source}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ChainError,
    },
    /// The private key is not one that goes with a node certificate.
    #[error(
        "the private key in {} is not a P-256 key in PKCS#8; make certificate and key with `amop certs node`",
        path.display()
    )]
    Key {
        /// The file.
        path: PathBuf,
    },
    /// The private key of a FISCO BCOS certificate is of another kind.
    #[error("the private key in {} cannot be used: {source}", path.display())]
    FiscoKey {
        /// The file.
        path: PathBuf,
        /// Why.
        source: amop_tls::fisco::KeyError,
    },
    /// One CA is configured for two institutions.
    #[error(
        "the CA in {}, configured for {institution:?}, stands for another institution already; name each CA once (that of the node's own certificate needs no entry)",
        path.display()
    )]
    SameAgency {
        /// The file.
        path: PathBuf,
        /// The institution it is configured for.
        institution: String,
    },
    /// Key and certificate are of different pairs.
    #[error(
        "the private key in {} does not belong to the certificate in {}; put the pair that was made together there",
        key.display(),
        cert.display()
    )]
    Mismatch {
        /// The file with the key.
        key: PathBuf,
        /// The file with the certificate.
        cert: PathBuf,
    },
    /// A revocation list cannot be believed.
    #[error("revocation list {position} in {} cannot be used: {source}", path.display())]
    Crl {
        /// The file.
        path: PathBuf,
        /// Which list in it, counted from 1.
        position: usize,
        /// Why.
        source: CrlError,
    },
    /// A revocation list that is new here and past its end already.
    #[error(
        "the revocation list of {issuer} in {} was to be replaced by {}; get a newer one (`amop certs crl --refresh` makes one)",
        path.display(),
        date(*.due)
    )]
    StaleCrl {
        /// The file.
        path: PathBuf,
        /// The CA.
        issuer: String,
        /// When a newer one was due, Unix time.
        due: i64,
    },
    /// A revocation list older than the one in force.
    #[error(
        "the revocation list of {issuer} in {}, {list}, is older than the one in force, {in_force}; put the newest there",
        path.display()
    )]
    OlderCrl {
        /// The file.
        path: PathBuf,
        /// The CA.
        issuer: String,
        /// Which of the CA's lists it is.
        list: String,
        /// Which of them is in force.
        in_force: String,
    },
    /// A list in force that the files have no more, nor a newer one.
    #[error(
        "the revocation list of {issuer} that is in force, {list}, is in no file any more, nor is a newer one, and that CA is still believed: what it has revoked would be good again; put its newest list back (only a restart does without)"
    )]
    MissingCrl {
        /// The CA.
        issuer: String,
        /// Which of the CA's lists it is.
        list: String,
    },
    /// A CA that is new here and has expired.
    #[error("certificate {position} in {} expired on {}; leave it out, or renew it", path.display(), date(*.not_after))]
    ExpiredCa {
        /// The file.
        path: PathBuf,
        /// Which certificate in it, counted from 1.
        position: usize,
        /// Its end, Unix time.
        not_after: i64,
    },
    /// The new certificate is another node's.
    #[error(
        "the certificate in {} is of {found}, but this node is {own}: other nodes and clients know it by that, so only a restart can change it; to renew a certificate, keep its key (`amop certs renew`)",
        path.display()
    )]
    OtherNode {
        /// The file.
        path: PathBuf,
        /// Who the certificate says the node is.
        found: String,
        /// Who it is.
        own: String,
    },
    /// A certificate in a file of CAs of other servers cannot be one.
    #[error("certificate {position} in {} cannot be a CA: {source}", path.display())]
    ServerCa {
        /// The file.
        path: PathBuf,
        /// Which certificate in it, counted from 1.
        position: usize,
        /// Why.
        source: rustls::Error,
    },
    /// TLS cannot be set up with this identity.
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
}

/// A moment as people write it, for messages.
pub(super) fn moment(unix: i64) -> String {
    OffsetDateTime::from_unix_timestamp(unix)
        .ok()
        .and_then(|at| at.format(&time::format_description::well_known::Rfc3339).ok())
        .unwrap_or_else(|| "a date out of range".into())
}

/// A day as people write it, for messages.
fn date(unix: i64) -> String {
    OffsetDateTime::from_unix_timestamp(unix)
        .map_or_else(|_| "a date out of range".into(), |at| at.date().to_string())
}
