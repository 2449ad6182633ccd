//! A node that does what the test says, frame by frame.

use std::{sync::Arc, time::Duration};

use amop_client::{Cause, ClientIdentity, Fingerprint, Mode, NodeId, Sender, Status, Topic};
use amop_protocol::{
    Seq,
    wire::{
        channel::{Decoder, Encoded, Frame, Type},
        extension::{FromClient, FromNode},
    },
};
use bytes::{Bytes, BytesMut};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::consortium::Consortium;

const EXTENDED: &str = r#"{"nodeVersion":"2.10.0","protocol":3,"amop":{"version":1}}"#;
const PLAIN: &str = r#"{"nodeVersion":"2.10.0","protocol":3}"#;

/// Whether the node grants the extension.
#[derive(Clone, Copy)]
pub(crate) enum Speaks {
    Extended,
    Plain,
}

pub(crate) struct Node {
    listener: TcpListener,
    tls: TlsAcceptor,
    speaks: Speaks,
}

/// One client's connection.
pub(crate) struct Peer {
    stream: TlsStream<TcpStream>,
    inbound: BytesMut,
}

impl Node {
    pub(crate) async fn start(consortium: &Consortium, speaks: Speaks) -> Self {
        Self::with(consortium.server(&consortium.leaf("node", "node-1")), speaks).await
    }

    pub(crate) async fn with(tls: Arc<ServerConfig>, speaks: Speaks) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { listener, tls: tls.into(), speaks }
    }

    pub(crate) fn address(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    /// Takes the next client, handshake and all.
    pub(crate) async fn accept(&self) -> Peer {
        within(async {
            let (tcp, _) = self.listener.accept().await.unwrap();
            tcp.set_nodelay(true).unwrap();
            let stream = self.tls.accept(tcp).await.unwrap();
            let mut peer = Peer { stream, inbound: BytesMut::new() };
            let hello = peer.read().await.expect("a handshake");
            assert_eq!(hello.kind, Type::HANDSHAKE);
            let body = match self.speaks {
                Speaks::Extended => EXTENDED,
                Speaks::Plain => PLAIN,
            };
            peer.send(Encoded::new(Type::HANDSHAKE, hello.seq, 0, body.as_bytes(), Bytes::new())).await;
            peer
        })
        .await
    }

    /// Takes a client that is expected to give up during the TLS handshake, or right after it.
    pub(crate) async fn accept_refusal(&self) {
        let (tcp, _) = self.listener.accept().await.unwrap();
        if let Ok(mut stream) = self.tls.accept(tcp).await {
            let mut byte = [0];
            assert!(!matches!(stream.read(&mut byte).await, Ok(1..)), "the client must say nothing");
        }
    }
}

impl Peer {
    /// The next frame, heartbeats answered and left out; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        within(async {
            loop {
                let frame = self.read().await?;
                if frame.kind != Type::HEARTBEAT {
                    return Some(frame);
                }
                let body = br#"{"heartBeat":1}"#;
                self.send(Encoded::new(Type::HEARTBEAT, frame.seq, 0, body, Bytes::new())).await;
            }
        })
        .await
    }

    /// The next extension message that is more than word of an arrival: that comes ahead of an
    /// answer which takes long, and not of others.
    pub(crate) async fn message(&mut self) -> (Seq, FromClient) {
        loop {
            let (seq, message) = self.word().await;
            if message != FromClient::Received {
                return (seq, message);
            }
        }
    }

    /// The next frame as an extension message.
    pub(crate) async fn word(&mut self) -> (Seq, FromClient) {
        let frame = self.next().await.expect("a frame");
        (frame.seq, FromClient::decode(&frame).unwrap())
    }

    pub(crate) async fn send(&mut self, frame: Encoded) {
        let mut bytes = BytesMut::new();
        frame.put(&mut bytes);
        self.stream.write_all(&bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Reads a subscription and confirms it; gives the topics.
    pub(crate) async fn confirm(&mut self) -> Vec<String> {
        let (seq, message) = self.message().await;
        let FromClient::Subscribe { mut topics } = message else { panic!("{message:?}") };
        let accepted = topics.len() as u32;
        self.send(FromNode::Subscribed { accepted, refused: vec![], complete: true }.encode(seq)).await;
        topics.sort();
        topics
    }

    pub(crate) async fn deliver(&mut self, mode: Mode, topic: &str, number: u64, payload: &[u8]) {
        self.deliver_named(mode, topic, number, None, payload).await;
    }

    /// Delivers a message with the seq that its publisher gave it.
    pub(crate) async fn deliver_named(
        &mut self,
        mode: Mode,
        topic: &str,
        number: u64,
        message: Option<Seq>,
        payload: &[u8],
    ) {
        let deliver = FromNode::Deliver {
            mode,
            topic: Topic::parse(topic).unwrap(),
            sender: sender(),
            answer_within: Duration::from_secs(5),
            message,
            context: None,
            payload: Bytes::copy_from_slice(payload),
        };
        self.send(deliver.encode(Seq::from_u128(number.into()))).await;
    }

    pub(crate) async fn end(&mut self, seq: Seq, cause: Cause, answer: &[u8]) {
        let result = FromNode::PublishResult {
            status: cause.status(),
            cause,
            retry_after: (cause.status() == Status::Refused).then_some(Duration::from_millis(40)),
            retry: cause.retry(),
            hop: None,
            payload: Bytes::copy_from_slice(answer),
        };
        self.send(result.encode(seq)).await;
    }

    async fn read(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = Decoder::default().decode(&mut self.inbound).unwrap() {
                return Some(frame);
            }
            if self.stream.read_buf(&mut self.inbound).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }
}

pub(crate) fn sender() -> Sender {
    Sender {
        institution: "Bank B".into(),
        node: NodeId::new([7; 32]),
        client: Arc::new(ClientIdentity { fingerprint: Fingerprint::new([9; 32]), name: "till".into() }),
    }
}

/// Whatever a test waits for comes within this, or the test fails.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), future).await.expect("in time")
}
