mod admin;
mod fisco;
mod reload;

use std::{fs, path::Path, sync::Arc};

use amop_testkit::ca::{Consortium, Leaf, restrict};
use rustls_pki_types::{CertificateDer, ServerName};

use super::*;

fn credentials(leaf: &Leaf) -> Result<Credentials, LoadError> {
    Credentials::new(&[leaf.root()], leaf.chain(), leaf.key())
}

fn authority(consortium: &Consortium) -> Authority {
    Authority::new(std::slice::from_ref(consortium.root())).unwrap()
}

#[test]
fn a_genuine_chain_says_who_its_holder_is() {
    let consortium = Consortium::new();
    let bank = consortium.institution("bank-a");
    let (node, client) = (bank.node("node-1"), bank.client("payments"));

    let subject = authority(&consortium).verify_chain(&node.chain(), Role::Node).unwrap();
    assert_eq!((&*subject.name, &*subject.institution, subject.role), ("node-1", "bank-a", Role::Node));
    assert_eq!(subject.key, Some(credentials(&node).unwrap().node_key()));
    assert_eq!(subject.key_kind, "P-256");

    let subject = authority(&consortium).verify_chain(&client.chain(), Role::Client).unwrap();
    assert_eq!((&*subject.name, subject.role), ("payments", Role::Client));
    assert_eq!(fingerprint(&client.chain()[0]), fingerprint(&client.chain()[0]));
    assert_ne!(fingerprint(&client.chain()[0]), fingerprint(&node.chain()[0]));
}

#[test]
fn chains_that_are_not_believed_say_why() {
    let consortium = Consortium::new();
    let bank = consortium.institution("bank-a");
    let check = |chain: &[CertificateDer<'static>], role: Role, cause: &str| {
        let error = authority(&consortium).verify_chain(chain, role).unwrap_err().to_string();
        assert!(error.contains(cause), "{error:?} should say {cause:?}");
    };
    let good = bank.node("n").chain();

    check(&[], Role::Node, "no certificate");
    check(&good[..1], Role::Node, "no CA in ca.crt");
    check(
        &Consortium::new().institution("bank-a").node("n").chain(),
        Role::Node,
        "O=bank-a, OU=institution, or the one above, is signed by no CA",
    );
    check(&bank.client("c").chain(), Role::Node, "its role is client, but a node certificate is needed");
    check(&good, Role::Client, "its role is node");
    check(&bank.leaf("n", "node").expired().build().chain(), Role::Node, "the certificate expired on");
    check(&bank.leaf("n", "node").not_yet_valid().build().chain(), Role::Node, "is the clock right");
    check(&bank.leaf("n", "admin").build().chain(), Role::Node, "\"admin\", which is no role");
    check(&bank.leaf("n", "node").organisation("bank-b").build().chain(), Role::Node, "claims O=\"bank-b\"");
    check(&bank.leaf("n\nm", "node").build().chain(), Role::Node, "control characters");
    check(&bank.leaf("n", "node").algorithm(&rcgen::PKCS_ED25519).build().chain(), Role::Node, "has Ed25519");
    let p384 = bank.leaf("n", "node").algorithm(&rcgen::PKCS_ECDSA_P384_SHA384).build();
    check(&p384.chain(), Role::Node, "has P-384");
    check(&[good[1].clone(), good[0].clone()], Role::Node, "it is a CA's certificate");
    check(&vec![good[0].clone(); 5], Role::Node, "too large");
    check(&[vec![0x30; 20].into()], Role::Node, "not a valid certificate");
}

#[test]
fn an_institution_cannot_make_itself_another() {
    let consortium = Consortium::new();
    let bank = consortium.institution("bank-a");
    let forged = bank.sub_ca("bank-b").node("n");
    assert_eq!(authority(&consortium).verify_chain(&forged.chain(), Role::Node), Err(ChainError::TooDeep));

    // Also where the institution's CA stands in ca.crt, as for clients that send their leaf alone.
    let authority = Authority::new(&[consortium.root().clone(), bank.certificate().clone()]).unwrap();
    assert_eq!(authority.verify_chain(&forged.chain(), Role::Node), Err(ChainError::TooDeep));
    let leaf = &bank.client("c").chain()[..1];
    assert_eq!(&*authority.verify_chain(leaf, Role::Client).unwrap().institution, "bank-a");
}

#[test]
fn a_signature_holds_for_its_key_label_and_bytes_only() {
    let consortium = Consortium::new();
    let bank = consortium.institution("bank-a");
    let (one, two) = (credentials(&bank.node("1")).unwrap(), credentials(&bank.node("2")).unwrap());
    let signature = one.sign("amop/record/1", b"body");
    assert_eq!(signature.len(), 64);
    let holds = |key, label, bytes: &[u8]| two.authority().verify(&key, label, bytes, &signature);
    assert!(holds(one.node_key(), "amop/record/1", b"body"));
    assert!(!holds(two.node_key(), "amop/record/1", b"body"));
    assert!(!holds(one.node_key(), "amop/record/2", b"body"));
    assert!(!holds(one.node_key(), "amop/record/1", b"bodY"));
    assert!(!two.authority().verify(&one.node_key(), "amop/record/1", b"body", &[]));
}

