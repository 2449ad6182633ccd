//! The second connection of a link, which carries its data frames.
//!
//! Data goes over TLS alone: a multiplexer and a swarm between the two tasks of a link and its socket
//! cost more per message than everything else a relay does (docs/benchmarks.md). Whoever dialled the
//! link dials once more, to the same address, with the same certificates and an application protocol
//! of its own, and first of all shows the *ticket* that the other side's hello named. So both know
//! which link the connection belongs to, however many there are for a moment.
//!
//! Invariant: a connection is handed over only to the link whose ticket it shows, and only if its
//! certificate is that of the link's peer.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use amop_protocol::NodeId;
use bytes::Bytes;
use parking_lot::Mutex;
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::oneshot,
};
use tokio_rustls::{TlsConnector, TlsStream, server};

use super::{
    link::DataSource,
    security::{self, READ_BUFFER},
};
use crate::identity::{Credentials, keep_unsent_low};

/// Bytes of a ticket.
const TICKET: usize = 16;

/// What a data connection runs on.
pub(super) type Stream = TlsStream<BufReader<TcpStream>>;

type Ticket = [u8; TICKET];

/// The links that wait for their data connection, by the ticket it will show. At most one for each
/// connection whose hellos are under way.
#[derive(Debug, Default)]
pub(super) struct Desk(Mutex<HashMap<Ticket, Expected>>);

#[derive(Debug)]
struct Expected {
    peer: NodeId,
    hand: oneshot::Sender<Stream>,
}

/// One side's part in bringing the data connection about.
pub(super) enum Direct {
    /// We dialled: so we dial again.
    Dial { credentials: Credentials, address: SocketAddr, peer: NodeId, silence: Duration },
    /// The peer dialled: it will come.
    Await(Awaited),
}

/// A connection that is to come; given up when dropped.
pub(super) struct Awaited {
    desk: Weak<Desk>,
    ticket: Ticket,
    comes: oneshot::Receiver<Stream>,
}

/// Why a connection that came as one for data was of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unwanted {
    #[error("the data connection ended before it showed a ticket: {0}")]
    Lost(#[source] io::Error),
    #[error("the data connection shows a ticket that no link of this peer waits for")]
    Ticket,
}

impl Desk {
    /// Has a data connection of this peer wait for.
    pub(super) fn expect(self: &Arc<Self>, peer: NodeId) -> Awaited {
        let ticket: Ticket = rand::random();
        let (hand, comes) = oneshot::channel();
        self.0.lock().insert(ticket, Expected { peer, hand });
        Awaited { desk: Arc::downgrade(self), ticket, comes }
    }

    /// A data connection from this node: reads its ticket and gives it to the link that waits for it.
    pub(super) async fn receive(
        &self,
        peer: NodeId,
        mut tls: server::TlsStream<BufReader<TcpStream>>,
        silence: Duration,
    ) -> Result<(), Unwanted> {
        let mut ticket = Ticket::default();
        tls.read_exact(&mut ticket).await.map_err(Unwanted::Lost)?;
        let expected = {
            let mut waiting = self.0.lock();
            match waiting.get(&ticket) {
                Some(expected) if expected.peer == peer => waiting.remove(&ticket),
                _ => None,
            }
        };
        let expected = expected.ok_or(Unwanted::Ticket)?;
        watch(tls.get_ref().0.get_ref(), silence);
        // A link that was given up meanwhile has no use for it.
        expected.hand.send(tls.into()).map_err(|_| Unwanted::Ticket)
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        if let Some(desk) = self.desk.upgrade() {
            desk.0.lock().remove(&self.ticket);
        }
    }
}

impl DataSource for Direct {
    type Stream = Stream;

    fn ticket(&self) -> Bytes {
        match self {
            Self::Dial { .. } => Bytes::new(),
            Self::Await(awaited) => Bytes::copy_from_slice(&awaited.ticket),
        }
    }

    async fn open(self, shown: Bytes) -> io::Result<Stream> {
        match self {
            Self::Dial { credentials, address, peer, silence } => {
                dial(&credentials, address, peer, &shown, silence).await
            }
            Self::Await(mut awaited) => {
                (&mut awaited.comes).await.map_err(|_| io::ErrorKind::ConnectionAborted.into())
            }
        }
    }
}

async fn dial(
    credentials: &Credentials,
    address: SocketAddr,
    peer: NodeId,
    ticket: &[u8],
    silence: Duration,
) -> io::Result<Stream> {
    if ticket.len() != TICKET {
        let error = format!("the peer's hello has a ticket of {} bytes, not {TICKET}", ticket.len());
        return Err(io::Error::new(io::ErrorKind::InvalidData, error));
    }
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    keep_unsent_low(&tcp);
    watch(&tcp, silence);
    let tcp = BufReader::with_capacity(READ_BUFFER, tcp);
    let connector = TlsConnector::from(credentials.overlay_data_client());
    let mut tls = connector.connect(ServerName::IpAddress(address.ip().into()), tcp).await?;
    let identity = security::identity_of(tls.get_ref().1).map_err(io::Error::other)?;
    if identity.key.id() != peer {
        let error = format!("another node answers at {address}: {}", identity.key.id());
        return Err(io::Error::new(io::ErrorKind::InvalidData, error));
    }
    tls.write_all(ticket).await?;
    tls.flush().await?;
    Ok(tls.into())
}

/// Has the system notice that the other side is gone. The link's pings go over its other connection,
/// and a firewall may forget one of the two.
fn watch(tcp: &TcpStream, silence: Duration) {
    let socket = SockRef::from(tcp);
    let keepalive = TcpKeepalive::new().with_time(silence).with_interval(silence / 3);
    // Where it cannot be had, what is lost is sent again over other links, or once the pings fail.
    let _ = socket.set_tcp_keepalive(&keepalive);
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = socket.set_tcp_user_timeout(Some(silence));
}
