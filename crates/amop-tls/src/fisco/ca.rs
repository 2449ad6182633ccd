//! CAs that somebody configured.

use std::sync::Arc;

use amop_protocol::certificate::Description;
use rustls_pki_types::{CertificateDer, UnixTime};

use super::{
    Kind,
    certificate::{Certificate, Validity},
};
use crate::{ChainError, Revocations, chain_of_bounded_size, error};

/// A CA's certificate out of a file.
#[derive(Clone, Debug)]
pub struct Ca {
    kind: Kind,
    subject: Vec<u8>,
    issuer: Vec<u8>,
    key: Vec<u8>,
    validity: Validity,
    path_length: Option<u32>,
    der: CertificateDer<'static>,
}

impl PartialEq for Ca {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for Ca {}

impl Ca {
    /// Reads a CA's certificate. One that issued itself must be signed by itself.
    ///
    /// # Errors
    /// When it is not of this kind, or no CA.
    pub fn parse(kind: Kind, der: &CertificateDer<'_>) -> Result<Self, ChainError> {
        chain_of_bounded_size(std::slice::from_ref(der))?;
        let certificate = Certificate::parse(kind, der)?;
        certificate.check_configured_ca()?;
        let ca = Self::of(kind, &certificate, der);
        if ca.is_self_issued() && !ca.issued_parsed(&certificate) {
            return Err(ChainError::OtherCa { issuer: issuer_of(der) });
        }
        Ok(ca)
    }

    pub(super) fn of(kind: Kind, certificate: &Certificate<'_>, der: &CertificateDer<'_>) -> Self {
        Self {
            kind,
            subject: certificate.subject().to_vec(),
            issuer: certificate.issuer().to_vec(),
            key: certificate.key().to_vec(),
            validity: certificate.validity(),
            path_length: certificate.path_length(),
            der: der.clone().into_owned(),
        }
    }

    /// Whether it names itself as its issuer.
    pub fn is_self_issued(&self) -> bool {
        self.subject == self.issuer
    }

    /// Whether both are certificates of one CA: the name and the key are the same, so whatever one
    /// issued the other did, too. A renewed certificate is such a second one.
    pub fn is_same_ca(&self, other: &Self) -> bool {
        self.subject == other.subject && self.key == other.key
    }

    /// Whether this CA issued that certificate: by name and by signature.
    pub fn issued(&self, der: &CertificateDer<'_>) -> bool {
        Certificate::parse(self.kind, der).is_ok_and(|certificate| self.issued_parsed(&certificate))
    }

    /// Last second of validity, Unix time.
    pub fn not_after(&self) -> i64 {
        self.validity.not_after()
    }

    pub(super) fn issued_parsed(&self, certificate: &Certificate<'_>) -> bool {
        self.is_named_by(certificate) && certificate.verify(self.kind, &self.key).is_ok()
    }

    pub(super) fn is_named_by(&self, certificate: &Certificate<'_>) -> bool {
        certificate.issuer() == self.subject
    }

    /// The certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// Refuses a certificate that this CA issued and has revoked since.
    pub(super) fn check_revoked(
        &self,
        whose: &'static str,
        serial: &[u8],
        revocations: &Revocations,
    ) -> Result<(), ChainError> {
        revocations.check(whose, &self.subject, |key| *key == *self.key, serial)
    }

    pub(super) fn may_issue_cas(&self) -> bool {
        self.path_length != Some(0)
    }

    pub(super) fn check_validity(&self, whose: &'static str, now: UnixTime) -> Result<(), ChainError> {
        self.validity.check(whose, now)
    }
}

/// A configured CA that vouches for leaves.
#[derive(Clone, Debug)]
pub struct Issuer {
    ca: Ca,
    /// The CA above it, if that is another, and known.
    above: Option<Ca>,
    /// Whether it is believed as long as the CA above it is valid, or by itself.
    stands: Stands,
    institution: Option<Arc<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stands {
    Alone,
    BelowAnother,
}

impl Issuer {
    /// A CA that is believed by itself. Its leaves belong to `institution`, or else to the CA's
    /// own name.
    pub fn anchor(ca: Ca, institution: Option<Arc<str>>) -> Self {
        Self { ca, above: None, stands: Stands::Alone, institution }
    }

    /// A CA that is believed because one of `chains` issued it. One that issued itself stands for
    /// itself, and so does one of `chains`; the latter until it is revoked by the one of them that issued it.
    ///
    /// # Errors
    /// When none of `chains` issued it, or it does not say that it is a CA.
    pub fn agency(ca: Ca, chains: &[Ca], institution: Option<Arc<str>>) -> Result<Self, ChainError> {
        if ca.is_self_issued() {
            return Ok(Self::anchor(ca, institution));
        }
        let certificate = Certificate::parse(ca.kind, &ca.der)?;
        let issued = chains.iter().filter(|chain| chain.issued_parsed(&certificate));
        if chains.contains(&ca) {
            let above = newest(issued);
            return Ok(Self { ca, above, stands: Stands::Alone, institution });
        }
        certificate.check_issued_ca()?;
        let above = newest(issued.filter(|chain| chain.may_issue_cas()));
        above.as_ref().ok_or_else(|| ChainError::UnknownCa { issuer: issuer_of(&ca.der) })?;
        Ok(Self { ca, above, stands: Stands::BelowAnother, institution })
    }

    /// The CA itself.
    pub fn ca(&self) -> &Ca {
        &self.ca
    }

    /// Refuses a leaf of this CA that was revoked, or any if the CA was, by the one above it.
    pub(super) fn check_revoked(
        &self,
        whose: &'static str,
        serial: &[u8],
        revocations: &Revocations,
    ) -> Result<(), ChainError> {
        self.ca.check_revoked(whose, serial, revocations)?;
        if self.ca.is_self_issued() { Ok(()) } else { revocations.check_ca(&self.ca.der) }
    }

    pub(super) fn institution(&self) -> Option<Arc<str>> {
        self.institution.clone()
    }

    /// The CA above it, if that is another, and known.
    pub fn above(&self) -> Option<&Ca> {
        self.above.as_ref()
    }

    /// That of the CA, and of the one above it if that matters.
    pub(super) fn check_validity(&self, now: UnixTime) -> Result<(), ChainError> {
        self.ca.check_validity(error::ISSUER, now)?;
        let above = self.above.iter().filter(|_| self.stands == Stands::BelowAnother);
        above.into_iter().try_for_each(|above| above.check_validity(error::CHAIN, now))
    }
}

/// Of a CA that was renewed both certificates may be there.
fn newest<'a>(of_one_ca: impl Iterator<Item = &'a Ca>) -> Option<Ca> {
    of_one_ca.max_by_key(|ca| ca.not_after()).cloned()
}

/// The issuer a certificate names, for messages.
pub(super) fn issuer_of(der: &CertificateDer<'_>) -> String {
    Description::parse(der).map(|description| description.issuer).unwrap_or_default()
}
