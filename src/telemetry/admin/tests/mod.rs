mod authority;
mod connections;
mod pages;
mod tls;

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
    identity::{AskingTls, Credentials, Paths},
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
            at_restart: Vec::new(),
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
    names: Names,
    dir: TempDir,
}

impl Bed {
    fn local() -> Self {
        Self::new(SocketAddr::from(([127, 0, 0, 1], 0)), |_| {})
    }

    /// Reached over the loopback interface as well, and yet not for loopback only.
    fn remote() -> Self {
        Self::new(SocketAddr::from(([0, 0, 0, 0], 0)), |settings| {
            settings.names = Names::new(vec!["prometheus".into()], Vec::new());
        })
    }

    fn new(listen: SocketAddr, change: impl FnOnce(&mut Settings)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let consortium = Consortium::new();
        consortium.institution("bank-a").node("node-1").write_node_dir(dir.path());
        let credentials = Credentials::load(&Paths::in_directory(dir.path())).expect("credentials");
        let secret = Secret::load_or_make(&dir.path().join("admin.token")).expect("a token");
        let mut settings = Settings { token: Some(secret.clone()), ..Settings::new(listen) };
        let own = credentials.clone();
        settings.tls = Some(Arc::new(move || own.admin_server()));
        change(&mut settings);
        let names = settings.names.clone();
        let source = Arc::new(Fixed::default());
        let admin = Admin::start(settings, metrics::registry(), source.clone(), source).expect("a free port");
        Self { admin, consortium, credentials, secret, names, dir }
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

/// Sends bytes, and reads until the other end has had enough.
async fn raw(bed: &Bed, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(bed.at()).await.expect("connect");
    // It may be closed before all of it is written.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = wait::within("an end", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}
