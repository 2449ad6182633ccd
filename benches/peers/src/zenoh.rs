//! Two zenohd routers, clients of zenoh, mutual TLS.
//!
//! Which suites zenoh offers cannot be configured. Its clients here take what this process has pinned; between routers it is
//! rustls's own order, TLS13_AES_256_GCM_SHA384 first. Its TLS link (1.10) shares one stream between its reading and its writing task; under traffic both ways links
//! break, queries stay without reply, and the process may abort. So it is put to one request at a time and to multicast,
//! idle clients and starts, and must be asked for.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use amop_limit::{
    compare::{Case, Contender, Of},
    setup::{Setup, failed, version},
    tls,
};
use amop_load::{
    children::{Children, free_addresses},
    payload::acknowledgement,
    system::{Cluster, Failure, Publisher, Requester, Security, Sink, System},
};
use bytes::Bytes;
use zenoh::{Session, Wait, qos::CongestionControl, query::ConsolidationMode};

/// How long a query may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// zenoh, if it was asked for.
pub(crate) fn contenders(setup: &Arc<Setup>, program: &Path) -> Vec<Box<dyn Contender>> {
    let about = format!(
        "{}; routers, TLS links with enable_mtls, scouting off, querier and queryable without consolidation, \
         congestion control `block`, otherwise defaults; between routers TLS13_AES_256_GCM_SHA384",
        version(program)
    );
    let (setup, program) = (setup.clone(), program.to_owned());
    let make = move |nodes| Zenoh { setup: setup.clone(), program: program.clone(), nodes };
    vec![Box::new(Of::new("zenoh", about, make).peer().except(breaks))]
}

/// Traffic both ways, and lines of more than two.
fn breaks(case: Case) -> bool {
    match case {
        Case::Requests { in_flight, .. } => in_flight > 1,
        Case::Half { .. } | Case::Bulk { .. } | Case::Hops { .. } => true,
        Case::Idle { clients } => clients > 2_000,
        Case::FanOut { .. } | Case::Start => false,
    }
}

/// Routers that can be started.
pub(crate) struct Zenoh {
    setup: Arc<Setup>,
    program: PathBuf,
    nodes: usize,
}

/// Routers that run.
pub(crate) struct Routers {
    children: Children,
    ports: Vec<u16>,
    certs: PathBuf,
}

impl System for Zenoh {
    type Cluster = Routers;

    async fn start(&self) -> Result<Routers, Failure> {
        let mut children = Children::default();
        let ports: Vec<u16> = free_addresses(self.nodes)?.iter().map(|at| at.port()).collect();
        let certs = self.setup.certs();
        let mut before = None;
        for (number, port) in ports.iter().enumerate() {
            let name = format!("zenoh-{number}");
            let text = format!(
                "{{ mode: \"router\", listen: {{ endpoints: [\"{}\"] }}, connect: {{ endpoints: [{}] }}, \
                 transport: {{ unicast: {{ max_sessions: 20000, accept_pending: 1000 }}, link: {{ tls: {{ \
                 listen_certificate: \"{certs}/node.crt\", listen_private_key: \"{certs}/node.key\", {} }} }} }}, {SCOUTING} }}",
                endpoint(*port),
                before.map(|before| format!("\"{}\"", endpoint(before))).unwrap_or_default(),
                connecting(&certs, "node"),
                certs = certs.display(),
            );
            let config = self.setup.write(&format!("{name}.json5"), &text)?;
            let mut command = self.setup.command(&self.program);
            command.arg("-c").arg(config).env("RUST_LOG", "error");
            children.start("zenohd", &mut command, &self.setup.log(&name))?;
            before = Some(*port);
        }
        Ok(Routers { children, ports, certs })
    }
}

const SCOUTING: &str = "scouting: { multicast: { enabled: false }, gossip: { enabled: false } }";

fn endpoint(port: u16) -> String {
    format!("tls/{}:{port}", tls::HOST)
}

fn connecting(certs: &Path, name: &str) -> String {
    let certs = certs.display();
    format!(
        "root_ca_certificate: \"{certs}/ca.crt\", connect_certificate: \"{certs}/{name}.crt\", \
         connect_private_key: \"{certs}/{name}.key\", enable_mtls: true, verify_name_on_connect: true"
    )
}

