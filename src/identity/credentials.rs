//! A node's own certificate chain and key.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use amop_protocol::{
    NodeKey,
    certificate::{Role, Subject},
};
use amop_tls::{Authority, ChainError, node_key, signed_message};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::{
    admin_tls,
    client_tls::{ClientTls, Clients},
    pem::{self, FileError},
    tls,
};

/// Where a node's certificates and key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The consortium's roots, PEM.
    pub ca: PathBuf,
    /// The node's leaf certificate and its institution's CA, PEM, leaf first.
    pub cert: PathBuf,
    /// The node's private key, PEM, PKCS#8.
    pub key: PathBuf,
}

impl Paths {
    /// The usual names, `ca.crt`, `node.crt` and `node.key`, in `directory`.
    pub fn in_directory(directory: &Path) -> Self {
        Self {
            ca: directory.join("ca.crt"),
            cert: directory.join("node.crt"),
            key: directory.join("node.key"),
        }
    }
}

/// A node's proven identity: its chain, its key, and whom it believes. Clones share one copy.
#[derive(Clone)]
pub struct Credentials(Arc<Inner>);

struct Inner {
    subject: Subject,
    node_key: NodeKey,
    chain: Vec<CertificateDer<'static>>,
    authority: Authority,
    key: EcdsaKeyPair,
    random: SystemRandom,
    client_port: ClientTls,
    client_port_own: ClientTls,
    overlay_server: Arc<rustls::ServerConfig>,
    overlay_client: Arc<rustls::ClientConfig>,
    overlay_data_client: Arc<rustls::ClientConfig>,
    admin_server: Arc<rustls::ServerConfig>,
}

/// Why a node has no usable identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A file is missing, damaged, or open to others.
    #[error(transparent)]
    File(#[from] FileError),
    /// A certificate in the file of roots cannot be a root.
    #[error("certificate {position} in {} cannot be a root: {source}", path.display())]
    Root {
        /// The file.
        path: PathBuf,
        /// Which certificate in it, counted from 1.
        position: usize,
        /// Why.
        source: ChainError,
    },
    /// The node's own certificate would be refused by every other node.
    #[error("the certificate in {} cannot be used: {source}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ChainError,
    },
    /// The private key is not one that goes with a node certificate.
    #[error(
        "the private key in {} is not a P-256 key in PKCS#8; make certificate and key with `amop certs node`",
        path.display()
    )]
    Key {
        /// The file.
        path: PathBuf,
    },
    /// The private key of a FISCO BCOS certificate is of another kind.
    #[error("the private key in {} cannot be used: {source}", path.display())]
    FiscoKey {
        /// The file.
        path: PathBuf,
        /// Why.
        source: amop_tls::fisco::KeyError,
    },
    /// One CA is configured for two institutions.
    #[error(
        "the CA in {}, configured for {institution:?}, stands for another institution already; name each CA once (that of the node's own certificate needs no entry)",
        path.display()
    )]
    SameAgency {
        /// The file.
        path: PathBuf,
        /// The institution it is configured for.
        institution: String,
    },
    /// Key and certificate are of different pairs.
    #[error(
        "the private key in {} does not belong to the certificate in {}; put the pair that was made together there",
        key.display(),
        cert.display()
    )]
    Mismatch {
        /// The file with the key.
        key: PathBuf,
        /// The file with the certificate.
        cert: PathBuf,
    },
    /// TLS cannot be set up with this identity.
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
}

impl Credentials {
    /// Loads and verifies a node's identity.
    ///
    /// # Errors
    /// With the first problem found; [`Credentials::load_all`] gives all of them.
    pub fn load(paths: &Paths) -> Result<Self, LoadError> {
        Self::load_all(paths).map_err(|mut problems| problems.swap_remove(0))
    }

    /// Loads and verifies a node's identity.
    ///
    /// # Errors
    /// With everything that is wrong, at least one problem.
    pub fn load_all(paths: &Paths) -> Result<Self, Vec<LoadError>> {
        let mut problems = Vec::new();
        let mut keep = |problem: LoadError| problems.push(problem);
        let roots = pem::certificates(&paths.ca).map_err(|e| keep(e.into())).ok();
        let chain = pem::certificates(&paths.cert).map_err(|e| keep(e.into())).ok();
        let key = pem::private_key(&paths.key).map_err(|e| keep(e.into())).ok();
        let authority = roots.as_ref().and_then(|roots| authority(roots, &paths.ca).map_err(&mut keep).ok());
        if let (Some(authority), Some(chain)) = (&authority, &chain) {
            let _ = authority.verify_chain(chain, Role::Node).map_err(|source| {
                keep(LoadError::Certificate { path: paths.cert.clone(), source });
            });
        }
        if let (Some(chain), Some(key)) = (&chain, &key) {
            let _ = key_pair(chain, key, paths).map_err(&mut keep);
        }
        match (roots, chain, key) {
            (Some(roots), Some(chain), Some(key)) if problems.is_empty() => {
                Self::build(&roots, chain, key, paths).map_err(|problem| vec![problem])
            }
            _ => Err(problems),
        }
    }

