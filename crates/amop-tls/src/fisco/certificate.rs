//! One certificate, read and found to be of the right make; who issued it is another question.

use std::sync::Arc;

use amop_protocol::certificate::{Description, MAX_NAME_BYTES, ParseError};
use rustls_pki_types::{InvalidSignature, SignatureVerificationAlgorithm, UnixTime};
use webpki::ring::{RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512};
use x509_parser::{
    der_parser::{Oid, oid},
    prelude::{FromDer, ParsedExtension, X509Certificate, X509Version},
    public_key::PublicKey,
};

use super::{Kind, Purpose};
use crate::{
    ChainError, der,
    secp256k1::{ECDSA_SHA256, ECDSA_SHA384, ECDSA_SHA512, is_point},
};

/// Fewest and most bits of an RSA key.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Most characters of an object identifier that are shown.
const MAX_OID_CHARS: usize = 64;

/// A certificate whose key, algorithms and extensions are such as the rule allows.
pub(super) struct Certificate<'a>(X509Certificate<'a>);

impl<'a> Certificate<'a> {
    pub(super) fn parse(kind: Kind, der: &'a [u8]) -> Result<Self, ChainError> {
        let Ok(([], certificate)) = X509Certificate::from_der(der) else {
            return Err(ParseError::Malformed.into());
        };
        let certificate = Self(certificate);
        certificate.check_key(kind, der)?;
        let algorithm = certificate.algorithm(kind)?;
        certificate.check_extensions()?;
        certificate.check_frame(algorithm, der)?;
        Ok(certificate)
    }

    /// Refuses keys of another kind, short ones, and points that are none.
    fn check_key(&self, kind: Kind, der: &[u8]) -> Result<(), ChainError> {
        let found = Description::parse(der)?.key_kind;
        if found != kind.key() {
            return Err(ChainError::Profile { needed: kind.profile(), found });
        }
        match kind {
            Kind::Ec if is_point(self.key()) => Ok(()),
            Kind::Ec => Err(ChainError::Key256k1),
            Kind::Rsa => match self.0.public_key().parsed() {
                Ok(PublicKey::RSA(key)) if RSA_BITS.contains(&key.key_size()) => Ok(()),
                Ok(PublicKey::RSA(key)) => Err(ChainError::RsaBits(key.key_size())),
                _ => Err(ParseError::Malformed.into()),
            },
        }
    }

