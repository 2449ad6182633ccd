//! The 0x14 handshake: versions 1 to 3, and the member `amop` by which an SDK asks for extensions.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::json;
use crate::{NodeKey, broker::event::Hop, limits::MAX_JSON_BODY, wire::extension};

/// The version of the channel protocol that a session speaks; it only changes heartbeats here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// Without a handshake, or for clients that know nothing newer.
    #[default]
    V1 = 1,
    /// Heartbeats are JSON.
    V2 = 2,
    /// As 2; what nodes of version 2.10 choose.
    V3 = 3,
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Request {
    /// The lowest version the client speaks.
    pub minimum_support: i64,
    /// The highest version the client speaks.
    pub maximum_support: i64,
    /// What the client calls itself; for logs.
    pub client_type: String,
    /// Present if the client wants extension frames.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amop: Option<ExtensionRequest>,
}

impl Default for Request {
    fn default() -> Self {
        Self { minimum_support: 1, maximum_support: 1, client_type: String::new(), amop: None }
    }
}

/// The member `amop` of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExtensionRequest {
    /// The extension version the client speaks.
    pub version: u32,
    /// Thirty-two hex digits that name one running application, whichever node it is connected to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
}

/// What a node answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reply {
    /// The FISCO BCOS version the node passes for.
    pub node_version: String,
    /// The version chosen.
    pub protocol: i64,
    /// Present if the node grants the extension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amop: Option<ExtensionReply>,
}

/// The member `amop` of a reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtensionReply {
    /// The extension version both speak.
    pub version: u32,
    /// The node's key, 128 hex digits.
    pub node: String,
    /// The node's name.
    pub name: String,
    /// The node's institution.
    pub institution: String,
}

/// Who the node is, for clients that want extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// Its key.
    pub key: NodeKey,
    /// Its name.
    pub name: String,
    /// Its institution.
    pub institution: String,
}

impl About {
    /// The node, as where something failed.
    pub fn hop(&self) -> Hop {
        Hop { node: self.key.id(), name: (*self.name).into(), institution: (*self.institution).into() }
    }
}

/// Why a 0x14 cannot be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// Not a JSON object of the handshake; ignored.
    #[error("the body of a handshake must be a JSON object")]
    NotJson,
    /// No common version; the session is closed without a reply.
    #[error("the client speaks versions {minimum} to {maximum}, this node 1 to 3")]
    NoOverlap {
        /// The client's lowest.
        minimum: i64,
        /// The client's highest.
        maximum: i64,
    },
}

/// What was agreed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The version of the channel protocol.
    pub protocol: Protocol,
    /// The instance that the client named, if it gets extensions; 0 if it named none.
    pub extension: Option<u128>,
    /// What the client calls itself, cut to a length fit for logs.
    pub client_type: String,
}

/// Reads a 0x14 request and decides.
///
/// # Errors
/// When it is not JSON, or there is no common version.
pub fn negotiate(body: &[u8]) -> Result<Agreed, HandshakeError> {
    if body.len() > MAX_JSON_BODY || !body.trim_ascii_start().starts_with(b"{") {
        return Err(HandshakeError::NotJson);
    }
    let request: Request = serde_json::from_slice(body).map_err(|_| HandshakeError::NotJson)?;
    let (minimum, maximum) = (request.minimum_support, request.maximum_support);
    let protocol = match maximum {
        3.. if minimum <= 3 => Protocol::V3,
        2 if minimum <= 2 => Protocol::V2,
        1 if minimum <= 1 => Protocol::V1,
        _ => return Err(HandshakeError::NoOverlap { minimum, maximum }),
    };
    let extension = request.amop.filter(|asked| asked.version >= extension::VERSION);
    Ok(Agreed {
        protocol,
        extension: extension.map(|asked| asked.instance.and_then(|hex| instance(&hex)).unwrap_or(0)),
        client_type: request.client_type.chars().filter(|c| !c.is_control()).take(64).collect(),
    })
}

/// The body of the reply; only a client that asked for extensions learns of them.
pub fn reply(node_version: &str, agreed: &Agreed, about: &About) -> Bytes {
    let mut reply = json!({ "nodeVersion": node_version, "protocol": agreed.protocol as i64 });
    if agreed.extension.is_some() {
        reply["amop"] = json!({
            "version": extension::VERSION,
            "node": about.key.to_string(),
            "name": about.name,
            "institution": about.institution,
        });
    }
    json(&reply)
}

fn instance(hex: &str) -> Option<u128> {
    (hex.len() == 32).then(|| u128::from_str_radix(hex, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn protocol(body: &str) -> Result<Protocol, HandshakeError> {
        negotiate(body.as_bytes()).map(|agreed| agreed.protocol)
    }

    #[test]
    fn the_highest_common_version_is_chosen() {
        assert_eq!(protocol(r#"{"minimumSupport":1,"maximumSupport":3}"#), Ok(Protocol::V3));
        assert_eq!(protocol(r#"{"minimumSupport":1,"maximumSupport":9}"#), Ok(Protocol::V3));
        assert_eq!(protocol(r#"{"minimumSupport":2,"maximumSupport":2}"#), Ok(Protocol::V2));
        assert_eq!(protocol("{}"), Ok(Protocol::V1), "both default to 1");
        for (minimum, maximum) in [(4, 9), (-3, 0), (3, 1), (2, 1)] {
            let body = format!(r#"{{"minimumSupport":{minimum},"maximumSupport":{maximum}}}"#);
            assert_eq!(protocol(&body), Err(HandshakeError::NoOverlap { minimum, maximum }));
        }
    }

    #[test]
    fn what_is_not_a_json_object_is_not_a_handshake() {
        for body in ["", "hello", "[1,1]", "3", "{", r#"{"minimumSupport":"one"}"#] {
            assert_eq!(protocol(body), Err(HandshakeError::NotJson), "{body}");
        }
    }

    #[test]
    fn only_who_asks_for_extensions_gets_them() {
        let about =
            About { key: NodeKey::new([0xbb; 64]), name: "node-1".into(), institution: "bank".into() };
        let ask = |amop: &str| {
            negotiate(format!(r#"{{"maximumSupport":3{amop}}}"#).as_bytes()).expect("a handshake")
        };
        let plain = ask("");
        assert_eq!(
            reply("2.10.0", &plain, &about),
            "{\"nodeVersion\":\"2.10.0\",\"protocol\":3}\n",
            "byte for byte what an official node says"
        );
        assert_eq!(ask(r#","amop":{"version":0}"#).extension, None);
        let asked = ask(r#","amop":{"version":7,"instance":"000000000000000000000000000000ff"}"#);
        assert_eq!(asked.extension, Some(255));
        let reply: Reply = serde_json::from_slice(&reply("2.10.0", &asked, &about)).expect("a reply");
        let granted = reply.amop.expect("granted");
        assert_eq!((granted.version, granted.node, &*granted.name), (1, "bb".repeat(64), "node-1"));
    }
}
