//! Making certificates: consortium root → institution CA → nodes and clients.
//!
//! For `amop certs` and `amop devnet`; a running node never issues anything. What every kind of
//! certificate contains is documented in `certs/profile.toml`, which a test compares with this.

pub mod crl;
mod error;
mod files;
pub mod fisco;
pub mod hosts;
pub mod keys;
pub mod renew;
pub mod renewals;

use std::path::{Path, PathBuf};

use amop_protocol::certificate::{Description, Role};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SerialNumber,
};
use ring::rand::{SecureRandom, SystemRandom};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};

pub use self::error::MintError;
use self::{
    files::{File, write_all},
    hosts::{Host, alternative_names},
};
use super::pem;

/// Days a consortium's or institution's CA is valid unless said otherwise.
pub const CA_DAYS: u32 = 3650;
/// Days a node's or client's certificate is valid unless said otherwise.
pub const LEAF_DAYS: u32 = 365;
/// Most days anything may be valid: a century, as FISCO BCOS's own tools have it.
pub const MAX_DAYS: u32 = 36_500;
/// Longest name of a consortium, institution, node or client (X.520's bound for common names).
pub const MAX_NAME_BYTES: usize = 64;
/// Certificates start this long before they are made, for clocks that are behind.
const BACKDATED: Duration = Duration::hours(1);

/// What happens to a file that exists already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Nothing is written, and the caller told.
    Keep,
    /// It is replaced.
    Replace,
}

/// A CA that can issue: a consortium's root, or an institution's.
pub struct Ca {
    kind: CaKind,
    name: String,
    certificate: CertificateDer<'static>,
    /// The consortium's root certificates; for a root, its own.
    roots: Vec<CertificateDer<'static>>,
    not_after: OffsetDateTime,
    issuer: Issuer<'static, KeyPair>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum CaKind {
    Consortium,
    Institution,
}

impl CaKind {
    const fn unit(self) -> &'static str {
        match self {
            Self::Consortium => "consortium",
            Self::Institution => "institution",
        }
    }

    const fn describe(self) -> &'static str {
        match self {
            Self::Consortium => "a consortium's root",
            Self::Institution => "an institution's CA",
        }
    }

    /// File names of certificate and key in the CA's directory.
    const fn files(self) -> (&'static str, &'static str) {
        match self {
            Self::Consortium => ("ca.crt", "ca.key"),
            Self::Institution => ("institution.crt", "institution.key"),
        }
    }
}

impl Ca {
    /// A new consortium root.
    ///
    /// # Errors
    /// When the name or the validity cannot be used.
    pub fn consortium(name: &str, days: u32) -> Result<Self, MintError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let params = ca_params(CaKind::Consortium, name, days, None)?;
        let certificate = params.self_signed(&key)?.der().clone();
        Ok(Self {
            kind: CaKind::Consortium,
            name: name.to_owned(),
            roots: vec![certificate.clone()],
            certificate,
            not_after: params.not_after,
            issuer: Issuer::new(params, key),
        })
    }

    /// A new institution CA under this root.
    ///
    /// # Errors
    /// When this is not a root, or the name or the validity cannot be used.
    pub fn institution(&self, name: &str, days: u32) -> Result<Self, MintError> {
        self.expect_kind(CaKind::Consortium, "an institution's CA")?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let params = ca_params(CaKind::Institution, name, days, Some(self.not_after))?;
        let certificate = params.signed_by(&key, &self.issuer)?.der().clone();
        Ok(Self {
            kind: CaKind::Institution,
            name: name.to_owned(),
            roots: self.roots.clone(),
            certificate,
            not_after: params.not_after,
            issuer: Issuer::new(params, key),
        })
    }

    /// A new node or client of this institution.
    ///
    /// # Errors
    /// When this is not an institution's CA, or the name or the validity cannot be used.
    pub fn leaf(&self, role: Role, name: &str, days: u32) -> Result<Leaf, MintError> {
        self.leaf_at(role, name, &[], days)
    }

    /// The same, whose certificate names these hosts.
    ///
    /// # Errors
    /// As [`Ca::leaf`].
    pub fn leaf_at(&self, role: Role, name: &str, hosts: &[Host], days: u32) -> Result<Leaf, MintError> {
        self.expect_kind(CaKind::Institution, "nodes and clients")?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = leaf_params(role, name, &self.name, days, self.not_after)?;
        params.subject_alt_names = alternative_names(hosts)?;
        let certificate = params.signed_by(&key, &self.issuer)?.der().clone();
        Ok(Leaf { role, chain: vec![certificate, self.certificate.clone()], roots: self.roots.clone(), key })
    }

    /// The CA's certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Writes the CA into a directory: a root as `ca.crt` and `ca.key`; an institution's CA as
    /// `institution.crt` and `institution.key`, with the root as `ca.crt`.
    ///
    /// # Errors
    /// When a file exists that may not be replaced, or the disk refuses.
    pub fn save(&self, directory: &Path, existing: Existing) -> Result<Vec<PathBuf>, MintError> {
        let (certificate, key) = self.kind.files();
        let mut files = vec![
            File::public(certificate, std::slice::from_ref(&self.certificate)),
            File::private(key, self.issuer.key()),
        ];
        if self.kind == CaKind::Institution {
            files.push(File::public("ca.crt", &self.roots));
        }
        write_all(directory, &files, existing)
    }

    /// Loads a consortium root from the directory [`Ca::save`] wrote.
    ///
    /// # Errors
    /// When its files are missing, damaged, open to others or not a pair.
    pub fn load_consortium(directory: &Path) -> Result<Self, MintError> {
        Self::load(directory, CaKind::Consortium)
    }

    /// Loads an institution's CA from the directory [`Ca::save`] wrote.
    ///
    /// # Errors
    /// As [`Ca::load_consortium`].
    pub fn load_institution(directory: &Path) -> Result<Self, MintError> {
        Self::load(directory, CaKind::Institution)
    }

    fn load(directory: &Path, kind: CaKind) -> Result<Self, MintError> {
        let (certificate, key) = kind.files();
        let (path, key_path) = (directory.join(certificate), directory.join(key));
        let certificate = pem::certificates(&path)?.swap_remove(0);
        let key = key_pair(&key_path)?;
        let roots = pem::certificates(&directory.join("ca.crt"))?;
        let not_one = |problem| MintError::Ca { path: path.clone(), problem };
        let read = ca_names(&certificate)
            .ok_or_else(|| not_one("is not a CA's certificate made by `amop certs`"))?;
        if read.public_key != key.public_key_raw() {
            return Err(MintError::Ca {
                path: key_path,
                problem: "does not belong to the certificate beside it",
            });
        }
        let not_after = OffsetDateTime::from_unix_timestamp(read.not_after)
            .map_err(|_| not_one("has an end date that cannot be read"))?;
        if not_after <= OffsetDateTime::now_utc() {
            return Err(MintError::Expired(read.name));
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        Ok(Self { kind, name: read.name, certificate, roots, not_after, issuer })
    }

    fn expect_kind(&self, kind: CaKind, asked: &'static str) -> Result<(), MintError> {
        if self.kind == kind {
            return Ok(());
        }
        Err(MintError::WrongCa { ca: self.name.clone(), is: self.kind.describe(), asked })
    }
}

