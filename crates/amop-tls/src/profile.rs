//! The kinds of certificates there are on client ports.

use std::{fmt, str::FromStr};

/// The kinds of certificates a client port can serve with; a listener has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Profile {
    /// AMOP's own: X.509 version 3, P-256, roles.
    Default,
    /// FISCO BCOS 2.9 and later: RSA, X.509 version 1.
    FiscoRsa,
    /// FISCO BCOS on secp256k1; TLS 1.2 only.
    FiscoEc,
}

impl Profile {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Default, Self::FiscoRsa, Self::FiscoEc];

    /// The name in configuration and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::FiscoRsa => "fisco-rsa",
            Self::FiscoEc => "fisco-ec",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that names no [`Profile`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no certificate profile; there are \"default\", \"fisco-rsa\" and \"fisco-ec\"")]
pub struct UnknownProfile(String);

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(name: &str) -> Result<Self, UnknownProfile> {
        let named = Self::ALL.into_iter().find(|profile| profile.as_str() == name);
        named.ok_or_else(|| UnknownProfile(name.to_owned()))
    }
}
