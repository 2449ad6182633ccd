//! The TLS configurations of a node: client port and overlay.
//!
//! Every configuration here is mutual, verifies with [`Authority`], looks at no host names, and
//! never resumes a session.

use std::sync::Arc;

use amop_protocol::certificate::{Description, Role, Subject};
use rustls::{
    CertificateError, CipherSuite, ClientConfig, DigitallySignedStruct, DistinguishedName, ServerConfig,
    SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    server::{
        NoServerSessionStorage,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use super::authority::{Authority, ChainError};

/// The application protocol that nodes speak among themselves.
pub const OVERLAY_ALPN: &[u8] = b"amop/1";

/// Which clients a client port serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clients {
    /// Those of every institution in the consortium.
    OfConsortium,
    /// Those of the node's own institution only.
    OfOwnInstitution,
}

/// The cryptography used everywhere: ring, AES-128-GCM first. On links where both ends are ours
/// the first suite is the one used, and it costs least for what it gives.
pub(super) fn provider() -> CryptoProvider {
    let mut provider = rustls::crypto::ring::default_provider();
    let is_aes_128 = |suite: &rustls::SupportedCipherSuite| {
        matches!(
            suite.suite(),
            CipherSuite::TLS13_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        )
    };
    provider.cipher_suites.sort_by_key(|suite| !is_aes_128(suite));
    provider
}

pub(super) fn client_port_server(
    authority: &Authority,
    own_institution: Option<Arc<str>>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let verifier = Verifier { authority: authority.clone(), role: Role::Client, own_institution };
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&TLS12, &TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(chain, key)?;
    refuse_resumption(&mut config);
    Ok(config)
}

pub(super) fn overlay_server(
    authority: &Authority,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let verifier = Verifier::of_nodes(authority);
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(chain, key)?;
    refuse_resumption(&mut config);
    config.alpn_protocols = vec![OVERLAY_ALPN.to_vec()];
    Ok(config)
}

pub(super) fn overlay_client(
    authority: &Authority,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ClientConfig, rustls::Error> {
    let verifier = Verifier::of_nodes(authority);
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(chain, key)?;
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    config.alpn_protocols = vec![OVERLAY_ALPN.to_vec()];
    Ok(config)
}

fn refuse_resumption(config: &mut ServerConfig) {
    config.ignore_client_order = true;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
}

/// The authority's rule as rustls asks for it, on either side of a connection.
#[derive(Debug)]
pub(super) struct Verifier {
    authority: Authority,
    role: Role,
    own_institution: Option<Arc<str>>,
}

impl Verifier {
    pub(super) fn of_nodes(authority: &Authority) -> Self {
        Self { authority: authority.clone(), role: Role::Node, own_institution: None }
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        self.judge(leaf, intermediates, now).map(drop).map_err(|cause| {
            log_refusal(leaf, self.role, &cause);
            rustls::Error::InvalidCertificate(alert(cause))
        })
    }

    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Subject, ChainError> {
        let chain: Vec<_> = std::iter::once(leaf).chain(intermediates).cloned().collect();
        let subject = self.authority.verify_chain_at(&chain, self.role, now)?;
        match &self.own_institution {
            Some(own) if *own != subject.institution => {
                Err(ChainError::Institution { found: subject.institution, own: own.clone() })
            }
            _ => Ok(subject),
        }
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.authority.algorithms().supported_schemes()
    }
}

/// One line that lets an operator find the certificate and the reason.
fn log_refusal(leaf: &CertificateDer<'_>, role: Role, cause: &ChainError) {
    match Description::parse(leaf) {
        Ok(Description { subject, serial, issuer, .. }) => {
            tracing::warn!(subject, serial, issuer, needed = %role, %cause, "certificate refused");
        }
        Err(_) => tracing::warn!(needed = %role, %cause, "certificate refused"),
    }
}

/// What the other end is told, as closely as TLS alerts can say it.
fn alert(cause: ChainError) -> CertificateError {
    match cause {
        ChainError::Expired { .. } => CertificateError::Expired,
        ChainError::NotValidYet { .. } => CertificateError::NotValidYet,
        ChainError::UnknownIssuer { .. } | ChainError::Signature { .. } => CertificateError::UnknownIssuer,
        ChainError::Role { .. } | ChainError::Institution { .. } | ChainError::TooDeep => {
            CertificateError::ApplicationVerificationFailure
        }
        cause => CertificateError::Other(rustls::OtherError(Arc::new(cause))),
    }
}

impl ClientCertVerifier for Verifier {
    /// Empty: some SDKs pick their certificate by these names, and official nodes send none.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.verify(leaf, intermediates, now).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, leaf, signed, self.authority.algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signed, self.authority.algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verify(leaf, intermediates, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, leaf, signed, self.authority.algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signed, self.authority.algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}
