//! Does what JSON lines on standard input ask, and says what happened in JSON lines on standard
//! output, with the Rust SDK. The commands are those of every program of this directory;
//! `interop/README.md` lists them.

mod keys;
mod link;
mod payload;

use std::{collections::HashMap, io::Write, sync::Arc};

use anyhow::Context;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinSet};

use crate::{keys::Key, link::Link};

/// A command from the driver.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Command {
    #[serde(rename = "do")]
    what: String,
    #[serde(rename = "as")]
    name: String,
    id: u64,
    node: String,
    certs: String,
    topic: String,
    text: Option<String>,
    size: usize,
    seed: usize,
    count: u32,
    timeout_ms: u64,
    /// `"echo"`, `{"text": …}` or `{"silent": true}`.
    answer: Value,
    /// Of a private topic: the subscriber's own key.
    key: Option<Key>,
    /// The keys that a publisher trusts.
    keys: Vec<Key>,
    /// Whether 2.x will do: `"version2"`, `"strict"` or `"all"`.
    compatibility: String,
}

impl Default for Command {
    fn default() -> Self {
        Self {
            what: String::new(),
            name: String::new(),
            id: 0,
            node: String::new(),
            certs: String::new(),
            topic: String::new(),
            text: None,
            size: 0,
            seed: 0,
            count: 1,
            timeout_ms: 10_000,
            answer: json!("echo"),
            key: None,
            keys: Vec::new(),
            compatibility: "version2".into(),
        }
    }
}

type Links = Arc<Mutex<HashMap<String, Arc<Link>>>>;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut lines = read_lines();
    let links = Links::default();
    let mut running = JoinSet::new();
    while let Some(line) = lines.recv().await {
        let command: Command =
            serde_json::from_str(&line).with_context(|| format!("not a command: {line}"))?;
        if command.what == "quit" {
            break;
        }
        let links = links.clone();
        running.spawn(async move {
            let (name, id) = (command.name.clone(), command.id);
            if let Err(error) = run(&links, command).await {
                say(&json!({ "event": "failed", "as": name, "id": id, "why": format!("{error:#}") }));
            }
        });
    }
    Ok(())
}

/// The lines of standard input, read by a thread of their own, because that read cannot be cancelled.
fn read_lines() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    lines
}

async fn run(links: &Links, command: Command) -> anyhow::Result<()> {
    if command.what == "connect" {
        let link = Arc::new(Link::connect(&command).await?);
        links.lock().insert(command.name.clone(), link.clone());
        link.tell_connected();
        return Ok(());
    }
    let link = links.lock().get(&command.name).cloned();
    let link = link.with_context(|| format!("nothing is connected as {}", command.name))?;
    match command.what.as_str() {
        "subscribe" => link.subscribe(&command).await?,
        "request" => link.request(&command).await,
        "multicast" => link.multicast(&command).await,
        "private_subscribe" => link.subscribe_private(&command).await?,
        "private_unsubscribe" => link.unsubscribe(&command)?,
        "private_topic" => link.publish_private(&command).await?,
        "private_request" => link.request_private(&command).await?,
        "private_multicast" => link.multicast_private(&command).await?,
        "close" => {
            links.lock().remove(&command.name);
            link.close().await;
        }
        other => anyhow::bail!("unknown command {other}"),
    }
    Ok(())
}

/// Prints one line for the driver. When it is gone there is nobody left to tell.
fn say(event: &Value) {
    let mut out = std::io::stdout().lock();
    drop(writeln!(out, "{event}").and_then(|()| out.flush()));
}
