//! Configurations that change while nodes run, with real processes.

use std::{fs, net::SocketAddr, path::PathBuf, process::Command, time::Duration};

use amop::telemetry::{
    admin::Secret,
    client::{AskError, Asker},
    status::{PeerState, Reload},
};
use amop_client::{Client, Options};
use amop_testkit::{
    ca::{Consortium, Institution},
    collector::Collector,
    wait,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    mesh::Served,
    process::{AMOP, NodeProcess},
    trace::otlp,
};

/// A node process, and the configuration it was started with.
struct Node {
    process: NodeProcess,
    institution: Institution,
    dir: PathBuf,
    started_with: String,
}

/// Nodes of one consortium, linked only by what their configurations say.
fn nodes<const N: usize>(more: [&str; N]) -> ([Node; N], TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let consortium = Consortium::new();
    let mut names = (0..).map(|number| format!("node-{number}"));
    let nodes = more.map(|more| {
        let name = names.next().expect("one more");
        let (dir, institution) = (dir.path().join(&name), consortium.institution(&name));
        institution.node(&name).write_node_dir(&dir);
        let process = NodeProcess::start(&dir, more);
        let started_with = fs::read_to_string(dir.join("amop.toml")).expect("a configuration");
        Node { process, institution, dir, started_with }
    });
    (nodes, dir)
}

impl Node {
    fn admin(&self) -> Asker {
        let token = Secret::load(&self.dir.join("admin.token")).expect("a token");
        Asker::plain(self.process.port("admin")).with(token)
    }

    fn overlay(&self) -> SocketAddr {
        self.process.port("overlay")
    }

    async fn id(&self) -> String {
        self.admin().status().await.expect("it answers").node_id
    }

    /// Writes what it was started with and these lines into its file.
    fn write(&self, lines: &str) {
        fs::write(self.dir.join("amop.toml"), format!("{}\n{lines}\n", self.started_with)).expect("written");
    }

    /// The same, and has the node load it.
    async fn change(&self, lines: &str) -> Reload {
        self.write(lines);
        self.admin().reload().await.expect("loaded")
    }

    async fn refused(&self) -> String {
        match self.admin().reload().await {
            Err(AskError::Refused { status, said, .. }) if status.as_u16() == 422 => said,
            other => panic!("{other:?}"),
        }
    }

    async fn links(&self) -> usize {
        self.admin().status().await.expect("it answers").links
    }

    fn client_dir(&self, name: &str) -> PathBuf {
        let dir = self.dir.join(name);
        self.institution.client(name).write_client_dir(&dir);
        dir
    }

    async fn client(&self, name: &str) -> Client {
        let options = Options::new([self.process.port("channel").to_string()], self.client_dir(name));
        Client::connect(options).await.expect("connected")
    }

    async fn counted(&self, metric: &str) -> u64 {
        let page = self.admin().ask(axum::http::Method::GET, "/metrics").await.expect("it answers");
        let text = String::from_utf8_lossy(&page).into_owned();
        let value = text.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
        value.expect("such a metric").parse().expect("a number")
    }
}

