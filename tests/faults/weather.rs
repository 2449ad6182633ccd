//! Lines that delay and lose.

use std::time::Duration;

use crate::{
    load::{Load, Runs},
    net::Net,
    proxy::Weather,
};

/// Requests per second, and in all.
const RATE: u32 = 100;
const REQUESTS: u64 = 600;

async fn requests_under(scenario: &str, change: impl Fn(&mut Weather)) -> crate::load::Report {
    let net = Net::ring().await;
    let (desk, till, runs) = (net.client(&[2]).await, net.client(&[0]).await, Runs::default());
    runs.echo(&desk, "t").await;
    net.lines().for_each(|line| line.change(&change));
    let load = Load::start(&till, "t", RATE);
    load.goes_on(REQUESTS).await;
    let report = load.end().await;
    report.print(scenario);
    report.assert_perfect(&runs);
    report
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lines_are_long_and_uneven() {
    let report = requests_under("all lines 40 ms and up to 20 ms more", |weather| {
        weather.delay = Duration::from_millis(40);
        weather.jitter = Duration::from_millis(20);
    })
    .await;
    // Two lines there and two back: 160 ms at least, 240 ms and what the nodes take at most.
    assert!(report.quantile(0.5) < Duration::from_millis(300));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lines_lose_packets() {
    let report = requests_under("all lines 5 ms, 2 % of packets lost", |weather| {
        weather.delay = Duration::from_millis(5);
        weather.lost_per_mille = 20;
    })
    .await;
    assert!(report.longest_wait() < Duration::from_secs(5));
}
