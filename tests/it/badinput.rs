//! Strangers and mistakes, against running nodes with a healthy client that must not notice.

use std::{fs, net::SocketAddr, process::Command, time::Duration};

use amop_client::Client;
use amop_protocol::wire::channel::{Encoded, Type};
use amop_testkit::{
    ca::{Consortium, Leaf},
    wait,
};
use bytes::Bytes;
use rustls::version::{TLS12, TLS13};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    mesh::{Mesh, Plain, Served, Topology, client_config},
    process::{AMOP, NodeProcess, refuses},
};

/// A node with a client that is served by another node, and goes on being served.
struct Bed {
    mesh: Mesh,
    healthy: Client,
    _server: Served,
}

impl Bed {
    async fn new() -> Self {
        let mesh = Mesh::new(2, Topology::Line, |_, config| {
            config.client_port.handshake_timeout = Duration::from_millis(300);
        })
        .await;
        let server = Served::echo(mesh.client(1).await, "t").await;
        let healthy = mesh.client(0).await;
        Self { mesh, healthy, _server: server }
    }

    async fn nobody_notices(&self) {
        let answer = wait::within("an answer", self.healthy.request("t", "hello")).await;
        assert_eq!(answer.as_deref(), Ok(&b"hello"[..]));
        assert_eq!(self.mesh.nodes[0].status().await.links, 1);
    }

    fn ports(&self) -> [SocketAddr; 2] {
        let addresses = &self.mesh.nodes[0].addresses;
        [addresses.channel, addresses.overlay]
    }
}

#[tokio::test]
async fn half_open_connections_and_garbage_disturb_nobody() {
    let bed = Bed::new().await;
    let mut silent = Vec::new();
    for port in bed.ports() {
        for _ in 0..100 {
            silent.push(TcpStream::connect(port).await.expect("connected"));
        }
    }
    bed.nobody_notices().await;
    for port in bed.ports() {
        for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 100], b"\x16\x03\x01\x40\x00", &[0xff; 20_000]] {
            let mut tcp = TcpStream::connect(port).await.expect("connected");
            // The node may close before all is written.
            let _ = tcp.write_all(garbage).await;
            bed.nobody_notices().await;
        }
    }
    // Those at the client port are closed when their time is up.
    for tcp in &mut silent[..100] {
        let read = wait::within("the end", tcp.read(&mut [0; 16])).await;
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }
    bed.nobody_notices().await;
}

#[tokio::test]
async fn wrong_foreign_and_missing_certificates_are_refused_on_both_ports() {
    let bed = Bed::new().await;
    let bank = &bed.mesh.nodes[0].institution;
    let root = bed.mesh.consortium.root().clone();
    let stranger = Consortium::new().institution("bank-0");
    let [node, client] = [bank.node("n"), bank.client("c")];
    let [foreign_node, foreign_client] = [stranger.node("n"), stranger.client("c")];
    let [expired_node, expired_client] =
        ["node", "client"].map(|role| bank.leaf("e", role).expired().build());
    let [channel, overlay] = bed.ports();
    let wrong_for_clients = [None, Some(&node), Some(&foreign_client), Some(&expired_client)];
    let wrong_for_nodes = [None, Some(&client), Some(&foreign_node), Some(&expired_node)];
    for (at, leaf) in wrong_for_clients.into_iter().enumerate() {
        for version in [&TLS12, &TLS13] {
            let config = client_config(root.clone(), leaf, version);
            assert!(is_refused(channel, config).await, "client certificate {at}");
        }
    }
    for (at, leaf) in wrong_for_nodes.into_iter().enumerate() {
        let mut config = client_config(root.clone(), leaf, &TLS13);
        config.alpn_protocols = vec![b"amop/1".to_vec()];
        assert!(is_refused(overlay, config).await, "node certificate {at}");
    }
    bed.nobody_notices().await;
}

#[tokio::test]
async fn frames_that_break_rules_end_their_session_or_nothing() {
    let bed = Bed::new().await;
    let node = &bed.mesh.nodes[0];
    let leaf = node.institution.client("odd");
    for length in [0_u32, 41, 100 * 1024 * 1024 + 1, u32::MAX] {
        let mut client = Plain::connect(node.addresses.channel, &leaf, &TLS13).await;
        client.send_raw(&length.to_be_bytes()).await;
        assert!(client.is_closed().await, "{length}");
    }
    let mut client = Plain::subscriber(node.addresses.channel, &leaf, &["kept"]).await;
    for (kind, body) in [
        (0x32, "no JSON"),
        (0x32, "{}"),
        (0x31, "late"),
        (0x37, "x"),
        (0x38, "x"),
        (0x0402, "x"),
        (0x7777, "x"),
    ] {
        let seq = client.seq();
        client.send(Encoded::new(Type(kind), seq, 0, body.as_bytes(), Bytes::new())).await;
    }
    let reply = client.ask(Type::JSON_RPC, "no JSON either").await;
    assert!(reply.body.windows(7).any(|word| word == b"\"error\""), "{reply:?}");
    assert!(bed.mesh.knows(0, "kept").await, "a report that cannot be read changes nothing");
    client.report(&["kept", "a\tb", "", &"x".repeat(255)]).await;
    let topics = client.rpc("getNodeInfo", "[]").await["Topic"].clone();
    assert_eq!(topics, json!(["kept"]), "bad topics are dropped singly");
    bed.nobody_notices().await;
}

