//! One adapter from chain rules to what rustls asks, on either side of a connection.

use std::{fmt, sync::Arc};

use amop_protocol::certificate::Description;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, ProtocolVersion, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::{ChainError, Throttle};

/// A rule by which certificate chains are believed.
pub trait Rule: fmt::Debug + Send + Sync + 'static {
    /// Judges a chain, leaf first.
    ///
    /// # Errors
    /// When the chain is not genuine, or not what is needed here.
    fn judge(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(), ChainError>;

    /// What is needed here, in a word or two, for the log.
    fn needed(&self) -> &'static str;

    /// The signatures that are understood, best first. All of them are implemented: some SDKs
    /// sign with the first they know.
    fn schemes(&self) -> Vec<SignatureScheme>;

    /// Verifies a handshake's signature by the leaf.
    ///
    /// # Errors
    /// When it is not that of the leaf's key, or not of a scheme that was offered.
    fn verify_signature(
        &self,
        version: ProtocolVersion,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error>;
}

/// A [`Rule`] as rustls asks for it. No host name is ever looked at.
#[derive(Debug)]
pub struct Verifier<R> {
    rule: R,
    refusals: Refusals,
    nothing_shown: NothingShown,
}

/// What becomes of a client that shows no certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NothingShown {
    Refused,
    LetIn,
}

/// What becomes of the reason when a certificate is refused.
#[derive(Debug)]
enum Refusals {
    Logged(Throttle),
    Returned,
}

impl<R: Rule> Verifier<R> {
    /// For nodes: a refused certificate is one line in the log, and the other end gets the alert
    /// that comes nearest.
    pub fn logging(rule: R) -> Arc<Self> {
        Arc::new(Self::new(rule, Refusals::Logged(Throttle::default()), NothingShown::Refused))
    }

    /// As [`Verifier::logging`], and a client that shows no certificate is let in: who it is must be asked
    /// in another way. One that is shown is verified all the same.
    pub fn logging_if_shown(rule: R) -> Arc<Self> {
        Arc::new(Self::new(rule, Refusals::Logged(Throttle::default()), NothingShown::LetIn))
    }

    /// For SDKs: the [`ChainError`] is in the error, see [`refusal`].
    pub fn returning(rule: R) -> Arc<Self> {
        Arc::new(Self::new(rule, Refusals::Returned, NothingShown::Refused))
    }

    fn new(rule: R, refusals: Refusals, nothing_shown: NothingShown) -> Self {
        Self { rule, refusals, nothing_shown }
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let chain: Vec<_> = std::iter::once(leaf).chain(intermediates).cloned().collect();
        let Err(cause) = self.rule.judge(&chain, now) else { return Ok(()) };
        let error = match &self.refusals {
            Refusals::Logged(throttle) => {
                throttle.line(|| log_refusal(leaf, self.rule.needed(), &cause));
                alert(cause)
            }
            Refusals::Returned => other(cause),
        };
        Err(rustls::Error::InvalidCertificate(error))
    }
}

/// Why a certificate was refused, out of the error of a [`Verifier::returning`].
pub fn refusal(error: &rustls::Error) -> Option<&ChainError> {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) => other.0.downcast_ref(),
        _ => None,
    }
}

/// One line that lets an operator find the certificate and the reason.
fn log_refusal(leaf: &CertificateDer<'_>, needed: &str, cause: &ChainError) {
    match Description::parse(leaf) {
        Ok(Description { subject, serial, issuer, .. }) => {
            tracing::warn!(subject, serial, issuer, needed, %cause, "certificate refused");
        }
        Err(_) => tracing::warn!(needed, %cause, "certificate refused"),
    }
}

/// What the other end is told, as closely as TLS alerts can say it.
fn alert(cause: ChainError) -> CertificateError {
    match cause {
        ChainError::Expired { .. } => CertificateError::Expired,
        ChainError::NotValidYet { .. } => CertificateError::NotValidYet,
        ChainError::Revoked { .. } => CertificateError::Revoked,
        ChainError::UnknownIssuer { .. }
        | ChainError::Signature { .. }
        | ChainError::UnknownCa { .. }
        | ChainError::OtherCa { .. } => CertificateError::UnknownIssuer,
        ChainError::Role { .. } | ChainError::Institution { .. } | ChainError::TooDeep => {
            CertificateError::ApplicationVerificationFailure
        }
        cause => other(cause),
    }
}

fn other(cause: ChainError) -> CertificateError {
    CertificateError::Other(OtherError(Arc::new(cause)))
}

impl<R: Rule> ClientCertVerifier for Verifier<R> {
    fn client_auth_mandatory(&self) -> bool {
        self.nothing_shown == NothingShown::Refused
    }

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
        self.rule.verify_signature(ProtocolVersion::TLSv1_2, message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.rule.verify_signature(ProtocolVersion::TLSv1_3, message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.rule.schemes()
    }
}

impl<R: Rule> ServerCertVerifier for Verifier<R> {
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
        self.rule.verify_signature(ProtocolVersion::TLSv1_2, message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.rule.verify_signature(ProtocolVersion::TLSv1_3, message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.rule.schemes()
    }
}
