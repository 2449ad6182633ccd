//! Two mosquitto brokers joined by a bridge, mutual TLS, clients with QoS 1.
//!
//! MQTT 3.1.1 has no requests: one is published to `req/TOPIC`, its answer to `rep/TOPIC`, and the number that both begin
//! with tells which answer belongs to which. With QoS 1 on the bridge, too, a round trip takes 44 ms: the socket that a
//! bridge opens keeps Nagle's delay, and waits for acknowledgements. So there are two: `mosquitto`, with QoS 0 on the
//! bridge, and `mosquitto-q1`.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use amop_limit::{
    answers::Waiting,
    setup::{Setup, failed, spawn},
    tls,
};
use amop_load::{
    children::{Children, free_addresses},
    payload::acknowledgement,
    system::{Cluster, Failure, Publisher, Requester, Security, Sink, System},
};
use bytes::Bytes;
use rumqttc::{AsyncClient, Event, EventLoop, Incoming, MqttOptions, QoS, TlsConfiguration, Transport};
use tokio_util::task::AbortOnDropHandle;

/// Messages of a client without an acknowledgement.
const IN_FLIGHT: u16 = 2048;
/// What a client may have waiting for its own event loop.
const QUEUE: usize = 8192;
/// Largest packet.
const PACKET: usize = 4 << 20;

static CLIENTS: AtomicU64 = AtomicU64::new(0);

/// Brokers that can be started.
pub(crate) struct Mosquitto {
    pub(crate) setup: Arc<Setup>,
    pub(crate) program: PathBuf,
    pub(crate) nodes: usize,
    /// Quality of service on bridges, 0 or 1.
    pub(crate) bridge: u8,
}

/// Brokers that run.
pub(crate) struct Brokers {
    children: Children,
    ports: Vec<u16>,
    tls: Arc<rustls::ClientConfig>,
}

impl Mosquitto {
    fn text(&self, port: u16, before: Option<u16>) -> String {
        let certs = self.setup.certs();
        let certs = certs.display();
        let mut text = format!(
            "user root\nset_tcp_nodelay true\nmax_inflight_messages 0\nmax_queued_messages 0\nmax_queued_bytes 0\n\
             persistence false\nlog_type error\nlog_dest stderr\nlistener {port} 127.0.0.1\n\
             cafile {certs}/ca.crt\ncertfile {certs}/node.crt\nkeyfile {certs}/node.key\nrequire_certificate true\n\
             allow_anonymous true\ntls_version tlsv1.3\nciphers_tls1.3 TLS_AES_128_GCM_SHA256\n"
        );
        if let Some(before) = before {
            text.push_str(&format!(
                "connection bridge\naddress {}:{before}\ntopic # both {}\nbridge_cafile {certs}/ca.crt\n\
                 bridge_certfile {certs}/node.crt\nbridge_keyfile {certs}/node.key\nbridge_tls_version tlsv1.3\n\
                 cleansession true\nnotifications false\ntry_private true\nrestart_timeout 1\n\
                 bridge_protocol_version mqttv311\nkeepalive_interval 60\n",
                tls::HOST,
                self.bridge
            ));
        }
        text
    }
}

impl System for Mosquitto {
    type Cluster = Brokers;

    async fn start(&self) -> Result<Brokers, Failure> {
        let mut children = Children::default();
        let ports: Vec<u16> = free_addresses(self.nodes)?.iter().map(|at| at.port()).collect();
        let mut before = None;
        for (number, port) in ports.iter().enumerate() {
            let name = format!("mosquitto-{number}");
            let config = self.setup.write(&format!("{name}.conf"), &self.text(*port, before))?;
            let mut command = self.setup.command(&self.program);
            children.start("mosquitto", command.arg("-c").arg(config), &self.setup.log(&name))?;
            before = Some(*port);
        }
        let tls = tls::client(&self.setup.certs(), "sdk").map_err(failed("tls"))?;
        Ok(Brokers { children, ports, tls: Arc::new(tls) })
    }
}

/// A client that is connected as long as this lives.
pub(crate) struct Connected {
    client: AsyncClient,
    _task: AbortOnDropHandle<()>,
}

