//! TLS towards servers that are no part of the consortium, such as a collector of traces: ordinary certificates, under
//! CAs that the configuration names, with the name of the host in them.

use std::{path::Path, sync::Arc};

use amop_tls::provider;
use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    version::{TLS12, TLS13},
};

use super::{error::LoadError, pem};

/// Believes servers whose certificates are issued under a CA in the file `ca`. Shows no certificate.
///
/// # Errors
/// When the file cannot be used.
pub fn towards_servers(ca: &Path) -> Result<Arc<ClientConfig>, LoadError> {
    let mut roots = RootCertStore::empty();
    for (at, root) in pem::certificates(ca)?.into_iter().enumerate() {
        let unusable = |source| LoadError::ServerCa { path: ca.to_owned(), position: at + 1, source };
        roots.add(root).map_err(unusable)?;
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider::default()))
        .with_protocol_versions(&[&TLS12, &TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
