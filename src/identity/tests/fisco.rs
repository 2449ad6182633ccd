//! What a listener with FISCO BCOS certificates loads, serves, and says.

use std::path::PathBuf;

use amop_tls::{Verifier, fisco};
use rustls::{SupportedProtocolVersion, sign::SingleCertAndKey};

use super::*;
use crate::identity::mint::{
    Existing,
    crl::{Revoked, Revoker},
    fisco::{Agency as Mint, Chain, Leaf as MintedLeaf},
};

/// An agency's directory with a node in `node`, and other agencies' CAs.
struct Files {
    directory: tempfile::TempDir,
    kind: FiscoKind,
    agencies: Vec<Agency>,
}

impl Files {
    fn new(agency: &Mint, kind: FiscoKind) -> Self {
        let directory = tempfile::tempdir().unwrap();
        agency.node("n", 30).unwrap().save(&directory.path().join("node"), Existing::Keep).unwrap();
        Self { directory, kind, agencies: Vec::new() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join("node").join(name)
    }

    fn paths(&self) -> FiscoPaths {
        let (ca, cert, key) = (self.at("ca.crt"), self.at("node.crt"), self.at("node.key"));
        FiscoPaths { kind: self.kind, ca, cert, key, crl: Vec::new(), agencies: self.agencies.clone() }
    }

    fn load(&self) -> Result<ClientTls, String> {
        ClientTls::load_fisco(&self.paths(), "Bank A".into())
            .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }

    /// Takes the clients of `agency` as well; the certificates that go into the file are given.
    fn add(&mut self, institution: &str, certificates: &[&CertificateDer<'_>]) {
        let ca = self.directory.path().join(format!("{institution}.crt"));
        let text: String = certificates.iter().map(|der| pem::encode("CERTIFICATE", der)).collect();
        fs::write(&ca, text).unwrap();
        self.agencies.push(Agency { institution: institution.to_owned(), ca });
    }
}

fn agencies() -> [(FiscoKind, Mint, Mint); 2] {
    let chain = Chain::new("chain", 365).unwrap();
    let rsa = |name| Mint::new(FiscoKind::Rsa, name, 365).unwrap();
    let ec = |name| chain.agency(name, 365).unwrap();
    [(FiscoKind::Rsa, rsa("a"), rsa("b")), (FiscoKind::Ec, ec("a"), ec("b"))]
}

/// A client as SDKs are, which believes `ca`.
fn client(
    kind: FiscoKind,
    leaf: &MintedLeaf,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<rustls::ClientConfig> {
    let anchor = fisco::Issuer::anchor(fisco::Ca::parse(kind, leaf.ca()).unwrap(), None);
    let nodes = fisco::Authority::new(kind, fisco::Purpose::Nodes, vec![anchor]);
    let pair = fisco::certified_key(kind, leaf.chain().to_vec(), &leaf.key().into()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(amop_tls::provider::fisco()))
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Verifier::returning(nodes))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    Arc::new(config)
}

#[test]
fn a_listener_takes_the_clients_of_its_own_agency_and_of_those_it_is_told() {
    for (kind, own, other) in agencies() {
        let mut files = Files::new(&own, kind);
        let alone = files.load().unwrap();
        files.add("Bank B", &[other.certificate()]);
        let both = files.load().unwrap();
        assert_eq!((alone.profile(), both.profile()), (kind.profile(), kind.profile()));

        for version in kind.versions() {
            let (ours, theirs) = (own.client("app", 30).unwrap(), other.client("app", 30).unwrap());
            handshake(client(kind, &ours, &[version]), alone.serving().server_config()).unwrap();
            // The node's own CA is not theirs with RSA, where each agency has its own.
            let theirs_as_seen = match kind {
                FiscoKind::Ec => client(kind, &theirs, &[version]),
                FiscoKind::Rsa => {
                    let mut config = (*client(kind, &ours, &[version])).clone();
                    let pair =
                        fisco::certified_key(kind, theirs.chain().to_vec(), &theirs.key().into()).unwrap();
                    config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(pair));
                    Arc::new(config)
                }
            };
            handshake(theirs_as_seen.clone(), both.serving().server_config()).unwrap();
            let refused = handshake(theirs_as_seen, alone.serving().server_config()).unwrap_err();
            assert!(refused.to_string().contains("UnknownIssuer"), "{refused}");

            let found = both.identify(theirs.chain()).unwrap();
            assert_eq!((&*found.institution, &*found.identity.name), ("Bank B", "app"));
            assert_eq!(found.identity.fingerprint, fingerprint(&theirs.chain()[0]));
            assert_eq!(&*both.identify(ours.chain()).unwrap().institution, "Bank A");
            assert!(alone.identify(theirs.chain()).is_err() && alone.identify(&[]).is_err());
        }
    }
}

#[test]
fn files_of_fisco_bcos_with_problems_name_file_problem_and_cure() {
    for (kind, own, other) in agencies() {
        let check = |spoil: &dyn Fn(&mut Files), says: &[&str]| {
            let mut files = Files::new(&own, kind);
            spoil(&mut files);
            let text = files.load().expect_err("problems");
            assert!(says.iter().all(|s| text.contains(s)), "{kind:?}: {text:?} should say {says:?}");
        };
        check(&|f| fs::remove_file(f.at("node.crt")).unwrap(), &["node.crt", "No such file"]);
        check(
            &|f| {
                fs::remove_file(f.at("ca.crt")).unwrap();
                fs::remove_file(f.at("node.key")).unwrap();
            },
            &["ca.crt", "node.key"],
        );
        let stranger = other.node("n", 30).unwrap();
        let key = pem::encode("PRIVATE KEY", stranger.key().secret_pkcs8_der());
        check(
            &|f| fs::write(f.at("node.key"), &key).unwrap(),
            &["node.key does not belong to the certificate"],
        );
        let foreign =
            pem::encode("CERTIFICATE", Mint::new(kind, "a", 30).unwrap().node("n", 1).unwrap().ca());
        check(&|f| fs::write(f.at("ca.crt"), &foreign).unwrap(), &["node.crt cannot be used"]);
        let p256 = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let wanted = if kind == FiscoKind::Rsa { "not an RSA" } else { "not a secp256k1" };
        check(&|f| fs::write(f.at("node.key"), &p256).unwrap(), &["node.key cannot be used", wanted]);
        check(&|f| f.add("B", &[own.certificate()]), &["B.crt", "name each CA once"]);
        check(&|f| f.add("B", &[&stranger.chain()[0]]), &["certificate 1 in", "B.crt cannot be a root"]);
        let bank = Consortium::new().institution("bank-a").node("n");
        check(
            &|f| bank.write_node_dir(&f.at("")),
            &["its key is P-256, but certificates of the profile fisco-", "node.crt"],
        );
    }
}

#[test]
fn a_renewed_ca_may_have_both_certificates_and_stands_for_one_institution() {
    use amop_tls::fisco::mint::{Extensions, KeyPair, Name, Template};

    let own = Mint::new(FiscoKind::Rsa, "a", 365).unwrap();
    let place = tempfile::tempdir().unwrap();
    own.save(place.path(), Existing::Keep).unwrap();
    let key = pem::any_private_key(&place.path().join("ca.key")).unwrap();
    let key = KeyPair::from_der(FiscoKind::Rsa, &key).unwrap();
    let name = Name::subject_of(own.certificate()).unwrap();
    let not_before = time::OffsetDateTime::now_utc();
    let not_after = not_before + time::Duration::days(9);
    let extensions = Extensions::Version1;
    let template = Template { subject: name.clone(), issuer: name, not_before, not_after, extensions };
    let renewed = template.sign(&key, &key).unwrap();
    assert_ne!(renewed, *own.certificate());

    let mut files = Files::new(&own, FiscoKind::Rsa);
    files.add("B", &[&renewed]);
    let error = files.load().unwrap_err();
    assert!(error.contains("B.crt") && error.contains("name each CA once"), "{error}");

    let expired = not_before - time::Duration::days(1);
    let old = Template { not_before: expired, not_after: expired, ..template };
    let old = old.sign(&key, &key).unwrap();
    let files = Files::new(&own, FiscoKind::Rsa);
    let [old, new] = [&old, own.certificate()].map(|der| pem::encode("CERTIFICATE", der));
    for both in [[&*old, &*new], [&*new, &*old]] {
        fs::write(files.at("ca.crt"), both.concat()).unwrap();
        files.load().unwrap();
    }
    fs::write(files.at("ca.crt"), old).unwrap();
    assert!(files.load().unwrap_err().contains("the CA that issued it expired on"));
}

#[test]
fn an_agency_of_another_chain_brings_its_chain() {
    let (own, other) = (Chain::new("chain", 9).unwrap(), Chain::new("chain", 9).unwrap());
    let (own, other) = (own.agency("a", 9).unwrap(), other.agency("b", 9).unwrap());
    let client = other.client("app", 9).unwrap();
    let mut files = Files::new(&own, FiscoKind::Ec);
    files.add("Bank B", &[other.certificate(), client.ca()]);
    let tls = files.load().unwrap();
    assert_eq!(&*tls.identify(client.chain()).unwrap().institution, "Bank B");
    let mut files = Files::new(&own, FiscoKind::Ec);
    files.add("Bank B", &[other.certificate()]);
    let error = files.load().unwrap_err();
    assert!(error.contains("Bank B.crt cannot be a root: its issuer CN=chain"), "{error}");
}

#[test]
fn failed_handshakes_are_explained() {
    use rustls::{AlertDescription::CertificateUnknown, Error, PeerIncompatible::NoKxGroupsInCommon};

    for (kind, own, _) in agencies() {
        let tls = Files::new(&own, kind).load().unwrap();
        let says = |error: Error, parts: &[&str]| {
            let text = tls.explain(&error).unwrap();
            assert!(parts.iter().all(|part| text.contains(part)), "{text:?} should say {parts:?}");
        };
        let cure = if kind == FiscoKind::Ec { "JDK since 16 as it comes" } else { "ca.crt has the CA" };
        says(Error::AlertReceived(CertificateUnknown), &["subject CN=n, O=fisco-bcos", "serial", cure]);
        says(Error::NoCertificatesPresented, &["no certificate", kind.profile().as_str()]);
        says(Error::PeerIncompatible(NoKxGroupsInCommon), &["nothing that a listener", "TLS 1.2"]);
        let bad = Error::InvalidCertificate(rustls::CertificateError::Expired);
        assert_eq!(tls.explain(&bad), None, "it had its line when it was verified");
    }
}

#[test]
fn minted_ca_files_are_loaded_again_and_never_lost() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for (kind, agency, _) in agencies() {
        let place = at(kind.profile().as_str());
        agency.save(&place, Existing::Keep).unwrap();
        let again = Mint::load(kind, &place).unwrap();
        assert_eq!(again.certificate(), agency.certificate());
        let error = Mint::new(kind, "x", 1).unwrap().save(&place, Existing::Keep).unwrap_err();
        assert!(error.to_string().contains("exists already"), "{error}");
        let leaf = again.client("app", 36_500).unwrap();
        let description = |der| amop_protocol::certificate::Description::parse(der).unwrap();
        assert_eq!(
            description(&leaf.chain()[0]).not_after,
            description(agency.certificate()).not_after,
            "nothing outlives its CA"
        );
        let other = if kind == FiscoKind::Rsa { FiscoKind::Ec } else { FiscoKind::Rsa };
        assert!(Mint::load(other, &place).is_err());
    }
    let chain = Chain::new("chain", 1).unwrap();
    chain.save(&at("chain"), Existing::Keep).unwrap();
    Chain::load(&at("chain")).unwrap().agency("a", 1).unwrap();
    for name in ["", "a\nb"] {
        assert!(matches!(Chain::new(name, 1), Err(mint::MintError::Name(_))));
    }
    assert!(matches!(chain.agency("a", 0), Err(mint::MintError::Days(0))));
}

