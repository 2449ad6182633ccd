//! A node's own certificate chain and key.

use std::{fmt, path::Path, sync::Arc};

use amop_protocol::{
    NodeKey,
    certificate::{Role, Subject},
};
use amop_tls::{Authority, Revocations, node_key, signed_message};
use arc_swap::ArcSwap;
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::{
    admin_tls,
    client_tls::{ClientTls, Clients, Serving},
    crl,
    error::{LoadError, Paths},
    facts::{Fact, Of},
    pem, tls,
};

/// A node's proven identity: its chain, its key, and whom it believes. Clones share one copy.
///
/// Who the node is stays as it is; certificates, CAs and revocation lists may be replaced while it
/// runs ([`Credentials::prepare`], [`Credentials::adopt`]), and whoever asks then gets the new ones.
#[derive(Clone)]
pub struct Credentials(Arc<Inner>);

struct Inner {
    subject: Subject,
    node_key: NodeKey,
    key: EcdsaKeyPair,
    random: SystemRandom,
    current: ArcSwap<Current>,
    client_port: ClientTls,
    client_port_own: ClientTls,
}

/// What may be replaced.
struct Current {
    roots: Vec<CertificateDer<'static>>,
    chain: Arc<[CertificateDer<'static>]>,
    authority: Authority,
    overlay_server: Arc<rustls::ServerConfig>,
    overlay_client: Arc<rustls::ClientConfig>,
    overlay_data_client: Arc<rustls::ClientConfig>,
    admin_server: Arc<rustls::ServerConfig>,
}

/// Everything that certificates and key are good for, verified and not in force.
struct Built {
    subject: Subject,
    node_key: NodeKey,
    key: EcdsaKeyPair,
    current: Current,
    client_port: Serving,
    client_port_own: Serving,
}

/// New certificates for the same node, verified and not in force.
pub struct Renewal(Built);

/// What the files hold.
struct Read {
    roots: Vec<CertificateDer<'static>>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivatePkcs8KeyDer<'static>,
    authority: Authority,
}

impl Renewal {
    /// What a client port serves the given clients with from then on.
    pub(super) fn client_port(&self, clients: &Clients) -> Serving {
        match clients {
            Clients::OfConsortium => self.0.client_port.clone(),
            Clients::OfOwnInstitution => self.0.client_port_own.clone(),
        }
    }
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
        let read = Read::files(paths, None)?;
        read.authority
            .verify_chain(&read.chain, Role::Node)
            .map_err(|source| vec![LoadError::Certificate { path: paths.cert.clone(), source }])?;
        read.build(paths).map(Self::of).map_err(|problem| vec![problem])
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
        let paths = Paths::in_directory(Path::new(""));
        let authority = authority(roots, &paths.ca)?;
        let roots = roots.iter().map(|der| der.clone().into_owned()).collect();
        Read { roots, chain, key, authority }.build(&paths).map(Self::of)
    }

    fn of(built: Built) -> Self {
        let Built { subject, node_key, key, current, client_port, client_port_own } = built;
        Self(Arc::new(Inner {
            subject,
            node_key,
            key,
            random: SystemRandom::new(),
            current: ArcSwap::from_pointee(current),
            client_port: ClientTls::new(client_port),
            client_port_own: ClientTls::new(client_port_own),
        }))
    }

    /// Loads and verifies what has become of the files, to be put in force by [`Credentials::adopt`].
    ///
    /// # Errors
    /// With everything that is wrong, at least one problem: as at start, and if the certificate is
    /// another node's, or a CA or revocation list that is new here has expired. A list that revokes
    /// the node's own certificate is taken; others refuse it all the same.
    pub fn prepare(&self, paths: &Paths) -> Result<Renewal, Vec<LoadError>> {
        let current = self.0.current.load_full();
        let read = Read::files(paths, Some(&current))?;
        let built = read.build(paths).map_err(|problem| vec![problem])?;
        let who = |key: &NodeKey, subject: &Subject| {
            format!("{} of {} with the id {}", subject.name, subject.institution, key.id())
        };
        let (own, found) = (who(&self.0.node_key, &self.0.subject), who(&built.node_key, &built.subject));
        if own != found {
            return Err(vec![LoadError::OtherNode { path: paths.cert.clone(), found, own }]);
        }
        Ok(Renewal(built))
    }

    /// Puts new certificates in force for every connection from now on.
    pub fn adopt(&self, Renewal(built): Renewal) {
        self.0.current.store(Arc::new(built.current));
        self.0.client_port.replace(built.client_port);
        self.0.client_port_own.replace(built.client_port_own);
    }

