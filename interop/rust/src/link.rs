//! One client, connected to one node.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use amop_client::{
    Client, Delivery, Mode, Options, PrivateTopic, PublishError, RequestError, RequestOptions, Subscription,
};
use anyhow::Context;
use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::{
    Command,
    keys::{self, Key},
    payload, say,
};

/// What the names of private topics begin with.
const PRIVATE_PREFIX: &str = "#!$TopicNeedVerify_";

/// A client and the name the driver has for it.
pub(crate) struct Link {
    name: String,
    client: Client,
    connected_after: f64,
    /// What is subscribed, by topic; gone once the driver has ended it.
    subscribed: Mutex<HashMap<String, oneshot::Sender<()>>>,
    /// The private topics it publishes.
    private: Mutex<HashMap<String, Arc<PrivateTopic>>>,
}

impl Link {
    /// Connects as an application would.
    pub(crate) async fn connect(command: &Command) -> anyhow::Result<Self> {
        let start = Instant::now();
        let client = Client::connect(Options::new([&command.node], &command.certs)).await?;
        let connected_after = since(start);
        let (subscribed, private) = Default::default();
        Ok(Self { name: command.name.clone(), client, connected_after, subscribed, private })
    }

    /// Says how long that took; commands for this client may come from now on.
    pub(crate) fn tell_connected(&self) {
        say(&json!({ "event": "connected", "as": self.name, "ms": self.connected_after }));
    }

    /// Subscribes, says so, and answers as long as the client is there.
    pub(crate) async fn subscribe(&self, command: &Command) -> anyhow::Result<()> {
        let subscription = self.client.subscribe(&command.topic).await.context("subscribing")?;
        self.serve(command, subscription).await;
        Ok(())
    }

    /// The same with a private topic.
    pub(crate) async fn subscribe_private(&self, command: &Command) -> anyhow::Result<()> {
        let key = command.key.as_ref().context("no key")?.private()?;
        let how = keys::compatibility(&command.compatibility)?;
        let subscribed = self.client.subscribe_private(&command.topic, key, how).await;
        self.serve(command, subscribed.context("subscribing")?).await;
        Ok(())
    }

    async fn serve(&self, command: &Command, subscription: Subscription) {
        let (end, ended) = oneshot::channel();
        self.subscribed.lock().insert(command.topic.clone(), end);
        say(&json!({ "event": "subscribed", "as": self.name, "topic": command.topic }));
        let mut deliveries = subscription.take_until(ended);
        let mut unanswered = Vec::new();
        while let Some(delivery) = deliveries.next().await {
            self.tell(&delivery);
            match payload::answer(&command.answer, &delivery.payload) {
                Some(answer) => delivery.answer(answer),
                // Dropping it would refuse it.
                None => unanswered.push(delivery),
            }
        }
        drop(deliveries);
        say(&json!({ "event": "unsubscribed", "as": self.name, "topic": command.topic }));
    }

    /// Ends what was subscribed; it says so itself.
    pub(crate) fn unsubscribe(&self, command: &Command) -> anyhow::Result<()> {
        // Whoever waits for it takes its end for the sign as well.
        drop(self.subscribed.lock().remove(&command.topic).context("not subscribed")?);
        Ok(())
    }

    /// Publishes a private topic for the holders of these keys.
    pub(crate) async fn publish_private(&self, command: &Command) -> anyhow::Result<()> {
        let trusted = command.keys.iter().map(Key::public).collect::<anyhow::Result<Vec<_>>>()?;
        let how = keys::compatibility(&command.compatibility)?;
        let topic = self.client.private_topic(&command.topic, trusted, how).await?;
        self.private.lock().insert(command.topic.clone(), Arc::new(topic));
        say(&json!({ "event": "published", "as": self.name, "topic": command.topic }));
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
        // As the Java SDK says it; the Go SDK says nothing.
        let topic = delivery.topic.as_str();
        event["topic"] = topic.strip_prefix(PRIVATE_PREFIX).unwrap_or(topic).into();
        event["kind"] = kind.into();
        say(&event);
    }

    /// Asks as often as the command says and prints the last outcome, with all times.
    pub(crate) async fn request(&self, command: &Command) {
        let asked = |data, options| self.client.request_with(&command.topic, data, options);
        let event = self.ask(command, asked).await;
        self.outcome(command, event);
    }

    /// The same on a private topic; the outcome says whether it was encrypted.
    pub(crate) async fn request_private(&self, command: &Command) -> anyhow::Result<()> {
        let topic = self.published(command)?;
        let mut event = self.ask(command, |data, options| topic.request_with(data, options)).await;
        event["encrypted"] = topic.is_encrypted().into();
        self.outcome(command, event);
        Ok(())
    }

    async fn ask<F: Future<Output = Result<Bytes, RequestError>>>(
        &self,
        command: &Command,
        asked: impl Fn(Bytes, RequestOptions) -> F,
    ) -> Value {
        let data = payload::of(command);
        let options = RequestOptions::default().deadline(Duration::from_millis(command.timeout_ms));
        let mut event = Value::Null;
        let mut times = Vec::new();
        for _ in 0..command.count {
            let start = Instant::now();
            let answered = asked(data.clone(), options.clone()).await;
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
        event
    }

    /// Publishes to all.
    pub(crate) async fn multicast(&self, command: &Command) {
        let published = self.client.publish(&command.topic, payload::of(command)).await;
        self.published_with(command, published);
    }

    /// Publishes to all that were verified.
    pub(crate) async fn multicast_private(&self, command: &Command) -> anyhow::Result<()> {
        let published = self.published(command)?.publish(payload::of(command)).await;
        self.published_with(command, published);
        Ok(())
    }

    fn published(&self, command: &Command) -> anyhow::Result<Arc<PrivateTopic>> {
        self.private.lock().get(&command.topic).cloned().context("not published")
    }

    fn published_with(&self, command: &Command, published: Result<(), PublishError>) {
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
