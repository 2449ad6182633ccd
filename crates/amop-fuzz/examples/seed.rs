//! Writes the seeds that are known beforehand into `fuzz/corpus`: the vectors of the channel
//! protocol, certificates, and one message of each kind. Fuzzing found the rest.
//!
//! `cargo run -p amop-fuzz --example seed`

use std::{fs, path::Path};

use amop_protocol::{
    Cause, Fingerprint, NodeId, Seq, Topic,
    broker::lists::ListHash,
    wire::{
        files::{Frame, Id, Offer, Range, Reason, State, Step},
        generated::{self as pb, control::Message},
        link::LinkFrame,
        peer::{self, Body, DataMessage, Envelope, Route, SendRef},
    },
};
use bytes::{Bytes, BytesMut};
use prost::Message as _;
use serde_json::Value;

fn main() {
    vectors();
    certificates();
    private_topics();
    files();
    control_messages();
    data_messages();
}

fn write(target: &str, name: &str, bytes: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join(name), bytes).expect("a file");
}

/// With its length before it, as `Script::bytes` reads it.
fn with_length(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

fn vectors() {
    let file = include_str!("../../amop-protocol/tests/data/channel-v2.json");
    let file: Value = serde_json::from_str(file).expect("JSON");
    for vector in file["vectors"].as_array().expect("a list") {
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let (name, bytes) = (text(&vector["name"]), text(&vector["bytes_hex"]));
        let bytes = hex::decode(bytes).expect("hex");
        if name.starts_with("p2p_") || bytes.len() < 42 || bytes[..4] != (bytes.len() as u32).to_be_bytes() {
            continue;
        }
        write("channel_frame", &name, &bytes);
        let (kind, body) = (&bytes[4..6], &bytes[42..]);
        if body.starts_with(b"{") || body.starts_with(b"[") {
            write("json", &name, body);
        }
        // Operation 0: a frame of this type.
        let operation = [&[0], kind, &[1, 0], &with_length(body)[..]].concat();
        write("session_server", &name, &operation);
        write("session_client", &name, &[&[1, 1][..], &operation].concat());
    }
}

fn certificates() {
    let der = include_bytes!("../../amop-protocol/tests/data/node.der");
    write("certificate", "node", &with_length(der));
    let roles = include_bytes!("../../amop-protocol/tests/data/two-roles.der");
    write("certificate", "two-roles", &with_length(roles));
}

fn private_topics() {
    let hex = b"0123456789abcdef0123456789abcdef";
    write("private_topic", "challenge", &[&[1], &hex[..]].concat());
    write("private_topic", "number", &[1, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3]);
    write("private_topic", "key", &[&[0], &hex[..], hex].concat());
    write("private_topic", "changed", &[&[5, 40, 1], &hex[..]].concat());
    let nonce = Bytes::from_static(&[7; 32]);
    let offer = pb::private_step::Step::Offer(pb::PrivateOffer { nonce: nonce.clone(), expires_ms: 9 });
    let party = || {
        let (node, client) = (Bytes::from_static(&[1; 32]), Bytes::from_static(&[1; 32]));
        Some(pb::PrivateParty { institution: "bank".into(), node, client })
    };
    let proof = pb::private_step::Step::Proof(pb::PrivateProof {
        publisher: party(),
        subscriber: party(),
        sealing_key: nonce.clone(),
        signature: Bytes::from_static(&[7; 65]),
    });
    let sealed = Bytes::from_static(&[7; 96]);
    let grant = pb::private_step::Step::Grant(pb::PrivateGrant { nonce, sealed });
    for (name, operation, step) in [("offer", 3, offer), ("proof", 2, proof), ("grant", 3, grant)] {
        let step = pb::PrivateStep { step: Some(step) }.encode_to_vec();
        write("private_topic", name, &[&[operation], &b"amop/private/2\n"[..], &step].concat());
    }
    let message = [&[4, 2][..], &[7; 16], &1_u64.to_be_bytes(), &[7; 20]].concat();
    write("private_topic", "message", &message);
}

fn files() {
    let receiver = Id([9; 16]);
    let missing = || vec![Range { first: 0, count: 3 }, Range { first: 7, count: 1 }];
    let offer = Offer {
        name: "../对账单.pdf".into(),
        size: 1_000_000,
        media_type: "application/pdf".into(),
        root: [1; 32],
        key: Some([2; 32]),
    };
    let why = || "no".to_owned();
    let (proof, data) = (Bytes::from_static(&[3; 64]), Bytes::from_static(b"content"));
    for (name, step) in [
        ("offer", Step::Offer(offer)),
        ("seen", Step::Seen { receiver }),
        ("accept", Step::Accept { receiver, missing: missing() }),
        ("decline", Step::Decline { receiver, why: why() }),
        ("noted", Step::Noted),
        ("chunk", Step::Chunk { index: 3, proof, data: data.clone() }),
        ("stored", Step::Stored { index: 3 }),
        ("ask", Step::Ask),
        ("missing", Step::State(State::Missing(missing()))),
        ("working", Step::State(State::Working)),
        ("done", Step::State(State::Done { receiver })),
        ("stop", Step::Stop { reason: Reason::DiskFull, why: why(), receiver: Some(receiver) }),
        ("sealed", Step::Sealed { nonce: [4; 12], sealed: data }),
    ] {
        let frame = Frame { transfer: Id([7; 16]), step };
        write("file_frame", name, &[&[1], &frame.encode()[..]].concat());
        let mut inner = BytesMut::new();
        frame.encode_inner(&mut inner);
        write("file_frame", &format!("{name}-inside"), &[&[2, 20, 1], &inner[..]].concat());
    }
    let (size, index) = (1_000_000_u64.to_be_bytes(), 3_u64.to_be_bytes());
    write("file_frame", "extent", &[&[3][..], &size, &index].concat());
}

fn control_messages() {
    let node = || Bytes::copy_from_slice(&[2; 32]);
    let versions = pb::Versions { node: node(), epoch: 1, links: 1, topics: 1 };
    let heartbeat = pb::Heartbeat { own: Some(versions.clone()), digest: 1 };
    let settled = pb::Settled { node: node(), epoch: 1, sequence: 1 };
    let entry = |subscribers| vec![pb::TopicCount { holder: None, topic: "a".into(), subscribers }];
    let hash = || Bytes::copy_from_slice(&ListHash::of([("a", 2)]).to_bytes());
    let piece = pb::TopicsContent { topics: entry(2), piece: 0, pieces: 1, hash: hash() };
    let delta = pb::TopicsDelta { from: 2, changes: entry(2), hash: hash() };
    let record = |sequence, content| {
        let record = pb::Record { node: node(), epoch: 1, sequence, content: Some(content) };
        Message::Record(pb::SignedRecord { body: record.encode_to_vec().into(), signature: Bytes::new() })
    };
    for (name, message) in [
        (
            "hello",
            Message::Hello(pb::Hello {
                min_version: 1,
                max_version: 1,
                node: node(),
                epoch: 1,
                ..Default::default()
            }),
        ),
        ("heartbeat", Message::Heartbeat(heartbeat)),
        ("vector", Message::Vector(pb::Vector { entries: vec![versions], partial: false })),
        ("pull", Message::Pull(pb::Pull { node: node(), kinds: vec![1, 2, 3], epoch: 1, topics: 1 })),
        ("settled", Message::Settled(settled)),
        ("piece", record(2, pb::record::Content::Topics(piece))),
        ("delta", record(3, pb::record::Content::TopicsDelta(delta))),
    ] {
        let frame = LinkFrame::control(message);
        write("control_message", name, &frame.payload);
        let mut bytes = BytesMut::new();
        frame.encode(&mut bytes).expect("a small frame");
        write("link_frame", name, &bytes);
    }
}

fn data_messages() {
    let id = |n| NodeId::new([n; 32]);
    let publisher =
        amop_protocol::ClientIdentity { fingerprint: Fingerprint::new([7; 32]), name: "c".into() };
    let envelope = Envelope {
        publisher: publisher.into(),
        seq: Seq::from_u128(5),
        topic: Topic::parse("a").expect("a topic"),
        client: None,
        audience: Vec::new(),
        context: None,
        instance: None,
    };
    let send = SendRef { epoch: 1, id: 256 };
    let outcome = Body::Outcome {
        send,
        number: 1,
        cause: Cause::Delivered,
        is_final: true,
        exhausted: false,
        answer_prefix: Bytes::from_static(b"\x02a"),
    };
    let attempt = Body::Attempt { send: 256, number: 1, envelope: envelope.clone(), push_timeout_ms: 5_000 };
    let report = Body::FanOutReport { send, handed: 1, failed: 0, cause: Cause::Delivered, complete: true };
    for (name, body) in [
        ("attempt", attempt),
        ("handed", Body::Handed { send, number: 1 }),
        ("outcome", outcome),
        ("fan-out", Body::FanOut { send: 256, envelope, recipients: true }),
        ("fan-out-report", report),
    ] {
        let message = DataMessage { origin: id(5), origin_epoch: 1, body };
        let route = Route { destinations: vec![id(1), id(4)], path: Vec::new() };
        let header = peer::encode(&message, &route, 0, Bytes::new()).header;
        write("peer_data", name, &[&[2, 9], &header[..]].concat());
        let route = Route { destinations: vec![id(4)], path: vec![id(2), id(3)] };
        let frame = peer::encode(&message, &route, 0, Bytes::from_static(b"payload"));
        write("peer_data", &format!("{name}-by-path"), &[&[6, 3], &frame.header[..]].concat());
    }
}
