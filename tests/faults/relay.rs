//! A relay in a ring of four dies, or hangs, under load.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    load::{Load, Runs},
    net::Net,
    say,
};

/// Requests per second.
const RATE: u32 = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_relay_is_killed() {
    let mut net = Net::ring().await;
    let (desk, till, runs) = (net.client(&[2]).await, net.client(&[0]).await, Runs::default());
    runs.echo(&desk, "t").await;
    // The second time the lines are so long that requests and answers are on them.
    for (way, delay) in [("short lines", 0), ("lines of 25 ms", 25)] {
        net.lines().for_each(|line| line.change(|weather| weather.delay = Duration::from_millis(delay)));
        let load = Load::start(&till, "t", RATE);
        load.goes_on(RATE.into()).await;
        let relay = net.via(0, 2).await;
        let killed = Instant::now();
        net.nodes[relay].kill();
        load.goes_on(u64::from(RATE) * 2).await;
        net.nodes[relay].restart().await;
        let rejoined = net.linked().await;
        load.goes_on(RATE.into()).await;
        let report = load.end().await;
        let in_flight = report.in_flight(killed);
        report.print(&format!("relay killed, {way}, {in_flight} in flight, rejoined after {rejoined:.1?}"));
        report.assert_perfect(&runs);
        assert!(report.longest_wait() < Duration::from_secs(1));
        assert!(report.longest_gap() < Duration::from_secs(1));
        assert!(delay == 0 || in_flight > 0, "nothing was on its way");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_relay_hangs_and_comes_back() {
    let net = Net::ring().await;
    let (desk, till, runs) = (net.client(&[2]).await, net.client(&[0]).await, Runs::default());
    runs.echo(&desk, "t").await;
    let load = Load::start(&till, "t", RATE);
    load.goes_on(RATE.into()).await;
    let relay = net.via(0, 2).await;
    net.nodes[relay].signal("-STOP");
    let hung = Instant::now();
    net.lost_links(&[0, 2]).await;
    let noticed = hung.elapsed();
    load.goes_on(RATE.into()).await;
    let report = load.end().await;
    report.print(&format!("relay hangs, noticed after {noticed:.1?}"));
    report.assert_perfect(&runs);
    assert!(report.longest_wait() < Duration::from_secs(2), "the first way, then the other");
    assert!(noticed < Duration::from_secs(12), "silence of 10 s, and a look every few");

    // What it held all the time now goes out, and must not run again.
    let load = Load::start(&till, "t", RATE);
    net.nodes[relay].signal("-CONT");
    let rejoined = net.linked().await;
    load.goes_on(RATE.into()).await;
    let report = load.end().await;
    report.print(&format!("relay goes on, rejoined after {rejoined:.1?}"));
    report.assert_perfect(&runs);
    say(format_args!("{} messages handled, each once", runs.count()));
}
