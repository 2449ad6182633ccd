//! A node that may open few files, and more connections than that.

use std::{
    net::TcpStream,
    process::{Command, Stdio},
    time::Duration,
};

use amop_testkit::{process::amop, wait};

use crate::{
    load::{Load, Runs},
    net::Net,
};

/// Requests per second.
const RATE: u32 = 100;
/// Files the node may have open.
const FILES: usize = 48;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn files_run_out() {
    let mut net = Net::line(2).await;
    net.nodes[0].stop();
    let mut few = Command::new("sh");
    few.args(["-c", &format!("ulimit -n {FILES} && exec \"$0\" \"$@\"")]).arg(amop().get_program());
    net.nodes[0].restart_by(Some(few), Stdio::null(), "").await;
    net.linked().await;
    let (desk, till, runs) = (net.client(&[1]).await, net.client(&[0]).await, Runs::default());
    runs.echo(&desk, "t").await;
    let load = Load::start(&till, "t", RATE);
    load.goes_on(RATE.into()).await;

    let connect = || TcpStream::connect(net.nodes[0].channel).expect("the kernel takes it");
    let mut crowd: Vec<_> = (0..2 * FILES).map(|_| connect()).collect();
    load.goes_on(u64::from(RATE) * 4).await;
    crowd.clear();

    // Who comes now is served, and those who were there never noticed.
    let late = wait::within("a connection", net.client(&[0])).await;
    let answer = wait::within("an answer", late.request("t", crate::load::payload().1)).await;
    assert!(answer.is_ok(), "{answer:?}");
    let refused = net.nodes[0].counted("client_port_accept_errors").await;
    let report = load.end().await;
    report.print(&format!("{FILES} files, {} connections more, {refused} times none to be had", 2 * FILES));
    report.assert_perfect(&runs);
    assert!(refused > 0, "they never ran out");
    assert!(report.longest_wait() < Duration::from_secs(1));
    assert_eq!(net.nodes[0].status().await.links, 1);
}