/// What FISCO BCOS's own generator makes: version, and extensions by their names.
#[test]
fn minted_certificates_are_as_the_official_generator_makes_them() {
    let made = |der: &CertificateDer<'_>| {
        let (_, certificate) = x509_parser::parse_x509_certificate(der).unwrap();
        let extensions: Vec<_> = certificate.extensions().iter().map(|e| e.oid.to_id_string()).collect();
        let subject = certificate.subject().to_string();
        (certificate.version().0 + 1, subject, extensions.join(" "), certificate.is_ca())
    };
    let none = String::new;
    let both = || "2.5.29.19 2.5.29.15".to_owned();
    let [(_, rsa, _), (_, ec, _)] = agencies();
    let name = |cn: &str, ou: &str| format!("CN={cn}, O=fisco-bcos, OU={ou}");
    assert_eq!(made(rsa.certificate()), (1, name("a", "chain"), none(), false));
    let leaf = rsa.node("n", 1).unwrap();
    assert_eq!((leaf.chain().len(), made(&leaf.chain()[0])), (1, (1, name("n", "agency"), none(), false)));
    let (node, sdk) = (ec.node("n", 1).unwrap(), ec.client("sdk", 1).unwrap());
    assert_eq!(made(node.ca()), (1, name("chain", "chain"), none(), false));
    assert_eq!(made(ec.certificate()), (3, name("a", "agency"), "2.5.29.19".to_owned(), true));
    assert_eq!((node.chain().len(), made(&node.chain()[0])), (3, (3, name("n", "node"), both(), false)));
    assert_eq!(made(&sdk.chain()[0]), (3, name("sdk", "sdk"), both(), false));
}

