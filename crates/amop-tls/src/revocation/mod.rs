//! Certificates that their CA has taken back: revocation lists (RFC 5280, section 5).
//!
//! A list is believed only from a CA that the caller believes, which must have signed it. Deltas and
//! lists for other CAs or for a part of the certificates are refused, not misread.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, sync::Arc};

use amop_protocol::{Fingerprint, certificate::ParseError};
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm};
use x509_parser::{
    der_parser::{Oid, oid},
    prelude::{CertificateRevocationList, FromDer, X509Certificate, X509Extension},
    x509::SubjectPublicKeyInfo,
};

use crate::{ChainError, der, error, provider, secp256k1};

/// Most characters of a name that are shown.
const MAX_SHOWN: usize = 200;

/// Why a revocation list is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CrlError {
    /// The bytes are not one revocation list.
    #[error("it is not an X.509 revocation list")]
    Malformed,
    /// A list of another kind than of all that its CA has revoked.
    #[error(
        "it has the extension {0}: it is a delta, a list for other CAs, or one for some certificates only; a complete list of one CA is needed"
    )]
    Partial(String),
    /// No CA that is known here has the name of its issuer.
    #[error(
        "its issuer {issuer} is no CA that is known here; put that CA's certificate into the same file, or into the file of CAs"
    )]
    UnknownIssuer {
        /// The issuer it names.
        issuer: String,
    },
    /// A CA with the name of its issuer is known, and did not sign it.
    #[error("it is not signed by the CA known here as {issuer}; it is damaged or forged, or another CA's")]
    Signature {
        /// The issuer it names.
        issuer: String,
    },
    /// A list that is to hold from later on.
    #[error("it is valid only from {}; is the clock right?", crate::error::date(*.0))]
    NotValidYet(i64),
}

/// What one CA has revoked: verified.
#[derive(Clone, PartialEq, Eq)]
pub struct Crl {
    issuer_name: String,
    issuer: Vec<u8>,
    /// The CA's public key itself: two CAs may have one name.
    key: Vec<u8>,
    /// The certificate of the CA by which it was verified.
    ca: CertificateDer<'static>,
    /// By serial number without leading zeros: since when, Unix time.
    revoked: BTreeMap<Vec<u8>, i64>,
    /// Its number among its CA's lists, big endian without leading zeros, if it has one.
    number: Option<Vec<u8>>,
    this_update: i64,
    next_update: Option<i64>,
    digest: Fingerprint,
}

