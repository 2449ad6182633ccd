//! Beyond the loopback interface: who comes through TLS, and what they may.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::*;

#[tokio::test]
async fn beyond_loopback_there_is_tls_and_nothing_else() {
    let bed = Bed::remote();
    assert!(matches!(bed.anybody().status().await, Err(AskError::Http { .. })), "plain HTTP");
    assert!(bed.operator().status().await.is_ok());
    assert!(bed.operator().drain().await.is_ok());
    let without = Asker::plain(bed.at()).over(AskingTls::of_node(&bed.credentials).expect("TLS").config());
    assert_eq!(refused(without.status().await).0, 401);
    assert_eq!(refused(without.ask(Method::GET, "/healthz").await).0, 401, "not even that");
}

#[tokio::test]
async fn a_named_client_of_the_own_institution_reads() {
    let bed = Bed::remote();
    let bank = bed.consortium.institution("bank-a");
    let own = bed.credentials.chain()[1].clone();
    assert_ne!(bank.client("prometheus").chain()[1], own, "the same name, and another CA");
    // The CA's name is what counts: it is the consortium's root that vouches for it.
    let prometheus = bed.client(&bank.client("prometheus"));
    assert!(prometheus.status().await.is_ok());
    let (status, said) = refused(prometheus.drain().await);
    assert!(status == 403 && said.contains("may read"), "{said}");
    assert!(bed.client(&bank.client("prometheus")).with(bed.secret.clone()).drain().await.is_ok());
    let (status, said) = refused(bed.client(&bank.client("till")).status().await);
    assert!(status == 403 && said.contains("admin.clients"), "{said}");
    assert_eq!(bed.counted("amop_admin_refused_total{reason=\"NotEnough\"}").await, 2);
}

/// Connections that are up are judged by the names of the moment, too: each request is.
#[tokio::test]
async fn a_client_that_is_named_no_longer_reads_no_more() {
    let bed = Bed::remote();
    let prometheus = bed.consortium.institution("bank-a").client("prometheus");
    let tls = TlsConnector::from(Arc::new(trusting(&prometheus)));
    let tcp = TcpStream::connect(bed.at()).await.expect("connect");
    let name = "localhost".try_into().expect("a name");
    let mut connection = tls.connect(name, tcp).await.expect("a handshake");
    assert!(goes_on(&mut connection).await);
    bed.names.replace(Vec::new(), Vec::new());
    assert!(!goes_on(&mut connection).await);
    assert_eq!(refused(bed.client(&prometheus).status().await).0, 403);
    bed.names.replace(vec!["prometheus".into()], Vec::new());
    assert!(bed.client(&prometheus).status().await.is_ok());
}

#[tokio::test]
async fn nobody_of_another_institution_comes_through_tls() {
    let bed = Bed::remote();
    let other = bed.consortium.institution("bank-b");
    // It believes only nodes of its own institution, so it is the first to refuse.
    let error = bed.client(&other.client("prometheus")).status().await.expect_err("refused");
    assert!(matches!(error, AskError::Tls { .. }), "{error}");
    // One that believes everything: the node refuses its certificate.
    let leaf = other.client("prometheus");
    let stranger = bed.anybody().over(Arc::new(trusting(&leaf)));
    let error = stranger.status().await.expect_err("refused");
    assert!(matches!(error, AskError::Tls { .. } | AskError::Http { .. }), "{error}");
    // And so it is with a node's certificate, even one of the institution.
    let node = bed.consortium.institution("bank-a").node("prometheus");
    let error = bed.anybody().over(Arc::new(trusting(&node))).status().await.expect_err("refused");
    assert!(matches!(error, AskError::Tls { .. } | AskError::Http { .. }), "{error}");
    wait::until("all to be counted", async || bed.counted("amop_admin_cut_total{reason=\"Tls\"}").await >= 3)
        .await;
}

/// Asks over a connection that is there; whether an answer comes, and the connection stays.
async fn goes_on(connection: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> bool {
    let question = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    if connection.write_all(question).await.is_err() {
        return false;
    }
    let (mut said, mut part) = (Vec::new(), [0; 1024]);
    // The whole of the answer is "ok" behind an empty line.
    while !said.ends_with(b"\r\n\r\nok\n") {
        match connection.read(&mut part).await {
            Ok(0) | Err(_) => return false,
            Ok(count) => said.extend_from_slice(&part[..count]),
        }
    }
    true
}

#[tokio::test]
async fn connections_end_when_certificates_change() {
    let bed = Bed::remote();
    let prometheus = bed.consortium.institution("bank-a").client("prometheus");
    let tcp = TcpStream::connect(bed.at()).await.expect("connect");
    let name = rustls_pki_types::ServerName::IpAddress(bed.at().ip().into());
    let tls = TlsConnector::from(Arc::new(trusting(&prometheus)));
    let mut connection = tls.connect(name, tcp).await.expect("it is let in");
    for _ in 0..3 {
        assert!(goes_on(&mut connection).await, "nothing has changed");
    }
    let renewal = bed.credentials.prepare(&Paths::in_directory(bed.dir.path())).expect("the same files");
    bed.credentials.adopt(renewal);
    // Every question starts the time anew that a connection has for the next: that is not what ends it.
    wait::until("the connection to end", async || !goes_on(&mut connection).await).await;
    assert!(bed.client(&prometheus).status().await.is_ok(), "who is still believed comes again");
}

/// TLS with this certificate that believes every node of the consortium.
fn trusting(leaf: &Leaf) -> rustls::ClientConfig {
    let authority = crate::identity::Authority::new(&[leaf.root()]).expect("a root");
    let verifier = amop_tls::Verifier::returning(amop_tls::Holder::node(&authority, None));
    let key = rustls_pki_types::PrivateKeyDer::Pkcs8(leaf.key());
    rustls::ClientConfig::builder_with_provider(Arc::new(amop_tls::provider::default()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(leaf.chain(), key)
        .expect("a pair")
}
