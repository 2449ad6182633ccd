//! From a node's address to an established session: TCP, TLS, handshake.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use amop_protocol::{
    Fingerprint, NodeKey, Time,
    session::client::{Config, Dialect, Greeting, GreetingError, Session, Step},
    wire::channel::{Decoder, FrameError},
};
use amop_tls::{ChainError, refusal};
use bytes::BytesMut;
use rand::RngExt;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpStream, lookup_host},
    time::{Instant, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    Options,
    error::ConnectError,
    tls::{Identity, Nodes, Tls},
};

/// Read from the socket at once, below TLS: several records in one system call.
const SOCKET_BUFFER: usize = 32 * 1024;
/// Bytes that the system may hold of a connection which it has not sent yet.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT: u32 = 128 * 1024;
/// Room kept for reading decrypted bytes.
pub(crate) const READ_ROOM: usize = 16 * 1024;

/// One node could not be connected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The name has no address.
    #[error("the address cannot be resolved ({0})")]
    Resolve(#[source] io::Error),
    /// No TCP connection.
    #[error("no connection ({0}); is a node running there?")]
    Tcp(#[source] io::Error),
    /// The node's certificate is not believed.
    #[error("the node's certificate is not believed: {0}")]
    Certificate(ChainError),
    /// The node refused this client during the TLS handshake.
    #[error(
        "the node refused this client's certificate ({0}); was it issued for a client of this consortium?"
    )]
    Refused(rustls::Error),
    /// TLS failed otherwise.
    #[error("TLS failed ({0}); is this a node's client port?")]
    Tls(#[source] io::Error),
    /// The node's handshake is not understood.
    #[error("{0}")]
    Greeting(#[from] GreetingError),
    /// What came is not a frame.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// The node hung up.
    #[error("the node closed the connection during the handshake; it may not accept this client")]
    Closed,
    /// It took too long.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
}

/// A node that a client is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Node {
    /// As the options have it.
    pub address: String,
    /// The name in its certificate.
    pub name: Arc<str>,
    /// Its institution, as its certificate says.
    pub institution: Arc<str>,
    /// Its public key, by which other nodes and clients know it.
    pub key: Option<NodeKey>,
    /// Whether it speaks the extension frames: deadlines, senders, causes, acknowledged
    /// subscriptions.
    pub extended: bool,
}

pub(crate) type Stream = TlsStream<BufReader<TcpStream>>;

/// A connection whose handshake is done.
pub(crate) struct Established {
    pub(crate) stream: Stream,
    /// Bytes that came behind the handshake.
    pub(crate) inbound: BytesMut,
    pub(crate) session: Box<Session>,
    pub(crate) node: Node,
}

/// Dials nodes. All connections of a client name the same instance.
pub(crate) struct Connector {
    options: Arc<Options>,
    tls: TlsConnector,
    nodes: Nodes,
    fingerprint: Fingerprint,
    instance: u128,
    clock: Clock,
}

/// The driver's clock: [`Time`] for the session.
#[derive(Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn now(self) -> Time {
        Time::from_start(self.0.elapsed())
    }

    pub(crate) fn instant(self, time: Time) -> Instant {
        // A far moment stands for "never".
        const FAR: Duration = Duration::from_secs(365 * 24 * 3600);
        self.0 + time.since_start().min(self.0.elapsed() + FAR)
    }
}

impl Connector {
    pub(crate) fn new(options: Arc<Options>) -> Result<Self, ConnectError> {
        if options.nodes.is_empty() {
            return Err(ConnectError::NoNode);
        }
        let Tls { config, nodes, fingerprint } = Tls::load(&options.certificates)?;
        let instance = rand::rng().random();
        Ok(Self {
            options,
            tls: TlsConnector::from(Arc::new(config)),
            nodes,
            fingerprint,
            instance,
            clock: Clock(Instant::now()),
        })
    }

    /// This client's certificate.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    /// Connects one node.
    pub(crate) async fn dial(&self, node: &str) -> Result<Established, DialError> {
        let bound = self.options.connect_timeout;
        timeout(bound, self.establish(node)).await.unwrap_or(Err(DialError::TimedOut(bound)))
    }

    async fn establish(&self, node: &str) -> Result<Established, DialError> {
        let tcp = tcp_connect(node).await?;
        let peer = tcp.peer_addr().map_err(DialError::Tcp)?;
        let socket = BufReader::with_capacity(SOCKET_BUFFER, tcp);
        let name = ServerName::from(peer.ip());
        let mut stream = self.tls.connect(name, socket).await.map_err(tls_failed)?;
        let Identity { name, institution, key } = self.identify(&stream)?;
        let (session, inbound) = self.greet(&mut stream).await?;
        let node = Node {
            address: node.to_owned(),
            name,
            institution,
            key,
            extended: session.dialect() == Dialect::Extended,
        };
        Ok(Established { stream, inbound, session, node })
    }

    fn identify(&self, stream: &Stream) -> Result<Identity, DialError> {
        let chain = stream.get_ref().1.peer_certificates().ok_or(DialError::Closed)?;
        self.nodes.identify(chain).map_err(DialError::Certificate)
    }

    async fn greet(&self, stream: &mut Stream) -> Result<(Box<Session>, BytesMut), DialError> {
        let config = Config {
            client_type: self.options.name.clone(),
            instance: self.instance,
            heartbeat: self.options.heartbeat,
            silence: self.options.silence,
            max_frame: self.options.max_frame,
            ..Config::default()
        };
        let base = rand::rng().random();
        let (mut greeting, hello) = Greeting::new(config, base);
        let mut outbound = BytesMut::new();
        hello.put(&mut outbound);
        // With TLS 1.3 a node refuses our certificate only now.
        stream.write_all(&outbound).await.map_err(tls_failed)?;
        stream.flush().await.map_err(tls_failed)?;
        let decoder = Decoder::new(self.options.max_frame);
        let mut inbound = BytesMut::with_capacity(READ_ROOM);
        loop {
            while let Some(frame) = decoder.decode(&mut inbound)? {
                match greeting.handle_frame(self.clock.now(), &frame)? {
                    Step::Ready(session) => return Ok((session, inbound)),
                    Step::Waiting(same) => greeting = same,
                }
            }
            if stream.read_buf(&mut inbound).await.map_err(tls_failed)? == 0 {
                return Err(DialError::Closed);
            }
        }
    }
}

async fn tcp_connect(node: &str) -> Result<TcpStream, DialError> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let addresses: Vec<SocketAddr> = lookup_host(node).await.map_err(DialError::Resolve)?.collect();
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(tcp) => {
                tcp.set_nodelay(true).map_err(DialError::Tcp)?;
                keep_unsent_low(&tcp);
                return Ok(tcp);
            }
            Err(error) => failed = error,
        }
    }
    Err(DialError::Tcp(failed))
}

/// Has the system take little more than it can send: what it has taken, nothing passes any more.
fn keep_unsent_low(tcp: &TcpStream) {
    // Where it cannot be had, small messages wait longer behind large ones.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = socket2::SockRef::from(tcp).set_tcp_notsent_lowat(UNSENT);
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = tcp;
}

/// Finds out what an IO error of a TLS stream means.
fn tls_failed(error: io::Error) -> DialError {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    if let Some(cause) = tls.and_then(refusal) {
        return DialError::Certificate(cause.clone());
    }
    match tls {
        Some(alert @ rustls::Error::AlertReceived(_)) => DialError::Refused(alert.clone()),
        _ if error.kind() == io::ErrorKind::UnexpectedEof => DialError::Closed,
        _ => DialError::Tls(error),
    }
}
