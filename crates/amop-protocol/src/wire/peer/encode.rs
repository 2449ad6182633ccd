//! The header of a data frame, written by hand into one allocation.

use super::{Audience, Body, DataMessage, Envelope, Route, SendRef, put_route, route_len};
use crate::wire::fields::{bytes, bytes_len, entry, entry_len, length, number, varint};

/// Room for the numbers of a message; texts and ids are reckoned exactly.
const NUMBERS: usize = 64;

/// The encoded `Data` of `peer.proto`.
pub(super) fn header(message: &DataMessage, route: &Route) -> Vec<u8> {
    let (tag, body) = body(&message.body);
    let mut out = Vec::with_capacity(entry_len(32) + NUMBERS + route_len(route) + entry_len(body.len()));
    bytes(&mut out, 1, message.origin.as_bytes());
    number(&mut out, 2, message.origin_epoch);
    put_route(&mut out, route);
    length(&mut out, tag, body.len());
    out.extend_from_slice(&body);
    out
}

/// The tag and the encoded message of the `body` that is there.
fn body(body: &Body) -> (u8, Vec<u8>) {
    match body {
        Body::Attempt { send, number: attempt, envelope, push_timeout_ms } => {
            let mut out = with_envelope(*send, u64::from(*attempt), 3, envelope);
            number(&mut out, 4, u64::from(*push_timeout_ms));
            (8, out)
        }
        Body::FanOut { send, envelope, recipients } => {
            let mut out = with_envelope(*send, 0, 2, envelope);
            number(&mut out, 3, u64::from(*recipients));
            (11, out)
        }
        Body::Handed { send, number: attempt } => {
            (9, report(send, [(2, u64::from(*attempt)), (3, send.epoch)]))
        }
        Body::Outcome { send, number: attempt, cause, is_final, exhausted, answer_prefix } => {
            let numbers = [
                (2, u64::from(*attempt)),
                (3, *cause as u64),
                (4, u64::from(*is_final)),
                (5, u64::from(*exhausted)),
            ];
            let mut out = report(send, numbers);
            bytes(&mut out, 6, answer_prefix);
            number(&mut out, 7, send.epoch);
            (10, out)
        }
        Body::FanOutReport { send, handed, failed, cause, complete } => {
            let numbers = [
                (2, send.epoch),
                (3, u64::from(*handed)),
                (4, u64::from(*failed)),
                (5, *cause as u64),
                (6, u64::from(*complete)),
            ];
            (12, report(send, numbers))
        }
        Body::Refused { send, number: attempt, destinations, cause, retry_after_ms } => {
            let numbers = [
                (2, send.epoch),
                (3, u64::from(*attempt)),
                (5, *cause as u64),
                (6, u64::from(*retry_after_ms)),
            ];
            let mut out = report(send, numbers);
            for node in destinations {
                entry(&mut out, 4, node.as_bytes());
            }
            (13, out)
        }
        Body::Inquiry { id, is_answer } => {
            let mut out = Vec::with_capacity(NUMBERS);
            number(&mut out, 1, *id);
            number(&mut out, 2, u64::from(*is_answer));
            (14, out)
        }
    }
}

fn report<const N: usize>(send: &SendRef, numbers: [(u8, u64); N]) -> Vec<u8> {
    let mut out = Vec::with_capacity(NUMBERS);
    number(&mut out, 1, send.id);
    for (tag, value) in numbers {
        number(&mut out, tag, value);
    }
    out
}

/// The beginning of an attempt or a fan-out: its numbers, and its envelope under `tag`.
fn with_envelope(send: u64, attempt: u64, tag: u8, envelope: &Envelope) -> Vec<u8> {
    let (name, topic) = (envelope.publisher.name.as_bytes(), envelope.topic.as_str().as_bytes());
    let fingerprint = envelope.publisher.fingerprint.as_bytes();
    let publisher = entry_len(fingerprint.len()) + if name.is_empty() { 0 } else { entry_len(name.len()) };
    let client = envelope.client.as_ref().map_or(&[][..], |client| client.as_bytes());
    let audience: Vec<Vec<u8>> = envelope.audience.iter().map(part).collect();
    let instance = envelope.instance.map(u128::to_be_bytes);
    let instance = instance.as_ref().map_or(&[][..], |instance| instance);
    let context = envelope.context.as_ref().map_or(&[][..], |context| context.as_bytes());
    let len = entry_len(publisher)
        + audience.iter().map(|part| entry_len(part.len())).sum::<usize>()
        + entry_len(envelope.seq.0.len())
        + entry_len(topic.len())
        + bytes_len(client.len())
        + bytes_len(instance.len())
        + bytes_len(context.len());
    let mut out = Vec::with_capacity(NUMBERS + entry_len(len));
    number(&mut out, 1, send);
    number(&mut out, 2, attempt);
    length(&mut out, tag, len);
    length(&mut out, 1, publisher);
    bytes(&mut out, 1, fingerprint);
    bytes(&mut out, 2, name);
    bytes(&mut out, 2, &envelope.seq.0);
    bytes(&mut out, 3, topic);
    bytes(&mut out, 4, client);
    for part in audience {
        bytes(&mut out, 5, &part);
    }
    bytes(&mut out, 6, instance);
    bytes(&mut out, 7, context);
    out
}

fn part(audience: &Audience) -> Vec<u8> {
    let mut sessions = Vec::with_capacity(audience.sessions.len() * 2);
    for session in &audience.sessions {
        varint(&mut sessions, session.0);
    }
    let mut out = Vec::with_capacity(NUMBERS + entry_len(sessions.len()));
    bytes(&mut out, 1, audience.node.as_bytes());
    number(&mut out, 2, audience.epoch);
    bytes(&mut out, 3, &sessions);
    out
}
