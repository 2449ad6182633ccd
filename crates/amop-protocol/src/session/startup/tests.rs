use std::sync::Arc;

use super::*;
use crate::{
    NodeKey,
    broker::routing::{Node, Routing},
};

fn routing() -> Routing {
    let key = NodeKey::new([0xaa; 64]);
    Routing::new(Node {
        id: key.id(),
        key,
        name: "node-1".into(),
        institution: "bank".into(),
        address: Arc::from("127.0.0.1:30300"),
        epoch: 1,
        next_hop: key.id(),
        hops: 0,
        way: 0,
        seal: None,
    })
}

fn ask(body: &str) -> Value {
    let facts =
        Facts { config: &Config::default(), routing: &routing(), listings: &Fresh, session: SessionId(1) };
    let (head, rest) = answer(body.as_bytes(), facts);
    let answer = [head, rest].concat();
    assert_eq!(answer.last(), Some(&b'\n'));
    serde_json::from_slice(&answer).expect("JSON")
}

#[test]
fn every_call_is_answered_and_its_id_repeated() {
    for (id, echoed) in [("7", json!(7)), (r#""x""#, json!("x")), ("null", json!(null)), ("[1]", json!([1]))]
    {
        assert_eq!(ask(&format!(r#"{{"id":{id},"method":"getBlockNumber","params":[1]}}"#))["id"], echoed);
    }
    assert_eq!(ask(r#"{"method":"getGroupList"}"#)["result"], json!([]));
}

#[test]
fn what_is_no_call_gets_an_error_inside_a_reply() {
    assert_eq!(ask("hello")["error"]["code"], PARSE_ERROR);
    assert_eq!(ask("")["error"]["code"], PARSE_ERROR);
    assert_eq!(ask(r#"["getBlockNumber",7]"#)["error"]["code"], INVALID_REQUEST, "a list is no call");
    assert_eq!(ask(&"[".repeat(10_000))["error"]["code"], PARSE_ERROR, "no depth exhausts the stack");
    assert_eq!(ask("[]")["error"]["code"], INVALID_REQUEST);
    assert_eq!(ask(r#"{"id":4}"#)["error"]["code"], INVALID_REQUEST);
    assert_eq!(ask(r#"{"id":4}"#)["id"], 4);
    assert_eq!(ask(r#"{"method":"sendRawTransaction","id":1}"#)["error"]["code"], METHOD_NOT_FOUND);
    assert_eq!(ask(&" ".repeat(MAX_JSON_BODY + 1))["error"]["code"], INVALID_REQUEST);
}

#[test]
fn a_node_tells_of_itself_and_is_not_its_own_peer() {
    let info = &ask(r#"{"method":"getNodeInfo"}"#)["result"];
    assert_eq!((&info["Agency"], &info["Node"]), (&json!("bank"), &json!("node-1")));
    assert_eq!(info["NodeID"], "aa".repeat(64));
    assert_eq!(ask(r#"{"method":"getPeers","params":[1]}"#)["result"], json!([]));
    assert_eq!(ask(r#"{"method":"getNodeIDList"}"#)["result"], json!(["aa".repeat(64)]));
}
