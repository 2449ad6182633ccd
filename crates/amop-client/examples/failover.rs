//! Asks one subscriber of a topic twice a second, through whichever of several nodes is there. Stop one
//! of them, or kill it, and look: every question is answered, some a little later.
//!
//! ```text
//! cargo run -p amop-client --example failover -- 127.0.0.1:20200,127.0.0.1:20201 CERTIFICATES quotes
//! ```
//! CERTIFICATES is a directory with `ca.crt`, `sdk.crt` and `sdk.key`. In `amop devnet` every node is of
//! another institution, and takes clients of all.

#![expect(clippy::print_stdout, reason = "a program at the terminal")]

use std::time::{Duration, Instant};

use amop_client::{Client, Options};
use anyhow::Context;
use tokio::time::interval;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let mut arg = |what| args.next().with_context(|| format!("missing argument: {what}"));
    let (nodes, certificates, topic) = (arg("nodes")?, arg("certificates")?, arg("topic")?);

    let client = Client::connect(Options::new(nodes.split(','), certificates)).await?;
    let mut pace = interval(Duration::from_millis(500));
    for number in 1.. {
        pace.tick().await;
        let asked = Instant::now();
        let answer = client.request(&topic, format!("question {number}")).await;
        let through = client.node().map_or_else(|| "nobody".into(), |node| node.name.clone());
        match answer {
            Ok(answer) => println!("{number}: {answer:?} through {through} ({:?})", asked.elapsed()),
            Err(error) => println!("{number}: code {}: {error}", error.code()),
        }
    }
    Ok(())
}
