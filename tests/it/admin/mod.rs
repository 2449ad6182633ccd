//! The admin port and the commands that ask it, with real processes.

mod scrape;
mod token;

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::Arc,
    time::Instant,
};

use amop::{
    identity::AskingTls,
    telemetry::{
        admin::Secret,
        client::{AskError, Asker},
        status::{Page, Phase},
    },
};
use amop_client::{Client, Options};
use amop_testkit::{
    ca::{Consortium, Institution},
    wait,
};
use axum::http::Method;
use futures::StreamExt;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    cli::json_of,
    mesh::{Plain, spawn},
    process::{AMOP, Devnet, NodeProcess, send},
};

/// A node process of one bank, and the certificate of one of its clients.
struct Bed {
    node: NodeProcess,
    bank: Institution,
    dir: TempDir,
}

impl Bed {
    fn new(config: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let bank = Consortium::new().institution("bank");
        let [of_node, of_client] = ["node", "client"].map(|name| dir.path().join(name));
        bank.node("one").write_node_dir(&of_node);
        bank.client("till").write_client_dir(&of_client);
        Self { node: NodeProcess::start(&of_node, config), bank, dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn at(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.node.port("admin").port()).into()
    }

    fn token(&self) -> PathBuf {
        self.path("node/admin.token")
    }

    fn operator(&self) -> Asker {
        Asker::plain(self.at()).with(Secret::load(&self.token()).expect("a token"))
    }

    async fn client(&self) -> Client {
        let options = Options::new([self.node.port("channel").to_string()], self.path("client"));
        Client::connect(options).await.expect("connected")
    }

    /// `amop COMMAND --admin …`.
    fn amop(&self, command: &str, arguments: &[&str]) -> Command {
        let mut amop = Command::new(AMOP);
        amop.args([command, "--admin", &self.at().to_string()]).args(arguments).stdin(Stdio::null());
        amop
    }

    fn output(&self, command: &str, arguments: &[&str]) -> (i32, String, String) {
        let Output { status, stdout, stderr } = self.amop(command, arguments).output().expect("amop starts");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (status.code().expect("no signal"), text(stdout), text(stderr))
    }
}

async fn refusal(asker: Asker, method: Method, path: &str) -> (u16, String) {
    match asker.ask(method, path).await {
        Err(AskError::Refused { status, said, .. }) => (status.as_u16(), said),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drain_finishes_what_is_in_flight_and_says_how_it_went() {
    let mut bed = Bed::new("shutdown.grace = \"30s\"\n");
    let subscriber = bed.client().await;
    let mut subscription = subscriber.subscribe("t").await.expect("subscribed");
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keep = kept.clone();
    spawn(async move {
        while let Some(delivery) = subscription.next().await {
            keep.lock().push(delivery);
        }
    });
    let publisher = bed.client().await;
    let request = spawn(async move { publisher.request("t", "please").await });
    wait::until("the request to arrive", async || kept.lock().len() == 1).await;

    let token = bed.token();
    let arguments = ["--token-file", token.to_str().expect("text"), "--wait", "--json"];
    let draining = bed.amop("drain", &arguments).stdout(Stdio::piped()).spawn().expect("amop starts");
    wait::until("the node to drain", async || {
        bed.operator().draining().await.is_ok_and(|drain| drain.phase == Phase::Draining)
    })
    .await;
    let (status, said) = refusal(bed.operator(), Method::GET, "/readyz").await;
    assert_eq!((status, said.as_str()), (503, ": not ready: draining"));
    assert_eq!(bed.operator().draining().await.expect("it answers").in_flight, 1);
    assert!(bed.operator().ask(Method::GET, "/healthz").await.is_ok());

    kept.lock().drain(..).for_each(|delivery| delivery.answer("late but here"));
    let answer = wait::within("an answer", request).await.expect("no panic");
    assert_eq!(answer.as_deref(), Ok(&b"late but here"[..]));
    let said = tokio::task::block_in_place(|| draining.wait_with_output().expect("ended"));
    let lines: Vec<Value> =
        said.stdout.split(|byte| *byte == b'\n').filter(|l| !l.is_empty()).map(json_of).collect();
    let last = lines.last().expect("a line");
    assert_eq!((said.status.code(), &last["phase"], &last["cut"]), (Some(0), &json!("stopped"), &json!(0)));
    assert_eq!(lines[0]["phase"], "draining");
    assert_eq!(tokio::task::block_in_place(|| bed.node.end()).code(), Some(0), "{}", bed.node.log());
    assert_eq!(bed.node.last_words(), "stopped gracefully");
}

#[tokio::test]
async fn certificates_are_loaded_when_the_admin_port_is_asked() {
    let bed = Bed::new("");
    let (status, _) = refusal(Asker::plain(bed.at()), Method::POST, "/v1/reload").await;
    assert_eq!(status, 401, "without the token");
    let nothing = bed.operator().reload().await.expect("loaded");
    assert_eq!((nothing.added.len(), nothing.removed.len()), (0, 0));

    // Another node's certificate: refused, in words, and nothing has changed.
    let before = bed.operator().certificates().await.expect("certificates");
    bed.bank.node("two").write_node_dir(&bed.path("two"));
    fs::copy(bed.path("two/node.crt"), bed.path("node/node.crt")).expect("copied");
    let (status, why) = refusal(bed.operator(), Method::POST, "/v1/reload").await;
    assert_eq!(status, 422);
    assert!(why.contains("node.crt"), "{why}");
    assert_eq!(bed.operator().certificates().await.expect("certificates"), before);
    let mut command = bed.amop("reload", &["--token-file"]);
    let output = command.arg(bed.token()).output().expect("amop starts");
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(complaint.contains("node.crt"), "{complaint}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_loopback_commands_use_tls() {
    let bed = Bed::new("admin.listen = \"0.0.0.0:0\"\nadmin.clients = [\"till\"]\n");
    let certs = bed.path("client");
    let certs = certs.to_str().expect("text");
    let (code, said, errors) = bed.output("status", &["--certs", certs, "--json"]);
    assert_eq!((code, &json_of(said.as_bytes())["name"]), (0, &json!("one")), "{errors}");
    let (code, _, errors) = bed.output("drain", &["--certs", certs]);
    assert!(code == 1 && errors.contains("403") && errors.contains("may read"), "{errors}");
    let (code, _, errors) = bed.output("status", &[]);
    assert!(code == 1 && errors.contains("does not speak HTTP"), "{errors}");

    let other = bed.path("other");
    bed.bank.client("other").write_client_dir(&other);
    let (code, _, errors) = bed.output("peers", &["--certs", other.to_str().expect("text")]);
    assert!(code == 1 && errors.contains("admin.clients"), "{errors}");
    let token = bed.token();
    let with_token =
        ["--certs", other.to_str().expect("text"), "--token-file", token.to_str().expect("text")];
    let (code, _, errors) = bed.output("peers", &with_token);
    assert_eq!(code, 0, "{errors}");
    let tls = AskingTls::of_client(&other).expect("TLS").config();
    let drained = bed.operator().over(tls).drain().await;
    assert_eq!(drained.expect("it has the token").phase, Phase::Draining);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_its_links_is_not_ready() {
    let other = Bed::new("");
    let peer = other.node.port("overlay");
    let bed = Bed::new(&format!("overlay.peers = [\"{peer}\"]\n"));
    // The other is of another consortium: the link never comes up.
    let (status, said) = refusal(bed.operator(), Method::GET, "/readyz").await;
    assert!(status == 503 && said.contains("no link is up, and 1 peers are configured"), "{said}");
    let status = bed.operator().status().await.expect("it answers");
    assert!(!status.ready && status.not_ready.len() == 1);
    let told = async || {
        let (code, said, _) = bed.output("status", &[]);
        assert!(code == 0 && said.contains("not ready (no link is up"), "{said}");
        said.contains(&format!("{peer}: no link, "))
    };
    wait::until("the peer to be told", told).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_and_clients_are_shown_page_by_page() {
    let bed = Bed::new("");
    let client = bed.client().await;
    let mut subscriptions = Vec::new();
    for topic in ["a/1", "a/2", "a/3", "b/1", "c&d=é"] {
        subscriptions.push(client.subscribe(topic).await.expect("subscribed"));
    }
    let asker = bed.operator();
    let page = |prefix: &str, limit| Page { prefix: Some(prefix.into()), limit, after: None };
    let names = async |page: Page| {
        let topics = asker.topics(&page).await.expect("it answers");
        topics.into_iter().map(|topic| topic.topic).collect::<Vec<_>>()
    };
    assert_eq!(names(page("a/", None)).await, ["a/1", "a/2", "a/3"]);
    assert_eq!(names(page("a/", Some(2))).await, ["a/1", "a/2"]);
    assert_eq!(names(page("c&", None)).await, ["c&d=é"]);
    let after = Page { after: Some("a/2".into()), limit: Some(2), prefix: None };
    let topics = asker.topics_on(&after).await.expect("it answers");
    assert_eq!(topics.iter().map(|topic| &*topic.topic).collect::<Vec<_>>(), ["a/3", "b/1"]);

    let clients = asker.clients_on(&Page::default()).await.expect("it answers");
    let [till] = &clients[..] else { panic!("{clients:?}") };
    assert_eq!(
        (&*till.name, &*till.institution, &*till.dialect, till.topics),
        ("till", "bank", "extended", 5)
    );
    assert_eq!(till.fingerprint.len(), 64);
    let (code, said, _) = bed.output("clients", &["--prefix", "ti"]);
    assert!(code == 0 && said.contains("till") && said.contains("extended"), "{said}");
    let (_, said, _) = bed.output("clients", &["--prefix", "x"]);
    assert_eq!(said.trim(), "no client is connected");
    let (code, said, _) = bed.output("topics", &["--prefix", "a/", "--limit", "1", "--json"]);
    assert_eq!((code, json_of(said.as_bytes()).as_array().map(Vec::len)), (0, Some(1)));

    let limits = asker.limits().await.expect("it answers");
    let used =
        |key: &str| limits.iter().find(|limit| limit.key.as_deref() == Some(key)).expect("a limit").used;
    assert_eq!(["client_port.max_clients", "client_port.max_topics"].map(used), [Some(1), Some(5)]);
    let certificates = asker.certificates().await.expect("it answers");
    let of: Vec<&str> = certificates.iter().map(|certificate| &*certificate.of).collect();
    assert_eq!(of, ["node", "issuer", "root"]);
    assert!(certificates.iter().all(|found| found.days_left > 0 && !found.serial.is_empty()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_topics_are_shown_whole_and_page_by_page() {
    let bed = Bed::new("");
    let topics: Vec<String> = (0..10_000).map(|number| format!("topic/{number:05}")).collect();
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    let leaf = bed.bank.client("many");
    let _many = Plain::subscriber(bed.node.port("channel"), &leaf, &names).await;
    let asker = bed.operator();
    wait::until("all topics", async || asker.status().await.is_ok_and(|status| status.topics == 10_000))
        .await;
    let begun = Instant::now();
    let all = asker.topics(&Page::default()).await.expect("it answers");
    let whole = begun.elapsed();
    assert!(all.iter().map(|topic| &topic.topic).eq(&topics), "in order, each once");
    let begun = Instant::now();
    let last = Page { after: Some("topic/09989".into()), limit: Some(100), prefix: None };
    let last = asker.topics_on(&last).await.expect("it answers");
    let page = begun.elapsed();
    assert_eq!(last.len(), 10);
    let begun = Instant::now();
    asker.ask(Method::GET, "/metrics").await.expect("it answers");
    println!("all topics {whole:?}, a page {page:?}, metrics {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watch_shows_it_again_until_it_is_told_to_stop() {
    let bed = Bed::new("");
    let mut watch = bed
        .amop("status", &["--watch", "0.1", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("amop starts");
    let lines = BufReader::new(watch.stdout.take().expect("its output")).lines();
    let shown: Vec<Value> = lines.take(3).map(|line| json_of(line.expect("a line").as_bytes())).collect();
    assert!(shown.iter().all(|status| status["name"] == "one"));
    send("-INT", watch.id());
    wait::block_until("its end", || watch.try_wait().expect("a child").is_some());
    let (code, _, errors) = bed.output("status", &["--watch", "0"]);
    assert!(code == 2 && errors.contains("between 0.1 and 3600"), "{errors}");
}

#[test]
fn a_line_of_nodes_is_shown_from_its_end() {
    let devnet = Devnet::start(&["--no-demo"]);
    let ask = |command: &str, arguments: &[&str]| {
        let mut amop = Command::new(AMOP);
        let config = devnet.path("node-1/amop.toml");
        let output =
            amop.arg(command).arg("--config").arg(config).args(arguments).output().expect("amop starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let routes = json_of(ask("routes", &["--json"]).as_bytes());
    let of = |name: &str| {
        let routes = routes.as_array().expect("a list");
        let route = routes.iter().find(|route| route["name"] == name).expect("a route");
        (route["next_hop"].clone(), route["hops"].clone())
    };
    assert_eq!(of("node-2"), (json!("node-2"), json!(1)));
    assert_eq!(of("node-3"), (json!("node-2"), json!(2)));
    assert!(ask("routes", &[]).contains("NEXT HOP"));

    wait::block_until("rates", || {
        let peers = json_of(ask("peers", &["--json"]).as_bytes());
        let peers = peers.as_array().expect("a list");
        assert!(peers[1]["link"].is_null(), "only neighbours are linked");
        let link = &peers[0]["link"];
        link["received"]["bytes"].as_u64() > Some(0) && link["sent"]["bytes_per_second"].is_u64()
    });
    let peers = ask("peers", &[]);
    assert!(peers.contains("QUEUED") && peers.contains("/s"), "{peers}");
    let status = ask("status", &[]);
    assert!(status.contains("days left") && status.contains("ready"), "{status}");
    // By the configuration it finds the token, too.
    let mut drain = Command::new(AMOP);
    let config = devnet.path("node-3/amop.toml");
    let drain = drain.arg("drain").arg("--config").arg(config).output().expect("amop starts");
    assert!(drain.status.success(), "{}", String::from_utf8_lossy(&drain.stderr));
    assert!(String::from_utf8_lossy(&drain.stdout).starts_with("draining"));
}

#[test]
fn who_is_not_there_is_said_to_be_not_there() {
    let bed = Bed::new("");
    let at = bed.at();
    drop(bed);
    let amop = Command::new(AMOP).args(["routes", "--admin", &at.to_string()]).output().expect("amop starts");
    let errors = String::from_utf8_lossy(&amop.stderr).into_owned();
    assert!(!amop.status.success() && errors.contains("is the node running"), "{errors}");
    let amop = Command::new(AMOP).args(["status", "--admin", "192.0.2.1:1"]).output().expect("amop starts");
    let errors = String::from_utf8_lossy(&amop.stderr).into_owned();
    assert!(errors.contains("over TLS only"), "{errors}");
}

#[test]
fn a_node_says_what_is_wrong_with_its_admin_settings() {
    let dir = tempfile::tempdir().expect("a directory");
    Consortium::new().institution("bank").node("one").write_node_dir(dir.path());
    let path = dir.path().join("amop.toml");
    let check = |text: &str, says: &str| {
        std::fs::write(&path, text).expect("written");
        let amop = Command::new(AMOP)
            .args(["node", "--check", "--config"])
            .arg(&path)
            .output()
            .expect("amop starts");
        let errors = String::from_utf8_lossy(&amop.stderr).into_owned();
        assert!(!amop.status.success() && errors.contains(says), "{text}: {errors}");
    };
    check("[admin]\nlisten = \"0.0.0.0:1\"\ntoken = \"off\"", "nobody could be let in");
    check("[admin]\ntoken = \"off\"\ntoken_for_reads = true", "there is no token");
    check("[admin]\nhosts = [\"http://node\"]", "is no host name");
    check("[admin]\nclients = [\"\"]", "admin.clients");
    std::fs::write(dir.path().join("bad"), "short").expect("written");
    amop_testkit::ca::restrict(&dir.path().join("bad"));
    check("[admin]\ntoken = \"bad\"", "holds no admin token");
}