impl Crl {
    /// Reads a list in DER and verifies it by whichever of `cas` has signed it, at the moment `now`
    /// (Unix time, seconds). The caller believes these CAs.
    ///
    /// # Errors
    /// When it is no complete list of one of them. One that is past its end is taken: what it has
    /// revoked stays revoked; see [`Crl::next_update`].
    pub fn parse(der: &[u8], cas: &[CertificateDer<'_>], now: i64) -> Result<Self, CrlError> {
        let Ok(([], list)) = CertificateRevocationList::from_der(der) else {
            return Err(CrlError::Malformed);
        };
        // It names its algorithm twice, and only one of the two is signed.
        if list.tbs_cert_list.signature != list.signature_algorithm {
            return Err(CrlError::Malformed);
        }
        check_complete(&list)?;
        let issuer = list.issuer().to_string().chars().take(MAX_SHOWN).collect::<String>();
        let issuer_name = issuer.escape_debug().to_string();
        let (key, ca) = signer(&list, cas).map_err(|named| match named {
            true => CrlError::Signature { issuer: issuer_name.clone() },
            false => CrlError::UnknownIssuer { issuer: issuer_name.clone() },
        })?;
        let this_update = list.last_update().timestamp();
        if this_update > now {
            return Err(CrlError::NotValidYet(this_update));
        }
        let revoked = list
            .iter_revoked_certificates()
            .map(|entry| (significant(entry.raw_serial()).to_vec(), entry.revocation_date.timestamp()));
        Ok(Self {
            issuer_name,
            issuer: list.issuer().as_raw().to_vec(),
            key,
            ca,
            revoked: revoked.collect(),
            number: list.crl_number().map(|number| significant(&number.to_bytes_be()).to_vec()),
            this_update,
            next_update: list.next_update().map(|time| time.timestamp()),
            digest: crate::fingerprint(&CertificateDer::from(list.tbs_cert_list.as_ref())),
        })
    }

    /// The CA's full name.
    pub fn issuer(&self) -> &str {
        &self.issuer_name
    }

    /// How many certificates it revokes.
    pub fn len(&self) -> usize {
        self.revoked.len()
    }

    /// Whether it revokes none.
    pub fn is_empty(&self) -> bool {
        self.revoked.is_empty()
    }

    /// The serial numbers in hex, each with the moment from which it is revoked, Unix time.
    pub fn serials(&self) -> impl Iterator<Item = (String, i64)> {
        self.revoked.iter().map(|(serial, since)| (hex(serial), *since))
    }

    /// Whether it is of the same CA and was made before: it has a lower number, or an earlier date.
    pub fn is_older_than(&self, other: &Self) -> bool {
        // Without leading zeros the longer number is the higher one.
        let order = |number: &Vec<u8>| (number.len(), number.clone());
        let numbers = self.number.as_ref().map(order).zip(other.number.as_ref().map(order));
        self.is_of_same_ca(other)
            && (numbers.is_some_and(|(own, other)| own < other) || self.this_update < other.this_update)
    }

    /// Whether it is of the same CA, and no older: what the other says, it says better.
    pub fn replaces(&self, other: &Self) -> bool {
        self.is_of_same_ca(other) && !self.is_older_than(other)
    }

    /// Whether one CA has made both.
    pub fn is_of_same_ca(&self, other: &Self) -> bool {
        (&self.issuer, &self.key) == (&other.issuer, &other.key)
    }

    /// Whether it is of the CA that this certificate is of, by name and key.
    pub fn is_of(&self, ca: &CertificateDer<'_>) -> bool {
        X509Certificate::from_der(ca).is_ok_and(|(_, ca)| {
            ca.subject().as_raw() == self.issuer && *ca.public_key().subject_public_key.data == self.key
        })
    }

    /// A certificate of its CA.
    pub fn ca(&self) -> &CertificateDer<'static> {
        &self.ca
    }

    /// Its number among its CA's lists in hex, if it has one.
    pub fn number(&self) -> Option<String> {
        self.number.as_deref().map(hex)
    }

    /// Tells it from all others: SHA-256 of what its CA has signed.
    pub fn digest(&self) -> Fingerprint {
        self.digest
    }

    /// When it was made, Unix time.
    pub fn this_update(&self) -> i64 {
        self.this_update
    }

    /// When a newer one is due, Unix time.
    pub fn next_update(&self) -> Option<i64> {
        self.next_update
    }
}

impl fmt::Debug for Crl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Crl");
        shown.field("issuer", &self.issuer_name).field("revoked", &self.revoked.len()).finish_non_exhaustive()
    }
}

/// All that is revoked, of all CAs. Clones share one copy.
#[derive(Clone, Debug, Default)]
pub struct Revocations(Arc<Lists>);

#[derive(Debug, Default)]
struct Lists {
    in_force: Vec<Crl>,
    /// Those before them that nothing replaces.
    former: Vec<Crl>,
}

impl Revocations {
    /// What these lists revoke together: of several by one CA, each counts.
    pub fn new(lists: Vec<Crl>) -> Self {
        Self(Arc::new(Lists { in_force: lists, former: Vec::new() }))
    }

    /// The same, beside what those `before` revoke that none of these replaces. Their CA is not believed by any
    /// certificate that is known; its key may be, by one that comes along.
    #[must_use]
    pub fn after(self, before: &Self) -> Self {
        let in_force = self.0.in_force.clone();
        let former = before.all().filter(|list| !in_force.iter().any(|newer| newer.replaces(list)));
        let former = former.cloned().collect();
        Self(Arc::new(Lists { in_force, former }))
    }

