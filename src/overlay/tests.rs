//! Nodes over real loopback TCP and real TLS.

use std::time::Instant;

use amop_protocol::wire::peer::DataError;
use amop_protocol::wire::{
    generated::{Heartbeat, control::Message},
    link::Kind,
};
use amop_testkit::ca::{Consortium, Institution, Leaf};
use bytes::Bytes;
use futures::FutureExt;
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

/// Keeps what comes.
struct Recorder(mpsc::Sender<(NodeId, LinkFrame)>);

impl Router for Recorder {
    fn handle_data(&self, from: NodeId, frame: LinkFrame) -> Result<(), DataError> {
        self.0.try_send((from, frame)).expect("the test takes what comes");
        Ok(())
    }

    fn handle_dropped(&self, _: NodeId, _: LinkFrame) {}
}

struct Node {
    id: NodeId,
    tasks: Tasks,
    overlay: Overlay,
    events: mpsc::Receiver<Event>,
    frames: mpsc::Receiver<(NodeId, LinkFrame)>,
    address: SocketAddr,
}

fn credentials(leaf: &Leaf) -> Credentials {
    Credentials::new(&[leaf.root()], leaf.chain(), leaf.key()).unwrap()
}

fn institution() -> Institution {
    Consortium::new().institution("bank")
}

/// A quick configuration on a free port.
fn config(peers: &[SocketAddr]) -> Config {
    let mut config = Config::new("127.0.0.1:0".parse().unwrap());
    config.peers = peers.iter().map(|address| (*address).into()).collect();
    config
}

async fn start(leaf: &Leaf, epoch: u64, config: Config) -> Node {
    let (recorder, frames) = mpsc::channel(100_000);
    let credentials = credentials(leaf);
    let id = credentials.node_key().id();
    let tasks = Tasks::new();
    let (overlay, events) =
        Overlay::start(&tasks, config, credentials, epoch, Arc::new(Recorder(recorder))).unwrap();
    let address = overlay.listening().await.unwrap();
    Node { id, tasks, overlay, events, frames, address }
}

impl Node {
    /// The next event that is not a round trip.
    async fn event(&mut self) -> Event {
        loop {
            let event = timeout(DEADLINE, self.events.recv()).await.expect("an event comes").unwrap();
            if !matches!(event, Event::RoundTrip { .. }) {
                return event;
            }
        }
    }

    async fn up(&mut self) -> (Peer, Link) {
        match self.event().await {
            Event::LinkUp { peer, link } => (peer, link),
            other => panic!("expected LinkUp, got {other:?}"),
        }
    }

    async fn down(&mut self) -> DownReason {
        match self.event().await {
            Event::LinkDown { reason, .. } => reason,
            other => panic!("expected LinkDown, got {other:?}"),
        }
    }

    async fn frame(&mut self) -> (NodeId, LinkFrame) {
        timeout(DEADLINE, self.frames.recv()).await.expect("a frame comes").unwrap()
    }
}

/// Waits for a counter.
async fn reaches(counter: &prometheus_client::metrics::counter::Counter, value: u64) {
    let started = Instant::now();
    while counter.get() < value {
        assert!(started.elapsed() < DEADLINE, "the counter stays at {}", counter.get());
        tokio::task::yield_now().await;
    }
}

fn data(flow: u32, size: usize) -> LinkFrame {
    let header = Bytes::from_static(b"head");
    LinkFrame { kind: Kind::Data, hops: 3, flow, header, payload: vec![flow as u8; size].into() }
}

/// Whatever the server shows is fine: these clients are the ones under suspicion.
#[derive(Debug)]
struct Trusting;

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

/// A bare TLS connection with this certificate, to the point where the server may still refuse it.
async fn bare_tls(leaf: &Leaf, address: SocketAddr) -> tokio_rustls::client::TlsStream<TcpStream> {
    bare_tls_for(leaf, address, crate::identity::OVERLAY_ALPN).await
}

