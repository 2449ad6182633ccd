//! What this program does as a process of its own: an end or a relay of the byte pipe, or a slow line.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use amop::identity::{Credentials, Paths};
use anyhow::{Context, ensure};
use clap::Subcommand;
use rustls::CipherSuite;
use rustls_pki_types::ServerName;
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream, tcp},
    runtime::Builder,
    sync::mpsc,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::chunks;

/// The suite that nodes and SDKs of ours agree on.
pub(crate) const SUITE: CipherSuite = CipherSuite::TLS13_AES_128_GCM_SHA256;
/// What is read and written at once.
const BUFFER: usize = 128 * 1024;
/// What rustls reads from the system at once when nothing buffers below it.
const PLAIN: usize = 4 * 1024;
/// What a slow line reads at once.
const PACKET: usize = 16 * 1024;
/// Timers are no finer; what a line slept too long it makes up for.
const TICK: Duration = Duration::from_millis(2);
/// What a slow line's sockets hold.
const SOCKET_BUFFER: u32 = 64 * 1024;

#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    /// Sends bytes
    #[command(hide = true)]
    Send { certs: PathBuf, to: SocketAddr, bytes: u64 },
    /// Passes bytes on
    #[command(hide = true)]
    Relay {
        certs: PathBuf,
        to: SocketAddr,
        /// Reads and writes in turn, without asking whether there is more, and without a buffer below TLS
        #[arg(long)]
        plain: bool,
    },
    /// Takes bytes
    #[command(hide = true)]
    Receive { certs: PathBuf, bytes: u64 },
    /// Sends messages of the size of chunks as requests, and nothing else
    #[command(hide = true)]
    Ask { certs: PathBuf, node: SocketAddr, topic: String, bytes: u64 },
    /// Answers them
    #[command(hide = true)]
    Answer { certs: PathBuf, node: SocketAddr, topic: String, bytes: u64 },
    /// Passes TCP on, so many bytes a second at most, each after so many milliseconds
    #[command(hide = true)]
    Line { to: SocketAddr, rate: u64, delay_ms: u64 },
}

impl Role {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        // As the programs have it: a node two threads or more, everything else one.
        let mut builder = match self {
            Self::Relay { .. } => Builder::new_multi_thread(),
            _ => Builder::new_current_thread(),
        };
        let workers = std::thread::available_parallelism().map_or(2, usize::from).max(2);
        let runtime = builder.worker_threads(workers).enable_all().build()?;
        runtime.block_on(async {
            match self {
                Self::Send { certs, to, bytes } => send(&certs_in(&certs)?, to, bytes).await,
                Self::Relay { certs, to, plain } => relay(&certs_in(&certs)?, to, plain).await,
                Self::Receive { certs, bytes } => receive(&certs_in(&certs)?, bytes).await,
                Self::Ask { certs, node, topic, bytes } => chunks::ask(&certs, node, &topic, bytes).await,
                Self::Answer { certs, node, topic, bytes } => {
                    chunks::answer(&certs, node, &topic, bytes).await
                }
                Self::Line { to, rate, delay_ms } => line(to, rate, Duration::from_millis(delay_ms)).await,
            }
        })
    }
}

fn certs_in(directory: &std::path::Path) -> anyhow::Result<Credentials> {
    Ok(Credentials::load(&Paths::in_directory(directory))?)
}

async fn send(certs: &Credentials, to: SocketAddr, bytes: u64) -> anyhow::Result<()> {
    let mut stream = dial(certs, to).await?;
    let block = noise();
    println!("{}", json!({ "event": "sending" }));
    let mut left = bytes;
    while left > 0 {
        let now = usize::try_from(left).unwrap_or(usize::MAX).min(block.len());
        stream.write_all(&block[..now]).await?;
        left -= now as u64;
    }
    stream.shutdown().await?;
    // Until the other end has closed, too: what is still on its way would be lost with this process.
    let _ = stream.read(&mut [0]).await;
    Ok(())
}

async fn relay(certs: &Credentials, to: SocketAddr, plain: bool) -> anyhow::Result<()> {
    let mut from = accept(certs, if plain { PLAIN } else { BUFFER }).await?;
    let mut to = dial(certs, to).await?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = match plain {
            true => from.read(&mut buffer).await?,
            false => read_what_is_there(&mut from, &mut buffer).await?,
        };
        if read == 0 {
            break;
        }
        to.write_all(&buffer[..read]).await?;
    }
    to.shutdown().await?;
    let _ = to.read(&mut [0]).await;
    Ok(())
}

async fn receive(certs: &Credentials, bytes: u64) -> anyhow::Result<()> {
    let mut from = accept(certs, BUFFER).await?;
    let mut buffer = vec![0; BUFFER];
    let mut got = 0;
    while got < bytes {
        let read = from.read(&mut buffer).await?;
        ensure!(read > 0, "the pipe ended after {got} of {bytes} bytes");
        got += read as u64;
    }
    println!("{}", json!({ "event": "received" }));
    Ok(())
}

