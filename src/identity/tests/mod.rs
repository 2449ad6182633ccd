mod admin;
mod fisco;
mod handshakes;
mod minted;
mod reload;

use std::{fs, path::Path, sync::Arc};

use amop_testkit::ca::{Consortium, Leaf, restrict};
use rustls_pki_types::{CertificateDer, ServerName};

use self::handshakes::handshake;
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
