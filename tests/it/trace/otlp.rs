//! Spans, exported to a collector by real nodes and read with OpenTelemetry's own types.

use std::time::Instant;

use amop::config::{Collector as To, Config};
use amop_client::{Client, RequestOptions};
use amop_protocol::TraceContext;
use amop_testkit::{
    collector::{Collector, Reply},
    wait,
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value},
    trace::v1::{Span, span::Event, status::StatusCode},
};
use prost::Message;

use crate::mesh::{Mesh, Served, Topology};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// A span, and the resource it came with.
pub(crate) type Found = (Span, Vec<KeyValue>);

pub(crate) fn context(flags: &str) -> RequestOptions {
    let context: TraceContext = format!("00-{TRACE}-{PARENT}-{flags}").parse().expect("a traceparent");
    RequestOptions::default().context(context)
}

fn exports_to(collector: &Collector, config: &mut Config) {
    let endpoint = format!("http://{}/v1/traces", collector.address()).parse().expect("an address");
    config.trace.otlp = Some(To { endpoint, ca: None });
}

async fn exporting(nodes: usize, collector: &Collector) -> Mesh {
    Mesh::new(nodes, Topology::Line, |_, config| exports_to(collector, config)).await
}

fn text(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == key);
    match found.and_then(|attribute| attribute.value.clone()?.value) {
        Some(any_value::Value::StringValue(text)) => text,
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        other => panic!("{key}: {other:?} in {attributes:#?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// All that comes until there are so many spans.
pub(crate) async fn spans(collector: &Collector, wanted: usize) -> Vec<Found> {
    let mut found = Vec::new();
    wait::until("the spans", async || {
        for post in collector.posts() {
            let request = ExportTraceServiceRequest::decode(&post.body[..]).expect("OTLP");
            for of_node in request.resource_spans {
                let resource = of_node.resource.expect("a resource").attributes;
                let spans = of_node.scope_spans.into_iter().flat_map(|of_scope| of_scope.spans);
                found.extend(spans.map(|span| (span, resource.clone())));
            }
        }
        found.len() >= wanted
    })
    .await;
    found.sort_by_key(|(span, _)| span.name.clone());
    found
}

async fn outcome(client: &Client, topic: &str, options: RequestOptions) -> i32 {
    match client.request_with(topic, "a secret", options).await {
        Ok(_) => 0,
        Err(error) => error.code(),
    }
}

/// Whether these happened, in this order; others may lie between.
fn happened(events: &[Event], wanted: &[&str]) -> bool {
    let mut events = events.iter();
    wanted.iter().all(|name| events.any(|event| event.name == *name))
}

#[tokio::test]
async fn every_node_on_the_way_exports_its_part_of_a_recorded_trace() {
    let collector = Collector::start();
    let mesh = exporting(3, &collector).await;
    let _desk = Served::answer(mesh.client(2).await, "settlement/eur/intraday", "done").await;
    let till = mesh.client(0).await;
    wait::until("the topic", async || mesh.knows(0, "settlement/eur/intraday").await).await;
    assert_eq!(outcome(&till, "settlement/eur/intraday", context("00")).await, 0, "not recorded");
    assert_eq!(outcome(&till, "settlement/eur/intraday", RequestOptions::default()).await, 0, "no trace");
    assert_eq!(outcome(&till, "settlement/eur/intraday", context("01")).await, 0);
    let found = spans(&collector, 3).await;
    let names: Vec<&str> = found.iter().map(|(span, _)| &*span.name).collect();
    assert_eq!(names, ["amop deliver", "amop publish", "amop relay"], "of the recorded trace only");
    for ((span, resource), (node, events)) in found.iter().zip([
        (2, &["arrived", "pushed", "answered"][..]),
        (0, &["published", "sent", "told"]),
        (1, &["relayed", "relayed"]),
    ]) {
        assert_eq!((hex(&span.trace_id), hex(&span.parent_span_id)), (TRACE.into(), PARENT.into()));
        assert!(happened(&span.events, events), "{span:#?}");
        assert!(span.status.is_none(), "{span:#?}");
        let times = (span.start_time_unix_nano, span.end_time_unix_nano);
        assert!(times.0 > 1_700_000_000_000_000_000 && times.0 <= times.1, "{times:?}");
        let inside = |event: &Event| (times.0..=times.1).contains(&event.time_unix_nano);
        assert!(span.events.iter().all(inside), "{span:#?}");
        assert_eq!(text(&span.attributes, "messaging.system"), "amop");
        assert_eq!(text(&span.attributes, "messaging.destination.name"), "settlement/eur/intraday");
        assert_eq!(text(&span.attributes, "amop.origin"), "node-0");
        assert_eq!(text(resource, "service.name"), "amop");
        assert_eq!(text(resource, "service.instance.id"), mesh.id(node).to_string());
        assert_eq!(text(resource, "amop.institution"), format!("bank-{node}"));
        assert!(!format!("{span:?}").contains("a secret"), "no payload");
    }
    let [deliver, publish, relay] = [0, 1, 2].map(|at| &found[at].0);
    assert_ne!(deliver.span_id, publish.span_id);
    assert_ne!(relay.span_id, publish.span_id);
    let id = text(&publish.attributes, "messaging.message.id");
    assert_eq!(text(&deliver.attributes, "messaging.message.id"), id, "what amop trace takes");
    assert_eq!(text(&publish.attributes, "amop.code"), "0");
    wait::until("the answer", async || mesh.nodes[0].counted("otlp_exported").await == 1).await;
}

#[tokio::test]
async fn failures_are_errors_with_their_cause() {
    let collector = Collector::start();
    let mesh = exporting(2, &collector).await;
    let _desk = Served::with(mesh.client(1).await, "refused", |delivery| delivery.refuse(7)).await;
    let till = mesh.client(0).await;
    wait::until("the topic", async || mesh.knows(0, "refused").await).await;
    assert_eq!(outcome(&till, "nobody", context("01")).await, 100);
    let found = spans(&collector, 1).await;
    let [(span, _)] = &found[..] else { panic!("one: {found:#?}") };
    let status = span.status.as_ref().expect("a status");
    assert_eq!((&*span.name, status.code()), ("amop publish", StatusCode::Error));
    assert!(status.message.starts_with("100: "), "{}", status.message);
    assert_eq!(text(&span.attributes, "error.type"), "CAUSE_NO_SUBSCRIBER");
    assert_eq!(text(&span.attributes, "messaging.destination.name"), "nobody");

    assert_eq!(outcome(&till, "refused", context("01")).await, 101);
    for (span, _) in spans(&collector, 2).await {
        let status = span.status.as_ref().expect("a status");
        assert_eq!((status.code(), &status.message[..5]), (StatusCode::Error, "101: "), "{span:#?}");
        assert_eq!(text(&span.attributes, "amop.code"), "101");
    }
}

#[tokio::test]
async fn a_node_that_stops_exports_what_is_left() {
    let collector = Collector::start();
    let mut mesh = exporting(1, &collector).await;
    let _desk = Served::answer(mesh.client(0).await, "t", "done").await;
    let till = mesh.client(0).await;
    wait::until("the topic", async || mesh.knows(0, "t").await).await;
    assert_eq!(outcome(&till, "t", context("01")).await, 0);
    mesh.stop(0).await;
    let found = spans(&collector, 2).await;
    let names: Vec<&str> = found.iter().map(|(span, _)| &*span.name).collect();
    assert_eq!(names, ["amop deliver", "amop publish"], "both are this node's part");
}

#[tokio::test]
async fn without_its_collector_a_node_goes_on_and_counts_what_is_lost() {
    let gone = Collector::start();
    let mute = Collector::replying(|_| Reply::Nothing);
    let mut mesh = Mesh::new(2, Topology::Line, |index, config| {
        exports_to(if index == 0 { &gone } else { &mute }, config);
    })
    .await;
    drop(gone);
    let _desk = Served::answer(mesh.client(1).await, "t", "done").await;
    let till = mesh.client(0).await;
    wait::until("the topic", async || mesh.knows(0, "t").await).await;
    for _ in 0..20 {
        assert_eq!(outcome(&till, "t", context("01")).await, 0);
    }
    wait::until("the spans to be given up", async || {
        mesh.nodes[0].counted_with("otlp_dropped", "cause=\"Unreachable\"").await == 20
    })
    .await;
    assert_eq!(mesh.nodes[0].counted("otlp_exported").await, 0);
    assert_eq!(outcome(&till, "t", context("01")).await, 0);
    wait::until("a request to the mute one", async || !mute.posts().is_empty()).await;
    let began = Instant::now();
    let report = mesh.stop(1).await;
    assert_eq!(report.cut, 0);
    assert!(began.elapsed() < wait::PATIENCE / 2, "its end does not wait for the collector");
}
