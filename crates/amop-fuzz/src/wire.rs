//! Decoders of frames: what is read is what was written, however it comes in.

use amop_protocol::{
    NodeId, Seq,
    broker::{
        deliver::route_frame,
        event::{Mode, Sender},
    },
    limits::MAX_HOPS,
    wire::{
        channel::{Decoder, Encoded, Frame, FrameError, TopicBody, Type, topic_prefix},
        extension::{FromClient, FromNode},
        generated as pb,
        link::{self, FrameFault, Kind, LinkFrame},
        peer::{self, Route},
    },
};
use bytes::{Bytes, BytesMut};
use prost::Message;

use crate::{script::Script, world};

/// Frames above this are refused, so that the bound is met.
const MAX_FRAME: usize = 2048;

/// Channel frames and topic bodies, as a client's bytes come in.
pub fn channel_frame(data: &[u8]) {
    let step = 1 + data.len() % 61;
    let (frames, error) = channel_frames(data, data.len().max(1));
    assert_eq!((&frames, &error), (&channel_frames(data, step).0, &channel_frames(data, step).1));
    let mut written = Vec::new();
    for frame in &frames {
        let before = written.len();
        Encoded::from(frame.clone()).put(&mut written);
        topic_body(frame, &written[before..]);
    }
    assert!(data.starts_with(&written), "a frame is written as it was read");
}

fn channel_frames(data: &[u8], step: usize) -> (Vec<Frame>, Option<FrameError>) {
    let decoder = Decoder::new(MAX_FRAME);
    let (mut buffer, mut frames) = (BytesMut::new(), Vec::new());
    for piece in data.chunks(step) {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
        let missing = decoder.missing(&buffer).expect("the length was accepted");
        assert_eq!(missing > 0, buffer.len() >= 4, "a frame that was not cut off lacks something");
    }
    (frames, None)
}

fn topic_body(frame: &Frame, written: &[u8]) {
    let Ok(body) = TopicBody::parse(frame.body.clone()) else { return };
    assert_eq!(frame.body, [&body.prefix()[..], &body.payload[..]].concat());
    let Ok(topic) = body.topic() else { return };
    assert_eq!(topic_prefix(&topic), body.prefix());
    let again = Encoded::with_topic(frame.kind, frame.seq, frame.result, &topic, body.payload);
    let mut bytes = Vec::new();
    again.put(&mut bytes);
    assert_eq!((bytes.len(), &bytes[..]), (again.wire_len(), written));
}

/// Link frames, as a neighbour's bytes come in, and the control messages in them.
pub fn link_frame(data: &[u8]) {
    let step = 1 + data.len() % 61;
    let (frames, error) = link_frames(data, data.len().max(1));
    assert_eq!((&frames, &error), (&link_frames(data, step).0, &link_frames(data, step).1));
    let mut written = BytesMut::new();
    for frame in frames {
        frame.encode(&mut written).expect("what was read can be written");
        if let Ok(Some(message)) = frame.into_control() {
            let again = LinkFrame::control(message.clone()).into_control();
            assert_eq!(again, Ok(Some(message)));
        }
    }
    assert!(data.starts_with(&written), "a frame is written as it was read");
}

