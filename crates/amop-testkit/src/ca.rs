//! Certificates for tests, good and bad. Made anew in every test; nothing is ever committed.
//!
//! The good ones are what `amop certs` makes. The product's own minting cannot make the bad ones
//! and lives in the root package, which depends on this crate for its tests; hence this small second one.
//!
//! Everything here panics when it cannot do its work: there is no test to run then.

use std::{fs, path::Path};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SignatureAlgorithm,
};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};

/// A consortium: one root, any number of institutions.
pub struct Consortium {
    root: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Consortium {
    /// A consortium of its own; two of them do not trust each other.
    #[expect(clippy::new_without_default, reason = "each call makes another consortium")]
    pub fn new() -> Self {
        let key = key(&PKCS_ECDSA_P256_SHA256);
        let params = ca_params("consortium", "consortium", BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).expect("a root").der().clone();
        Self { root, issuer: Issuer::new(params, key) }
    }

    /// A new institution under the root.
    pub fn institution(&self, name: &str) -> Institution {
        let key = key(&PKCS_ECDSA_P256_SHA256);
        // No path length: tests issue CAs below this one, which must not be believed.
        let params = ca_params(name, "institution", BasicConstraints::Unconstrained);
        let certificate = params.signed_by(&key, &self.issuer).expect("an institution CA").der().clone();
        Institution {
            name: name.to_owned(),
            chain: vec![certificate],
            root: self.root.clone(),
            issuer: Issuer::new(params, key),
        }
    }

    /// The root certificate.
    pub fn root(&self) -> &CertificateDer<'static> {
        &self.root
    }
}

/// An institution's CA.
pub struct Institution {
    name: String,
    /// This CA, and those between it and the root.
    chain: Vec<CertificateDer<'static>>,
    root: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Institution {
    /// A node's certificate.
    pub fn node(&self, name: &str) -> Leaf {
        self.leaf(name, "node").build()
    }

    /// A client's certificate.
    pub fn client(&self, name: &str) -> Leaf {
        self.leaf(name, "client").build()
    }

    /// A certificate that may be wrong in many ways. `role` is its OU.
    pub fn leaf(&self, name: &str, role: &str) -> LeafBuilder<'_> {
        let now = OffsetDateTime::now_utc();
        LeafBuilder {
            institution: self,
            name: name.to_owned(),
            role: role.to_owned(),
            organisation: self.name.clone(),
            not_before: now - Duration::hours(1),
            not_after: now + Duration::days(30),
            algorithm: &PKCS_ECDSA_P256_SHA256,
            hosts: Vec::new(),
        }
    }

    /// A CA issued by this institution, which no consortium knows of.
    pub fn sub_ca(&self, name: &str) -> Institution {
        let key = key(&PKCS_ECDSA_P256_SHA256);
        let params = ca_params(name, "institution", BasicConstraints::Unconstrained);
        let certificate = params.signed_by(&key, &self.issuer).expect("a CA below").der().clone();
        let mut chain = vec![certificate];
        chain.extend(self.chain.iter().cloned());
        Institution {
            name: name.to_owned(),
            chain,
            root: self.root.clone(),
            issuer: Issuer::new(params, key),
        }
    }

    /// The CA's certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.chain[0]
    }
}

/// A leaf certificate in the making.
pub struct LeafBuilder<'a> {
    institution: &'a Institution,
    name: String,
    role: String,
    organisation: String,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    algorithm: &'static SignatureAlgorithm,
    hosts: Vec<String>,
}

impl LeafBuilder<'_> {
    /// Valid until yesterday.
    pub fn expired(mut self) -> Self {
        self.not_before -= Duration::days(30);
        self.not_after = OffsetDateTime::now_utc() - Duration::days(1);
        self
    }

    /// Valid from tomorrow.
    pub fn not_yet_valid(mut self) -> Self {
        self.not_before = OffsetDateTime::now_utc() + Duration::days(1);
        self
    }

    /// Claims to be of another institution.
    pub fn organisation(mut self, name: &str) -> Self {
        self.organisation = name.to_owned();
        self
    }

    /// With a key that is not on P-256, such as `rcgen::PKCS_ED25519` or `rcgen::PKCS_ECDSA_P384_SHA384`.
    pub fn algorithm(mut self, algorithm: &'static SignatureAlgorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// Names hosts, for programs that verify them; nothing of ours does.
    pub fn hosts<const N: usize>(mut self, names: [&str; N]) -> Self {
        self.hosts = names.map(str::to_owned).into();
        self
    }

    /// Issues it.
    pub fn build(self) -> Leaf {
        let key = key(self.algorithm);
        let mut params = params(&self.name, &self.organisation, &self.role);
        params.not_before = self.not_before;
        params.not_after = self.not_after;
        let hosts = self.hosts.into_iter().map(|name| name.try_into().map(SanType::DnsName));
        params.subject_alt_names = hosts.collect::<Result<_, _>>().expect("names of hosts");
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = params.signed_by(&key, &self.institution.issuer).expect("a leaf").der().clone();
        let mut chain = vec![leaf];
        chain.extend(self.institution.chain.iter().cloned());
        Leaf { chain, root: self.institution.root.clone(), key }
    }
}

/// A leaf certificate, its chain and its key.
pub struct Leaf {
    chain: Vec<CertificateDer<'static>>,
    root: CertificateDer<'static>,
    key: KeyPair,
}

impl Leaf {
    /// The chain as it is presented: leaf first, without the root.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.chain.clone()
    }

    /// The root of the consortium it belongs to.
    pub fn root(&self) -> CertificateDer<'static> {
        self.root.clone()
    }

    /// The private key.
    pub fn key(&self) -> PrivatePkcs8KeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der())
    }

    /// Writes `ca.crt`, `node.crt` and `node.key`.
    pub fn write_node_dir(&self, directory: &Path) {
        self.write(directory, "node");
    }

    /// Writes `ca.crt`, `sdk.crt` and `sdk.key`.
    pub fn write_client_dir(&self, directory: &Path) {
        self.write(directory, "sdk");
    }

    fn write(&self, directory: &Path, stem: &str) {
        fs::create_dir_all(directory).expect("a directory");
        let key = directory.join(format!("{stem}.key"));
        fs::write(&key, self.key.serialize_pem()).expect("the key");
        restrict(&key);
        fs::write(directory.join(format!("{stem}.crt")), pem(&self.chain)).expect("the chain");
        fs::write(directory.join("ca.crt"), pem(std::slice::from_ref(&self.root))).expect("the root");
    }
}

/// Makes a file readable by its owner only, as private keys must be.
pub fn restrict(path: &Path) {
    #[cfg(unix)]
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("permissions");
    #[cfg(not(unix))]
    let _ = path;
}

/// Certificates as a PEM file has them.
pub fn pem(certificates: &[CertificateDer<'_>]) -> String {
    certificates.iter().map(|c| ::pem::encode(&::pem::Pem::new("CERTIFICATE", c.to_vec()))).collect()
}

fn ca_params(name: &str, unit: &str, constraints: BasicConstraints) -> CertificateParams {
    let mut params = params(name, name, unit);
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn params(name: &str, organisation: &str, unit: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.distinguished_name.push(DnType::OrganizationName, organisation);
    params.distinguished_name.push(DnType::OrganizationalUnitName, unit);
    params
}

fn key(algorithm: &'static SignatureAlgorithm) -> KeyPair {
    KeyPair::generate_for(algorithm).expect("a key pair")
}
