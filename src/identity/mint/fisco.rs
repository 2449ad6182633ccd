//! Making FISCO BCOS certificates, as that project's own generator makes them: same versions,
//! extensions, names of organisations and units, and files. The common name is the one given
//! (the generator calls all RSA nodes and SDKs `FISCO-BCOS`, and secp256k1 SDKs `sdk`).
//!
//! - RSA: each agency's CA issues itself; CA, nodes and clients are of X.509 version 1.
//! - secp256k1: a chain's CA, of version 1, issues agencies' CAs, and they nodes and clients,
//!   both of version 3.

use std::path::{Path, PathBuf};

use amop_protocol::certificate::{Description, Role};
use amop_tls::fisco::{
    Ca, Kind,
    mint::{Extensions, KeyPair, Name, Template},
};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{
    BACKDATED, Existing, MintError, check_days, check_name,
    files::{File, write_all},
};
use crate::identity::pem;

/// The organisation in all of them.
const ORGANISATION: &str = "fisco-bcos";

/// The CA of a chain of secp256k1 certificates.
pub struct Chain(Signer);

/// An agency's CA, which issues nodes and clients.
pub struct Agency {
    kind: Kind,
    signer: Signer,
    /// The CA above, with secp256k1.
    chain: Option<CertificateDer<'static>>,
}

/// A CA's certificate and key.
struct Signer {
    certificate: CertificateDer<'static>,
    key: KeyPair,
    not_after: OffsetDateTime,
}

impl Chain {
    /// A new chain's CA.
    ///
    /// # Errors
    /// When the name or the validity cannot be used.
    pub fn new(name: &str, days: u32) -> Result<Self, MintError> {
        Signer::self_signed(Kind::Ec, name, days).map(Self)
    }

    /// A new agency of this chain.
    ///
    /// # Errors
    /// When the name or the validity cannot be used.
    pub fn agency(&self, name: &str, days: u32) -> Result<Agency, MintError> {
        let names = Subject { name, unit: "agency" };
        let (certificate, key, not_after) = self.0.issue(Kind::Ec, &names, days, Extensions::Ca)?;
        let signer = Signer { certificate, key, not_after };
        Ok(Agency { kind: Kind::Ec, signer, chain: Some(self.0.certificate.clone()) })
    }

    /// Writes `ca.crt` and `ca.key`.
    ///
    /// # Errors
    /// When a file exists that may not be replaced, or the disk refuses.
    pub fn save(&self, directory: &Path, existing: Existing) -> Result<Vec<PathBuf>, MintError> {
        write_all(directory, &self.0.files("ca.crt", "ca.key"), existing)
    }

    /// Loads what [`Chain::save`] wrote.
    ///
    /// # Errors
    /// When its files are missing, damaged, open to others or not a pair.
    pub fn load(directory: &Path) -> Result<Self, MintError> {
        Signer::load(Kind::Ec, &directory.join("ca.crt"), &directory.join("ca.key")).map(Self)
    }
}

impl Agency {
    /// A new agency: with RSA a CA that issues itself, with secp256k1 one of a chain of its own
    /// (for agencies of one chain see [`Chain::agency`]).
    ///
    /// # Errors
    /// When the name or the validity cannot be used.
    pub fn new(kind: Kind, name: &str, days: u32) -> Result<Self, MintError> {
        match kind {
            Kind::Rsa => Ok(Self { kind, signer: Signer::self_signed(kind, name, days)?, chain: None }),
            Kind::Ec => Chain::new("chain", days)?.agency(name, days),
        }
    }

    /// A new node.
    ///
    /// # Errors
    /// When the name or the validity cannot be used.
    pub fn node(&self, name: &str, days: u32) -> Result<Leaf, MintError> {
        self.leaf(Role::Node, name, days)
    }

    /// A new client.
    ///
    /// # Errors
    /// As [`Agency::node`].
    pub fn client(&self, name: &str, days: u32) -> Result<Leaf, MintError> {
        self.leaf(Role::Client, name, days)
    }

    /// A new node or client.
    ///
    /// # Errors
    /// As [`Agency::node`].
    pub fn leaf(&self, role: Role, name: &str, days: u32) -> Result<Leaf, MintError> {
        let (unit, extensions) = match (self.kind, role) {
            (Kind::Rsa, _) => ("agency", Extensions::Version1),
            (Kind::Ec, Role::Node) => ("node", Extensions::Leaf),
            (Kind::Ec, Role::Client) => ("sdk", Extensions::Leaf),
        };
        let (certificate, key, _) =
            self.signer.issue(self.kind, &Subject { name, unit }, days, extensions)?;
        let ca = self.chain.as_ref().unwrap_or(&self.signer.certificate).clone();
        let chain = match &self.chain {
            None => vec![certificate],
            Some(chain) => vec![certificate, self.signer.certificate.clone(), chain.clone()],
        };
        Ok(Leaf { role, chain, ca, key })
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn key(&self) -> &KeyPair {
        &self.signer.key
    }

    /// The CA that issues this agency's leaves.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.signer.certificate
    }

    /// Writes the CA: with RSA as `ca.crt` and `ca.key`; with secp256k1 as `agency.crt` and
    /// `agency.key`, with the chain's CA as `ca.crt`.
    ///
    /// # Errors
    /// When a file exists that may not be replaced, or the disk refuses.
    pub fn save(&self, directory: &Path, existing: Existing) -> Result<Vec<PathBuf>, MintError> {
        let files = match &self.chain {
            None => self.signer.files("ca.crt", "ca.key"),
            Some(chain) => {
                let mut files = self.signer.files("agency.crt", "agency.key");
                files.push(File::public("ca.crt", std::slice::from_ref(chain)));
                files
            }
        };
        write_all(directory, &files, existing)
    }

