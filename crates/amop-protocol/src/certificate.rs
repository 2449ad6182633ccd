//! What a leaf certificate says: role, name, institution and key.
//!
//! Reading only. Whether the certificate is genuine is decided where chains are verified, in the
//! shell; nothing here may be believed before that.

use std::{fmt, sync::Arc};

use x509_parser::{
    der_parser::{Oid, oid},
    prelude::{FromDer, SubjectPublicKeyInfo, X509Certificate, X509Name},
};

use crate::NodeKey;

/// What the holder of a certificate is, from its organisational unit (OU).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// OU `node`: may link to other nodes.
    Node,
    /// OU `client`: may connect to a node's client port.
    Client,
}

impl Role {
    /// The OU of certificates with this role.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Client => "client",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The holder of a leaf certificate, as the certificate has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// From the OU.
    pub role: Role,
    /// The common name (CN).
    pub name: Arc<str>,
    /// The organisation (O) of the CA that issued the certificate.
    pub institution: Arc<str>,
    /// The public key, if it is on P-256. Node certificates must have one.
    pub key: Option<NodeKey>,
    /// The kind of key, for messages: `P-256`, `RSA`, …
    pub key_kind: &'static str,
    /// Serial number in hex, for logs.
    pub serial: String,
    /// The issuer's full name, for logs.
    pub issuer: String,
    /// First second of validity, Unix time.
    pub not_before: i64,
    /// Last second of validity, Unix time.
    pub not_after: i64,
}

/// Why a certificate names nobody that AMOP knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The bytes are not one certificate in DER.
    #[error("not an X.509 certificate")]
    Malformed,
    /// A name that must be there exactly once is not.
    #[error("the certificate's {of} must have exactly one {field}, it has {found}")]
    Count {
        /// Whose name: `subject` or `issuer`.
        of: &'static str,
        /// Which part of it.
        field: &'static str,
        /// How many there are.
        found: usize,
    },
    /// A name that is empty, too long, or holds characters that would forge log lines.
    #[error(
        "the {field} of the certificate's {of} must be 1 to {MAX_NAME_BYTES} bytes of text without control characters"
    )]
    Name {
        /// Whose name: `subject` or `issuer`.
        of: &'static str,
        /// Which part of it.
        field: &'static str,
    },
    /// An OU that is no role.
    #[error("the certificate's OU is {0:?}, which is no role; it must be \"node\" or \"client\"")]
    Role(String),
    /// The leaf claims another institution than the CA that issued it.
    #[error("the certificate claims O={claimed:?}, but it was issued by the CA of {institution:?}")]
    Institution {
        /// O of the leaf.
        claimed: String,
        /// O of the issuer.
        institution: String,
    },
}

/// Longest CN, O or OU that is read.
pub const MAX_NAME_BYTES: usize = 128;
/// Most bytes of a serial number that are shown; the standard has at most 20.
const MAX_SERIAL_BYTES: usize = 32;

impl Subject {
    /// Reads a leaf certificate.
    ///
    /// # Errors
    /// When `der` is not exactly one certificate, its names are missing, doubled or unprintable,
    /// its OU is no role, or its O is not the O of its issuer.
    pub fn parse(der: &[u8]) -> Result<Self, ParseError> {
        let certificate = parse_certificate(der)?;
        let role = role(certificate.subject())?;
        let name = exactly_one(certificate.subject(), "subject", Field::CommonName)?;
        let institution = exactly_one(certificate.issuer(), "issuer", Field::Organisation)?;
        for claimed in values(certificate.subject(), Field::Organisation) {
            if claimed != Some(institution) {
                let claimed = claimed.unwrap_or_default().chars().take(MAX_NAME_BYTES).collect();
                return Err(ParseError::Institution { claimed, institution: institution.to_owned() });
            }
        }
        let (key_kind, key) = key(certificate.public_key());
        Ok(Self {
            role,
            name: name.into(),
            institution: institution.into(),
            key,
            key_kind,
            serial: serial(&certificate),
            issuer: printable(certificate.issuer()),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
        })
    }
}

