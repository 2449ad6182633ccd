//! What a mesh costs: real processes of a devnet, real TLS, asked through the SDK.
//!
//! `cargo bench --bench mesh` prints a table, `cargo bench --bench mesh -- --json` one JSON object
//! per figure. Times are measured where the user sees them: at the call of the SDK.
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use amop_client::{Client, Compatibility, Options, PrivateKey, Subscription};
use amop_testkit::wait;
use futures::StreamExt;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tempfile::TempDir;

const STARTS: usize = 20;
const SUBSCRIPTIONS: usize = 100;
const WARM_UP: usize = 2_000;
const REQUESTS: usize = 20_000;
/// How long nodes are left alone before their memory is read.
const IDLE: Duration = Duration::from_secs(30);
/// From one attempt to reach a fresh topic to the next; also the resolution of that figure.
const RETRY: Duration = Duration::from_millis(1);
/// Largest value that is told apart from larger ones: ten minutes in microseconds.
const MOST: u64 = 600_000_000;

fn main() -> anyhow::Result<()> {
    let as_json = std::env::args().any(|argument| argument == "--json");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if !as_json {
        println!("{:<58} {:>6} {:>10} {:>10} {:>10} {:>10}", "FIGURE", "N", "P50", "P99", "MAX", "TARGET");
    }
    let report =
        |figure: Figure| if as_json { println!("{}", figure.json()) } else { println!("{}", figure.line()) };
    runtime.block_on(async {
        report(starts().await?);
        report(fresh_topics().await?);
        let devnet = Devnet::start(3);
        for payload in [128, 1024] {
            report(round_trips(&devnet, payload).await?);
        }
        report(private_topics(&devnet).await?);
        drop(devnet);
        report(memory().await);
        anyhow::Ok(())
    })
}

/// A figure: values in microseconds, or KiB of memory.
struct Figure {
    name: String,
    unit: Unit,
    values: Histogram<u64>,
    /// Which value the target is for, and the target.
    target: Option<(f64, u64)>,
}

#[derive(Clone, Copy)]
enum Unit {
    Micros,
    KiB,
}

impl Figure {
    fn new(name: impl Into<String>, unit: Unit, target: Option<(f64, u64)>) -> Self {
        let values =
            Histogram::new_with_bounds(1, MOST, 3).expect("invariant: bounds and digits are allowed");
        Self { name: name.into(), unit, values, target }
    }

    fn record(&mut self, value: u64) {
        self.values.saturating_record(value);
    }

