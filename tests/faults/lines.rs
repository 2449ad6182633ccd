//! Lines that swallow everything while their ends believe they are up, and lines that are cut.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    load::{Load, Runs},
    net::Net,
    proxy::Weather,
};

/// Requests per second.
const RATE: u32 = 100;

/// Blocks the publisher's line to the relay in use, as `block` says, until both ends have given it
/// up; then opens it. The flag says whether the publisher's node dialled the line.
async fn a_line_is_blocked(scenario: &str, block: impl Fn(&mut Weather, bool)) {
    let net = Net::ring().await;
    let (desk, till, runs) = (net.client(&[2]).await, net.client(&[0]).await, Runs::default());
    runs.echo(&desk, "t").await;
    let load = Load::start(&till, "t", RATE);
    load.goes_on(RATE.into()).await;
    let relay = net.via(0, 2).await;
    let (line, dialled) = net.between(0, relay);
    line.change(|weather| block(weather, dialled));
    let blocked = Instant::now();
    net.lost_links(&[0]).await;
    let noticed = blocked.elapsed();
    load.goes_on(RATE.into()).await;
    line.change(|weather| *weather = Weather::default());
    let healed = net.linked().await;
    load.goes_on(RATE.into()).await;
    let report = load.end().await;
    report.print(&format!("{scenario}, noticed after {noticed:.1?}, up again after {healed:.1?}"));
    report.assert_perfect(&runs);
    assert!(report.longest_wait() < Duration::from_secs(2), "the first way, then the other");
    assert!(noticed < Duration::from_secs(12), "silence of 10 s, and a look every few");
    assert!(healed < Duration::from_secs(6), "the dialler tries again every second");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_line_is_blocked_both_ways() {
    a_line_is_blocked("line blocked both ways", |weather, _| {
        (weather.blocked_there, weather.blocked_back) = (true, true);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_line_is_blocked_away_from_the_publisher() {
    a_line_is_blocked("line blocked away from the publisher", |weather, dialled| {
        (weather.blocked_there, weather.blocked_back) = (dialled, !dialled);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_line_is_blocked_towards_the_publisher() {
    a_line_is_blocked("line blocked towards the publisher", |weather, dialled| {
        (weather.blocked_there, weather.blocked_back) = (!dialled, dialled);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lines_are_cut_again_and_again() {
    let net = Net::ring().await;
    let (desk, till, runs) = (net.client(&[2]).await, net.client(&[0]).await, Runs::default());
    runs.echo(&desk, "t").await;
    let load = Load::start(&till, "t", RATE);
    for line in (0..4).chain(0..4) {
        load.goes_on(50).await;
        net.cut(line).await;
        net.linked().await;
    }
    load.goes_on(50).await;
    let report = load.end().await;
    report.print("each line cut twice");
    report.assert_perfect(&runs);
    assert!(report.longest_wait() < Duration::from_secs(1));
}
