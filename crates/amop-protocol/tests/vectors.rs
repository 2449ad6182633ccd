//! Every vector of the channel protocol: bytes that SDKs and official nodes exchange.

use std::time::Duration;

use amop_protocol::{
    NodeKey, Seq, Time, Topic,
    broker::{
        event::{Answer, AnswerBody, Mode},
        private::topic_of_channel,
        routing::{Node, Routing},
    },
    session::{
        handshake::{self, About, Protocol, Reply},
        heartbeat,
        server::{Config, Event, Ignored, Published, Server},
        startup::{self, Facts},
        verification::{Inquiry, Verdict},
    },
    wire::channel::{Decoder, Encoded, Frame, FrameError, TopicBody, TopicBodyError, Type},
};
use bytes::{Bytes, BytesMut};
use secp256k1::{
    Message, SecretKey,
    ecdsa::{RecoverableSignature, Signature},
};
use serde_json::Value;
use sha3::{Digest, Keccak256};
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo};

/// Vectors that are no channel frames of this protocol as it stands, each with the reason.
const LEFT_OUT: &[(&str, &str)] = &[
    ("p2p_topic_seq", "the original's node-to-node port"),
    ("p2p_request_topics", "the original's node-to-node port"),
    ("p2p_send_topics", "the original's node-to-node port"),
    ("p2p_send_topics_none", "the original's node-to-node port"),
    ("p2p_amop_unicast", "the original's node-to-node port"),
    ("p2p_amop_unicast_response", "the original's node-to-node port"),
    ("p2p_amop_unicast_response_104", "the original's node-to-node port"),
    ("p2p_amop_multicast", "the original's node-to-node port"),
    ("p2p_amop_compressed", "the original's node-to-node port"),
    ("bad_p2p_length", "the original's node-to-node port"),
    ("amop_error_104_remote_sessions_failed", "code 104 does not exist here"),
];

/// Vectors that are no frames at all; each has a test of its own below.
const NOT_FRAMES: &[&str] =
    &["node_id_from_certificate", "sig_go_challenge", "sig_java_challenge", "key_files"];

struct Vector {
    name: String,
    bytes: Vec<u8>,
    decoded: Value,
}

fn vectors() -> Vec<Vector> {
    let file: Value = serde_json::from_str(include_str!("data/channel-v2.json")).expect("JSON");
    let vectors = file["vectors"].as_array().expect("a list").iter();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    vectors
        .map(|vector| Vector {
            name: text(&vector["name"]),
            bytes: hex::decode(text(&vector["bytes_hex"])).expect("hex"),
            decoded: vector["decoded"].clone(),
        })
        .collect()
}

fn vector(name: &str) -> Vector {
    vectors().into_iter().find(|vector| vector.name == name).unwrap_or_else(|| panic!("no vector {name}"))
}

fn read(bytes: &[u8]) -> Result<Option<Frame>, FrameError> {
    Decoder::default().decode(&mut BytesMut::from(bytes))
}

fn frame(name: &str) -> Frame {
    read(&vector(name).bytes).expect("a frame").expect("a whole frame")
}

fn config() -> Config {
    Config {
        startup: startup::Config::default(),
        about: About { key: NodeKey::new([0xaa; 64]), name: "node0".into(), institution: "agency".into() },
        max_topics: 10,
        max_in_flight: 10,
        idle: Duration::from_secs(60),
    }
}

fn handle(name: &str) -> Event {
    Server::new(Time::ZERO).handle_frame(frame(name), &config()).expect("the session stays")
}

fn written(frame: &Encoded) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.put(&mut bytes);
    bytes
}

#[test]
fn every_vector_is_checked_or_left_out_by_name() {
    let names: Vec<_> = vectors().into_iter().map(|vector| vector.name).collect();
    assert_eq!(names.len(), 70);
    for (name, reason) in LEFT_OUT {
        assert!(names.iter().any(|n| n == name), "{name} ({reason}) is not there");
    }
    let mut checked = 0;
    for Vector { name, bytes, decoded } in vectors() {
        let left_out = LEFT_OUT.iter().any(|(n, _)| *n == name);
        if left_out || NOT_FRAMES.contains(&&*name) || name.starts_with("bad_") {
            continue;
        }
        check_frame(&name, &bytes, &decoded);
        checked += 1;
    }
    let refused = names.iter().filter(|name| name.starts_with("bad_") && *name != "bad_p2p_length").count();
    assert_eq!(checked + refused + LEFT_OUT.len() + NOT_FRAMES.len(), names.len());
}

