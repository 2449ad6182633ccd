//! One client, connected to one node.

use std::time::{Duration, Instant};

use amop_client::{Client, Delivery, Mode, Options, RequestOptions};
use anyhow::Context;
use bytes::Bytes;
use futures::StreamExt;
use serde_json::{Value, json};

use crate::{Command, payload, say};

/// A client and the name the driver has for it.
pub(crate) struct Link {
    name: String,
    client: Client,
    connected_after: f64,
}

impl Link {
    /// Connects as an application would.
    pub(crate) async fn connect(command: &Command) -> anyhow::Result<Self> {
        let start = Instant::now();
        let client = Client::connect(Options::new([&command.node], &command.certs)).await?;
        Ok(Self { name: command.name.clone(), client, connected_after: since(start) })
    }

    /// Says how long that took; commands for this client may come from now on.
    pub(crate) fn tell_connected(&self) {
        say(&json!({ "event": "connected", "as": self.name, "ms": self.connected_after }));
    }

    /// Subscribes, says so, and answers as long as the client is there.
    pub(crate) async fn subscribe(&self, command: &Command) {
        if let Err(error) = self.serve(command).await {
            say(
                &json!({ "event": "failed", "as": self.name, "id": command.id, "why": format!("{error:#}") }),
            );
        }
    }

    async fn serve(&self, command: &Command) -> anyhow::Result<()> {
        let mut subscription = self.client.subscribe(&command.topic).await.context("subscribing")?;
        say(&json!({ "event": "subscribed", "as": self.name, "topic": command.topic }));
        let mut unanswered = Vec::new();
        while let Some(delivery) = subscription.next().await {
            self.tell(&delivery);
            match payload::answer(&command.answer, &delivery.payload) {
                Some(answer) => delivery.answer(answer),
                // Dropping it would refuse it.
                None => unanswered.push(delivery),
            }
        }
        Ok(())
    }

    fn tell(&self, delivery: &Delivery) {
        let kind = match delivery.mode {
            Mode::Unicast => "unicast",
            Mode::Multicast => "multicast",
        };
        let mut event = payload::described(&delivery.payload);
        event["event"] = "message".into();
        event["as"] = self.name.as_str().into();
        event["topic"] = delivery.topic.as_str().into();
        event["kind"] = kind.into();
        say(&event);
    }

    /// Asks as often as the command says and prints the last outcome, with all times.
    pub(crate) async fn request(&self, command: &Command) {
        let data = payload::of(command);
        let options = RequestOptions::default().deadline(Duration::from_millis(command.timeout_ms));
        let mut event = Value::Null;
        let mut times = Vec::new();
        for _ in 0..command.count {
            let start = Instant::now();
            let answered = self.client.request_with(&command.topic, data.clone(), options.clone()).await;
            times.push(since(start));
            event = match answered {
                Ok(answer) => with_code(payload::described(&answer), 0),
                Err(error) => with_code(json!({ "why": error.to_string() }), error.code()),
            };
            if event["code"] != 0 {
                break;
            }
        }
        event["ms"] = times.into();
        self.outcome(command, event);
    }

    /// Publishes to all.
    pub(crate) async fn multicast(&self, command: &Command) {
        let published = self.client.publish(&command.topic, payload::of(command)).await;
        let event = match published {
            Ok(()) => with_code(payload::described(&Bytes::new()), 0),
            Err(error) => with_code(json!({ "why": error.to_string() }), error.code()),
        };
        self.outcome(command, event);
    }

    /// Disconnects.
    pub(crate) async fn close(&self) {
        self.client.close().await;
        say(&json!({ "event": "closed", "as": self.name }));
    }

    fn outcome(&self, command: &Command, mut event: Value) {
        event["event"] = "outcome".into();
        event["as"] = self.name.as_str().into();
        event["id"] = command.id.into();
        say(&event);
    }
}

fn with_code(mut event: Value, code: i32) -> Value {
    event["code"] = code.into();
    event
}

fn since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1000.0
}