    /// Makes a node's identity from certificates and key in memory.
    ///
    /// # Errors
    /// As [`Credentials::load`]; the files named are `ca.crt`, `node.crt` and `node.key`.
    pub fn new(
        roots: &[CertificateDer<'_>],
        chain: Vec<CertificateDer<'static>>,
        key: PrivatePkcs8KeyDer<'static>,
    ) -> Result<Self, LoadError> {
        Self::build(roots, chain, key, &Paths::in_directory(Path::new("")))
    }

    fn build(
        roots: &[CertificateDer<'_>],
        mut chain: Vec<CertificateDer<'static>>,
        key: PrivatePkcs8KeyDer<'static>,
        paths: &Paths,
    ) -> Result<Self, LoadError> {
        let authority = authority(roots, &paths.ca)?;
        // Whoever verifies has the roots; sending them would only cost bytes.
        chain.retain(|certificate| !roots.contains(certificate));
        let unusable = |source| LoadError::Certificate { path: paths.cert.clone(), source };
        let subject = authority.verify_chain(&chain, Role::Node).map_err(unusable)?;
        let node_key = node_key(&subject).map_err(|error| unusable(error.into()))?;
        let pair = key_pair(&chain, &key, paths)?;
        let tls_key = || PrivateKeyDer::Pkcs8(key.clone_key());
        let overlay_client =
            |protocol| tls::overlay_client(&authority, chain.clone(), tls_key(), protocol).map(Arc::new);
        let client_port = |own| {
            tls::client_port_server(&authority, own, chain.clone(), tls_key())
                .map(|server| ClientTls::consortium(server, &chain[0]))
        };
        Ok(Self(Arc::new(Inner {
            client_port: client_port(None)?,
            client_port_own: client_port(Some(subject.institution.clone()))?,
            overlay_server: Arc::new(tls::overlay_server(&authority, chain.clone(), tls_key())?),
            overlay_client: overlay_client(tls::OVERLAY_ALPN)?,
            overlay_data_client: overlay_client(tls::OVERLAY_DATA_ALPN)?,
            admin_server: admin_tls::server(
                &authority,
                subject.institution.clone(),
                chain.clone(),
                tls_key(),
            )
            .map(Arc::new)?,
            subject,
            node_key,
            chain,
            authority,
            key: pair,
            random: SystemRandom::new(),
        })))
    }

    /// The node's public key; its id is the first half.
    pub fn node_key(&self) -> NodeKey {
        self.0.node_key
    }

    /// Who the node is.
    pub fn subject(&self) -> &Subject {
        &self.0.subject
    }

    /// The node's certificate chain, leaf first, without the root.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.0.chain
    }

    /// Whom the node believes.
    pub fn authority(&self) -> &Authority {
        &self.0.authority
    }

    /// TLS 1.2 and 1.3 for clients of the whole consortium.
    pub fn client_port_server(&self) -> Arc<rustls::ServerConfig> {
        self.client_port_server_for(Clients::OfConsortium)
    }

    /// TLS 1.2 and 1.3 for the given clients.
    pub fn client_port_server_for(&self, clients: Clients) -> Arc<rustls::ServerConfig> {
        self.client_tls(clients).server_config()
    }

    /// What a client port with these certificates serves with, TLS 1.2 and 1.3.
    pub fn client_tls(&self, clients: Clients) -> ClientTls {
        match clients {
            Clients::OfConsortium => self.0.client_port.clone(),
            Clients::OfOwnInstitution => self.0.client_port_own.clone(),
        }
    }

    /// TLS 1.3 for links that other nodes dial.
    pub fn overlay_server(&self) -> Arc<rustls::ServerConfig> {
        self.0.overlay_server.clone()
    }

    /// TLS 1.3 for links that this node dials. The server name is not looked at.
    pub fn overlay_client(&self) -> Arc<rustls::ClientConfig> {
        self.0.overlay_client.clone()
    }

    /// As [`Credentials::overlay_client`], for the data connections of those links.
    pub fn overlay_data_client(&self) -> Arc<rustls::ClientConfig> {
        self.0.overlay_data_client.clone()
    }

    /// TLS 1.3 for the admin port beyond the loopback interface: clients of the node's own institution
    /// may show their certificate, and need not.
    pub fn admin_server(&self) -> Arc<rustls::ServerConfig> {
        self.0.admin_server.clone()
    }

    /// Signs `bytes` for the purpose `label`: ECDSA over P-256 and SHA-256, 64 bytes.
    /// [`Authority::verify`] is its counterpart.
    pub fn sign(&self, label: &str, bytes: &[u8]) -> Vec<u8> {
        self.0
            .key
            .sign(&self.0.random, &signed_message(label, bytes))
            .expect(
                "invariant: signing fails only without the system's random generator, which start-up used",
            )
            .as_ref()
            .to_vec()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("subject", &self.0.subject).finish_non_exhaustive()
    }
}

fn authority(roots: &[CertificateDer<'_>], path: &Path) -> Result<Authority, LoadError> {
    Authority::new(roots).map_err(|(at, source)| LoadError::Root {
        path: path.to_owned(),
        position: at + 1,
        source,
    })
}

/// The key as a signer, if it is that of the leaf.
fn key_pair(
    chain: &[CertificateDer<'_>],
    key: &PrivatePkcs8KeyDer<'_>,
    paths: &Paths,
) -> Result<EcdsaKeyPair, LoadError> {
    let pair = EcdsaKeyPair::from_pkcs8(
        &ECDSA_P256_SHA256_FIXED_SIGNING,
        key.secret_pkcs8_der(),
        &SystemRandom::new(),
    )
    .map_err(|_| LoadError::Key { path: paths.key.clone() })?;
    let of_leaf = chain.first().and_then(|leaf| Subject::parse(leaf).ok()).and_then(|subject| subject.key);
    match of_leaf {
        Some(of_leaf) if pair.public_key().as_ref().strip_prefix(&[4]) != Some(of_leaf.as_bytes()) => {
            Err(LoadError::Mismatch { key: paths.key.clone(), cert: paths.cert.clone() })
        }
        // A leaf without such a key is refused for that, not for the mismatch.
        _ => Ok(pair),
    }
}