/// What any certificate says, for log lines and for people; never for decisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The subject's full name.
    pub subject: String,
    /// The issuer's full name.
    pub issuer: String,
    /// Serial number in hex.
    pub serial: String,
    /// The kind of key.
    pub key_kind: &'static str,
    /// Whether it may issue certificates.
    pub is_ca: bool,
    /// Whether it names itself as its issuer.
    pub is_self_issued: bool,
    /// First second of validity, Unix time.
    pub not_before: i64,
    /// Last second of validity, Unix time.
    pub not_after: i64,
}

impl Description {
    /// Reads any X.509 certificate, whatever its names.
    ///
    /// # Errors
    /// When `der` is not exactly one certificate.
    pub fn parse(der: &[u8]) -> Result<Self, ParseError> {
        let certificate = parse_certificate(der)?;
        Ok(Self {
            subject: printable(certificate.subject()),
            issuer: printable(certificate.issuer()),
            serial: serial(&certificate),
            key_kind: key(certificate.public_key()).0,
            is_ca: certificate.is_ca(),
            is_self_issued: certificate.subject().as_raw() == certificate.issuer().as_raw(),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
        })
    }
}

fn parse_certificate(der: &[u8]) -> Result<X509Certificate<'_>, ParseError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(ParseError::Malformed),
    }
}

fn role(subject: &X509Name<'_>) -> Result<Role, ParseError> {
    match exactly_one(subject, "subject", Field::Unit)? {
        "node" => Ok(Role::Node),
        "client" => Ok(Role::Client),
        other => Err(ParseError::Role(other.to_owned())),
    }
}

#[derive(Clone, Copy)]
enum Field {
    CommonName,
    Organisation,
    Unit,
}

impl Field {
    const fn label(self) -> &'static str {
        match self {
            Self::CommonName => "common name (CN)",
            Self::Organisation => "organisation (O)",
            Self::Unit => "organisational unit (OU)",
        }
    }
}

/// The values of one field; `None` for one that is not text.
fn values<'a>(name: &'a X509Name<'a>, field: Field) -> impl Iterator<Item = Option<&'a str>> {
    let oid = match field {
        Field::CommonName => oid!(2.5.4.3),
        Field::Organisation => oid!(2.5.4.10),
        Field::Unit => oid!(2.5.4.11),
    };
    name.iter_attributes().filter(move |a| *a.attr_type() == oid).map(|a| a.as_str().ok())
}

fn exactly_one<'a>(name: &'a X509Name<'a>, of: &'static str, field: Field) -> Result<&'a str, ParseError> {
    let mut found = values(name, field);
    let (Some(value), None) = (found.next(), found.next()) else {
        return Err(ParseError::Count { of, field: field.label(), found: values(name, field).count() });
    };
    value
        .filter(|v| !v.is_empty() && v.len() <= MAX_NAME_BYTES && !v.contains(char::is_control))
        .ok_or(ParseError::Name { of, field: field.label() })
}

/// The kind of key, and the key if a node may have it: an uncompressed point on P-256.
fn key(spki: &SubjectPublicKeyInfo<'_>) -> (&'static str, Option<NodeKey>) {
    const RSA: Oid<'_> = oid!(1.2.840.113549.1.1.1);
    const EC: Oid<'_> = oid!(1.2.840.10045.2.1);
    const ED25519: Oid<'_> = oid!(1.3.101.112);
    const P256: Oid<'_> = oid!(1.2.840.10045.3.1.7);
    const P384: Oid<'_> = oid!(1.3.132.0.34);
    const SECP256K1: Oid<'_> = oid!(1.3.132.0.10);

    let algorithm = &spki.algorithm.algorithm;
    if *algorithm == RSA {
        return ("RSA", None);
    }
    if *algorithm == ED25519 {
        return ("Ed25519", None);
    }
    let curve = spki.algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok());
    match curve.filter(|_| *algorithm == EC) {
        Some(curve) if curve == P256 => ("P-256", point(spki)),
        Some(curve) if curve == P384 => ("P-384", None),
        Some(curve) if curve == SECP256K1 => ("secp256k1", None),
        _ => ("unknown", None),
    }
}