#[test]
fn files_with_problems_name_the_file_the_problem_and_the_cure() {
    let consortium = Consortium::new();
    let bank = consortium.institution("bank-a");
    let check = |spoil: &dyn Fn(&Path), says: &[&str]| {
        let directory = tempfile::tempdir().unwrap();
        bank.node("n").write_node_dir(directory.path());
        spoil(directory.path());
        let problems = Credentials::load_all(&Paths::in_directory(directory.path())).unwrap_err();
        let text = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert!(says.iter().all(|s| text.contains(s)), "{text:?} should say {says:?}");
    };
    let replace = |file: &'static str, text: &'static str| {
        move |d: &Path| {
            fs::write(d.join(file), text).unwrap();
            restrict(&d.join(file));
        }
    };
    check(&|d| fs::remove_file(d.join("node.crt")).unwrap(), &["node.crt", "No such file"]);
    check(&replace("ca.crt", ""), &["ca.crt holds no certificate: it is empty"]);
    check(&replace("node.crt", "-----BEGIN CERTIFICATE-----\n!\n"), &["node.crt is damaged"]);
    check(
        &replace("node.key", "-----BEGIN EC PRIVATE KEY-----\nAA==\n-----END EC PRIVATE KEY-----\n"),
        &["pkcs8"],
    );
    check(
        &replace(
            "node.key",
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----\n",
        ),
        &["not encrypted"],
    );
    check(&|d| assert!(fs::copy(d.join("node.crt"), d.join("node.key")).is_ok()), &["swapped"]);
    check(
        &replace("node.key", "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n"),
        &["P-256 key"],
    );
    check(&|d| bank.leaf("n", "node").expired().build().write_node_dir(d), &["node.crt", "expired on"]);
    check(&|d| bank.client("c").write_node_dir(d), &["node.crt", "its role is client"]);
    let other = tempfile::tempdir().unwrap();
    bank.node("m").write_node_dir(other.path());
    let other_key = other.path().join("node.key");
    check(
        &|d| assert!(fs::copy(&other_key, d.join("node.key")).is_ok()),
        &["node.key does not belong to the certificate"],
    );
    // All problems at once, not only the first.
    check(
        &|d| {
            fs::remove_file(d.join("ca.crt")).unwrap();
            fs::remove_file(d.join("node.key")).unwrap();
        },
        &["ca.crt", "node.key"],
    );
}

#[cfg(unix)]
#[test]
fn a_key_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().unwrap();
    Consortium::new().institution("bank-a").node("n").write_node_dir(directory.path());
    let paths = Paths::in_directory(directory.path());
    assert_eq!(Credentials::load(&paths).unwrap().chain().len(), 2);
    fs::set_permissions(&paths.key, fs::Permissions::from_mode(0o640)).unwrap();
    let error = Credentials::load(&paths).unwrap_err().to_string();
    assert!(error.contains("mode 0640") && error.contains("chmod 600"), "{error}");
}

/// A handshake in memory; the error is the first that either end met.
fn handshake(
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

#[test]
fn minted_certificates_are_believed_and_files_never_lost() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let root = mint::Ca::consortium("trade", mint::CA_DAYS).unwrap();
    root.save(&at("root"), mint::Existing::Keep).unwrap();
    let root = mint::Ca::load_consortium(&at("root")).unwrap();
    let bank = root.institution("银行 A", mint::CA_DAYS).unwrap();
    bank.save(&at("bank"), mint::Existing::Keep).unwrap();
    let bank = mint::Ca::load_institution(&at("bank")).unwrap();

    let node = bank.leaf(Role::Node, "node-1", mint::LEAF_DAYS).unwrap();
    node.save(&at("node"), mint::Existing::Keep).unwrap();
    let loaded = Credentials::load(&Paths::in_directory(&at("node"))).unwrap();
    assert_eq!((&*loaded.subject().name, &*loaded.subject().institution), ("node-1", "银行 A"));

    let again = bank.leaf(Role::Node, "node-1", 1).unwrap().save(&at("node"), mint::Existing::Keep);
    assert!(again.unwrap_err().to_string().contains("exists already"));
    assert_eq!(Credentials::load(&Paths::in_directory(&at("node"))).unwrap().node_key(), loaded.node_key());
    bank.leaf(Role::Node, "node-1", 1).unwrap().save(&at("node"), mint::Existing::Replace).unwrap();
    assert_ne!(Credentials::load(&Paths::in_directory(&at("node"))).unwrap().node_key(), loaded.node_key());

    let client = bank.leaf(Role::Client, "app", 1).unwrap();
    loaded.authority().verify_chain(client.chain(), Role::Client).unwrap();
    client.save(&at("app"), mint::Existing::Keep).unwrap();
    let names = |d: &str| {
        let mut names: Vec<_> =
            fs::read_dir(at(d)).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names("app"), ["ca.crt", "sdk.crt", "sdk.key"]);
    assert_eq!(names("node"), ["ca.crt", "node.crt", "node.key"]);
    client.save(&at("node"), mint::Existing::Keep).unwrap();
    assert_eq!(names("node").len(), 5, "the same ca.crt serves both");
}