/// The same for another protocol.
async fn bare_tls_for(
    leaf: &Leaf,
    address: SocketAddr,
    protocol: &[u8],
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting))
        .with_client_auth_cert(leaf.chain(), leaf.key().into())
        .unwrap();
    config.alpn_protocols = vec![protocol.to_vec()];
    let tcp = TcpStream::connect(address).await.unwrap();
    let name = ServerName::IpAddress(address.ip().into());
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap()
}

#[tokio::test]
async fn a_link_comes_up_both_ways_and_carries_frames() {
    let institution = institution();
    let mut a = start(&institution.node("a"), 1, config(&[])).await;
    let mut b = start(&institution.node("b"), 2, config(&[a.address])).await;
    let (peer_of_a, link_a) = a.up().await;
    let (peer_of_b, link_b) = b.up().await;
    assert_eq!((peer_of_a.id, peer_of_a.epoch, &*peer_of_a.subject.name), (b.id, 2, "b"));
    assert_eq!((peer_of_b.id, peer_of_b.epoch, peer_of_b.address), (a.id, 1, a.address));

    link_a.try_send(data(1, 1000)).unwrap();
    link_b.try_send(data(2, 0)).unwrap();
    assert_eq!(b.frame().await, (a.id, data(1, 1000)));
    assert_eq!(a.frame().await, (b.id, data(2, 0)));
    link_a.send_control(Message::Heartbeat(Heartbeat::default())).unwrap();
    assert!(matches!(b.event().await, Event::Control { message: Message::Heartbeat(_), .. }));
    // The swarm calls it an error that a data connection is not its own.
    assert_eq!(a.overlay.metrics().inbound_failures.get(), 0);

    a.overlay.shutdown().await;
    assert!(matches!(a.down().await, DownReason::Shutdown));
    assert!(matches!(b.down().await, DownReason::ClosedByPeer | DownReason::Lost(_)));
    assert!(link_a.try_send(data(1, 1)).is_err(), "the link is down");
    timeout(DEADLINE, a.tasks.finish()).await.expect("no task outlives the overlay");
    timeout(DEADLINE, b.tasks.finish()).await.expect("no task outlives its group");
}

#[tokio::test]
async fn large_and_small_frames_arrive_whole_and_small_ones_first() {
    let institution = institution();
    let mut a = start(&institution.node("a"), 1, config(&[])).await;
    let mut b = start(&institution.node("b"), 1, config(&[a.address])).await;
    let (_, link) = b.up().await;
    a.up().await;
    link.try_send(data(1, 30 << 20)).unwrap();
    for flow in 2..50 {
        link.try_send(data(flow, 100)).unwrap();
    }
    for flow in 2..50 {
        assert_eq!(a.frame().await.1, data(flow, 100));
    }
    assert_eq!(a.frame().await.1, data(1, 30 << 20));
}

#[tokio::test]
async fn what_is_queued_is_written_before_a_shutdown_ends() {
    let institution = institution();
    let mut a = start(&institution.node("a"), 1, config(&[])).await;
    let mut b = start(&institution.node("b"), 1, config(&[a.address])).await;
    let (_, link) = b.up().await;
    for flow in 0..500 {
        link.try_send(data(flow, 10_000)).unwrap();
    }
    b.overlay.shutdown().await;
    for flow in 0..500 {
        assert_eq!(a.frame().await.1, data(flow, 10_000));
    }
    b.tasks.finish().await;
    assert_eq!(b.tasks.failed().now_or_never(), None, "an end that was asked for is no failure");
}

