//! Why certificates, lists and their files are not made.

use std::{io, path::PathBuf};

use super::{MAX_DAYS, MAX_NAME_BYTES};
use crate::identity::pem::FileError;

/// Why a certificate could not be made, or a file not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MintError {
    /// A name that cannot stand in a certificate.
    #[error("a name must be 1 to {MAX_NAME_BYTES} bytes of text without control characters, {0:?} is not")]
    Name(String),
    /// What cannot be a host.
    #[error("a host is a name as in DNS, or an IP address, without scheme and port; {0:?} is not")]
    Host(String),
    /// A validity of no days, or of more than a century.
    #[error("a certificate can be valid for 1 to {MAX_DAYS} days, not for {0}")]
    Days(u32),
    /// A CA that may not issue what was asked for.
    #[error("{ca} is {is}, which cannot issue {asked}")]
    WrongCa {
        /// The CA's name.
        ca: String,
        /// What it is.
        is: &'static str,
        /// What it was asked to issue.
        asked: &'static str,
    },
    /// A certificate to be made anew that another CA has issued.
    #[error("the certificate was not issued by the CA {ca}; the CA that issued it must make it anew")]
    NotOurs {
        /// The CA that was asked.
        ca: String,
    },
    /// The CA's list so far cannot be used.
    #[error("the revocation list in {} cannot be used: {source}", path.display())]
    Crl {
        /// The file.
        path: PathBuf,
        /// Why.
        source: amop_tls::CrlError,
    },
    /// A CA past its end issues nothing anybody would believe.
    #[error("the CA {0} has expired; make a new one")]
    Expired(String),
    /// The CA's files cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The CA's certificate or key is not one of ours.
    #[error("{}: {problem}", path.display())]
    Ca {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The file exists and may hold a key that exists nowhere else.
    #[error("{} exists already; nothing was written (--force replaces it)", .0.display())]
    Exists(PathBuf),
    /// A line of what was renewed cannot be read.
    #[error(
        "line {line} of {} makes no sense; it should have a serial number, an end, the SHA-256 of a key, and a name: mend it, or take it out",
        path.display()
    )]
    Renewals {
        /// The file.
        path: PathBuf,
        /// Which line, counted from 1.
        line: usize,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The disk refuses.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The cryptography refuses.
    #[error("cannot make the certificate")]
    Crypto(#[from] rcgen::Error),
    /// The cryptography of FISCO BCOS's certificates refuses.
    #[error("cannot make the certificate: {0}")]
    Fisco(#[from] amop_tls::fisco::mint::MintError),
}
