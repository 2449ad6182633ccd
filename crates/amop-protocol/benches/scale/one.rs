//! One node, with all others played by the bench.

use std::{
    env, fs,
    process::Command,
    time::{Duration, Instant},
};

use amop_protocol::{
    SessionId, Time,
    broker::control::{Action, Control},
    limits::GOSSIP_PERIOD,
    wire::{
        generated::{self as pb, control::Message},
        link::LinkFrame,
    },
};
use prost::Message as _;

use crate::{
    DEGREE, TOPICS,
    network::links,
    node::{client, control, id, records, topic},
};

/// What one node in a network of so many costs.
struct Cost {
    nodes: usize,
    /// Bytes.
    memory: f64,
    /// Bytes sent per period, and seconds of computing.
    sent: usize,
    computing: f64,
    /// Seconds for one change of links, with all routes worked out anew.
    routes: f64,
}

/// Measures and prints; the largest checks what the first two lead to expect.
pub fn table() {
    println!("\none node of a network, {TOPICS} topics and {DEGREE} links each\n");
    println!("| nodes | memory | bytes sent per period | computing per period | after a change of links |");
    println!("|---|---|---|---|---|");
    let costs = [100, 1_000, 3_000, 10_000].map(in_own_process);
    for cost in &costs {
        let Cost { nodes, memory, sent, computing, routes } = cost;
        let (memory, computing, routes) = (memory / 1024.0 / 1024.0, computing * 1e6, routes * 1e3);
        println!("| {nodes} | {memory:.2} MiB | {sent} | {computing:.0} µs | {routes:.2} ms |");
    }
    println!();
    forecast("memory in KiB", &costs, |cost| cost.memory / 1024.0);
    forecast("computing per period in µs", &costs, |cost| cost.computing * 1e6);
    forecast("working out routes in µs", &costs, |cost| cost.routes * 1e6);
}

/// A line through the first two, and how far from it the others lie.
fn forecast(what: &str, costs: &[Cost; 4], of: impl Fn(&Cost) -> f64) {
    let [small, large, ..] = costs;
    let slope = (of(large) - of(small)) / (large.nodes - small.nodes) as f64;
    let base = of(small) - slope * small.nodes as f64;
    let line = |nodes: usize| base + slope * nodes as f64;
    let others = costs[2..].iter().map(|cost| {
        let (expected, found) = (line(cost.nodes), of(cost));
        format!("at {} {expected:.0} expected, {found:.0} found", cost.nodes)
    });
    println!("{what} = {base:.1} + {slope:.3} × nodes: {}", others.collect::<Vec<_>>().join("; "));
}

/// In a process of its own, whose memory holds nothing else.
fn in_own_process(nodes: usize) -> Cost {
    let program = env::current_exe().expect("this program");
    let output = Command::new(program).args(["--measure", &nodes.to_string()]).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    let [memory, sent, computing, routes] = numbers[..] else { panic!("{nodes} nodes: {text}") };
    Cost { nodes, memory, sent: sent as usize, computing, routes }
}

/// What `--measure` prints: the figures of one size.
pub fn print(nodes: usize) {
    let Cost { memory, sent, computing, routes, .. } = measure(nodes);
    println!("{memory} {sent} {computing} {routes}");
}

fn measure(nodes: usize) -> Cost {
    // Small networks several times over, so that memory can be seen in the resident set.
    let copies = (30_000 / nodes).max(1);
    let linked = Linked::new(nodes);
    let before = resident();
    let mut controls: Vec<Control> = (0..copies).map(|_| joined(nodes, &linked)).collect();
    let memory = (resident() - before) as f64 / copies as f64;
    let one = &mut controls[0];
    let mut now = Time::from_start(Duration::from_secs(60));
    quiet(one);
    // The first period tidies up.
    (now, _, _) = period(one, now);
    let (now, sent, computing) = period(one, now);
    let routes = change(one, &linked, now);
    Cost { nodes, memory, sent, computing, routes }
}

/// Who is linked to whom.
struct Linked(Vec<Vec<usize>>);

impl Linked {
    fn new(nodes: usize) -> Self {
        let mut linked = vec![Vec::new(); nodes];
        links(nodes, 3).into_keys().for_each(|(a, b)| linked[a].push(b));
        Self(linked)
    }

    fn to(&self, n: usize) -> impl Iterator<Item = usize> {
        self.0[n].iter().copied()
    }
}

/// Node 0, who was told everything by its neighbours.
fn joined(nodes: usize, linked: &Linked) -> Control {
    let mut control = control(0);
    let topics = (0..TOPICS).map(|n| topic(0, n)).collect();
    control.handle_report(Time::ZERO, SessionId(1), &client(), topics);
    linked.to(0).for_each(|peer| control.handle_link_up(Time::ZERO, id(peer)));
    let from = id(linked.to(0).next().expect("a neighbour"));
    for n in 1..nodes {
        for record in records(n, linked.to(n)) {
            // As it comes off the wire: in memory of its own.
            let bytes = pb::Control { message: Some(Message::Record(record)) }.encode_to_vec();
            let message = pb::Control::decode(bytes::Bytes::from(bytes)).expect("just encoded").message;
            control.handle_message(Time::ZERO, from, message.expect("just encoded"));
        }
        quiet(&mut control);
    }
    let later = Time::from_start(Duration::from_secs(1));
    for step in 0..12 {
        control.handle_timeout(later + GOSSIP_PERIOD * step);
        quiet(&mut control);
    }
    assert_eq!(control.routing().reachable().count(), nodes);
    control
}

/// One period in which nothing changes: its own heartbeats, and those of its neighbours.
fn period(control: &mut Control, now: Time) -> (Time, usize, f64) {
    let now = now + GOSSIP_PERIOD;
    let begun = Instant::now();
    control.handle_timeout(now);
    let mut sent = Vec::new();
    while let Some(action) = control.poll_action() {
        if let Action::Send { to, message } = action {
            sent.push((to, message));
        }
    }
    let heartbeats = sent.iter().filter(|(_, message)| matches!(message, Message::Heartbeat(_))).cloned();
    for (peer, message) in heartbeats {
        let Message::Heartbeat(mut heartbeat) = message else { continue };
        heartbeat.own = None;
        control.handle_message(now, peer, Message::Heartbeat(heartbeat));
    }
    quiet(control);
    let computing = begun.elapsed().as_secs_f64();
    let bytes = sent.into_iter().map(|(_, message)| 12 + LinkFrame::control(message).payload.len());
    (now, bytes.sum(), computing)
}

/// One link of the node and a neighbour breaks; seconds until the routes are right again.
fn change(control: &mut Control, linked: &Linked, now: Time) -> f64 {
    let peer = linked.to(0).last().expect("a neighbour");
    let begun = Instant::now();
    control.handle_link_down(now, id(peer));
    begun.elapsed().as_secs_f64()
}

fn quiet(control: &mut Control) {
    while let Some(action) = control.poll_action() {
        if let Action::PeerFault { fault, .. } = action {
            panic!("an honest node is blamed: {fault}");
        }
    }
}

/// Bytes of this process in memory.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse::<usize>().ok());
    kib.unwrap_or(0) * 1024
}
