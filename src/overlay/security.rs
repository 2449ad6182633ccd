//! Mutual TLS under the consortium's CA, as the upgrade of a TCP connection; NodeId ⇄ PeerId.
//!
//! TLS 1.3 with our own ALPN from the first byte, then yamux; no negotiation in the clear. A
//! 64 KiB buffer under TLS saves system calls when reading, [`Coalesced`] between TLS and yamux when
//! writing.
//!
//! Invariant: a `PeerId` leaves here only with a certificate chain that the authority accepted
//! for role node, and is derived from that certificate's key.

use std::{collections::HashMap, io, sync::Arc, time::Duration};

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

use super::{coalesce::Coalesced, config::Config, metrics::Metrics};
use crate::identity::{BACKLOG, Credentials, Handshakes, OVERLAY_ALPN, keep_unsent_low, node_key};

/// Buffer under TLS: one read brings several records.
const READ_BUFFER: usize = 64 * 1024;
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
/// link needs two, ping and identify a few; further ones are refused when they are negotiated.
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
}

/// TCP, TLS, yamux. Inbound handshakes are bounded in number, all in time.
pub(super) fn transport(
    credentials: &Credentials,
    verified: Verified,
    config: &Config,
    metrics: Metrics,
) -> Boxed<(PeerId, StreamMuxerBox)> {
    let credentials = credentials.clone();
    let timeout = config.handshake_timeout;
    let inbound = Arc::new(Handshakes::new(config.max_pending_inbound));
    tcp::tokio::Transport::new(tcp::Config::new().nodelay(true).listen_backlog(BACKLOG))
        .and_then(move |tcp, endpoint| async move {
            let upgraded = upgrade(tcp.0, &endpoint, &credentials, &verified, &inbound);
            let result = match tokio::time::timeout(timeout, upgraded).await {
                Ok(result) => result,
                Err(_) => Err(UpgradeError::Slow(timeout)),
            };
            match &result {
                Err(UpgradeError::Slow(_)) => metrics.handshake_timeouts.inc(),
                Err(UpgradeError::Evicted) => metrics.handshakes_evicted.inc(),
                _ => 0,
            };
            result
        })
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

async fn upgrade(
    tcp: tokio::net::TcpStream,
    endpoint: &ConnectedPoint,
    credentials: &Credentials,
    verified: &Verified,
    inbound: &Arc<Handshakes>,
) -> Result<(PeerId, StreamMuxerBox), UpgradeError> {
    let is_dialer = match endpoint {
        ConnectedPoint::Dialer { role_override, .. } => *role_override == Endpoint::Dialer,
        ConnectedPoint::Listener { .. } => false,
    };
    let address = tcp.peer_addr().map_err(UpgradeError::Tls)?;
    keep_unsent_low(&tcp);
    let tcp = BufReader::with_capacity(READ_BUFFER, tcp);
    if is_dialer {
        let connector = TlsConnector::from(credentials.overlay_client());
        let name = ServerName::IpAddress(address.ip().into());
        let tls = connector.connect(name, tcp).await.map_err(UpgradeError::Tls)?;
        let peer = identify(tls.get_ref().1, verified)?;
        Ok((peer, multiplex(tls, upgrade::OutboundConnectionUpgrade::upgrade_outbound).await?))
    } else {
        let acceptor = TlsAcceptor::from(credentials.overlay_server());
        let handshake = inbound.begin(address.ip());
        let tls = tokio::select! {
            biased;
            () = handshake.evicted() => return Err(UpgradeError::Evicted),
            accepted = acceptor.accept(tcp) => accepted.map_err(UpgradeError::Tls)?,
        };
        drop(handshake);
        let peer = identify(tls.get_ref().1, verified)?;
        Ok((peer, multiplex(tls, upgrade::InboundConnectionUpgrade::upgrade_inbound).await?))
    }
}

fn identify(tls: &CommonState, verified: &Verified) -> Result<PeerId, UpgradeError> {
    if tls.alpn_protocol() != Some(OVERLAY_ALPN) {
        return Err(UpgradeError::Protocol);
    }
    let leaf = tls.peer_certificates().and_then(|chain| chain.first()).ok_or(UpgradeError::Certificate)?;
    let subject = Subject::parse(leaf).map_err(|_| UpgradeError::Certificate)?;
    let key = node_key(&subject).map_err(|_| UpgradeError::Certificate)?;
    let peer = peer_id(&key).ok_or(UpgradeError::Certificate)?;
    verified.0.lock().insert(peer, Identity { key, subject: Arc::new(subject) });
    Ok(peer)
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
