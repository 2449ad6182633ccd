//! Hostile relays: members of the consortium with genuine certificates that alter, forge, repeat,
//! drop, delay and refuse what they are to pass on, and lie in gossip. What they can do is lose
//! messages; what has another way takes it.

mod gossip;
mod line;
mod node;
mod private;
mod ring;

use std::time::Duration;

use amop::config::Config;
use amop_protocol::{
    Cause, NodeId,
    wire::{
        generated::{self as pb, data::Body},
        link::LinkFrame,
        peer,
    },
};
use amop_testkit::wait;
use bytes::Bytes;
use prost::Message;

use self::node::{Passing, Relay, honest};
use crate::mesh::{Mesh, Served, Topology};

/// How long a node waits for a sign of a message's arrival before it sends it again.
const PATH_TIMEOUT: Duration = Duration::from_millis(50);

/// How long a send may last that is to be lost: far longer than what comes before its end takes.
const LOST: Duration = Duration::from_secs(1);

/// Two nodes and, as the only way between them, the relay. What `deadline` says goes for all sends.
async fn line(deadline: Duration) -> (Mesh, Relay) {
    let change = |_, config: &mut Config| {
        hasty(config);
        config.delivery.default_deadline = deadline;
    };
    let mesh = Mesh::new(2, Topology::Apart, change).await;
    let relay = between(&mesh, [0, 1]).await;
    (mesh, relay)
}

/// Four nodes in a line, and the relay as a short cut between its ends: the way that is taken first.
async fn ring() -> (Mesh, Relay) {
    let mesh = Mesh::new(4, Topology::Line, |_, config| hasty(config)).await;
    let relay = between(&mesh, [0, 3]).await;
    (mesh, relay)
}

/// Links the relay to these nodes of the mesh, and waits until each reaches all others.
async fn between(mesh: &Mesh, nodes: [usize; 2]) -> Relay {
    let leaf = mesh.consortium.institution("mallory").node("relay");
    let peers = nodes.map(|index| mesh.nodes[index].addresses.overlay);
    let relay = Relay::start(&leaf, &peers).await;
    for (index, node) in mesh.nodes.iter().enumerate() {
        wait::until("the relay to be known", async || {
            let others = mesh.nodes.len();
            let linked = relay.links().len() == peers.len();
            linked && node.status().await.nodes == others && relay.known().contains(&mesh.id(index))
        })
        .await;
    }
    relay
}

fn hasty(config: &mut Config) {
    config.delivery.path_timeout = PATH_TIMEOUT;
    config.delivery.max_push_timeout = config.delivery.min_push_timeout;
}

/// The frame with another header.
fn altered(frame: &LinkFrame, alter: impl FnOnce(&mut pb::Data)) -> LinkFrame {
    let mut data = pb::Data::decode(frame.header.clone()).expect("a data frame");
    alter(&mut data);
    LinkFrame { header: data.encode_to_vec().into(), ..frame.clone() }
}

/// The frame with another payload.
fn with_payload(frame: &LinkFrame, payload: impl Into<Bytes>) -> LinkFrame {
    LinkFrame { payload: payload.into(), ..frame.clone() }
}

fn is_message(frame: &LinkFrame) -> bool {
    peer::carries_message(&frame.header)
}

fn body(frame: &LinkFrame) -> Body {
    pb::Data::decode(frame.header.clone()).ok().and_then(|data| data.body).expect("a body")
}

/// A frame back to where this one came from, made up by somebody who knows all that is in it.
fn reply(to: &Passing, origin: NodeId, body: Body, payload: &'static str) -> (NodeId, LinkFrame) {
    let data = pb::Data {
        origin: Bytes::copy_from_slice(origin.as_bytes()),
        origin_epoch: 1,
        destinations: vec![Bytes::copy_from_slice(to.from.as_bytes())],
        body: Some(body),
        ..pb::Data::default()
    };
    let header = data.encode_to_vec().into();
    (to.from, LinkFrame { header, payload: payload.into(), ..to.frame.clone() })
}

/// The epoch, the number of the send, and the attempt that a message belongs to.
fn send_of(frame: &LinkFrame) -> (u64, u64, u32) {
    let data = pb::Data::decode(frame.header.clone()).expect("a data frame");
    match data.body {
        Some(Body::Attempt(attempt)) => (data.origin_epoch, attempt.send_id, attempt.number),
        Some(Body::FanOut(fan_out)) => (data.origin_epoch, fan_out.send_id, 0),
        other => panic!("{other:?} is no message"),
    }
}

/// That the message came to a subscriber which answered it.
fn success(frame: &LinkFrame) -> Body {
    let (send_epoch, send_id, number) = send_of(frame);
    let cause = Cause::Delivered.into();
    match number {
        0 => Body::FanOutReport(pb::FanOutReport {
            send_id,
            send_epoch,
            handed: 1,
            cause,
            complete: true,
            ..pb::FanOutReport::default()
        }),
        _ => Body::Outcome(pb::Outcome {
            send_id,
            send_epoch,
            number,
            cause,
            r#final: true,
            ..pb::Outcome::default()
        }),
    }
}

/// That a limit of the relay does not let the message pass to `to`.
fn refusal(frame: &LinkFrame, to: NodeId, cause: Cause) -> Body {
    let (send_epoch, send_id, number) = send_of(frame);
    let destinations = vec![Bytes::copy_from_slice(to.as_bytes())];
    let cause = cause.into();
    Body::Refused(pb::Refused { send_id, send_epoch, number, destinations, cause, retry_after_ms: 250 })
}

fn handed(frame: &LinkFrame) -> Body {
    let (send_epoch, send_id, number) = send_of(frame);
    Body::Handed(pb::Handed { send_id, number, send_epoch })
}
