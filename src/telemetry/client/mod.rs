//! Asks a node's admin port.

mod error;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use amop_protocol::Seq;
use axum::http::{
    HeaderValue, Method, Request,
    header::{AUTHORIZATION, HOST},
};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

pub use self::error::AskError;
use super::admin::Secret;
use crate::telemetry::{
    status::{Certificate, Client, Drain, Page, Peer, Reload, Route, Status, Topic, Usage},
    trace::{Seen, Trace, show_seq},
};

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer that is read; 10,000 topics on each of many nodes stay below it.
const MAX_ANSWER: usize = 256 * 1024 * 1024;
/// Bytes of a refusal's explanation that are shown.
const MAX_SAID: usize = 500;

/// How a node is asked: where, over what, with which authority.
#[derive(Clone, Debug)]
pub struct Asker {
    address: SocketAddr,
    tls: Option<Arc<rustls::ClientConfig>>,
    token: Option<Secret>,
}

impl Asker {
    /// Asks without TLS and token: what the loopback interface lets anybody do.
    pub const fn plain(address: SocketAddr) -> Self {
        Self { address, tls: None, token: None }
    }

    /// The same, over TLS. The verifier decides which nodes are believed; no host name is looked at.
    #[must_use]
    pub fn over(self, tls: Arc<rustls::ClientConfig>) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// The same, with authority over the node.
    #[must_use]
    pub fn with(self, token: Secret) -> Self {
        Self { token: Some(token), ..self }
    }

    /// Where it asks.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The node at a glance.
    ///
    /// # Errors
    /// When there is no usable answer within a few seconds. Cancel safe.
    pub async fn status(&self) -> Result<Status, AskError> {
        self.read("/v1/status").await
    }

    /// The nodes it reaches.
    ///
    /// # Errors
    /// As [`Asker::status`].
    pub async fn peers(&self) -> Result<Vec<Peer>, AskError> {
        self.read("/v1/peers").await
    }

    /// The ways to them.
    ///
    /// # Errors
    /// As [`Asker::status`].
    pub async fn routes(&self) -> Result<Vec<Route>, AskError> {
        self.read("/v1/routes").await
    }

    /// The topics on one page of the list.
    ///
    /// # Errors
    /// As [`Asker::status`].
    pub async fn topics_on(&self, page: &Page) -> Result<Vec<Topic>, AskError> {
        self.read(&paged("/v1/topics", page)).await
    }

    /// The topics that are asked for, page after page: without a limit all of them. What changes
    /// meanwhile may be missed.
    ///
    /// # Errors
    /// As [`Asker::status`].
    pub async fn topics(&self, wanted: &Page) -> Result<Vec<Topic>, AskError> {
        let (mut all, most) = (Vec::new(), wanted.limit.unwrap_or(usize::MAX));
        let mut page = wanted.clone();
        loop {
            let asked = Page::MAX_LIMIT.min(most - all.len());
            page.limit = Some(asked);
            let found = self.topics_on(&page).await?;
            let is_last = found.len() < asked;
            all.extend(found);
            page.after = all.last().map(|topic: &Topic| topic.topic.clone());
            if is_last || all.len() >= most {
                all.truncate(most);
                return Ok(all);
            }
        }
    }

    /// The sessions on one page of the list of clients; it goes on after the number of a session.
    ///
    /// # Errors
    /// As [`Asker::status`].
    pub async fn clients_on(&self, page: &Page) -> Result<Vec<Client>, AskError> {
        self.read(&paged("/v1/clients", page)).await
    }

    /// What has a bound.
    ///
    /// # Errors
    /// As [`Asker::status`].
    pub async fn limits(&self) -> Result<Vec<Usage>, AskError> {
        self.read("/v1/limits").await
    }

    /// The certificates it lives by.
    ///
    /// # Errors
    /// As [`Asker::status`].
    pub async fn certificates(&self) -> Result<Vec<Certificate>, AskError> {
        self.read("/v1/certificates").await
    }

    /// What became of the messages with this seq. Takes some seconds if other nodes do not answer.
    ///
    /// # Errors
    /// As [`Asker::status`].
    pub async fn trace(&self, seq: &Seq) -> Result<Trace, AskError> {
        self.read(&format!("/v1/trace/{}", show_seq(seq))).await
    }

    /// The same, as far as this very node knows.
    ///
    /// # Errors
    /// As [`Asker::status`].
    pub async fn trace_here(&self, seq: &Seq) -> Result<Trace, AskError> {
        self.read(&format!("/v1/trace/{}?here=1", show_seq(seq))).await
    }

    /// Messages to a topic that came by after `place`, from an earlier answer; from now on if it is empty. Waits some
    /// seconds for the first.
    ///
    /// # Errors
    /// As [`Asker::status`].
    pub async fn seen(&self, topic: &str, place: &str) -> Result<Seen, AskError> {
        self.read(&format!("/v1/trace?topic={}&place={}", percent(topic), percent(place))).await
    }

    /// How far it is with its end.
    ///
    /// # Errors
    /// As [`Asker::status`].
    pub async fn draining(&self) -> Result<Drain, AskError> {
        self.read("/v1/drain").await
    }

    /// Has it stop in order. Needs authority.
    ///
    /// # Errors
    /// As [`Asker::status`], and when the authority is not enough.
    pub async fn drain(&self) -> Result<Drain, AskError> {
        self.json(&self.ask(Method::POST, "/v1/drain").await?)
    }

    /// Has it load certificates, keys, CAs and revocation lists from their files again. Needs authority.
    ///
    /// # Errors
    /// As [`Asker::drain`], and when something in the files cannot be used.
    pub async fn reload(&self) -> Result<Reload, AskError> {
        self.json(&self.ask(Method::POST, "/v1/reload").await?)
    }