    fn took(&mut self, time: Duration) {
        self.record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    fn line(&self) -> String {
        let show = |value: u64| match self.unit {
            Unit::Micros if value < 10_000 => format!("{value} µs"),
            Unit::Micros => format!("{:.1} ms", value as f64 / 1e3),
            Unit::KiB => format!("{:.1} MiB", value as f64 / 1024.0),
        };
        let target = match self.target {
            Some((quantile, most)) if self.values.value_at_quantile(quantile) > most => {
                format!("{} MISSED", show(most))
            }
            Some((_, most)) => format!("≤ {}", show(most)),
            None => "-".into(),
        };
        format!(
            "{:<58} {:>6} {:>10} {:>10} {:>10} {:>10}",
            self.name,
            self.values.len(),
            show(self.values.value_at_quantile(0.5)),
            show(self.values.value_at_quantile(0.99)),
            show(self.values.max()),
            target
        )
    }

    fn json(&self) -> Value {
        let unit = match self.unit {
            Unit::Micros => "us",
            Unit::KiB => "KiB",
        };
        json!({
            "figure": self.name,
            "unit": unit,
            "n": self.values.len(),
            "min": self.values.min(),
            "p50": self.values.value_at_quantile(0.5),
            "p90": self.values.value_at_quantile(0.9),
            "p99": self.values.value_at_quantile(0.99),
            "max": self.values.max(),
            "target": self.target.map(|(quantile, most)| json!({ "quantile": quantile, "most": most })),
        })
    }
}

/// From the start of `amop devnet`, certificates included, to an answer across all three nodes.
async fn starts() -> anyhow::Result<Figure> {
    let mut figure =
        Figure::new("devnet of 3: start to first answer across all", Unit::Micros, Some((1.0, 2_000_000)));
    for _ in 0..STARTS {
        let began = Instant::now();
        let devnet = Devnet::start(3);
        let server = devnet.client("node-3").await?;
        serve(server.subscribe("first").await?);
        let asking = devnet.client("node-1").await?;
        wait::until("the first answer", async || asking.request("first", "hello").await.is_ok()).await;
        figure.took(began.elapsed());
    }
    Ok(figure)
}

/// From subscribing to a private topic to the first message, encrypted, over a relay.
async fn private_topics(devnet: &Devnet) -> anyhow::Result<Figure> {
    let name = "private topic across 3: subscription to first message";
    let mut figure = Figure::new(name, Unit::Micros, Some((0.99, 300_000)));
    let (publisher, subscriber) = (devnet.client("node-1").await?, devnet.client("node-3").await?);
    let how = Compatibility::Version2;
    for number in 0..SUBSCRIPTIONS {
        let (topic, key) = (format!("private-{number}"), PrivateKey::generate()?);
        let private = publisher.private_topic(&topic, [key.public()], how).await?;
        let first = async {
            private.verified().await;
            private.publish("first").await
        };
        let receive = async {
            let mut subscription = subscriber.subscribe_private(&topic, key, how).await?;
            let first = subscription.next().await;
            anyhow::ensure!(
                first.is_some_and(|delivery| &delivery.payload[..] == b"first"),
                "another message"
            );
            anyhow::Ok(())
        };
        let began = Instant::now();
        let (sent, received) = tokio::join!(first, async { (receive.await, began.elapsed()) });
        sent?;
        received.0?;
        figure.took(received.1);
    }
    Ok(figure)
}

/// Resident memory of nodes that have been linked and left alone.
async fn memory() -> Figure {
    let devnet = Devnet::start(3);
    tokio::time::sleep(IDLE).await;
    let name = format!("resident memory of each node of 3, idle for {} s", IDLE.as_secs());
    let mut figure = Figure::new(name, Unit::KiB, Some((1.0, 25 * 1024)));
    for node in devnet.nodes() {
        figure.record(resident_kib(&node["pid"]));
    }
    figure
}

fn resident_kib(pid: &Value) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("Linux, and a running node");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// From the call of `subscribe` with a topic nobody had, at one end of a line of five, to the
/// first answer to a request from the other end, which is retried all the while.
async fn fresh_topics() -> anyhow::Result<Figure> {
    let devnet = Devnet::start(5);
    let name = "line of 5: subscribe to first answer from the other end";
    let mut figure = Figure::new(name, Unit::Micros, Some((0.99, 250_000)));
    let (server, asking) = (devnet.client("node-5").await?, devnet.client("node-1").await?);
    for number in 0..SUBSCRIPTIONS {
        let topic = format!("fresh/{number}");
        let began = Instant::now();
        let serve = async {
            if let Ok(subscription) = server.subscribe(&topic).await {
                answer_all(subscription).await;
            }
        };
        let reached = async {
            while asking.request(&topic, "hello").await.is_err() {
                tokio::time::sleep(RETRY).await;
            }
            began.elapsed()
        };
        tokio::select! {
            () = serve => anyhow::bail!("the subscription has ended"),
            took = wait::within("an answer", reached) => figure.took(took),
        }
    }
    Ok(figure)
}

/// Requests across three nodes, one at a time.
async fn round_trips(devnet: &Devnet, payload: usize) -> anyhow::Result<Figure> {
    let mut figure =
        Figure::new(format!("line of 3: request and answer of {payload} B, 1 in flight"), Unit::Micros, None);
    let (server, asking) = (devnet.client("node-3").await?, devnet.client("node-1").await?);
    let topic = format!("echo/{payload}");
    serve(server.subscribe(&topic).await?);
    for number in 0..WARM_UP + REQUESTS {
        let began = Instant::now();
        asking.request(&topic, vec![7; payload]).await?;
        if number >= WARM_UP {
            figure.took(began.elapsed());
        }
    }
    Ok(figure)
}

fn serve(subscription: Subscription) {
    #[expect(clippy::disallowed_methods, reason = "it ends with its client")]
    tokio::spawn(answer_all(subscription));
}

async fn answer_all(mut subscription: Subscription) {
    while let Some(delivery) = subscription.next().await {
        let payload = delivery.payload.clone();
        delivery.answer(payload);
    }
}

/// A running devnet without demo, on free ports.
struct Devnet {
    child: Child,
    announcement: Value,
    dir: TempDir,
}

impl Devnet {
    fn start(nodes: usize) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let child = Command::new(env!("CARGO_BIN_EXE_amop"))
            .args(["devnet", "--no-demo", "--base-port", "0", "--nodes", &nodes.to_string(), "--dir"])
            .arg(net(dir.path()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("amop starts");
        let announcement = net(dir.path()).join("devnet.json");
        wait::block_until("the devnet", || announcement.exists());
        let announcement = fs::read(announcement).expect("there");
        Self { child, announcement: serde_json::from_slice(&announcement).expect("JSON"), dir }
    }

    fn nodes(&self) -> &[Value] {
        self.announcement["nodes"].as_array().expect("nodes")
    }

    async fn client(&self, node: &str) -> anyhow::Result<Client> {
        let clients = self.announcement["clients"].as_array().expect("clients");
        let client = clients.iter().find(|client| client["node"] == node).expect("a client");
        let at = self.nodes().iter().find(|known| known["name"] == node).expect("a node");
        let certificates = net(self.dir.path()).join(client["dir"].as_str().expect("text"));
        Ok(Client::connect(Options::new([at["channel"].as_str().expect("text")], certificates)).await?)
    }
}

impl Drop for Devnet {
    fn drop(&mut self) {
        // In order, so that its nodes are gone before the next one is measured.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

fn net(dir: &Path) -> PathBuf {
    dir.join("net")
}