#[tokio::test]
async fn mutual_dialling_ends_with_one_link_and_it_works() {
    let institution = institution();
    let (leaf_a, leaf_b) = (institution.node("a"), institution.node("b"));
    // Two ports that are free now, so that each can be told the other's.
    let ports: Vec<_> = (0..2).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let addresses: Vec<_> = ports.iter().map(|port| port.local_addr().unwrap()).collect();
    drop(ports);
    let with = |own: usize, other: usize| {
        let mut config = config(&[addresses[other]]);
        config.listen = addresses[own];
        config
    };
    let (mut a, mut b) = tokio::join!(start(&leaf_a, 1, with(0, 1)), start(&leaf_b, 1, with(1, 0)));
    // A first link may be replaced; then there is one that stays and carries frames.
    let settle = |node: Node| async move {
        let mut node = node;
        let mut current = node.up().await.1;
        loop {
            let quiet = timeout(Duration::from_millis(1500), node.event()).await;
            match quiet {
                Err(_) => return (node, current),
                Ok(Event::LinkDown { link, .. }) => assert_eq!(link, current.id()),
                Ok(Event::LinkUp { link, .. }) => current = link,
                Ok(other) => panic!("unexpected {other:?}"),
            }
        }
    };
    let ((node_a, link_a), (node_b, link_b)) = tokio::join!(settle(a), settle(b));
    (a, b) = (node_a, node_b);
    assert_eq!((a.overlay.metrics().links.get(), b.overlay.metrics().links.get()), (1, 1));
    link_a.try_send(data(1, 10)).unwrap();
    link_b.try_send(data(2, 10)).unwrap();
    assert_eq!(b.frame().await.1, data(1, 10));
    assert_eq!(a.frame().await.1, data(2, 10));
}

#[tokio::test]
async fn one_peer_under_two_addresses_is_one_link() {
    let institution = institution();
    let mut a = start(&institution.node("a"), 1, config(&[])).await;
    let mut config_b = config(&[a.address]);
    config_b.peers.push(format!("localhost:{}", a.address.port()).parse().unwrap());
    let mut b = start(&institution.node("b"), 1, config_b).await;
    let (_, link) = b.up().await;
    reaches(&b.overlay.metrics().dials, 2).await;
    link.try_send(data(1, 1)).unwrap();
    a.up().await;
    a.frame().await;
    assert_eq!(a.overlay.metrics().links.get(), 1);
}

#[tokio::test]
async fn a_restarted_peer_replaces_its_half_open_link() {
    let institution = institution();
    let leaf = institution.node("b");
    let mut a = start(&institution.node("a"), 1, config(&[])).await;
    let _old = start(&leaf, 5, config(&[a.address])).await;
    let (peer, first) = a.up().await;
    assert_eq!(peer.epoch, 5);
    // The old instance still holds its connection open, as a dead machine's would be.
    let mut new = start(&leaf, 6, config(&[a.address])).await;
    assert!(matches!(a.down().await, DownReason::Replaced));
    let (peer, second) = a.up().await;
    assert_eq!(peer.epoch, 6);
    assert!(first.try_send(data(1, 1)).is_err());
    new.up().await;
    second.try_send(data(1, 1)).unwrap();
    new.frame().await;
}

#[tokio::test]
async fn an_older_epoch_is_refused() {
    let institution = institution();
    let leaf = institution.node("b");
    let mut a = start(&institution.node("a"), 1, config(&[])).await;
    let mut current = start(&leaf, 6, config(&[a.address])).await;
    let (_, link) = a.up().await;
    current.up().await;
    let _older = start(&leaf, 5, config(&[a.address])).await;
    reaches(&a.overlay.metrics().duplicates, 1).await;
    assert_eq!(a.overlay.metrics().links_opened.get(), 1);
    link.try_send(data(1, 1)).unwrap();
    current.frame().await;
}

#[tokio::test]
async fn a_disconnected_configured_peer_is_dialled_again() {
    let institution = institution();
    let mut a = start(&institution.node("a"), 1, config(&[])).await;
    let mut b = start(&institution.node("b"), 1, config(&[a.address])).await;
    b.up().await;
    a.up().await;
    b.overlay.disconnect(a.id).await;
    assert!(matches!(b.down().await, DownReason::Disconnected));
    a.down().await;
    b.up().await;
    a.up().await;
}

