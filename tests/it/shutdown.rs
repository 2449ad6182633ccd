//! SIGTERM on a node while requests are in flight: every one of them has its outcome.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use amop_client::{Client, Delivery, ErrorKind, Options, RequestError};
use amop_testkit::{ca::Consortium, wait};
use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;
use tempfile::TempDir;

use crate::{
    mesh::spawn,
    process::{NodeProcess, send},
};

/// Two linked node processes: publishers at the first, a subscriber that takes its time at the second.
struct Bed {
    first: NodeProcess,
    second: NodeProcess,
    certificates: PathBuf,
    publisher: Client,
    _subscriber: Client,
    unanswered: Arc<Mutex<Vec<Delivery>>>,
    _dir: TempDir,
}

/// A client of both nodes that sends through the first. Whichever answers first is sent through.
async fn through_the_first(both: &[String; 2], certificates: &Path) -> Client {
    loop {
        let client = Client::connect(Options::new(both, certificates)).await.expect("connected");
        if client.node().is_some_and(|node| node.address == both[0]) {
            return client;
        }
    }
}

impl Bed {
    async fn new(grace: &str) -> Self {
        let consortium = Consortium::new();
        let dir = tempfile::tempdir().expect("a directory");
        let bank = consortium.institution("bank");
        let [one, two, certificates] = ["one", "two", "client"].map(|name| dir.path().join(name));
        bank.node("one").write_node_dir(&one);
        bank.node("two").write_node_dir(&two);
        bank.client("till").write_client_dir(&certificates);
        let first = NodeProcess::start(&one, &format!("shutdown.grace = \"{grace}\"\n"));
        let peers = format!("overlay.peers = [\"{}\"]\n", first.port("overlay"));
        let second = NodeProcess::start(&two, &peers);

        let both = [&first, &second].map(|node| node.port("channel").to_string());
        let publisher = through_the_first(&both, &certificates).await;
        let subscriber = Client::connect(Options::new([&both[1]], &certificates)).await.expect("connected");
        let mut subscription = subscriber.subscribe("t").await.expect("subscribed");
        wait::until("the topic", async || publisher.publish("t", "x").await.is_ok()).await;
        let unanswered = Arc::new(Mutex::new(Vec::new()));
        let taken = unanswered.clone();
        spawn(async move {
            while let Some(delivery) = subscription.next().await {
                if delivery.is_request() {
                    taken.lock().push(delivery);
                }
            }
        });
        Self { first, second, certificates, publisher, _subscriber: subscriber, unanswered, _dir: dir }
    }

    /// More requests, which have reached their subscriber and have no answer.
    async fn in_flight(&self, count: usize) -> Vec<tokio::task::JoinHandle<Result<Bytes, RequestError>>> {
        let before = self.unanswered.lock().len();
        let request = |_| {
            let publisher = self.publisher.clone();
            spawn(async move { publisher.request("t", "please").await })
        };
        let requests = (0..count).map(request).collect();
        wait::until("all requests to arrive", async || self.unanswered.lock().len() == before + count).await;
        requests
    }

    fn answer_all(&self) {
        self.unanswered.lock().drain(..).for_each(|delivery| delivery.answer("late but here"));
    }

    fn terminate_first(&self) {
        send("-TERM", self.first.child.id());
    }

    async fn drains(&self) {
        let draining = async || {
            let probe =
                Client::connect(Options::new([self.first.port("channel").to_string()], &self.certificates));
            probe.await.is_err()
        };
        wait::until("the node to take nobody any more", draining).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_in_flight_are_finished_and_the_end_is_graceful() {
    let mut bed = Bed::new("20s").await;
    let mut requests = bed.in_flight(20).await;
    bed.terminate_first();
    bed.drains().await;
    // The client sends through its other node from now on.
    requests.extend(bed.in_flight(1).await);
    bed.answer_all();
    for request in requests {
        let answer = wait::within("an outcome", request).await.expect("no panic");
        assert_eq!(answer.as_deref(), Ok(&b"late but here"[..]));
    }
    let status = tokio::task::block_in_place(|| bed.first.end());
    assert_eq!(status.code(), Some(0), "{}", bed.first.log());
    assert_eq!(bed.first.last_words(), "stopped gracefully");

    // The client has a second address and goes on there.
    let second = bed.second.port("channel").to_string();
    let moved = wait::within("a connection", bed.publisher.connected()).await.expect("not closed");
    assert_eq!(moved.address, second);
    let requests = bed.in_flight(3).await;
    bed.answer_all();
    for request in requests {
        assert!(wait::within("an outcome", request).await.expect("no panic").is_ok());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_outlast_the_grace_are_told_how_far_they_came() {
    let mut bed = Bed::new("200ms").await;
    let requests = bed.in_flight(20).await;
    bed.terminate_first();
    for request in requests {
        let error = wait::within("an outcome", request).await.expect("no panic").expect_err("no answer");
        assert_eq!((error.code(), error.kind()), (102, ErrorKind::TimedOut), "{error}");
    }
    let status = tokio::task::block_in_place(|| bed.first.end());
    assert_eq!(status.code(), Some(0), "{}", bed.first.log());
    assert!(bed.first.last_words().starts_with("stopped; sends were cut"), "{}", bed.first.last_words());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_subscribers_node_finishes_what_it_has_handed_over() {
    let mut bed = Bed::new("5s").await;
    let requests = bed.in_flight(5).await;
    send("-TERM", bed.second.child.id());
    bed.answer_all();
    for request in requests {
        let answer = wait::within("an outcome", request).await.expect("no panic");
        assert_eq!(answer.as_deref(), Ok(&b"late but here"[..]));
    }
    let status = tokio::task::block_in_place(|| bed.second.end());
    assert_eq!(status.code(), Some(0), "{}", bed.second.log());
    assert_eq!(bed.second.last_words(), "stopped gracefully");
}
