//! The commands of a client at the terminal, against a devnet of real processes.

use std::process::{Child, Command, Output, Stdio};

use amop_testkit::wait;
use serde_json::{Value, json};

use crate::process::{AMOP, Devnet, nodes};

/// `amop` with these arguments, and what `--node` and `--certs` must be for a client of a node.
pub(crate) fn amop(devnet: &Devnet, command: &str, node: &str, arguments: &[&str]) -> Command {
    let announcement = devnet.announcement();
    let clients = announcement["clients"].as_array().expect("clients");
    let client = clients.iter().find(|client| client["node"] == node).expect("a client");
    let at = nodes(&announcement).iter().find(|known| known["name"] == node).expect("a node");
    let mut amop = Command::new(AMOP);
    amop.arg(command)
        .args(["--node", at["channel"].as_str().expect("text"), "--certs"])
        .arg(devnet.path(client["dir"].as_str().expect("text")))
        .args(arguments);
    amop
}

/// Asks a node's admin port.
fn ask(devnet: &Devnet, command: &str, node: &str, arguments: &[&str]) -> Output {
    let announcement = devnet.announcement();
    let at = nodes(&announcement).iter().find(|known| known["name"] == node).expect("a node");
    let admin = at["admin"].as_str().expect("text");
    Command::new(AMOP).args([command, "--admin", admin]).args(arguments).output().expect("amop starts")
}