impl Routers {
    async fn connect(&self, node: usize) -> Result<Session, Failure> {
        let text = format!(
            "{{ mode: \"client\", connect: {{ endpoints: [\"{}\"] }}, transport: {{ link: {{ tls: {{ {} }} }} }}, {SCOUTING} }}",
            endpoint(self.ports.get(node).copied().unwrap_or_default()),
            connecting(&self.certs, "sdk"),
        );
        let config = zenoh::Config::from_json5(&text).map_err(failed("connect"))?;
        zenoh::open(config).await.map_err(failed("connect"))
    }
}

/// What keeps a client connected, and declared what it is.
pub(crate) type Connected = Box<dyn std::any::Any + Send>;

impl Cluster for Routers {
    type Requester = Asking;
    type Publisher = Publishing;
    type Guard = Connected;

    fn name(&self) -> &str {
        "zenoh"
    }

    fn nodes(&self) -> usize {
        self.ports.len()
    }

    fn servers(&self) -> &[u32] {
        self.children.ids()
    }

    fn security(&self) -> Option<Security> {
        Some(Security {
            cipher_suite: "TLS13_AES_128_GCM_SHA256, between routers TLS13_AES_256_GCM_SHA384".into(),
            ..tls::security()
        })
    }

    fn alive(&self) -> Result<(), Failure> {
        self.children.alive()
    }

    async fn responder(&self, node: usize, topic: &str, sink: Arc<Sink>) -> Result<Connected, Failure> {
        let session = self.connect(node).await?;
        let answer = move |query: zenoh::query::Query| {
            let payload = query.payload().map(|payload| payload.to_bytes()).unwrap_or_default();
            sink.deliver(&payload);
            // A reply that cannot be sent is a query without one, which its requester counts.
            let _ = query.reply(query.key_expr().clone(), &acknowledgement(&payload)[..]).wait();
        };
        let declared = session.declare_queryable(topic.to_owned()).complete(true).callback(answer).await;
        Ok(Box::new((declared.map_err(failed("subscribe"))?, session)))
    }

    async fn requester(&self, node: usize, topic: &str) -> Result<Asking, Failure> {
        let session = self.connect(node).await?;
        let querier = session
            .declare_querier(topic.to_owned())
            .consolidation(ConsolidationMode::None)
            .congestion_control(CongestionControl::Block)
            .timeout(PATIENCE)
            .await;
        Ok(Asking { querier: querier.map_err(failed("connect"))?, _session: session })
    }

    async fn subscriber(&self, node: usize, topic: &str, sink: Arc<Sink>) -> Result<Connected, Failure> {
        let session = self.connect(node).await?;
        let count = move |sample: zenoh::sample::Sample| sink.deliver(&sample.payload().to_bytes());
        let declared = session.declare_subscriber(topic.to_owned()).callback(count).await;
        Ok(Box::new((declared.map_err(failed("subscribe"))?, session)))
    }

    async fn publisher(&self, node: usize, topic: &str) -> Result<Publishing, Failure> {
        let session = self.connect(node).await?;
        let publisher =
            session.declare_publisher(topic.to_owned()).congestion_control(CongestionControl::Block).await;
        Ok(Publishing { publisher: publisher.map_err(failed("connect"))?, _session: session })
    }

    async fn idle(&self, node: usize) -> Result<Connected, Failure> {
        Ok(Box::new(self.connect(node).await?))
    }
}

/// A client that asks.
pub(crate) struct Asking {
    querier: zenoh::query::Querier<'static>,
    _session: Session,
}

impl Requester for Asking {
    async fn request(&self, payload: Bytes) -> Result<Bytes, Failure> {
        let replies = self.querier.get().payload(payload).await.map_err(failed("request"))?;
        let reply = replies.recv_async().await.map_err(failed("no_reply"))?;
        let sample = reply.result().map_err(|_| Failure::new("error_reply", "the reply is an error"))?;
        Ok(Bytes::copy_from_slice(&sample.payload().to_bytes()))
    }
}

/// A client that publishes.
pub(crate) struct Publishing {
    publisher: zenoh::pubsub::Publisher<'static>,
    _session: Session,
}

impl Publisher for Publishing {
    async fn publish(&self, payload: Bytes) -> Result<(), Failure> {
        self.publisher.put(payload).await.map_err(failed("publish"))
    }
}
