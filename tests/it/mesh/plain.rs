//! A client of the raw 2.x protocol, as the SDKs of FISCO BCOS are.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc};

use amop_protocol::{
    Seq, Topic,
    wire::channel::{Decoder, Encoded, Frame, Type},
};
use amop_testkit::{ca::Leaf, wait};
use bytes::{Bytes, BytesMut};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, client::WebPkiServerVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// A connection that speaks frames.
pub(crate) struct Plain {
    tls: TlsStream<TcpStream>,
    input: BytesMut,
    next_seq: u128,
    /// Messages, and questions about subscribers, that came while something else was waited for.
    kept: VecDeque<Frame>,
}

impl Plain {
    /// Connects; nothing is sent yet.
    pub(crate) async fn connect(
        address: SocketAddr,
        leaf: &Leaf,
        version: &'static SupportedProtocolVersion,
    ) -> Self {
        Self::try_connect(address, client_config(leaf.root(), Some(leaf), version))
            .await
            .expect("a TLS handshake")
    }

    /// Connects with any configuration; with TLS 1.3 a refusal shows only at the first read.
    pub(crate) async fn try_connect(address: SocketAddr, config: ClientConfig) -> std::io::Result<Self> {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from("localhost").expect("a name");
        let connecting = TlsConnector::from(Arc::new(config)).connect(name, tcp);
        let tls = wait::within("a TLS handshake", connecting).await?;
        Ok(Self { tls, input: BytesMut::new(), next_seq: 1, kept: VecDeque::new() })
    }

    /// Connects, agrees on version 3 and has these topics in force.
    pub(crate) async fn subscriber(address: SocketAddr, leaf: &Leaf, topics: &[&str]) -> Self {
        let mut client = Self::connect(address, leaf, &rustls::version::TLS12).await;
        client.ask(Type::HANDSHAKE, r#"{"minimumSupport":1,"maximumSupport":3,"clientType":"test"}"#).await;
        client.report(topics).await;
        client
    }

    pub(crate) async fn send(&mut self, frame: Encoded) {
        let mut bytes = BytesMut::new();
        frame.put(&mut bytes);
        self.send_raw(&bytes).await;
    }

    pub(crate) async fn send_raw(&mut self, bytes: &[u8]) {
        self.tls.write_all(bytes).await.expect("written");
        self.tls.flush().await.expect("flushed");
    }

    pub(crate) async fn receive(&mut self) -> Frame {
        self.try_receive().await.expect("a frame, not the end of the connection")
    }

    /// The next frame; `None` when the node closed the connection.
    pub(crate) async fn try_receive(&mut self) -> Option<Frame> {
        match self.kept.pop_front() {
            Some(frame) => Some(frame),
            None => self.read().await,
        }
    }

    async fn read(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = Decoder::default().decode(&mut self.input).expect("a frame") {
                return Some(frame);
            }
            let read = wait::within("a frame", self.tls.read_buf(&mut self.input)).await;
            if matches!(read, Ok(0) | Err(_)) {
                return None;
            }
        }
    }

    /// Whether the node closes the connection, rather than saying anything.
    pub(crate) async fn is_closed(&mut self) -> bool {
        matches!(wait::within("the end", self.tls.read(&mut [0; 16])).await, Ok(0) | Err(_))
    }

    /// Sends and waits for the reply, which must have the same type and seq. Only messages and
    /// questions about subscribers may come before it; they are kept.
    pub(crate) async fn ask(&mut self, kind: Type, body: impl AsRef<[u8]>) -> Frame {
        let seq = self.seq();
        self.send(Encoded::new(kind, seq, 0, body.as_ref(), Bytes::new())).await;
        loop {
            let frame = self.read().await.expect("a reply, not the end of the connection");
            if (frame.kind != kind || frame.seq != seq)
                && matches!(frame.kind, Type::VERIFY | Type::UNICAST | Type::MULTICAST)
            {
                self.kept.push_back(frame);
                continue;
            }
            assert_eq!((frame.kind, frame.seq), (kind, seq));
            return frame;
        }
    }

    /// A JSON-RPC call's `result`.
    pub(crate) async fn rpc(&mut self, method: &str, parameters: &str) -> Value {
        let call = format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{parameters},"id":7}}"#);
        let frame = self.ask(Type::JSON_RPC, call).await;
        assert_eq!(frame.result, 0);
        let reply: Value = serde_json::from_slice(&frame.body).expect("JSON");
        assert_eq!(reply["id"], 7, "{reply}");
        reply["result"].clone()
    }

    /// Reports topics and waits until they are in force at this node.
    pub(crate) async fn report(&mut self, topics: &[&str]) {
        let body = serde_json::to_vec(topics).expect("JSON");
        let seq = self.seq();
        self.send(Encoded::new(Type::TOPICS, seq, 0, &body, Bytes::new())).await;
        self.ask(Type::HEARTBEAT, "").await;
    }

    /// A seq that this client has not used: 32 hex digits, as the SDKs have them.
    pub(crate) fn seq(&mut self) -> Seq {
        self.next_seq += 1;
        Seq::from_u128(self.next_seq)
    }
}

/// A frame with a topic and a payload.
pub(crate) fn message(kind: Type, seq: Seq, topic: &str, payload: impl Into<Bytes>) -> Encoded {
    Encoded::with_topic(kind, seq, 0, &Topic::parse(topic).expect("a topic"), payload.into())
}

/// Verifies the chain as the SDKs do: to the root, whatever the host name.
pub(crate) fn client_config(
    root: CertificateDer<'static>,
    leaf: Option<&Leaf>,
    version: &'static SupportedProtocolVersion,
) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(root).expect("a root");
    let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let verifier = Arc::new(ChainOnly(chain.build().expect("a verifier")));
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    match leaf {
        Some(leaf) => {
            builder.with_client_auth_cert(leaf.chain(), PrivateKeyDer::Pkcs8(leaf.key())).expect("a key")
        }
        None => builder.with_no_client_auth(),
    }
}

#[derive(Debug)]
struct ChainOnly(Arc<WebPkiServerVerifier>);

impl rustls::client::danger::ServerCertVerifier for ChainOnly {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        use rustls::CertificateError::{NotValidForName, NotValidForNameContext};

        match self.0.verify_server_cert(leaf, chain, name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) => {
                Ok(rustls::client::danger::ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
