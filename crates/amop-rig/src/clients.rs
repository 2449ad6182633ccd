//! Clients of the SDK at nodes that run.

use std::{path::PathBuf, sync::Arc};

use amop_client::{Cause, Client, Delivery, Options};
use amop_load::{
    children::Children,
    payload::acknowledgement,
    system::{Cluster, Failure, Publisher, Requester, Security, Sink},
};
use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

/// Publications of one client under way; more wait with whoever publishes.
const PUBLISHING: u32 = 256;

/// Where clients connect, and as whom.
#[derive(Clone, Debug)]
pub struct Node {
    /// The client port, `host:port`.
    pub address: String,
    /// `ca.crt`, `sdk.crt` and `sdk.key` of those who ask and publish.
    pub asking: PathBuf,
    /// The same of those who answer and subscribe. Another certificate: an application is handed no
    /// multicast of its own.
    pub answering: PathBuf,
}

/// Nodes that run, in the order of the line they form.
#[derive(Debug)]
pub struct Nodes {
    nodes: Vec<Node>,
    /// Their processes, unless they are somebody else's.
    children: Children,
}

/// A client that is connected as long as this lives.
pub struct Connected {
    _task: Option<AbortOnDropHandle<()>>,
    _client: Client,
}

impl Nodes {
    /// Nodes that somebody else runs.
    pub fn running(nodes: Vec<Node>) -> Self {
        Self { nodes, children: Children::default() }
    }

    /// Nodes that end with this.
    pub fn started(nodes: Vec<Node>, children: Children) -> Self {
        Self { nodes, children }
    }

    async fn connect(&self, node: usize, certs: impl Fn(&Node) -> &PathBuf) -> Result<Client, Failure> {
        let Some(node) = self.nodes.get(node) else {
            return Err(Failure::new("misuse", format!("there is no node {node}")));
        };
        let options = Options::new([&node.address], certs(node));
        Client::connect(options).await.map_err(|error| Failure::new("connect", error.to_string()))
    }

    async fn subscribed(
        &self,
        node: usize,
        topic: &str,
        take: impl Fn(Delivery) + Send + 'static,
    ) -> Result<Connected, Failure> {
        let client = self.connect(node, |node| &node.answering).await?;
        let subscription = client.subscribe(topic).await;
        let mut subscription = subscription.map_err(|error| Failure::new("subscribe", error.to_string()))?;
        let task = async move {
            while let Some(delivery) = subscription.next().await {
                take(delivery);
            }
        };
        #[expect(clippy::disallowed_methods, reason = "it ends with its handle")]
        let task = AbortOnDropHandle::new(tokio::spawn(task));
        Ok(Connected { _task: Some(task), _client: client })
    }
}

impl Cluster for Nodes {
    type Requester = Asking;
    type Publisher = Publishing;
    type Guard = Connected;

    fn name(&self) -> &str {
        "amop"
    }

    fn nodes(&self) -> usize {
        self.nodes.len()
    }

    fn servers(&self) -> &[u32] {
        self.children.ids()
    }

    fn alive(&self) -> Result<(), Failure> {
        self.children.alive()
    }

    /// What a node and this SDK agree on under the default profile, and so do two nodes.
    fn security(&self) -> Option<Security> {
        Some(Security {
            protocol: "TLS 1.3".into(),
            cipher_suite: "TLS13_AES_128_GCM_SHA256".into(),
            key_exchange: "X25519".into(),
        })
    }

    async fn responder(&self, node: usize, topic: &str, sink: Arc<Sink>) -> Result<Connected, Failure> {
        let answer = move |delivery: Delivery| {
            sink.deliver(&delivery.payload);
            let answer = acknowledgement(&delivery.payload);
            delivery.answer(answer);
        };
        self.subscribed(node, topic, answer).await
    }

    async fn requester(&self, node: usize, topic: &str) -> Result<Asking, Failure> {
        let client = self.connect(node, |node| &node.asking).await?;
        Ok(Asking { client, topic: topic.into() })
    }

    async fn subscriber(&self, node: usize, topic: &str, sink: Arc<Sink>) -> Result<Connected, Failure> {
        self.subscribed(node, topic, move |delivery| sink.deliver(&delivery.payload)).await
    }

    async fn publisher(&self, node: usize, topic: &str) -> Result<Publishing, Failure> {
        let client = self.connect(node, |node| &node.asking).await?;
        let permits = Arc::new(Semaphore::new(PUBLISHING as usize));
        Ok(Publishing { client, topic: topic.into(), permits, failed: Arc::default() })
    }

    async fn idle(&self, node: usize) -> Result<Connected, Failure> {
        let client = self.connect(node, |node| &node.answering).await?;
        Ok(Connected { _task: None, _client: client })
    }
}

/// A client that asks.
pub struct Asking {
    client: Client,
    topic: Arc<str>,
}

impl Requester for Asking {
    async fn request(&self, payload: Bytes) -> Result<Bytes, Failure> {
        let answer = self.client.request(&self.topic, payload).await;
        answer.map_err(|error| failure(error.code(), error.cause(), error.to_string()))
    }
}

/// A client that publishes.
pub struct Publishing {
    client: Client,
    topic: Arc<str>,
    permits: Arc<Semaphore>,
    failed: Arc<Mutex<Option<Failure>>>,
}

impl Publishing {
    fn outcome(&self) -> Result<(), Failure> {
        self.failed.lock().take().map_or(Ok(()), Err)
    }
}

impl Publisher for Publishing {
    async fn publish(&self, payload: Bytes) -> Result<(), Failure> {
        let permit = self.permits.clone().acquire_owned().await.map_err(|_| closed())?;
        self.outcome()?;
        let (client, topic, failed) = (self.client.clone(), self.topic.clone(), self.failed.clone());
        let publish = async move {
            if let Err(error) = client.publish(&topic, payload).await {
                *failed.lock() = Some(failure(error.code(), error.cause(), error.to_string()));
            }
            drop(permit);
        };
        #[expect(clippy::disallowed_methods, reason = "it ends with the outcome, which always comes")]
        tokio::spawn(publish);
        Ok(())
    }

    async fn flush(&self) -> Result<(), Failure> {
        let _all = self.permits.acquire_many(PUBLISHING).await.map_err(|_| closed())?;
        self.outcome()
    }
}

fn failure(code: i32, cause: Cause, message: String) -> Failure {
    let failure = Failure::new(cause.to_string(), message);
    match u16::try_from(code) {
        Ok(code) => failure.code(code),
        Err(_) => failure,
    }
}

fn closed() -> Failure {
    Failure::new("closed", "the client is closed")
}
