//! `amop bench` with real nodes: that every work measures something and says under which conditions, and that what cannot be
//! measured is refused or reported.

use std::{
    fs,
    io::Read,
    process::{Command, Stdio},
};

use amop_testkit::wait;
use serde_json::Value;

use crate::{
    cli::{amop, json_of, output},
    process::{AMOP, Devnet, address, nodes, pid, send},
};

const SHORT: [&str; 5] = ["--warm-up", "100ms", "--duration", "300ms", "--json"];

fn bench(arguments: &[&str]) -> Command {
    let mut bench = Command::new(AMOP);
    bench.arg("bench").args(arguments);
    bench
}

/// Measures on nodes of its own; what every report must have.
fn measure(arguments: &[&str]) -> Value {
    let (code, said, complaint) = output(bench(arguments));
    assert_eq!(code, 0, "{arguments:?}: {complaint}");
    let report = json_of(said.as_bytes());
    for positive in ["samples", "count", "seconds", "rate_per_s"] {
        assert!(report[positive].as_f64() > Some(0.0), "{arguments:?}: {positive}: {report}");
    }
    for zero in ["errors_total", "not_sent", "unfinished", "lost"] {
        assert_eq!(report[zero], 0, "{arguments:?}: {zero}: {report}");
    }
    let latency = |name: &str| report["latency"][name].as_f64().expect("a latency");
    let rising = ["min_us", "p50_us", "p90_us", "p99_us", "p99_9_us", "max_us"].map(latency);
    assert!(rising.is_sorted() && rising[0] > 0.0, "{arguments:?}: {report}");
    assert_eq!(report["security"]["cipher_suite"], "TLS13_AES_128_GCM_SHA256");
    assert_eq!(report["setting"]["nodes"], 2);
    if cfg!(target_os = "linux") {
        assert!(report["clients_cpu_s"].as_f64() >= Some(0.0) && report["nodes_cpu_s"].as_f64() >= Some(0.0));
    }
    report
}

fn states_its_times(report: &Value) {
    assert_eq!(
        (&report["setting"]["warm_up_s"], &report["setting"]["duration_s"]),
        (&0.1.into(), &0.3.into())
    );
}

#[test]
fn requests_are_measured_in_both_loops() {
    let report = measure(&[&["request", "--payload", "128", "--in-flight", "8"], &SHORT[..]].concat());
    states_its_times(&report);
    assert_eq!(
        (&report["setting"]["payload_bytes"], &report["setting"]["in_flight"]),
        (&128.into(), &8.into())
    );

    let dir = tempfile::tempdir().expect("a directory");
    let plot = dir.path().join("plot.svg");
    let svg = ["--svg", plot.to_str().expect("text")];
    let open = ["request", "--rate", "100", "--publishers", "2", "--subscribers", "2", "--topics", "2"];
    let report = measure(&[&open[..], &svg, &SHORT].concat());
    states_its_times(&report);
    assert_eq!(report["setting"]["asked_rate_per_s"], 100.0);
    assert!(report["samples"].as_u64() >= Some(30), "each that was due: {report}");
    let plot = fs::read_to_string(plot).expect("a plot");
    assert!(plot.starts_with("<svg") && plot.ends_with("</svg>\n"), "{plot}");
}

#[test]
fn fan_out_is_measured_at_the_subscribers() {
    let report = measure(&[&["fan-out", "--subscribers", "5"], &SHORT[..]].concat());
    states_its_times(&report);
    assert_eq!((&report["unit"], &report["setting"]["subscribers"]), (&"delivery".into(), &5.into()));
    let report = measure(&[&["fan-out", "--subscribers", "4", "--rate", "100"], &SHORT[..]].concat());
    assert!(report["samples"].as_u64() >= Some(30 * 4), "{report}");
}

#[test]
fn files_are_measured_from_disk_and_from_memory() {
    let report = measure(&["file", "--size", "2MiB", "--runs", "2", "--json"]);
    assert_eq!((&report["count"], &report["samples"]), (&(4 << 20).into(), &2.into()));
    let report = measure(&["file", "--size", "2MiB", "--memory", "--json"]);
    assert_eq!((&report["count"], &report["samples"]), (&(2 << 20).into(), &8.into()));
    assert_eq!(
        report["memory"].as_array().map(Vec::len),
        Some(if cfg!(target_os = "linux") { 2 } else { 0 })
    );
}

