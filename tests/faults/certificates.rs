//! Certificates that change under load, and those that are revoked: three institutions with a node
//! each, in a line, whose files `amop certs` makes and replaces.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use amop::telemetry::client as admin;
use amop_client::{Client, Options};
use amop_testkit::{
    process::{NodeProcess, amop},
    wait,
};
use hdrhistogram::Histogram;
use tempfile::TempDir;
use tokio::{sync::MutexGuard, task::block_in_place};

use crate::{
    load::{Load, Runs},
    net::TURN,
    say,
};

/// Requests per second while certificates change; each has an answer that comes back the same way.
const RATE: u32 = 2_000;
/// Answers that are waited for between two changes.
const MEANWHILE: u64 = 4_000;
/// Revocations that are timed.
const TRIES: usize = 50;
/// A session of somebody who was revoked lasts no longer.
const BOUND: Duration = Duration::from_secs(5);
const NODES: usize = 3;

struct Bed {
    nodes: Vec<NodeProcess>,
    dir: TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Bed {
    async fn new() -> Self {
        let turn = TURN.lock().await;
        let dir = tempfile::tempdir().expect("a directory");
        let mut bed = Self { nodes: Vec::new(), dir, _turn: turn };
        bed.certs("ca --name trade --out @root");
        for index in 0..NODES {
            bed.certs(&format!("institution --name bank-{index} --ca @root --out @bank-{index}"));
            bed.certs(&format!("crl --institution @bank-{index} --refresh"));
            bed.certs(&format!("node --name node-{index} --institution @bank-{index} --out @node-{index}"));
        }
        let lists = (0..NODES).map(|index| bed.at(&format!("bank-{index}/institution.crl")));
        let lists: Vec<_> = lists.map(|path| path.display().to_string()).collect();
        for index in 0..NODES {
            let before = bed.nodes.last().map(|node| node.port("overlay").to_string());
            let peers: Vec<_> = before.into_iter().collect();
            let config = format!("node.crl = {lists:?}\noverlay.peers = {peers:?}\n");
            let dir = bed.at(&format!("node-{index}"));
            bed.nodes.push(block_in_place(|| NodeProcess::start(&dir, &config)));
        }
        bed.all_reach_all().await;
        bed
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs `amop certs`; `@` is the directory of the bed.
    fn certs(&self, line: &str) {
        let line = line.replace('@', &format!("{}/", self.dir.path().display()));
        let mut command = amop();
        command.arg("certs").args(line.split_whitespace());
        let output = block_in_place(|| command.output()).expect("amop runs");
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }

    async fn all_reach_all(&self) {
        for node in &self.nodes {
            let admin = node.port("admin");
            let linked = async || admin::status(admin).await.is_ok_and(|status| status.nodes == NODES - 1);
            wait::until("all nodes to reach all", linked).await;
        }
    }

    fn client_of(&self, bank: usize, name: &str) -> PathBuf {
        self.certs(&format!("client --name {name} --institution @bank-{bank} --out @{name}"));
        self.at(name)
    }

    async fn connect(&self, node: usize, certificates: &Path) -> Client {
        let address = self.nodes[node].port("channel").to_string();
        Client::connect(Options::new([address], certificates)).await.expect("a connection")
    }

    /// The value of a metric, labels included in its name.
    async fn value(&self, node: usize, name: &str) -> u64 {
        let page = admin::get(self.nodes[node].port("admin"), "/metrics").await.expect("it answers");
        let text = String::from_utf8_lossy(&page).into_owned();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name} in {text}")).parse().expect("a number")
    }

    async fn reloads(&self, node: usize) -> u64 {
        self.value(node, "amop_certificates_reloads_total{outcome=\"Changed\"}").await
    }

    /// Has files changed, and waits until all nodes have loaded them: by themselves, or told to.
    async fn reload_all(&self, told: bool, change: impl FnOnce()) {
        let mut before = Vec::new();
        for node in 0..NODES {
            before.push(self.reloads(node).await);
        }
        change();
        for (node, before) in before.into_iter().enumerate() {
            if told {
                self.nodes[node].send("-HUP");
            }
            wait::until("the new certificates", async || self.reloads(node).await > before).await;
        }
    }

    /// Makes what is in these files the CAs that all nodes and clients believe.
    fn believe(&self, roots: &[&str], clients: &[&Path]) {
        let read = |root: &&str| fs::read_to_string(self.at(root).join("ca.crt")).expect("a root");
        let text: String = roots.iter().map(read).collect();
        let nodes = (0..NODES).map(|index| self.at(&format!("node-{index}")));
        for dir in nodes.chain(clients.iter().map(|dir| dir.to_path_buf())) {
            let (whole, new) = (dir.join("ca.crt"), dir.join("ca.crt.new"));
            fs::write(&new, &text).expect("written");
            fs::rename(new, whole).expect("renamed");
        }
    }

    fn renew_nodes(&self) {
        for index in 0..NODES {
            self.certs(&format!("renew @node-{index}/node.crt --institution @bank-{index}"));
        }
    }

    /// Sessions and links that have ended so far, of all nodes.
    async fn ended(&self) -> u64 {
        let mut ended = 0;
        for node in 0..NODES {
            let admin = self.nodes[node].port("admin");
            let page = admin::get(admin, "/metrics").await.expect("it answers");
            let text = String::from_utf8_lossy(&page).into_owned();
            let names = ["amop_client_port_closed_total{", "amop_overlay_links_closed_total "];
            let lines = text.lines().filter(|line| names.iter().any(|name| line.starts_with(name)));
            ended += lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum::<u64>();
        }
        ended
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn leaf_and_ca_are_replaced_under_load() {
    let bed = Bed::new().await;
    let (till, desk) = (bed.client_of(0, "till"), bed.client_of(2, "desk"));
    let clients = [till.as_path(), desk.as_path()];
    let (subscriber, publisher, runs) =
        (bed.connect(2, &desk).await, bed.connect(0, &till).await, Runs::default());
    runs.echo(&subscriber, "t").await;
    let ended = bed.ended().await;
    let load = Load::start(&publisher, "t", RATE);
    load.goes_on(MEANWHILE).await;

    bed.reload_all(false, || bed.renew_nodes()).await;
    load.goes_on(MEANWHILE).await;

    bed.certs("ca --name trade --out @new-root");
    bed.reload_all(true, || bed.believe(&["root", "new-root"], &clients)).await;
    let renew = |index| bed.certs(&format!("renew @bank-{index}/institution.crt --ca @new-root"));
    (0..NODES).for_each(renew);
    bed.reload_all(false, || bed.renew_nodes()).await;
    load.goes_on(MEANWHILE).await;
    bed.reload_all(false, || bed.believe(&["new-root"], &clients)).await;
    load.goes_on(MEANWHILE).await;

    let report = load.end().await;
    report.print("leaf and CA replaced");
    report.assert_perfect(&runs);
    assert_eq!(bed.ended().await, ended, "no session and no link has ended");
    bed.all_reach_all().await;

    // Who comes now finds the new certificates, though its own is from before.
    let again = bed.connect(1, &bed.client_of(1, "late")).await;
    again.request("t", crate::load::payload().1).await.expect("answered");
    wait::within("a connection", bed.connect(0, &till)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sessions_of_the_revoked_end() {
    let bed = Bed::new().await;
    let mut times = Histogram::<u64>::new(3).expect("three digits");
    let mut told = 0;
    let healthy = bed.connect(0, &bed.client_of(0, "healthy")).await;
    for index in 0..TRIES {
        let certificate = bed.client_of(0, &format!("client-{index}"));
        let client = bed.connect(0, &certificate).await;
        bed.certs(&format!("revoke {}/sdk.crt --institution @bank-0", certificate.display()));
        let revoked = Instant::now();
        wait::within("the session's end", client.disconnected()).await;
        times.record(millis(revoked.elapsed())).expect("it grows");
        client.close().await;
        let address = bed.nodes[0].port("channel").to_string();
        let error = Client::connect(Options::new([address], &certificate)).await.expect_err("refused");
        // The alert may be lost when the node resets the connection behind it.
        told += usize::from(format!("{:#}", anyhow::Error::new(error)).contains("CertificateRevoked"));
    }
    assert!(healthy.node().is_some(), "who was not revoked stays");
    assert!(told * 2 > TRIES, "{told} were told why");
    print("revocation to the end of a client's session", &times);
    assert!(Duration::from_millis(times.max()) < BOUND);
    let counted = "amop_client_port_closed_total{reason=\"Untrusted\"}";
    assert_eq!(bed.value(0, counted).await, TRIES as u64);
    assert!(bed.nodes[0].log().contains("a client's certificate is no longer believed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn links_of_the_revoked_end() {
    let bed = Bed::new().await;
    let mut times = Histogram::<u64>::new(3).expect("three digits");
    let links = async |node: usize| {
        let status = admin::status(bed.nodes[node].port("admin")).await;
        status.map_or(usize::MAX, |status| status.links)
    };
    // The same CA, which has revoked nothing.
    let (bank, clean) = (bed.at("bank-2"), bed.at("clean"));
    fs::create_dir(&clean).expect("a directory");
    for name in ["institution.crt", "institution.key", "ca.crt"] {
        fs::copy(bank.join(name), clean.join(name)).expect("copied");
    }
    // Its lists have higher numbers than those that revoke, or they would not be taken.
    let refresh = || (0..2).for_each(|_| bed.certs("crl --institution @clean --refresh"));
    refresh();
    for _ in 0..TRIES {
        bed.certs("revoke @node-2/node.crt --institution @bank-2");
        let revoked = Instant::now();
        wait::until("the link's end", async || links(1).await == 1).await;
        times.record(millis(revoked.elapsed())).expect("it grows");
        refresh();
        fs::copy(clean.join("institution.crl"), clean.join("next.crl")).expect("copied");
        fs::rename(clean.join("next.crl"), bank.join("institution.crl")).expect("renamed");
        bed.nodes.iter().for_each(|node| node.send("-HUP"));
        wait::until("the link", async || links(1).await == 2).await;
    }
    print("revocation to the end of a link", &times);
    assert!(Duration::from_millis(times.max()) < BOUND);
    bed.all_reach_all().await;
    assert_eq!(links(0).await, 1, "others' links stay");
}

fn print(what: &str, times: &Histogram<u64>) {
    let [p50, p99] = [0.5, 0.99].map(|share| times.value_at_quantile(share));
    let (tries, longest) = (times.len(), times.max());
    say(format_args!("{what}: {tries} tries; p50 {p50} ms, p99 {p99} ms, longest {longest} ms"));
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}