    /// The certificates and revocation lists in force.
    pub fn facts(&self) -> Vec<Fact> {
        let current = self.0.current.load();
        let own = current
            .chain
            .iter()
            .enumerate()
            .map(|(at, der)| (if at == 0 { Of::Node } else { Of::Issuer }, der));
        let all = own.chain(current.roots.iter().map(|der| (Of::Root, der)));
        let certificates = all.filter_map(|(of, der)| Fact::of_certificate(of, der));
        certificates.chain(current.authority.revocations().lists().iter().map(Fact::of_list)).collect()
    }

    /// The node's public key; its id is the first half.
    pub fn node_key(&self) -> NodeKey {
        self.0.node_key
    }

    /// Who the node is; serial number and validity are those of its certificate at start.
    pub fn subject(&self) -> &Subject {
        &self.0.subject
    }

    /// The node's certificate chain as it is now, leaf first, without the root.
    pub fn chain(&self) -> Arc<[CertificateDer<'static>]> {
        self.0.current.load().chain.clone()
    }

    /// Whom the node believes now.
    pub fn authority(&self) -> Authority {
        self.0.current.load().authority.clone()
    }

    /// TLS 1.2 and 1.3 for clients of the whole consortium.
    pub fn client_port_server(&self) -> Arc<rustls::ServerConfig> {
        self.client_port_server_for(Clients::OfConsortium)
    }

    /// TLS 1.2 and 1.3 for the given clients.
    pub fn client_port_server_for(&self, clients: Clients) -> Arc<rustls::ServerConfig> {
        self.client_tls(clients).serving().server_config()
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
        self.0.current.load().overlay_server.clone()
    }

    /// TLS 1.3 for links that this node dials. The server name is not looked at.
    pub fn overlay_client(&self) -> Arc<rustls::ClientConfig> {
        self.0.current.load().overlay_client.clone()
    }

    /// As [`Credentials::overlay_client`], for the data connections of those links.
    pub fn overlay_data_client(&self) -> Arc<rustls::ClientConfig> {
        self.0.current.load().overlay_data_client.clone()
    }

    /// TLS 1.3 for the admin port beyond the loopback interface: clients of the node's own institution
    /// may show their certificate, and need not.
    pub fn admin_server(&self) -> Arc<rustls::ServerConfig> {
        self.0.current.load().admin_server.clone()
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

impl Read {
    /// Reads all files; beside what is `current`, nothing that has expired.
    fn files(paths: &Paths, current: Option<&Current>) -> Result<Self, Vec<LoadError>> {
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
        if let (Some(roots), Some(current)) = (&roots, current) {
            crl::new_and_expired(&current.roots, roots, &paths.ca).into_iter().for_each(&mut keep);
        }
        let behind = chain.as_deref().and_then(|chain| chain.get(1..)).unwrap_or_default();
        let authority = authority.map(|authority| {
            let authority = authority.knowing(behind);
            let in_force = current.map(|current| current.authority.revocations());
            let lists = crl::load(&paths.crl, |beside| authority.cas(beside), in_force, &mut keep);
            authority.revoking(lists)
        });
        match (roots, chain, key, authority) {
            (Some(roots), Some(chain), Some(key), Some(authority)) if problems.is_empty() => {
                Ok(Self { roots, chain, key, authority })
            }
            _ => Err(problems),
        }
    }

    fn build(mut self, paths: &Paths) -> Result<Built, LoadError> {
        let (roots, key) = (&self.roots, &self.key);
        // Whoever verifies has the roots; sending them would only cost bytes.
        self.chain.retain(|certificate| !roots.contains(certificate));
        let chain = &self.chain;
        let unusable = |source| LoadError::Certificate { path: paths.cert.clone(), source };
        // What revokes this very certificate binds others, and is for them to know.
        let unrevoked = self.authority.clone().revoking(Revocations::default());
        let subject = unrevoked.verify_chain(chain, Role::Node).map_err(unusable)?;
        let node_key = node_key(&subject).map_err(|error| unusable(error.into()))?;
        let pair = key_pair(chain, key, paths)?;
        let authority = &self.authority;
        let tls_key = || PrivateKeyDer::Pkcs8(key.clone_key());
        let overlay_client =
            |protocol| tls::overlay_client(authority, chain.clone(), tls_key(), protocol).map(Arc::new);
        let client_port = |own| Serving::consortium(authority, own, chain.clone(), tls_key());
        Ok(Built {
            client_port: client_port(None)?,
            client_port_own: client_port(Some(subject.institution.clone()))?,
            current: Current {
                overlay_server: Arc::new(tls::overlay_server(authority, chain.clone(), tls_key())?),
                overlay_client: overlay_client(tls::OVERLAY_ALPN)?,
                overlay_data_client: overlay_client(tls::OVERLAY_DATA_ALPN)?,
                admin_server: admin_tls::server(
                    authority,
                    subject.institution.clone(),
                    chain.clone(),
                    tls_key(),
                )
                .map(Arc::new)?,
                roots: roots.clone(),
                chain: chain.as_slice().into(),
                authority: self.authority,
            },
            subject,
            node_key,
            key: pair,
        })
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
