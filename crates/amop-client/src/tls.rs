//! The client's side of TLS: who we are, and which nodes we believe.
//!
//! The kind of this client's key decides which certificates these are: AMOP's own, or one of
//! the two kinds of FISCO BCOS. With the former a node is believed if its certificate chains to
//! the consortium's root and says that it is a node; with the latter if its chain leads to a CA
//! in `ca.crt`. No host name is looked at: nodes are dialled by address.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use amop_protocol::{
    Fingerprint, NodeKey,
    certificate::{Role, Subject},
};
use amop_tls::{
    Authority, ChainError, Holder, Verifier, fingerprint,
    fisco::{self, Ca, Issuer, KeyError, Kind},
    provider,
};
use rustls::{
    ClientConfig,
    client::Resumption,
    sign::SingleCertAndKey,
    version::{TLS12, TLS13},
};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};

use crate::Certificates;

/// The certificate files cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// A file cannot be read.
    #[error("cannot read {}; is the directory the one with ca.crt, sdk.crt and sdk.key?", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{} holds no {wanted} in PEM", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        wanted: &'static str,
        /// Why it was not found, if it is damaged.
        source: Option<pem::Error>,
    },
    /// A certificate in the file of CAs vouches for nobody.
    #[error("certificate {position} in {} cannot be a CA: {source}", path.display())]
    Ca {
        /// The file.
        path: PathBuf,
        /// Which certificate in it, counted from 1.
        position: usize,
        /// Why.
        source: ChainError,
    },
    /// Key and certificate cannot be used, or do not belong together.
    #[error("certificate and key cannot be used together; do they belong to each other?")]
    Unusable(#[source] rustls::Error),
    /// Key and certificate, of FISCO BCOS by the key, are no pair.
    #[error("{} cannot be used: {source}", path.display())]
    Fisco {
        /// The file at fault.
        path: PathBuf,
        /// Why.
        source: KeyError,
    },
}

const CERTIFICATE: &str = "certificate";

/// TLS with a client's certificates.
pub(crate) struct Tls {
    pub(crate) config: ClientConfig,
    pub(crate) nodes: Nodes,
    /// The client's own certificate.
    pub(crate) fingerprint: Fingerprint,
}

/// Which nodes are believed.
pub(crate) enum Nodes {
    Consortium(Authority),
    Fisco(fisco::Authority),
}

/// A node, by its verified certificate.
pub(crate) struct Identity {
    pub(crate) name: Arc<str>,
    pub(crate) institution: Arc<str>,
    pub(crate) key: Option<NodeKey>,
}

impl Tls {
    pub(crate) fn load(files: &Certificates) -> Result<Self, IdentityError> {
        let cas = certificates(&files.ca)?;
        let chain = certificates(&files.certificate)?;
        let key = private_key(&files.key)?;
        let leaf = chain.first().map(fingerprint).ok_or_else(|| no_certificate(&files.certificate))?;
        let (mut config, nodes) = match fisco::kind_of_key(&key) {
            None => Self::consortium(&cas, chain, key, files)?,
            Some(kind) => Self::fisco(kind, &cas, chain, &key, files)?,
        };
        // Every connection verifies the node anew.
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        Ok(Self { config, nodes, fingerprint: leaf })
    }

    fn consortium(
        cas: &[CertificateDer<'_>],
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        files: &Certificates,
    ) -> Result<(ClientConfig, Nodes), IdentityError> {
        let authority = Authority::new(cas).map_err(|(at, source)| not_a_ca(&files.ca, at, source))?;
        let config = ClientConfig::builder_with_provider(Arc::new(provider::default()))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(IdentityError::Unusable)?
            .dangerous()
            .with_custom_certificate_verifier(Verifier::returning(Holder::node(&authority, None)))
            .with_client_auth_cert(chain, key)
            .map_err(IdentityError::Unusable)?;
        Ok((config, Nodes::Consortium(authority)))
    }

    fn fisco(
        kind: Kind,
        cas: &[CertificateDer<'_>],
        chain: Vec<CertificateDer<'static>>,
        key: &PrivateKeyDer<'_>,
        files: &Certificates,
    ) -> Result<(ClientConfig, Nodes), IdentityError> {
        let mut issuers = Vec::new();
        for (at, der) in cas.iter().enumerate() {
            let ca = Ca::parse(kind, der).map_err(|source| not_a_ca(&files.ca, at, source))?;
            issuers.push(Issuer::anchor(ca, None));
        }
        let authority = fisco::Authority::new(kind, fisco::Purpose::Nodes, issuers);
        let pair = fisco::certified_key(kind, chain, key).map_err(|source| {
            let at_fault = match source {
                KeyError::Certificate(_) => &files.certificate,
                _ => &files.key,
            };
            IdentityError::Fisco { path: at_fault.clone(), source }
        })?;
        let config = ClientConfig::builder_with_provider(Arc::new(provider::fisco()))
            .with_protocol_versions(&kind.versions())
            .map_err(IdentityError::Unusable)?
            .dangerous()
            .with_custom_certificate_verifier(Verifier::returning(authority.clone()))
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
        Ok((config, Nodes::Fisco(authority)))
    }
}

impl Nodes {
    /// Who a node is. `chain` is what it presented and TLS verified.
    pub(crate) fn identify(&self, chain: &[CertificateDer<'_>]) -> Result<Identity, ChainError> {
        match self {
            Self::Consortium(authority) => {
                let Subject { name, institution, key, .. } = authority.verify_chain(chain, Role::Node)?;
                Ok(Identity { name, institution, key })
            }
            Self::Fisco(authority) => {
                let fisco::Identity { name, institution } = authority.verify_chain(chain)?;
                Ok(Identity { name, institution, key: None })
            }
        }
    }
}

fn not_a_ca(path: &Path, at: usize, source: ChainError) -> IdentityError {
    IdentityError::Ca { path: path.to_owned(), position: at + 1, source }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let pem = read(path)?;
    let found = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|source| IdentityError::Pem {
        path: path.to_owned(),
        wanted: CERTIFICATE,
        source: Some(source),
    })?;
    if found.is_empty() { Err(no_certificate(path)) } else { Ok(found) }
}

fn no_certificate(path: &Path) -> IdentityError {
    IdentityError::Pem { path: path.to_owned(), wanted: CERTIFICATE, source: None }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, IdentityError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|source| IdentityError::Pem {
        path: path.to_owned(),
        wanted: "private key that is not encrypted",
        source: Some(source),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, IdentityError> {
    std::fs::read(path).map_err(|source| IdentityError::Read { path: path.to_owned(), source })
}
