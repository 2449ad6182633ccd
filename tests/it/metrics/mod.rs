//! What `/metrics` shows: sums that come out even after real traffic, a guide that names every metric,
//! and a dashboard that asks for nothing else.

mod sums;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::Duration,
};

use amop::telemetry::client as admin;
use amop_client::RequestOptions;
use amop_protocol::wire::channel::{Encoded, Type};
use amop_testkit::wait;
use bytes::Bytes;
use serde_json::Value;

use crate::mesh::{Mesh, MeshNode, Plain, Served, Topology, message};

const BEGIN: &str = "<!-- metrics: made by the test `metrics` -->\n";
const END: &str = "<!-- end of metrics -->";

/// The series of a metric: labels and value of each.
type Samples = Vec<(BTreeMap<String, String>, f64)>;

/// A page of metrics, read.
#[derive(Default)]
struct Page {
    /// By name of the metric: what it is, and what it means.
    described: BTreeMap<String, (String, String)>,
    /// By name of the series.
    series: BTreeMap<String, Samples>,
}

impl Page {
    async fn of(node: &MeshNode) -> Self {
        let text = admin::get(node.admin(), "/metrics").await.expect("the admin port answers");
        Self::parse(std::str::from_utf8(&text).expect("text"))
    }

    fn parse(text: &str) -> Self {
        assert!(text.ends_with("# EOF\n"), "OpenMetrics ends so");
        let mut page = Self::default();
        for line in text.lines() {
            let words: Vec<&str> = line.splitn(4, ' ').collect();
            match words[..] {
                ["#", "HELP", name, help] => page.described.entry(name.into()).or_default().1 = help.into(),
                ["#", "TYPE", name, kind] => page.described.entry(name.into()).or_default().0 = kind.into(),
                ["#", ..] => {}
                _ => page.sample(line),
            }
        }
        page
    }

    fn sample(&mut self, line: &str) {
        let (series, value) = line.rsplit_once(' ').expect("a value");
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels = labels.trim_end_matches('}').split("\",").filter(|label| !label.is_empty());
        let label = |label: &str| {
            let (key, value) = label.split_once('=').expect("key=value");
            (key.to_owned(), value.trim_matches('"').to_owned())
        };
        let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
        self.series.entry(name.to_owned()).or_default().push((labels.map(label).collect(), value));
    }

    /// The sum of all series of this name.
    fn sum(&self, name: &str) -> f64 {
        self.series.get(name).unwrap_or_else(|| panic!("no {name}")).iter().map(|(_, value)| value).sum()
    }

    /// The series of this name whose cause is this one.
    fn caused(&self, name: &str, cause: &str) -> f64 {
        let of = |labels: &BTreeMap<String, String>| labels.get("cause").is_some_and(|found| found == cause);
        self.series[name].iter().filter(|(labels, _)| of(labels)).map(|(_, value)| value).sum()
    }
}

/// Three nodes in a line, the first of which is given sends of every kind that fails, and some that do not.
/// Gives the mesh and how many sends the first was given.
async fn busy() -> (Mesh, f64) {
    let mesh = Mesh::new(3, Topology::Line, |_, config| {
        config.client_port.max_in_flight = 2;
        config.delivery.min_push_timeout = Duration::from_millis(100);
        config.delivery.max_push_timeout = Duration::from_millis(100);
    })
    .await;
    let far = Served::answer(mesh.client(2).await, "far", "here").await;
    let near = Served::answer(mesh.client(0).await, "near", "here").await;
    let silent = mesh.client(1).await;
    let _unanswered = silent.subscribe("silent").await.expect("subscribed");
    let till = mesh.client(0).await;
    let mut asked = 0.0;
    for topic in ["far", "near", "nobody", "silent"] {
        for _ in 0..3 {
            let _ = wait::within("an outcome", till.request(topic, "x")).await;
            let _ = wait::within("an outcome", till.publish(topic, "x")).await;
            asked += 2.0;
        }
    }
    let hurried = RequestOptions::default().deadline(Duration::from_millis(20));
    let late = till.request_with("silent", "x", hurried);
    wait::within("an outcome", late).await.expect_err("too late");
    asked += 1.0;
    asked += refused_at_the_port(&mesh).await;
    assert!(far.handled() >= 6 && near.handled() >= 6);
    (mesh, asked)
}