#[test]
fn certificates_of_fisco_bcos_are_told_apart_where_the_default_ones_are_needed() {
    let authority = authority(&Consortium::new());
    let refused = |leaf: &MintedLeaf| {
        [Role::Client, Role::Node]
            .map(|role| authority.verify_chain(leaf.chain(), role).unwrap_err().to_string())
    };
    for (kind, own, _) in agencies() {
        let says = match kind {
            FiscoKind::Rsa => "version 1 certificate, as FISCO BCOS makes them",
            FiscoKind::Ec => "its key is secp256k1, but certificates of the profile default",
        };
        for text in refused(&own.client("app", 1).unwrap()) {
            assert!(text.contains(says) && text.contains("both ends must use one profile"), "{text}");
        }
    }
}

#[test]
fn what_an_agency_has_revoked_is_refused() {
    for (kind, agency, other) in agencies() {
        let mut files = Files::new(&agency, kind);
        files.add("Bank B", &[other.certificate()]);
        let clients = [agency.client("bad", 30), agency.client("good", 30), other.client("good", 30)];
        let [bad, good, theirs] = clients.map(Result::unwrap);
        let list = files.at("agency.crl");
        let mut revoked = Revoked::default();
        revoked.add(amop_tls::serial_of(&bad.chain()[0]).unwrap());
        agency.save_crl(&revoked, 9, &list).unwrap();
        let paths = FiscoPaths { crl: vec![list.clone()], ..files.paths() };
        let tls = ClientTls::load_fisco(&paths, "Bank A".into()).unwrap();
        let cause = tls.identify(bad.chain()).unwrap_err();
        assert!(matches!(cause, ChainError::Revoked { .. }), "{cause}");
        assert!(tls.still_believes(bad.chain()).is_err());
        tls.still_believes(good.chain()).unwrap();
        assert!(tls.identify(good.chain()).is_ok() && tls.identify(theirs.chain()).is_ok());
        assert!(tls.facts().iter().any(|fact| fact.of == Of::RevocationList && fact.serial == "1"));
        let again = agency.revoked(&list).unwrap();
        agency.save_crl(&again, 9, &list).unwrap();
        assert!(ClientTls::load_fisco(&paths, "Bank A".into()).unwrap().identify(bad.chain()).is_err());
        let without = Serving::load_fisco(&files.paths(), "Bank A".into(), Some(&tls.serving())).unwrap_err();
        assert!(matches!(&without[..], [LoadError::MissingCrl { .. }]), "{without:?}");
        let stranger = Mint::new(kind, "stranger", 9).unwrap();
        stranger.save_crl(&revoked, 9, &list).unwrap();
        let problems = ClientTls::load_fisco(&paths, "Bank A".into()).unwrap_err();
        assert!(problems[0].to_string().contains("is no CA that is known here"), "{}", problems[0]);
    }
}

