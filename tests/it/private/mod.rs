//! Private topics: between clients that speak plain 2.x frames, written here byte by byte as the SDKs
//! of FISCO BCOS write them, and with our SDK.

mod attacks;
mod ends;
mod sdk;
mod version2;

use amop_auth::{
    PrivateKey, PublicKey,
    challenge::{Accept, Challenge},
};
use amop_protocol::{
    Seq,
    session::verification::{Inquiry, Verdict},
    wire::channel::{Encoded, Frame, TopicBody, Type},
};
use amop_testkit::wait;
use bytes::Bytes;

use crate::mesh::{Mesh, Plain, message};

const TOPIC: &str = "#!$TopicNeedVerify_prices";
const PUSH: &str = "#!$PushChannel_#!$TopicNeedVerify_prices";

/// A channel for challenges, as subscribers make them.
fn channel(n: u32) -> String {
    format!("#!$VerifyChannel_{TOPIC}_{n:032x}")
}

fn key() -> PrivateKey {
    PrivateKey::generate().expect("randomness")
}

/// A client with these topics at a node of the mesh.
async fn client(mesh: &Mesh, node: usize, topics: &[&str]) -> Plain {
    let node = &mesh.nodes[node];
    Plain::subscriber(node.addresses.channel, &node.institution.client("old"), topics).await
}

async fn publisher(mesh: &Mesh, node: usize) -> Plain {
    client(mesh, node, &[PUSH]).await
}

/// A subscriber that is challenged over the channel of this number.
async fn subscriber(mesh: &Mesh, node: usize, number: u32) -> Plain {
    client(mesh, node, &[TOPIC, &channel(number)]).await
}

/// A frame and what its topic body holds.
fn read(frame: &Frame) -> (String, Bytes) {
    let body = TopicBody::parse(frame.body.clone()).expect("a topic body");
    (body.topic().expect("a topic").to_string(), body.payload)
}

impl Plain {
    /// The next question put to this publisher, acknowledged as the Java SDK does.
    async fn asked(&mut self) -> Inquiry {
        let frame = self.receive().await;
        assert_eq!((frame.kind, frame.result), (Type::VERIFY, 0), "{frame:?}");
        self.send(Encoded::empty(Type::VERIFY, frame.seq, 0)).await;
        Inquiry::decode(&frame.body).expect("a question")
    }

    /// Says what came of a question, and waits until that is in force.
    async fn decide(&mut self, inquiry: &Inquiry, trusted: bool) {
        let Inquiry { question, topic, .. } = inquiry.clone();
        let body = Verdict { question, topic, trusted }.encode();
        let seq = self.seq();
        self.send(Encoded::new(Type::VERIFIED, seq, 0, &body, Bytes::new())).await;
        self.ask(Type::HEARTBEAT, "").await;
    }

    /// Sends a message; its outcome comes with this seq.
    async fn publish(&mut self, kind: Type, topic: &str, payload: &str) -> Seq {
        let seq = self.seq();
        self.send(message(kind, seq, topic, payload.to_owned())).await;
        seq
    }

    /// The result of a send that nobody need answer.
    async fn result_of(&mut self, kind: Type, topic: &str, payload: &str) -> i32 {
        let seq = self.publish(kind, topic, payload).await;
        let frame = self.receive().await;
        assert_eq!((frame.kind, frame.seq), (Type::ANSWER, seq));
        frame.result
    }

    /// Takes the next message and answers it.
    async fn serve(&mut self, answer: &[u8]) -> (String, Bytes) {
        let frame = self.receive().await;
        assert_eq!(frame.kind, Type::UNICAST, "{frame:?}");
        let (topic, payload) = read(&frame);
        self.send(message(Type::ANSWER, frame.seq, &topic, answer.to_owned())).await;
        (topic, payload)
    }

    /// Whether nothing has been sent to this client: what had been would come before the reply.
    async fn is_left_alone(&mut self) -> bool {
        self.ask(Type::HEARTBEAT, "").await.kind == Type::HEARTBEAT
    }
}

/// The whole handshake, with real keys: the publisher is asked, challenges, and decides.
async fn verify(
    publisher: &mut Plain,
    subscriber: &mut Plain,
    key: &PrivateKey,
    trusted: &[PublicKey],
) -> bool {
    let inquiry = publisher.asked().await;
    assert_eq!(inquiry.topic.as_str(), TOPIC);
    let challenge = Challenge::text(u128::from_str_radix(&inquiry.question[..32], 16).expect("hex digits"));
    let seq = publisher.publish(Type::UNICAST, inquiry.channel.as_str(), &challenge).await;
    let pushed = subscriber.receive().await;
    let (topic, random) = read(&pushed);
    assert_eq!(topic, inquiry.channel.as_str());
    let signature = Challenge::parse(&random, Accept::All).expect("a challenge").sign(key);
    subscriber.send(message(Type::ANSWER, pushed.seq, &topic, signature.to_vec())).await;
    let answer = publisher.receive().await;
    assert_eq!((answer.kind, answer.seq, answer.result), (Type::ANSWER, seq, 0));
    let proven =
        Challenge::parse(challenge.as_bytes(), Accept::All).expect("ours").verify(&read(&answer).1, trusted);
    publisher.decide(&inquiry, proven.is_some()).await;
    proven.is_some()
}