/// Sends of a 2.x client that do not get as far as delivery.
async fn refused_at_the_port(mesh: &Mesh) -> f64 {
    let leaf = mesh.nodes[0].institution.client("old");
    let mut old = Plain::subscriber(mesh.nodes[0].addresses.channel, &leaf, &[]).await;
    for body in [&b""[..], b"\x03a\tb", b"\x10_block_notify_1x"] {
        let seq = old.seq();
        old.send(Encoded::new(Type::UNICAST, seq, 0, body, Bytes::new())).await;
        assert_eq!(old.receive().await.result, 100);
    }
    for _ in 0..3 {
        let seq = old.seq();
        old.send(message(Type::UNICAST, seq, "silent", "x")).await;
    }
    let mut results = Vec::new();
    for _ in 0..3 {
        results.push(wait::within("an outcome", old.receive()).await.result);
    }
    results.sort_unstable();
    assert_eq!(results, [102, 102, 103], "two in flight at a time");
    6.0
}

#[tokio::test]
async fn sends_are_the_sum_of_outcomes() {
    let (mesh, asked) = busy().await;
    let idle = async || Page::of(&mesh.nodes[0]).await.sum("amop_delivery_in_flight") == 0.0;
    wait::until("nothing to be in flight", idle).await;
    for node in &mesh.nodes {
        let page = Page::of(node).await;
        let [sends, outcomes] =
            ["amop_delivery_sends_total", "amop_delivery_outcomes_total"].map(|of| page.sum(of));
        assert_eq!(sends, outcomes, "sends = the sum of outcomes");
    }
    let page = Page::of(&mesh.nodes[0]).await;
    let refused = page.sum("amop_client_port_sends_refused_total");
    assert_eq!(page.sum("amop_delivery_sends_total") + refused, asked, "every send is counted once");
    assert_eq!(refused, 4.0);
    let refused = |cause| page.caused("amop_client_port_sends_refused_total", cause);
    assert_eq!(
        ["CAUSE_BAD_TOPIC", "CAUSE_RESERVED_TOPIC", "CAUSE_CLIENT_QUOTA"].map(refused),
        [2.0, 1.0, 1.0]
    );
    let outcome = |cause| page.caused("amop_delivery_outcomes_total", cause);
    assert_eq!(outcome("CAUSE_NO_SUBSCRIBER"), 6.0);
    assert!(outcome("CAUSE_PUSH_TIMEOUT") >= 3.0 && outcome("CAUSE_DELIVERED") >= 12.0);
}

#[tokio::test]
async fn what_is_open_is_what_came_less_what_went() {
    let (mesh, _) = busy().await;
    let even = async || {
        let page = Page::of(&mesh.nodes[0]).await;
        let [opened, closed, open] = ["opened_total", "closed_total", "open"]
            .map(|name| page.sum(&format!("amop_client_port_{name}")));
        let accepted = page.sum("amop_client_port_accepted_total");
        let [failed, refused] = ["handshakes_failed_total", "refused_total"]
            .map(|name| page.sum(&format!("amop_client_port_{name}")));
        open == opened - closed && accepted == failed + refused + opened && closed >= 1.0
    };
    wait::until("sessions to come out even", even).await;
    let page = Page::of(&mesh.nodes[1]).await;
    let [opened, closed, links] = ["links_opened_total", "links_closed_total", "links"]
        .map(|name| page.sum(&format!("amop_overlay_{name}")));
    assert_eq!((links, opened - closed), (2.0, 2.0));
    assert!(page.sum("amop_delivery_relayed_frames_total") > 0.0);
    assert_eq!((page.sum("amop_node_ready"), page.sum("amop_control_nodes")), (1.0, 3.0));
    assert!(page.sum("amop_certificates_first_expiry_timestamp_seconds") > 1e9);
    assert!(page.sum("amop_process_resident_memory_bytes") > 1e6 && page.sum("amop_tasks_alive") > 3.0);
}

