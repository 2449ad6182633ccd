//! Relays in a line as a system under load, and their clients.

use std::{io, net::SocketAddr, path::PathBuf, process::Command, sync::Arc};

use amop_load::{
    children::{Children, free_addresses},
    payload::acknowledgement,
    system::{Cluster, Failure, Publisher, Requester, Security, Sink, System},
};
use bytes::{Bytes, BytesMut};
use rustls::ClientConfig;
use tokio::{
    io::{AsyncWriteExt, ReadHalf, WriteHalf},
    net::TcpStream,
    sync::mpsc,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    answers::Waiting,
    frame::{Kind, Role, bodies, encode},
    relay::{Mode, Settings},
    setup::{failed, spawn},
    stream::{Bulk, Gather, write_queue},
    tls,
};

/// Frames of a client that wait to be written; whoever sends more waits.
const QUEUE: usize = 256;

/// Relays that can be started.
#[derive(Clone, Debug)]
pub struct Line {
    /// How many, at least 1.
    pub relays: usize,
    /// How they forward.
    pub mode: Mode,
    /// Directory with `ca.crt`, `node.crt`, `node.key`, `sdk.crt` and `sdk.key`.
    pub certs: PathBuf,
    /// Where relays may write what they complain about.
    pub logs: PathBuf,
    /// What runs a relay with the arguments of [`Settings`].
    pub program: Vec<String>,
}

impl Line {
    fn name(&self) -> &'static str {
        match self.mode {
            Mode::Frames => "limit",
            Mode::Pipes => "raw",
        }
    }

    fn settings(&self, clients: &[SocketAddr], peers: &[SocketAddr], at: usize) -> Settings {
        let before = at.checked_sub(1).and_then(|before| peers.get(before)).copied();
        let after = peers.get(at + 1).copied();
        let own = Some(peers[at]);
        let (listen, dial) = match self.mode {
            Mode::Frames => (own.filter(|_| after.is_some()), before),
            Mode::Pipes => (own.filter(|_| at > 0), after),
        };
        Settings { mode: self.mode, clients: clients[at], peers: listen, dial, certs: self.certs.clone() }
    }
}

impl System for Line {
    type Cluster = Relays;

    async fn start(&self) -> Result<Relays, Failure> {
        let mut clients = free_addresses(2 * self.relays)?;
        let peers = clients.split_off(self.relays);
        let mut children = Children::default();
        for at in 0..self.relays {
            let Some((program, arguments)) = self.program.split_first() else {
                return Err(Failure::new("start", "no program that runs a relay"));
            };
            let mut command = Command::new(program);
            command.args(arguments).args(self.settings(&clients, &peers, at).arguments());
            let log = self.logs.join(format!("{}-{at}.log", self.name()));
            children.start(self.name(), &mut command, &log)?;
        }
        let tls = tls::client(&self.certs, "sdk").map_err(failed("tls"))?;
        Ok(Relays { name: self.name(), mode: self.mode, children, clients, tls: Arc::new(tls) })
    }
}

/// Running relays. One requester and one responder at a time; topics are not looked at.
#[derive(Debug)]
pub struct Relays {
    name: &'static str,
    mode: Mode,
    children: Children,
    clients: Vec<SocketAddr>,
    tls: Arc<ClientConfig>,
}

/// A client that is connected as long as this lives.
#[derive(Debug)]
pub struct Connected {
    _tasks: Vec<AbortOnDropHandle<()>>,
}

type Stream = TlsStream<Bulk>;

impl Relays {
    async fn connect(
        &self,
        node: usize,
        role: Role,
    ) -> Result<(ReadHalf<Stream>, WriteHalf<Stream>), Failure> {
        let connect = async {
            let to = self.clients.get(node).ok_or(io::ErrorKind::AddrNotAvailable)?;
            let tcp = Bulk::new(TcpStream::connect(to).await?)?;
            let mut stream = TlsConnector::from(self.tls.clone()).connect(tls::host(), tcp).await?;
            if self.mode == Mode::Frames {
                stream.write_all(&encode(Kind::Hello, &[role.byte()])).await?;
                stream.flush().await?;
            }
            Ok(tokio::io::split(stream))
        };
        connect.await.map_err(failed::<io::Error>("connect"))
    }

    /// A client whose frames of this kind are handed over in runs, and a queue to it.
    async fn client(
        &self,
        node: usize,
        role: Role,
        kind: Kind,
        mut take: impl FnMut(Bytes) -> Option<Bytes> + Send + 'static,
    ) -> Result<(mpsc::Sender<Bytes>, Connected), Failure> {
        let (from, to) = self.connect(node, role).await?;
        let (queue, queued) = mpsc::channel(QUEUE);
        let answers = queue.clone();
        let read = async move {
            let mut from = Gather::new(from);
            while let Ok(Some((found, run))) = from.run().await {
                if let Some(answer) = (found == kind).then(|| take(run)).flatten()
                    && answers.send(answer).await.is_err()
                {
                    break;
                }
            }
        };
        let write = async move {
            // Whoever waits for an answer sees that the connection has ended.
            let _ = write_queue(to, queued).await;
        };
        Ok((queue, Connected { _tasks: vec![spawn(read), spawn(write)] }))
    }
}

impl Cluster for Relays {
    type Requester = Asking;
    type Publisher = Publishing;
    type Guard = Connected;

    fn name(&self) -> &str {
        self.name
    }

    fn nodes(&self) -> usize {
        self.clients.len()
    }

    fn servers(&self) -> &[u32] {
        self.children.ids()
    }

    fn security(&self) -> Option<Security> {
        Some(tls::security())
    }

    fn alive(&self) -> Result<(), Failure> {
        self.children.alive()
    }