#[test]
fn connections_and_idle_clients_are_measured() {
    states_its_times(&measure(&[&["connect"], &SHORT[..]].concat()));
    let report = measure(&[&["idle", "--clients", "20"], &SHORT[..]].concat());
    assert_eq!((&report["count"], &report["setting"]["clients"]), (&20.into(), &20.into()));
    if cfg!(target_os = "linux") {
        assert!(report["idle"]["resident_per_client_kib"].is_number(), "{report}");
    }
}

#[test]
fn people_get_lines_and_what_to_beware_of() {
    let (code, said, noted) = output(bench(&["request", "--warm-up", "50ms", "--duration", "200ms"]));
    assert_eq!(code, 0, "{noted}");
    for words in ["closed loop: 1 in flight", "after a warm-up of 0.05 s", "p50 ", "p99.9 ", "errors    none"]
    {
        assert!(said.contains(words), "{words} in {said}");
    }
    assert!(noted.contains("debug build") || !cfg!(debug_assertions), "{noted}");
}

#[test]
fn what_cannot_be_measured_is_refused_before_anything_is_started() {
    for (arguments, words) in [
        (&["request", "--payload", "0"][..], "use 16 to 16777216"),
        (&["request", "--payload", "17MiB"], "use 16 to 16777216"),
        (&["request", "--payload", "1KB"], "such as 64KiB"),
        (&["request", "--rate", "0"], "use more than 0"),
        (&["request", "--rate=-1"], "use more than 0"),
        (&["request", "--rate", "NaN"], "use more than 0"),
        (&["fan-out", "--rate", "10", "--in-flight", "4"], "cannot be used with"),
        (&["fan-out", "--topics", "3", "--subscribers", "2"], "need as many publishers and subscribers"),
        (&["request", "--duration", "0s"], "more than nothing"),
        (&["request", "--nodes", "1"], "1 is not in 2..=100"),
        (&["request", "--nodes", "0"], "0 is not in 2..=100"),
        (&["request", "--svg", "/no/such/directory/plot.svg"], "cannot write there"),
        (&["request", "--svg", env!("CARGO_MANIFEST_DIR")], "that is a directory"),
        (&["request", "--node", "127.0.0.1:1"], "--certs"),
        (&["request", "--certs", "."], "--node"),
        (&["file", "--size", "0"], "says nothing"),
        (&["file", "--size", "1MiB", "--in-flight", "2"], "--memory"),
        (&["idle", "--clients", "0"], "0 is not in 1..=100000"),
        (&["connect", "--in-flight", "0"], "0 is not in 1..=1000"),
    ] {
        let (code, said, complaint) = output(bench(arguments));
        assert!(code != 0 && said.is_empty() && complaint.contains(words), "{arguments:?}: {complaint}");
    }
}

#[test]
fn a_disk_that_cannot_be_written_is_named() {
    let (code, _, complaint) = output(bench(&["file", "--size", "1MiB", "--dir", "/no/such/directory"]));
    assert!(code == 1 && complaint.contains("name another directory with --dir"), "{complaint}");
}

#[test]
fn the_limit_on_open_files_is_raised_or_named() {
    let limited = |limit: &str, clients: &str| {
        let mut shell = Command::new("sh");
        let script = format!("ulimit {limit} && exec \"$0\" bench idle --clients {clients} \"$@\"");
        shell.args(["-c", &script, AMOP]).args(SHORT);
        output(shell)
    };
    let (code, said, complaint) = limited("-n 300", "500");
    assert!(code == 1 && said.is_empty() && complaint.contains("need 600 open files"), "{complaint}");
    let (code, said, complaint) = limited("-Sn 100", "150");
    assert_eq!((code, &json_of(said.as_bytes())["count"]), (0, &150.into()), "{complaint}");
}

/// CPU of a process in ticks of 10 ms: it has been under load when this is many.
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    fields.filter_map(|field| field.parse::<u64>().ok()).sum()
}

