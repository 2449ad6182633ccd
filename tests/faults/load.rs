//! Requests on a schedule, who answers them, and what became of each.
//!
//! Open loop: a request is due when its time has come, whether or not those before it have been
//! answered, and waits are counted from then. So a stall counts for everything it delays.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use amop_client::{Client, RequestError, Subscription};
use amop_testkit::wait;
use bytes::Bytes;
use futures::StreamExt;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{net::spawn, say};

/// Requests have numbers that no other request of this process has.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// What handlers have run, by the request's number.
#[derive(Clone, Default)]
pub(crate) struct Runs(Arc<Mutex<HashMap<u64, u32>>>);

/// Requests that are being sent.
pub(crate) struct Load {
    stop: CancellationToken,
    answered: Arc<AtomicU64>,
    sending: JoinHandle<Report>,
}

/// One request and what became of it.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) number: u64,
    due: Instant,
    pub(crate) ended: Instant,
    pub(crate) result: Result<(), RequestError>,
}

/// All requests of a load, every one with its outcome.
pub(crate) struct Report {
    pub(crate) sent: Vec<Sent>,
}

impl Runs {
    /// Answers every request of a new subscription with itself until its client is closed.
    pub(crate) async fn echo(&self, client: &Client, topic: &str) {
        let subscribing = wait::within("a subscription", client.subscribe(topic));
        let subscription = subscribing.await.expect("subscribed");
        assert!(subscription.is_complete(), "all nodes confirmed it");
        spawn(self.clone().serve(subscription));
    }

    async fn serve(self, mut subscription: Subscription) {
        while let Some(delivery) = subscription.next().await {
            *self.0.lock().entry(number(&delivery.payload)).or_default() += 1;
            let payload = delivery.payload.clone();
            delivery.answer(payload);
        }
    }

    /// Messages that were handled, each once.
    pub(crate) fn count(&self) -> usize {
        let runs = self.0.lock();
        let twice: Vec<_> = runs.iter().filter(|(_, runs)| **runs > 1).collect();
        assert!(twice.is_empty(), "handled more than once: {twice:?}");
        runs.len()
    }

    /// Whether a message was handled.
    pub(crate) fn has(&self, number: u64) -> bool {
        self.0.lock().contains_key(&number)
    }
}

/// A payload with a new number, and the number.
pub(crate) fn payload() -> (u64, Bytes) {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    (number, Bytes::copy_from_slice(&number.to_be_bytes()))
}

fn number(payload: &[u8]) -> u64 {
    u64::from_be_bytes(payload.try_into().expect("eight bytes"))
}

impl Load {
    /// Sends so many requests per second.
    pub(crate) fn start(client: &Client, topic: &'static str, rate: u32) -> Self {
        let stop = CancellationToken::new();
        let answered = Arc::new(AtomicU64::new(0));
        let sending = spawn(send(client.clone(), topic, rate, stop.clone(), answered.clone()));
        Self { stop, answered, sending }
    }

    /// Waits until so many more have been answered.
    pub(crate) async fn goes_on(&self, answers: u64) {
        let before = self.answered.load(Ordering::SeqCst);
        wait::until("more answers", async || self.answered.load(Ordering::SeqCst) >= before + answers).await;
    }

    /// Sends no more, and waits for what is under way.
    pub(crate) async fn end(self) -> Report {
        self.stop.cancel();
        wait::within("the last outcomes", self.sending).await.expect("no panic")
    }
}

async fn send(
    client: Client,
    topic: &'static str,
    rate: u32,
    stop: CancellationToken,
    answered: Arc<AtomicU64>,
) -> Report {
    let began = Instant::now();
    let (mut requests, mut sent) = (JoinSet::new(), Vec::new());
    for turn in 0.. {
        let due = began + Duration::from_secs(1) * turn / rate;
        if stop.run_until_cancelled(sleep_until(due)).await.is_none() {
            break;
        }
        let (client, answered) = (client.clone(), answered.clone());
        requests.spawn(async move {
            let (number, payload) = payload();
            let result = client.request(topic, payload.clone()).await;
            let ended = Instant::now();
            let result = result.map(|answer| assert_eq!(answer, payload, "another request's answer"));
            answered.fetch_add(result.is_ok().into(), Ordering::SeqCst);
            Sent { number, due, ended, result }
        });
        while let Some(ended) = requests.try_join_next() {
            sent.push(ended.expect("no panic"));
        }
    }
    sent.extend(requests.join_all().await);
    Report { sent }
}

impl Report {
    /// Those that failed, by what was said.
    pub(crate) fn failures(&self) -> BTreeMap<String, usize> {
        let mut failures = BTreeMap::new();
        for error in self.sent.iter().filter_map(|sent| sent.result.as_ref().err()) {
            *failures.entry(format!("{:?}: {error}", error.kind())).or_default() += 1;
        }
        failures
    }

    /// How many were under way at a moment.
    pub(crate) fn in_flight(&self, at: Instant) -> usize {
        self.sent.iter().filter(|sent| sent.due <= at && at < sent.ended).count()
    }

    /// The longest time from when one was due to its outcome.
    pub(crate) fn longest_wait(&self) -> Duration {
        self.sent.iter().map(|sent| sent.ended - sent.due).max().unwrap_or_default()
    }

    /// The longest time without any answer.
    pub(crate) fn longest_gap(&self) -> Duration {
        let mut answers: Vec<_> =
            self.sent.iter().filter(|sent| sent.result.is_ok()).map(|sent| sent.ended).collect();
        answers.sort_unstable();
        answers.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(Duration::MAX)
    }

    /// The time below which this share of the waits is.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let mut waits = Histogram::<u64>::new(3).expect("three digits");
        for sent in &self.sent {
            waits.record(micros(sent.ended - sent.due)).expect("it grows");
        }
        Duration::from_micros(waits.value_at_quantile(share))
    }

    /// One line of figures.
    pub(crate) fn print(&self, scenario: &str) {
        say(format_args!(
            "{scenario}: {} sent, {} failed; waits p50 {:.1?}, p99 {:.1?}, longest {:.1?}; longest time without an answer {:.1?}",
            self.sent.len(),
            self.failures().values().sum::<usize>(),
            self.quantile(0.5),
            self.quantile(0.99),
            self.longest_wait(),
            self.longest_gap(),
        ));
    }

    /// None failed, and each was handled once.
    pub(crate) fn assert_perfect(&self, runs: &Runs) {
        assert_eq!(self.failures(), BTreeMap::new());
        assert!(self.sent.iter().all(|sent| runs.has(sent.number)), "an answer, and nobody handled it");
        runs.count();
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
