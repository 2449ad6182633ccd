//! The network that is measured: ours for the time of the run, or one that runs already, with clients of the SDK.

use std::{collections::VecDeque, path::PathBuf, sync::Arc, time::Duration};

use amop_client::{Client, Options, PublishOptions, RequestOptions, Subscription};
use amop_load::system::{Cluster, Failure, Publisher, Requester, Security, Sink, acknowledgement};
use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;
use tokio::{sync::Semaphore, task::JoinSet};

use crate::cli::client::cause_name;

/// Publications of one client without an outcome; further ones wait.
const UNDER_WAY: u32 = 512;

/// Where clients of one node connect, and as whom.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// `IP:PORT`.
    pub(super) address: String,
    /// Directory with ca.crt, sdk.crt and sdk.key.
    pub(super) certs: PathBuf,
}

/// The nodes that clients connect to: messages go from the first to the last.
pub(super) struct Network {
    pub(super) nodes: Vec<Node>,
    /// Their processes; empty if they are not ours.
    pub(super) pids: Vec<u32>,
    /// How long a send may take.
    pub(super) deadline: Duration,
}

impl Network {
    /// Connects a client to a node.
    pub(super) async fn connect(&self, node: usize) -> Result<Client, Failure> {
        let missing = || Failure::new("no_node", format!("there is no node {}", node + 1));
        let node = self.nodes.get(node).ok_or_else(missing)?;
        let mut options = Options::new([node.address.clone()], &node.certs);
        options.name = concat!("amop-bench/", env!("CARGO_PKG_VERSION")).into();
        let refused = |error| Failure::new("not_connected", format!("{:#}", anyhow::Error::new(error)));
        Client::connect(options).await.map_err(refused)
    }

    async fn subscribe(&self, node: usize, topic: &str) -> Result<Subscription, Failure> {
        let refused = |error| Failure::new("not_subscribed", format!("{:#}", anyhow::Error::new(error)));
        self.connect(node).await?.subscribe(topic).await.map_err(refused)
    }
}

impl Cluster for Network {
    type Requester = Sender;
    type Publisher = Herald;
    type Guard = Guard;

    fn name(&self) -> &str {
        concat!("amop ", env!("CARGO_PKG_VERSION"))
    }

    fn nodes(&self) -> usize {
        self.nodes.len()
    }

    fn servers(&self) -> &[u32] {
        &self.pids
    }

    fn security(&self) -> Option<Security> {
        // Both ends of every hop are ours, and prefer these. Of another network it is not known.
        (!self.pids.is_empty()).then(|| Security {
            protocol: "TLS 1.3".into(),
            cipher_suite: "TLS13_AES_128_GCM_SHA256".into(),
            key_exchange: "X25519".into(),
        })
    }

    async fn responder(&self, node: usize, topic: &str, sink: Arc<Sink>) -> Result<Guard, Failure> {
        let mut requests = self.subscribe(node, topic).await?;
        Ok(Guard::running(async move {
            while let Some(request) = requests.next().await {
                sink.deliver(&request.payload);
                let answer = acknowledgement(&request.payload);
                request.answer(answer);
            }
        }))
    }

    async fn requester(&self, node: usize, topic: &str) -> Result<Sender, Failure> {
        let options = RequestOptions::default().deadline(self.deadline);
        Ok(Sender { client: self.connect(node).await?, topic: topic.into(), options })
    }

    async fn subscriber(&self, node: usize, topic: &str, sink: Arc<Sink>) -> Result<Guard, Failure> {
        let mut messages = self.subscribe(node, topic).await?;
        Ok(Guard::running(async move {
            while let Some(message) = messages.next().await {
                sink.deliver(&message.payload);
            }
        }))
    }

    async fn publisher(&self, node: usize, topic: &str) -> Result<Herald, Failure> {
        let options = PublishOptions::default().deadline(self.deadline);
        let client = self.connect(node).await?;
        let room = Arc::new(Semaphore::new(UNDER_WAY as usize));
        let under_way = Mutex::new(JoinSet::new());
        Ok(Herald { client, topic: topic.into(), options, room, failures: Arc::default(), under_way })
    }

    async fn idle(&self, node: usize) -> Result<Guard, Failure> {
        let client = self.connect(node).await?;
        Ok(Guard { _client: Some(client), _task: JoinSet::new() })
    }
}

/// A client that stays connected; what it runs ends with it.
pub(super) struct Guard {
    _client: Option<Client>,
    _task: JoinSet<()>,
}

impl Guard {
    /// For a subscription, which keeps its client.
    fn running(task: impl Future<Output = ()> + Send + 'static) -> Self {
        let mut tasks = JoinSet::new();
        tasks.spawn(task);
        Self { _client: None, _task: tasks }
    }
}

/// A client that asks.
pub(super) struct Sender {
    client: Client,
    topic: Arc<str>,
    options: RequestOptions,
}

impl Requester for Sender {
    async fn request(&self, payload: Bytes) -> Result<Bytes, Failure> {
        let answer = self.client.request_with(&self.topic, payload, self.options.clone()).await;
        answer.map_err(|error| failure(error.cause(), error.code(), &error))
    }
}

/// A client that publishes, and does not wait for one outcome before it publishes the next.
pub(super) struct Herald {
    client: Client,
    topic: Arc<str>,
    options: PublishOptions,
    room: Arc<Semaphore>,
    /// Not told yet; as many as publications at most.
    failures: Arc<Mutex<VecDeque<Failure>>>,
    under_way: Mutex<JoinSet<()>>,
}

impl Herald {
    /// The failure that has waited longest to be told.
    fn told(&self) -> Result<(), Failure> {
        self.failures.lock().pop_front().map_or(Ok(()), Err)
    }
}

impl Publisher for Herald {
    async fn publish(&self, payload: Bytes) -> Result<(), Failure> {
        let Ok(room) = self.room.clone().acquire_owned().await else { return self.told() };
        let (client, topic, options) = (self.client.clone(), self.topic.clone(), self.options.clone());
        let failures = self.failures.clone();
        let mut under_way = self.under_way.lock();
        while under_way.try_join_next().is_some() {}
        under_way.spawn(async move {
            if let Err(error) = client.publish_with(&topic, payload, options).await {
                failures.lock().push_back(failure(error.cause(), error.code(), &error));
            }
            drop(room);
        });
        drop(under_way);
        self.told()
    }

    async fn flush(&self) -> Result<(), Failure> {
        // All room is there when nothing is under way.
        drop(self.room.acquire_many(UNDER_WAY).await);
        self.told()
    }
}

fn failure(cause: amop_client::Cause, code: i32, error: &dyn std::error::Error) -> Failure {
    let failure = Failure::new(cause_name(cause), error.to_string());
    u16::try_from(code).map_or(failure.clone(), |code| failure.code(code))
}
