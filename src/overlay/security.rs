//! Mutual TLS under the consortium's CA, as the upgrade of a TCP connection; NodeId ⇄ PeerId.
//!
//! TLS 1.3 with our own ALPN from the first byte, then yamux; no negotiation in the clear. A
//! 64 KiB buffer under TLS saves system calls when reading, [`Coalesced`] between TLS and yamux when
//! writing. A connection that comes with the protocol of data connections goes to the [`Desk`] instead.
//!
//! Invariant: a `PeerId` leaves here only with a certificate chain that the authority accepted
//! for role node, and is derived from that certificate's key.

use std::{collections::HashMap, error::Error, io, net::SocketAddr, sync::Arc, time::Duration};

use amop_protocol::{NodeId, NodeKey, certificate::Subject};
use libp2p::{
    PeerId, Transport,
    core::{ConnectedPoint, Endpoint, muxing::StreamMuxerBox, transport::Boxed, upgrade},
    identity, tcp, yamux,
};
use parking_lot::Mutex;
use rustls::CommonState;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::compat::TokioAsyncReadCompatExt;

use super::{
    coalesce::Coalesced,
    config::Config,
    direct::{Desk, Unwanted},
    metrics::Metrics,
};
use crate::identity::{
    BACKLOG, Credentials, Handshakes, OVERLAY_ALPN, OVERLAY_DATA_ALPN, keep_unsent_low, node_key,
};

/// Buffer under TLS: one read brings several records.
pub(super) const READ_BUFFER: usize = 64 * 1024;
/// What yamux lets all substreams of a connection buffer together, in bytes: not to be changed
/// through libp2p.
const YAMUX_BUFFERS: usize = 1 << 30;
/// What each substream may buffer in any case.
const YAMUX_LEAST: usize = 256 << 10;
/// Bytes that a connection's substreams together may buffer beyond the least of each. A peer that
/// answers yamux's pings late can have them grow so far, and leave them full. More would also
/// keep small frames waiting behind what a slow reader has not taken yet.
pub(super) const MAX_BUFFERED: usize = 8 << 20;
/// Substreams that yamux is told to expect; what it sets aside for them, others cannot have. A
/// link needs one, ping and identify a few; further ones are refused when they are negotiated.
pub(super) const MAX_SUBSTREAMS: usize = (YAMUX_BUFFERS - MAX_BUFFERED) / YAMUX_LEAST;

/// Who a peer is, by its certificate.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) key: NodeKey,
    pub(super) subject: Arc<Subject>,
}

/// The certificates behind the peer ids. The swarm hands on only ids.
#[derive(Clone, Debug, Default)]
pub(super) struct Verified(Arc<Mutex<HashMap<PeerId, Identity>>>);

impl Verified {
    pub(super) fn identity(&self, peer: &PeerId) -> Option<Identity> {
        self.0.lock().get(peer).cloned()
    }

    /// Forgets all but these. Members only ever get in, so this bounds what a large consortium adds up to.
    pub(super) fn retain(&self, mut keep: impl FnMut(&PeerId) -> bool) {
        self.0.lock().retain(|peer, _| keep(peer));
    }

    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }
}

