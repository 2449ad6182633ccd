//! The client port's protocol, both ends, without IO.
//!
//! - [`handshake`]: versions, and the extension that only our own SDK asks for.
//! - [`heartbeat`]: who answers what.
//! - [`startup`]: what 2.x SDKs ask before they consider a node usable.
//! - [`server`]: one client's session as its node sees it.
//! - [`client`]: its mirror image.
//! - [`lanes`]: in which order what waits for a connection is written, at either end.
//! - [`once`]: what an application with several such sessions has had already.
//! - [`verification`]: what both say about private topics.

pub mod client;
pub mod handshake;
pub mod heartbeat;
pub mod lanes;
pub mod once;
pub mod server;
pub mod startup;
pub mod verification;

use bytes::Bytes;
use serde_json::Value;

/// JSON as official nodes write it: compact, keys sorted, one LF at the end.
fn json(value: &Value) -> Bytes {
    let mut text = value.to_string();
    text.push('\n');
    text.into()
}
