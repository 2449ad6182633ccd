//! One relay of a line. Each dials the one before it; the first is where requesters are, the last where
//! responders are.

mod frames;
mod pipes;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc};

use clap::{Args, ValueEnum};
use socket2::{Domain, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Builder,
    time::{Duration, sleep},
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::{stream::Bulk, tls};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;
/// From one attempt to reach the relay before to the next.
const RETRY: Duration = Duration::from_millis(2);

/// How a relay forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Frames of all clients over one connection between relays
    Frames,
    /// Bytes, over a connection between relays for each client. A responder is one end of one pipe.
    Pipes,
}

/// What a relay is told.
#[derive(Clone, Debug, Args)]
pub struct Settings {
    /// How to forward
    #[arg(long, value_enum)]
    pub mode: Mode,
    /// Where clients connect
    #[arg(long)]
    pub clients: SocketAddr,
    /// Where the relay after this one connects (with pipes: the one before)
    #[arg(long)]
    pub peers: Option<SocketAddr>,
    /// The relay before this one (with pipes: the one after), dialled until it is there
    #[arg(long)]
    pub dial: Option<SocketAddr>,
    /// Directory with `ca.crt`, `node.crt` and `node.key`
    #[arg(long)]
    pub certs: PathBuf,
}

impl Settings {
    /// The arguments that [`Args`] reads back.
    pub fn arguments(&self) -> Vec<String> {
        let mode = match self.mode {
            Mode::Frames => "frames",
            Mode::Pipes => "pipes",
        };
        let mut arguments = vec!["--mode".into(), mode.into(), "--clients".into(), self.clients.to_string()];
        for (name, address) in [("--peers", self.peers), ("--dial", self.dial)] {
            arguments.extend(address.map(|address| [name.into(), address.to_string()]).into_iter().flatten());
        }
        arguments.extend(["--certs".into(), self.certs.display().to_string()]);
        arguments
    }
}

/// Why a relay does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Certificates that cannot be used.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// The network, or the system.
    #[error("the relay cannot run; is one of its addresses taken?")]
    Io(#[from] io::Error),
}

/// Runs a relay on this thread, for ever.
///
/// # Errors
/// When certificates cannot be used, or an address is taken.
pub fn run(settings: &Settings) -> Result<(), Error> {
    let ends = Ends::new(settings)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(async {
        match settings.mode {
            Mode::Frames => frames::run(ends, settings).await,
            Mode::Pipes => pipes::run(ends, settings).await,
        }
    })?)
}

type Accepted = server::TlsStream<Bulk>;
type Dialled = client::TlsStream<Bulk>;

/// Both sides of TLS.
#[derive(Clone)]
struct Ends {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

impl Ends {
    fn new(settings: &Settings) -> Result<Self, tls::Error> {
        Ok(Self {
            acceptor: Arc::new(tls::server(&settings.certs)?).into(),
            connector: Arc::new(tls::client(&settings.certs, "node")?).into(),
        })
    }

    async fn accept(&self, tcp: TcpStream) -> io::Result<Accepted> {
        self.acceptor.accept(Bulk::new(tcp)?).await
    }

    /// Until somebody is there.
    async fn dial(&self, to: SocketAddr) -> Dialled {
        loop {
            let attempt = async {
                let tcp = Bulk::new(TcpStream::connect(to).await?)?;
                self.connector.connect(tls::host(), tcp).await
            };
            match attempt.await {
                Ok(stream) => return stream,
                Err(_) => sleep(RETRY).await,
            }
        }
    }
}

fn listen(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// A task of a process that has nothing else to end in order.
fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) {
    #[expect(clippy::disallowed_methods, reason = "it ends with this process")]
    tokio::spawn(task);
}
