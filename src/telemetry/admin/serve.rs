//! Connections to the admin port, from their first byte to their last.
//!
//! Every one is bounded in time and size before anything is known of who is at the other end, and
//! no more than [`MAX_CONNECTIONS`] are open: then the oldest of the address that has the most gives
//! way, so that nobody is kept out by others who only sit there.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use amop_protocol::{
    certificate::Subject,
    limits::{Bound, Limit, Policy},
};
use axum::{
    Router,
    body::Body,
    http::{
        HeaderValue, Method, Request, StatusCode,
        header::{
            CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
        },
    },
    response::{IntoResponse, Response},
};
use hyper::{
    body::Incoming,
    rt::{Read, Write},
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use super::{
    MAX_CONNECTIONS, Settings, Tls,
    guard::{Caller, Guard, MAX_BODY},
    metrics::{Cut, Metrics},
};
use crate::{
    identity::{Handshakes, Throttle},
    tasks::Tasks,
    telemetry::status::{Page, StatusSource},
};

/// Time for a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Time for a request's head to come, counted from the end of the last answer.
const HEAD: Duration = Duration::from_secs(30);
/// Time for an answer to be made.
const ANSWER: Duration = Duration::from_secs(30);
/// Time after which a connection takes no more requests: whoever reads slowly for ever has a place only so long.
const LIFE: Duration = Duration::from_secs(300);
/// Time for the last answer on its way when a connection, or the port, is at its end.
const LINGER: Duration = Duration::from_millis(500);
/// Bytes of a request's head.
const MAX_HEAD: usize = 16 * 1024;
/// How often rates are measured.
const SAMPLE: Duration = Duration::from_secs(1);
/// Pause after a failed `accept`.
const PAUSE: Duration = Duration::from_millis(200);
/// For a browser that shows an answer which is not the web page: it loads nothing, and stands in no frame.
const NOTHING_MORE: &str = "default-src 'none'; frame-ancestors 'none'";
/// Characters of a path that a log line shows.
const SHOWN: usize = 100;

/// What all connections share.
pub(super) struct Server {
    guard: Guard,
    tls: Option<Tls>,
    router: TowerToHyperService<Router>,
    places: Arc<Handshakes>,
    /// Lines in the log about whoever is not let in.
    refusals: Throttle,
    metrics: Metrics,
}

impl Server {
    pub(super) fn new(settings: Settings, router: Router, metrics: Metrics) -> Self {
        Self {
            guard: Guard::new(&settings),
            tls: settings.tls,
            router: TowerToHyperService::new(router),
            places: Arc::new(Handshakes::new(MAX_CONNECTIONS)),
            refusals: Throttle::default(),
            metrics,
        }
    }

    /// The port's task: woken by connections, every second, and by `stop`. Answers that are being made
    /// then have a moment to be written.
    pub(super) async fn run(
        self,
        listener: std::net::TcpListener,
        source: Arc<dyn StatusSource>,
        stop: CancellationToken,
    ) -> io::Result<()> {
        let listener = TcpListener::from_std(listener)?;
        let (server, tasks) = (Arc::new(self), Tasks::new());
        let mut sample = tokio::time::interval(SAMPLE);
        sample.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = sample.tick() => source.sample(),
                accepted = listener.accept() => match accepted {
                    Ok((tcp, address)) => {
                        server.metrics.accepted.inc();
                        tasks.spawn("admin", server.clone().connection(tcp, address, stop.clone()));
                    }
                    Err(error) => {
                        server.refusals.line(|| tracing::warn!(%error, "cannot accept on the admin port; are there too many open files?"));
                        let _ = stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
                    }
                },
            }
        }
        // Whoever is slower than this asks another time.
        let _ = timeout(LINGER, tasks.finish()).await;
        Ok(())
    }

    async fn connection(self: Arc<Self>, tcp: TcpStream, address: SocketAddr, stop: CancellationToken) {
        let place = self.places.begin(address.ip());
        self.metrics.open.inc();
        let served = async {
            match &self.tls {
                None => self.requests(tcp, address, &Caller::Anybody, &stop).await,
                Some(tls) => {
                    let config = tls();
                    let acceptor = TlsAcceptor::from(config.clone());
                    let stream = timeout(HANDSHAKE, acceptor.accept(tcp)).await.map_err(|_| Cut::TimedOut)?;
                    let stream = stream.map_err(|error| {
                        tracing::debug!(%address, %error, "TLS handshake on the admin port failed");
                        Cut::Tls
                    })?;
                    let caller = identify(&stream);
                    // Whom TLS let in may be believed no longer: it may come again.
                    let ends = stop.child_token();
                    let watch = async {
                        replaced(tls, &config).await;
                        ends.cancel();
                        std::future::pending().await
                    };
                    tokio::select! {
                        served = self.requests(stream, address, &caller, &ends) => served,
                        () = watch => Ok(()),
                    }
                }
            }
        };
        let cut = tokio::select! {
            biased;
            () = place.evicted() => Err(Cut::Evicted),
            served = served => served,
        };
        if let Err(cut) = cut {
            self.metrics.count_cut(cut);
        }
        self.metrics.open.dec();
    }

    async fn requests(
        self: &Arc<Self>,
        stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
        address: SocketAddr,
        caller: &Caller,
        stop: &CancellationToken,
    ) -> Result<(), Cut> {
        let answered = AtomicBool::new(false);
        let answer = |request| {
            answered.store(true, Ordering::Relaxed);
            self.clone().answer(request, address, caller.clone())
        };
        match self.http(TokioIo::new(stream), service_fn(answer), stop).await {
            // Whoever asked, and keeps the connection for later, does nothing wrong.
            Err(Cut::TimedOut) if answered.load(Ordering::Relaxed) => Ok(()),
            ended => ended,
        }
    }

    async fn http<S>(
        &self,
        stream: impl Read + Write + Unpin,
        service: S,
        stop: &CancellationToken,
    ) -> Result<(), Cut>
    where
        S: Service<Request<Incoming>, Response = Response, Error = Infallible>,
    {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(MAX_HEAD)
            .serve_connection(stream, service);
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            biased;
            ended = timeout(LIFE, connection.as_mut()) => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                timeout(LINGER, connection.as_mut()).await
            }
        };
        match ended {
            // What went wrong is the other end's: it knows.
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if error.is_timeout() => Err(Cut::TimedOut),
            Ok(Err(_)) => Ok(()),
            Err(_) => {
                connection.as_mut().graceful_shutdown();
                timeout(LINGER, connection).await.map(drop).map_err(|_| Cut::TimedOut)
            }
        }
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        address: SocketAddr,
        caller: Caller,
    ) -> Result<Response, Infallible> {
        let mut response = self.respond(request, address, &caller).await;
        let headers = response.headers_mut();
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.entry(CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(NOTHING_MORE));
        Ok(response)
    }

    async fn respond(&self, request: Request<Incoming>, address: SocketAddr, caller: &Caller) -> Response {
        if let Err(refusal) = self.guard.check(&request, caller) {
            self.metrics.count_refused(refusal.reason());
            self.refusals.line(|| {
                let (method, path) = (request.method(), shown(request.uri().path()));
                tracing::warn!(%address, %method, path, cause = %refusal, "admin request refused");
            });
            let mut response = refusal.into_response();
            // Whatever else it brings is not read.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            return response;
        }
        self.metrics.requests.inc();
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let (method, path) = (request.method(), shown(request.uri().path()));
            tracing::info!(%address, %method, path, "admin request with authority");
        }
        let request = request.map(Body::new);
        match timeout(ANSWER, self.router.call(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the node took too long to answer\n").into_response(),
        }
    }
}

