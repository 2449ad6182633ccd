use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use amop_testkit::{
    ca::{Consortium, Leaf},
    wait,
};
use axum::http::{Method, StatusCode};
use futures::future::BoxFuture;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;
use crate::{
    identity::{AskingTls, Credentials},
    telemetry::{
        client::{self, AskError, Asker},
        metrics,
        overview::{Overview, Spread, View},
        status::{
            Addresses, Certificate, Client, Drain, Page, Peer, Phase, Reload, Route, Status, Topic,
            TopicNode, Usage,
        },
    },
};

#[derive(Default)]
struct Fixed {
    draining: AtomicBool,
}

impl StatusSource for Fixed {
    fn status(&self) -> Status {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        Status {
            name: "node-1".into(),
            institution: "bank-a".into(),
            node_id: "ab".repeat(64),
            epoch: 7,
            version: "0.1.0".into(),
            uptime_seconds: 3,
            addresses: Addresses { channel: address, listeners: vec![], overlay: address, admin: None },
            links: 1,
            nodes: 2,
            clients: 0,
            topics: 0,
            ready: self.not_ready().is_empty(),
            not_ready: self.not_ready(),
            configured_peers: Vec::new(),
        }
    }

    fn not_ready(&self) -> Vec<String> {
        let draining = self.draining.load(Ordering::Relaxed);
        draining.then(|| "draining".to_owned()).into_iter().collect()
    }

    fn peers(&self) -> Vec<Peer> {
        Vec::new()
    }

    fn routes(&self) -> Vec<Route> {
        Vec::new()
    }

    fn topics(&self, page: &Page) -> Vec<Topic> {
        let nodes = vec![TopicNode { node_id: "cd".repeat(64), name: "node-2".into(), subscribers: 3 }];
        let names = ["a b&c", "prices", "über"].into_iter().filter(|name| page.has(name)).take(page.limit());
        let topic = |name: &str| Topic { topic: name.into(), local_sessions: 1, nodes: nodes.clone() };
        names.map(topic).collect()
    }

    fn clients(&self, _: &Page) -> Vec<Client> {
        Vec::new()
    }

    fn limits(&self) -> Vec<Usage> {
        Vec::new()
    }

    fn certificates(&self) -> Vec<Certificate> {
        Vec::new()
    }

    fn draining(&self) -> Drain {
        let phase = if self.draining.load(Ordering::Relaxed) { Phase::Draining } else { Phase::Serving };
        Drain { phase, in_flight: 2, clients: 1, grace_ms: 5_000, cut: None, clients_closed: None }
    }

    fn overview(&self, view: &View) -> Overview {
        let (topics, clients) = (self.topics(&view.topics()), self.clients(&view.clients()));
        let spread =
            |topic: Topic| Spread { topic: topic.topic, nodes: vec![[0, 1]], nodes_known: 1, subscribers: 1 };
        Overview {
            status: self.status(),
            drain: self.draining(),
            peers: self.peers(),
            topics_at: vec![3],
            links: Vec::new(),
            links_known: 0,
            topics_found: topics.len(),
            topics: topics.into_iter().map(spread).collect(),
            clients,
            limits: self.limits(),
            certificates: self.certificates(),
            outcomes: Vec::new(),
            failures: Vec::new(),
        }
    }

    fn sample(&self) {}
}

impl Operations for Fixed {
    fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    fn reload(&self) -> BoxFuture<'static, Result<Reload, String>> {
        Box::pin(std::future::ready(Err("the file is damaged".to_owned())))
    }
}

/// An admin port, and what is needed to ask it.
struct Bed {
    admin: Admin,
    consortium: Consortium,
    credentials: Credentials,
    secret: Secret,
    dir: TempDir,
}

impl Bed {
    fn local() -> Self {
        Self::new(SocketAddr::from(([127, 0, 0, 1], 0)), |_| {})
    }

    /// Reached over the loopback interface as well, and yet not for loopback only.
    fn remote() -> Self {
        Self::new(SocketAddr::from(([0, 0, 0, 0], 0)), |settings| {
            settings.clients = vec!["prometheus".into()]
        })
    }

    fn new(listen: SocketAddr, change: impl FnOnce(&mut Settings)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let consortium = Consortium::new();
        let leaf = consortium.institution("bank-a").node("node-1");
        let credentials = Credentials::new(&[leaf.root()], leaf.chain(), leaf.key()).expect("credentials");
        let secret = Secret::load_or_make(&dir.path().join("admin.token")).expect("a token");
        let mut settings = Settings { token: Some(secret.clone()), ..Settings::new(listen) };
        let own = credentials.clone();
        settings.tls = Some(Arc::new(move || own.admin_server()));
        change(&mut settings);
        let source = Arc::new(Fixed::default());
        let admin = Admin::start(settings, metrics::registry(), source.clone(), source).expect("a free port");
        Self { admin, consortium, credentials, secret, dir }
    }