fn link_frames(data: &[u8], step: usize) -> (Vec<LinkFrame>, Option<FrameFault>) {
    let (mut buffer, mut frames) = (BytesMut::new(), Vec::new());
    for piece in data.chunks(step) {
        buffer.extend_from_slice(piece);
        loop {
            match link::decode(&mut buffer, MAX_FRAME) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

/// Types of extension frames, and one that is none.
pub(crate) const EXTENSIONS: [Type; 10] = [
    Type::SUBSCRIBE,
    Type::SUBSCRIBED,
    Type::PUBLISH,
    Type::PUBLISH_RESULT,
    Type::DELIVER,
    Type::DELIVER_ANSWER,
    Type::GOODBYE,
    Type::RECEIVED,
    Type::HANDED_OVER,
    Type(0x0499),
];

/// Names longer than this are cut when they are written.
const WHOLE_NAME: usize = 1024;

/// Extension frames, in both directions.
pub fn extension(data: &[u8]) {
    let mut script = Script::new(data);
    let kind = script.pick(&EXTENSIONS);
    let result = i32::from(script.byte() as i8);
    let frame = Frame { kind, seq: Seq([7; 32]), result, body: Bytes::copy_from_slice(script.rest()) };
    if let Ok(message) = FromClient::decode(&frame) {
        let again = FromClient::decode(&written(message.clone().encode(frame.seq)));
        assert_eq!(again.expect("what was read can be written"), message);
    }
    if let Ok(message) = FromNode::decode(&frame) {
        let again = FromNode::decode(&written(message.clone().encode(frame.seq)));
        let again = again.expect("what was read can be written");
        match &message {
            FromNode::Deliver { sender, .. } if !is_short(sender) => {}
            _ => assert_eq!(again, message),
        }
    }
}

fn is_short(sender: &Sender) -> bool {
    sender.institution.len() <= WHOLE_NAME && sender.client.name.len() <= WHOLE_NAME
}

/// A frame as its receiver reads it.
pub(crate) fn written(frame: Encoded) -> Frame {
    let mut bytes = BytesMut::new();
    frame.put(&mut bytes);
    let read = Decoder::default().decode(&mut bytes).expect("a frame").expect("a whole frame");
    assert!(bytes.is_empty(), "a frame says how long it is");
    read
}

/// Headers of data frames: what they say, where they go, and what a relay makes of them.
pub fn peer_data(data: &[u8]) {
    let mut script = Script::new(data);
    let (from, hops) = (script.byte() % 8, script.byte() % (MAX_HOPS + 1));
    let header = Bytes::copy_from_slice(script.rest());
    let route = peer::decode_route(&header);
    let frame = LinkFrame { kind: Kind::Data, hops, flow: 0, header: header.clone(), payload: Bytes::new() };
    relayed(from, &frame);
    let Ok(message) = peer::decode(&header) else { return };
    let generated = pb::Data::decode(header.clone()).expect("read once already");
    if let Ok(route) = route {
        let ids = |list: &[Bytes]| list.iter().map(|id| NodeId::from_slice(id)).collect::<Option<Vec<_>>>();
        assert_eq!(ids(&generated.destinations).as_deref(), Some(&route.destinations[..]));
        assert_eq!(ids(&generated.path).as_ref(), Some(&route.path));
        let other = Route { destinations: [3, 2].map(world::id)[..].into(), path: vec![world::id(4)] };
        let rerouted = peer::reroute(&header, &other).expect("its route was read");
        assert_eq!(peer::decode_route(&rerouted), Ok(other));
        assert_eq!(peer::decode(&rerouted).as_ref(), Ok(&message), "a relay changes the route only");
        assert!(peer::authenticated(&rerouted).eq(peer::authenticated(&header)), "and no MAC notices");
        let again = peer::encode(&message, &route, 5, Bytes::new());
        assert_eq!(peer::decode(&again.header).as_ref(), Ok(&message));
        assert_eq!(peer::decode_route(&again.header), Ok(route));
    }
}

fn relayed(from: u8, frame: &LinkFrame) {
    let routing = world::line();
    let Ok(routed) = route_frame(&routing, world::id(from), frame) else { return };
    let route = peer::decode_route(&frame.header).expect("it was routed");
    let mut left = route.destinations.clone();
    for (to, onward) in &routed.onwards {
        assert!(routing.graph().is_linked(&routing.me(), to), "{to} is no neighbour");
        assert_eq!((onward.hops + 1, &onward.payload), (frame.hops, &frame.payload));
        let onward = peer::decode_route(&onward.header).expect("a relay writes what can be read");
        for destination in onward.destinations {
            let at = left.iter().position(|found| *found == destination);
            left.swap_remove(at.expect("one copy for each destination"));
        }
    }
    assert!(routed.here || !left.contains(&routing.me()));
    let lost = left.iter().any(|node| *node != routing.me());
    assert_eq!(lost, routed.dropped.is_some(), "whatever gets no copy is reported");
}

/// Whether a message goes to one or to all, from a bit.
pub(crate) fn mode(multicast: bool) -> Mode {
    if multicast { Mode::Multicast } else { Mode::Unicast }
}
