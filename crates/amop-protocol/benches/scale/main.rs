//! How gossip grows with the network: bytes, time to converge, memory and computing time per node.
//!
//! `cargo bench -p amop-protocol --bench scale`. Two kinds of runs, both of the core's control
//! machine without IO and with signatures that cost nothing:
//!
//! - *networks*: all nodes, linked at random, on a virtual clock with 1 to 20 ms per link;
//! - *one node*, neighbours and all others played by the bench: so a network may have 10,000.
//!
//! `-- --nodes N` runs only a network of N nodes, `-- --heal` only the healing of one that was cut,
//! `-- --one` only the one node.

#![expect(unreachable_pub, clippy::print_stdout, reason = "a program that prints tables")]
#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "what it takes is measured")]

mod network;
mod node;
mod one;

use std::{env, time::Duration};

use self::network::Network;

/// Topics of each node.
const TOPICS: usize = 20;
/// Links of each node, on average.
const DEGREE: usize = 6;

fn main() {
    let args: Vec<String> = env::args().collect();
    let number = |name| args.iter().skip_while(|arg| *arg != name).nth(1).and_then(|n| n.parse().ok());
    if let Some(nodes) = number("--measure") {
        return one::print(nodes);
    }
    let only = number("--nodes");
    let wanted = |part: &str| {
        let parts = ["--nodes", "--heal", "--one"];
        args.iter().any(|arg| arg == part) || !args.iter().any(|arg| parts.contains(&arg.as_str()))
    };
    if wanted("--nodes") {
        networks(only.map_or(vec![100, 300, 1_000], |n| vec![n]));
    }
    if wanted("--heal") {
        println!(
            "\nhealing of 50 nodes, cut in two halves\n\n| cut for | all tables agree after |\n|---|---|"
        );
        [10, 60, 120].into_iter().for_each(heal);
    }
    if wanted("--one") {
        one::table();
    }
}

fn networks(sizes: Vec<usize>) {
    println!("networks of nodes with {TOPICS} topics and {DEGREE} links each\n");
    println!(
        "| nodes | formed after | bytes per node and period | one change known after | bytes for it per \
         node | computing per node and period |\n|---|---|---|---|---|---|"
    );
    sizes.into_iter().for_each(network);
}

fn network(nodes: usize) {
    let mut network = Network::new(nodes, 1);
    let formed = network.form();
    network.pass(Duration::from_secs(20));
    let steady = network.period();
    let change = network.change();
    println!(
        "| {nodes} | {:.0} ms | {:.0} | {:.0} ms | {:.0} | {:.0} µs |",
        millis(formed),
        steady.bytes / nodes as f64,
        millis(change.time),
        change.bytes / nodes as f64,
        steady.computing.as_secs_f64() * 1e6 / nodes as f64,
    );
}

fn heal(seconds: u64) {
    let mut network = Network::new(50, 2);
    network.form();
    network.cut();
    network.pass(Duration::from_secs(seconds));
    (0..50).for_each(|node| network.subscribe(node, TOPICS + 1));
    network.pass(Duration::from_secs(5));
    println!("| {} s | {:.0} ms |", seconds + 5, millis(network.heal()));
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