/// The node processes of a bench.
fn children(parent: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("processes").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent_of = stat.rsplit(')').next().unwrap_or_default().split_whitespace().nth(1).map(str::parse);
        if parent_of == Some(Ok(parent)) {
            found.push(pid);
        }
    }
    found
}

#[test]
#[cfg(target_os = "linux")]
fn a_node_that_dies_ends_the_run_and_is_named() {
    let mut run = bench(&["request", "--duration", "10m", "--in-flight", "4", "--json"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("amop starts");
    wait::block_until("load", || ticks(run.id()) > 60);
    let nodes = children(run.id());
    assert_eq!(nodes.len(), 2, "two nodes by default");
    send("-KILL", nodes[0]);
    wait::block_until("the end", || run.try_wait().expect("a child").is_some());
    let mut complaint = String::new();
    run.stderr.take().expect("piped").read_to_string(&mut complaint).expect("text");
    assert_eq!(run.wait().expect("ended").code(), Some(1), "{complaint}");
    let words = ["has died: killed by signal 9", "while it was measured"];
    assert!(words.iter().all(|words| complaint.contains(words)), "{complaint}");
    wait::block_until("the other node's end", || !fs::exists(format!("/proc/{}", nodes[1])).expect("known"));
}

#[test]
fn a_network_that_runs_is_measured_and_what_it_loses_is_counted() {
    let devnet = Devnet::start(&["--no-demo", "--nodes", "2"]);
    let announcement = devnet.announcement();
    let to = address(&nodes(&announcement)[1], "channel").to_string();
    let to_certs = devnet.path(announcement["clients"][1]["dir"].as_str().expect("text"));
    let far = ["--to-node", &to, "--to-certs", to_certs.to_str().expect("text")];
    // They are options of `request`, so they stand behind it.
    let run = |arguments: &[&str]| {
        let near = amop(&devnet, "bench", "node-1", &[]);
        let near: Vec<&str> = near.get_args().skip(1).filter_map(|argument| argument.to_str()).collect();
        let mut run = bench(&["request", "--json"]);
        run.args(near).args(far).args(arguments);
        run
    };
    let (code, said, complaint) = output(run(&["--warm-up", "100ms", "--duration", "300ms"]));
    let report = json_of(said.as_bytes());
    assert!(code == 0 && report["samples"].as_u64() > Some(0), "{complaint}");
    assert!(report["nodes_cpu_s"].is_null() && report["security"].is_null(), "not ours: {report}");

    let mut lossy = run(&["--warm-up", "100ms", "--duration", "8s", "--in-flight", "2"]);
    let lossy = lossy.stdout(Stdio::piped()).spawn().expect("amop starts");
    wait::block_until("load", || ticks(lossy.id()) > 30 || cfg!(not(target_os = "linux")));
    send("-KILL", pid(&nodes(&announcement)[1]));
    let ended = lossy.wait_with_output().expect("ended");
    let report = json_of(&ended.stdout);
    let lost = report["errors_total"].as_u64().unwrap_or(0) + report["unfinished"].as_u64().unwrap_or(0);
    assert!(ended.status.success() && lost > 0, "{report}");
    for kind in report["errors"].as_array().expect("errors") {
        assert!(kind["code"].as_u64() >= Some(99) && kind["cause"].is_string(), "{report}");
    }
}

#[test]
fn a_node_that_is_not_there_is_an_error() {
    let devnet = Devnet::start(&["--no-demo", "--nodes", "2"]);
    let certs = devnet.path("clients/app-1");
    let place = ["--node", "127.0.0.1:1", "--certs", certs.to_str().expect("text")];
    for work in ["request", "fan-out", "idle", "file"] {
        let (code, said, complaint) = output(bench(&[&[work], &place[..]].concat()));
        assert!(
            code == 1 && said.is_empty() && complaint.contains("could not be connected"),
            "{work}: {complaint}"
        );
    }
    let (code, said, _) = output(bench(&[&["connect"], &place[..], &SHORT].concat()));
    let report = json_of(said.as_bytes());
    assert!(
        code == 1 && report["errors"][0]["cause"] == "not_connected",
        "counted, and nothing else: {report}"
    );
}