    /// How the certificate is signed, which is said twice and must be the same.
    fn algorithm(&self, kind: Kind) -> Result<&'static dyn SignatureVerificationAlgorithm, ChainError> {
        let (inner, outer) = (&self.0.tbs_certificate.signature, &self.0.signature_algorithm);
        if inner != outer {
            return Err(ChainError::TwoAlgorithms);
        }
        let found = &outer.algorithm;
        let known: [(Oid<'_>, &'static dyn SignatureVerificationAlgorithm); 3] = match kind {
            Kind::Rsa => [
                (oid!(1.2.840.113549.1.1.11), RSA_PKCS1_2048_8192_SHA256),
                (oid!(1.2.840.113549.1.1.12), RSA_PKCS1_2048_8192_SHA384),
                (oid!(1.2.840.113549.1.1.13), RSA_PKCS1_2048_8192_SHA512),
            ],
            Kind::Ec => [
                (oid!(1.2.840.10045.4.3.2), ECDSA_SHA256),
                (oid!(1.2.840.10045.4.3.3), ECDSA_SHA384),
                (oid!(1.2.840.10045.4.3.4), ECDSA_SHA512),
            ],
        };
        let algorithm = known.into_iter().find(|(oid, _)| oid == found).map(|(_, algorithm)| algorithm);
        algorithm.ok_or_else(|| ChainError::Algorithm(shown(found)))
    }

    /// Refuses a certificate whose unsigned bytes are not as they must be: its holder could change
    /// them, and with them the fingerprint that names it.
    fn check_frame(
        &self,
        algorithm: &dyn SignatureVerificationAlgorithm,
        found: &[u8],
    ) -> Result<(), ChainError> {
        let algorithm = der::sequence(&[&algorithm.signature_alg_id()]);
        let signature = der::bits(&self.0.signature_value.data);
        let expected = der::sequence(&[self.0.tbs_certificate.as_ref(), &algorithm, &signature]);
        if expected == found { Ok(()) } else { Err(ParseError::Malformed.into()) }
    }

    /// Refuses extensions that must be understood and are not, damaged ones, and any twice.
    fn check_extensions(&self) -> Result<(), ChainError> {
        let extensions = self.0.extensions();
        match self.0.version() {
            X509Version::V3 => {}
            X509Version::V1 if extensions.is_empty() => {}
            _ => return Err(ParseError::Malformed.into()),
        }
        if self.0.tbs_certificate.extensions_map().is_err() {
            return Err(ParseError::Malformed.into());
        }
        for extension in extensions {
            match extension.parsed_extension() {
                ParsedExtension::BasicConstraints(_)
                | ParsedExtension::KeyUsage(_)
                | ParsedExtension::ExtendedKeyUsage(_) => {}
                ParsedExtension::ParseError { .. } => return Err(ParseError::Malformed.into()),
                _ if extension.critical => return Err(ChainError::Extension(shown(&extension.oid))),
                _ => {}
            }
        }
        Ok(())
    }

    /// As a leaf: no CA, and meant for what it is used for, as far as it says so at all.
    pub(super) fn check_leaf(&self, purpose: Purpose) -> Result<(), ChainError> {
        let issues_itself = self.subject() == self.issuer();
        if issues_itself || self.says_ca() == Some(true) {
            return Err(ChainError::IsCa);
        }
        if self.key_usage().is_some_and(|usage| !usage.digital_signature()) {
            return Err(ChainError::Usage("key usage digitalSignature"));
        }
        let usage = self.0.extended_key_usage().ok().flatten().map(|extension| extension.value);
        match purpose {
            Purpose::Clients if usage.is_some_and(|usage| !usage.any && !usage.client_auth) => {
                Err(ChainError::Usage("extended key usage clientAuth"))
            }
            Purpose::Nodes if usage.is_some_and(|usage| !usage.any && !usage.server_auth) => {
                Err(ChainError::Usage("extended key usage serverAuth"))
            }
            _ => Ok(()),
        }
    }

    /// As a CA that somebody configured: it must not say that it is none.
    pub(super) fn check_configured_ca(&self) -> Result<(), ChainError> {
        match self.says_ca() {
            Some(false) => Err(ChainError::NoCa),
            _ if self.key_usage().is_some_and(|usage| !usage.key_cert_sign()) => {
                Err(ChainError::Usage("key usage keyCertSign"))
            }
            _ => Ok(()),
        }
    }

    /// As a CA that another CA vouches for: it must say that it is one, which version 1 cannot.
    pub(super) fn check_issued_ca(&self) -> Result<(), ChainError> {
        if self.0.version() != X509Version::V3 {
            return Err(ChainError::Version1Ca);
        }
        if self.says_ca() != Some(true) {
            return Err(ChainError::NoCa);
        }
        self.check_configured_ca()
    }

    fn says_ca(&self) -> Option<bool> {
        self.0.basic_constraints().ok().flatten().map(|extension| extension.value.ca)
    }

    /// How many CAs may stand below this one, if it says so.
    pub(super) fn path_length(&self) -> Option<u32> {
        self.0.basic_constraints().ok().flatten().and_then(|extension| extension.value.path_len_constraint)
    }

    fn key_usage(&self) -> Option<&x509_parser::extensions::KeyUsage> {
        self.0.key_usage().ok().flatten().map(|extension| extension.value)
    }

    pub(super) fn subject(&self) -> &[u8] {
        self.0.subject().as_raw()
    }

    pub(super) fn issuer(&self) -> &[u8] {
        self.0.issuer().as_raw()
    }

    pub(super) fn serial(&self) -> &[u8] {
        self.0.raw_serial()
    }

    /// The public key itself, without its algorithm.
    pub(super) fn key(&self) -> &[u8] {
        &self.0.public_key().subject_public_key.data
    }

    pub(super) fn validity(&self) -> Validity {
        let validity = self.0.validity();
        Validity { not_before: validity.not_before.timestamp(), not_after: validity.not_after.timestamp() }
    }

    /// Whether the holder of `key` signed this certificate.
    pub(super) fn verify(&self, kind: Kind, key: &[u8]) -> Result<(), InvalidSignature> {
        let algorithm = self.algorithm(kind).map_err(|_| InvalidSignature)?;
        let signed = self.0.tbs_certificate.as_ref();
        algorithm.verify_signature(key, signed, &self.0.signature_value.data)
    }

    /// The common name, which must be there exactly once and fit for a log line.
    pub(super) fn name(&self) -> Result<Arc<str>, ChainError> {
        one_name(self.0.subject(), "subject")
    }

    /// The common name of the issuer.
    pub(super) fn issuer_name(&self) -> Result<Arc<str>, ChainError> {
        one_name(self.0.issuer(), "issuer")
    }
}

/// An object identifier for messages: bounded, as nothing bounds what a stranger's certificate has.
fn shown(oid: &Oid<'_>) -> String {
    oid.to_id_string().chars().take(MAX_OID_CHARS).collect()
}

fn one_name(name: &x509_parser::x509::X509Name<'_>, of: &'static str) -> Result<Arc<str>, ChainError> {
    const FIELD: &str = "common name (CN)";
    let mut names = name.iter_common_name();
    let (Some(only), None) = (names.next(), names.next()) else {
        let found = name.iter_common_name().count();
        return Err(ParseError::Count { of, field: FIELD, found }.into());
    };
    let text = only.as_str().ok();
    let text = text.filter(|t| !t.is_empty() && t.len() <= MAX_NAME_BYTES && !t.contains(char::is_control));
    text.map(Arc::from).ok_or(ParseError::Name { of, field: FIELD }.into())
}

/// From when to when a certificate is valid, Unix time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Validity {
    not_before: i64,
    not_after: i64,
}

impl Validity {
    /// Last second, Unix time.
    pub(super) fn not_after(self) -> i64 {
        self.not_after
    }

    pub(super) fn check(self, whose: &'static str, now: UnixTime) -> Result<(), ChainError> {
        let Self { not_before, not_after } = self;
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if now > not_after {
            return Err(ChainError::Expired { whose, not_after });
        }
        if now < not_before {
            return Err(ChainError::NotValidYet { whose, not_before });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_identifier_fills_no_log() {
        assert_eq!(shown(&oid!(1.2.840.10045.4.3.2)), "1.2.840.10045.4.3.2");
        for byte in [1, 0x81, 0xff] {
            let long = Oid::new(vec![byte; 10_000].into());
            assert!(shown(&long).len() <= MAX_OID_CHARS, "{byte}");
        }
    }
}
