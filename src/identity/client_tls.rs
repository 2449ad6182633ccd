//! What a client port's listener serves with, and who its clients are.

use std::{fmt, sync::Arc};

use amop_protocol::{
    ClientIdentity,
    certificate::{Description, Subject},
};
use amop_tls::{ChainError, Profile, fingerprint, fisco};
use rustls_pki_types::CertificateDer;

/// Which clients a client port with the default certificates serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clients {
    /// Those of every institution in the consortium.
    OfConsortium,
    /// Those of the node's own institution only.
    OfOwnInstitution,
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
    /// Who says whose a client is, with FISCO BCOS certificates.
    agencies: Option<fisco::Authority>,
    /// The listener's own certificate, for messages.
    own: String,
}

impl ClientTls {
    pub(super) fn consortium(server: rustls::ServerConfig, leaf: &CertificateDer<'_>) -> Self {
        let (profile, agencies) = (Profile::Default, None);
        Self(Arc::new(Inner { server: Arc::new(server), profile, agencies, own: describe(leaf) }))
    }

    pub(super) fn fisco(
        server: rustls::ServerConfig,
        kind: fisco::Kind,
        agencies: fisco::Authority,
        leaf: &CertificateDer<'_>,
    ) -> Self {
        let (profile, agencies) = (kind.profile(), Some(agencies));
        Self(Arc::new(Inner { server: Arc::new(server), profile, agencies, own: describe(leaf) }))
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
        let (name, institution) = match &self.0.agencies {
            None => {
                let Subject { name, institution, .. } = Subject::parse(leaf)?;
                (name, institution)
            }
            Some(agencies) => {
                let fisco::Identity { name, institution } = agencies.verify_chain(chain)?;
                (name, institution)
            }
        };
        Ok(Client { identity: ClientIdentity { fingerprint: fingerprint(leaf), name }, institution })
    }

    /// Why a handshake failed and what to do, where that can be told: for one line in the log.
    /// A certificate that this side refused has had its line already, and gets none here.
    pub fn explain(&self, error: &rustls::Error) -> Option<String> {
        let Inner { profile, own, .. } = &*self.0;
        match error {
            rustls::Error::NoCertificatesPresented => Some(format!(
                "it presented no certificate; does it have one of the profile {profile}, and the key to it?"
            )),
            rustls::Error::AlertReceived(alert) if *profile == Profile::FiscoEc => Some(format!(
                "the client refused this node's certificate or handshake ({alert:?}): {own}; a client without the curve \
                 secp256k1, such as a JDK since 16 as it comes, needs a listener of the profile fisco-rsa (docs/interop.md \
                 has what else helps); otherwise see whether its \
                 ca.crt is of the same chain"
            )),
            rustls::Error::AlertReceived(alert) => Some(format!(
                "the client refused this node's certificate or handshake ({alert:?}): {own}; see whether its ca.crt has the \
                 CA of that certificate, and whether its own certificate is of the profile {profile}"
            )),
            rustls::Error::PeerIncompatible(missing) => Some(format!(
                "the client offers nothing that a listener of the profile {profile} has in common with it ({missing:?}); \
                 fisco-ec needs TLS 1.2, all others take TLS 1.2 and 1.3 with ECDHE"
            )),
            _ => None,
        }
    }
}

fn describe(leaf: &CertificateDer<'_>) -> String {
    match Description::parse(leaf) {
        Ok(Description { subject, serial, issuer, .. }) => {
            format!("subject {subject}, serial {serial}, issuer {issuer}")
        }
        Err(error) => error.to_string(),
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("profile", &self.0.profile).finish_non_exhaustive()
    }
}
