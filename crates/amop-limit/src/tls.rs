//! The pinned cryptography: TLS 1.3, AES-128-GCM, X25519, by ring; nothing else is offered or taken.
//!
//! It is what two nodes of ours agree on. No session is ever resumed, so that every connection costs the same.

use std::{path::Path, sync::Arc};

use amop_load::system::Security;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::{CryptoProvider, ring},
    server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier},
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};

/// What is pinned, for reports.
pub fn security() -> Security {
    Security {
        protocol: "TLS 1.3".into(),
        cipher_suite: "TLS13_AES_128_GCM_SHA256".into(),
        key_exchange: "X25519".into(),
    }
}

/// Whom every certificate of a bench names.
pub const HOST: &str = "localhost";

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file that cannot be read, or has something else in it.
    #[error("cannot read {0}; it must be a PEM file made by the bench")]
    File(String, #[source] rustls_pki_types::pem::Error),
    /// What rustls does not take.
    #[error("cannot use the certificates")]
    Tls(#[from] rustls::Error),
    /// Roots that nothing can be verified with.
    #[error("cannot verify with ca.crt")]
    Roots(#[from] VerifierBuilderError),
}

/// ring, with one cipher suite and one group.
pub fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![ring::cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![ring::kx_group::X25519],
        ..ring::default_provider()
    }
}

/// The name that is verified when connecting.
pub fn host() -> ServerName<'static> {
    ServerName::try_from(HOST).expect("invariant: a host name")
}

/// For the one who connects, with `ca.crt`, `NAME.crt` and `NAME.key` in a directory.
///
/// # Errors
/// When they cannot be used.
pub fn client(directory: &Path, name: &str) -> Result<ClientConfig, Error> {
    let files = Files::load(directory, name)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(files.roots)
        .with_client_auth_cert(files.chain, files.key)?;
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// For the one who is connected to, with `ca.crt`, `node.crt` and `node.key` in a directory.
///
/// # Errors
/// When they cannot be used.
pub fn server(directory: &Path) -> Result<ServerConfig, Error> {
    let files = Files::load(directory, "node")?;
    let provider = Arc::new(provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(files.roots, provider.clone()).build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(files.chain, files.key)?;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

struct Files {
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Files {
    fn load(directory: &Path, name: &str) -> Result<Self, Error> {
        let certificates = |file: &str| {
            let path = directory.join(file);
            let read: Result<Vec<_>, _> =
                CertificateDer::pem_file_iter(&path).and_then(|found| found.collect());
            read.map_err(|error| Error::File(path.display().to_string(), error))
        };
        let mut roots = RootCertStore::empty();
        for root in certificates("ca.crt")? {
            roots.add(root)?;
        }
        let key = directory.join(format!("{name}.key"));
        Ok(Self {
            roots: Arc::new(roots),
            chain: certificates(&format!("{name}.crt"))?,
            key: PrivateKeyDer::from_pem_file(&key)
                .map_err(|error| Error::File(key.display().to_string(), error))?,
        })
    }
}
