//! The header of a `Deliver`, written and read by hand: it is made for every message to every extension
//! client, and the generated types would first copy each text into one of its own.

use std::time::Duration;

use prost::Message;

use super::{ExtensionError, message, mode, sender};
use crate::{
    Seq, Topic, TraceContext,
    message::{Mode, Sender},
    wire::{
        fields::{bytes, bytes_len, length, number, skim},
        generated as pb,
    },
};

/// The topic and the sender of the last message that came. Mostly the next one is of the same, says so in the
/// same bytes, and shares what was made of them.
#[derive(Clone, Debug, Default)]
pub struct Recent(Option<Known>);

#[derive(Clone, Debug)]
struct Known {
    /// The fields that say it, as they are encoded, at the beginning of the header.
    bytes: Vec<u8>,
    mode: Mode,
    topic: Topic,
    sender: Sender,
}

/// What a header says.
pub(super) struct Header {
    pub(super) mode: Mode,
    pub(super) topic: Topic,
    pub(super) sender: Sender,
    pub(super) answer_within: Duration,
    pub(super) message: Option<Seq>,
    pub(super) context: Option<TraceContext>,
}

/// Reads a header.
pub(super) fn read(header: &[u8], recent: &mut Recent) -> Result<Header, ExtensionError> {
    if let Some(known) = &recent.0
        && let Some(rest) = header.strip_prefix(&known.bytes[..])
        && let Some((answer_within, message, context)) = own_fields(rest)
    {
        let (topic, sender) = (known.topic.clone(), known.sender.clone());
        return Ok(Header { mode: known.mode, topic, sender, answer_within, message, context });
    }
    let deliver = pb::Deliver::decode(header)?;
    let read = Header {
        mode: mode(deliver.mode)?,
        topic: Topic::parse(&deliver.topic)?,
        sender: sender(deliver.sender.ok_or(ExtensionError::Field("sender"))?)?,
        answer_within: Duration::from_millis(deliver.answer_within_ms.into()),
        message: message(&deliver.message)?,
        context: TraceContext::from_slice(&deliver.trace_context),
    };
    let shared = skim(header).map_while(|field| field.filter(|field| field.tag <= SENDER));
    let len = shared.map(|field| field.raw.len()).sum();
    // If they stand elsewhere too, what is at the beginning does not say it all.
    if own_fields(&header[len..]).is_some() {
        let (bytes, topic, sender) = (header[..len].to_vec(), read.topic.clone(), read.sender.clone());
        recent.0 = Some(Known { bytes, mode: read.mode, topic, sender });
    }
    Ok(read)
}

/// The tags of mode and topic are lower.
const SENDER: u64 = 3;

/// What each message says for itself; `None` if there is anything else, or it is not as it should be.
fn own_fields(rest: &[u8]) -> Option<(Duration, Option<Seq>, Option<TraceContext>)> {
    let (mut answer_within, mut named, mut context) = (0, None, None);
    for field in skim(rest) {
        let field = field?;
        match field.tag {
            4 => answer_within = field.number? as u32,
            5 => named = message(field.value?).ok()?,
            6 => context = TraceContext::from_slice(field.value?),
            _ => return None,
        }
    }
    Some((Duration::from_millis(answer_within.into()), named, context))
}

/// Names of institutions and clients are cut to this many bytes: they come from certificates,
/// and a header's length has two bytes.
pub(super) const MAX_NAME: usize = 1024;

/// Header length and header.
pub(super) fn header(
    mode: Mode,
    topic: &Topic,
    sender: &Sender,
    (answer_within_ms, message, context): (u32, Option<&Seq>, Option<&TraceContext>),
) -> Vec<u8> {
    let institution = bounded(&sender.institution);
    let name = bounded(&sender.client.name);
    let fingerprint = sender.client.fingerprint.as_bytes();
    let client_len = bytes_len(fingerprint.len()) + bytes_len(name.len());
    let sender_len = bytes_len(institution.len()) + bytes_len(NODE_DIGITS) + bytes_len(client_len);

    let message_len = message.map_or(0, |seq| bytes_len(seq.0.len()))
        + context.map_or(0, |context| bytes_len(context.as_bytes().len()));
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
    if let Some(context) = context {
        bytes(&mut out, 6, context.as_bytes());
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
