//! Whom a FISCO BCOS certificate is believed from.

use std::{fmt, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, PeerMisbehaved, ProtocolVersion, SignatureScheme,
    client::danger::HandshakeSignatureValid,
};
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use webpki::ring::{RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256_LEGACY_KEY};

use super::{Ca, Issuer, Kind, ca::issuer_of, certificate::Certificate};
use crate::{ChainError, Revocations, Rule, chain_of_bounded_size, error, secp256k1};

/// The CAs that are believed, and for what.
#[derive(Clone)]
pub struct Authority(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: Kind,
    purpose: Purpose,
    issuers: Vec<Issuer>,
    revocations: Revocations,
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Clients, at a node.
    Clients,
    /// Nodes, for an SDK. As official SDKs do, it believes all agencies of the chain whose CA it has.
    Nodes,
}

/// Who a leaf is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The common name. All official RSA certificates have the same.
    pub name: Arc<str>,
    /// What the CA that issued the leaf stands for: as configured, else the CA's own name.
    pub institution: Arc<str>,
}

impl Authority {
    /// An authority that believes what these CAs issue. Where [`Purpose::Nodes`] are judged, a CA
    /// that one of them issued may itself issue leaves.
    pub fn new(kind: Kind, purpose: Purpose, issuers: Vec<Issuer>) -> Self {
        Self(Arc::new(Inner { kind, purpose, issuers, revocations: Revocations::default() }))
    }

    /// The same, which refuses what these lists revoke, leaves and CAs alike.
    #[must_use]
    pub fn revoking(mut self, revocations: Revocations) -> Self {
        Arc::make_mut(&mut self.0).revocations = revocations;
        self
    }

    /// The lists of what is revoked.
    pub fn revocations(&self) -> &Revocations {
        &self.0.revocations
    }

    /// Verifies a chain, leaf first, and says whose it is.
    ///
    /// # Errors
    /// When it is not genuine.
    pub fn verify_chain(&self, chain: &[CertificateDer<'_>]) -> Result<Identity, ChainError> {
        self.verify_chain_at(chain, UnixTime::now())
    }

    /// As [`Authority::verify_chain`], at a given moment.
    ///
    /// # Errors
    /// As [`Authority::verify_chain`].
    pub fn verify_chain_at(
        &self,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Identity, ChainError> {
        let (leaf_der, rest) = chain_of_bounded_size(chain)?;
        let leaf = Certificate::parse(self.0.kind, leaf_der)?;
        leaf.check_leaf(self.0.purpose)?;
        let institution = match self.configured(&leaf, now) {
            Some(issuer) => {
                // What is revoked is so whether or not it has expired meanwhile.
                issuer.check_revoked(error::LEAF, leaf.serial(), &self.0.revocations)?;
                leaf.validity().check(error::LEAF, now)?;
                issuer.check_validity(now)?;
                issuer.institution()
            }
            None => {
                self.agency(&leaf, leaf_der, rest, now)?;
                None
            }
        };
        let institution = institution.map_or_else(|| leaf.issuer_name(), Ok)?;
        Ok(Identity { name: leaf.name()?, institution })
    }

    /// The configured CA that issued this certificate. Of a CA that was renewed both certificates
    /// may be configured; one that is valid is preferred.
    fn configured(&self, certificate: &Certificate<'_>, now: UnixTime) -> Option<&Issuer> {
        let mut issued = self.0.issuers.iter().filter(|issuer| issuer.ca().issued_parsed(certificate));
        let first = issued.next()?;
        match first.check_validity(now) {
            Ok(()) => Some(first),
            Err(_) => issued.find(|issuer| issuer.check_validity(now).is_ok()).or(Some(first)),
        }
    }

    /// Verifies a leaf from a CA that came along.
    fn agency(
        &self,
        leaf: &Certificate<'_>,
        der: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), ChainError> {
        let issuer = issuer_of(der);
        if self.0.issuers.iter().any(|configured| configured.ca().is_named_by(leaf)) {
            return Err(ChainError::OtherCa { issuer });
        }
        if (self.0.kind, self.0.purpose) != (Kind::Ec, Purpose::Nodes) {
            return Err(ChainError::UnknownCa { issuer });
        }
        for der in rest {
            let Ok(certificate) = Certificate::parse(self.0.kind, der) else { continue };
            let ca = Ca::of(self.0.kind, &certificate, der);
            // One that issued itself vouches for nobody unless it is configured.
            if ca.is_self_issued() || !ca.issued_parsed(leaf) {
                continue;
            }
            certificate.check_issued_ca()?;
            if let Some(above) = self.configured(&certificate, now).filter(|above| above.ca().may_issue_cas())
            {
                leaf.validity().check(error::LEAF, now)?;
                ca.check_validity(error::ISSUER, now)?;
                ca.check_revoked(error::LEAF, leaf.serial(), &self.0.revocations)?;
                above.check_revoked(error::ISSUER, certificate.serial(), &self.0.revocations)?;
                return above.ca().check_validity(error::CHAIN, now);
            }
        }
        Err(ChainError::UnknownCa { issuer })
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("fisco::Authority");
        shown.field("kind", &self.0.kind).field("issuers", &self.0.issuers.len()).finish()
    }
}

impl Rule for Authority {
    fn judge(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(), ChainError> {
        self.verify_chain_at(chain, now).map(drop)
    }

    fn needed(&self) -> &'static str {
        self.0.kind.profile().as_str()
    }

    /// For both kinds the same, so that a certificate of the other kind comes and can be named in
    /// the log; a client that cannot sign sends none.
    fn schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::RSA_PKCS1_SHA256,
        ]
    }

    fn verify_signature(
        &self,
        version: ProtocolVersion,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithm: &dyn SignatureVerificationAlgorithm = match (self.0.kind, version, signed.scheme) {
            (Kind::Rsa, _, SignatureScheme::RSA_PSS_SHA256) => RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
            (Kind::Rsa, ProtocolVersion::TLSv1_2, SignatureScheme::RSA_PKCS1_SHA256) => {
                RSA_PKCS1_2048_8192_SHA256
            }
            (Kind::Ec, ProtocolVersion::TLSv1_2, SignatureScheme::ECDSA_NISTP256_SHA256) => {
                secp256k1::ECDSA_SHA256
            }
            _ => return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into()),
        };
        let bad = |_| rustls::Error::InvalidCertificate(CertificateError::BadSignature);
        let leaf = Certificate::parse(self.0.kind, leaf)
            .map_err(|_| rustls::Error::InvalidCertificate(CertificateError::BadEncoding))?;
        algorithm.verify_signature(leaf.key(), message, signed.signature()).map_err(bad)?;
        Ok(HandshakeSignatureValid::assertion())
    }
}