/// At least one byte unless it has ended; then whatever else can be read without waiting.
async fn read_what_is_there(from: &mut (impl AsyncRead + Unpin), buffer: &mut [u8]) -> anyhow::Result<usize> {
    let mut filled = from.read(buffer).await?;
    while filled > 0 && filled < buffer.len() {
        let more = futures::FutureExt::now_or_never(from.read(&mut buffer[filled..]));
        match more.transpose()? {
            Some(read) if read > 0 => filled += read,
            _ => break,
        }
    }
    Ok(filled)
}

/// Incompressible enough, and the same every time.
fn noise() -> Vec<u8> {
    (0..BUFFER as u64).map(|at| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

/// TLS as nodes have it between each other, certificates verified on both sides.
async fn dial(certs: &Credentials, to: SocketAddr) -> anyhow::Result<impl Stream> {
    let tcp = TcpStream::connect(to).await?;
    tcp.set_nodelay(true)?;
    let tcp = BufReader::with_capacity(BUFFER, tcp);
    let connector = TlsConnector::from(certs.overlay_client());
    let stream = connector.connect(ServerName::IpAddress(to.ip().into()), tcp).await?;
    let suite = stream.get_ref().1.negotiated_cipher_suite().context("no cipher suite")?;
    ensure!(suite.suite() == SUITE, "another cipher suite: {:?}", suite.suite());
    Ok(stream)
}

/// `buffer` is what is read from the system at once.
async fn accept(certs: &Credentials, buffer: usize) -> anyhow::Result<impl Stream> {
    let (tcp, _) = listen().await?.accept().await?;
    tcp.set_nodelay(true)?;
    let tcp = BufReader::with_capacity(buffer, tcp);
    Ok(TlsAcceptor::from(certs.overlay_server()).accept(tcp).await?)
}

async fn listen() -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("{}", json!({ "event": "listening", "at": listener.local_addr()?.to_string() }));
    Ok(listener)
}

/// A line of `rate` bytes a second each way. Its sockets hold little, so that what waits for the
/// line waits in the nodes, as it does before a network card.
async fn line(to: SocketAddr, rate: u64, delay: Duration) -> anyhow::Result<()> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    small(&socket)?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let listener = socket.listen(16)?;
    println!("{}", json!({ "event": "listening", "at": listener.local_addr()?.to_string() }));
    let pace = Arc::new(Pace { rate, delay });
    loop {
        let (dialler, _) = listener.accept().await?;
        let pace = pace.clone();
        #[expect(clippy::disallowed_methods, reason = "it ends with this process")]
        tokio::spawn(async move {
            let socket = tokio::net::TcpSocket::new_v4()?;
            small(&socket)?;
            // The node may be down; then the dialler sees its connection end.
            let target = socket.connect(to).await?;
            for stream in [&dialler, &target] {
                stream.set_nodelay(true)?;
            }
            let ((from_dialler, to_dialler), (from_target, to_target)) =
                (dialler.into_split(), target.into_split());
            tokio::select! {
                ended = pace.pump(from_dialler, to_target) => ended,
                ended = pace.pump(from_target, to_dialler) => ended,
            }
        });
    }
}

/// Packets as an Ethernet has them, and little room: else the loopback interface would take in
/// megabytes at once, in pieces of 64 KiB.
fn small(socket: &tokio::net::TcpSocket) -> anyhow::Result<()> {
    socket2::SockRef::from(socket).set_tcp_mss(1448)?;
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    Ok(socket.set_send_buffer_size(SOCKET_BUFFER)?)
}

struct Pace {
    /// Bytes a second.
    rate: u64,
    delay: Duration,
}

impl Pace {
    async fn pump(&self, mut from: tcp::OwnedReadHalf, mut to: tcp::OwnedWriteHalf) -> anyhow::Result<()> {
        // What the line holds when it is full.
        let packets = 1 + (self.rate as f64 * self.delay.as_secs_f64()) as usize / PACKET;
        let (packets_to, mut packets) = mpsc::channel(packets);
        let read = async {
            let mut buffer = vec![0; PACKET];
            let mut free = Instant::now();
            loop {
                let read = from.read(&mut buffer).await?;
                if read == 0 {
                    return Ok(());
                }
                let now = Instant::now();
                let takes = Duration::from_secs_f64(read as f64 / self.rate as f64);
                free = free.max(now.checked_sub(TICK).unwrap_or(now)) + takes;
                if free > now + TICK {
                    tokio::time::sleep_until(free.into()).await;
                }
                packets_to.send((free.max(now) + self.delay, buffer[..read].to_vec())).await?;
            }
        };
        let write = async {
            while let Some((arrives, packet)) = packets.recv().await {
                if arrives > Instant::now() {
                    tokio::time::sleep_until(arrives.into()).await;
                }
                to.write_all(&packet).await?;
            }
            anyhow::Ok(())
        };
        tokio::select! {
            ended = read => ended,
            ended = write => ended,
        }
    }
}