    /// The lists, without former ones.
    pub fn lists(&self) -> &[Crl] {
        &self.0.in_force
    }

    /// The lists and the former ones.
    pub fn all(&self) -> impl Iterator<Item = &Crl> {
        self.0.in_force.iter().chain(&self.0.former)
    }

    /// Whether one of these CAs issued a certificate, and has revoked it.
    pub fn revoke(&self, der: &CertificateDer<'_>, cas: &[CertificateDer<'_>]) -> bool {
        let Ok(serial) = serial_of(der) else { return false };
        let above = cas.iter().filter(|ca| is_issued_by(der, ca));
        let of = |ca: &CertificateDer<'_>| {
            self.all().any(|list| list.is_of(ca) && list.revoked.contains_key(&serial))
        };
        above.into_iter().any(of)
    }

    /// Refuses a CA that the one above it has revoked: the CA of a list vouches for what its list says, whoever believes
    /// that CA by now.
    pub(crate) fn check_ca(&self, der: &CertificateDer<'_>) -> Result<(), ChainError> {
        let Ok(([], ca)) = X509Certificate::from_der(der) else { return Ok(()) };
        let (issuer, serial) = (ca.issuer().as_raw(), significant(ca.raw_serial()));
        // A signature is looked at only where a list names that serial number.
        let lists = self.all().filter(|list| list.issuer == issuer && list.revoked.contains_key(serial));
        let mut above = lists.filter(|list| is_issued_by(der, &list.ca));
        above.try_for_each(|list| self.check(error::ISSUER, issuer, |key| *key == *list.key, serial))
    }

    /// Why a certificate with this raw issuer and serial number is no longer good, if it is not.
    /// `is_key` says whether a public key is that of the CA that issued it.
    pub(crate) fn check(
        &self,
        whose: &'static str,
        issuer: &[u8],
        is_key: impl Fn(&[u8]) -> bool,
        serial: &[u8],
    ) -> Result<(), ChainError> {
        let serial = significant(serial);
        let found = self
            .all()
            .filter(|list| list.issuer == issuer && is_key(&list.key))
            .find_map(|list| Some((list, *list.revoked.get(serial)?)));
        match found {
            None => Ok(()),
            Some((list, since)) => {
                let issuer = list.issuer_name.clone();
                Err(ChainError::Revoked { whose, serial: hex(serial), issuer, since })
            }
        }
    }
}

/// Whether the CA `above` issued and signed the certificate of a CA.
pub(crate) fn is_issued_ca(der: &CertificateDer<'_>, above: &CertificateDer<'_>, now: i64) -> bool {
    let (Ok(([], ca)), Ok(([], above))) = (X509Certificate::from_der(der), X509Certificate::from_der(above))
    else {
        return false;
    };
    let validity = ca.validity();
    ca.is_ca()
        && (validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&now)
        && issued(&above, &ca)
}

/// Whether the CA `above` issued and signed a certificate, whatever else is to be said of both.
pub fn is_issued_by(der: &CertificateDer<'_>, above: &CertificateDer<'_>) -> bool {
    match (X509Certificate::from_der(der), X509Certificate::from_der(above)) {
        (Ok(([], certificate)), Ok(([], above))) => issued(&above, &certificate),
        _ => false,
    }
}

fn issued(above: &X509Certificate<'_>, certificate: &X509Certificate<'_>) -> bool {
    certificate.issuer().as_raw() == above.subject().as_raw()
        && is_signed(
            above.public_key(),
            certificate.tbs_certificate.as_ref(),
            &certificate.signature_value.data,
        )
}

