//! What a client port's listener serves with, and who its clients are.

use std::{fmt, path::PathBuf, str::FromStr, sync::Arc};

use amop_protocol::{ClientIdentity, certificate::Subject};
use amop_tls::{ChainError, fingerprint};
use rustls_pki_types::CertificateDer;

/// Which clients a client port with the default certificates serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clients {
    /// Those of every institution in the consortium.
    OfConsortium,
    /// Those of the node's own institution only.
    OfOwnInstitution,
}

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

/// A client, as its verified certificate has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its certificate and the name in it.
    pub identity: ClientIdentity,
    /// Its institution.
    pub institution: Arc<str>,
}

/// What a client port's listener serves with, and whom it believes. Clones share one copy.
#[derive(Clone)]
pub struct ClientTls(Arc<Inner>);

struct Inner {
    server: Arc<rustls::ServerConfig>,
    profile: Profile,
}

impl ClientTls {
    pub(super) fn consortium(server: Arc<rustls::ServerConfig>) -> Self {
        Self(Arc::new(Inner { server, profile: Profile::Default }))
    }

    /// The TLS configuration: mutual, nothing resumed.
    pub fn server_config(&self) -> Arc<rustls::ServerConfig> {
        self.0.server.clone()
    }

    /// The kind of certificates.
    pub fn profile(&self) -> Profile {
        self.0.profile
    }

    /// Who a connected client is. `chain` is what it presented and TLS verified, leaf first.
    ///
    /// # Errors
    /// When there is no certificate, or none that names anybody.
    pub fn identify(&self, chain: &[CertificateDer<'_>]) -> Result<Client, ChainError> {
        let leaf = chain.first().ok_or(ChainError::Missing)?;
        let Subject { name, institution, .. } = Subject::parse(leaf)?;
        let identity = ClientIdentity { fingerprint: fingerprint(leaf), name };
        Ok(Client { identity, institution })
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("profile", &self.0.profile).finish_non_exhaustive()
    }
}

/// Where the certificates and the key of a listener with FISCO BCOS certificates are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FiscoPaths {
    /// Which kind they are.
    pub profile: Profile,
    /// The CA of the node's own agency (RSA), or of the chain (secp256k1).
    pub ca: PathBuf,
    /// The listener's certificate, followed by its agency's where there is one.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Further agencies whose SDKs are served.
    pub agencies: Vec<Agency>,
}

/// Another institution, and the CA that issues its SDKs' certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agency {
    /// The institution.
    pub institution: String,
    /// Its CA's certificate.
    pub ca: PathBuf,
}

impl ClientTls {
    /// Loads the identity of a listener with FISCO BCOS certificates.
    ///
    /// # Errors
    /// With everything that is wrong.
    pub fn load_fisco(_paths: &FiscoPaths, _own: Arc<str>) -> Result<Self, Vec<super::LoadError>> {
        Err(Vec::new())
    }
}