/// `UPDATE_GENERATED=1 cargo test --test it metrics` writes the table anew.
#[tokio::test]
async fn operations_names_every_metric() {
    let mesh = Mesh::line(1).await;
    let page = Page::of(&mesh.nodes[0]).await;
    let mut table = "| metric | kind | labels | meaning |\n|---|---|---|---|\n".to_owned();
    for (name, (kind, help)) in &page.described {
        let series = if kind == "counter" { format!("{name}_total") } else { name.clone() };
        let series = if kind == "info" { format!("{name}_info") } else { series };
        let samples =
            page.series.get(&series).unwrap_or_else(|| panic!("{series} is described and not shown"));
        let labels: BTreeSet<&str> =
            samples.iter().flat_map(|(labels, _)| labels.keys().map(String::as_str)).collect();
        let labels: Vec<String> = labels.into_iter().map(|label| format!("`{label}`")).collect();
        let help = help.trim_end_matches('.');
        table += &format!("| `{series}` | {kind} | {} | {help} |\n", labels.join(", "));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    let document = fs::read_to_string(&path).expect("there");
    let (before, rest) = document.split_once(BEGIN).expect("a beginning");
    let (_, after) = rest.split_once(END).expect("an end");
    let fresh = format!("{before}{BEGIN}{table}{END}{after}");
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        fs::write(&path, &fresh).expect("a source tree that can be written");
        return;
    }
    assert!(document == fresh, "run UPDATE_GENERATED=1 cargo test --test it metrics");
}

#[tokio::test]
async fn names_and_labels_keep_to_the_rules() {
    let mesh = Mesh::line(1).await;
    let page = Page::of(&mesh.nodes[0]).await;
    for (name, (kind, help)) in &page.described {
        assert!(name.starts_with("amop_") && !help.is_empty(), "{name}");
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'));
        assert!(["counter", "gauge", "info", "histogram"].contains(&kind.as_str()), "{name} is a {kind}");
    }
    let closed = ["code", "cause", "reason", "limit", "outcome", "version"];
    // As many as the operator has put into the node's own files.
    let of_own_files = |name: &str, label: &str| {
        name == "amop_certificates_expiry_seconds" && ["of", "subject", "serial", "issuer"].contains(&label)
    };
    for (name, samples) in &page.series {
        for label in samples.iter().flat_map(|(labels, _)| labels.keys()) {
            assert!(
                closed.contains(&label.as_str()) || of_own_files(name, label),
                "{name} has a label {label}, which is none of the closed ones"
            );
        }
    }
}

/// What a query of a dashboard names: metrics with their matchers, and labels it groups by.
#[derive(Debug, Default, PartialEq)]
struct Query {
    metrics: Vec<(String, Vec<(String, String)>)>,
    grouped: Vec<String>,
}

/// Reads as much of PromQL as names metrics and labels.
fn parse(expression: &str) -> Query {
    let mut query = Query::default();
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut rest = expression;
    while let Some(at) = rest.find(is_word) {
        let end = rest[at..].find(|c| !is_word(c)).map_or(rest.len(), |length| at + length);
        let (word, behind) = (&rest[at..end], rest[end..].trim_start());
        rest = &rest[end..];
        if word.starts_with("amop_") {
            let matchers = behind.strip_prefix('{').and_then(|inside| inside.split_once('}'));
            let read =
                |matchers: &str| matchers.split(',').filter(|m| !m.trim().is_empty()).map(matcher).collect();
            query
                .metrics
                .push((word.to_owned(), matchers.map(|(inside, _)| read(inside)).unwrap_or_default()));
            rest = matchers.map_or(rest, |(_, after)| after);
        } else if ["by", "without", "on", "ignoring", "group_left", "group_right"].contains(&word) {
            let (inside, after) = behind.strip_prefix('(').and_then(|b| b.split_once(')')).expect("labels");
            let labels = inside.split(',').map(str::trim).filter(|label| !label.is_empty());
            query.grouped.extend(labels.map(str::to_owned));
            rest = after;
        }
    }
    query
}