fn check_frame(name: &str, bytes: &[u8], decoded: &Value) {
    for len in 0..bytes.len() {
        assert_eq!(read(&bytes[..len]), Ok(None), "{name} cut to {len}");
    }
    let frame = read(bytes).expect("a frame").expect("a whole frame");
    assert_eq!(decoded["length"], bytes.len(), "{name}");
    let kind = decoded["type"].as_str().and_then(|t| u16::from_str_radix(t.strip_prefix("0x")?, 16).ok());
    assert_eq!(Some(frame.kind), kind.map(Type), "{name}");
    assert_eq!(decoded["seq"], std::str::from_utf8(&frame.seq.0).expect("ASCII"), "{name}");
    assert_eq!(decoded["result"], frame.result, "{name}");
    assert_eq!(decoded["body_hex"], hex::encode(&frame.body), "{name}");
    if let Some(topic) = decoded.get("topic") {
        let body = TopicBody::parse(frame.body.clone()).expect("a topic body");
        assert_eq!(*topic, std::str::from_utf8(body.topic_bytes()).expect("UTF-8"), "{name}");
        assert_eq!(decoded["payload_hex"], hex::encode(&body.payload), "{name}");
        assert_eq!(decoded["topic_length_byte"], body.prefix()[0], "{name}");
        let again = Encoded::new(frame.kind, frame.seq, frame.result, body.prefix(), body.payload.clone());
        assert_eq!(written(&again), bytes, "{name}");
        if let Ok(topic) = body.topic() {
            let again = Encoded::with_topic(frame.kind, frame.seq, frame.result, &topic, body.payload);
            assert_eq!(written(&again), bytes, "{name}");
        }
    }
    assert_eq!(written(&frame.into()), bytes, "{name}");
}

#[test]
fn subscribers_of_private_topics_are_verified_as_recorded() {
    for name in ["verify_0x37_push", "verify_0x37_push_official_seq"] {
        let body = frame(name).body;
        let inquiry = Inquiry::decode(&body).expect(name);
        assert_eq!(inquiry.question, "bb".repeat(64));
        assert_eq!(topic_of_channel(&inquiry.channel), Some(inquiry.topic.clone()));
        assert_eq!(inquiry.encode(), body);
    }
    for (name, trusted) in [("verify_status_ok", true), ("verify_status_failed", false)] {
        let body = frame(name).body;
        let verdict = Verdict::decode(&body).expect(name);
        assert_eq!((&*verdict.question, verdict.trusted), (&*"bb".repeat(64), trusted));
        assert_eq!(verdict.encode(), body);
    }
}

#[test]
fn what_is_bad_is_refused() {
    let refused = |name: &str| read(&vector(name).bytes).expect_err(name);
    assert_eq!(refused("bad_length_below_header"), FrameError::TooShort(41));
    assert_eq!(refused("bad_length_zero"), FrameError::TooShort(0));
    let (len, max) = (104_857_601, 104_857_600);
    assert_eq!(refused("bad_length_over_limit"), FrameError::TooLong { len, max });

    let body = |name: &str| TopicBody::parse(frame(name).body).expect_err(name);
    assert_eq!(body("bad_topic_len_zero"), TopicBodyError::Zero);
    assert_eq!(body("bad_topic_len_overrun"), TopicBodyError::Overrun { topic: 31, body: 4 });
    assert_eq!(body("bad_amop_empty_body"), TopicBodyError::Empty);
    for name in ["bad_topic_len_zero", "bad_topic_len_overrun", "bad_amop_empty_body", "amop_empty_topic"] {
        let Event::Refused(answer, _) = handle(name) else { panic!("{name} is not refused") };
        assert_eq!(answer, Encoded::empty(Type::ANSWER, frame(name).seq, 100), "{name}");
    }
    assert_eq!(handle("bad_subscribe_not_json"), Event::Ignored(Ignored::Malformed));
}

#[test]
fn heartbeats_are_answered_as_recorded() {
    let body = |name: &str| frame(name).body;
    let reply = |protocol, name| heartbeat::reply(protocol, &body(name)).map(Bytes::from_static);
    assert_eq!(reply(Protocol::V1, "heartbeat_v1_request"), Some(body("heartbeat_v1_response")));
    assert_eq!(reply(Protocol::V3, "heartbeat_v3_request_java"), Some(body("heartbeat_v3_response")));
    assert_eq!(reply(Protocol::V1, "heartbeat_empty_go_python"), None);
    assert_eq!(reply(Protocol::V2, "heartbeat_empty_go_python"), Some(body("heartbeat_v3_response")));
}