/// A node's or client's certificate and key, new.
pub struct Leaf {
    role: Role,
    chain: Vec<CertificateDer<'static>>,
    roots: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

impl Leaf {
    /// Leaf and institution CA, in the order they are presented.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The consortium's roots.
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// The private key.
    pub fn key(&self) -> PrivatePkcs8KeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der())
    }

    /// Writes what a node or an SDK loads: `ca.crt` with `node.crt` and `node.key`, or with
    /// `sdk.crt` and `sdk.key`, as FISCO BCOS SDKs name them.
    ///
    /// # Errors
    /// When a file exists that may not be replaced, or the disk refuses.
    pub fn save(&self, directory: &Path, existing: Existing) -> Result<Vec<PathBuf>, MintError> {
        let (certificate, key) = match self.role {
            Role::Node => ("node.crt", "node.key"),
            Role::Client => ("sdk.crt", "sdk.key"),
        };
        let files = [
            File::public(certificate, &self.chain),
            File::private(key, &self.key),
            File::public("ca.crt", &self.roots),
        ];
        write_all(directory, &files, existing)
    }
}

fn leaf_params(
    role: Role,
    name: &str,
    institution: &str,
    days: u32,
    at_most: OffsetDateTime,
) -> Result<CertificateParams, MintError> {
    let mut params = params(name, institution, role.as_str(), days, Some(at_most))?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = match role {
        // A node is the server of its clients, and either end of its links.
        Role::Node => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        Role::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
    };
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn ca_params(
    kind: CaKind,
    name: &str,
    days: u32,
    at_most: Option<OffsetDateTime>,
) -> Result<CertificateParams, MintError> {
    let mut params = params(name, name, kind.unit(), days, at_most)?;
    params.is_ca = IsCa::Ca(match kind {
        CaKind::Consortium => BasicConstraints::Constrained(1),
        CaKind::Institution => BasicConstraints::Constrained(0),
    });
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = kind == CaKind::Institution;
    Ok(params)
}

/// What all certificates have in common. None outlives the CA that issues it.
fn params(
    name: &str,
    organisation: &str,
    unit: &str,
    days: u32,
    at_most: Option<OffsetDateTime>,
) -> Result<CertificateParams, MintError> {
    check_name(name)?;
    check_days(days)?;
    let now = OffsetDateTime::now_utc();
    let mut params = CertificateParams::default();
    params.not_before = now - BACKDATED;
    let not_after = now + Duration::days(i64::from(days));
    params.not_after = at_most.map_or(not_after, |at_most| not_after.min(at_most));
    params.serial_number = Some(serial()?);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.distinguished_name.push(DnType::OrganizationName, organisation);
    params.distinguished_name.push(DnType::OrganizationalUnitName, unit);
    Ok(params)
}

fn check_name(name: &str) -> Result<(), MintError> {
    if name.trim().is_empty() || name.len() > MAX_NAME_BYTES || name.contains(char::is_control) {
        return Err(MintError::Name(name.to_owned()));
    }
    Ok(())
}

fn check_days(days: u32) -> Result<(), MintError> {
    if days == 0 || days > MAX_DAYS { Err(MintError::Days(days)) } else { Ok(()) }
}

/// Random, so that a renewed certificate with the same key has another.
fn serial() -> Result<SerialNumber, MintError> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).map_err(|_| rcgen::Error::RingUnspecified)?;
    // Positive, and without a leading zero byte.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn key_pair(path: &Path) -> Result<KeyPair, MintError> {
    let key = pem::private_key(path)?;
    KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ECDSA_P256_SHA256)
        .map_err(|_| MintError::Ca { path: path.to_owned(), problem: "is not a P-256 key" })
}

struct CaNames {
    name: String,
    public_key: Vec<u8>,
    not_after: i64,
}

fn ca_names(certificate: &CertificateDer<'_>) -> Option<CaNames> {
    let description = Description::parse(certificate).ok().filter(|d| d.is_ca)?;
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let name = parsed.subject().iter_organization().next()?.as_str().ok()?.to_owned();
    let public_key = parsed.public_key().subject_public_key.data.to_vec();
    Some(CaNames { name, public_key, not_after: description.not_after })
}
