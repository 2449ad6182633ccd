//! The header of a data frame, written by hand into one allocation.

use super::{Audience, Body, DataMessage, Envelope, MAC_LEN, Route, put_route, route_len};
use crate::wire::fields::{bytes, entry, entry_len, nested, number, varint};

/// Room for all fields of a header that have a length of their own, and for what stands before the others.
const FIXED: usize = 256;

/// The encoded `Data` of `peer.proto`, with room for the MACs that may follow.
pub(super) fn header(message: &DataMessage, route: &Route) -> Vec<u8> {
    let macs = route.destinations.len() * MAC_LEN;
    let mut out = Vec::with_capacity(FIXED + route_len(route) + room(&message.body) + macs);
    bytes(&mut out, 1, message.origin.as_bytes());
    number(&mut out, 2, message.origin_epoch);
    put_route(&mut out, route);
    let tag = match &message.body {
        Body::Attempt { .. } => 8,
        Body::Handed { .. } => 9,
        Body::Outcome { .. } => 10,
        Body::FanOut { .. } => 11,
        Body::FanOutReport { .. } => 12,
        Body::Refused { .. } => 13,
        Body::Inquiry { .. } => 14,
    };
    nested(&mut out, tag, |out| put_body(out, &message.body));
    out
}

/// Bytes of texts and lists.
fn room(body: &Body) -> usize {
    match body {
        Body::Attempt { envelope, .. } | Body::FanOut { envelope, .. } => {
            let audience = envelope.audience.iter().map(|part| entry_len(32) + part.sessions.len() * 2);
            envelope.publisher.name.len() + envelope.topic.as_str().len() + audience.sum::<usize>()
        }
        Body::Outcome { answer_prefix, .. } => answer_prefix.len(),
        Body::Refused { destinations, .. } => destinations.len() * entry_len(32),
        Body::Handed { .. } | Body::FanOutReport { .. } | Body::Inquiry { .. } => 0,
    }
}

fn put_body(out: &mut Vec<u8>, body: &Body) {
    match body {
        Body::Attempt { send, number: attempt, envelope, push_timeout_ms } => {
            numbers(out, [(1, *send), (2, u64::from(*attempt))]);
            nested(out, 3, |out| put_envelope(out, envelope));
            number(out, 4, u64::from(*push_timeout_ms));
        }
        Body::FanOut { send, envelope, recipients } => {
            number(out, 1, *send);
            nested(out, 2, |out| put_envelope(out, envelope));
            number(out, 3, u64::from(*recipients));
        }
        Body::Handed { send, number: attempt } => {
            numbers(out, [(1, send.id), (2, u64::from(*attempt)), (3, send.epoch)]);
        }
        Body::Outcome { send, number: attempt, cause, is_final, exhausted, answer_prefix } => {
            numbers(out, [(1, send.id), (2, u64::from(*attempt)), (3, *cause as u64)]);
            numbers(out, [(4, u64::from(*is_final)), (5, u64::from(*exhausted))]);
            bytes(out, 6, answer_prefix);
            number(out, 7, send.epoch);
        }
        Body::FanOutReport { send, handed, failed, cause, complete } => {
            numbers(out, [(1, send.id), (2, send.epoch), (3, u64::from(*handed)), (4, u64::from(*failed))]);
            numbers(out, [(5, *cause as u64), (6, u64::from(*complete))]);
        }
        Body::Refused { send, number: attempt, destinations, cause, retry_after_ms } => {
            numbers(out, [(1, send.id), (2, send.epoch), (3, u64::from(*attempt))]);
            for node in destinations {
                entry(out, 4, node.as_bytes());
            }
            numbers(out, [(5, *cause as u64), (6, u64::from(*retry_after_ms))]);
        }
        Body::Inquiry { id, is_answer } => {
            numbers(out, [(1, *id), (2, u64::from(*is_answer))]);
        }
    }
}

fn numbers<const N: usize>(out: &mut Vec<u8>, numbers: [(u8, u64); N]) {
    for (tag, value) in numbers {
        number(out, tag, value);
    }
}

fn put_envelope(out: &mut Vec<u8>, envelope: &Envelope) {
    let Envelope { publisher, seq, topic, client, audience, instance, context } = envelope;
    nested(out, 1, |out| {
        bytes(out, 1, publisher.fingerprint.as_bytes());
        bytes(out, 2, publisher.name.as_bytes());
    });
    bytes(out, 2, &seq.0);
    bytes(out, 3, topic.as_str().as_bytes());
    if let Some(client) = client {
        bytes(out, 4, client.as_bytes());
    }
    for part in audience {
        nested(out, 5, |out| put_audience(out, part));
    }
    if let Some(instance) = instance {
        bytes(out, 6, &instance.to_be_bytes());
    }
    if let Some(context) = context {
        bytes(out, 7, context.as_bytes());
    }
}

fn put_audience(out: &mut Vec<u8>, audience: &Audience) {
    bytes(out, 1, audience.node.as_bytes());
    number(out, 2, audience.epoch);
    if !audience.sessions.is_empty() {
        nested(out, 3, |out| audience.sessions.iter().for_each(|session| varint(out, session.0)));
    }
}
