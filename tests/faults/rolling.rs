//! All nodes are restarted, one after the other, under load, with clients that list two nodes each.

use amop_testkit::wait;

use crate::{
    load::{Load, Runs},
    net::Net,
};

/// Requests per second.
const RATE: u32 = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_nodes_are_restarted() {
    let mut net = Net::ring().await;
    let (desk, till, runs) = (net.client(&[2, 3]).await, net.client(&[0, 1]).await, Runs::default());
    runs.echo(&desk, "t").await;
    let load = Load::start(&till, "t", RATE);
    for node in 0..4 {
        load.goes_on(u64::from(RATE) * 2).await;
        net.nodes[node].stop();
        net.nodes[node].restart().await;
        net.linked().await;
        for client in [&desk, &till] {
            wait::within("a connection", client.connected()).await.expect("not closed");
        }
    }
    load.goes_on(u64::from(RATE) * 2).await;
    let report = load.end().await;
    report.print("rolling restart");
    report.assert_perfect(&runs);
}
