//! Spans and their batches as OTLP has them.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use rand::Rng;

use super::{Attribute, Event, Span, Value, wire};

/// What OTLP adds to W3C's flags: it is known whether the parent is of another process, and it is.
const REMOTE_PARENT: u32 = 0x300;

/// A span, under a number of its own.
pub(super) fn span(span: Span) -> wire::Span {
    let Span { parent, name, time: (began, ended), attributes, events, events_left_out, failure } = span;
    // Zero stands for none.
    let id = rand::rng().next_u64().max(1);
    wire::Span {
        trace_id: parent.trace_id().to_vec(),
        span_id: id.to_be_bytes().to_vec(),
        parent_span_id: parent.span_id().to_vec(),
        name: name.to_owned(),
        // A node serves whoever sent it the message: a client or another node.
        kind: wire::SERVER,
        start_time_unix_nano: nanos(began),
        end_time_unix_nano: nanos(ended),
        attributes: attributes.into_iter().map(attribute).collect(),
        events: events.into_iter().map(event).collect(),
        dropped_events_count: events_left_out,
        status: failure.map(|message| wire::Status { message, code: wire::ERROR }),
        flags: u32::from(parent.flags()) | REMOTE_PARENT,
    }
}

fn event(Event { at, name, attributes }: Event) -> wire::Event {
    let attributes = attributes.into_iter().map(attribute).collect();
    wire::Event { time_unix_nano: nanos(at), name, attributes }
}

fn attribute((key, value): Attribute) -> wire::KeyValue {
    let value = match value {
        Value::Text(text) => wire::Value::Text(text),
        Value::Number(number) => wire::Value::Number(number),
    };
    wire::KeyValue { key: key.to_owned(), value: Some(wire::AnyValue { value: Some(value) }) }
}

fn nanos(at: Duration) -> u64 {
    u64::try_from(at.as_nanos()).unwrap_or(u64::MAX)
}

/// A request to a collector to take these spans of this resource.
pub(super) fn request(resource: &[Attribute], spans: Vec<wire::Span>) -> Bytes {
    let resource = wire::Resource { attributes: resource.iter().cloned().map(attribute).collect() };
    let scope = wire::Scope { name: "amop".into(), version: env!("CARGO_PKG_VERSION").into() };
    let of_scope = wire::ScopeSpans { scope: Some(scope), spans };
    let of_node = wire::ResourceSpans { resource: Some(resource), scope_spans: vec![of_scope] };
    wire::Request { resource_spans: vec![of_node] }.encode_to_vec().into()
}

/// How many of them it did not take after all, as its answer says, and why.
///
/// # Errors
/// When it says something else.
pub(super) fn rejected(answer: &[u8]) -> Result<(u64, String), prost::DecodeError> {
    let said = wire::Response::decode(answer)?.partial_success.unwrap_or_default();
    Ok((u64::try_from(said.rejected_spans).unwrap_or(0), said.error_message))
}
