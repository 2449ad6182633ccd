//! Handshakes in memory: our server and our client, as node and SDK set them up.

use std::sync::Arc;

use amop_tls::{
    Verifier,
    fisco::{Kind, certified_key},
    provider, refusal,
};
use parking_lot::Mutex;
use rustls::{
    ClientConfig, ClientConnection, Error, HandshakeKind, ProtocolVersion, ServerConfig, ServerConnection,
    SupportedProtocolVersion,
    sign::SingleCertAndKey,
    version::{TLS12, TLS13},
};
use rustls_pki_types::ServerName;

use crate::certificates::{Agency, Leaf};

fn pair(kind: Kind, leaf: &Leaf) -> Arc<SingleCertAndKey> {
    let key = leaf.key.to_pkcs8().into();
    Arc::new(certified_key(kind, leaf.chain.clone(), &key).unwrap().into())
}

fn server(agency: &Agency) -> Arc<ServerConfig> {
    let config = ServerConfig::builder_with_provider(Arc::new(provider::fisco()))
        .with_protocol_versions(&agency.kind.versions())
        .unwrap()
        .with_client_cert_verifier(Verifier::logging(agency.clients()))
        .with_cert_resolver(pair(agency.kind, &agency.leaf()));
    Arc::new(config)
}

/// A client that believes the nodes of `believed`, with a leaf of the kind it is of.
fn client(
    believed: &Agency,
    (kind, leaf): (Kind, &Leaf),
    versions: &[&'static SupportedProtocolVersion],
    only_secp256k1: bool,
) -> Arc<ClientConfig> {
    let mut provider = provider::fisco();
    if only_secp256k1 {
        provider.kx_groups.retain(|group| group.name() == 22.into());
    }
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Verifier::returning(believed.nodes()))
        .with_client_cert_resolver(pair(kind, leaf));
    Arc::new(config)
}

#[derive(Debug)]
enum Failed {
    AtServer(Error),
    AtClient(Error),
}

struct Done {
    version: ProtocolVersion,
    group: u16,
}

fn handshake(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> Result<Done, Failed> {
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut client = ClientConnection::new(client, name).map_err(Failed::AtClient)?;
    let mut server = ServerConnection::new(server).map_err(Failed::AtServer)?;
    while client.is_handshaking() || server.is_handshaking() || client.wants_write() || server.wants_write() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut &wire[..]).unwrap();
        server.process_new_packets().map_err(Failed::AtServer)?;
        wire.clear();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut &wire[..]).unwrap();
        client.process_new_packets().map_err(Failed::AtClient)?;
    }
    assert_ne!(client.handshake_kind(), Some(HandshakeKind::Resumed));
    let group = client.negotiated_key_exchange_group().unwrap().name().into();
    Ok(Done { version: client.protocol_version().unwrap(), group })
}

#[test]
fn both_kinds_shake_hands_in_the_versions_they_have() {
    let cases: [(Kind, &'static SupportedProtocolVersion); 3] =
        [(Kind::Rsa, &TLS12), (Kind::Rsa, &TLS13), (Kind::Ec, &TLS12)];
    for (kind, version) in cases {
        let agency = Agency::new(kind);
        let leaf = agency.leaf();
        let with = |only| client(&agency, (kind, &leaf), &[version], only);
        let done = handshake(with(false), server(&agency)).unwrap();
        assert_eq!(done.version, version.version, "{kind:?}");
        if version.version == ProtocolVersion::TLSv1_2 {
            let done = handshake(with(true), server(&agency)).unwrap();
            assert_eq!(done.group, 22, "the one group of the Python SDK");
        }
    }
    // Offered both versions, secp256k1 takes the one it can.
    let agency = Agency::new(Kind::Ec);
    let both = client(&agency, (Kind::Ec, &agency.leaf()), &[&TLS13, &TLS12], false);
    assert_eq!(handshake(both, server(&agency)).unwrap().version, ProtocolVersion::TLSv1_2);
    let only_13 = client(&agency, (Kind::Ec, &agency.leaf()), &[&TLS13], false);
    let error = handshake(only_13, server(&agency)).err().unwrap();
    assert!(matches!(error, Failed::AtServer(Error::PeerIncompatible(_))), "{error:?}");
}

#[test]
fn an_sdk_says_why_it_does_not_believe_a_node() {
    let versions: [(Kind, &'static SupportedProtocolVersion); 3] =
        [(Kind::Rsa, &TLS12), (Kind::Rsa, &TLS13), (Kind::Ec, &TLS12)];
    for (kind, version) in versions {
        let (agency, foreign) = (Agency::new(kind), Agency::foreign(kind));
        let leaf = agency.leaf();
        let config = client(&agency, (kind, &leaf), &[version], false);
        match handshake(config, server(&foreign)) {
            Err(Failed::AtClient(error)) => {
                let cause = refusal(&error).expect("a cause").to_string();
                assert!(cause.contains("bank-a") || cause.contains("chain"), "{cause}");
            }
            other => panic!("{:?}", other.err()),
        }
    }
}

/// Runs `work`, and gives what was logged meanwhile.
fn logged(work: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let sink = Sink::default();
    let writer = sink.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, work);
    String::from_utf8(sink.0.lock().clone()).unwrap()
}

#[test]
fn a_node_says_in_one_line_whom_it_refused_and_what_to_do() {
    let versions: [(Kind, &'static SupportedProtocolVersion); 3] =
        [(Kind::Rsa, &TLS12), (Kind::Rsa, &TLS13), (Kind::Ec, &TLS12)];
    for (kind, version) in versions {
        let agency = Agency::new(kind);
        let check = |(of, leaf): (Kind, Leaf), says: &[&str]| {
            let text = logged(|| {
                let config = client(&agency, (of, &leaf), &[version], false);
                let error = handshake(config, server(&agency)).err().expect("refused");
                assert!(matches!(error, Failed::AtServer(Error::InvalidCertificate(_))), "{error:?}");
            });
            let serial = amop_protocol::certificate::Description::parse(&leaf.chain[0]).unwrap().serial;
            assert_eq!(text.lines().count(), 1, "{text}");
            for part in [&["CN=FISCO-BCOS, O=fisco-bcos", serial.as_str()], says].concat() {
                assert!(text.contains(part), "{text:?} lacks {part:?}");
            }
        };
        check((kind, agency.expired()), &["issuer=\"CN=bank-a", "expired on", "renewed"]);
        check((kind, Agency::foreign(kind).leaf()), &["with the same name"]);
        if kind == Kind::Ec {
            check((kind, agency.sibling("bank-b").leaf()), &["CN=bank-b", "`agencies`"]);
        }
        // A certificate of the other profile comes, and is named. In TLS 1.3 one on secp256k1 cannot.
        let other = if kind == Kind::Rsa { Kind::Ec } else { Kind::Rsa };
        if kind == Kind::Ec || version.version == ProtocolVersion::TLSv1_2 {
            let needed = format!("needed=\"{}\"", kind.profile());
            check((other, Agency::new(other).leaf()), &[&needed, "a listener of the certificate's own"]);
        }
    }
}

#[test]
fn nobody_comes_without_a_certificate() {
    for kind in [Kind::Rsa, Kind::Ec] {
        let agency = Agency::new(kind);
        let config = ClientConfig::builder_with_provider(Arc::new(provider::fisco()))
            .with_protocol_versions(&[&TLS12])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Verifier::returning(agency.nodes()))
            .with_no_client_auth();
        let error = handshake(Arc::new(config), server(&agency)).err().unwrap();
        assert!(matches!(error, Failed::AtServer(Error::NoCertificatesPresented)), "{error:?}");
    }
}
