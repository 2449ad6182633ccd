//! Nodes with FISCO BCOS certificates: the client's own key says which rule holds.

use std::sync::Arc;

use amop_client::{ChainError, Client, ConnectError, DialError, Options};
use amop_tls::{
    Verifier,
    fisco::{
        Authority, Ca, Issuer, Kind, Purpose, certified_key,
        mint::{Extensions, KeyPair, Name, Template},
    },
    provider,
};
use rustls::{ServerConfig, sign::SingleCertAndKey};
use rustls_pki_types::CertificateDer;
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

use crate::{
    consortium::Consortium,
    node::{Node, Speaks, within},
};

/// An agency; with secp256k1 under a chain's CA.
struct Agency {
    kind: Kind,
    name: Name,
    key: KeyPair,
    ca: CertificateDer<'static>,
    /// What stands in `ca.crt`.
    top: CertificateDer<'static>,
}

fn certificate(
    subject: &Name,
    holder: &KeyPair,
    (issuer, key): (&Name, &KeyPair),
    extensions: Extensions,
) -> CertificateDer<'static> {
    let now = OffsetDateTime::now_utc();
    let (not_before, not_after) = (now - Duration::hours(1), now + Duration::hours(1));
    let template =
        Template { subject: subject.clone(), issuer: issuer.clone(), not_before, not_after, extensions };
    template.sign(holder, key).unwrap()
}

impl Agency {
    fn new(kind: Kind) -> Self {
        let name = Name::new("bank-a", "fisco-bcos", "agency");
        let key = KeyPair::generate(kind).unwrap();
        if kind == Kind::Rsa {
            let ca = certificate(&name, &key, (&name, &key), Extensions::Version1);
            return Self { kind, name, key, top: ca.clone(), ca };
        }
        let (chain, chain_key) =
            (Name::new("chain", "fisco-bcos", "chain"), KeyPair::generate(kind).unwrap());
        let top = certificate(&chain, &chain_key, (&chain, &chain_key), Extensions::Version1);
        let ca = certificate(&name, &key, (&chain, &chain_key), Extensions::Ca);
        Self { kind, name, key, ca, top }
    }

    fn leaf(&self, name: &str) -> (Vec<CertificateDer<'static>>, KeyPair) {
        let (subject, key) = (Name::new(name, "fisco-bcos", "sdk"), KeyPair::generate(self.kind).unwrap());
        let extensions = if self.kind == Kind::Rsa { Extensions::Version1 } else { Extensions::Leaf };
        let leaf = certificate(&subject, &key, (&self.name, &self.key), extensions);
        let chain = if self.kind == Kind::Rsa { vec![leaf] } else { vec![leaf, self.ca.clone()] };
        (chain, key)
    }

    fn server(&self) -> Arc<ServerConfig> {
        let (chain, key) = self.leaf("node-1");
        let issuer = Issuer::anchor(Ca::parse(self.kind, &self.ca).unwrap(), None);
        let clients = Authority::new(self.kind, Purpose::Clients, vec![issuer]);
        let pair = certified_key(self.kind, chain, &key.to_pkcs8().into()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(provider::fisco()))
            .with_protocol_versions(&self.kind.versions())
            .unwrap()
            .with_client_cert_verifier(Verifier::logging(clients))
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
        Arc::new(config)
    }

    /// A directory as SDKs have it.
    fn directory(&self) -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        let (chain, key) = self.leaf("app");
        let pem = |label: &str, der: &[u8]| pem::encode(&pem::Pem::new(label, der));
        let all = |chain: &[CertificateDer<'_>]| -> String {
            chain.iter().map(|der| pem("CERTIFICATE", der)).collect()
        };
        let write = |name: &str, text: String| std::fs::write(directory.path().join(name), text).unwrap();
        write("ca.crt", all(std::slice::from_ref(&self.top)));
        write("sdk.crt", all(&chain));
        write("sdk.key", pem("PRIVATE KEY", key.to_pkcs8().secret_pkcs8_der()));
        directory
    }
}

async fn refusal(node: &Node, options: Options) -> DialError {
    let (client, ()) = within(async { tokio::join!(Client::connect(options), node.accept_refusal()) }).await;
    match client.unwrap_err() {
        ConnectError::Failed(mut failures) if failures.len() == 1 => failures.remove(0).1,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_client_connects_with_the_certificates_of_either_kind() {
    for kind in [Kind::Rsa, Kind::Ec] {
        let agency = Agency::new(kind);
        let (node, directory) = (Node::with(agency.server(), Speaks::Extended).await, agency.directory());
        let options = Options::new([node.address()], directory.path());
        let (client, _peer) = within(async { tokio::join!(Client::connect(options), node.accept()) }).await;
        let found = client.unwrap().node().unwrap();
        assert_eq!((&*found.name, &*found.institution, found.key), ("node-1", "bank-a", None), "{kind:?}");
    }
}

#[tokio::test]
async fn another_agency_with_the_same_names_is_not_believed() {
    for kind in [Kind::Rsa, Kind::Ec] {
        let node = Node::with(Agency::new(kind).server(), Speaks::Extended).await;
        let directory = Agency::new(kind).directory();
        let error = refusal(&node, Options::new([node.address()], directory.path())).await;
        let DialError::Certificate(cause) = &error else { panic!("{error:?}") };
        // The agency's own name is known with RSA only; with secp256k1 it is a chain that is.
        match kind {
            Kind::Rsa => assert!(matches!(cause, ChainError::OtherCa { .. }), "{cause:?}"),
            Kind::Ec => assert!(matches!(cause, ChainError::UnknownCa { .. }), "{cause:?}"),
        }
        assert!(error.to_string().starts_with("the node's certificate is not believed: "), "{error}");
    }
}

#[tokio::test]
async fn a_client_of_the_wrong_profile_is_told_so() {
    let (rsa, ours) = (Agency::new(Kind::Rsa), Consortium::new());
    // The client's certificates are AMOP's own, the node's FISCO BCOS's; and the other way round.
    let node = Node::with(rsa.server(), Speaks::Extended).await;
    let error = refusal(&node, ours.options(&[node.address()])).await;
    assert!(matches!(error, DialError::Certificate(ChainError::Version1)), "{error:?}");
    assert!(error.to_string().contains("both ends must use one profile"), "{error}");

    let (node, directory) = (Node::start(&ours, Speaks::Extended).await, rsa.directory());
    let error = refusal(&node, Options::new([node.address()], directory.path())).await;
    let says = "its key is P-256, but certificates of the profile fisco-rsa are needed";
    assert!(error.to_string().contains(says), "{error}");
}

#[tokio::test]
async fn files_that_are_no_pair_are_named() {
    let (rsa, ec) = (Agency::new(Kind::Rsa).directory(), Agency::new(Kind::Ec).directory());
    let error = async |directory: &TempDir| {
        let options = Options::new(["127.0.0.1:1"], directory.path());
        match Client::connect(options).await.unwrap_err() {
            ConnectError::Identity(error) => error.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let copy = |name: &str| std::fs::copy(ec.path().join(name), rsa.path().join(name)).unwrap();
    copy("sdk.key");
    // The key says secp256k1; the CA is the first that does not go with it.
    let text = error(&rsa).await;
    assert!(text.contains("ca.crt cannot be a CA: its key is RSA"), "{text}");
    copy("ca.crt");
    let text = error(&rsa).await;
    assert!(text.contains("sdk.crt cannot be used: its key is RSA"), "{text}");
}