#[test]
fn handshakes_are_answered_as_recorded() {
    for name in ["handshake_request_java", "handshake_request_go"] {
        let agreed = handshake::negotiate(&frame(name).body).expect("agreed");
        assert_eq!((agreed.protocol, agreed.extension), (Protocol::V3, None));
        let reply = handshake::reply("2.10.0", &agreed, &config().about);
        assert_eq!(reply, frame("handshake_response_v3").body);
    }
    let reply: Reply = serde_json::from_slice(&frame("handshake_response_v3").body).expect("a reply");
    assert_eq!((&*reply.node_version, reply.protocol, reply.amop), ("2.10.0", 3, None));
    let Event::Reply(reply) = handle("handshake_request_java") else { panic!("no reply") };
    assert_eq!(written(&reply), vector("handshake_response_v3").bytes);
}

fn answer(name: &str, groups: &[u32]) -> Bytes {
    let Event::Call { body, .. } = handle(name) else { panic!("{name} is not a call") };
    answer_to(&body, groups)
}

fn answer_to(body: &[u8], groups: &[u32]) -> Bytes {
    let key = NodeKey::new([0xaa; 64]);
    let me = Node {
        id: key.id(),
        key,
        name: "node0".into(),
        institution: "agency".into(),
        address: "127.0.0.1:30300".into(),
        epoch: 1,
        next_hop: key.id(),
        hops: 0,
        way: 0,
        seal: None,
    };
    let config = startup::Config { groups: groups.to_vec(), ..startup::Config::default() };
    let facts = Facts {
        config: &config,
        routing: &Routing::new(me),
        listings: &startup::Fresh,
        session: amop_protocol::SessionId(1),
    };
    let (head, rest) = startup::answer(body, facts);
    [head, rest].concat().into()
}