pub(crate) fn output(mut amop: Command) -> (i32, String, String) {
    let output = amop.stdin(Stdio::null()).output().expect("amop starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("no signal"), text(&output.stdout), text(&output.stderr))
}

pub(crate) fn json_of(text: &[u8]) -> Value {
    serde_json::from_slice(text).unwrap_or_else(|_| panic!("{} is no JSON", String::from_utf8_lossy(text)))
}

/// A subscriber at node-3 in the background; node-1 knows of it.
fn subscriber(devnet: &Devnet, arguments: &[&str]) -> Child {
    subscriber_at(devnet, "node-3", arguments)
}

fn subscriber_at(devnet: &Devnet, node: &str, arguments: &[&str]) -> Child {
    let mut command = amop(devnet, "subscribe", node, arguments);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    wait::block_until("the subscription", || {
        let topics = json_of(&ask(devnet, "topics", "node-1", &["--json"]).stdout);
        let topics = topics.as_array().expect("a list");
        let nodes = topics.iter().filter(|topic| topic["topic"] == "greetings").map(|topic| &topic["nodes"]);
        nodes.flat_map(|nodes| nodes.as_array().expect("nodes")).any(|known| known["name"] == node)
    });
    child.expect("amop starts")
}

#[test]
fn a_message_crosses_three_nodes_at_the_terminal() {
    let devnet = Devnet::start(&["--no-demo"]);
    let listening = ["greetings", "--json", "--count", "3", "--answer", "grüezi"];
    let subscriber = subscriber(&devnet, &listening);

    let (code, said, _) = output(amop(&devnet, "request", "node-1", &["greetings", "hello", "--json"]));
    let outcome = json_of(said.as_bytes());
    assert_eq!((code, &outcome["code"], &outcome["payload"]), (0, &json!(0), &json!("grüezi")), "{said}");
    let (code, said, _) = output(amop(&devnet, "request", "node-2", &["greetings", "hello"]));
    assert!(code == 0 && said.starts_with("grüezi"), "{said}");
    let (code, said, _) = output(amop(&devnet, "publish", "node-1", &["greetings", "everybody", "--json"]));
    assert_eq!((code, &json_of(said.as_bytes())["cause"]), (0, &json!("delivered")), "{said}");

    let ended = subscriber.wait_with_output().expect("ended");
    assert_eq!(ended.status.code(), Some(0), "it ends after three messages");
    let lines: Vec<Value> =
        ended.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(json_of).collect();
    assert_eq!((&lines[0]["event"], &lines[0]["complete"]), (&json!("subscribed"), &json!(true)));
    let messages: Vec<_> = lines[1..].iter().map(|line| (&line["mode"], &line["payload"])).collect();
    assert_eq!(
        json!(messages),
        json!([["request", "hello"], ["request", "hello"], ["message", "everybody"]])
    );
    assert!(lines[1]["sender"]["institution"].is_string());
    assert_eq!(lines[1]["sender"]["fingerprint"].as_str().map(str::len), Some(64));
}

#[test]
fn an_address_decides_who_is_asked_and_a_report_says_who_was() {
    let devnet = Devnet::start(&["--no-demo"]);
    let mut subscribers =
        ["node-2", "node-3"].map(|node| subscriber_at(&devnet, node, &["greetings", "--answer", node]));
    let announcement = devnet.announcement();
    let of = |node: &str, what: &str| {
        let found = nodes(&announcement).iter().find(|known| known["name"] == node).expect("a node");
        found[what].as_str().expect("text").to_owned()
    };
    let request = |flag: &str, to: &str| {
        output(amop(&devnet, "request", "node-1", &["greetings", "hello", "--json", flag, to]))
    };
    let publish = |more: &[&str]| {
        output(amop(&devnet, "publish", "node-1", &[&["greetings", "all", "--report"], more].concat()))
    };
    let (code, said, _) = publish(&["--json"]);
    let report = &json_of(said.as_bytes())["recipients"];
    assert_eq!((code, &report["handed"], &report["failed"]), (0, &json!(2), &json!(0)), "{said}");
    for node in ["node-2", "node-3"] {
        let at = report["nodes"].as_array().expect("nodes").iter().find(|at| at["name"] == node);
        let client = &at.expect("its report")["recipients"][0];
        let fingerprint = client["fingerprint"].as_str().expect("a fingerprint");
        let (id, institution) = (of(node, "node_id"), of(node, "institution"));
        let addresses = [
            ("--to-institution", &*institution),
            ("--to-node", &id),
            ("--to-node", &id[..64]),
            ("--to-client", fingerprint),
        ];
        for (flag, to) in addresses {
            let (code, said, _) = request(flag, to);
            let payload = &json_of(said.as_bytes())["payload"];
            assert_eq!((code, payload), (0, &json!(node)), "{flag} {to}: {said}");
        }
        let (code, said, _) = publish(&["--to-node", &id]);
        assert!(code == 0 && said.contains("1 handed, 0 failed") && said.contains(node), "{said}");
    }
    let (code, said, _) = request("--to-institution", "nobody");
    assert_eq!((code, &json_of(said.as_bytes())["code"]), (100, &json!(100)), "{said}");
    for (flag, sample) in [("--to-node", "64 or 128 hex digits"), ("--to-client", "64 hex digits")] {
        let (code, _, complaint) = request(flag, "xyz");
        assert!(code == 2 && complaint.contains(sample), "{complaint}");
    }
    for subscriber in &mut subscribers {
        subscriber.kill().expect("killed");
        subscriber.wait().expect("ended");
    }
}

#[test]
fn keys_are_made_and_shown() {
    let directory = tempfile::tempdir().expect("a directory");
    let keys = |arguments: &[&str]| {
        let mut amop = Command::new(AMOP);
        amop.current_dir(directory.path()).arg("keys").args(arguments);
        output(amop)
    };
    let (code, said, complaint) = keys(&["generate", "--name", "till", "--json"]);
    assert_eq!(code, 0, "{complaint}");
    let public = json_of(said.as_bytes())["public_key"].clone();
    for (file, kind) in [("till.key", "private"), ("till.pub", "public")] {
        let (code, said, _) = keys(&["show", file, "--json"]);
        let shown = json_of(said.as_bytes());
        assert_eq!((code, &shown["kind"], &shown["public_key"]), (0, &json!(kind), &public));
    }
    let (code, said, _) = keys(&["show", "till.key"]);
    let secret = std::fs::read_to_string(directory.path().join("till.key")).expect("a key");
    let secret = secret.lines().nth(1).expect("its second line");
    assert!(code == 0 && said.contains("BEGIN PUBLIC KEY") && !said.contains(secret), "{said}");
    let (code, _, complaint) = keys(&["generate", "--name", "till"]);
    assert!(code == 1 && complaint.contains("till.key"), "{complaint}");
    let (code, _, complaint) = keys(&["show", "nowhere.key"]);
    assert!(code == 1 && complaint.contains("nowhere.key"), "{complaint}");
    let (code, _, complaint) = keys(&["generate", "--name", "other", "--format", "pkcs12"]);
    assert!(code == 2 && complaint.contains("--password-file"), "{complaint}");
}

#[test]
fn private_topics_are_for_those_with_a_key() {
    let devnet = Devnet::start(&["--no-demo"]);
    let keys = tempfile::tempdir().expect("a directory");
    let file = |name: &str| keys.path().join(name).display().to_string();
    std::fs::write(file("password"), "geheim\n").expect("written");
    for (name, format) in [("till", "pkcs12"), ("other", "pem")] {
        let mut amop = Command::new(AMOP);
        amop.current_dir(keys.path()).args(["keys", "generate", "--name", name, "--format", format]);
        amop.args(["--password-file", "password"]);
        assert_eq!(output(amop).0, 0);
    }
    let (key, password) = (file("till.p12"), file("password"));
    let listening = ["prices", "--private-key", &key, "--password-file", &password];
    let listening = [&listening[..], &["--json", "--count", "2", "--answer", "grüezi"]].concat();
    let mut command = amop(&devnet, "subscribe", "node-3", &listening);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("amop starts");

    let (public, other) = (file("till.pub"), file("other.pub"));
    let send = |command, within, keys: &[&str]| {
        let keys = keys.iter().flat_map(|key| ["--public-key", key]);
        let arguments = ["prices", "hello", "--json", "--verify-within", within].into_iter().chain(keys);
        output(amop(&devnet, command, "node-1", &arguments.collect::<Vec<_>>()))
    };
    let (code, said, complaint) = send("request", "300ms", &[&other]);
    assert_eq!((code, &json_of(said.as_bytes())["code"]), (100, &json!(100)), "{said}");
    assert!(complaint.contains("no subscriber proved"), "{complaint}");
    let (code, said, complaint) = send("request", "30s", &[&other, &public]);
    assert_eq!((code, &json_of(said.as_bytes())["payload"]), (0, &json!("grüezi")), "{said}{complaint}");
    let (code, said, complaint) = send("publish", "30s", &[&public]);
    assert_eq!((code, &json_of(said.as_bytes())["cause"]), (0, &json!("delivered")), "{said}{complaint}");
    assert_eq!(child.wait_with_output().expect("ended").status.code(), Some(0), "it ends after two messages");

    let (code, _, complaint) = send("publish", "30s", &[&key]);
    assert!(code == 1 && complaint.contains("till.p12"), "{complaint}");
    let (code, _, complaint) = output(amop(&devnet, "subscribe", "node-1", &["x", "--handshake", "2x"]));
    assert!(code == 2 && complaint.contains("--private-key"), "{complaint}");
}

#[test]
fn a_node_shows_what_it_sees() {
    let devnet = Devnet::start(&["--no-demo"]);
    let mut subscriber = subscriber(&devnet, &["greetings", "--echo"]);
    let status = json_of(&ask(&devnet, "status", "node-1", &["--json"]).stdout);
    assert_eq!(
        (&status["name"], &status["links"], &status["nodes"]),
        (&json!("node-1"), &json!(1), &json!(2))
    );
    assert_eq!(status["ready"], true);
    let peers = json_of(&ask(&devnet, "peers", "node-1", &["--json"]).stdout);
    let peers: Vec<_> = peers
        .as_array()
        .expect("a list")
        .iter()
        .map(|peer| (&peer["name"], &peer["hops"], &peer["via"]))
        .collect();
    assert_eq!(json!(peers), json!([["node-2", 1, null], ["node-3", 2, "node-2"]]));
    let topics = json_of(&ask(&devnet, "topics", "node-1", &["--json"]).stdout);
    assert_eq!(
        (&topics[0]["topic"], &topics[0]["nodes"][0]["name"]),
        (&json!("greetings"), &json!("node-3"))
    );
    for (command, words) in [("status", "ready"), ("peers", "node-3"), ("topics", "greetings")] {
        let said = ask(&devnet, command, "node-1", &[]);
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(said.status.success() && text.contains(words), "{command}: {text}");
    }
    subscriber.kill().expect("killed");
    subscriber.wait().expect("ended");
}

#[test]
fn exit_codes_say_what_happened() {
    let devnet = Devnet::start(&["--no-demo", "--nodes", "1"]);
    for command in ["request", "publish"] {
        let (code, said, _) = output(amop(&devnet, command, "node-1", &["nobody", "x", "--json"]));
        let outcome = json_of(said.as_bytes());
        assert_eq!((code, &outcome["code"], &outcome["cause"]), (100, &json!(100), &json!("no_subscriber")));
        let (code, _, complaint) = output(amop(&devnet, command, "node-1", &["nobody", "x"]));
        assert!(code == 100 && complaint.contains("nobody is subscribed"), "{complaint}");
    }
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
    let certificates = devnet.path(devnet.announcement()["clients"][0]["dir"].as_str().expect("text"));
    let certificates = certificates.to_str().expect("text");
    let elsewhere = |more: &[&str]| {
        let mut amop = Command::new(AMOP);
        amop.args(["request", "--node", &free.to_string()]).args(more);
        output(amop)
    };
    let (code, _, complaint) = elsewhere(&["--certs", certificates, "t", "x"]);
    assert!(code == 99 && complaint.contains(&free.to_string()), "{complaint}");
    let (code, _, complaint) = elsewhere(&["--certs", "/nowhere", "t", "x"]);
    assert!(code == 1 && complaint.contains("/nowhere"), "{complaint}");
    assert_eq!(elsewhere(&["t", "x"]).0, 2, "--certs is missing");
    let gone =
        Command::new(AMOP).args(["status", "--admin", &free.to_string()]).output().expect("amop starts");
    let complaint = String::from_utf8_lossy(&gone.stderr).into_owned();
    assert!(gone.status.code() == Some(1) && complaint.contains(&free.to_string()), "{complaint}");
}
