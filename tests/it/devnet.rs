//! `amop devnet` with real processes: what it writes, what it says, and that nothing outlives it.

use std::process::{Command, Stdio};

use amop_testkit::wait;

use crate::process::{AMOP, Devnet, address, nodes, pid, refuses, send};

#[test]
fn a_devnet_says_who_there_is_and_ends_as_one() {
    let mut devnet = Devnet::start(&["--no-demo"]);
    let announcement = devnet.announcement();
    let names: Vec<&str> = nodes(&announcement).iter().filter_map(|node| node["name"].as_str()).collect();
    assert_eq!(names, ["node-1", "node-2", "node-3"]);
    for node in nodes(&announcement) {
        let id = node["node_id"].as_str().expect("text");
        assert!(id.len() == 128 && id.bytes().all(|digit| digit.is_ascii_hexdigit()), "{id}");
        assert!(devnet.path(node["config"].as_str().expect("text")).exists());
        for port in ["channel", "overlay", "admin"] {
            assert!(address(node, port).ip().is_loopback());
        }
        assert!(!refuses(address(node, "admin")));
    }
    for client in announcement["clients"].as_array().expect("clients") {
        assert!(names.contains(&client["node"].as_str().expect("text")));
        assert!(devnet.path(client["dir"].as_str().expect("text")).join("sdk.key").exists());
    }

    assert_eq!(devnet.stop("-INT").code(), Some(0), "{}", devnet.output());
    for node in nodes(&announcement) {
        assert!(refuses(address(node, "admin")), "{} is still there", node["name"]);
    }
}

#[test]
fn a_node_that_dies_is_named_and_comes_back_by_hand() {
    let mut devnet = Devnet::start(&["--no-demo", "--nodes", "2"]);
    let announcement = devnet.announcement();
    let second = &nodes(&announcement)[1];
    send("-KILL", pid(second));
    devnet.wait_for_output("node-2 has died: killed by signal 9");
    devnet.wait_for_output("node --config");

    let config = devnet.path(second["config"].as_str().expect("text"));
    let mut by_hand = Command::new(AMOP)
        .args(["node", "--config"])
        .arg(config)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("amop starts");
    wait::block_until("the node by hand", || !refuses(address(second, "admin")));
    assert_eq!(devnet.stop("-TERM").code(), Some(0), "{}", devnet.output());
    assert!(by_hand.try_wait().expect("a child").is_none(), "it is no child of the devnet");
    send("-TERM", by_hand.id());
    assert!(by_hand.wait().expect("ended").success());
}

#[test]
fn nodes_end_with_a_devnet_that_is_killed() {
    let mut devnet = Devnet::start(&["--no-demo", "--nodes", "2", "--topology", "full"]);
    let announcement = devnet.announcement();
    devnet.stop("-KILL");
    for node in nodes(&announcement) {
        wait::block_until("a node's end", || refuses(address(node, "admin")));
    }
}

#[test]
fn what_cannot_be_is_refused_in_plain_words() {
    for (arguments, words) in [
        (&["--profile", "fisco"][..], "possible values: default, fisco-rsa, fisco-ec"),
        (&["--base-port", "65000"], "leaves no room"),
        (&["--nodes", "0"], "0 is not in 1..=100"),
        (&["--dir", env!("CARGO_MANIFEST_DIR"), "--base-port", "0"], "choose an empty or new directory"),
    ] {
        let output = Command::new(AMOP).arg("devnet").args(arguments).output().expect("amop starts");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(words), "{arguments:?}: {text}");
    }
}
