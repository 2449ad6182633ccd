//! A client connection without manners.

use std::{io, net::SocketAddr, sync::Arc};

use amop_protocol::{
    Seq,
    wire::channel::{Decoder, Encoded, Frame, Type},
};
use bytes::{Bytes, BytesMut};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split},
    net::{TcpSocket, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{net::Target, plain};

/// Where attacks come from: an address of its own, as an attacker's machine has.
const SOURCE: [u8; 4] = [127, 0, 0, 66];

/// A TLS connection as a client.
pub(crate) struct Raw {
    reading: ReadHalf<TlsStream<TcpStream>>,
    writing: WriteHalf<TlsStream<TcpStream>>,
    input: BytesMut,
}

/// A TCP connection, nothing said yet.
pub(crate) async fn tcp(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((SOURCE, 0).into())?;
    socket.connect(address).await
}

impl Raw {
    /// Connects to the node at `index`.
    pub(crate) async fn connect(target: &Target, index: usize) -> io::Result<Self> {
        let config = plain::client_config(target.leaf.root(), Some(&target.leaf), &rustls::version::TLS13);
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let tcp = tcp(target.channels[index]).await?;
        let (reading, writing) = split(TlsConnector::from(Arc::new(config)).connect(name, tcp).await?);
        Ok(Self { reading, writing, input: BytesMut::new() })
    }

    /// Connects and has these topics in force.
    pub(crate) async fn subscriber(target: &Target, index: usize, topics: &[&str]) -> io::Result<Self> {
        let mut raw = Self::connect(target, index).await?;
        let list = serde_json::to_vec(topics)?;
        raw.write(&frame(Type::TOPICS, 1, &list)).await?;
        // The session's version is 1, where an empty heartbeat has no answer; this one has.
        raw.write(&frame(Type::JSON_RPC, 2, br#"{"method":"getBlockNumber","id":1}"#)).await?;
        raw.receive().await?;
        Ok(raw)
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writing.write_all(bytes).await?;
        self.writing.flush().await
    }

    pub(crate) async fn receive(&mut self) -> io::Result<Frame> {
        loop {
            if let Some(frame) = Decoder::default().decode(&mut self.input).map_err(io::Error::other)? {
                return Ok(frame);
            }
            if self.reading.read_buf(&mut self.input).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Writes this again and again, and reads what comes without looking at it, until the node ends it.
    pub(crate) async fn flood(mut self, mut next: impl FnMut() -> Bytes) -> io::Result<()> {
        let mut heard = vec![0; 64 * 1024];
        let writing = async {
            loop {
                self.writing.write_all(&next()).await?;
                tokio::task::consume_budget().await;
            }
        };
        let reading = async {
            while self.reading.read(&mut heard).await? > 0 {}
            Err(io::ErrorKind::UnexpectedEof.into())
        };
        tokio::select! {
            ended = writing => ended,
            ended = reading => ended,
        }
    }

    /// Reads what comes and says nothing, until the node ends the connection.
    pub(crate) async fn stay_silent(mut self) -> io::Result<()> {
        self.ended().await;
        Ok(())
    }

    /// Reads nothing. What comes fills the buffers of the system, then the node's queue, until the
    /// node ends the connection, which shows when something is written.
    pub(crate) async fn hold(mut self) {
        let heartbeat = frame(Type::HEARTBEAT, 1, b"");
        while self.write(&heartbeat).await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// Waits until the node ends the connection.
    pub(crate) async fn ended(&mut self) {
        let mut heard = vec![0; 64 * 1024];
        while self.reading.read(&mut heard).await.is_ok_and(|read| read > 0) {}
    }
}

/// A frame's bytes.
pub(crate) fn frame(kind: Type, seq: u128, body: &[u8]) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    Encoded::new(kind, Seq::from_u128(seq), 0, body, Bytes::new()).put(&mut bytes);
    bytes.to_vec()
}

/// The body of a message: a topic of up to 254 bytes, then the payload.
pub(crate) fn body(topic: &str, payload: &[u8]) -> Vec<u8> {
    let mut body = vec![topic.len() as u8 + 1];
    body.extend_from_slice(topic.as_bytes());
    body.extend_from_slice(payload);
    body
}

/// Does it again and again, in so many lanes, whatever comes of it.
pub(crate) async fn again<F: Future<Output = io::Result<()>>>(lanes: usize, attempt: impl Fn(usize) -> F) {
    let lane = |lane| {
        let attempt = &attempt;
        async move {
            loop {
                // That the node ends it is the point.
                let _ = attempt(lane).await;
                tokio::task::yield_now().await;
            }
        }
    };
    let _: Vec<()> = futures::future::join_all((0..lanes).map(lane)).await;
}
