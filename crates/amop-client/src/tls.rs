//! The client's side of TLS: who we are, and which nodes we believe.
//!
//! A node is believed if its certificate chains to the consortium's root and says it is a node.
//! No host name is looked at: nodes are dialled by address, and the role is what matters.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use amop_protocol::certificate::{self, Role, Subject};
use rustls::{
    CertificateError, CipherSuite, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore,
    SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    server::ParsedCertificate,
    version::{TLS12, TLS13},
};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, ServerName, UnixTime,
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
    /// Key and certificate cannot be used, or do not belong together.
    #[error("certificate and key cannot be used together; do they belong to each other?")]
    Unusable(#[source] rustls::Error),
}

/// Why a node's certificate is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NodeCertificateError {
    /// Its chain does not lead to our root, or is not valid now.
    #[error("the node's certificate is not valid under ca.crt ({0}); is it a node of this consortium?")]
    Chain(String),
    /// Not a certificate of the kind AMOP uses.
    #[error("the node's certificate cannot be read: {0}")]
    Subject(#[from] certificate::ParseError),
    /// It belongs to a client.
    #[error("the certificate offered is a {found}'s, not a node's; is this address really a node?")]
    Role {
        /// Its role.
        found: Role,
    },
}

pub(crate) fn client_config(files: &Certificates) -> Result<ClientConfig, IdentityError> {
    let provider = Arc::new(provider());
    let verifier = Arc::new(NodeVerifier {
        roots: roots(&files.ca)?,
        algorithms: provider.signature_verification_algorithms,
    });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(IdentityError::Unusable)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(certificates(&files.certificate)?, private_key(&files.key)?)
        .map_err(IdentityError::Unusable)?;
    // Every connection verifies the node anew.
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(config)
}

/// ring, AES-128-GCM first: it costs least for what it gives.
fn provider() -> CryptoProvider {
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites.sort_by_key(|suite| {
        !matches!(
            suite.suite(),
            CipherSuite::TLS13_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        )
    });
    provider
}

fn roots(path: &Path) -> Result<RootCertStore, IdentityError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(IdentityError::Unusable)?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    const WANTED: &str = "certificate";
    let pem = read(path)?;
    let found = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|source| IdentityError::Pem {
        path: path.to_owned(),
        wanted: WANTED,
        source: Some(source),
    })?;
    if found.is_empty() {
        return Err(IdentityError::Pem { path: path.to_owned(), wanted: WANTED, source: None });
    }
    Ok(found)
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

#[derive(Debug)]
struct NodeVerifier {
    roots: RootCertStore,
    algorithms: WebPkiSupportedAlgorithms,
}

impl NodeVerifier {
    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), NodeCertificateError> {
        ParsedCertificate::try_from(leaf)
            .and_then(|parsed| {
                let algorithms = self.algorithms.all;
                verify_server_cert_signed_by_trust_anchor(
                    &parsed,
                    &self.roots,
                    intermediates,
                    now,
                    algorithms,
                )
            })
            .map_err(|error| NodeCertificateError::Chain(error.to_string()))?;
        match Subject::parse(leaf)?.role {
            Role::Node => Ok(()),
            found => Err(NodeCertificateError::Role { found }),
        }
    }
}

impl ServerCertVerifier for NodeVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.judge(leaf, intermediates, now) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(error) => Err(CertificateError::Other(OtherError(Arc::new(error))).into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, leaf, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