/// The publisher's part of the handshake, with a subscriber that answers by itself.
async fn decide_on(publisher: &mut Plain, trusted: &[PublicKey]) -> bool {
    let inquiry = publisher.asked().await;
    let challenge = Challenge::text(7);
    let seq = publisher.publish(Type::UNICAST, inquiry.channel.as_str(), &challenge).await;
    let answer = publisher.receive().await;
    assert_eq!((answer.kind, answer.seq, answer.result), (Type::ANSWER, seq, 0));
    let challenge = Challenge::parse(challenge.as_bytes(), Accept::Strict).expect("ours");
    let proven = challenge.verify(&read(&answer).1, trusted).is_some();
    publisher.decide(&inquiry, proven).await;
    proven
}

/// Signs whatever comes over the verify channel, as SDKs of 2.x do.
async fn sign(subscriber: &mut Plain, key: &PrivateKey) {
    let pushed = subscriber.receive().await;
    let (topic, random) = read(&pushed);
    let signature = match Challenge::parse(&random, Accept::All) {
        Ok(challenge) => challenge.sign(key).to_vec(),
        // This library does not; any 65 bytes look the same.
        Err(_) => vec![7; 65],
    };
    subscriber.send(message(Type::ANSWER, pushed.seq, &topic, signature)).await;
}

/// A request reaches a verified subscriber, and its answer comes back.
async fn exchange(publisher: &mut Plain, subscriber: &mut Plain, text: &str) {
    let seq = publisher.publish(Type::UNICAST, TOPIC, text).await;
    assert_eq!(subscriber.serve(b"seen").await, (TOPIC.to_owned(), Bytes::copy_from_slice(text.as_bytes())));
    let answer = publisher.receive().await;
    assert_eq!((answer.seq, answer.result), (seq, 0));
    assert_eq!(read(&answer), (TOPIC.to_owned(), Bytes::from_static(b"seen")));
}

/// Same node, neighbour, and over a relay.
#[tokio::test]
async fn a_verified_subscriber_receives_wherever_it_is() {
    let mesh = Mesh::line(3).await;
    let mut desk = publisher(&mesh, 0).await;
    for (number, node) in (0..).zip(0..3) {
        let (key, mut till) = (key(), subscriber(&mesh, node, number).await);
        assert!(verify(&mut desk, &mut till, &key, &[key.public()]).await);
        exchange(&mut desk, &mut till, "quote").await;
        let seq = desk.publish(Type::MULTICAST, TOPIC, "to all").await;
        let frame = till.receive().await;
        assert_eq!((frame.kind, read(&frame).1), (Type::MULTICAST, Bytes::from_static(b"to all")));
        let outcome = desk.receive().await;
        assert_eq!((outcome.seq, outcome.result), (seq, 0));
        till.report(&[]).await;
        wait::until("the end of it", async || desk.result_of(Type::UNICAST, TOPIC, "x").await == 100).await;
    }
    assert_eq!(mesh.nodes[0].counted("private_verified").await, 3);
}

#[tokio::test]
async fn whoever_comes_first_the_two_find_each_other() {
    let mesh = Mesh::line(2).await;
    let key = key();
    let mut till = subscriber(&mesh, 1, 1).await;
    wait::until("the first list", async || mesh.nodes[0].counted("control_records_accepted").await > 2).await;
    let mut desk = publisher(&mesh, 0).await;
    assert!(verify(&mut desk, &mut till, &key, &[key.public()]).await);
    exchange(&mut desk, &mut till, "quote").await;
}

/// Each publisher has keys of its own, and one that is wrong takes nothing from another.
#[tokio::test]
async fn publishers_decide_for_themselves() {
    let mesh = Mesh::line(2).await;
    let (right, wrong) = (key(), key());
    let mut strict = publisher(&mesh, 0).await;
    let mut till = subscriber(&mesh, 1, 1).await;
    assert!(!verify(&mut strict, &mut till, &right, &[wrong.public()]).await);
    let mut desk = publisher(&mesh, 0).await;
    assert!(verify(&mut desk, &mut till, &right, &[wrong.public(), right.public()]).await);
    exchange(&mut desk, &mut till, "quote").await;
    assert_eq!(strict.result_of(Type::UNICAST, TOPIC, "x").await, 100);
    assert_eq!(strict.result_of(Type::MULTICAST, TOPIC, "x").await, 100);
    assert!(till.is_left_alone().await);
    assert_eq!(mesh.nodes[0].counted("private_failed").await, 1);
}

/// What the official demo programs poll for shows up for the publisher that verified, and nothing
/// else of the handshake for anybody.
#[tokio::test]
async fn names_of_the_handshake_stay_secret() {
    let mesh = Mesh::line(2).await;
    let key = key();
    let mut desk = publisher(&mesh, 0).await;
    let mut till = subscriber(&mesh, 1, 1).await;
    assert_eq!(desk.rpc("getPeers", "[1]").await[0]["Topic"], serde_json::json!([]));
    assert!(verify(&mut desk, &mut till, &key, &[key.public()]).await);
    assert_eq!(desk.rpc("getPeers", "[1]").await[0]["Topic"], serde_json::json!([TOPIC]));
    let mut other = client(&mesh, 0, &[TOPIC]).await;
    assert_eq!(other.rpc("getPeers", "[1]").await[0]["Topic"], serde_json::json!([]));
    assert_eq!(till.rpc("getNodeInfo", "[]").await["Topic"], serde_json::json!([TOPIC]));
    for node in &mesh.nodes {
        let topics = amop::telemetry::client::topics(node.admin()).await.expect("topics");
        assert!(topics.iter().all(|topic| topic.topic == TOPIC), "{topics:?}");
    }
}
