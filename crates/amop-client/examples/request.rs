//! Asks one subscriber of a topic and waits at most two seconds for its answer.
//!
//! ```text
//! cargo run -p amop-client --example request -- 127.0.0.1:20200 CERTIFICATES quotes "EUR"
//! ```
//! CERTIFICATES is a directory with `ca.crt`, `sdk.crt` and `sdk.key`.

#![expect(clippy::print_stdout, reason = "a program at the terminal")]

use std::time::{Duration, Instant};

use amop_client::{Client, Options, RequestOptions};
use anyhow::Context;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let mut arg = |what| args.next().with_context(|| format!("missing argument: {what}"));
    let (node, certificates) = (arg("node")?, arg("certificates")?);
    let (topic, question) = (arg("topic")?, arg("question")?);

    let client = Client::connect(Options::new([node], certificates)).await?;
    let asked = Instant::now();
    let options = RequestOptions::default().deadline(Duration::from_secs(2));
    match client.request_with(&topic, question, options).await {
        Ok(answer) => println!("{} ({:?})", String::from_utf8_lossy(&answer), asked.elapsed()),
        Err(error) => println!("no answer, code {}: {error}", error.code()),
    }
    client.close().await;
    Ok(())
}