/// Why an upgrade failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpgradeError {
    #[error(transparent)]
    Tcp(io::Error),
    #[error("the TLS handshake failed: {0}")]
    Tls(#[source] io::Error),
    #[error("the TLS handshake took longer than {0:?}")]
    Slow(Duration),
    #[error("too many TLS handshakes are under way; this one gave way to newer ones")]
    Evicted,
    #[error("the other side does not speak the overlay's protocol (ALPN)")]
    Protocol,
    #[error("the other side's certificate cannot name a node")]
    Certificate,
    #[error("multiplexing could not start")]
    Multiplex(#[source] io::Error),
    #[error(transparent)]
    Unwanted(#[from] Unwanted),
    /// No failure: the swarm has no part in it.
    #[error("a data connection was handed to its link")]
    Handed,
}

impl UpgradeError {
    /// Every reason as metrics name it.
    pub(super) const LABELS: [&'static str; 8] =
        ["Tcp", "Tls", "TimedOut", "Evicted", "Protocol", "Certificate", "Multiplex", "Unwanted"];

    /// The reason as metrics name it; `None` if it is none.
    fn label(&self) -> Option<&'static str> {
        let at = match self {
            Self::Tcp(_) => 0,
            Self::Tls(_) => 1,
            Self::Slow(_) => 2,
            Self::Evicted => 3,
            Self::Protocol => 4,
            Self::Certificate => 5,
            Self::Multiplex(_) => 6,
            Self::Unwanted(_) => 7,
            Self::Handed => return None,
        };
        Some(Self::LABELS[at])
    }

    /// Whether what the swarm reports as an error is a data connection that came as it should.
    pub(super) fn is_handed(error: &io::Error) -> bool {
        let mut error: Option<&(dyn Error + 'static)> = Some(error);
        while let Some(this) = error {
            if let Some(Self::Handed) = this.downcast_ref() {
                return true;
            }
            // What an `io::Error` holds is not its source but the error itself.
            let held = this.downcast_ref().and_then(io::Error::get_ref).map(|held| held as _);
            error = held.or_else(|| this.source());
        }
        false
    }
}

/// Makes connections out of sockets.
struct Upgrade {
    credentials: Credentials,
    verified: Verified,
    /// Handshakes of others under way.
    inbound: Arc<Handshakes>,
    desk: Arc<Desk>,
    silence: Duration,
}

/// TCP, TLS, yamux. Inbound handshakes are bounded in number, all in time.
pub(super) fn transport(
    credentials: &Credentials,
    verified: Verified,
    desk: Arc<Desk>,
    config: &Config,
    metrics: Metrics,
) -> Boxed<(PeerId, StreamMuxerBox)> {
    let timeout = config.handshake_timeout;
    let upgrade = Arc::new(Upgrade {
        credentials: credentials.clone(),
        verified,
        inbound: Arc::new(Handshakes::new(config.max_pending_inbound)),
        desk,
        silence: config.silence,
    });
    tcp::tokio::Transport::new(tcp::Config::new().nodelay(true).listen_backlog(BACKLOG))
        .and_then(move |tcp, endpoint| async move {
            let result = match tokio::time::timeout(timeout, upgrade.run(tcp.0, &endpoint)).await {
                Ok(result) => result,
                Err(_) => Err(UpgradeError::Slow(timeout)),
            };
            if let Some(reason) = result.as_ref().err().and_then(UpgradeError::label) {
                metrics.count_handshake_failed(reason);
            }
            match &result {
                Err(UpgradeError::Slow(_)) => metrics.handshake_timeouts.inc(),
                Err(UpgradeError::Evicted) => metrics.handshakes_evicted.inc(),
                _ => 0,
            };
            result
        })
        .map_err(|error| error.either(UpgradeError::Tcp, |error| error))
        .boxed()
}

/// The peer id that goes with a node's key; `None` if the key is not a point of the curve.
pub(super) fn peer_id(key: &NodeKey) -> Option<PeerId> {
    public_key(key).map(|key| key.to_peer_id())
}

/// The peer ids of the two keys that share a node id; `None` if it is not on the curve. Whoever
/// owns one of the keys owns the other.
pub(super) fn peer_ids(id: &NodeId) -> Option<[PeerId; 2]> {
    let peer_id = |sign: u8| {
        let mut point = [sign; 33];
        point[1..].copy_from_slice(id.as_bytes());
        let key = identity::ecdsa::PublicKey::try_from_bytes(&point).ok()?;
        Some(identity::PublicKey::from(key).to_peer_id())
    };
    Some([peer_id(2)?, peer_id(3)?])
}

/// The key in libp2p's form.
pub(super) fn public_key(key: &NodeKey) -> Option<identity::PublicKey> {
    let mut point = [4; 65];
    point[1..].copy_from_slice(key.as_bytes());
    identity::ecdsa::PublicKey::try_from_bytes(&point).ok().map(Into::into)
}

impl Upgrade {
    async fn run(
        &self,
        tcp: tokio::net::TcpStream,
        endpoint: &ConnectedPoint,
    ) -> Result<(PeerId, StreamMuxerBox), UpgradeError> {
        let is_dialer = match endpoint {
            ConnectedPoint::Dialer { role_override, .. } => *role_override == Endpoint::Dialer,
            ConnectedPoint::Listener { .. } => false,
        };
        let address = tcp.peer_addr().map_err(UpgradeError::Tls)?;
        keep_unsent_low(&tcp);
        let tcp = BufReader::with_capacity(READ_BUFFER, tcp);
        if is_dialer { self.dial(tcp, address).await } else { self.accept(tcp, address).await }
    }

    async fn dial(
        &self,
        tcp: BufReader<tokio::net::TcpStream>,
        address: SocketAddr,
    ) -> Result<(PeerId, StreamMuxerBox), UpgradeError> {
        let connector = TlsConnector::from(self.credentials.overlay_client());
        let name = ServerName::IpAddress(address.ip().into());
        let tls = connector.connect(name, tcp).await.map_err(UpgradeError::Tls)?;
        if tls.get_ref().1.alpn_protocol() != Some(OVERLAY_ALPN) {
            return Err(UpgradeError::Protocol);
        }
        let peer = self.identify(tls.get_ref().1)?;
        Ok((peer, multiplex(tls, upgrade::OutboundConnectionUpgrade::upgrade_outbound).await?))
    }

    async fn accept(
        &self,
        tcp: BufReader<tokio::net::TcpStream>,
        address: SocketAddr,
    ) -> Result<(PeerId, StreamMuxerBox), UpgradeError> {
        let acceptor = TlsAcceptor::from(self.credentials.overlay_server());
        let handshake = self.inbound.begin(address.ip());
        let tls = tokio::select! {
            biased;
            () = handshake.evicted() => return Err(UpgradeError::Evicted),
            accepted = acceptor.accept(tcp) => accepted.map_err(UpgradeError::Tls)?,
        };
        match tls.get_ref().1.alpn_protocol() {
            Some(OVERLAY_ALPN) => {
                drop(handshake);
                let peer = self.identify(tls.get_ref().1)?;
                Ok((peer, multiplex(tls, upgrade::InboundConnectionUpgrade::upgrade_inbound).await?))
            }
            Some(OVERLAY_DATA_ALPN) => {
                let peer = identity_of(tls.get_ref().1)?.key.id();
                let received = self.desk.receive(peer, tls, self.silence);
                tokio::select! {
                    biased;
                    () = handshake.evicted() => return Err(UpgradeError::Evicted),
                    received = received => received?,
                }
                Err(UpgradeError::Handed)
            }
            _ => Err(UpgradeError::Protocol),
        }
    }

    fn identify(&self, tls: &CommonState) -> Result<PeerId, UpgradeError> {
        let identity = identity_of(tls)?;
        let peer = peer_id(&identity.key).ok_or(UpgradeError::Certificate)?;
        self.verified.0.lock().insert(peer, identity);
        Ok(peer)
    }
}

/// Who is at the other end, by the certificate that was verified.
pub(super) fn identity_of(tls: &CommonState) -> Result<Identity, UpgradeError> {
    let leaf = tls.peer_certificates().and_then(|chain| chain.first()).ok_or(UpgradeError::Certificate)?;
    let subject = Subject::parse(leaf).map_err(|_| UpgradeError::Certificate)?;
    let key = node_key(&subject).map_err(|_| UpgradeError::Certificate)?;
    Ok(Identity { key, subject: Arc::new(subject) })
}

/// A TLS stream as yamux takes it.
type Buffered<T> = tokio_util::compat::Compat<Coalesced<T>>;

async fn multiplex<T, F>(
    tls: T,
    start: impl FnOnce(yamux::Config, Buffered<T>, &'static str) -> F,
) -> Result<StreamMuxerBox, UpgradeError>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    F: Future<Output = Result<yamux::Muxer<Buffered<T>>, io::Error>>,
{
    let mut config = yamux::Config::default();
    config.set_max_num_streams(MAX_SUBSTREAMS);
    let stream = Coalesced::new(tls).compat();
    let muxer = start(config, stream, "/yamux/1.0.0").await.map_err(UpgradeError::Multiplex)?;
    Ok(StreamMuxerBox::new(muxer))
}