/// Listed beside its chain's CA, it is believed by itself; until that one revokes it.
#[test]
fn an_agency_that_is_listed_is_revoked_all_the_same() {
    use amop_tls::fisco::mint::{KeyPair, ListTemplate};

    let (chain, place) = (Chain::new("chain", 9).unwrap(), tempfile::tempdir().unwrap());
    chain.save(place.path(), Existing::Keep).unwrap();
    let key = pem::any_private_key(&place.path().join("ca.key")).unwrap();
    let key = KeyPair::from_der(FiscoKind::Ec, &key).unwrap();
    let (own, other) = (chain.agency("a", 9).unwrap(), chain.agency("b", 9).unwrap());
    let mut files = Files::new(&own, FiscoKind::Ec);
    let both = [
        &fs::read(files.at("ca.crt")).unwrap()[..],
        pem::encode("CERTIFICATE", other.certificate()).as_bytes(),
    ]
    .concat();
    fs::write(files.at("ca.crt"), both).unwrap();
    files.add("Bank B", &[other.certificate()]);
    let client = other.client("app", 9).unwrap();
    files.load().unwrap().identify(client.chain()).unwrap();

    let now = time::OffsetDateTime::now_utc();
    let since = now - time::Duration::minutes(1);
    let revoked = [(amop_tls::serial_of(other.certificate()).unwrap(), since)];
    let list =
        ListTemplate { revoked: &revoked, this_update: since, next_update: now + time::Duration::days(1) };
    let list = list.sign(client.ca(), &key).unwrap();
    fs::write(files.at("chain.crl"), pem::encode("X509 CRL", &list)).unwrap();
    let paths = FiscoPaths { crl: vec![files.at("chain.crl")], ..files.paths() };
    let tls = ClientTls::load_fisco(&paths, "Bank A".into()).unwrap();
    let cause = tls.identify(client.chain()).unwrap_err();
    assert!(matches!(cause, ChainError::Revoked { .. }), "{cause}");
    tls.identify(own.client("app", 9).unwrap().chain()).unwrap();
}
