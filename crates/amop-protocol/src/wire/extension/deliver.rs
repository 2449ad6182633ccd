//! The header of a `Deliver`, written by hand: it is made for every message to every extension
//! client, and the generated types would first copy each text into one of its own.

use crate::{
    Seq, Topic,
    broker::event::{Mode, Sender},
    wire::{
        fields::{bytes, bytes_len, length, number},
        generated as pb,
    },
};

/// Names of institutions and clients are cut to this many bytes: they come from certificates,
/// and a header's length has two bytes.
pub(super) const MAX_NAME: usize = 1024;

/// Header length and header.
pub(super) fn header(
    mode: Mode,
    topic: &Topic,
    sender: &Sender,
    answer_within_ms: u32,
    message: Option<&Seq>,
) -> Vec<u8> {
    let institution = bounded(&sender.institution);
    let name = bounded(&sender.client.name);
    let fingerprint = sender.client.fingerprint.as_bytes();
    let client_len = bytes_len(fingerprint.len()) + bytes_len(name.len());
    let sender_len = bytes_len(institution.len()) + bytes_len(NODE_DIGITS) + bytes_len(client_len);

    let message_len = message.map_or(0, |seq| bytes_len(seq.0.len()));
    let mut out = Vec::with_capacity(2 + 16 + bytes_len(topic.as_str().len()) + sender_len + message_len);
    out.extend_from_slice(&[0, 0]);
    number(&mut out, 1, pb::Mode::from(mode) as u64);
    bytes(&mut out, 2, topic.as_str().as_bytes());
    length(&mut out, 3, sender_len);
    bytes(&mut out, 1, institution.as_bytes());
    bytes(&mut out, 2, &hex(sender.node.as_bytes()));
    length(&mut out, 3, client_len);
    bytes(&mut out, 1, fingerprint);
    bytes(&mut out, 2, name.as_bytes());
    number(&mut out, 4, answer_within_ms.into());
    if let Some(seq) = message {
        bytes(&mut out, 5, &seq.0);
    }

    let len = u16::try_from(out.len() - 2).expect("invariant: a topic and two bounded names");
    out[..2].copy_from_slice(&len.to_be_bytes());
    out
}

const NODE_DIGITS: usize = 64;

fn bounded(name: &str) -> &str {
    &name[..name.floor_char_boundary(MAX_NAME)]
}

fn hex(node: &[u8; 32]) -> [u8; NODE_DIGITS] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut digits = [0; NODE_DIGITS];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(node) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 0xf)];
    }
    digits
}
