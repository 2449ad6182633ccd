//! The log cannot be written: its disk is full, or nobody reads the pipe.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, PipeReader, Write},
    process::Stdio,
    thread,
    time::Duration,
};

use amop_testkit::wait;

use crate::{
    load::{Load, Runs},
    net::Net,
};

/// Requests per second.
const RATE: u32 = 200;

/// Node 0 of two is restarted with this for standard error; requests go through it for a while.
async fn requests_through_a_node_with(scenario: &str, errors: Stdio) -> Net {
    let mut net = Net::line(2).await;
    net.nodes[0].stop();
    net.nodes[0].restart_by(None, errors, "log.level = \"trace\"\n").await;
    net.linked().await;
    let (desk, till, runs) = (net.client(&[1]).await, net.client(&[0]).await, Runs::default());
    runs.echo(&desk, "t").await;
    let load = Load::start(&till, "t", RATE);
    load.goes_on(u64::from(RATE) * 3).await;
    let report = load.end().await;
    let lost = net.nodes[0].counted("log_lines_lost").await;
    report.print(&format!("{scenario}, {lost} lines lost"));
    report.assert_perfect(&runs);
    assert!(report.longest_wait() < Duration::from_secs(1));
    net
}

/// A pipe that is full, and stays so until somebody reads it; then it fills again.
fn full_pipe() -> (PipeReader, Stdio) {
    let (reader, writer) = io::pipe().expect("a pipe");
    let mut noise = writer.try_clone().expect("shared");
    // Ends with the reader.
    thread::spawn(move || while noise.write_all(b"noise\n").is_ok() {});
    (reader, writer.into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_disk_is_full() {
    let full = File::options().write(true).open("/dev/full").expect("Linux has it");
    let mut net = requests_through_a_node_with("log on a full disk", full.into()).await;
    assert!(net.nodes[0].counted("log_lines_lost").await > 0, "its first lines could not be written");
    net.nodes[0].stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_reads_the_pipe() {
    let (_reader, errors) = full_pipe();
    let mut net = requests_through_a_node_with("log in a pipe that nobody reads", errors).await;
    net.nodes[0].stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_pipe_is_read_late() {
    let (reader, errors) = full_pipe();
    let mut net = requests_through_a_node_with("log in a pipe that is read late", errors).await;
    let serving = tokio::task::spawn_blocking(move || {
        BufReader::new(reader).lines().map_while(Result::ok).any(|line| line.contains("serving"))
    });
    assert!(wait::within("the first lines", serving).await.expect("no panic"));
    net.nodes[0].stop();
}
