//! The chain rule for the certificates of FISCO BCOS 2.x.
//!
//! Two kinds: RSA, where each agency has a self-signed CA, and all certificates are X.509
//! version 1; and secp256k1, where a chain's CA, itself of version 1, issues the CAs of agencies.
//! They name no roles and no institutions: an institution is what the CA that issued a leaf is
//! configured to stand for.
//!
//! Stock chain building refuses version 1 leaves and does not know the curve, so this is a rule of
//! its own, and a narrow one: a leaf, issued by a configured CA or, where that is wanted, by a CA
//! that a configured CA issued. A certificate of version 1 may be a leaf or a configured CA; it
//! never makes a CA of one that came with the chain, since nothing in it says that it may be one.

mod authority;
mod ca;
mod certificate;
mod keys;
#[cfg(feature = "mint")]
pub mod mint;

use rustls::{
    SupportedProtocolVersion,
    version::{TLS12, TLS13},
};

pub use self::{
    authority::{Authority, Identity, Purpose},
    ca::{Ca, Issuer},
    keys::{KeyError, certified_key, kind_of_key},
};
use crate::Profile;

/// The two kinds of FISCO BCOS certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// RSA of 2048 bits or more.
    Rsa,
    /// secp256k1.
    Ec,
}

impl Kind {
    /// The profile of a listener with such certificates.
    pub const fn profile(self) -> Profile {
        match self {
            Self::Rsa => Profile::FiscoRsa,
            Self::Ec => Profile::FiscoEc,
        }
    }

    /// The versions of TLS to offer. TLS 1.3 cannot sign with secp256k1, and most clients that
    /// are offered it all the same fail instead of falling back.
    pub fn versions(self) -> Vec<&'static SupportedProtocolVersion> {
        match self {
            Self::Rsa => vec![&TLS13, &TLS12],
            Self::Ec => vec![&TLS12],
        }
    }

    const fn key(self) -> &'static str {
        match self {
            Self::Rsa => "RSA",
            Self::Ec => "secp256k1",
        }
    }
}
