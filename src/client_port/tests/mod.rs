//! The port against real TLS clients and a small broker that knows only its own sessions.

mod hostile;
mod messages;
mod sdk;
mod sessions;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicUsize, Ordering},
};

use amop_protocol::{
    Cause, NodeKey, Seq,
    broker::{
        event::{AnswerBody, Handout, Mode, Outcome, Push, Sender},
        routing::Node,
    },
    session::handshake::About,
    wire::channel::{Decoder, Encoded, Frame, Type},
};
use amop_testkit::ca::{Consortium, Institution, Leaf};
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::*;
use crate::identity::{Clients, Credentials};

/// Longest that anything is waited for before a test fails.
const DEADLINE: Duration = Duration::from_secs(20);

struct TestBroker {
    registry: Arc<Registry>,
    routing: Arc<Routing>,
    state: Arc<Mutex<State>>,
    /// A report is in force once it has a permit.
    reports: Arc<Semaphore>,
    published: AtomicUsize,
}

#[derive(Default)]
struct State {
    topics: BTreeMap<SessionId, BTreeSet<Topic>>,
    waiting: BTreeMap<u64, Outcome>,
    next_push: u64,
    answers: Vec<Answer>,
    verdicts: Vec<(SessionId, Verdict)>,
    pushed: Vec<Result<(), PushError>>,
    written: Vec<PushId>,
    introduced: Vec<(SessionId, Subscriber)>,
    opened: Vec<Arc<SessionInfo>>,
    closed: Vec<SessionId>,
}

impl TestBroker {
    fn push(&self, publish: &Publish, session: SessionId) -> Result<PushId, PushError> {
        let id = {
            let mut state = self.state.lock();
            state.next_push += 1;
            PushId(state.next_push)
        };
        let sender =
            Sender { institution: "bank-a".into(), node: self.routing.me(), client: publish.client.clone() };
        let Publish { mode, topic, payload, seq: message, .. } = publish.clone();
        let answer_within = Duration::from_secs(5);
        let (context, frame) = (None, None);
        let handout = Handout { id, mode, topic, payload, sender, answer_within, message, context, frame };
        let push = Push { session, handout: Arc::new(handout) };
        self.registry.push(push).map(|()| id)
    }
}

impl Broker for TestBroker {
    fn opened(&self, session: &Arc<SessionInfo>) {
        self.state.lock().opened.push(session.clone());
    }

    fn verdict(&self, session: SessionId, verdict: Verdict) -> BoxFuture<'static, ()> {
        self.state.lock().verdicts.push((session, verdict));
        Box::pin(std::future::ready(()))
    }

    fn report(
        &self,
        session: SessionId,
        _: Arc<ClientIdentity>,
        topics: Vec<Topic>,
    ) -> BoxFuture<'static, ()> {
        let (state, reports) = (self.state.clone(), self.reports.clone());
        Box::pin(async move {
            reports.acquire().await.expect("never closed").forget();
            state.lock().topics.insert(session, topics.into_iter().collect());
        })
    }

    fn settled(&self) -> BoxFuture<'static, bool> {
        Box::pin(async { true })
    }

    fn publish(&self, publish: Publish) {
        self.published.fetch_add(1, Ordering::SeqCst);
        let wanted: Vec<_> = {
            let state = self.state.lock();
            let others = state.topics.iter().filter(|(id, _)| **id != publish.session);
            others.filter(|(_, topics)| topics.contains(&publish.topic)).map(|(id, _)| *id).collect()
        };
        let mut outcome = Outcome {
            session: publish.session,
            seq: publish.seq,
            mode: publish.mode,
            topic: Some(publish.topic.clone()),
            cause: Cause::NoSubscriber,
            body: AnswerBody::default(),
            retry_after: Duration::ZERO,
            retry: Cause::NoSubscriber.retry(),
            hop: None,
        };
        match publish.mode {
            Mode::Unicast if publish.topic.as_str() == "silence" => {}
            Mode::Unicast => match wanted.first().map(|session| self.push(&publish, *session)) {
                Some(Ok(id)) => drop(self.state.lock().waiting.insert(id.0, outcome)),
                _ => self.registry.outcome(outcome),
            },
            Mode::Multicast => {
                if wanted.iter().filter(|session| self.push(&publish, **session).is_ok()).count() > 0 {
                    outcome.cause = Cause::Delivered;
                }
                self.registry.outcome(outcome);
            }
        }
    }

    fn answer(&self, _: SessionId, push: PushId, answer: Answer) {
        self.state.lock().answers.push(answer.clone());
        let waiting = self.state.lock().waiting.remove(&push.0);
        if let Some(outcome) = waiting {
            let cause = if answer.result == 0 { Cause::Delivered } else { Cause::SubscriberRefused };
            self.registry.outcome(Outcome { cause, body: answer.body, ..outcome });
        }
    }

    fn subscriber(&self, session: SessionId, subscriber: Subscriber) {
        self.state.lock().introduced.push((session, subscriber));
    }

    fn written(&self, _: SessionId, pushes: &[PushId]) {
        self.state.lock().written.extend(pushes);
    }

    fn pushed(&self, _: SessionId, pushes: &[PushId], result: Result<(), PushError>) {
        self.state.lock().pushed.extend(pushes.iter().map(|_| result));
    }

    fn closed(&self, session: SessionId) {
        let mut state = self.state.lock();
        state.topics.remove(&session);
        state.closed.push(session);
    }

    fn routing(&self) -> Arc<Routing> {
        self.routing.clone()
    }
}

/// A port, its broker, and the certificates to reach it with.
struct Bed {
    consortium: Consortium,
    bank: Institution,
    port: ClientPort,
    broker: Arc<TestBroker>,
    tasks: Tasks,
}