    /// Loads what [`Agency::save`] wrote.
    ///
    /// # Errors
    /// When its files are missing, damaged, open to others or not a pair.
    pub fn load(kind: Kind, directory: &Path) -> Result<Self, MintError> {
        let at = |name: &str| directory.join(name);
        match kind {
            Kind::Rsa => {
                let signer = Signer::load(kind, &at("ca.crt"), &at("ca.key"))?;
                Ok(Self { kind, signer, chain: None })
            }
            Kind::Ec => {
                let signer = Signer::load(kind, &at("agency.crt"), &at("agency.key"))?;
                let chain = pem::certificates(&at("ca.crt"))?.swap_remove(0);
                if !Ca::parse(kind, &chain).is_ok_and(|ca| ca.issued(&signer.certificate)) {
                    let problem = "is not the CA that issued agency.crt beside it";
                    return Err(MintError::Ca { path: at("ca.crt"), problem });
                }
                Ok(Self { kind, signer, chain: Some(chain) })
            }
        }
    }
}

/// What a certificate says of its holder.
struct Subject<'a> {
    name: &'a str,
    unit: &'static str,
}

impl Signer {
    fn self_signed(kind: Kind, name: &str, days: u32) -> Result<Self, MintError> {
        let key = KeyPair::generate(kind)?;
        let subject = Subject { name, unit: "chain" };
        let issuer = Name::new(name, ORGANISATION, subject.unit);
        let template = template(&subject, issuer, days, None, Extensions::Version1)?;
        Ok(Self { certificate: template.sign(&key, &key)?, key, not_after: template.not_after })
    }

    fn issue(
        &self,
        kind: Kind,
        subject: &Subject<'_>,
        days: u32,
        extensions: Extensions,
    ) -> Result<(CertificateDer<'static>, KeyPair, OffsetDateTime), MintError> {
        let issuer = Name::subject_of(&self.certificate)?;
        let template = template(subject, issuer, days, Some(self.not_after), extensions)?;
        let key = KeyPair::generate(kind)?;
        Ok((template.sign(&key, &self.key)?, key, template.not_after))
    }

    fn files(&self, certificate: &'static str, key: &'static str) -> Vec<File> {
        vec![
            File::public(certificate, std::slice::from_ref(&self.certificate)),
            File::private_der(key, &self.key.to_pkcs8()),
        ]
    }

    fn load(kind: Kind, path: &Path, key_path: &Path) -> Result<Self, MintError> {
        let not_one = |problem| MintError::Ca { path: path.to_owned(), problem };
        let certificate = pem::certificates(path)?.swap_remove(0);
        let key = KeyPair::from_der(kind, &pem::any_private_key(key_path)?).map_err(|_| MintError::Ca {
            path: key_path.to_owned(),
            problem: "is not a key of this layout (fisco-rsa: RSA, fisco-ec: secp256k1)",
        })?;
        Ca::parse(kind, &certificate).map_err(|_| not_one("is not a CA's certificate of this layout"))?;
        let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|_| not_one("is damaged"))?;
        if *parsed.public_key().subject_public_key.data != key.public()[..] {
            let problem = "does not belong to the certificate beside it";
            return Err(MintError::Ca { path: key_path.to_owned(), problem });
        }
        let description = Description::parse(&certificate).map_err(|_| not_one("is damaged"))?;
        let not_after = OffsetDateTime::from_unix_timestamp(description.not_after)
            .map_err(|_| not_one("has an end date that cannot be read"))?;
        if not_after <= OffsetDateTime::now_utc() {
            return Err(MintError::Expired(description.subject));
        }
        Ok(Self { certificate, key, not_after })
    }
}

/// None outlives the CA that issues it.
fn template(
    subject: &Subject<'_>,
    issuer: Name,
    days: u32,
    at_most: Option<OffsetDateTime>,
    extensions: Extensions,
) -> Result<Template, MintError> {
    check_name(subject.name)?;
    check_days(days)?;
    let now = OffsetDateTime::now_utc();
    let not_after = now + Duration::days(i64::from(days));
    Ok(Template {
        subject: Name::new(subject.name, ORGANISATION, subject.unit),
        issuer,
        not_before: now - BACKDATED,
        not_after: at_most.map_or(not_after, |at_most| not_after.min(at_most)),
        extensions,
    })
}

/// A node's or client's certificate and key, new.
pub struct Leaf {
    role: Role,
    chain: Vec<CertificateDer<'static>>,
    ca: CertificateDer<'static>,
    key: KeyPair,
}

impl Leaf {
    /// What is presented: with RSA the leaf alone, with secp256k1 also its agency and chain.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The CA that stands in `ca.crt`.
    pub fn ca(&self) -> &CertificateDer<'static> {
        &self.ca
    }

    /// The private key.
    pub fn key(&self) -> PrivatePkcs8KeyDer<'static> {
        self.key.to_pkcs8()
    }

    /// Writes what a node or an SDK loads: `ca.crt` with `node.crt` and `node.key`, or with
    /// `sdk.crt` and `sdk.key`.
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
            File::private_der(key, &self.key.to_pkcs8()),
            File::public("ca.crt", std::slice::from_ref(&self.ca)),
        ];
        write_all(directory, &files, existing)
    }
}
