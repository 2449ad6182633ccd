//! Fragments: arbitrary ones from a neighbour, and our own put together again.

use std::collections::BTreeMap;

use amop_protocol::wire::{
    interleave::{Arrived, Assembler, Budget, Fault, Interleaver, flow_of},
    link::{self, Kind, LinkFrame},
};
use bytes::{Bytes, BytesMut};

use crate::script::Script;

const MAX_FRAME: usize = 4096;

/// Arbitrary sequences of fragments on two links that share one budget.
pub fn assembler(data: &[u8]) {
    let mut script = Script::new(data);
    let budget = Budget::new(usize::from(script.short()) % 1024);
    let limit = usize::from(u16::from_be_bytes([
        data.first().copied().unwrap_or(0),
        data.get(1).copied().unwrap_or(0),
    ])) % 1024;
    let mut links = [Assembler::new(budget.clone(), MAX_FRAME), Assembler::new(budget.clone(), MAX_FRAME)];
    while !script.is_over() {
        let which = script.byte();
        let frame = LinkFrame {
            kind: script.pick(&[Kind::Fragment, Kind::Fragment, Kind::Fragment, Kind::Data, Kind::Control]),
            hops: script.byte() & 7,
            flow: u32::from(script.byte() % 40),
            header: Bytes::from(vec![1; usize::from(which & 0x80 >> 7)]),
            payload: Bytes::copy_from_slice(script.bytes()),
        };
        let link = &mut links[usize::from(which & 1)];
        match link.handle_frame(frame.clone()) {
            Ok(Arrived::Frame(whole)) if frame.kind == Kind::Fragment => {
                assert!(whole.wire_len() <= MAX_FRAME && whole.kind != Kind::Fragment);
            }
            Ok(Arrived::Frame(whole)) => assert_eq!(whole, frame, "whole frames pass through untouched"),
            Ok(Arrived::Dropped(Some(head))) => assert!(head.payload.is_empty()),
            Ok(_) => {}
            // The link is closed, and with it goes what it held.
            Err(_) => *link = Assembler::new(budget.clone(), MAX_FRAME),
        }
        assert!(budget.held() <= limit, "{} bytes held of {limit}", budget.held());
    }
    drop(links);
    assert_eq!(budget.held(), 0, "what a link held is given back");
}

/// A sequence of frames queued and sent in batches arrives whole, once, and in order within each flow.
pub fn interleaver(data: &[u8]) {
    let mut script = Script::new(data);
    let capacity = usize::from(script.short()) * 4;
    let mut queue = Interleaver::new(capacity);
    let mut assembler = Assembler::new(Budget::new(1 << 22), 1 << 20);
    let mut expected: BTreeMap<u32, Vec<LinkFrame>> = BTreeMap::new();
    let mut arrived: BTreeMap<u32, Vec<LinkFrame>> = BTreeMap::new();
    let mut marker = 0_u8;
    let mut most = 64;
    let mut largest = 0;
    while !script.is_over() && most > 0 {
        most -= 1;
        let op = script.byte();
        if op & 1 == 0 {
            marker = marker.wrapping_add(1);
            let frame = LinkFrame {
                kind: if op & 2 == 0 { Kind::Data } else { Kind::Control },
                hops: op,
                flow: flow_of(u32::from(op >> 7), u32::from(op >> 6)),
                header: Bytes::from(vec![marker; usize::from(script.byte())]),
                payload: Bytes::from(vec![marker; usize::from(script.short())]),
            };
            match queue.push(frame.clone()) {
                Ok(()) => {
                    largest = largest.max(frame.wire_len());
                    expected.entry(frame.flow).or_default().push(frame);
                }
                Err(full) => assert!(full.0 == frame && queue.queued() + frame.wire_len() > capacity),
            }
            assert!(queue.queued() <= 2 * capacity + largest, "{} bytes of {capacity}", queue.queued());
        } else {
            let limit = usize::from(script.short());
            receive(&send(&mut queue, limit), &mut assembler, &mut arrived).expect("our own fragments");
        }
    }
    while !queue.is_empty() {
        let bytes = send(&mut queue, 4096);
        assert!(!bytes.is_empty(), "a queue that is not empty sends something");
        receive(&bytes, &mut assembler, &mut arrived).expect("our own fragments");
    }
    assert_eq!(arrived, expected);
}

fn send(queue: &mut Interleaver, limit: usize) -> BytesMut {
    let mut bytes = BytesMut::new();
    let any = queue.poll_batch(&mut bytes, limit).expect("no frame is too large");
    assert_eq!(any, !bytes.is_empty());
    bytes
}

fn receive(
    bytes: &BytesMut,
    assembler: &mut Assembler,
    arrived: &mut BTreeMap<u32, Vec<LinkFrame>>,
) -> Result<(), Fault> {
    let mut bytes = bytes.clone();
    while let Some(frame) = link::decode(&mut bytes, 1 << 20)? {
        if let Arrived::Frame(whole) = assembler.handle_frame(frame)? {
            arrived.entry(whole.flow).or_default().push(whole);
        }
    }
    assert!(bytes.is_empty(), "a batch ends with a frame");
    Ok(())
}