    async fn responder(&self, node: usize, _topic: &str, sink: Arc<Sink>) -> Result<Connected, Failure> {
        let answer = move |run| {
            let mut answers = BytesMut::new();
            for body in bodies(run) {
                sink.deliver(&body);
                answers.extend_from_slice(&encode(Kind::Answer, &acknowledgement(&body)));
            }
            Some(answers.freeze())
        };
        Ok(self.client(node, Role::Responder, Kind::Request, answer).await?.1)
    }

    async fn requester(&self, node: usize, _topic: &str) -> Result<Asking, Failure> {
        let waiting = Waiting::default();
        let found = waiting.clone();
        let resolve = move |run| {
            bodies(run).for_each(|body| found.resolve(body));
            None
        };
        let (queue, connected) = self.client(node, Role::Requester, Kind::Answer, resolve).await?;
        Ok(Asking { queue, waiting, _connected: connected })
    }

    async fn subscriber(&self, node: usize, _topic: &str, sink: Arc<Sink>) -> Result<Connected, Failure> {
        let count = move |run| {
            bodies(run).for_each(|body| sink.deliver(&body));
            None
        };
        Ok(self.client(node, Role::Subscriber, Kind::Multicast, count).await?.1)
    }

    async fn publisher(&self, node: usize, _topic: &str) -> Result<Publishing, Failure> {
        let (queue, connected) = self.client(node, Role::Other, Kind::Multicast, |_| None).await?;
        Ok(Publishing { queue, _connected: connected })
    }

    async fn idle(&self, node: usize) -> Result<Connected, Failure> {
        Ok(self.client(node, Role::Other, Kind::Multicast, |_| None).await?.1)
    }
}

/// A client that asks.
#[derive(Debug)]
pub struct Asking {
    queue: mpsc::Sender<Bytes>,
    waiting: Waiting,
    _connected: Connected,
}

impl Requester for Asking {
    async fn request(&self, payload: Bytes) -> Result<Bytes, Failure> {
        let answer = self.waiting.expect(&payload)?;
        self.queue.send(encode(Kind::Request, &payload)).await.map_err(|_| closed())?;
        answer.await
    }
}

/// A client that publishes.
#[derive(Debug)]
pub struct Publishing {
    queue: mpsc::Sender<Bytes>,
    _connected: Connected,
}

impl Publisher for Publishing {
    async fn publish(&self, payload: Bytes) -> Result<(), Failure> {
        self.queue.send(encode(Kind::Multicast, &payload)).await.map_err(|_| closed())
    }
}

fn closed() -> Failure {
    Failure::new("closed", "the connection has ended")
}

#[cfg(test)]
mod tests {
    use std::thread;

    use amop_load::payload::Template;

    use super::*;
    use crate::{relay, setup::Setup};

    /// Relays on threads of this process, which nothing ends but the process.
    fn line(relays: usize, mode: Mode) -> Relays {
        let dir = tempfile::tempdir().unwrap().keep();
        let line = Setup::new(&dir).unwrap().relays(relays, mode);
        let mut clients = free_addresses(2 * relays).unwrap();
        let peers = clients.split_off(relays);
        for at in 0..relays {
            let settings = line.settings(&clients, &peers, at);
            thread::spawn(move || relay::run(&settings));
        }
        let tls = Arc::new(tls::client(&line.certs, "sdk").unwrap());
        Relays { name: line.name(), mode, children: Children::default(), clients, tls }
    }

    /// Relays listen soon after they have been started.
    async fn until_connected<T>(connect: impl AsyncFn() -> Result<T, Failure>) -> T {
        let began = std::time::Instant::now();
        loop {
            match connect().await {
                Ok(client) => return client,
                Err(failure) => assert!(began.elapsed().as_secs() < 20, "{failure}"),
            }
            tokio::task::yield_now().await;
        }
    }

    async fn check_requests(relays: usize, mode: Mode) {
        let line = line(relays, mode);
        let sink = Arc::new(Sink::new());
        let _responder = until_connected(async || line.responder(relays - 1, "", sink.clone()).await).await;
        let requester = until_connected(async || line.requester(0, "").await).await;
        for size in [16, 1024, 300_000] {
            let payload = Template::new(size).fill(0);
            let mut answer = requester.request(payload.clone());
            // With frames, a request may come before the relays are linked, and is lost then.
            let found = loop {
                let patience = std::time::Duration::from_millis(500);
                match tokio::time::timeout(patience, answer).await {
                    Ok(found) => break found.unwrap(),
                    Err(_) => answer = requester.request(payload.clone()),
                }
            };
            assert_eq!(found, acknowledgement(&payload), "{size} bytes");
        }
        assert!(sink.messages() >= 3);
    }

    #[tokio::test]
    async fn requests_come_back_through_frames_and_pipes() {
        for relays in [1, 2, 3] {
            check_requests(relays, Mode::Frames).await;
        }
        for relays in [2, 3] {
            check_requests(relays, Mode::Pipes).await;
        }
    }

    #[tokio::test]
    async fn multicast_reaches_subscribers_at_all_relays() {
        let line = line(3, Mode::Frames);
        let sinks: Vec<_> = (0..3).map(|_| Arc::new(Sink::new())).collect();
        let mut subscribers = Vec::new();
        for (node, sink) in sinks.iter().enumerate() {
            subscribers.push(until_connected(async || line.subscriber(node, "", sink.clone()).await).await);
        }
        let publisher = until_connected(async || line.publisher(1, "").await).await;
        let began = std::time::Instant::now();
        while sinks.iter().any(|sink| sink.messages() == 0) {
            publisher.publish(Template::new(64).fill(0)).await.unwrap();
            tokio::task::yield_now().await;
            assert!(began.elapsed().as_secs() < 20, "{sinks:?}");
        }
    }
}
