//! All nodes are restarted, or upgraded, one after the other, under load, with clients that list two nodes each.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use amop_testkit::{process::amop, wait};

use crate::{
    load::{Load, Runs},
    net::Net,
};

/// Requests per second.
const RATE: u32 = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_nodes_are_restarted() {
    one_after_the_other("rolling restart", amop().get_program().as_ref()).await;
}

/// From this version to the next: in between, nodes of both are linked.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_nodes_are_upgraded() {
    let next = tokio::task::block_in_place(next_version);
    let net = one_after_the_other("rolling upgrade", &next).await;
    let spoken = |node: usize| -> Vec<u64> { net.nodes[node].versions_spoken().collect() };
    // Each node's log begins when it was upgraded; of its two neighbours one came before it, the other after, but for
    // the first and the last.
    assert!(spoken(0).contains(&1) && spoken(0).contains(&2), "{:?}", spoken(0));
    assert!(spoken(3).iter().all(|version| *version == 2), "{:?}", spoken(3));
}

async fn one_after_the_other(scenario: &str, program: &Path) -> Net {
    let mut net = Net::ring().await;
    let (desk, till, runs) = (net.client(&[2, 3]).await, net.client(&[0, 1]).await, Runs::default());
    runs.echo(&desk, "t").await;
    let load = Load::start(&till, "t", RATE);
    for node in 0..4 {
        load.goes_on(u64::from(RATE) * 2).await;
        net.nodes[node].stop();
        net.nodes[node].restart_as(Command::new(program)).await;
        net.linked().await;
        for client in [&desk, &till] {
            wait::within("a connection", client.connected()).await.expect("not closed");
        }
    }
    load.goes_on(u64::from(RATE) * 2).await;
    let report = load.end().await;
    report.print(scenario);
    report.assert_perfect(&runs);
    net
}

/// Builds the program that is one version ahead; a minute or two the first time, because tests use some libraries with
/// more features.
fn next_version() -> PathBuf {
    let current = PathBuf::from(amop().get_program());
    let mut build = Command::new(env!("CARGO"));
    build.args([
        "build",
        "--locked",
        "--package",
        "amop",
        "--bin",
        "amop-next",
        "--features",
        "next-version",
    ]);
    if current.parent().is_some_and(|profile| profile.ends_with("release")) {
        build.arg("--release");
    }
    let built = build.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo runs");
    assert!(built.success(), "the next version does not build");
    current.with_file_name("amop-next")
}
