//! Clients that do nothing wrong, and how long they wait.

use std::time::{Duration, Instant};

use amop_client::{Client, Subscription};
use futures::{FutureExt, StreamExt, future::Either, stream::FuturesUnordered};
use hdrhistogram::Histogram;
use tokio::time::{Instant as TokioInstant, sleep_until};

use crate::{net::Net, plain::Plain};

/// One request is sent each so often, whether earlier ones are answered or not.
const PERIOD: Duration = Duration::from_millis(10);
/// What a request carries.
const PAYLOAD: &[u8] = &[b'x'; 128];

/// A publisher at the attacked node, and a subscriber at each node.
pub(crate) struct Pairs {
    till: Client,
    near: Subscription,
    far: Subscription,
}

/// What they met with.
#[derive(Debug)]
pub(crate) struct Measured {
    /// Microseconds from when a request was due to its answer.
    requests: Histogram<u64>,
    /// The same for connecting and having a topic in force.
    newcomers: Histogram<u64>,
    pub(crate) failures: Vec<String>,
}

impl Pairs {
    pub(crate) async fn connect(net: &Net) -> Self {
        let near = net.client(0).await.subscribe("near").await.expect("subscribed");
        let far = net.client(1).await.subscribe("far").await.expect("subscribed");
        Self { till: net.client(0).await, near, far }
    }

    /// So many requests on schedule, alternately near and far, and newcomers one after the other.
    pub(crate) async fn measure(&mut self, net: &Net, requests: u32) -> Measured {
        let histogram = || Histogram::new_with_bounds(1, 60_000_000, 3).expect("up to a minute");
        let mut measured = Measured { requests: histogram(), newcomers: histogram(), failures: Vec::new() };
        let began = Instant::now();
        let mut pending = FuturesUnordered::new();
        let mut sent = 0;
        let mut newcomer = Box::pin(come_anew(net));
        while sent < requests || !pending.is_empty() {
            let due = began + PERIOD * sent;
            let schedule = match sent < requests {
                true => Either::Left(sleep_until(TokioInstant::from_std(due))),
                false => Either::Right(futures::future::pending()),
            };
            tokio::select! {
                biased;
                () = schedule => {
                    let topic = if sent % 2 == 0 { "near" } else { "far" };
                    pending.push(self.till.request(topic, PAYLOAD).map(move |result| (due, topic, result)));
                    sent += 1;
                }
                Some((due, topic, result)) = pending.next() => {
                    record(&mut measured.requests, due);
                    if let Err(error) = result {
                        measured.failures.push(format!("a request to {topic}: {error}"));
                    }
                }
                Some(delivery) = self.near.next() => { let payload = delivery.payload.clone(); delivery.answer(payload) }
                Some(delivery) = self.far.next() => { let payload = delivery.payload.clone(); delivery.answer(payload) }
                began = &mut newcomer => {
                    record(&mut measured.newcomers, began);
                    newcomer = Box::pin(come_anew(net));
                }
            }
        }
        // One that still waits counts too, however long it takes.
        record(&mut measured.newcomers, newcomer.await);
        measured
    }
}

/// Connects, has a topic in force at the node, and leaves. What other nodes say to it is not waited for.
async fn come_anew(net: &Net) -> Instant {
    let began = Instant::now();
    Plain::subscriber(net.nodes[0].port("channel"), &net.newcomer, &["newcomer"]).await;
    began
}

fn record(histogram: &mut Histogram<u64>, since: Instant) {
    let waited = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
    histogram.saturating_record(waited);
}

impl Measured {
    /// Milliseconds that 99 of 100 requests took at most.
    pub(crate) fn p99(&self) -> f64 {
        self.requests.value_at_quantile(0.99) as f64 / 1e3
    }

    /// Milliseconds of the longest request, and of the newcomer that took longest.
    pub(crate) fn longest(&self) -> [f64; 2] {
        [&self.requests, &self.newcomers].map(|histogram| histogram.max() as f64 / 1e3)
    }
}
