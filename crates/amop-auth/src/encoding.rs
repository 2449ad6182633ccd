//! Keys as text: PEM and hexadecimal digits.

use amop_tls::secp256k1::{POINT_BYTES, PrivateKey};
use rustls_pki_types::{
    PrivateKeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer,
    pem::{PemObject, SectionKind},
};
use x509_parser::{prelude::FromDer, x509::SubjectPublicKeyInfo};
use zeroize::Zeroizing;

use crate::KeyError;

const PRIVATE: &str = "private key";
const PUBLIC: &str = "public key";
/// secp256k1.
const CURVE: &str = "1.3.132.0.10";
/// `1.2.840.10045.2.1` on `1.3.132.0.10`: what stands before the point in a SubjectPublicKeyInfo.
const SPKI_HEAD: [u8; 23] = [
    0x30, 0x56, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81,
    0x04, 0x00, 0x0a, 0x03, 0x42, 0x00,
];

/// Text that is hexadecimal digits and nothing else.
pub(crate) struct Hex<'a>(&'a str);

impl<'a> Hex<'a> {
    /// The digits in `bytes`, without white space around them and `0x` before them.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?.trim();
        let digits = text.strip_prefix("0x").unwrap_or(text);
        let is_hex = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        is_hex.then_some(Self(digits))
    }

    /// The bytes they stand for, if there are just so many.
    pub(crate) fn decode<const N: usize>(&self) -> Option<Zeroizing<[u8; N]>> {
        let mut bytes = Zeroizing::new([0; N]);
        hex::decode_to_slice(self.0, bytes.as_mut_slice()).ok().map(|()| bytes)
    }
}

/// The private key in PEM text, PKCS#8 or SEC1.
pub(crate) fn private_from_pem(text: &[u8]) -> Result<PrivateKey, KeyError> {
    let wanted = "PEM with BEGIN PRIVATE KEY, 64 hexadecimal digits, or PKCS#12";
    let key = match section(text, wanted)? {
        (SectionKind::PrivateKey, der) => PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der)),
        (SectionKind::EcPrivateKey, der) => PrivateKeyDer::Sec1(PrivateSec1KeyDer::from(der)),
        (other, _) => return Err(KeyError::Other { found: name(&other), wanted: PRIVATE }),
    };
    PrivateKey::from_der(&key).map_err(|_| KeyError::OtherCurve)
}

/// The point in PEM text.
pub(crate) fn public_from_pem(text: &[u8]) -> Result<[u8; POINT_BYTES], KeyError> {
    match section(text, "PEM with BEGIN PUBLIC KEY, or 128 hexadecimal digits")? {
        (SectionKind::PublicKey, der) => point(&der).ok_or(KeyError::OtherCurve),
        (other, _) => Err(KeyError::Other { found: name(&other), wanted: PUBLIC }),
    }
}

/// PEM of a key in PKCS#8.
pub(crate) fn private_to_pem(der: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(to_pem("PRIVATE KEY", der))
}

/// PEM of a point.
pub(crate) fn public_to_pem(point: &[u8; POINT_BYTES]) -> String {
    to_pem("PUBLIC KEY", &[&SPKI_HEAD[..], point].concat())
}

fn to_pem(label: &str, der: &[u8]) -> String {
    pem::encode_config(
        &pem::Pem::new(label, der),
        pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF),
    )
}

/// The first section of `text`.
fn section(text: &[u8], wanted: &'static str) -> Result<(SectionKind, Vec<u8>), KeyError> {
    match <(SectionKind, Vec<u8>)>::from_pem_slice(text) {
        Ok(found) => Ok(found),
        Err(rustls_pki_types::pem::Error::NoItemsFound) => Err(KeyError::Unknown(wanted)),
        Err(_) => Err(KeyError::Damaged),
    }
}

fn point(der: &[u8]) -> Option<[u8; POINT_BYTES]> {
    let (rest, key) = SubjectPublicKeyInfo::from_der(der).ok()?;
    let curve = key.algorithm.parameters.as_ref()?.as_oid().ok()?;
    let right = rest.is_empty() && curve.to_id_string() == CURVE;
    key.subject_public_key.data.as_ref().try_into().ok().filter(|_| right)
}

fn name(kind: &SectionKind) -> &'static str {
    match kind {
        SectionKind::Certificate => "certificate",
        SectionKind::PublicKey => PUBLIC,
        SectionKind::PrivateKey | SectionKind::EcPrivateKey => PRIVATE,
        SectionKind::RsaPrivateKey => "private key for RSA",
        _ => "PEM section of another kind",
    }
}
