//! Client ports with FISCO BCOS certificates: who gets in, and what the log says of who does not.

use std::{fs, path::Path, sync::Arc};

use amop::identity::{
    FiscoKind,
    mint::{
        Existing::Replace,
        fisco::{Agency, Chain},
    },
    pem,
};
use amop_client::{Client, Options};
use amop_testkit::{ca::Consortium, wait};
use amop_tls::fisco::mint::{Extensions, KeyPair, Name, Template};
use rustls::version::{TLS12, TLS13};
use time::{Duration, OffsetDateTime};

use crate::{
    mesh::{Plain, Served, client_config},
    process::{Devnet, NodeProcess, address, nodes},
};

#[tokio::test(flavor = "multi_thread")]
async fn messages_cross_nodes_with_the_certificates_of_each_profile() {
    for profile in ["fisco-rsa", "fisco-ec"] {
        let mut devnet = Devnet::start(&["--no-demo", "--nodes", "2", "--profile", profile]);
        let announcement = devnet.announcement();
        let connect = async |index: usize| {
            let client = &announcement["clients"][index];
            let dir = devnet.path(client["dir"].as_str().expect("text"));
            let node = address(&nodes(&announcement)[index], "channel").to_string();
            Client::connect(Options::new([node], dir)).await.expect("connected")
        };
        let server = Served::with(connect(1).await, "t", |request| {
            let sender = request.sender.as_ref().expect("the node says who sent it");
            let words = format!("{} of {}", sender.client.name, sender.institution);
            request.answer(words);
        })
        .await;
        let answer = connect(0).await.request("t", "who am I?").await;
        assert_eq!(answer.as_deref(), Ok(&b"app-1 of bank-a"[..]), "{profile}");
        assert_eq!(server.handled(), 1);
        assert_eq!(devnet.stop("-TERM").code(), Some(0));
    }
}

/// A node with all three kinds of client ports, and what can be presented to them.
struct Bed {
    dir: tempfile::TempDir,
    node: NodeProcess,
    consortium: Consortium,
    ec: Chain,
    agencies: [Agency; 2],
}

const KINDS: [FiscoKind; 2] = [FiscoKind::Rsa, FiscoKind::Ec];

