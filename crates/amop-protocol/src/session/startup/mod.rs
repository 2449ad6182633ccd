//! What 2.x SDKs ask by JSON-RPC before they consider a node usable: the minimum set of the
//! channel protocol, answered from what the node knows. There is no chain behind the answers.

mod listing;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

pub use self::listing::{Fresh, Listed, Listing, Listings};
use super::json;
use crate::{SessionId, broker::routing::Routing, limits::MAX_JSON_BODY};

/// What a node says of itself to SDKs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The FISCO BCOS version the node passes for: `2.N.P` with N at least 1, three numbers.
    pub version: String,
    /// go-sdk refuses a node whose chain id is not the one it is configured with.
    pub chain_id: String,
    /// Groups reported to SDKs: none, or 1 for the official demo programs, which insist on it.
    pub groups: Vec<u32>,
}

impl Default for Config {
    fn default() -> Self {
        Self { version: "2.10.0".into(), chain_id: "1".into(), groups: Vec::new() }
    }
}

/// What the answers are made from.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// What the node says of itself.
    pub config: &'a Config,
    /// Whom it can reach, and their topics.
    pub routing: &'a Routing,
    /// Where the long answers come from.
    pub listings: &'a dyn Listings,
    /// Who asks: a publisher sees a private topic at the nodes where it has verified somebody.
    pub session: SessionId,
}

/// `params` is not read: no answer depends on it, and some SDKs omit it.
#[derive(Deserialize)]
struct Call {
    method: String,
    #[serde(default)]
    id: Value,
}

const PARSE_ERROR: i32 = -32700;
const INVALID_REQUEST: i32 = -32600;
const METHOD_NOT_FOUND: i32 = -32601;

/// Answers one JSON-RPC call, in two parts; whatever came, there is an answer.
pub fn answer(body: &[u8], facts: Facts<'_>) -> (Bytes, Bytes) {
    let whole = |answer| (answer, Bytes::new());
    match read(body) {
        Err(failure) => whole(failure),
        Ok(Call { method, id }) => match listing(&method) {
            Some(listing) => {
                let head = format!(r#"{{"id":{id},"jsonrpc":"2.0","result":"#);
                let listed = facts.listings.get(listing, facts.routing);
                (head.into(), listed.for_session(facts.routing, facts.session))
            }
            None => whole(short(&method, &id, facts)),
        },
    }
}

fn listing(method: &str) -> Option<Listing> {
    match method {
        "getPeers" => Some(Listing::Peers),
        "getNodeInfo" => Some(Listing::OwnInfo),
        _ => None,
    }
}

/// The call, or what to answer to something else.
fn read(body: &[u8]) -> Result<Call, Bytes> {
    if body.len() > MAX_JSON_BODY {
        return Err(failure(INVALID_REQUEST, "INVALID_REQUEST: The request is too long", &Value::Null));
    }
    let Ok(call) = serde_json::from_slice::<Value>(body) else {
        return Err(failure(PARSE_ERROR, "PARSE_ERROR: The request is not JSON", &Value::Null));
    };
    // A list would be read as the fields of a call, in order.
    let read = Some(&call).filter(|c| c.is_object()).and_then(|c| Call::deserialize(c).ok());
    read.ok_or_else(|| failure(INVALID_REQUEST, "INVALID_REQUEST: The request has no method", &call["id"]))
}

fn short(method: &str, id: &Value, facts: Facts<'_>) -> Bytes {
    match result(method, facts) {
        Some(result) => json(&json!({ "id": id, "jsonrpc": "2.0", "result": result })),
        None => failure(
            METHOD_NOT_FOUND,
            "METHOD_NOT_FOUND: The method being requested is not available on this server",
            id,
        ),
    }
}

fn failure(code: i32, message: &str, id: &Value) -> Bytes {
    json(&json!({ "error": { "code": code, "message": message }, "id": id, "jsonrpc": "2.0" }))
}

fn result(method: &str, facts: Facts<'_>) -> Option<Value> {
    Some(match method {
        "getClientVersion" => client_version(facts.config),
        "getGroupList" => json!(facts.config.groups),
        "getBlockNumber" => json!("0x0"),
        "getNodeIDList" => facts.routing.reachable().map(|node| json!(node.key.to_string())).collect(),
        _ => return None,
    })
}

fn client_version(config: &Config) -> Value {
    json!({
        "Build Time": "",
        "Build Type": "amop",
        "Chain Id": config.chain_id,
        "FISCO-BCOS Version": config.version,
        "Git Branch": "",
        "Git Commit Hash": "",
        "Supported Version": config.version,
    })
}

#[cfg(test)]
mod tests;
