use std::{
    net::TcpStream,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use amop_testkit::{
    collector::{Collector, Post, Reply},
    wait,
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
    },
    common::v1::{KeyValue, any_value},
    trace::v1 as otel,
};
use prost::Message;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::PrivateKeyDer;

use super::*;
use crate::{identity, tasks::Tasks};

/// Fast enough for tests.
const PACE: Pace = Pace {
    gather: Duration::from_millis(5),
    patience: Duration::from_secs(20),
    back_off: Duration::from_millis(1),
    attempts: 3,
    flush: Duration::from_secs(20),
};

fn example() -> Span {
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap();
    Span {
        parent,
        name: "amop publish",
        time: (Duration::from_nanos(5), Duration::from_secs(7)),
        attributes: vec![("messaging.system", "amop".into()), ("amop.code", 101_i32.into())],
        events: vec![Event {
            at: Duration::from_secs(6),
            name: "sent".into(),
            attributes: vec![("amop.attempt", 2_u32.into())],
        }],
        events_left_out: 3,
        failure: Some("101: no".into()),
    }
}

/// An exporter that runs, to a collector.
struct Running {
    spans: Spans,
    tasks: Tasks,
}

impl Running {
    fn to(collector: &Collector) -> Self {
        Self::at(&format!("http://{}/v1/traces", collector.address()), None)
    }

    fn at(endpoint: &str, tls: Option<Arc<ClientConfig>>) -> Self {
        Self::paced(endpoint, tls, PACE)
    }

    fn paced(endpoint: &str, tls: Option<Arc<ClientConfig>>, pace: Pace) -> Self {
        let resource = vec![("service.name", "amop".into())];
        let settings = Settings { endpoint: endpoint.parse().unwrap(), tls, resource, pace };
        let (spans, exporter) = channel(settings, Metrics::default());
        let tasks = Tasks::new();
        tasks.spawn("otlp", exporter.run(tasks.clone()));
        Self { spans, tasks }
    }

    fn metrics(&self) -> &Metrics {
        &self.spans.metrics
    }

    /// Ends it, and gives what it has counted.
    async fn end(self) -> Metrics {
        let metrics = self.spans.metrics.clone();
        drop(self.spans);
        self.tasks.finish().await;
        metrics
    }
}

fn spans_of(post: &Post) -> Vec<otel::Span> {
    let request = ExportTraceServiceRequest::decode(&post.body[..]).expect("OTLP");
    let of_scopes = request.resource_spans.into_iter().flat_map(|of_node| of_node.scope_spans);
    of_scopes.flat_map(|of_scope| of_scope.spans).collect()
}

fn shown(attributes: &[KeyValue]) -> Vec<(&str, String)> {
    let value = |attribute: &KeyValue| match attribute.value.clone().and_then(|value| value.value) {
        Some(any_value::Value::StringValue(text)) => text,
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        other => panic!("{other:?}"),
    };
    attributes.iter().map(|attribute| (&*attribute.key, value(attribute))).collect()
}

#[test]
fn opentelemetry_reads_what_is_written() {
    let body = encode::request(&[("service.name", "amop".into())], vec![encode::span(example())]);
    let request = ExportTraceServiceRequest::decode(&body[..]).unwrap();
    // Whatever these types do not know they would leave out.
    assert_eq!(request.encode_to_vec(), body);
    let [of_node] = &request.resource_spans[..] else { panic!("one node") };
    assert_eq!(shown(&of_node.resource.as_ref().unwrap().attributes), [("service.name", "amop".to_owned())]);
    let [of_scope] = &of_node.scope_spans[..] else { panic!("one program") };
    assert_eq!(of_scope.scope.as_ref().unwrap().name, "amop");
    let [span] = &of_scope.spans[..] else { panic!("one span") };
    assert_eq!(span.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes());
    assert_eq!(span.parent_span_id, 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
    assert!(span.span_id.len() == 8 && span.span_id != [0; 8] && span.span_id != span.parent_span_id);
    assert_eq!((&*span.name, span.kind()), ("amop publish", otel::span::SpanKind::Server));
    assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (5, 7_000_000_000));
    let flags = otel::SpanFlags::ContextHasIsRemoteMask as u32 | otel::SpanFlags::ContextIsRemoteMask as u32;
    assert_eq!(span.flags, flags | 1);
    let attributes = [("messaging.system", "amop".to_owned()), ("amop.code", "101".to_owned())];
    assert_eq!(shown(&span.attributes), attributes);
    let [event] = &span.events[..] else { panic!("one event") };
    assert_eq!((event.time_unix_nano, &*event.name), (6_000_000_000, "sent"));
    assert_eq!(shown(&event.attributes), [("amop.attempt", "2".to_owned())]);
    assert_eq!(span.dropped_events_count, 3);
    let status = span.status.as_ref().unwrap();
    assert_eq!((status.code(), &*status.message), (otel::status::StatusCode::Error, "101: no"));
    assert_ne!(encode::span(example()).span_id, encode::span(example()).span_id);
    assert_eq!(encode::span(Span { failure: None, ..example() }).status, None);
}

