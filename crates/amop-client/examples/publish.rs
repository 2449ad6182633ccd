//! Hands a message to every subscriber of a topic.
//!
//! ```text
//! cargo run -p amop-client --example publish -- 127.0.0.1:20200 CERTIFICATES news "it rains"
//! ```
//! CERTIFICATES is a directory with `ca.crt`, `sdk.crt` and `sdk.key`.

#![expect(clippy::print_stdout, reason = "a program at the terminal")]

use amop_client::{Client, ErrorKind, Options};
use anyhow::Context;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let mut arg = |what| args.next().with_context(|| format!("missing argument: {what}"));
    let (node, certificates) = (arg("node")?, arg("certificates")?);
    let (topic, message) = (arg("topic")?, arg("message")?);

    let client = Client::connect(Options::new([node], certificates)).await?;
    match client.publish(&topic, message).await {
        Ok(()) => println!("delivered"),
        // Nobody subscribed may be quite all right for an announcement.
        Err(error) if error.kind() == ErrorKind::NoPath => println!("nobody listens: {error}"),
        Err(error) => return Err(error.into()),
    }
    client.close().await;
    Ok(())
}
