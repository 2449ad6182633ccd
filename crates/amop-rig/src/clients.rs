//! Clients of the SDK at nodes that run.

use std::{collections::VecDeque, error::Error, path::PathBuf, sync::Arc, time::Duration};

use amop_client::{Cause, Client, Options, PublishOptions, RequestOptions, Subscription};
use amop_load::{
    children::Children,
    system::{Cluster, Failure, Publisher, Requester, Security, Sink, acknowledgement},
};
use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;
use tokio::{sync::Semaphore, task::JoinSet};

/// Publications of one client without an outcome; further ones wait.
const UNDER_WAY: u32 = 512;
/// How long a send may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// Where clients of one node connect, and as whom.
#[derive(Clone, Debug)]
pub struct Node {
    /// `IP:PORT`.
    pub address: String,
    /// Directory with `ca.crt`, `sdk.crt` and `sdk.key`.
    pub certs: PathBuf,
}

/// Nodes, in the order of the line they form: messages go from the first to the last.
pub struct Nodes {
    nodes: Vec<Node>,
    /// Their processes; empty if they are not ours.
    pids: Vec<u32>,
    /// Those of them that end with this.
    children: Children,
    /// How long a send may take.
    deadline: Duration,
}

impl Nodes {
    /// Nodes that somebody else runs. `pids` are their processes, if they are to be measured; empty otherwise.
    pub fn new(nodes: Vec<Node>, pids: Vec<u32>) -> Self {
        Self { nodes, pids, children: Children::default(), deadline: DEADLINE }
    }

    /// Nodes that end with this.
    pub(crate) fn started(nodes: Vec<Node>, children: Children) -> Self {
        Self { pids: children.ids().to_vec(), children, ..Self::new(nodes, Vec::new()) }
    }

    /// With another bound on how long a send may take; 30 s without it.
    #[must_use]
    pub fn deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Connects a client to a node.
    ///
    /// # Errors
    /// When it cannot be connected, or there is no such node.
    pub async fn connect(&self, node: usize) -> Result<Client, Failure> {
        let missing = || Failure::new("no_node", format!("there is no node {}", node + 1));
        let node = self.nodes.get(node).ok_or_else(missing)?;
        let mut options = Options::new([node.address.clone()], &node.certs);
        options.name = concat!("amop-bench/", env!("CARGO_PKG_VERSION")).into();
        Client::connect(options).await.map_err(|error| refused("not_connected", &error))
    }

    async fn subscribe(&self, node: usize, topic: &str) -> Result<Subscription, Failure> {
        let subscribed = self.connect(node).await?.subscribe(topic).await;
        subscribed.map_err(|error| refused("not_subscribed", &error))
    }
}

impl Cluster for Nodes {
    type Requester = Asking;
    type Publisher = Publishing;
    type Guard = Connected;

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

    fn alive(&self) -> Result<(), Failure> {
        self.children.alive()
    }

    async fn responder(&self, node: usize, topic: &str, sink: Arc<Sink>) -> Result<Connected, Failure> {
        let mut requests = self.subscribe(node, topic).await?;
        Ok(Connected::running(async move {
            while let Some(request) = requests.next().await {
                sink.deliver(&request.payload);
                let answer = acknowledgement(&request.payload);
                request.answer(answer);
            }
        }))
    }

    async fn requester(&self, node: usize, topic: &str) -> Result<Asking, Failure> {
        let options = RequestOptions::default().deadline(self.deadline);
        Ok(Asking { client: self.connect(node).await?, topic: topic.into(), options })
    }

    async fn subscriber(&self, node: usize, topic: &str, sink: Arc<Sink>) -> Result<Connected, Failure> {
        let mut messages = self.subscribe(node, topic).await?;
        Ok(Connected::running(async move {
            while let Some(message) = messages.next().await {
                sink.deliver(&message.payload);
            }
        }))
    }

    async fn publisher(&self, node: usize, topic: &str) -> Result<Publishing, Failure> {
        let options = PublishOptions::default().deadline(self.deadline);
        let client = self.connect(node).await?;
        let room = Arc::new(Semaphore::new(UNDER_WAY as usize));
        let under_way = Mutex::new(JoinSet::new());
        Ok(Publishing { client, topic: topic.into(), options, room, failures: Arc::default(), under_way })
    }

    async fn idle(&self, node: usize) -> Result<Connected, Failure> {
        let client = self.connect(node).await?;
        Ok(Connected { _client: Some(client), _task: JoinSet::new() })
    }
}

/// A client that stays connected; what it runs ends with it.
pub struct Connected {
    _client: Option<Client>,
    _task: JoinSet<()>,
}

impl Connected {
    /// For a subscription, which keeps its client.
    fn running(task: impl Future<Output = ()> + Send + 'static) -> Self {
        let mut tasks = JoinSet::new();
        tasks.spawn(task);
        Self { _client: None, _task: tasks }
    }
}

/// A client that asks.
pub struct Asking {
    client: Client,
    topic: Arc<str>,
    options: RequestOptions,
}

impl Requester for Asking {
    async fn request(&self, payload: Bytes) -> Result<Bytes, Failure> {
        let answer = self.client.request_with(&self.topic, payload, self.options.clone()).await;
        answer.map_err(|error| failure(error.cause(), error.code(), &error))
    }
}

/// A client that publishes, and does not wait for one outcome before it publishes the next.
pub struct Publishing {
    client: Client,
    topic: Arc<str>,
    options: PublishOptions,
    room: Arc<Semaphore>,
    /// Not told yet; as many as publications at most.
    failures: Arc<Mutex<VecDeque<Failure>>>,
    under_way: Mutex<JoinSet<()>>,
}

impl Publishing {
    /// The failure that has waited longest to be told.
    fn told(&self) -> Result<(), Failure> {
        self.failures.lock().pop_front().map_or(Ok(()), Err)
    }
}

impl Publisher for Publishing {
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

fn failure(cause: Cause, code: i32, error: &dyn Error) -> Failure {
    let name = cause.as_str_name();
    let name = name.strip_prefix("CAUSE_").unwrap_or(name).to_ascii_lowercase();
    let failure = Failure::new(name, error.to_string());
    u16::try_from(code).map_or(failure.clone(), |code| failure.code(code))
}

/// With everything that led to it.
fn refused(cause: &'static str, error: &dyn Error) -> Failure {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(deeper) = source {
        message.push_str(&format!(": {deeper}"));
        source = deeper.source();
    }
    Failure::new(cause, message)
}