fn credentials(leaf: &Leaf) -> Credentials {
    Credentials::new(&[leaf.root()], leaf.chain(), leaf.key()).expect("credentials")
}

impl Bed {
    async fn new(change: impl FnOnce(&mut Config)) -> Self {
        let consortium = Consortium::new();
        let bank = consortium.institution("bank-a");
        let leaf = bank.node("node-1");
        let credentials = credentials(&leaf);
        let key = credentials.node_key();
        let about = About { key, name: "node-1".into(), institution: "bank-a".into() };
        let mut config = Config::new(about);
        change(&mut config);
        let registry = Arc::new(Registry::new(Metrics::default()));
        let broker = Arc::new(TestBroker {
            registry: registry.clone(),
            routing: Arc::new(Routing::new(node(key))),
            state: Arc::default(),
            reports: Arc::new(Semaphore::new(1000)),
            published: AtomicUsize::new(0),
        });
        let tasks = Tasks::new();
        let port = ClientPort::start(
            &tasks,
            config,
            vec![(SocketAddr::from(([127, 0, 0, 1], 0)), credentials.client_tls(Clients::OfConsortium))],
            broker.clone(),
            registry,
        )
        .await
        .expect("a port");
        Self { consortium, bank, port, broker, tasks }
    }

    fn address(&self) -> SocketAddr {
        self.port.addresses()[0]
    }

    async fn client(&self) -> Client {
        self.client_as(&self.bank.client("till"), &[&rustls::version::TLS13]).await
    }

    async fn client_as(&self, leaf: &Leaf, versions: &[&'static rustls::SupportedProtocolVersion]) -> Client {
        let tls = self.connect(client_config(Some(leaf), versions)).await.expect("a TLS handshake");
        Client { tls, input: BytesMut::new() }
    }

    async fn connect(&self, config: rustls::ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(self.address()).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from("localhost").expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await
    }

    /// A client that has the topics; it is told how to find out by a heartbeat after the report.
    async fn subscriber(&self, topics: &[&str]) -> Client {
        let mut client = self.client().await;
        client.handshake().await;
        client.report(topics).await;
        client
    }

    fn metrics(&self) -> &Metrics {
        self.broker.registry.metrics()
    }
}

fn node(key: NodeKey) -> Node {
    Node {
        id: key.id(),
        key,
        name: "node-1".into(),
        institution: "bank-a".into(),
        address: "127.0.0.1:30300".into(),
        epoch: 1,
        next_hop: key.id(),
        hops: 0,
        way: 0,
        seal: None,
    }
}

/// A client of the raw protocol.
struct Client {
    tls: TlsStream<TcpStream>,
    input: BytesMut,
}

impl Client {
    async fn send(&mut self, frame: Encoded) {
        let mut bytes = BytesMut::new();
        frame.put(&mut bytes);
        self.send_raw(&bytes).await;
    }

    async fn send_raw(&mut self, bytes: &[u8]) {
        self.tls.write_all(bytes).await.expect("written");
        self.tls.flush().await.expect("flushed");
    }

    async fn receive(&mut self) -> Frame {
        self.try_receive().await.expect("a frame, not the end of the connection")
    }

    /// The next frame; `None` when the node closed the connection.
    async fn try_receive(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = Decoder::default().decode(&mut self.input).expect("a frame") {
                return Some(frame);
            }
            let read = tokio::time::timeout(DEADLINE, self.tls.read_buf(&mut self.input)).await;
            if matches!(read.expect("an answer in time"), Ok(0) | Err(_)) {
                return None;
            }
        }
    }

    async fn ask(&mut self, kind: Type, body: impl AsRef<[u8]>) -> Frame {
        let seq = Seq(*b"11223344556677889900aabbccdd0001");
        self.send(Encoded::new(kind, seq, 0, body.as_ref(), Bytes::new())).await;
        let frame = self.receive().await;
        assert_eq!((frame.kind, frame.seq), (kind, seq));
        frame
    }

    async fn handshake(&mut self) {
        self.ask(Type::HANDSHAKE, r#"{"minimumSupport":1,"maximumSupport":3,"clientType":"test"}"#).await;
    }

    async fn extend(&mut self) {
        let reply = self.ask(Type::HANDSHAKE, r#"{"maximumSupport":3,"amop":{"version":1}}"#).await;
        assert!(reply.body.windows(6).any(|w| w == b"\"amop\""), "{reply:?}");
    }

    /// Reports topics and waits until they are in force.
    async fn report(&mut self, topics: &[&str]) {
        let body = serde_json::to_vec(topics).expect("JSON");
        self.send(Encoded::new(Type::TOPICS, Seq([b'1'; 32]), 0, &body, Bytes::new())).await;
        self.ask(Type::HEARTBEAT, "").await;
    }
}

fn message(kind: Type, seq: u128, topic: &str, payload: impl Into<Bytes>) -> Encoded {
    Encoded::with_topic(kind, Seq::from_u128(seq), 0, &Topic::parse(topic).expect("a topic"), payload.into())
}

fn client_config(
    leaf: Option<&Leaf>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyNode(provider)));
    match leaf {
        Some(leaf) => {
            builder.with_client_auth_cert(leaf.chain(), PrivateKeyDer::Pkcs8(leaf.key())).expect("a key")
        }
        None => builder.with_no_client_auth(),
    }
}

/// Whom the node is, is not what is tested here.
#[derive(Debug)]
struct AnyNode(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AnyNode {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Something a test does meanwhile.
#[expect(clippy::disallowed_methods, reason = "the test awaits it itself")]
fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> tokio::task::JoinHandle<T> {
    tokio::spawn(task)
}

/// Waits until something is so.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < DEADLINE, "not in time: {what}");
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