#[tokio::test]
async fn a_peer_that_comes_back_is_dialled_again() {
    let institution = institution();
    let leaf = institution.node("a");
    let a = start(&leaf, 1, config(&[])).await;
    let mut b = start(&institution.node("b"), 1, config(&[a.address])).await;
    b.up().await;
    let address = a.address;
    a.overlay.shutdown().await;
    a.tasks.finish().await;
    b.down().await;
    let mut again = config(&[]);
    again.listen = address;
    let a = start(&leaf, 2, again).await;
    let (peer, _) = b.up().await;
    assert_eq!((peer.id, peer.epoch), (a.id, 2));
}

#[tokio::test]
async fn a_silent_link_is_closed() {
    let institution = institution();
    let a = start(&institution.node("a"), 1, config(&[])).await;
    // Pings that never come in time: only silence is left.
    let mut deaf = config(&[a.address]);
    deaf.ping_interval = Duration::from_secs(60);
    deaf.silence = Duration::from_millis(200);
    let mut b = start(&institution.node("b"), 1, deaf).await;
    b.up().await;
    assert!(matches!(b.down().await, DownReason::Silent(_)));
}

#[tokio::test]
async fn pings_keep_an_idle_link_and_give_round_trips() {
    let institution = institution();
    let a = start(&institution.node("a"), 1, config(&[])).await;
    let mut brisk = config(&[a.address]);
    brisk.ping_interval = Duration::from_millis(20);
    brisk.silence = Duration::from_millis(500);
    let mut b = start(&institution.node("b"), 1, brisk).await;
    b.up().await;
    let mut round_trips = 0;
    while round_trips < 50 {
        match timeout(DEADLINE, b.events.recv()).await.unwrap().unwrap() {
            Event::RoundTrip { peer, .. } => round_trips += i32::from(peer == a.id),
            other => panic!("unexpected {other:?}"),
        }
    }
}

#[tokio::test]
async fn certificates_of_clients_and_strangers_are_refused() {
    let institution = institution();
    let mut node = start(&institution.node("a"), 1, config(&[])).await;
    let foreign = self::institution();
    for leaf in [institution.client("app"), foreign.node("b")] {
        let mut tls = bare_tls(&leaf, node.address).await;
        // TLS 1.3 tells a client that it is refused only afterwards.
        let mut byte = [0];
        assert!(!matches!(timeout(DEADLINE, tls.read(&mut byte)).await.unwrap(), Ok(1)));
    }
    reaches(&node.overlay.metrics().inbound_failures, 2).await;
    let mut stranger = start(&foreign.node("b"), 1, config(&[node.address])).await;
    reaches(&stranger.overlay.metrics().dial_failures, 1).await;
    assert!(node.events.try_recv().is_err() && stranger.events.try_recv().is_err());
}

#[tokio::test]
async fn a_data_connection_that_no_link_waits_for_is_closed() {
    let institution = institution();
    let mut hasty = config(&[]);
    hasty.handshake_timeout = Duration::from_millis(300);
    let mut node = start(&institution.node("a"), 1, hasty).await;
    let mut b = start(&institution.node("b"), 1, config(&[node.address])).await;
    let (_, link) = b.up().await;
    let protocol = crate::identity::OVERLAY_DATA_ALPN;
    let mut guessing = bare_tls_for(&institution.node("c"), node.address, protocol).await;
    guessing.write_all(&[7; 16]).await.unwrap();
    let silent = bare_tls_for(&institution.node("c"), node.address, protocol).await;
    for mut stream in [guessing, silent] {
        let mut bytes = Vec::new();
        // An error is as good as an end.
        let _ = timeout(DEADLINE, stream.read_to_end(&mut bytes)).await.expect("closed");
        assert!(bytes.is_empty());
    }
    reaches(&node.overlay.metrics().inbound_failures, 2).await;
    reaches(&node.overlay.metrics().handshake_timeouts, 1).await;
    // The link that is up has its own.
    link.try_send(data(1, 1)).unwrap();
    node.frame().await;
}

