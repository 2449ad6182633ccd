//! A line between two nodes that a test can delay, stall, block and cut.
//!
//! It stands where the network would: each end has a TCP connection to the proxy. Bytes that a
//! blocked line holds are not lost but late, as TCP would have it, which sends them again; so is
//! the news that an end has closed. A line that is never unblocked swallows them.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::BytesMut;
use rand::RngExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp},
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

use crate::net::spawn;

/// What a line does to the bytes on it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    /// Every byte takes this long.
    pub(crate) delay: Duration,
    /// And up to so much more; the order stays.
    pub(crate) jitter: Duration,
    /// How many of a thousand packets are lost. TCP sends one again after [`RETRANSMISSION`], and
    /// what came behind it waits.
    pub(crate) lost_per_mille: u32,
    /// Nothing arrives at the node that accepted the connection.
    pub(crate) blocked_there: bool,
    /// Nothing arrives at the node that dialled it.
    pub(crate) blocked_back: bool,
    resets: u64,
}

/// Linux waits at least so long, and twice as long each time.
const RETRANSMISSION: Duration = Duration::from_millis(200);
/// Bytes read at once, which are what is delayed or lost together.
const PACKET: usize = 16 * 1024;
/// Packets under way in one direction; more wait at the sender.
const WINDOW: usize = 64;

#[derive(Clone, Copy)]
enum Way {
    There,
    Back,
}

impl Weather {
    fn blocks(&self, way: Way) -> bool {
        match way {
            Way::There => self.blocked_there,
            Way::Back => self.blocked_back,
        }
    }

    fn travel(&self) -> Duration {
        let mut random = rand::rng();
        let mut time = self.delay + self.jitter.mul_f64(random.random());
        let mut again = RETRANSMISSION;
        while random.random_range(0..1000) < self.lost_per_mille {
            time += again;
            again *= 2;
        }
        time
    }
}

/// A line; it ends with the test's runtime.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    weather: Arc<watch::Sender<Weather>>,
}

impl Proxy {
    /// A line to the node that listens at `target`.
    pub(crate) async fn new(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let weather = Arc::new(watch::Sender::new(Weather::default()));
        let lines = weather.clone();
        spawn(async move {
            while let Ok((dialler, _)) = listener.accept().await {
                spawn(connection(dialler, target, lines.subscribe()));
            }
        });
        Self { address, weather }
    }

    /// Changes the line for all connections, those that are up included.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Weather)) {
        self.weather.send_modify(change);
    }

    /// Cuts all connections: both ends get a reset.
    pub(crate) fn reset(&self) {
        self.weather.send_modify(|weather| weather.resets += 1);
    }
}

async fn connection(mut dialler: TcpStream, target: SocketAddr, mut weather: watch::Receiver<Weather>) {
    // The node may be down; then the dialler sees its connection end.
    let Ok(mut target) = TcpStream::connect(target).await else { return };
    for stream in [&dialler, &target] {
        stream.set_nodelay(true).expect("a TCP option");
    }
    let resets = weather.borrow().resets;
    let (from_dialler, to_dialler) = dialler.split();
    let (from_target, to_target) = target.split();
    let there = pump(from_dialler, to_target, Way::There, weather.clone());
    let back = pump(from_target, to_dialler, Way::Back, weather.clone());
    tokio::select! {
        _ = futures::future::join(there, back) => return,
        _ = weather.wait_for(|weather| weather.resets > resets) => {}
    }
    for stream in [&dialler, &target] {
        // It fails only if the connection is gone already.
        let _ = stream.set_zero_linger();
    }
}

async fn pump(
    mut from: tcp::ReadHalf<'_>,
    mut to: tcp::WriteHalf<'_>,
    way: Way,
    mut weather: watch::Receiver<Weather>,
) {
    let (packets_to, mut packets) = mpsc::channel(WINDOW);
    let now = weather.clone();
    let read = async move {
        let mut arrives = Instant::now();
        let mut packet = BytesMut::with_capacity(PACKET);
        while from.read_buf(&mut packet).await.is_ok_and(|read| read > 0) {
            arrives = arrives.max(Instant::now() + now.borrow().travel());
            if packets_to.send((arrives, packet.split().freeze())).await.is_err() {
                return;
            }
            packet.reserve(PACKET);
        }
    };
    let write = async move {
        while let Some((arrives, packet)) = packets.recv().await {
            sleep_until(arrives).await;
            let open = weather.wait_for(|weather| !weather.blocks(way)).await.is_ok();
            if !open || to.write_all(&packet).await.is_err() {
                return;
            }
        }
        let _ = weather.wait_for(|weather| !weather.blocks(way)).await;
        // It fails only if that end has closed, too.
        let _ = to.shutdown().await;
    };
    futures::future::join(read, write).await;
}
