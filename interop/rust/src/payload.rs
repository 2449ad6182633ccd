//! What is sent, and how what arrived is described.

use bytes::Bytes;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use crate::Command;

/// Bytes repeat with a prime period, so that no two pieces of a cut message are alike.
const PERIOD: usize = 251;

/// The text of the command, or as many bytes of the pattern as it says.
pub(crate) fn of(command: &Command) -> Bytes {
    match &command.text {
        Some(text) => Bytes::from(text.clone()),
        None => (0..command.size).map(|i| u8::try_from((i + command.seed) % PERIOD).unwrap_or(0)).collect(),
    }
}

/// What a subscriber answers: what came, the text it was told, or nothing at all.
pub(crate) fn answer(said: &Value, payload: &Bytes) -> Option<Bytes> {
    match said["text"].as_str() {
        Some(text) => Some(Bytes::from(text.to_owned())),
        None if said["silent"] == true => None,
        None => Some(payload.clone()),
    }
}

/// Length and hash.
pub(crate) fn described(payload: &[u8]) -> Value {
    let hash: String = digest(&SHA256, payload).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    json!({ "bytes": payload.len(), "sha256": hash })
}
