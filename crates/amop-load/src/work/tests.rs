//! The generator itself, on a system in this process that can be told to misbehave.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use super::{bulk::Bulk, connect::Connect, idle::Idle, start::Start, *};
use crate::{
    report::{Report, svg},
    system::{Cluster, Publisher, Requester, Sink, System, acknowledgement},
};

/// A system of two nodes without nodes.
#[derive(Clone, Default)]
struct Local(Arc<State>);

#[derive(Default)]
struct State {
    topics: Mutex<HashMap<String, Vec<Arc<Sink>>>>,
    faults: Faults,
    requests: AtomicU64,
    published: AtomicU64,
    /// Until when nothing is answered.
    stalled: Mutex<Option<Instant>>,
    connected: AtomicU64,
    dead: AtomicBool,
    pids: Vec<u32>,
}

/// How it misbehaves; numbers of 0 mean never.
#[derive(Clone, Copy, Default)]
struct Faults {
    /// At this request it stalls,
    stall_at: u64,
    /// for so long.
    stall: Duration,
    /// Every so many requests one fails.
    fail_each: u64,
    /// From this request on nothing is answered.
    mute_from: u64,
    /// From this message on the second subscriber gets nothing.
    lose_from: u64,
    /// With this request a node dies.
    die_at: u64,
}

impl Local {
    fn new(faults: Faults) -> Arc<Self> {
        Arc::new(Self(Arc::new(State { faults, pids: vec![std::process::id()], ..State::default() })))
    }

    fn join(&self, topic: &str, sink: Arc<Sink>) -> Connected {
        self.0.topics.lock().entry(topic.to_owned()).or_default().push(sink);
        self.connect()
    }

    fn connect(&self) -> Connected {
        self.0.connected.fetch_add(1, Ordering::Relaxed);
        Connected(self.0.clone())
    }

    fn end(&self, topic: &str) -> Line {
        Line { state: self.0.clone(), topic: topic.to_owned() }
    }
}

