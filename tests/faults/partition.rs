//! The ring falls in two for a minute, and heals.

use std::time::Duration;

use amop_client::{Client, RequestError, RequestOptions};
use amop_protocol::Cause;
use amop_testkit::wait;
use tokio::time::{Instant, sleep_until};

use crate::{
    load::{Load, Runs, payload},
    net::Net,
    say,
};

/// How long it lasts.
const PARTITION: Duration = Duration::from_secs(60);
/// Two gossip periods.
const KNOWN_EVERYWHERE: Duration = Duration::from_secs(10);
/// Requests per second on each side.
const RATE: u32 = 25;

/// What is asked across the partition; none of it must ever be handled.
struct Across {
    till: Client,
    numbers: Vec<u64>,
}

impl Across {
    async fn request(&mut self, deadline: u64) -> RequestError {
        let (number, payload) = payload();
        self.numbers.push(number);
        let options = RequestOptions::default().deadline(Duration::from_secs(deadline));
        let request = self.till.request_with("far", payload, options);
        wait::within("an outcome", request).await.expect_err("nobody reaches it")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_partition_of_a_minute() {
    let net = Net::ring().await;
    let [left, right] = [net.client(&[0]).await, net.client(&[3]).await];
    let [near_left, near_right] = [net.client(&[1]).await, net.client(&[2]).await];
    let (runs, far) = (Runs::default(), net.client(&[2]).await);
    runs.echo(&near_left, "both").await;
    runs.echo(&near_right, "both").await;
    runs.echo(&far, "far").await;
    let old = [subscribed(&left, "old-left").await, subscribed(&right, "old-right").await];

    let sides = [Load::start(&left, "both", RATE), Load::start(&right, "both", RATE)];
    let began = Instant::now();
    for (one, other) in [(0, 3), (1, 2)] {
        net.between(one, other).0.change(|weather| {
            (weather.blocked_there, weather.blocked_back) = (true, true);
        });
    }
    // Nobody knows yet. The request goes out again and again, and its deadline comes.
    let mut across = Across { till: left.clone(), numbers: Vec::new() };
    let error = across.request(3).await;
    assert_eq!((error.code(), error.cause()), (100, Cause::Unreachable), "{error}");
    net.lost_links(&[0, 1, 2, 3]).await;
    let noticed = began.elapsed();
    // Now it is known, and said at once.
    let asked = Instant::now();
    let error = across.request(30).await;
    assert_eq!((error.code(), error.cause()), (100, Cause::Unreachable), "{error}");
    let error = wait::within("an outcome", left.publish("far", payload().1)).await.expect_err("nobody");
    assert_eq!((error.code(), error.cause()), (100, Cause::Unreachable), "{error}");
    assert!(asked.elapsed() < Duration::from_secs(1));

    drop(old);
    let new = [subscribed(&left, "new-left").await, subscribed(&right, "new-right").await];
    sleep_until(began + PARTITION).await;
    net.lines().for_each(|line| line.change(|weather| *weather = Default::default()));
    let healed = Instant::now();
    for node in &net.nodes {
        let right_topics = async || {
            node.knows("new-left").await
                && node.knows("new-right").await
                && !node.knows("old-left").await
                && !node.knows("old-right").await
        };
        wait::until("the topics of both sides", right_topics).await;
    }
    let known = healed.elapsed();
    net.linked().await;
    for side in &sides {
        side.goes_on(u64::from(RATE) * 2).await;
    }
    let answer = wait::within("an answer", left.request("far", payload().1)).await;
    assert!(answer.is_ok(), "{answer:?}");

    let [left, right] = sides;
    let reports = [left.end().await, right.end().await];
    say(format_args!(
        "partition noticed after {noticed:.1?}; changes known everywhere {known:.1?} after it healed"
    ));
    for (report, side) in reports.iter().zip(["left", "right"]) {
        report.print(&format!("partition of {PARTITION:?}, {side} side"));
        report.assert_perfect(&runs);
    }
    assert!(across.numbers.iter().all(|number| !runs.has(*number)), "a failure was reported, and it ran");
    assert!(known < KNOWN_EVERYWHERE);
    drop(new);
}

async fn subscribed(client: &Client, topic: &str) -> amop_client::Subscription {
    wait::within("a subscription", client.subscribe(topic)).await.expect("subscribed")
}
