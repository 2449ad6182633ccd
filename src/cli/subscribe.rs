//! `amop subscribe`: prints what comes to topics, and answers requests.

use std::process::ExitCode;

use amop_client::{Client, Delivery, Mode, Sender, Subscription};
use bytes::Bytes;
use futures::StreamExt;
use serde::Serialize;

use crate::cli::{
    client::{Connection, Text, name, private::Receive},
    output,
    signals::Signals,
};

/// What to listen to, and how to answer.
#[derive(Debug, clap::Args)]
#[command(after_help = "Ends with exit code 0 after --count messages or at Ctrl-C.")]
pub(super) struct Args {
    #[command(flatten)]
    connection: Connection,
    /// The topics
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    #[command(flatten)]
    private: Receive,
    /// Answer requests with this; without it or --echo the answer is empty
    #[arg(long, value_name = "TEXT", conflicts_with = "echo")]
    answer: Option<String>,
    /// Answer requests with what they say
    #[arg(long)]
    echo: bool,
    /// End after this many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

/// Listens until enough came, or a signal.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    let client = args.connection.open().await?;
    let mut subscriptions = tokio::select! {
        subscriptions = args.private.subscribe(&client, &args.topics) => subscriptions?,
        () = signals.recv() => return Ok(ExitCode::SUCCESS),
    };
    announce(&args, &client, subscriptions.iter().all(Subscription::is_complete))?;
    let mut left = args.count.unwrap_or(u64::MAX);
    let mut connected = true;
    while left > 0 {
        tokio::select! {
            delivery = subscriptions.next() => match delivery {
                Some(delivery) => {
                    left -= 1;
                    print(&args, &delivery)?;
                    answer(&args, delivery);
                }
                None => break,
            },
            () = change(&client, connected) => {
                connected = !connected;
                let news = if connected { "connected again" } else { "connection lost; trying again" };
                output::note(news);
            }
            () = signals.recv() => break,
        }
    }
    let dropped: u64 = subscriptions.iter().map(Subscription::dropped).sum();
    if dropped > 0 {
        output::note(format_args!(
            "{dropped} messages were dropped: they came faster than they could be printed"
        ));
    }
    client.close().await;
    Ok(ExitCode::SUCCESS)
}

/// Resolves when the connection is no longer as `connected` says.
async fn change(client: &Client, connected: bool) {
    if connected {
        client.disconnected().await;
    } else {
        client.connected().await;
    }
}

fn announce(args: &Args, client: &Client, complete: bool) -> anyhow::Result<()> {
    if args.connection.json {
        return output::json(&Line::Subscribed { topics: &args.topics, complete });
    }
    let at = client.node().map_or_else(String::new, |node| format!(" at {}", name(&node.name)));
    let known = match complete {
        true => "known to all reachable nodes",
        false => "not yet confirmed by every node: the first messages from afar may be missed",
    };
    output::note(format_args!("subscribed to {}{at} ({known}); Ctrl-C ends", args.topics.join(", ")));
    Ok(())
}

fn answer(args: &Args, delivery: Delivery) {
    let answer = match &args.answer {
        Some(text) => Bytes::from(text.clone()),
        None if args.echo => delivery.payload.clone(),
        None => Bytes::new(),
    };
    delivery.answer(answer);
}

fn print(args: &Args, delivery: &Delivery) -> anyhow::Result<()> {
    let payload = Text::of(&delivery.payload);
    let mode = match delivery.mode {
        Mode::Unicast => "request",
        Mode::Multicast => "message",
    };
    if args.connection.json {
        let sender = delivery.sender.as_ref().map(JsonSender::from);
        let (topic, bytes) = (delivery.topic.as_str(), delivery.payload.len());
        return output::json(&Line::Message { topic, mode, bytes, payload, sender });
    }
    let from = delivery.sender.as_ref().map_or_else(
        || "somebody".into(),
        |s| format!("{} of {}, node {}", name(&s.client.name), name(&s.institution), s.node),
    );
    let head = output::dim(format_args!("{mode} from {from}:"));
    Ok(output::say(format_args!("{}  {head} {payload}", output::bold(&delivery.topic)))?)
}

/// One line of `--json`.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line<'a> {
    Subscribed {
        topics: &'a [String],
        /// Whether all reachable nodes have confirmed it.
        complete: bool,
    },
    Message {
        topic: &'a str,
        mode: &'static str,
        bytes: usize,
        #[serde(flatten)]
        payload: Text,
        sender: Option<JsonSender<'a>>,
    },
}

#[derive(Serialize)]
struct JsonSender<'a> {
    institution: &'a str,
    node: String,
    client: &'a str,
    fingerprint: String,
}

impl<'a> From<&'a Sender> for JsonSender<'a> {
    fn from(sender: &'a Sender) -> Self {
        Self {
            institution: &sender.institution,
            node: sender.node.to_hex(),
            client: &sender.client.name,
            fingerprint: sender.client.fingerprint.to_hex(),
        }
    }
}
