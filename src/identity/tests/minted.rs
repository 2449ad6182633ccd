//! What is minted is believed, and as its profile says.

use super::*;

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