fn point(spki: &SubjectPublicKeyInfo<'_>) -> Option<NodeKey> {
    let coordinates = spki.subject_public_key.data.strip_prefix(&[4])?;
    Some(NodeKey::new(coordinates.try_into().ok()?))
}

/// A serial number for logs: bounded, as nothing bounds what a stranger's certificate has.
fn serial(certificate: &X509Certificate<'_>) -> String {
    let bytes = certificate.raw_serial();
    let shown: Vec<_> = bytes.iter().take(MAX_SERIAL_BYTES).map(|byte| format!("{byte:02x}")).collect();
    let rest = if bytes.len() > MAX_SERIAL_BYTES { ":…" } else { "" };
    shown.join(":") + rest
}

/// A name for logs: bounded, and with nothing in it that could forge a line.
fn printable(name: &X509Name<'_>) -> String {
    name.to_string().chars().map(|c| if c.is_control() { '?' } else { c }).take(256).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by openssl: P-256, CN=node-1, O=bank-a, OU=node.
    const NODE: &[u8] = include_bytes!("../tests/data/node.der");
    /// As above, with two OUs.
    const TWO_ROLES: &[u8] = include_bytes!("../tests/data/two-roles.der");

    #[test]
    fn a_certificate_says_who_it_is_of() {
        let subject = Subject::parse(NODE).unwrap();
        assert_eq!((&*subject.name, &*subject.institution, subject.role), ("node-1", "bank-a", Role::Node));
        assert!(subject.key.is_some_and(|key| key.to_string().len() == 128));
        assert_eq!(subject.issuer, "CN=bank-a, O=bank-a, OU=institution");
        assert!(subject.not_before < subject.not_after);
        let description = Description::parse(NODE).unwrap();
        assert_eq!(description.subject, "CN=node-1, O=bank-a, OU=node");
        assert!(!description.is_ca && !description.is_self_issued);
    }

    #[test]
    fn a_serial_number_fills_no_log() {
        assert_eq!(Description::parse(NODE).unwrap().serial.len(), 20 * 3 - 1);
        // The same with 12,000 bytes of it, which come first in what is signed.
        let element = |tag: u8, content: &[u8]| {
            let length = u16::try_from(content.len()).unwrap().to_be_bytes();
            [&[tag, 0x82], &length[..], content].concat()
        };
        let end = 8 + usize::from(u16::from_be_bytes([NODE[6], NODE[7]]));
        let after = &NODE[8 + 2 + 20..end];
        let signed = element(0x30, &[&element(2, &[0x41; 12_000]), after].concat());
        let long = element(0x30, &[&signed, &NODE[end..]].concat());
        let serial = Description::parse(&long).unwrap().serial;
        assert_eq!((serial.len(), &serial[..6]), (MAX_SERIAL_BYTES * 3 + "…".len(), "41:41:"));
    }

    #[test]
    fn two_roles_are_none() {
        let error = Subject::parse(TWO_ROLES).unwrap_err();
        assert!(error.to_string().ends_with("exactly one organisational unit (OU), it has 2"), "{error}");
    }

    #[test]
    fn anything_that_is_not_one_certificate_is_refused() {
        for length in 0..NODE.len() {
            assert_eq!(Subject::parse(&NODE[..length]), Err(ParseError::Malformed), "cut at {length}");
        }
        assert_eq!(Subject::parse(&[NODE, &[0]].concat()), Err(ParseError::Malformed), "and more");
        // Nothing a stranger sends may panic.
        for at in 0..NODE.len() {
            for flip in [1, 0x80, 0xff] {
                let mut damaged = NODE.to_vec();
                damaged[at] ^= flip;
                let _ = (Subject::parse(&damaged), Description::parse(&damaged));
            }
        }
    }
}
