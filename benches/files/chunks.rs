//! What messages alone cost: requests of the size of chunks through both nodes, no file, nothing hashed by
//! the ends. What a transfer takes beyond that is its own.

use std::{net::SocketAddr, path::Path, time::Instant};

use amop_client::{Client, Options};
use anyhow::ensure;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;

use crate::{
    net::Net,
    pipe::Piped,
    process::{Process, own},
};

const CHUNK: usize = 256 * 1024;
const IN_FLIGHT: usize = 16;

/// Sends `bytes` from one new process to another.
pub(crate) async fn run(net: &mut Net, topic: &str, bytes: u64) -> anyhow::Result<Piped> {
    let errors = net.dir().join("chunks.errors");
    let start = |name: &'static str, node: usize| {
        let mut command = own()?;
        command.arg(name).arg(net.certs(node, name)).arg(net.nodes[node].channel.to_string());
        command.arg(topic).arg(bytes.to_string());
        Process::start(name, command, &errors)
    };
    let mut receiver = start("answer", 1)?;
    receiver.event("ready").await?;
    let mut sender = start("ask", 0)?;
    sender.event("sending").await?;
    let began = Instant::now();
    for node in &mut net.nodes {
        node.usage.look();
    }
    let before = net.nodes.each_ref().map(|node| node.usage.cpu);
    receiver.event("received").await?;
    let seconds = began.elapsed().as_secs_f64();
    for node in &mut net.nodes {
        node.usage.look();
    }
    for process in [&mut sender, &mut receiver] {
        ensure!(process.end().await?.success(), "an end failed after all chunks were there");
    }
    let [a, b] = net.nodes.each_ref().map(|node| node.usage.cpu);
    Ok(Piped { seconds, cpu: [sender.usage.cpu, a - before[0], b - before[1], receiver.usage.cpu] })
}

/// The sender's process.
pub(crate) async fn ask(certs: &Path, node: SocketAddr, topic: &str, bytes: u64) -> anyhow::Result<()> {
    let client = Client::connect(Options::new([node.to_string()], certs)).await?;
    println!("{}", json!({ "event": "sending" }));
    let chunk = Bytes::from(vec![7; CHUNK]);
    let requests = (0..bytes.div_ceil(CHUNK as u64)).map(|_| client.request(topic, chunk.clone()));
    stream::iter(requests).buffer_unordered(IN_FLIGHT).try_for_each(async |_| Ok(())).await?;
    client.close().await;
    Ok(())
}

/// The receiver's process.
pub(crate) async fn answer(certs: &Path, node: SocketAddr, topic: &str, bytes: u64) -> anyhow::Result<()> {
    let client = Client::connect(Options::new([node.to_string()], certs)).await?;
    let mut subscription = client.subscribe(topic).await?;
    println!("{}", json!({ "event": "ready" }));
    let mut left = bytes;
    while left > 0 {
        let Some(delivery) = subscription.next().await else { anyhow::bail!("the subscription has ended") };
        left = left.saturating_sub(delivery.payload.len() as u64);
        delivery.answer("");
    }
    println!("{}", json!({ "event": "received" }));
    client.close().await;
    Ok(())
}
