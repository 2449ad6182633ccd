//! What a client port's listener serves with, and who its clients are.

use std::{fmt, sync::Arc};

use amop_protocol::{
    ClientIdentity,
    certificate::{Description, Subject},
};
use amop_tls::{Authority, ChainError, Holder, Profile, Revocations, Rule, fingerprint, fisco, while_valid};
use arc_swap::ArcSwap;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::{
    facts::{Fact, Of},
    tls,
};

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

/// What a client port's listener serves with, and whom it believes. Clones share one copy, which
/// may be replaced while the listener serves.
#[derive(Clone)]
pub struct ClientTls(Arc<ArcSwap<Inner>>);

/// What a listener serves with at some moment. Clones share one copy.
#[derive(Clone)]
pub struct Serving(Arc<Inner>);

struct Inner {
    server: Arc<rustls::ServerConfig>,
    profile: Profile,
    /// Who is believed, as the server's verifier asks.
    rule: Believed,
    /// The listener's own certificate, for messages.
    own: String,
    /// Its certificates that are no others' too.
    facts: Vec<Fact>,
}

enum Believed {
    Consortium(Holder),
    /// It also says whose a client is.
    Agencies(fisco::Authority),
}

impl Serving {
    pub(super) fn consortium(
        authority: &Authority,
        own_institution: Option<Arc<str>>,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, rustls::Error> {
        let own = describe(chain.first());
        let rule = Holder::client(authority, own_institution);
        let server = Arc::new(tls::client_port_server(rule.clone(), chain, key)?);
        let (profile, rule, facts) = (Profile::Default, Believed::Consortium(rule), Vec::new());
        Ok(Self(Arc::new(Inner { server, profile, rule, own, facts })))
    }

    pub(super) fn fisco(
        server: rustls::ServerConfig,
        kind: fisco::Kind,
        agencies: fisco::Authority,
        chain: &[CertificateDer<'_>],
        cas: &[CertificateDer<'_>],
    ) -> Self {
        let (own, ca) = (Of::ClientPort, Of::Agency);
        let certificates =
            chain.first().map(|der| (own, der)).into_iter().chain(cas.iter().map(|der| (ca, der)));
        let mut facts: Vec<_> = certificates.filter_map(|(of, der)| Fact::of_certificate(of, der)).collect();
        facts.extend(agencies.revocations().lists().iter().map(Fact::of_list));
        let (server, profile, own) = (Arc::new(server), kind.profile(), describe(chain.first()));
        Self(Arc::new(Inner { server, profile, rule: Believed::Agencies(agencies), own, facts }))
    }

    /// The TLS configuration: mutual, nothing resumed.
    pub fn server_config(&self) -> Arc<rustls::ServerConfig> {
        self.0.server.clone()
    }

    /// What it refuses.
    pub(super) fn revocations(&self) -> Option<&Revocations> {
        match &self.0.rule {
            Believed::Consortium(_) => None,
            Believed::Agencies(agencies) => Some(agencies.revocations()),
        }
    }
}

impl ClientTls {
    pub(super) fn new(serving: Serving) -> Self {
        Self(Arc::new(ArcSwap::new(serving.0)))
    }

    /// One that serves with the same, until it is replaced by itself.
    #[must_use]
    pub fn apart(&self) -> Self {
        Self::new(self.serving())
    }

    /// What new connections are served with from now on.
    pub fn replace(&self, serving: Serving) {
        self.0.store(serving.0);
    }

    /// What connections are served with now.
    pub fn serving(&self) -> Serving {
        Serving(self.0.load_full())
    }

    /// Whether that is what is in force still.
    pub fn serves(&self, serving: &Serving) -> bool {
        Arc::ptr_eq(&self.0.load(), &serving.0)
    }

    /// The kind of certificates.
    pub fn profile(&self) -> Profile {
        self.0.load().profile
    }

    /// The certificates and lists of this listener that are not the node's.
    pub fn facts(&self) -> Vec<Fact> {
        self.0.load().facts.clone()
    }

    /// Whether a client that is connected would still be believed. That its certificate has expired
    /// meanwhile counts for nothing: nobody has changed his mind about it.
    ///
    /// # Errors
    /// When its certificate was revoked, or no CA that is believed vouches for it any more.
    pub fn still_believes(&self, chain: &[CertificateDer<'_>]) -> Result<(), ChainError> {
        let at = while_valid(chain);
        match &self.0.load().rule {
            Believed::Consortium(holder) => holder.judge(chain, at),
            Believed::Agencies(agencies) => match agencies.verify_chain_at(chain, at) {
                Ok(_) | Err(ChainError::Expired { .. }) => Ok(()),
                Err(cause) => Err(cause),
            },
        }
    }

    /// Who a connected client is. `chain` is what it presented and TLS verified, leaf first.
    ///
    /// # Errors
    /// When there is no certificate, or none that names anybody.
    pub fn identify(&self, chain: &[CertificateDer<'_>]) -> Result<Client, ChainError> {
        let leaf = chain.first().ok_or(ChainError::Missing)?;
        let (name, institution) = match &self.0.load().rule {
            Believed::Consortium(_) => {
                let Subject { name, institution, .. } = Subject::parse(leaf)?;
                (name, institution)
            }
            Believed::Agencies(agencies) => {
                let fisco::Identity { name, institution } = agencies.verify_chain(chain)?;
                (name, institution)
            }
        };
        Ok(Client { identity: ClientIdentity { fingerprint: fingerprint(leaf), name }, institution })
    }

    /// Why a handshake failed and what to do, where that can be told: for one line in the log.
    /// A certificate that this side refused has had its line already, and gets none here.
    pub fn explain(&self, error: &rustls::Error) -> Option<String> {
        let inner = self.0.load();
        let Inner { profile, own, .. } = &**inner;
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

fn describe(leaf: Option<&CertificateDer<'_>>) -> String {
    match Description::parse(leaf.map(|der| &**der).unwrap_or_default()) {
        Ok(Description { subject, serial, issuer, .. }) => {
            format!("subject {subject}, serial {serial}, issuer {issuer}")
        }
        Err(error) => error.to_string(),
    }
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving").field("profile", &self.0.profile).finish_non_exhaustive()
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("profile", &self.profile()).finish_non_exhaustive()
    }
}