/// With TLS 1.3 a refused client learns of it when it first reads.
async fn is_refused(address: SocketAddr, config: rustls::ClientConfig) -> bool {
    match Plain::try_connect(address, config).await {
        Ok(mut connection) => connection.is_closed().await,
        Err(_) => true,
    }
}

#[tokio::test]
async fn a_port_in_use_is_named_and_nothing_is_left_running() {
    let dir = tempfile::tempdir().expect("a directory");
    let bank = Consortium::new().institution("bank");
    bank.node("one").write_node_dir(dir.path());
    let mut first = NodeProcess::start(dir.path(), "");
    let [channel, overlay, admin] = ["channel", "overlay", "admin"].map(|port| first.port(port));
    first.child.kill().expect("killed");
    first.end();
    let all = format!(
        "client_port.listen = \"{channel}\"\noverlay.listen = \"{overlay}\"\nadmin.listen = \"{admin}\"\n"
    );
    for taken in [channel, overlay, admin] {
        let _taken = std::net::TcpListener::bind(taken).expect("free again");
        let mut second = NodeProcess::spawn(dir.path(), &all);
        assert_eq!(second.end().code(), Some(1));
        let log = second.log();
        assert!(log.contains(&taken.to_string()) && log.contains("in use"), "{log}");
        for port in [channel, overlay, admin].into_iter().filter(|port| *port != taken) {
            assert!(refuses(port), "{port} is still listened on");
        }
    }
    NodeProcess::start(dir.path(), &all);
}

#[test]
fn a_check_says_what_is_wrong_and_runs_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let bank = Consortium::new().institution("bank");
    let check = |leaf: &Leaf, config: &str| {
        leaf.write_node_dir(dir.path());
        fs::write(dir.path().join("amop.toml"), config).expect("written");
        let output = Command::new(AMOP)
            .args(["node", "--check", "--config"])
            .arg(dir.path().join("amop.toml"))
            .output()
            .expect("amop starts");
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let node = bank.node("one");
    let (code, said) = check(&node, "[overlay]\npeers = [\"127.0.0.1:30300\"]\n");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("is in order: node one of bank"), "{said}");
    for (config, words) in [
        ("[client_port]\nlisten_on = \"127.0.0.1:1\"\n", &["listen_on", "listen"][..]),
        ("[client_port]\nlisten = \"here\"\n", &["client_port.listen", "here"]),
        ("cheese = 1\n", &["cheese"]),
        ("[client_port\n", &["amop.toml"]),
        ("[node]\ncert = \"gone.crt\"\n", &["gone.crt"]),
    ] {
        let (code, said) = check(&node, config);
        assert_eq!(code, Some(1), "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{config}: {said}");
    }
    for (leaf, words) in [(bank.client("c"), "client"), (bank.leaf("e", "node").expired().build(), "expired")]
    {
        let (code, said) = check(&leaf, "");
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(words), "{words}: {said}");
    }
    // The key of another certificate.
    let key = dir.path().join("other");
    bank.node("two").write_node_dir(&key);
    let (code, said) = check(&node, "[node]\nkey = \"other/node.key\"\n");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("other/node.key") || said.contains("node.key"), "{said}");
}

#[tokio::test]
async fn the_log_names_every_refusal() {
    let dir = tempfile::tempdir().expect("a directory");
    let consortium = Consortium::new();
    let bank = consortium.institution("bank");
    bank.node("one").write_node_dir(dir.path());
    let config = "log.level = \"debug\"\nclient_port.handshake_timeout = \"300ms\"\n";
    let node = NodeProcess::start(dir.path(), config);
    let [channel, overlay] = [node.port("channel"), node.port("overlay")];
    let root = || consortium.root().clone();
    let stranger = Consortium::new().institution("bank");
    let names = async |words: &[&str]| {
        let line = || node.log().lines().any(|line| words.iter().all(|word| line.contains(word)));
        wait::until(&format!("a line with {words:?} in {}", node.log()), async || line()).await;
    };

    let node_leaf = bank.node("intruder");
    for (port, leaf, words) in [
        (channel, None, &["no certificate"][..]),
        (channel, Some(&node_leaf), &["CN=intruder", "its role is node", "a client certificate is needed"]),
        (channel, Some(&stranger.client("spy")), &["CN=spy", "serial", "no CA of the consortium"]),
        (channel, Some(&bank.leaf("late", "client").expired().build()), &["CN=late", "expired on"]),
        (
            overlay,
            Some(&bank.client("app")),
            &["CN=app", "its role is client", "a node certificate is needed"],
        ),
        (overlay, Some(&stranger.node("spy-node")), &["CN=spy-node", "no CA of the consortium"]),
    ] {
        let mut config = client_config(root(), leaf, &TLS13);
        if port == overlay {
            config.alpn_protocols = vec![b"amop/1".to_vec()];
        }
        assert!(is_refused(port, config).await, "{words:?}");
        names(words).await;
    }

    let _silent = TcpStream::connect(channel).await.expect("connected");
    names(&["not finished in time"]).await;

    let leaf = bank.client("odd");
    for (length, words) in [
        (0_u32, &["odd", "at least 42, this one says 0"][..]),
        (41, &["odd", "at least 42, this one says 41"]),
        (100 * 1024 * 1024 + 1, &["odd", "104857601", "104857600"]),
    ] {
        let mut client = Plain::connect(channel, &leaf, &TLS13).await;
        client.send_raw(&length.to_be_bytes()).await;
        assert!(client.is_closed().await, "{length}");
        names(words).await;
    }
}
