//! What 2.x SDKs ask by JSON-RPC before they consider a node usable: the minimum set of the
//! channel protocol, answered from what the node knows. There is no chain behind the answers.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::json;
use crate::{
    SessionId,
    broker::routing::{Node, Routing},
    limits::MAX_JSON_BODY,
    topic::Kind,
};

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

/// Answers one JSON-RPC call; whatever came, there is an answer.
pub fn answer(body: &[u8], facts: Facts<'_>) -> Bytes {
    if body.len() > MAX_JSON_BODY {
        return failure(INVALID_REQUEST, "INVALID_REQUEST: The request is too long", &Value::Null);
    }
    let Ok(call) = serde_json::from_slice::<Value>(body) else {
        return failure(PARSE_ERROR, "PARSE_ERROR: The request is not JSON", &Value::Null);
    };
    // A list would be read as the fields of a call, in order.
    let Some(Call { method, id }) =
        Some(&call).filter(|c| c.is_object()).and_then(|c| Call::deserialize(c).ok())
    else {
        return failure(INVALID_REQUEST, "INVALID_REQUEST: The request has no method", &call["id"]);
    };
    match result(&method, facts) {
        Some(result) => json(&json!({ "id": id, "jsonrpc": "2.0", "result": result })),
        None => failure(
            METHOD_NOT_FOUND,
            "METHOD_NOT_FOUND: The method being requested is not available on this server",
            &id,
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
        "getPeers" => peers(facts.routing, facts.session),
        "getNodeInfo" => own_info(facts.routing),
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

/// All reachable nodes, not only neighbours: the official demo publisher waits until a topic
/// shows up here, and its subscriber may be any number of hops away. Channels of challenges are nobody's
/// business.
fn peers(routing: &Routing, asker: SessionId) -> Value {
    let mut topics: Vec<Vec<&str>> = Vec::new();
    let mut add = |at: usize, topic| {
        if topics.len() <= at {
            topics.resize_with(at + 1, Vec::new);
        }
        topics[at].push(topic);
    };
    for (topic, routes) in routing.topics().filter(|(topic, _)| !topic.is_reserved()) {
        routes.nodes.iter().for_each(|(index, _)| add(index.0 as usize, topic.as_str()));
    }
    let indices: BTreeMap<_, _> = routing.indexed().map(|(index, node)| (node.id, index)).collect();
    for (node, topic) in routing.private().verified_by(asker).collect::<BTreeSet<_>>() {
        if let Some(index) = indices.get(&node) {
            add(index.0 as usize, topic.as_str());
        }
    }
    let others = routing.indexed().filter(|(_, node)| node.id != routing.me());
    others
        .map(|(index, node)| {
            let mut topics = topics.get_mut(index.0 as usize).map(std::mem::take).unwrap_or_default();
            topics.sort_unstable();
            info(node, &topics)
        })
        .collect()
}

fn own_info(routing: &Routing) -> Value {
    let mut topics: Vec<_> = routing
        .topics()
        .filter(|(topic, routes)| !routes.sessions.is_empty() && topic.kind() != Kind::Handshake)
        .map(|(topic, _)| topic.as_str())
        .collect();
    topics.sort_unstable();
    routing.find(&routing.me()).map_or(Value::Null, |node| info(node, &topics))
}

fn info(node: &Node, topics: &[&str]) -> Value {
    json!({
        "Agency": &*node.institution,
        "IPAndPort": &*node.address,
        "Node": &*node.name,
        "NodeID": node.key.to_string(),
        "Topic": topics,
    })
}

#[cfg(test)]
mod tests;