#[test]
fn a_ca_issues_only_what_it_may() {
    let root = mint::Ca::consortium("trade", 1).unwrap();
    assert!(root.leaf(Role::Node, "n", 1).is_err_and(|e| e.to_string().contains("cannot issue nodes")));
    let bank = root.institution("bank", 30).unwrap();
    assert!(
        bank.institution("b", 1).is_err_and(|e| e.to_string().contains("cannot issue an institution's CA"))
    );
    for name in ["", " ", "a\nb", &"n".repeat(65)] {
        assert!(matches!(bank.leaf(Role::Node, name, 1), Err(mint::MintError::Name(_))), "{name:?}");
    }
    for days in [0, mint::MAX_DAYS + 1] {
        assert!(matches!(bank.leaf(Role::Node, "n", days), Err(mint::MintError::Days(_))));
    }
    let end =
        |der: &CertificateDer<'_>| amop_protocol::certificate::Description::parse(der).unwrap().not_after;
    let leaf = bank.leaf(Role::Node, "n", 365).unwrap();
    assert_eq!(end(&leaf.chain()[0]), end(root.certificate()), "nothing outlives its CA");
}

#[test]
fn pem_sections_are_what_everybody_reads() {
    use rustls_pki_types::pem::PemObject;

    for length in [0, 1, 2, 3, 47, 48, 49, 100] {
        let der: Vec<u8> = (0..length).collect();
        let text = pem::encode("CERTIFICATE", &der);
        assert_eq!(CertificateDer::from_pem_slice(text.as_bytes()).unwrap().as_ref(), der);
    }
}

/// What the documented profile says of one kind of certificate, as the certificate itself has it.
fn profile_of(der: &CertificateDer<'_>) -> toml::Table {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).unwrap();
    let text = |attribute: Option<&x509_parser::x509::AttributeTypeAndValue<'_>>| {
        attribute.unwrap().as_str().unwrap().to_owned()
    };
    let subject = certificate.subject();
    let constraints = certificate.basic_constraints().unwrap().unwrap();
    let usage = certificate.key_usage().unwrap().unwrap().value;
    let usages = [
        ("digitalSignature", usage.digital_signature()),
        ("keyEncipherment", usage.key_encipherment()),
        ("keyCertSign", usage.key_cert_sign()),
        ("cRLSign", usage.crl_sign()),
    ];
    let extended = certificate.extended_key_usage().unwrap().map(|usage| usage.value);
    let extended = [
        ("serverAuth", extended.is_some_and(|usage| usage.server_auth)),
        ("clientAuth", extended.is_some_and(|usage| usage.client_auth)),
    ];
    let days = (certificate.validity().not_after - certificate.validity().not_before).unwrap().whole_days();
    assert!(constraints.critical && certificate.version().0 == 2 && certificate.raw_serial().len() == 16);
    assert_eq!(certificate.signature_algorithm.algorithm.to_id_string(), "1.2.840.10045.4.3.2");

    let mut table = toml::Table::new();
    let mut name = toml::Table::new();
    name.insert("CN".into(), text(subject.iter_common_name().next()).into());
    name.insert("O".into(), text(subject.iter_organization().next()).into());
    name.insert("OU".into(), text(subject.iter_organizational_unit().next()).into());
    table.insert("subject".into(), name.into());
    table.insert("days".into(), days.into());
    table.insert("ca".into(), constraints.value.ca.into());
    if let Some(length) = constraints.value.path_len_constraint {
        table.insert("path_length".into(), i64::from(length).into());
    }
    table.insert("key_usage".into(), set(&usages));
    table.insert("extended_key_usage".into(), set(&extended));
    table
}

fn set(all: &[(&str, bool)]) -> toml::Value {
    toml::Value::Array(all.iter().filter(|(_, set)| *set).map(|(name, _)| (*name).into()).collect())
}

#[test]
fn the_documented_profile_is_the_one_that_is_made() {
    let documented: toml::Table = include_str!("../../../certs/profile.toml").parse().unwrap();
    let root = mint::Ca::consortium("<consortium>", mint::CA_DAYS).unwrap();
    let bank = root.institution("<institution>", mint::CA_DAYS).unwrap();
    let check = |kind: &str, made: &CertificateDer<'_>| {
        assert_eq!(documented[kind].as_table(), Some(&profile_of(made)), "{kind}");
    };
    check("consortium", root.certificate());
    check("institution", bank.certificate());
    for (kind, role) in [("node", Role::Node), ("client", Role::Client)] {
        let leaf = bank.leaf(role, &format!("<{kind}>"), mint::LEAF_DAYS).unwrap();
        check(kind, &leaf.chain()[0]);
    }
}