#[test]
fn calls_are_answered_as_recorded() {
    let recorded = |name: &str| frame(name).body;
    let groups = "rpc_getGroupList_request_java";
    assert_eq!(answer(groups, &[]), recorded("rpc_getGroupList_response_empty"));
    assert_eq!(answer(groups, &[1]), recorded("rpc_getGroupList_response_one"));
    assert_eq!(answer("rpc_getBlockNumber_request_python", &[]), recorded("rpc_getBlockNumber_response"));
    assert_eq!(answer_to(br#"{"id":9,"method":"nonsense"}"#, &[]), recorded("rpc_error_response"));

    let json = |body: &Bytes| serde_json::from_slice::<Value>(body).expect("JSON");
    let names = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    let version = json(&recorded("rpc_getClientVersion_response"));
    for name in ["rpc_getClientVersion_request_java", "rpc_getClientVersion_request_go"] {
        let ours = json(&answer(name, &[]));
        assert_eq!(names(&ours["result"]), names(&version["result"]), "the same members");
        for member in ["Chain Id", "FISCO-BCOS Version", "Supported Version"] {
            assert_eq!(ours["result"][member], version["result"][member]);
        }
    }
    let peers = json(&recorded("rpc_getPeers_response"));
    let own = json(&answer_to(br#"{"method":"getNodeInfo"}"#, &[]));
    assert_eq!(names(&own["result"]), names(&peers["result"][0]));
}

#[test]
fn topic_reports_are_read_as_recorded() {
    for Vector { name, decoded, .. } in
        vectors().iter().filter(|vector| vector.name.starts_with("subscribe_"))
    {
        let Event::Report(report) = handle(name) else { panic!("{name} is not a report") };
        let mut expected: Vec<_> = decoded["topics"].as_array().map_or_else(
            || {
                serde_json::from_str::<Vec<String>>(decoded["body_text"].as_str().expect("text"))
                    .expect("JSON")
            },
            |topics| topics.iter().map(|topic| topic.as_str().expect("text").to_owned()).collect(),
        );
        expected.sort();
        let topics: Vec<_> = report.topics.iter().map(ToString::to_string).collect();
        assert_eq!((topics, report.refused), (expected, 0), "{name}");
    }
}

#[test]
fn messages_are_understood() {
    let publish = |mode, topic: &str, payload: &'static [u8], seq| {
        let (topic, payload) = (Topic::parse(topic).expect("a topic"), Bytes::from_static(payload));
        Event::Publish(Published { seq, mode, topic, payload, deadline: None, wishes: None })
    };
    let seq = Seq(*b"11223344556677889900aabbccdd000e");
    assert_eq!(handle("amop_unicast_request"), publish(Mode::Unicast, "hello", b"hi there", seq));
    let seq = Seq(*b"11223344556677889900aabbccdd000f");
    assert_eq!(handle("amop_multicast_request"), publish(Mode::Multicast, "hello", b"to all", seq));
    for name in ["amop_topic_254", "amop_binary_payload", "amop_utf8_topic", "amop_file_payload_java_demo"] {
        assert!(matches!(handle(name), Event::Publish(_)), "{name}");
    }
    // The seq is one of this node's only if it begins with zeros.
    assert_eq!(handle("amop_unicast_response"), Event::Ignored(Ignored::UnknownAnswer));
    let mut ours = frame("amop_unicast_response");
    ours.seq = Seq::from_u128(0xe);
    let Ok(Event::Answer(push, Answer { result: 0, body }, _)) =
        Server::new(Time::ZERO).handle_frame(ours, &config())
    else {
        panic!("not an answer");
    };
    let expected =
        AnswerBody { prefix: Bytes::from_static(b"\x06hello"), payload: Bytes::from_static(b"ok") };
    assert_eq!((push.0, body), (0xe, expected));
}

#[test]
fn event_filters_are_refused_as_recorded() {
    let Event::Reply(reply) = handle("event_register_request") else { panic!("no reply") };
    assert_eq!(written(&reply), vector("event_register_response_group_not_exist").bytes);
}

#[test]
fn a_node_id_is_read_from_its_certificate() {
    let vector = vector("node_id_from_certificate");
    let pem = vector.decoded["certificate_pem"].as_str().expect("PEM");
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).expect("PEM");
    let certificate = pem.parse_x509().expect("a certificate");
    let point = &certificate.public_key().subject_public_key.data;
    let key = NodeKey::new(point[1..].try_into().expect("64 bytes"));
    assert_eq!((&key.as_bytes()[..], point[0]), (&vector.bytes[..], 4));
    assert_eq!(vector.decoded["node_id"], key.to_string());
}

#[test]
fn proofs_of_private_topics_are_signed_as_recorded() {
    for name in ["sig_go_challenge", "sig_java_challenge"] {
        let Vector { bytes, decoded, .. } = vector(name);
        let field = |name: &str| hex::decode(decoded[name].as_str().expect("hex")).expect("hex");
        let key = SecretKey::from_secret_bytes(field("private_key_hex").try_into().expect("32 bytes"))
            .expect("a key");
        assert_eq!(key.public_key().serialize_uncompressed()[..], field("public_key_uncompressed_hex"));
        assert_eq!(field("public_key_uncompressed_hex")[1..], field("public_key_java_hex"));

        let digest = Keccak256::digest(field("challenge_hex"));
        assert_eq!(digest[..], field("keccak256_hex"), "{name}");
        let message = Message::from_digest(digest.into());
        let (recovery, signature) =
            RecoverableSignature::sign_ecdsa_recoverable(message, &key).serialize_compact();
        let mut written = signature.to_vec();
        written.push(recovery.to_u8());
        assert_eq!(written, bytes, "{name}");
        assert_eq!(written, [field("r"), field("s"), vec![decoded["v"].as_u64().expect("v") as u8]].concat());

        let mut signature = Signature::from_compact(&bytes[..64]).expect("a signature");
        signature.verify(message, &key.public_key()).expect("genuine");
        let low = signature;
        signature.normalize_s();
        assert_eq!(signature, low, "{name} has a low s");
    }
}

#[test]
fn key_files_hold_the_key_that_signs() {
    let Vector { bytes, decoded, .. } = vector("key_files");
    let of = vector("sig_go_challenge").decoded;
    let field = |name: &str| hex::decode(of[name].as_str().expect("hex")).expect("hex");
    let pem = |name: &str| {
        let text = decoded[name].as_str().expect("PEM");
        x509_parser::pem::parse_x509_pem(text.as_bytes()).expect("PEM").1
    };

    let public = pem("public_pem");
    assert_eq!((&*public.label, &public.contents), ("PUBLIC KEY", &bytes));
    let (rest, key) = SubjectPublicKeyInfo::from_der(&bytes).expect("a public key");
    assert!(rest.is_empty());
    let curve = key.algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok()).expect("a curve");
    assert_eq!(curve.to_id_string(), decoded["curve_oid"].as_str().expect("an object identifier"));
    assert_eq!(key.subject_public_key.data[..], field("public_key_uncompressed_hex"));

    let private = pem("private_pkcs8_pem");
    assert_eq!(private.label, "PRIVATE KEY");
    // RFC 5208 around RFC 5915: version, id-ecPublicKey on secp256k1, and the scalar alone.
    let head = hex::decode("303e020100301006072a8648ce3d020106052b8104000a042730250201010420").expect("hex");
    assert_eq!(private.contents, [head, field("private_key_hex")].concat());
}