/// Who is at the other end, by the certificate that TLS verified.
fn identify(stream: &TlsStream<TcpStream>) -> Caller {
    let Some([leaf, ..]) = stream.get_ref().1.peer_certificates() else { return Caller::Anybody };
    Subject::parse(leaf).map_or(Caller::Stranger, |subject| Caller::Client(subject.name))
}

/// What a connection may take.
pub(in crate::telemetry) fn limits() -> Vec<Limit> {
    let timed_out = "amop_admin_cut_total{reason=\"TimedOut\"}";
    vec![
        Limit::new(
            "time for a TLS handshake on the admin port",
            Bound::Time(HANDSHAKE),
            Policy::Disconnect,
            "",
        )
        .metric(timed_out),
        Limit::new("time for the head of an admin request", Bound::Time(HEAD), Policy::Disconnect, "")
            .metric(timed_out),
        Limit::new(
            "life of an admin connection",
            Bound::Time(LIFE),
            Policy::Disconnect,
            "after the answer that is being written",
        )
        .metric(timed_out),
        Limit::new(
            "size of an admin request's body",
            Bound::Bytes(MAX_BODY),
            Policy::Refuse(413),
            "over HTTP",
        )
        .metric("amop_admin_refused_total{reason=\"TooLarge\"}"),
        Limit::new(
            "topics, or clients, on a page of the status API",
            Bound::Count(Page::MAX_LIMIT),
            Policy::Wait,
            "further ones are on the next page",
        ),
    ]
}

fn shown(path: &str) -> &str {
    path.get(..SHOWN).unwrap_or(path)
}
/// Resolves when connections are to be made with other certificates, CAs or revocation lists than these. Cancel safe.
async fn replaced(tls: &Tls, config: &Arc<rustls::ServerConfig>) {
    let mut look = tokio::time::interval(SAMPLE);
    while Arc::ptr_eq(&tls(), config) {
        look.tick().await;
    }
}