#[tokio::test]
async fn spans_are_posted_in_batches() {
    let collector = Collector::start();
    let running = Running::to(&collector);
    for _ in 0..1500 {
        running.spans.send(example());
    }
    let metrics = running.end().await;
    let posts = collector.posts();
    let sizes: Vec<usize> = posts.iter().map(|post| spans_of(post).len()).collect();
    assert!(sizes.iter().all(|size| *size <= 512) && sizes.iter().sum::<usize>() == 1500, "{sizes:?}");
    assert_eq!((metrics.spans.get(), metrics.exported.get(), metrics.retries.get()), (1500, 1500, 0));
    let head = &posts[0].head;
    for line in ["post /v1/traces http/1.1", "content-type: application/x-protobuf", "user-agent: amop/"] {
        assert!(head.contains(line), "{head}");
    }
}

#[tokio::test]
async fn a_batch_has_a_bound_in_bytes_too() {
    let collector = Collector::start();
    let running = Running::to(&collector);
    let large = || Span { failure: Some("x".repeat(300_000)), ..example() };
    (0..7).for_each(|_| running.spans.send(large()));
    running.spans.send(Span { failure: Some("x".repeat(2_000_000)), ..example() });
    running.end().await;
    let posts = collector.posts();
    let sizes: Vec<usize> = posts.iter().map(|post| spans_of(post).len()).collect();
    assert_eq!(sizes, [3, 3, 1, 1]);
}

#[tokio::test]
async fn what_is_for_later_is_sent_again_and_what_is_refused_is_not() {
    for status in [429, 502, 503, 504] {
        let collector = Collector::replying(move |n| {
            Reply::Status(if n == 0 { status } else { 200 }, "retry-after: 0\r\n", Vec::new())
        });
        let running = Running::to(&collector);
        running.spans.send(example());
        wait::until("the span to be taken", async || running.metrics().exported.get() == 1).await;
        let posts = collector.posts();
        assert_eq!(posts.len(), 2);
        assert_eq!(posts[0].body, posts[1].body, "the same span");
        assert_eq!(running.end().await.retries.get(), 1);
    }
    for status in [301, 400, 401, 404, 500] {
        let collector = Collector::replying(move |_| Reply::Status(status, "", b"no".to_vec()));
        let running = Running::to(&collector);
        running.spans.send(example());
        wait::until("the refusal", async || running.metrics().dropped(Dropped::Refused) == 1).await;
        assert_eq!(collector.posts().len(), 1, "{status}");
        assert_eq!(running.end().await.exported.get(), 0);
    }
}

#[tokio::test]
async fn what_a_collector_does_not_take_after_all_is_counted() {
    let partial = ExportTracePartialSuccess { rejected_spans: 2, error_message: "too old".into() };
    let answer = ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec();
    let collector = Collector::replying(move |_| Reply::Status(200, "", answer.clone()));
    let running = Running::to(&collector);
    (0..3).for_each(|_| running.spans.send(example()));
    let metrics = running.end().await;
    assert_eq!((metrics.exported.get(), metrics.dropped(Dropped::Rejected)), (1, 2));
    assert_eq!(metrics.steps_left_out.get(), 3 * u64::from(example().events_left_out));
}

/// The head of an answer with so many bytes, and what there is of them.
fn with_length(status: u16, length: usize, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status} said\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// The status says that they were taken; to send them again would have them twice.
#[tokio::test]
async fn what_was_taken_is_not_sent_again_whatever_the_collector_says_to_it() {
    let replies = [
        ("another protocol", Reply::Status(200, "", b"OK".to_vec())),
        ("broken off", Reply::Bytes(with_length(200, 100, b"half"))),
        (
            "in pieces that are none",
            Reply::Bytes(b"HTTP/1.1 200 said\r\ntransfer-encoding: chunked\r\n\r\nx".to_vec()),
        ),
        ("too long", Reply::Status(200, "", vec![0; 128 * 1024])),
        ("never ending", Reply::Begun(with_length(200, 100, b"half"))),
    ];
    for (what, reply) in replies {
        let collector = Collector::replying(move |_| reply.clone());
        let hurried = Pace { patience: Duration::from_secs(3), ..PACE };
        let running = Running::paced(&format!("http://{}/v1/traces", collector.address()), None, hurried);
        running.spans.send(example());
        wait::until("the answer", async || running.metrics().answers_unread.get() == 1).await;
        let metrics = running.end().await;
        assert_eq!((metrics.exported.get(), metrics.retries.get()), (1, 0), "{what}");
        assert_eq!(collector.posts().len(), 1, "{what}");
    }
}