impl Brokers {
    /// Resolves when the broker has acknowledged the connection and, if there is one, the subscription.
    async fn connect(
        &self,
        node: usize,
        subscription: Option<String>,
        mut take: impl FnMut(&AsyncClient, Bytes) + Send + 'static,
    ) -> Result<Connected, Failure> {
        let (client, mut events) = self.client(node);
        let subscribes = subscription.is_some();
        if let Some(filter) = subscription {
            client.subscribe(filter, QoS::AtLeastOnce).await.map_err(failed("subscribe"))?;
        }
        loop {
            match events.poll().await.map_err(failed("connect"))? {
                Event::Incoming(Incoming::ConnAck(_)) if !subscribes => break,
                Event::Incoming(Incoming::SubAck(_)) => break,
                _ => {}
            }
        }
        let publishing = client.clone();
        let task = async move {
            while let Ok(event) = events.poll().await {
                if let Event::Incoming(Incoming::Publish(message)) = event {
                    take(&publishing, message.payload);
                }
            }
        };
        Ok(Connected { client, _task: spawn(task) })
    }

    fn client(&self, node: usize) -> (AsyncClient, EventLoop) {
        let name = format!("c{}-{}", std::process::id(), CLIENTS.fetch_add(1, Ordering::Relaxed));
        let port = self.ports.get(node).copied().unwrap_or_default();
        let mut options = MqttOptions::new(name, tls::HOST, port);
        options.set_transport(Transport::Tls(TlsConfiguration::Rustls(self.tls.clone())));
        options.set_keep_alive(Duration::from_secs(300));
        options.set_max_packet_size(PACKET, PACKET);
        options.set_inflight(IN_FLIGHT);
        options.set_clean_session(true);
        let (client, mut events) = AsyncClient::new(options, QUEUE);
        let mut network = events.network_options();
        network.set_tcp_nodelay(true);
        network.set_connection_timeout(30);
        events.set_network_options(network);
        (client, events)
    }
}

impl Cluster for Brokers {
    type Requester = Asking;
    type Publisher = Publishing;
    type Guard = Connected;

    fn name(&self) -> &str {
        "mosquitto"
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
        let to = format!("rep/{topic}");
        let answer = move |client: &AsyncClient, payload: Bytes| {
            sink.deliver(&payload);
            // A full queue loses the answer, which its requester then misses.
            let _ = client.try_publish(&to, QoS::AtLeastOnce, false, acknowledgement(&payload).to_vec());
        };
        self.connect(node, Some(format!("req/{topic}")), answer).await
    }

    async fn requester(&self, node: usize, topic: &str) -> Result<Asking, Failure> {
        let waiting = Waiting::default();
        let found = waiting.clone();
        let resolve = move |_: &AsyncClient, payload: Bytes| found.resolve(payload);
        let connected = self.connect(node, Some(format!("rep/{topic}")), resolve).await?;
        Ok(Asking { connected, topic: format!("req/{topic}"), waiting })
    }

    async fn subscriber(&self, node: usize, topic: &str, sink: Arc<Sink>) -> Result<Connected, Failure> {
        self.connect(node, Some(topic.to_owned()), move |_, payload| sink.deliver(&payload)).await
    }

    async fn publisher(&self, node: usize, topic: &str) -> Result<Publishing, Failure> {
        let connected = self.connect(node, None, |_, _| {}).await?;
        Ok(Publishing { connected, topic: topic.to_owned() })
    }

    async fn idle(&self, node: usize) -> Result<Connected, Failure> {
        self.connect(node, None, |_, _| {}).await
    }
}

/// A client that asks.
pub(crate) struct Asking {
    connected: Connected,
    topic: String,
    waiting: Waiting,
}

impl Requester for Asking {
    async fn request(&self, payload: Bytes) -> Result<Bytes, Failure> {
        let answer = self.waiting.expect(&payload)?;
        let sent = self.connected.client.publish_bytes(&self.topic, QoS::AtLeastOnce, false, payload);
        sent.await.map_err(failed("publish"))?;
        answer.await
    }
}

/// A client that publishes.
pub(crate) struct Publishing {
    connected: Connected,
    topic: String,
}

impl Publisher for Publishing {
    async fn publish(&self, payload: Bytes) -> Result<(), Failure> {
        let sent = self.connected.client.publish_bytes(&self.topic, QoS::AtLeastOnce, false, payload);
        sent.await.map_err(failed("publish"))
    }
}
