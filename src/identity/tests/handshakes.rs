//! TLS as nodes and clients have it with these certificates.

use super::*;

/// A handshake in memory; the error is the first that either end met.
pub(super) fn handshake(
    client: Arc<rustls::ClientConfig>,
    server: Arc<rustls::ServerConfig>,
) -> Result<rustls::NamedGroup, rustls::Error> {
    let name = ServerName::try_from("node").unwrap();
    let mut client = rustls::ClientConnection::new(client, name)?;
    let mut server = rustls::ServerConnection::new(server)?;
    while client.is_handshaking() || server.is_handshaking() || client.wants_write() || server.wants_write() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut &wire[..]).unwrap();
        server.process_new_packets()?;
        wire.clear();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut &wire[..]).unwrap();
        client.process_new_packets()?;
    }
    assert_eq!(client.handshake_kind(), Some(rustls::HandshakeKind::Full), "never resumed");
    Ok(server.negotiated_key_exchange_group().expect("a full handshake has one").name())
}

#[test]
fn nodes_link_and_nobody_else_does() {
    let consortium = Consortium::new();
    let node = |institution: &str| credentials(&consortium.institution(institution).node("n")).unwrap();
    let (one, two) = (node("bank-a"), node("bank-b"));
    for _ in 0..2 {
        handshake(one.overlay_client(), two.overlay_server()).unwrap();
    }

    let stranger = credentials(&Consortium::new().institution("bank-a").node("n")).unwrap();
    assert!(handshake(stranger.overlay_client(), two.overlay_server()).is_err());
    assert!(handshake(one.overlay_client(), stranger.overlay_server()).is_err());

    let application = consortium.institution("bank-a").client("c");
    let as_client =
        tls::overlay_client(&two.authority(), application.chain(), application.key().into(), OVERLAY_ALPN)
            .unwrap();
    let refused = handshake(as_client.into(), two.overlay_server()).unwrap_err();
    assert!(refused.to_string().contains("ApplicationVerificationFailure"), "{refused}");
}

#[test]
fn the_client_port_takes_clients_over_tls_1_2_and_1_3() {
    let consortium = Consortium::new();
    let bank = consortium.institution("bank-a");
    let node = credentials(&bank.node("n")).unwrap();
    let connect = |leaf: Leaf, version, clients| {
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(amop_tls::provider::default()))
            .with_protocol_versions(&[version])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(amop_tls::Verifier::logging(amop_tls::Holder::node(
                &node.authority(),
                None,
            )))
            .with_client_auth_cert(leaf.chain(), leaf.key().into())
            .unwrap();
        handshake(config.into(), node.client_port_server_for(clients))
    };
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let refused = |leaf, clients| connect(leaf, version, clients).unwrap_err().to_string();
        connect(bank.client("c"), version, Clients::OfConsortium).unwrap();
        connect(bank.client("c"), version, Clients::OfOwnInstitution).unwrap();
        let other = consortium.institution("bank-b");
        connect(other.client("c"), version, Clients::OfConsortium).unwrap();
        assert!(refused(other.client("c"), Clients::OfOwnInstitution).contains("ApplicationVerification"));
        assert!(refused(bank.node("n"), Clients::OfConsortium).contains("ApplicationVerification"));
        let foreign = Consortium::new().institution("bank-a").client("c");
        assert!(refused(foreign, Clients::OfConsortium).contains("UnknownIssuer"));
        let expired = bank.leaf("c", "client").expired().build();
        assert!(refused(expired, Clients::OfConsortium).contains("Expired"));
    }
}

/// Java SDKs up to 2.10.0 offer X25519 first, in TLS 1.2, and cannot do it.
#[test]
fn a_tls_1_2_client_that_offers_x25519_first_gets_p_256() {
    let bank = Consortium::new().institution("bank-a");
    let node = credentials(&bank.node("n")).unwrap();
    let agreed = |version| {
        let leaf = bank.client("c");
        let config =
            rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
                .with_protocol_versions(&[version])
                .unwrap()
                .dangerous()
                .with_custom_certificate_verifier(amop_tls::Verifier::logging(amop_tls::Holder::node(
                    &node.authority(),
                    None,
                )))
                .with_client_auth_cert(leaf.chain(), leaf.key().into())
                .unwrap();
        handshake(config.into(), node.client_port_server_for(Clients::OfConsortium)).unwrap()
    };
    assert_eq!(agreed(&rustls::version::TLS12), rustls::NamedGroup::secp256r1);
    assert_eq!(agreed(&rustls::version::TLS13), rustls::NamedGroup::X25519);
}

#[test]
fn a_refusal_is_one_log_line_that_finds_the_certificate() {
    let log = Arc::new(parking_lot::Mutex::new(Vec::new()));
    struct Sink(Arc<parking_lot::Mutex<Vec<u8>>>);
    impl std::io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let sink = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_ansi(false).with_writer(move || Sink(sink.clone())).finish();

    let bank = Consortium::new().institution("bank-a");
    let node = credentials(&bank.node("n")).unwrap();
    let client = bank.leaf("c\nforged", "client").expired().build();
    let dialler =
        tls::overlay_client(&node.authority(), client.chain(), client.key().into(), OVERLAY_ALPN).unwrap();
    tracing::subscriber::with_default(subscriber, || {
        assert!(handshake(dialler.into(), node.overlay_server()).is_err());
    });
    let text = String::from_utf8(log.lock().clone()).unwrap();
    let serial = amop_protocol::certificate::Description::parse(&client.chain()[0]).unwrap().serial;
    assert_eq!(text.lines().count(), 1, "{text}");
    for part in ["WARN", "CN=c?forged, O=bank-a, OU=client", "CN=bank-a, O=bank-a", &serial, "expired on"] {
        assert!(text.contains(part), "{text:?} lacks {part}");
    }
}