#[tokio::test]
async fn the_deny_list_and_the_allow_list_refuse() {
    let institution = institution();
    let (leaf_b, leaf_c) = (institution.node("b"), institution.node("c"));
    let mut picky = config(&[]);
    picky.deny = vec![credentials(&leaf_b).node_key().id()];
    picky.allow = Some(vec![credentials(&leaf_b).node_key().id()]);
    let mut a = start(&institution.node("a"), 1, picky).await;
    let mut denied = start(&leaf_b, 1, config(&[a.address])).await;
    let mut not_allowed = start(&leaf_c, 1, config(&[a.address])).await;
    reaches(&a.overlay.metrics().inbound_failures, 4).await;
    for node in [&mut a, &mut denied, &mut not_allowed] {
        assert!(node.events.try_recv().is_err());
    }
}

#[tokio::test]
async fn a_node_does_not_link_to_itself() {
    let institution = institution();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    // One address that the swarm knows to be its own, and one that only the certificate tells.
    let alias = SocketAddr::new([127, 0, 0, 5].into(), free.port());
    let mut own = config(&[free, alias]);
    own.listen = SocketAddr::new([0, 0, 0, 0].into(), free.port());
    let mut node = start(&institution.node("a"), 1, own).await;
    reaches(&node.overlay.metrics().dials, 2).await;
    reaches(&node.overlay.metrics().inbound_failures, 1).await;
    // The node still works, and neither address is dialled again.
    let mut b = start(&institution.node("b"), 1, config(&[free])).await;
    b.up().await;
    node.up().await;
    let metrics = node.overlay.metrics();
    assert!(metrics.dials.get() <= 3, "{}", metrics.dials.get());
    assert_eq!(metrics.links.get(), 1);
}

#[tokio::test]
async fn handshakes_that_never_finish_are_closed() {
    let institution = institution();
    let mut hasty = config(&[]);
    hasty.handshake_timeout = Duration::from_millis(300);
    hasty.silence = Duration::from_millis(800);
    let node = start(&institution.node("a"), 1, hasty).await;
    let closed = |mut stream: Box<dyn LinkStream>| async move {
        let mut bytes = Vec::new();
        // An error is as good as an end.
        let _ = timeout(DEADLINE, stream.read_to_end(&mut bytes)).await.expect("closed");
    };
    let no_tls = TcpStream::connect(node.address).await.unwrap();
    closed(Box::new(no_tls)).await;
    reaches(&node.overlay.metrics().handshake_timeouts, 1).await;
    let no_hello = bare_tls(&institution.node("b"), node.address).await;
    closed(Box::new(no_hello)).await;
    reaches(&node.overlay.metrics().handshake_timeouts, 2).await;
    let mut garbage = bare_tls(&institution.node("b"), node.address).await;
    garbage.write_all(&[0xff; 1000]).await.unwrap();
    closed(Box::new(garbage)).await;
    // Others are not affected.
    let mut b = start(&institution.node("c"), 1, config(&[node.address])).await;
    b.up().await;
}

#[tokio::test]
async fn a_port_in_use_is_named_with_its_cure() {
    let institution = institution();
    let first = start(&institution.node("a"), 1, config(&[])).await;
    let mut same = config(&[]);
    same.listen = first.address;
    let (recorder, _) = mpsc::channel(1);
    let second = credentials(&institution.node("b"));
    let started = Overlay::start(&Tasks::new(), same, second, 1, Arc::new(Recorder(recorder)));
    let message = started.err().unwrap().to_string();
    assert!(message.contains(&first.address.to_string()), "{message}");
    assert!(message.contains("in use") && message.contains("configure another port"), "{message}");
}
