//! A throwaway consortium: root, one institution, node and client certificates.

use std::{path::PathBuf, sync::Arc};

use amop_client::Options;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tempfile::TempDir;

pub(crate) struct Consortium {
    root: rcgen::Certificate,
    institution: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
    directory: TempDir,
}

/// A leaf and its key, in PEM; the chain is leaf and institution.
pub(crate) struct Leaf {
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Consortium {
    pub(crate) fn new() -> Self {
        let (root_params, root_key) = (authority("Consortium"), KeyPair::generate().unwrap());
        let root = root_params.self_signed(&root_key).unwrap();
        let root_issuer = Issuer::new(root_params, root_key);
        let (params, key) = (authority("Bank A"), KeyPair::generate().unwrap());
        let institution = params.signed_by(&key, &root_issuer).unwrap();
        let issuer = Issuer::new(params, key);
        let consortium = Self { root, institution, issuer, directory: tempfile::tempdir().unwrap() };
        let client = consortium.leaf("client", "app");
        let write = |name: &str, text: &str| std::fs::write(consortium.file(name), text).unwrap();
        write("ca.crt", &consortium.root.pem());
        write("sdk.crt", &client.chain);
        write("sdk.key", &client.key);
        consortium
    }

    pub(crate) fn leaf(&self, role: &str, name: &str) -> Leaf {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, "Bank A");
        params.distinguished_name.push(DnType::OrganizationalUnitName, role);
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        Leaf { chain: leaf.pem() + &self.institution.pem(), key: key.serialize_pem() }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Options of this consortium's client.
    pub(crate) fn options(&self, nodes: &[String]) -> Options {
        Options::new(nodes.iter().cloned(), self.directory.path())
    }

    /// TLS of a node that trusts this consortium's clients.
    pub(crate) fn server(&self, leaf: &Leaf) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.root.der().clone()).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(leaf.chain.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS12, &rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .unwrap();
        Arc::new(config)
    }
}

fn authority(institution: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, format!("{institution} CA"));
    params.distinguished_name.push(DnType::OrganizationName, institution);
    params
}
