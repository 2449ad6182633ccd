//! Two nats-servers in a cluster: core NATS, mutual TLS on clients and routes.
//!
//! The server's TLS library takes TLS_AES_128_GCM_SHA256 first where the processor has AES; its clients here offer nothing else.
//! Which suite routes use cannot be set; both ends of them are that library. The key exchange can, and is.

use std::{path::PathBuf, sync::Arc, time::Duration};

use amop_limit::{
    setup::{Setup, failed, spawn},
    tls,
};
use amop_load::{
    children::{Children, free_addresses},
    payload::acknowledgement,
    system::{Cluster, Failure, Publisher, Requester, Security, Sink, System},
};
use async_nats::{Client, ConnectOptions, Subject};
use bytes::Bytes;
use futures::StreamExt;
use tokio_util::task::AbortOnDropHandle;

/// How long a client waits for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// Servers that can be started.
pub(crate) struct Nats {
    pub(crate) setup: Arc<Setup>,
    pub(crate) program: PathBuf,
    pub(crate) nodes: usize,
}

/// Servers that run.
pub(crate) struct Servers {
    children: Children,
    ports: Vec<u16>,
    tls: rustls::ClientConfig,
}

impl System for Nats {
    type Cluster = Servers;

    async fn start(&self) -> Result<Servers, Failure> {
        let Self { setup, program, nodes } = self;
        let addresses = free_addresses(2 * nodes)?;
        let (clients, routes) = addresses.split_at(*nodes);
        let mut children = Children::default();
        for (number, (client, route)) in clients.iter().zip(routes).enumerate() {
            let others = routes.iter().filter(|other| *other != route);
            let others: Vec<_> =
                others.map(|other| format!("\"nats-route://{}:{}\"", tls::HOST, other.port())).collect();
            let tls = self.tls_block();
            let text = format!(
                "server_name: n{number}\nlisten: {client}\n{tls}\n\
                 cluster {{ name: bench, listen: {route}, no_advertise: true, {tls}\n routes: [{}] }}\n",
                others.join(", ")
            );
            let config = setup.write(&format!("nats-{number}.conf"), &text)?;
            let mut command = setup.command(program);
            command.arg("-c").arg(config);
            children.start("nats-server", &mut command, &setup.log(&format!("nats-{number}")))?;
        }
        let tls = tls::client(&setup.certs(), "sdk").map_err(failed("tls"))?;
        Ok(Servers { children, ports: clients.iter().map(|at| at.port()).collect(), tls })
    }
}

impl Nats {
    fn tls_block(&self) -> String {
        let certs = self.setup.certs();
        let certs = certs.display();
        format!(
            "tls {{ cert_file: \"{certs}/node.crt\", key_file: \"{certs}/node.key\", ca_file: \"{certs}/ca.crt\", \
             verify: true, timeout: 10, min_version: \"1.3\", curve_preferences: [\"X25519\"] }}"
        )
    }
}

/// A client that is connected as long as this lives.
pub(crate) struct Connected {
    _task: Option<AbortOnDropHandle<()>>,
    _client: Client,
}

impl Servers {
    async fn connect(&self, node: usize) -> Result<Client, Failure> {
        let port = self.ports.get(node).copied().unwrap_or_default();
        let options = ConnectOptions::new()
            .tls_client_config(self.tls.clone())
            .require_tls(true)
            .request_timeout(Some(PATIENCE))
            .connection_timeout(PATIENCE);
        options.connect(format!("tls://{}:{port}", tls::HOST)).await.map_err(failed("connect"))
    }

    /// What `take` gives is sent to where the message wants its answer.
    async fn subscribed(
        &self,
        node: usize,
        topic: &str,
        take: impl Fn(&Bytes) -> Option<Bytes> + Send + 'static,
    ) -> Result<Connected, Failure> {
        let client = self.connect(node).await?;
        let mut messages = client.subscribe(topic.to_owned()).await.map_err(failed("subscribe"))?;
        client.flush().await.map_err(failed("subscribe"))?;
        let publishing = client.clone();
        let task = async move {
            while let Some(message) = messages.next().await {
                if let (Some(answer), Some(to)) = (take(&message.payload), message.reply) {
                    // It fails when the client is closed, which ends the messages, too.
                    let _ = publishing.publish(to, answer).await;
                }
            }
        };
        Ok(Connected { _task: Some(spawn(task)), _client: client })
    }

    async fn at(&self, node: usize, topic: &str) -> Result<At, Failure> {
        Ok(At { client: self.connect(node).await?, topic: topic.into() })
    }
}

impl Cluster for Servers {
    type Requester = At;
    type Publisher = At;
    type Guard = Connected;

    fn name(&self) -> &str {
        "nats"
    }

    fn nodes(&self) -> usize {
        self.ports.len()
    }

    fn servers(&self) -> &[u32] {
        self.children.ids()
    }

    fn security(&self) -> Option<Security> {
        Some(tls::security())
    }

    fn alive(&self) -> Result<(), Failure> {
        self.children.alive()
    }

    async fn responder(&self, node: usize, topic: &str, sink: Arc<Sink>) -> Result<Connected, Failure> {
        let answer = move |payload: &Bytes| {
            sink.deliver(payload);
            Some(acknowledgement(payload))
        };
        self.subscribed(node, topic, answer).await
    }

    async fn requester(&self, node: usize, topic: &str) -> Result<At, Failure> {
        self.at(node, topic).await
    }

    async fn subscriber(&self, node: usize, topic: &str, sink: Arc<Sink>) -> Result<Connected, Failure> {
        let count = move |payload: &Bytes| {
            sink.deliver(payload);
            None
        };
        self.subscribed(node, topic, count).await
    }

    async fn publisher(&self, node: usize, topic: &str) -> Result<At, Failure> {
        self.at(node, topic).await
    }

    async fn idle(&self, node: usize) -> Result<Connected, Failure> {
        Ok(Connected { _task: None, _client: self.connect(node).await? })
    }
}

/// A client that sends to one subject.
pub(crate) struct At {
    client: Client,
    topic: Subject,
}

impl Requester for At {
    async fn request(&self, payload: Bytes) -> Result<Bytes, Failure> {
        let answer = self.client.request(self.topic.clone(), payload).await;
        Ok(answer.map_err(failed("request"))?.payload)
    }
}

impl Publisher for At {
    async fn publish(&self, payload: Bytes) -> Result<(), Failure> {
        self.client.publish(self.topic.clone(), payload).await.map_err(failed("publish"))
    }

    async fn flush(&self) -> Result<(), Failure> {
        self.client.flush().await.map_err(failed("flush"))
    }
}
