//! Certificates that their CA has taken back: revocation lists (RFC 5280, section 5).
//!
//! A list is believed only from a CA that the caller believes, which must have signed it. Deltas and
//! lists for other CAs or for a part of the certificates are refused, not misread.

use std::{collections::BTreeMap, fmt, sync::Arc};

use amop_protocol::{Fingerprint, certificate::ParseError};
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm};
use x509_parser::{
    der_parser::{Oid, oid},
    prelude::{CertificateRevocationList, FromDer, X509Certificate, X509Extension},
    x509::SubjectPublicKeyInfo,
};

use crate::{ChainError, der, provider, secp256k1};

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
    /// By serial number without leading zeros: since when, Unix time.
    revoked: BTreeMap<Vec<u8>, i64>,
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
        let key = signer(&list, cas).map_err(|named| match named {
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
            revoked: revoked.collect(),
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

    /// Whether it is of the same CA and was made before.
    pub fn is_older_than(&self, other: &Self) -> bool {
        (&self.issuer, &self.key) == (&other.issuer, &other.key) && self.this_update < other.this_update
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
pub struct Revocations(Arc<Vec<Crl>>);

impl Revocations {
    /// What these lists revoke together: of several by one CA, each counts.
    pub fn new(lists: Vec<Crl>) -> Self {
        Self(Arc::new(lists))
    }

    /// The lists.
    pub fn lists(&self) -> &[Crl] {
        &self.0
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
            .0
            .iter()
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

/// The public key of the CA that signed the list; otherwise, whether there is one of that name.
fn signer(list: &CertificateRevocationList<'_>, cas: &[CertificateDer<'_>]) -> Result<Vec<u8>, bool> {
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
            return Ok(ca.public_key().subject_public_key.data.to_vec());
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

#[cfg(test)]
mod tests {
    use time::{Duration, OffsetDateTime};

    use super::*;
    use crate::fisco::{
        Kind,
        mint::{Extensions, KeyPair, ListTemplate, Name, Template},
    };

    struct Ca(CertificateDer<'static>, KeyPair);

    fn ca(kind: Kind, name: &str) -> Ca {
        let (key, name, now) =
            (KeyPair::generate(kind).unwrap(), Name::new(name, "o", "u"), OffsetDateTime::now_utc());
        let (not_before, not_after) = (now, now + Duration::days(9));
        let extensions = Extensions::Version1;
        let template = Template { subject: name.clone(), issuer: name, not_before, not_after, extensions };
        Ca(template.sign(&key, &key).unwrap(), key)
    }

    fn list(Ca(certificate, key): &Ca, serials: &[u8]) -> Vec<u8> {
        let now = OffsetDateTime::now_utc();
        let revoked: Vec<_> = serials.iter().map(|serial| (vec![*serial, 1], now)).collect();
        let (this_update, next_update) = (now, now + Duration::days(1));
        ListTemplate { revoked: &revoked, this_update, next_update }.sign(certificate, key).unwrap()
    }

    fn now() -> i64 {
        OffsetDateTime::now_utc().unix_timestamp()
    }

    #[test]
    fn a_list_counts_for_the_ca_that_signed_it() {
        for kind in [Kind::Rsa, Kind::Ec] {
            let (ours, same_name, other) = (ca(kind, "a"), ca(kind, "a"), ca(kind, "b"));
            // The second serial number is encoded with a zero before it.
            let der = list(&ours, &[0x11, 0x91]);
            let cas = [other.0.clone(), same_name.0.clone(), ours.0.clone()];
            let parsed = Crl::parse(&der, &cas, now()).unwrap();
            let serials: Vec<_> = parsed.serials().map(|(serial, _)| serial).collect();
            assert_eq!((parsed.len(), serials), (2, vec!["11:01".to_owned(), "91:01".to_owned()]));
            assert!(parsed.next_update().is_some_and(|next| next > parsed.this_update()));
            let issuer = parsed.issuer.clone();
            let revocations = Revocations::new(vec![parsed]);
            let check = |key: &KeyPair, serial: &[u8]| {
                revocations.check(error_of_leaf(), &issuer, |known| known == key.public(), serial)
            };
            assert!(matches!(check(&ours.1, &[0, 0x91, 1]), Err(ChainError::Revoked { .. })));
            assert_eq!(check(&ours.1, &[0x12, 1]), Ok(()));
            assert_eq!(check(&same_name.1, &[0x91, 1]), Ok(()), "another CA with the same name");
            let refused = |cas: &[CertificateDer<'_>]| Crl::parse(&der, cas, now()).unwrap_err();
            assert!(matches!(refused(&[other.0]), CrlError::UnknownIssuer { .. }));
            assert!(matches!(refused(&[same_name.0]), CrlError::Signature { .. }));
            assert!(matches!(Crl::parse(&der, &cas, 1).unwrap_err(), CrlError::NotValidYet(_)));
        }
    }

    fn error_of_leaf() -> &'static str {
        crate::error::LEAF
    }

    #[test]
    fn what_is_damaged_is_refused_and_never_panics() {
        let ours = ca(Kind::Ec, "a");
        let (der, cas) = (list(&ours, &[1, 2, 3]), [ours.0]);
        for length in 0..der.len() {
            assert_eq!(Crl::parse(&der[..length], &cas, now()), Err(CrlError::Malformed), "cut at {length}");
        }
        for at in 0..der.len() {
            let mut damaged = der.clone();
            damaged[at] ^= 1;
            let parsed = Crl::parse(&damaged, &cas, now());
            assert!(parsed.is_err() || parsed == Crl::parse(&der, &cas, now()), "changed at {at}");
        }
    }

    #[test]
    fn serial_numbers_are_read_as_people_write_them() {
        let check =
            |text: &str, bytes: &[u8]| assert_eq!(serial_from_hex(text).as_deref(), Ok(bytes), "{text}");
        check("0a:FF", &[10, 255]);
        check("aff", &[10, 255]);
        check("00:00:01", &[1]);
        for text in ["", ":", "0x1", "g", "ü", &"1".repeat(65)] {
            assert!(serial_from_hex(text).is_err(), "{text}");
        }
    }
}