fn keys(changed: &[amop::telemetry::status::ChangedSetting]) -> Vec<&str> {
    changed.iter().map(|setting| &*setting.key).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_is_loaded_whole_or_not_at_all() {
    let ([node], _dir) = nodes([""]);
    let limit = async || {
        let limits = node.admin().limits().await.expect("it answers");
        let limit = limits.into_iter().find(|limit| limit.key.as_deref() == Some("client_port.max_clients"));
        limit.expect("such a limit").most
    };
    assert_eq!(limit().await, Some(4096));
    let nothing = node.admin().reload().await.expect("loaded");
    assert_eq!((keys(&nothing.changed), keys(&nothing.at_restart)), (vec![], vec![]));

    node.write("client_port.max_clients = 5\noverlay.pears = []");
    let said = node.refused().await;
    assert!(said.contains("amop.toml") && said.contains("did you mean overlay.peers"), "{said}");
    node.write(&format!("client_port.max_clients = 5\noverlay.deny = [\"{}\"]", "ff".repeat(32)));
    let said = node.refused().await;
    assert!(said.contains("no point of the curve"), "{said}");
    node.write("client_port.max_clients = 5\nnode.cert = \"nowhere.crt\"");
    let said = node.refused().await;
    assert!(said.contains("nowhere.crt"), "certificates and configuration are one: {said}");
    assert_eq!(limit().await, Some(4096), "nothing has changed");
    assert_eq!(node.counted("amop_config_reloads_total{outcome=\"Refused\"}").await, 3);

    let changed = node.change("client_port.max_clients = 5\noverlay.advertise = \"10.0.0.1:1\"").await;
    assert_eq!(keys(&changed.changed), ["client_port.max_clients"]);
    assert_eq!(changed.changed[0].change, "4096 -> 5");
    assert_eq!(keys(&changed.at_restart), ["overlay.advertise"]);
    assert_eq!(limit().await, Some(5));
    assert_eq!(node.counted("amop_config_keys_at_restart").await, 1);
    let status = node.admin().status().await.expect("it answers");
    assert_eq!(status.at_restart, ["overlay.advertise"]);
    wait::until("the log", async || {
        let log = node.process.log();
        log.contains("\"change\":\"4096 -> 5\"") && log.contains("overlay.pears")
    })
    .await;

    // As an operator sees it.
    node.write("client_port.max_clients = 6");
    let reload = Command::new(AMOP)
        .args(["reload", "--token-file"])
        .arg(node.dir.join("admin.token"))
        .args(["--admin", &node.process.port("admin").to_string()])
        .output()
        .expect("amop starts");
    let (said, errors) = (String::from_utf8_lossy(&reload.stdout), String::from_utf8_lossy(&reload.stderr));
    assert_eq!(said, "changed: client_port.max_clients: 5 -> 6\n", "{errors}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hang_up_signal_loads_the_configuration() {
    let ([node], _dir) = nodes([""]);
    let reloads = async || node.counted("amop_config_reloads_total{outcome=\"Changed\"}").await;
    node.write("log.level = \"error\"");
    node.process.send("-HUP");
    wait::until("the first change", async || reloads().await == 1).await;
    let _unnoticed = node.client("unnoticed").await;
    node.change("log.level = \"info\"").await;
    let _noticed = node.client("noticed").await;
    wait::until("a line", async || node.process.log().contains("\"client\":\"noticed\"")).await;
    assert!(!node.process.log().contains("unnoticed"), "{}", node.process.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_come_and_go() {
    let ([one, two], _dir) = nodes(["", ""]);
    assert_eq!(one.links().await, 0);
    let peers = format!("overlay.peers = [\"{}\"]", two.overlay());
    let changed = one.change(&peers).await;
    assert_eq!(keys(&changed.changed), ["overlay.peers"]);
    wait::until("the link", async || one.links().await == 1 && two.links().await == 1).await;
    let wanted = || async { one.admin().status().await.expect("it answers").configured_peers };
    wait::until(
        "its state to be shown",
        async || matches!(&wanted().await[..], [peer] if peer.state == PeerState::Linked),
    )
    .await;

    one.change("").await;
    wait::until("its end", async || one.links().await == 0 && two.links().await == 0).await;
    wait::until("nobody to be wanted", async || wanted().await.is_empty()).await;
    wait::until("the log", async || one.process.log().contains("taken out of the configured peers")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_of_nodes_hold_from_the_moment_they_are_loaded() {
    let ([one, two], _dir) = nodes(["", ""]);
    let peers = format!("overlay.peers = [\"{}\"]", one.overlay());
    two.change(&peers).await;
    wait::until("the link", async || one.links().await == 1).await;

    one.change(&format!("overlay.deny = [\"{}\"]", two.id().await)).await;
    wait::until("its end", async || one.links().await == 0 && two.links().await == 0).await;
    let refused = one.counted("amop_overlay_inbound_refused_total").await;
    wait::until("another attempt to be refused", async || {
        one.counted("amop_overlay_inbound_refused_total").await > refused
    })
    .await;
    assert_eq!(one.links().await, 0);

    one.change("").await;
    wait::until("the link again", async || one.links().await == 1).await;
    one.change(&format!("overlay.allow = [\"{}\"]", one.id().await)).await;
    wait::until("its end", async || one.links().await == 0).await;
    one.change(&format!("overlay.allow = [\"{}\"]", two.id().await)).await;
    wait::until("the link once more", async || one.links().await == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_others_are_served_as_the_configuration_has_it_now() {
    let ([node, other], _dir) = nodes(["", ""]);
    let theirs = || Options::new([node.process.port("channel").to_string()], other.client_dir("theirs"));
    let stranger = Client::connect(theirs()).await.expect("connected");
    let own = node.client("own").await;
    let sessions = async || {
        let clients = node.admin().clients_on(&Default::default()).await.expect("it answers");
        clients.into_iter().map(|client| client.name).collect::<Vec<_>>()
    };
    assert_eq!(sessions().await.len(), 2);

    let changed = node.change("client_port.same_institution_only = true").await;
    assert_eq!(keys(&changed.changed), ["client_port.same_institution_only"]);
    wait::within("its end", stranger.disconnected()).await;
    wait::until("only one to be left", async || sessions().await == ["own"]).await;
    assert!(node.counted("amop_client_port_closed_total{reason=\"Untrusted\"}").await >= 1);
    let refused = "amop_client_port_handshakes_failed_total{reason=\"Failed\"}";
    let before = node.counted(refused).await;
    wait::until("another attempt to be refused", async || node.counted(refused).await > before).await;
    own.subscribe("t").await.expect("the own institution's goes on");

    node.change("").await;
    wait::until("it to be back", async || sessions().await.len() == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_admin_port_goes_by_the_names_of_the_moment() {
    let ([node], _dir) = nodes([""]);
    let asked = async || {
        let mut stream = tokio::net::TcpStream::connect(node.process.port("admin")).await.expect("connected");
        let request = b"GET /healthz HTTP/1.1\r\nHost: node-1.example\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        answer.split(' ').nth(1).map(str::to_owned)
    };
    assert_eq!(asked().await.as_deref(), Some("403"));
    let changed = node.change("admin.hosts = [\"node-1.example\"]").await;
    assert_eq!(keys(&changed.changed), ["admin.hosts"]);
    assert_eq!(asked().await.as_deref(), Some("200"));
    node.change("").await;
    assert_eq!(asked().await.as_deref(), Some("403"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bounds_hold_for_those_who_come_and_for_sessions_that_are_there() {
    let ([node], _dir) = nodes([""]);
    let client = node.client("till").await;
    let _first = client.subscribe("a").await.expect("subscribed");
    node.change("client_port.max_clients = 1\nclient_port.max_topics_per_client = 1").await;
    assert_eq!(node.admin().clients_on(&Default::default()).await.expect("it answers").len(), 1);

    // No place for a second one; the refusals are counted.
    let options = Options::new([node.process.port("channel").to_string()], node.client_dir("second"));
    let second = crate::mesh::spawn(async move { Client::connect(options).await });
    wait::until("a refusal", async || {
        node.counted("amop_client_port_refused_total{reason=\"Full\"}").await > 0
    })
    .await;
    second.abort();

    // One topic more than there may be ends the session that was there before.
    let second_topic = crate::mesh::spawn(async move { client.subscribe("b").await });
    wait::until("its end", async || node.process.log().contains("more than 1 topics")).await;
    second_topic.abort();
}

/// Longer than they could when the node started.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_follow_sends_as_long_as_they_may_last_now() {
    let collector = Collector::start();
    let (at_first, now) = ("delivery.max_deadline = \"1s\"", "delivery.max_deadline = \"60s\"");
    let patient = "delivery.min_push_timeout = \"60s\"\ndelivery.max_push_timeout = \"60s\"";
    let exports = format!("trace.otlp = \"http://{}/v1/traces\"", collector.address());
    let more = format!("{exports}\n{patient}\ndelivery.default_deadline = \"1s\"\n{at_first}");
    let ([mut node], _dir) = nodes([&*more]);
    node.started_with = node.started_with.replace(at_first, now);
    assert_eq!(keys(&node.change("").await.changed), ["delivery.max_deadline"]);

    let mut kept = Vec::new();
    let _silent = Served::with(node.client("desk").await, "t", move |delivery| kept.push(delivery)).await;
    // Past what was followed, which was a second more than a send could last.
    let options = otlp::context("01").deadline(Duration::from_secs(4));
    let outcome = node.client("till").await.request_with("t", "x", options).await.expect_err("no answer");
    assert_eq!(outcome.code(), 102);
    let mut spans = Vec::new();
    while !spans.iter().any(is_publish) {
        spans.extend(otlp::spans(&collector, 1).await);
    }
    let (publish, _) = spans.iter().find(|found| is_publish(found)).expect("its span");
    assert!(publish.events.iter().any(|event| event.name == "told"), "cut short: {publish:#?}");
}

fn is_publish((span, _): &otlp::Found) -> bool {
    span.name == "amop publish"
}