/// A serial number as people give it: hex digits, with or without colons.
///
/// # Errors
/// When it is none, or longer than any.
pub fn serial_from_hex(text: &str) -> Result<Vec<u8>, ParseError> {
    let digits: Vec<u32> = text
        .chars()
        .filter(|c| *c != ':')
        .map(|c| c.to_digit(16))
        .collect::<Option<_>>()
        .ok_or(ParseError::Malformed)?;
    if digits.is_empty() || digits.len() > 64 {
        return Err(ParseError::Malformed);
    }
    let padded: Vec<u32> = std::iter::repeat_n(0, digits.len() % 2).chain(digits).collect();
    let bytes: Vec<u8> =
        padded.chunks(2).filter_map(|pair| u8::try_from(pair[0] << 4 | pair[1]).ok()).collect();
    Ok(significant(&bytes).to_vec())
}

/// The serial number of a certificate, without leading zeros.
///
/// # Errors
/// When `der` is not exactly one certificate.
pub fn serial_of(der: &CertificateDer<'_>) -> Result<Vec<u8>, ParseError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(significant(certificate.raw_serial()).to_vec()),
        _ => Err(ParseError::Malformed),
    }
}

/// A complete list has none of the extensions that make it something else, nor any that must be
/// understood and is not.
fn check_complete(list: &CertificateRevocationList<'_>) -> Result<(), CrlError> {
    const DELTA: Oid<'static> = oid!(2.5.29.27);
    let of_entries = list.iter_revoked_certificates().flat_map(|entry| entry.extensions());
    let wrong = |extension: &&X509Extension<'_>| extension.critical || extension.oid == DELTA;
    match list.extensions().iter().chain(of_entries).find(wrong) {
        Some(extension) => {
            Err(CrlError::Partial(extension.oid.to_id_string().chars().take(MAX_SHOWN).collect()))
        }
        None => Ok(()),
    }
}

/// Public key and certificate of the CA that signed the list; otherwise, whether there is one of that name.
fn signer(
    list: &CertificateRevocationList<'_>,
    cas: &[CertificateDer<'_>],
) -> Result<(Vec<u8>, CertificateDer<'static>), bool> {
    let mut named = false;
    for der in cas {
        let Ok(([], ca)) = X509Certificate::from_der(der) else { continue };
        if ca.subject().as_raw() != list.issuer().as_raw() {
            continue;
        }
        named = true;
        let usage = ca.key_usage().ok().flatten();
        if usage.is_none_or(|usage| usage.value.crl_sign())
            && is_signed(ca.public_key(), list.tbs_cert_list.as_ref(), &list.signature_value.data)
        {
            return Ok((ca.public_key().subject_public_key.data.to_vec(), der.clone().into_owned()));
        }
    }
    Err(named)
}

fn is_signed(key: &SubjectPublicKeyInfo<'_>, signed: &[u8], signature: &[u8]) -> bool {
    let bits = &key.subject_public_key.data;
    let of_key = |algorithm: &&&'static dyn SignatureVerificationAlgorithm| {
        let named = der::sequence(&[&algorithm.public_key_alg_id()]);
        der::sequence(&[&named, &der::bits(bits)]) == key.raw
    };
    let secp256k1: [&'static dyn SignatureVerificationAlgorithm; 3] =
        [secp256k1::ECDSA_SHA256, secp256k1::ECDSA_SHA384, secp256k1::ECDSA_SHA512];
    let all = provider::default().signature_verification_algorithms.all;
    let mut algorithms = all.iter().chain(&secp256k1).filter(of_key);
    algorithms.any(|algorithm| algorithm.verify_signature(bits, signed, signature).is_ok())
}

/// Without leading zeros, of which encodings may have one.
fn significant(serial: &[u8]) -> &[u8] {
    let zeros = serial.iter().take_while(|byte| **byte == 0).count();
    &serial[zeros..]
}

/// As descriptions of certificates have serial numbers.
fn hex(serial: &[u8]) -> String {
    let digits: Vec<_> = serial.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.join(":")
}