/// A label and what it must be equal to; empty where that is left to a pattern or a variable.
fn matcher(text: &str) -> (String, String) {
    let at = text.find(['=', '!']).expect("an operator");
    let (label, operator) = text.split_at(at);
    let literal = operator.strip_prefix("=\"").and_then(|value| value.strip_suffix('"'));
    let literal = literal.filter(|value| !value.contains('$')).unwrap_or_default();
    (label.trim().to_owned(), literal.to_owned())
}

#[test]
fn queries_are_read() {
    let query = parse(
        "sum by (cause) (rate(amop_a_total{code!=\"0\", job=~\"$job\", x=\"y\"}[5m])) / on (instance) amop_b > 0.5",
    );
    let matchers = [("code", ""), ("job", ""), ("x", "y")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(
        query.metrics,
        [("amop_a_total".to_owned(), matchers.to_vec()), ("amop_b".to_owned(), vec![])]
    );
    assert_eq!(query.grouped, ["cause", "instance"]);
}

/// Every query in a dashboard, those of its variables included.
fn queries(of: &Value) -> Vec<(String, String)> {
    match of {
        Value::Object(fields) => {
            let title =
                fields.get("title").or(fields.get("name")).and_then(Value::as_str).unwrap_or_default();
            let own = ["expr", "query"].into_iter().filter_map(|key| fields.get(key)?.as_str());
            let own: Vec<_> = own.map(|query| (title.to_owned(), query.to_owned())).collect();
            let below = fields.values().flat_map(queries).map(|(at, query)| match at.is_empty() {
                true => (title.to_owned(), query),
                false => (at, query),
            });
            own.into_iter().chain(below).collect()
        }
        Value::Array(items) => items.iter().flat_map(queries).collect(),
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn the_dashboard_asks_for_what_is_there() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/grafana/amop.json");
    let dashboard: Value = serde_json::from_slice(&fs::read(path).expect("there")).expect("JSON");
    let (mesh, _) = busy().await;
    let page = Page::of(&mesh.nodes[0]).await;
    let queries = queries(&dashboard);
    let mut asked = BTreeSet::new();
    for (panel, text) in queries.iter().filter(|(_, text)| text.contains("amop")) {
        let query = parse(text);
        assert!(!query.metrics.is_empty(), "{panel}: {text} names no metric");
        let mut labels = BTreeSet::from(["instance", "job"]);
        for (name, matchers) in &query.metrics {
            let samples = page.series.get(name).unwrap_or_else(|| panic!("{panel}: there is no {name}"));
            labels.extend(samples.iter().flat_map(|(labels, _)| labels.keys().map(String::as_str)));
            for (label, value) in
                matchers.iter().filter(|(label, _)| !["instance", "job"].contains(&label.as_str()))
            {
                let fits = |found: &&String| value.is_empty() || *found == value;
                let found =
                    samples.iter().filter_map(|(labels, _)| labels.get(label)).any(|found| fits(&found));
                assert!(found, "{panel}: no series of {name} has {label}={value:?}");
            }
            asked.insert(name.clone());
        }
        for label in &query.grouped {
            assert!(labels.contains(label.as_str()), "{panel}: nothing in {text} has a label {label}");
        }
    }
    assert!(asked.len() > 40, "only {} metrics are shown", asked.len());
    let something =
        asked.iter().filter(|name| page.series[*name].iter().any(|(_, value)| *value != 0.0)).count();
    assert!(something > 25, "only {something} of them had anything to show after traffic");
}
