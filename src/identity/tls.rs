//! The TLS configurations made from the default certificates: client port and overlay.
//!
//! Every configuration here is mutual, verifies with [`Authority`], looks at no host names, and
//! never resumes a session.

use std::sync::Arc;

use amop_tls::{Authority, Holder, Verifier, provider};
use rustls::{
    ClientConfig, ServerConfig,
    client::Resumption,
    server::NoServerSessionStorage,
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// The application protocol that nodes speak among themselves.
pub const OVERLAY_ALPN: &[u8] = b"amop/1";

/// The application protocol of the connections that carry the data frames of a link.
pub const OVERLAY_DATA_ALPN: &[u8] = b"amop-data/1";

pub(super) fn client_port_server(
    clients: Holder,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider::default()))
        .with_protocol_versions(&[&TLS12, &TLS13])?
        .with_client_cert_verifier(Verifier::logging(clients))
        .with_single_cert(chain, key)?;
    refuse_resumption(&mut config);
    Ok(config)
}

pub(super) fn overlay_server(
    authority: &Authority,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider::default()))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Verifier::logging(Holder::node(authority, None)))
        .with_single_cert(chain, key)?;
    refuse_resumption(&mut config);
    config.alpn_protocols = [OVERLAY_ALPN, OVERLAY_DATA_ALPN].map(<[u8]>::to_vec).into();
    Ok(config)
}

pub(super) fn overlay_client(
    authority: &Authority,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    protocol: &[u8],
) -> Result<ClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider::default()))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Verifier::logging(Holder::node(authority, None)))
        .with_client_auth_cert(chain, key)?;
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(config)
}

pub(super) fn refuse_resumption(config: &mut ServerConfig) {
    config.ignore_client_order = true;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
}
