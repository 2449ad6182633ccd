//! TLS of the admin port, and of whoever asks it.
//!
//! The port shows the node's own certificate and takes clients of its own institution, who may also
//! come without one: what they are let do is decided above. Whoever asks believes nodes of its own
//! institution only: to any other the token would be given away.

use std::{path::Path, sync::Arc};

use amop_protocol::certificate::Role;
use amop_tls::{Authority, Holder, Verifier, provider};
use rustls::{ClientConfig, ServerConfig, client::Resumption, version::TLS13};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::{credentials::Credentials, error::LoadError, pem, tls};

/// What is spoken on the admin port.
const HTTP: &[u8] = b"http/1.1";

/// TLS for asking nodes of one institution. Clones share one copy.
#[derive(Clone, Debug)]
pub struct AskingTls(Arc<ClientConfig>);

impl AskingTls {
    /// For asking with a node's own files, on its machine. Shows no certificate.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn of_node(credentials: &Credentials) -> Result<Self, LoadError> {
        let own = credentials.subject().institution.clone();
        Ok(Self::new(&credentials.authority(), own, None)?)
    }

    /// For asking with the certificate of a client: `ca.crt`, `sdk.crt` and `sdk.key` in `directory`.
    ///
    /// # Errors
    /// When a file cannot be used, or the certificate is no client's of the consortium.
    pub fn of_client(directory: &Path) -> Result<Self, LoadError> {
        let [ca, cert, key] = ["ca.crt", "sdk.crt", "sdk.key"].map(|file| directory.join(file));
        let roots = pem::certificates(&ca)?;
        let chain = pem::certificates(&cert)?;
        let key = pem::private_key(&key)?;
        let authority = Authority::new(&roots).map_err(|(at, source)| LoadError::Root {
            path: ca.clone(),
            position: at + 1,
            source,
        })?;
        let unusable = |source| LoadError::Certificate { path: cert.clone(), source };
        let subject = authority.verify_chain(&chain, Role::Client).map_err(unusable)?;
        Ok(Self::new(&authority, subject.institution, Some((chain, PrivateKeyDer::Pkcs8(key))))?)
    }

    fn new(
        authority: &Authority,
        institution: Arc<str>,
        own: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    ) -> Result<Self, rustls::Error> {
        let nodes = Holder::node(authority, Some(institution));
        let config = ClientConfig::builder_with_provider(Arc::new(provider::default()))
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Verifier::returning(nodes));
        let mut config = match own {
            Some((chain, key)) => config.with_client_auth_cert(chain, key)?,
            None => config.with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        config.alpn_protocols = vec![HTTP.to_vec()];
        Ok(Self(Arc::new(config)))
    }

    /// What rustls needs. The server name is not looked at.
    pub fn config(&self) -> Arc<ClientConfig> {
        self.0.clone()
    }
}

/// What the admin port of a node of `institution` serves with.
pub(super) fn server(
    authority: &Authority,
    institution: Arc<str>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let clients = Verifier::logging_if_shown(Holder::client(authority, Some(institution)));
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider::default()))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)?;
    tls::refuse_resumption(&mut config);
    config.alpn_protocols = vec![HTTP.to_vec()];
    Ok(config)
}
