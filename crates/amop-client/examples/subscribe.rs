//! Prints what comes to a topic, who sent it, and answers requests.
//!
//! ```text
//! cargo run -p amop-client --example subscribe -- 127.0.0.1:20200 CERTIFICATES quotes
//! ```
//! CERTIFICATES is a directory with `ca.crt`, `sdk.crt` and `sdk.key`.

#![expect(clippy::print_stdout, reason = "a program at the terminal")]

use amop_client::{Client, Options};
use anyhow::Context;
use futures::StreamExt;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let mut arg = |what| args.next().with_context(|| format!("missing argument: {what}"));
    let (node, certificates, topic) = (arg("node")?, arg("certificates")?, arg("topic")?);

    let client = Client::connect(Options::new([node], certificates)).await?;
    let mut subscription = client.subscribe(&topic).await?;
    println!("subscribed to {topic}");
    while let Some(delivery) = subscription.next().await {
        let text = String::from_utf8_lossy(&delivery.payload).into_owned();
        match &delivery.sender {
            Some(from) => println!("{} of {}: {text:?}", from.client.name, from.institution),
            None => println!("somebody: {text:?}"),
        }
        // A message to all needs no answer; this does nothing then.
        delivery.answer(format!("seen: {text}"));
    }
    Ok(())
}
