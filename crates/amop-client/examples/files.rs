//! Sends a file to a topic, or takes what is sent there:
//! `cargo run -p amop-client --example files -- 127.0.0.1:20202 .amop/devnet/clients/app-3 statements into DIRECTORY`
//! `cargo run -p amop-client --example files -- 127.0.0.1:20200 .amop/devnet/clients/app-1 statements send FILE`
#![expect(clippy::print_stdout, reason = "an example prints what happens")]

use amop_client::{Client, Options, ReceiveOptions, SendOptions};
use anyhow::bail;
use futures::StreamExt;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [node, certificates, topic, what, path] = arguments.as_slice() else {
        bail!("usage: files <host:port> <directory of certificates> <topic> send|into <path>")
    };
    let client = Client::connect(Options::new([node], certificates)).await?;
    match what.as_str() {
        "send" => send(&client, topic, path).await?,
        "into" => receive(&client, topic, path).await?,
        _ => bail!("send or into?"),
    }
    client.close().await;
    Ok(())
}

async fn send(client: &Client, topic: &str, path: &str) -> anyhow::Result<()> {
    let mut sending = client.send_file(topic, path, SendOptions::default()).await?;
    let receipt = sending.finished().await?;
    println!("{} bytes sent to {}", receipt.size, receipt.recipients[0].client.name);
    Ok(())
}

/// One after the other; a program that takes several at once gives each a task.
async fn receive(client: &Client, topic: &str, directory: &str) -> anyhow::Result<()> {
    let mut receiver = client.receive_files([topic], directory, ReceiveOptions::default()).await?;
    while let Some(offer) = receiver.next().await {
        if offer.file.size > 1 << 30 {
            offer.decline("too large for me");
            continue;
        }
        let mut file = offer.accept();
        match file.finished().await {
            Ok(path) => println!("received {}", path.display()),
            Err(error) => println!("{} did not come: {error}", file.file.name),
        }
    }
    Ok(())
}