struct Connected(Arc<State>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connected.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Line {
    state: Arc<State>,
    topic: String,
}

impl Cluster for Local {
    type Requester = Line;
    type Publisher = Line;
    type Guard = Connected;

    fn name(&self) -> &str {
        "local"
    }

    fn servers(&self) -> &[u32] {
        &self.0.pids
    }

    fn alive(&self) -> Result<(), Failure> {
        match self.0.dead.load(Ordering::Relaxed) {
            true => Err(Failure::new("died", "node 2 was killed")),
            false => Ok(()),
        }
    }

    async fn responder(&self, _: usize, topic: &str, sink: Arc<Sink>) -> Result<Connected, Failure> {
        Ok(self.join(topic, sink))
    }

    async fn requester(&self, _: usize, topic: &str) -> Result<Line, Failure> {
        Ok(self.end(topic))
    }

    async fn subscriber(&self, _: usize, topic: &str, sink: Arc<Sink>) -> Result<Connected, Failure> {
        Ok(self.join(topic, sink))
    }

    async fn publisher(&self, _: usize, topic: &str) -> Result<Line, Failure> {
        Ok(self.end(topic))
    }

    async fn idle(&self, _: usize) -> Result<Connected, Failure> {
        Ok(self.connect())
    }
}

impl Requester for Line {
    async fn request(&self, payload: Bytes) -> Result<Bytes, Failure> {
        let (state, faults) = (&self.state, self.state.faults);
        let number = state.requests.fetch_add(1, Ordering::Relaxed) + 1;
        if number == faults.stall_at {
            *state.stalled.lock() = Some(Instant::now() + faults.stall);
        }
        if number == faults.die_at {
            state.dead.store(true, Ordering::Relaxed);
        }
        if faults.mute_from > 0 && number >= faults.mute_from {
            std::future::pending::<()>().await;
        }
        let stalled = *state.stalled.lock();
        match stalled {
            Some(until) => sleep_until(until).await,
            None => tokio::task::yield_now().await,
        }
        if faults.fail_each > 0 && number.is_multiple_of(faults.fail_each) {
            return Err(Failure::new("refused", format!("request {number} was refused")).code(101));
        }
        let sink = state.topics.lock().get(&self.topic).and_then(|sinks| sinks.first().cloned());
        sink.ok_or(Failure::new("no_subscriber", "nobody subscribed").code(100))?.deliver(&payload);
        Ok(acknowledgement(&payload))
    }
}

impl Publisher for Line {
    async fn publish(&self, payload: Bytes) -> Result<(), Failure> {
        let lose_from = self.state.faults.lose_from;
        let number = self.state.published.fetch_add(1, Ordering::Relaxed) + 1;
        let sinks = self.state.topics.lock().get(&self.topic).cloned().unwrap_or_default();
        for (subscriber, sink) in sinks.iter().enumerate() {
            if lose_from == 0 || number < lose_from || subscriber != 1 {
                sink.deliver(&payload);
            }
        }
        tokio::task::yield_now().await;
        Ok(())
    }
}

struct Starter;

impl System for Starter {
    type Cluster = Local;

    async fn start(&self) -> Result<Local, Failure> {
        Ok(Local(Local::new(Faults::default()).0.clone()))
    }
}

const ONE_CLOSED: Pacing = Pacing::Closed { in_flight: 1 };

fn traffic(pacing: Pacing) -> Traffic {
    Traffic {
        pacing,
        warm_up: Duration::ZERO,
        duration: Duration::from_millis(500),
        settle: Duration::ZERO,
        patience: Duration::from_millis(700),
        ..Traffic::default()
    }
}

async fn requests(faults: Faults, pacing: Pacing) -> Result<Report, Error> {
    requests::run(&Local::new(faults), &traffic(pacing), &Progress::default()).await
}

fn open(rate: f64, in_flight: usize) -> Pacing {
    Pacing::Open { rate, in_flight }
}

const HALF: Duration = Duration::from_millis(150);
const STALLED: Faults = Faults { stall_at: 150, stall: Duration::from_millis(300), ..NONE };
const NONE: Faults =
    Faults { stall_at: 0, stall: Duration::ZERO, fail_each: 0, mute_from: 0, lose_from: 0, die_at: 0 };

#[tokio::test(flavor = "multi_thread")]
async fn in_an_open_loop_a_stall_is_seen_by_all_that_was_due_meanwhile() {
    let report = requests(STALLED, open(1_000.0, 10_000)).await.expect("measured");
    assert_eq!((report.errors.total(), report.not_sent, report.unfinished), (0, 0, 0));
    assert_eq!(report.latencies.samples(), 500, "every message that was due");
    // 300 of 500 were due during the stall, and half of those waited for half of it at least.
    assert!(report.latencies.quantile(0.75) >= HALF, "{:?}", report.latencies);
    assert!(report.latencies.max() >= HALF * 2 - Duration::from_millis(20), "{:?}", report.latencies);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_closed_loop_a_stall_is_one_sample() {
    let report = requests(STALLED, ONE_CLOSED).await.expect("measured");
    assert!(
        report.latencies.max() >= HALF && report.latencies.quantile(0.99) < HALF,
        "{:?}",
        report.latencies
    );
    assert!(report.latencies.samples() > 1_000 && report.count > 1_000, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_and_cannot_be_sent_is_counted_and_nothing_is_left_out() {
    let faults = Faults { mute_from: 100, ..NONE };
    let report = requests(faults, open(1_000.0, 50)).await.expect("measured");
    assert!(report.not_sent > 300, "{report:?}");
    // Answered ones, those given up, and those that were not sent: all that were due.
    let all = report.latencies.samples() + report.errors.total() + report.not_sent;
    assert_eq!(all, 500, "{report:?}");
    assert!(report.warnings()[0].contains("were due and not sent"), "{:?}", report.warnings());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_an_outcome_counts_with_the_time_it_has_taken() {
    let faults = Faults { mute_from: 200, ..NONE };
    let patient = Traffic { patience: Duration::from_secs(60), ..traffic(Pacing::Closed { in_flight: 4 }) };
    let report = requests::run(&Local::new(faults), &patient, &Progress::default()).await.expect("measured");
    assert_eq!(report.unfinished, 4, "{report:?}");
    assert!(report.latencies.max() >= Duration::from_secs(5), "{:?}", report.latencies);
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_counted_by_code_and_do_not_end_the_work() {
    let report = requests(Faults { fail_each: 10, ..NONE }, ONE_CLOSED).await.expect("measured");
    let kinds = report.errors.kinds();
    assert_eq!((kinds.len(), kinds[0].code, &*kinds[0].cause), (1, Some(101), "refused"));
    assert!(kinds[0].count > 3 && kinds[0].count < 60, "after each it pauses: {kinds:?}");
    assert!(report.latencies.samples() > kinds[0].count, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_ends_the_work() {
    let faults = Faults { die_at: 50, mute_from: 50, ..NONE };
    let error = requests(faults, ONE_CLOSED).await.expect_err("it died");
    assert!(matches!(&error, Error::Died(_)), "{error}");
    assert!(error.to_string().contains("node 2 was killed"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_say_under_which_conditions_they_came_about() {
    let local = Local::new(NONE);
    let many = Traffic {
        publishers: 3,
        subscribers: 2,
        topics: 2,
        payload: 100,
        warm_up: Duration::from_millis(20),
        ..traffic(open(2_000.0, 100))
    };
    let progress = Progress::default();
    let report = requests::run(&local, &many, &progress).await.expect("measured");
    assert_eq!(local.0.connected.load(Ordering::Relaxed), 0, "all have gone");
    assert_eq!(progress.phase(), Phase::Finishing);
    let json = serde_json::to_value(&report).expect("JSON");
    assert_eq!(
        json["setting"],
        serde_json::json!({
            "payload_bytes": 100, "in_flight": 100, "asked_rate_per_s": 2000.0, "publishers": 3, "subscribers": 2,
            "topics": 2, "nodes": 2, "warm_up_s": 0.02, "duration_s": 0.5
        })
    );
    for (number, keys) in [
        (&json, &["seconds", "count", "rate_per_s", "samples"][..]),
        (
            &json["latency"],
            &["min_us", "mean_us", "p50_us", "p90_us", "p99_us", "p99_9_us", "max_us", "samples"],
        ),
        (&json["sent_late"], &["p50_us", "p99_us"]),
    ] {
        keys.iter().for_each(|key| assert!(number[key].as_f64() > Some(0.0), "{key}: {json}"));
    }
    for zero in ["errors_total", "not_sent", "unfinished", "lost"] {
        assert_eq!(json[zero], 0, "{zero}");
    }
    let text: Vec<String> =
        report.lines().into_iter().map(|(name, line)| format!("{name}: {line}")).collect();
    for words in [
        "work: request, 100 B each, open loop: 2,000 due in a second",
        "3 publishers, 2 subscribers, 2 topics",
        "after a warm-up of 0.02 s",
        "p99.9 ",
        "errors: none",
    ] {
        assert!(text.iter().any(|line| line.contains(words)), "{words} in {text:?}");
    }
    assert!(svg::plot("requests", &[("local", &report.latencies)]).contains("polyline"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fan_out_keeps_its_window_and_reaches_everybody() {
    for (in_flight, topics) in [(1, 1), (256, 2)] {
        let local = Local::new(NONE);
        let wide =
            Traffic { subscribers: 10, publishers: 2, topics, ..traffic(Pacing::Closed { in_flight }) };
        let report = fan_out::run(&local, &wide, &Progress::default()).await.expect("measured");
        assert!(report.count > 100 && report.latencies.samples() > 10, "{report:?}");
        assert_eq!((report.lost, report.errors.total()), (0, 0), "{report:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_fan_out_times_every_message_at_every_subscriber() {
    let wide = Traffic { subscribers: 5, ..traffic(open(1_000.0, 1_000)) };
    let report = fan_out::run(&Local::new(NONE), &wide, &Progress::default()).await.expect("measured");
    assert_eq!((report.latencies.samples(), report.lost), (500 * 5, 0), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_messages_end_a_window_and_are_counted_in_an_open_loop() {
    let faults = Faults { lose_from: 200, ..NONE };
    let wide = Traffic {
        subscribers: 2,
        duration: Duration::from_secs(30),
        ..traffic(Pacing::Closed { in_flight: 64 })
    };
    let error = fan_out::run(&Local::new(faults), &wide, &Progress::default()).await.expect_err("stalled");
    assert!(matches!(error, Error::Stalled { published, slowest } if published > slowest), "{error}");
    let wide = Traffic { subscribers: 2, ..traffic(open(1_000.0, 1_000)) };
    let report = fan_out::run(&Local::new(faults), &wide, &Progress::default()).await.expect("measured");
    assert!(report.lost > 200, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_amount_arrives_whole_or_says_how_far_it_came() {
    let bulk = Bulk { bytes: 10 << 20, settle: Duration::ZERO, ..Bulk::default() };
    let report = bulk::run(&Local::new(NONE), &bulk, &Progress::default()).await.expect("measured");
    assert_eq!((report.count, report.lost, report.latencies.samples()), (10 << 20, 0, 40));
    let error = bulk::run(&Local::new(Faults { fail_each: 20, ..NONE }), &bulk, &Progress::default()).await;
    assert!(matches!(error, Err(Error::Chunk { done, .. }) if done < 10 << 20), "{error:?}");
    let wrong = Bulk { bytes: 10, ..bulk };
    assert!(bulk::run(&Local::new(NONE), &wrong, &Progress::default()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_starts_and_idle_clients_are_counted() {
    let (local, progress) = (Local::new(NONE), Progress::default());
    let (warm_up, duration) = (Duration::ZERO, Duration::from_millis(50));
    let connect = Connect { at_once: 2, warm_up, duration, ..Connect::default() };
    let report = connect::run(&local, &connect, &progress).await.expect("measured");
    assert!(report.count > 0 && report.latencies.samples() > 0);

    let idle = Idle { clients: 100, settle: duration, duration, ..Idle::default() };
    let report = idle::run(&local, &idle, &progress).await.expect("measured");
    assert_eq!((report.count, report.latencies.samples()), (100, 100));
    assert_eq!(local.0.connected.load(Ordering::Relaxed), 0);
    assert_eq!(
        report.idle.is_some_and(|idle| idle.resident_per_client_kib.is_some()),
        cfg!(target_os = "linux")
    );
    assert!(idle::run(&local, &Idle { clients: 0, ..idle }, &progress).await.is_err());

    let report =
        start::run(&Starter, &Start { runs: 3, ..Start::default() }, &progress).await.expect("measured");
    assert_eq!((report.count, report.latencies.samples()), (3, 3));
}