    /// Reads a page of JSON.
    ///
    /// # Errors
    /// As [`Asker::status`].
    pub async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, AskError> {
        self.json(&self.ask(Method::GET, path).await?)
    }

    /// Asks for anything; gives the body of the answer.
    ///
    /// # Errors
    /// As [`Asker::status`], and when the answer is anything but success.
    pub async fn ask(&self, method: Method, path: &str) -> Result<Bytes, AskError> {
        let address = self.address;
        timeout(PATIENCE, self.exchange(method, path)).await.map_err(|_| AskError::TimedOut { address })?
    }

    fn json<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, AskError> {
        serde_json::from_slice(body).map_err(|source| AskError::Json { address: self.address, source })
    }

    async fn exchange(&self, method: Method, path: &str) -> Result<Bytes, AskError> {
        let address = self.address;
        if self.tls.is_none() && !address.ip().to_canonical().is_loopback() {
            return Err(AskError::Plain { address });
        }
        let tcp =
            TcpStream::connect(address).await.map_err(|source| AskError::Connect { address, source })?;
        match &self.tls {
            None => self.fetch(tcp, method, path).await,
            Some(tls) => {
                let name = ServerName::IpAddress(address.ip().into());
                let stream = TlsConnector::from(tls.clone()).connect(name, tcp).await;
                self.fetch(stream.map_err(|source| AskError::Tls { address, source })?, method, path).await
            }
        }
    }

    async fn fetch(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin,
        method: Method,
        path: &str,
    ) -> Result<Bytes, AskError> {
        let address = self.address;
        let http = |source| AskError::Http { address, source };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
        let request = self.request(method, path);
        let answer = async {
            let response = sender.send_request(request).await.map_err(http)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            let body = body.map_err(|source| AskError::Body { address, source })?.to_bytes();
            match status.is_success() {
                true => Ok(body),
                false => Err(AskError::Refused { address, path: path.to_owned(), status, said: said(&body) }),
            }
        };
        // The connection only makes progress while it is polled; it ends with the answer.
        tokio::pin!(answer);
        tokio::select! {
            answer = &mut answer => answer,
            ended = connection => {
                ended.map_err(http)?;
                answer.await
            }
        }
    }

    fn request(&self, method: Method, path: &str) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.method_mut() = method;
        if let Ok(uri) = path.parse() {
            *request.uri_mut() = uri;
        }
        let headers = request.headers_mut();
        if let Ok(host) = self.address.to_string().parse() {
            headers.insert(HOST, host);
        }
        let bearer = self.token.as_ref().map(|token| format!("Bearer {}", token.expose()));
        if let Some(Ok(mut bearer)) = bearer.as_deref().map(HeaderValue::from_str) {
            bearer.set_sensitive(true);
            headers.insert(AUTHORIZATION, bearer);
        }
        request
    }
}

/// The node at a glance, from an admin port on the loopback interface.
///
/// # Errors
/// As [`Asker::status`].
pub async fn status(address: SocketAddr) -> Result<Status, AskError> {
    Asker::plain(address).status().await
}

/// The nodes it reaches, from an admin port on the loopback interface.
///
/// # Errors
/// As [`Asker::status`].
pub async fn peers(address: SocketAddr) -> Result<Vec<Peer>, AskError> {
    Asker::plain(address).peers().await
}

/// All topics it knows, from an admin port on the loopback interface.
///
/// # Errors
/// As [`Asker::status`].
pub async fn topics(address: SocketAddr) -> Result<Vec<Topic>, AskError> {
    Asker::plain(address).topics(&Page::default()).await
}

/// The body of any page of an admin port on the loopback interface.
///
/// # Errors
/// As [`Asker::ask`].
pub async fn get(address: SocketAddr, path: &str) -> Result<Bytes, AskError> {
    Asker::plain(address).ask(Method::GET, path).await
}

/// What a node says in one line, as far as it can be shown.
fn said(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let line: String =
        text.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(MAX_SAID).collect();
    if line.is_empty() { line } else { format!(": {line}") }
}

fn paged(path: &str, page: &Page) -> String {
    let Page { prefix, after, limit } = page;
    let text = |name, value: &Option<String>| Some(format!("{name}={}", percent(value.as_deref()?)));
    let limit = limit.map(|limit| format!("limit={limit}"));
    let asked: Vec<String> =
        [text("prefix", prefix), text("after", after), limit].into_iter().flatten().collect();
    if asked.is_empty() { path.to_owned() } else { format!("{path}?{}", asked.join("&")) }
}

fn percent(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let one = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_asked_for_in_an_address() {
        assert_eq!(paged("/v1/topics", &Page::default()), "/v1/topics");
        let page = Page { prefix: Some("a&b=ü".into()), after: None, limit: Some(3) };
        assert_eq!(paged("/v1/topics", &page), "/v1/topics?prefix=a%26b%3D%C3%BC&limit=3");
    }

    #[test]
    fn what_a_node_says_does_nothing_to_a_terminal() {
        assert_eq!(said(b"no\x1b[31m way\nmore"), ": no[31m way");
        assert_eq!(said(b""), "");
        assert_eq!(said(&[b'x'; 10_000]).len(), 2 + MAX_SAID);
    }

    #[tokio::test]
    async fn nothing_is_said_in_the_clear_to_others() {
        let error = Asker::plain("192.0.2.1:1".parse().unwrap()).status().await.unwrap_err();
        assert!(matches!(error, AskError::Plain { .. }), "{error}");
    }
}