impl Bed {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let consortium = Consortium::new();
        consortium.institution("bank-a").node("one").write_node_dir(dir.path());
        let ec = Chain::new("chain", 10).expect("minted");
        let agencies = [
            Agency::new(FiscoKind::Rsa, "agency-a", 10).expect("minted"),
            ec.agency("agency-a", 10).expect("minted"),
        ];
        let mut config = String::from("log.level = \"debug\"\n");
        for (kind, agency) in KINDS.iter().zip(&agencies) {
            let profile = kind.profile().to_string();
            agency
                .node("one", 10)
                .expect("minted")
                .save(&dir.path().join(&profile), Replace)
                .expect("written");
            config += &format!("{}.listen = \"127.0.0.1:0\"\n", profile.replace('-', "_"));
        }
        let node = NodeProcess::start(dir.path(), &config);
        Self { dir, node, consortium, ec, agencies }
    }

    /// Where the listener of a profile is.
    fn at(&self, profile: &str) -> std::net::SocketAddr {
        let admin = self.node.port("admin");
        let status = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(amop::telemetry::client::status(admin))
        });
        let listeners = status.expect("the admin port answers").addresses.listeners;
        listeners.iter().find(|listener| listener.profile == profile).expect("a listener").address
    }

    async fn refuses(&self, profile: &str, client: &Path, words: &[&str]) {
        let options = Options::new([self.at(profile).to_string()], client);
        let refused = Client::connect(options).await;
        assert!(refused.is_err(), "{words:?}");
        self.logs(words).await;
    }

    /// Waits for one line of the log that has all these words.
    async fn logs(&self, words: &[&str]) {
        let found = || self.node.log().lines().any(|line| words.iter().all(|word| line.contains(word)));
        wait::until(&format!("a line with {words:?} in {}", self.node.log()), async || found()).await;
    }

    fn client(&self, name: &str, agency: &Agency) -> std::path::PathBuf {
        let dir = self.dir.path().join(name);
        agency.client(name, 10).expect("minted").save(&dir, Replace).expect("written");
        dir
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_the_agency_get_in_and_the_log_names_who_does_not_and_why() {
    let bed = Bed::new();
    for (kind, agency) in KINDS.iter().zip(&bed.agencies) {
        let profile = kind.profile().as_str();
        let good = bed.client(&format!("good-{profile}"), agency);
        Client::connect(Options::new([bed.at(profile).to_string()], good)).await.expect("let in");

        let stranger = match kind {
            FiscoKind::Rsa => Agency::new(*kind, "agency-b", 10),
            FiscoKind::Ec => bed.ec.agency("agency-b", 10),
        };
        let stranger = bed.client(&format!("stranger-{profile}"), &stranger.expect("minted"));
        let name = format!("CN=stranger-{profile}");
        // The SDK must believe the node, or it would leave before it is judged.
        fs::copy(bed.dir.path().join(profile).join("ca.crt"), stranger.join("ca.crt")).expect("copied");
        bed.refuses(profile, &stranger, &[&name, "serial", "CN=agency-b", "agencies"]).await;

        let forger = match kind {
            FiscoKind::Rsa => Agency::new(*kind, "agency-a", 10),
            FiscoKind::Ec => Chain::new("chain", 10).and_then(|chain| chain.agency("agency-a", 10)),
        };
        let forged = bed.client(&format!("forged-{profile}"), &forger.expect("minted"));
        fs::copy(bed.dir.path().join(profile).join("ca.crt"), forged.join("ca.crt")).expect("copied");
        bed.refuses(profile, &forged, &[&format!("CN=forged-{profile}"), "forged"]).await;

        let expired = bed.client(&format!("expired-{profile}"), agency);
        make_expired(&bed.dir.path().join(format!("agency-{profile}")), *kind, agency, &expired);
        bed.refuses(profile, &expired, &["CN=late", "serial", "expired on", "must be renewed"]).await;
    }
}

/// Puts an expired certificate of the agency into a client's directory.
fn make_expired(dir: &Path, kind: FiscoKind, agency: &Agency, client: &Path) {
    agency.save(dir, Replace).expect("written");
    let of_ca = if kind == FiscoKind::Rsa { "ca.key" } else { "agency.key" };
    let read = |path: &Path| {
        let key = pem::any_private_key(path).expect("a key");
        KeyPair::from_der(kind, &key).expect("of this kind")
    };
    let now = OffsetDateTime::now_utc();
    let template = Template {
        subject: Name::new("late", "fisco-bcos", "sdk"),
        issuer: Name::subject_of(agency.certificate()).expect("a certificate"),
        not_before: now - Duration::days(9),
        not_after: now - Duration::days(2),
        extensions: if kind == FiscoKind::Rsa { Extensions::Version1 } else { Extensions::Leaf },
    };
    let leaf = template.sign(&read(&client.join("sdk.key")), &read(&dir.join(of_ca))).expect("signed");
    fs::write(client.join("sdk.crt"), pem::encode("CERTIFICATE", &leaf)).expect("written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_the_wrong_profile_is_told_which_it_needs() {
    let bed = Bed::new();
    let default = bed.consortium.institution("bank-a").client("plain");
    let root = || bed.consortium.root().clone();
    // A client that does not care what the node presents, so that the node is the one to judge.
    for (profile, words) in
        [("fisco-rsa", ["CN=plain", "P-256", "fisco-rsa"]), ("fisco-ec", ["CN=plain", "P-256", "fisco-ec"])]
    {
        let mut config = client_config(root(), Some(&default), &TLS12);
        config.dangerous().set_certificate_verifier(Arc::new(AnyNode));
        assert!(Plain::try_connect(bed.at(profile), config).await.is_err());
        bed.logs(&words).await;
    }
    for (kind, agency) in KINDS.iter().zip(&bed.agencies) {
        let profile = kind.profile().as_str();
        let leaf = agency.client(&format!("fisco-{profile}"), 10).expect("minted");
        let words = [&*format!("CN=fisco-{profile}"), "serial", "profile"];
        let mut config = client_config(root(), None, &TLS12);
        let provider = Arc::new(amop_tls::provider::fisco());
        let key = provider.key_provider.load_private_key(leaf.key().into()).expect("a key");
        let pair = rustls::sign::CertifiedKey::new(leaf.chain().to_vec(), key);
        config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(pair));
        assert!(Plain::try_connect(bed.at("default"), config).await.is_err(), "{profile}");
        bed.logs(&words).await;
    }
}

/// As a JDK since version 16 is: without the curve secp256k1, and without TLS 1.2 at the other extreme.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_secp256k1_is_told_to_use_the_other_profile() {
    let bed = Bed::new();
    let client = bed.consortium.institution("bank-a").client("jdk");
    let config = client_config(bed.consortium.root().clone(), Some(&client), &TLS12);
    assert!(Plain::try_connect(bed.at("fisco-ec"), config).await.is_err());
    bed.logs(&["client refused", "CN=one", "serial", "without the curve secp256k1", "fisco-rsa"]).await;
    let config = client_config(bed.consortium.root().clone(), Some(&client), &TLS13);
    assert!(Plain::try_connect(bed.at("fisco-ec"), config).await.is_err());
    bed.logs(&["client refused", "fisco-ec needs TLS 1.2"]).await;
}

/// Believes every node, and every signature; so the node decides.
#[derive(Debug)]
struct AnyNode;

impl rustls::client::danger::ServerCertVerifier for AnyNode {
    fn verify_server_cert(
        &self,
        _leaf: &rustls_pki_types::CertificateDer<'_>,
        _chain: &[rustls_pki_types::CertificateDer<'_>],
        _name: &rustls_pki_types::ServerName<'_>,
        _ocsp: &[u8],
        _now: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &rustls_pki_types::CertificateDer<'_>,
        _signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &rustls_pki_types::CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.verify_tls12_signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        use rustls::SignatureScheme as S;

        vec![S::RSA_PKCS1_SHA256, S::RSA_PSS_SHA256, S::ECDSA_NISTP256_SHA256]
    }
}