    fn at(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.admin.address().port()))
    }

    fn anybody(&self) -> Asker {
        Asker::plain(self.at())
    }

    /// Somebody at the node's own machine, with its files.
    fn operator(&self) -> Asker {
        let tls = AskingTls::of_node(&self.credentials).expect("TLS");
        self.anybody().over(tls.config()).with(self.secret.clone())
    }

    fn client(&self, leaf: &Leaf) -> Asker {
        let dir = self.dir.path().join("client");
        leaf.write_client_dir(&dir);
        self.anybody().over(AskingTls::of_client(&dir).expect("TLS").config())
    }

    async fn counted(&self, line: &str) -> u64 {
        let page = match self.admin.address().ip().is_loopback() {
            true => self.anybody().ask(Method::GET, "/metrics").await,
            false => self.operator().ask(Method::GET, "/metrics").await,
        };
        let page = page.expect("metrics");
        let text = String::from_utf8_lossy(&page);
        let value = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {line}")).parse().expect("a number")
    }
}

fn refused(answer: Result<impl Sized, AskError>) -> (u16, String) {
    match answer.err().expect("refused") {
        AskError::Refused { status, said, .. } => (status.as_u16(), said),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn what_a_node_says_is_what_a_client_reads() {
    let bed = Bed::local();
    let at = bed.at();
    let source = Fixed::default();
    assert_eq!(client::status(at).await.expect("status"), source.status());
    assert_eq!(client::topics(at).await.expect("topics"), source.topics(&Page::default()));
    assert_eq!(client::peers(at).await.expect("peers"), Vec::new());
    let text = client::get(at, "/metrics").await.expect("metrics");
    assert!(String::from_utf8_lossy(&text).ends_with("# EOF\n"));
    let (status, said) = refused(client::get(at, "/v1/nothing").await);
    assert!(status == 404 && said.contains("no such page"), "{said}");
}

#[tokio::test]
async fn a_page_of_a_list_is_asked_for() {
    let bed = Bed::local();
    let named = async |prefix: Option<&str>, after: Option<&str>, limit| {
        let page = Page { prefix: prefix.map(Into::into), after: after.map(Into::into), limit };
        let topics = bed.anybody().topics_on(&page).await.expect("topics");
        topics.into_iter().map(|topic| topic.topic).collect::<Vec<_>>()
    };
    assert_eq!(named(None, None, None).await.len(), 3);
    assert_eq!(named(Some("ü"), None, None).await, ["über"]);
    assert_eq!(named(None, Some("a b&c"), Some(1)).await, ["prices"]);
    let (status, _) = refused(client::get(bed.at(), "/v1/topics?limit=many").await);
    assert_eq!(status, 400);
}

#[tokio::test]
async fn the_web_page_is_everybodys_and_what_it_shows_is_not() {
    let strict = Bed::new(SocketAddr::from(([127, 0, 0, 1], 0)), |settings| settings.token_for_reads = true);
    let page = strict.anybody().ask(Method::GET, "/").await.expect("the page");
    assert!(page.starts_with(b"<!doctype html>"));
    assert_eq!(refused(strict.anybody().ask(Method::GET, "/v1/overview").await).0, 401);
    assert_eq!(refused(strict.anybody().ask(Method::POST, "/").await).0, 401);
    let own = strict.anybody().with(strict.secret.clone());
    let overview: Overview = own.read("/v1/overview?prefix=p&rows=1").await.expect("with the token");
    assert_eq!(overview.topics.iter().map(|spread| &*spread.topic).collect::<Vec<_>>(), ["prices"]);
    assert_eq!(refused(own.ask(Method::GET, "/v1/overview?rows=-1").await).0, 400);
    let foreign = raw(&strict, b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n").await;
    assert!(foreign.starts_with("HTTP/1.1 403") && foreign.contains("default-src 'none'"), "{foreign}");
    let remote = Bed::remote();
    let without =
        Asker::plain(remote.at()).over(AskingTls::of_node(&remote.credentials).expect("TLS").config());
    assert!(without.ask(Method::GET, "/").await.is_ok());
    assert_eq!(refused(without.ask(Method::GET, "/v1/overview").await).0, 401);
}

#[tokio::test]
async fn a_node_that_is_told_to_drain_is_alive_but_not_ready() {
    let bed = Bed::local();
    assert!(client::get(bed.at(), "/readyz").await.is_ok());
    let (status, said) = refused(bed.anybody().drain().await);
    assert!(status == 401 && said.contains("--token-file"), "{said}");
    assert!(client::get(bed.at(), "/readyz").await.is_ok(), "nothing has changed");
    let operator = bed.anybody().with(bed.secret.clone());
    assert_eq!(operator.drain().await.expect("it is allowed").phase, Phase::Draining);
    assert!(client::get(bed.at(), "/healthz").await.is_ok());
    let (status, said) = refused(client::get(bed.at(), "/readyz").await);
    assert_eq!((status, &*said), (503, ": not ready: draining"));
    assert_eq!(bed.anybody().draining().await.expect("anybody may see it").in_flight, 2);
    assert_eq!(bed.counted("amop_admin_refused_total{reason=\"NoAuthority\"}").await, 1);
}

#[tokio::test]
async fn a_wrong_token_is_refused_everywhere() {
    let bed = Bed::local();
    let path = bed.dir.path().join("other");
    let wrong = bed.anybody().with(Secret::load_or_make(&path).expect("another token"));
    assert_eq!(refused(wrong.drain().await).0, 401);
    assert_eq!(refused(wrong.status().await).0, 401);
    assert_eq!(bed.counted("amop_admin_refused_total{reason=\"WrongToken\"}").await, 2);
}

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

#[tokio::test]
async fn without_a_certificate_there_is_no_port_beyond_loopback() {
    let source = Arc::new(Fixed::default());
    let settings = Settings::new(SocketAddr::from(([0, 0, 0, 0], 0)));
    let error = Admin::start(settings, metrics::registry(), source.clone(), source).expect_err("no TLS");
    assert!(error.to_string().contains("127.0.0.1"), "{error}");
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let first = Bed::local();
    let source = Arc::new(Fixed::default());
    let error = Admin::start(Settings::new(first.at()), metrics::registry(), source.clone(), source)
        .expect_err("in use")
        .to_string();
    assert!(error.contains(&first.at().to_string()) && error.contains("admin port"), "{error}");
}

#[tokio::test]
async fn a_connection_that_says_nothing_holds_up_no_end() {
    let bed = Bed::local();
    let silent = TcpStream::connect(bed.at()).await.expect("connect");
    assert!(client::get(bed.at(), "/healthz").await.is_ok());
    let begun = std::time::Instant::now();
    drop(bed);
    assert!(begun.elapsed() < Duration::from_secs(5));
    drop(silent);
}

/// Sends bytes, and reads until the other end has had enough.
async fn raw(bed: &Bed, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(bed.at()).await.expect("connect");
    // It may be closed before all of it is written.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = wait::within("an end", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn requests_that_are_none_are_refused_and_closed() {
    let bed = Bed::local();
    let starts = async |bytes: &[u8], with: &str| {
        let answer = raw(&bed, bytes).await;
        assert!(answer.starts_with(with), "{answer:?} should start with {with:?}");
    };
    starts(b"GET /v1/status HTTP/1.1\r\nHost: evil.example\r\n\r\n", "HTTP/1.1 403").await;
    starts(b"GET /v1/status HTTP/1.1\r\n\r\n", "HTTP/1.1 403").await;
    starts(
        b"POST /v1/drain HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n",
        "HTTP/1.1 403",
    )
    .await;
    starts(
        b"POST /v1/drain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n",
        "HTTP/1.1 401",
    )
    .await;
    starts(
        b"POST /v1/drain HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 401",
    )
    .await;
    starts(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 not HTTP at all\r\n\r\n", "HTTP/1.1 400").await;
    let large = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(64 * 1024));
    starts(large.as_bytes(), "HTTP/1.1 431").await;
    for (reason, count) in [("Host", 2), ("Origin", 1), ("NoAuthority", 2)] {
        assert_eq!(bed.counted(&format!("amop_admin_refused_total{{reason=\"{reason}\"}}")).await, count);
    }
    assert!(bed.anybody().status().await.expect("status").ready, "nothing has changed");
}

#[tokio::test]
async fn those_who_only_sit_there_keep_nobody_out() {
    let bed = Bed::local();
    let mut silent = Vec::new();
    for _ in 0..2 * MAX_CONNECTIONS {
        silent.push(TcpStream::connect(bed.at()).await.expect("connect"));
    }
    assert!(bed.anybody().status().await.is_ok());
    let evicted = bed.counted("amop_admin_cut_total{reason=\"Evicted\"}").await;
    assert!(evicted >= MAX_CONNECTIONS as u64, "{evicted}");
}

#[tokio::test]
async fn every_method_but_two_needs_authority() {
    let bed = Bed::local();
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
        for path in ["/v1/status", "/v1/drain", "/metrics", "/nothing"] {
            let answer = bed.anybody().ask(method.clone(), path).await;
            assert_eq!(refused(answer).0, StatusCode::UNAUTHORIZED.as_u16(), "{method} {path}");
        }
    }
    let answer = bed.anybody().with(bed.secret.clone()).ask(Method::POST, "/v1/status").await;
    assert_eq!(refused(answer).0, StatusCode::METHOD_NOT_ALLOWED.as_u16());
}