#[tokio::test]
async fn what_was_refused_stays_refused_if_the_reason_breaks_off() {
    let collector = Collector::replying(|_| Reply::Bytes(with_length(400, 100, b"half")));
    let running = Running::to(&collector);
    running.spans.send(example());
    wait::until("the refusal", async || running.metrics().dropped(Dropped::Refused) == 1).await;
    assert_eq!(running.end().await.retries.get(), 0);
    assert_eq!(collector.posts().len(), 1);
}

#[tokio::test]
async fn nobody_waits_for_a_collector_that_is_not_there() {
    let nobody = format!("http://{}/v1/traces", Collector::start().address());
    let running = Running::at(&nobody, None);
    running.spans.send(example());
    wait::until("it to be given up", async || running.metrics().dropped(Dropped::Unreachable) == 1).await;
    assert_eq!(running.end().await.retries.get(), u64::from(PACE.attempts) - 1);
}

/// One that takes connections and says nothing: the queue fills, and the end does not wait for it.
#[tokio::test]
async fn a_collector_that_hangs_costs_spans_only() {
    let collector = Collector::replying(|_| Reply::Nothing);
    let hurried = Pace { flush: Duration::from_millis(100), ..PACE };
    let running = Running::paced(&format!("http://{}/v1/traces", collector.address()), None, hurried);
    let sent = 2 * QUEUE as u64;
    for _ in 0..sent {
        running.spans.send(example());
    }
    wait::until("the first request", async || !collector.posts().is_empty()).await;
    let over = running.metrics().dropped(Dropped::Queue);
    assert!(over >= sent - QUEUE as u64 - exporter::BATCH as u64 - 1, "{over}");
    let began = Instant::now();
    let held = running.spans.held.clone();
    let metrics = running.end().await;
    assert!(began.elapsed() < PACE.patience);
    assert_eq!(metrics.dropped(Dropped::Shutdown) + over, sent, "every span is counted");
    assert_eq!(held.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn spans_that_wait_have_a_bound_in_bytes() {
    let settings = Settings {
        endpoint: "http://127.0.0.1:9/v1/traces".parse().unwrap(),
        tls: None,
        resource: Vec::new(),
        pace: PACE,
    };
    let (spans, _exporter) = channel(settings, Metrics::default());
    (0..100).for_each(|_| spans.send(Span { failure: Some("x".repeat(1_000_000)), ..example() }));
    assert_eq!(spans.metrics.dropped(Dropped::Queue), 92);
}

/// A server's certificate for 127.0.0.1, and the CA it is under, written to `ca`.
fn server(ca: &Path) -> Arc<ServerConfig> {
    let key = || rcgen::KeyPair::generate().expect("a key");
    let mut of_ca = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
    of_ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer = rcgen::CertifiedIssuer::self_signed(of_ca, key()).expect("a CA");
    std::fs::write(ca, issuer.pem()).expect("written");
    let (params, key) = (rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]), key());
    let leaf = params.expect("parameters").signed_by(&key, &issuer).expect("a certificate");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let provider = Arc::new(amop_tls::provider::default());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("versions").with_no_client_auth();
    Arc::new(config.with_single_cert(vec![leaf.der().clone()], key).expect("a server"))
}

fn over_tls(server: Arc<ServerConfig>) -> Collector {
    let wrap = move |tcp: TcpStream| {
        let tls = ServerConnection::new(server.clone()).map_err(std::io::Error::other)?;
        Ok(Box::new(StreamOwned::new(tls, tcp)) as Box<dyn amop_testkit::collector::Stream>)
    };
    Collector::over(wrap, |_| Reply::Status(200, "", Vec::new()))
}

#[tokio::test]
async fn over_tls_only_the_right_collector_is_believed() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, other) = (dir.path().join("ca.crt"), dir.path().join("other.crt"));
    let collector = over_tls(server(&ca));
    server(&other);
    let address = format!("https://{}/v1/traces", collector.address());
    let running = Running::at(&address, Some(identity::towards_servers(&ca).unwrap()));
    running.spans.send(example());
    wait::until("the span to be taken", async || running.metrics().exported.get() == 1).await;
    running.end().await;
    assert_eq!(spans_of(&collector.posts()[0]).len(), 1);

    // Under another CA, or of another name.
    let named = address.replace("127.0.0.1", "localhost");
    for (address, ca) in [(&address, &other), (&named, &ca)] {
        let running = Running::at(address, Some(identity::towards_servers(ca).unwrap()));
        running.spans.send(example());
        wait::until("it to be given up", async || running.metrics().dropped(Dropped::Unreachable) == 1).await;
        running.end().await;
    }
    assert!(collector.posts().is_empty(), "nothing was said to it");
}
