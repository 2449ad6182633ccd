use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::{
    limits::{MAX_FRAGMENTED, MAX_LINK_FRAME},
    wire::link::{self, Kind, LinkFrame},
};

const BATCH: usize = 64 * 1024;

fn frame(sender: u32, number: u8, payload: usize) -> LinkFrame {
    frame_of(flow_of(sender, 0), number, payload)
}

fn frame_of(flow: u32, number: u8, payload: usize) -> LinkFrame {
    let header = Bytes::copy_from_slice(&[number; 40]);
    LinkFrame { kind: Kind::Data, hops: number, flow, header, payload: vec![number; payload].into() }
}

fn assembler() -> (Assembler, std::sync::Arc<Budget>) {
    let budget = Budget::new(64 << 20);
    (Assembler::new(budget.clone(), MAX_LINK_FRAME), budget)
}

/// Everything the queue holds, in batches, as the other side gets it.
fn transfer(queue: &mut Interleaver, assembler: &mut Assembler, batch_limit: usize) -> Vec<LinkFrame> {
    let (mut out, mut batch) = (Vec::new(), BytesMut::new());
    while queue.poll_batch(&mut batch, batch_limit).unwrap() {
        receive(&mut batch, assembler, &mut out);
    }
    assert!(queue.is_empty());
    out
}

fn receive(wire: &mut BytesMut, assembler: &mut Assembler, out: &mut Vec<LinkFrame>) {
    while let Some(frame) = link::decode(wire, FRAGMENT).unwrap() {
        if let Arrived::Frame(frame) = assembler.handle_frame(frame).unwrap() {
            out.push(frame);
        }
    }
    assert!(wire.is_empty());
}

fn fragment(stream: u32, marks: u8, piece: &[u8]) -> LinkFrame {
    let payload = Bytes::copy_from_slice(piece);
    LinkFrame { kind: Kind::Fragment, hops: marks, flow: stream, header: Bytes::new(), payload }
}

fn encoded(frame: &LinkFrame) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    frame.encode(&mut bytes).unwrap();
    bytes.to_vec()
}

#[test]
fn a_small_frame_passes_a_large_one_of_another_flow() {
    let mut queue = Interleaver::new(usize::MAX);
    queue.push(frame(1, 1, 10 << 20)).unwrap();
    let mut batch = BytesMut::new();
    queue.poll_batch(&mut batch, BATCH).unwrap();
    queue.push(frame(2, 2, 100)).unwrap();
    let (mut assembler, budget) = assembler();
    let mut out = Vec::new();
    receive(&mut batch, &mut assembler, &mut out);
    queue.poll_batch(&mut batch, BATCH).unwrap();
    receive(&mut batch, &mut assembler, &mut out);
    assert_eq!(out, [frame(2, 2, 100)], "it came with the very next batch");
    assert!(budget.held() > 0);
    assert_eq!(transfer(&mut queue, &mut assembler, BATCH), [frame(1, 1, 10 << 20)]);
    assert_eq!(budget.held(), 0);
}

#[test]
fn frames_of_one_flow_wait_for_the_large_one_before_them() {
    let mut queue = Interleaver::new(usize::MAX);
    let sizes = [100, 200_000, 5, 6, 300_000, 7];
    let sent: Vec<_> = (0..).zip(sizes).map(|(number, size)| frame(9, number, size)).collect();
    sent.iter().for_each(|frame| queue.push(frame.clone()).unwrap());
    assert_eq!(transfer(&mut queue, &mut assembler().0, BATCH), sent);
}

#[test]
fn a_large_frame_does_not_pass_small_ones_of_its_flow_that_wait() {
    let mut queue = Interleaver::new(usize::MAX);
    let mut sent: Vec<_> = (0..200).map(|number| frame(3, number, 10_000)).collect();
    sent.push(frame(3, 200, 20_000));
    sent.iter().for_each(|frame| queue.push(frame.clone()).unwrap());
    assert_eq!(transfer(&mut queue, &mut assembler().0, BATCH), sent);
}

#[test]
fn large_frames_take_turns() {
    let mut queue = Interleaver::new(usize::MAX);
    queue.push(frame(1, 1, 4 << 20)).unwrap();
    queue.push(frame(2, 2, 100_000)).unwrap();
    let out = transfer(&mut queue, &mut assembler().0, BATCH);
    assert_eq!(
        out.iter().map(|frame| frame.flow).collect::<Vec<_>>(),
        [2, 1].map(|sender| flow_of(sender, 0))
    );
}

#[test]
fn endless_small_frames_do_not_starve_a_large_one() {
    let mut queue = Interleaver::new(usize::MAX);
    queue.push(frame(1, 1, 1 << 20)).unwrap();
    let (mut assembler, _) = assembler();
    let (mut out, mut batch) = (Vec::new(), BytesMut::new());
    for round in 0..400 {
        for _ in 0..20 {
            queue.push(frame(2, 2, 8_000)).unwrap();
        }
        queue.poll_batch(&mut batch, BATCH).unwrap();
        receive(&mut batch, &mut assembler, &mut out);
        if out.iter().any(|frame| frame.flow == flow_of(1, 0)) {
            assert!(round > 60, "small frames got the greater part");
            return;
        }
    }
    panic!("the large frame starved");
}

#[test]
fn more_large_frames_than_streams_wait() {
    let mut queue = Interleaver::new(usize::MAX);
    let flows = 3 * MAX_FRAGMENTED as u32;
    for flow in 0..flows {
        queue.push(frame(flow, 1, 50_000)).unwrap();
    }
    assert_eq!(transfer(&mut queue, &mut assembler().0, BATCH).len(), flows as usize);
}

#[test]
fn the_queue_is_bounded_but_takes_one_frame_when_empty() {
    let mut queue = Interleaver::new(1000);
    queue.push(frame(1, 1, 5000)).unwrap();
    assert_eq!(queue.push(frame(1, 2, 0)), Err(Full(frame(1, 2, 0))));
    assert_eq!(queue.push(frame(2, 3, 300)), Err(Full(frame(2, 3, 300))));
    transfer(&mut queue, &mut assembler().0, BATCH);
    queue.push(frame(1, 1, 400)).unwrap();
    queue.push(frame(1, 2, 400)).unwrap();
    assert!(queue.push(frame(1, 3, 400)).is_err());
}

#[test]
fn whoever_keeps_to_a_share_finds_room_beside_whoever_does_not() {
    let mut queue = Interleaver::new(1000);
    queue.push(frame(1, 1, 5000)).unwrap();
    let mut taken = 0;
    while queue.push(frame(2 + taken, 1, 50)).is_ok() {
        taken += 1;
    }
    assert!((8..=20).contains(&taken), "{taken} frames of other flows");
    queue.push(frame(1, 2, 0)).unwrap_err();
    transfer(&mut queue, &mut assembler().0, BATCH);
    assert!(queue.is_empty() && queue.queued() == 0);
}

#[test]
fn flows_of_small_frames_take_turns() {
    let mut queue = Interleaver::new(usize::MAX);
    for number in 0..100 {
        queue.push(frame(1, number, 10)).unwrap();
    }
    queue.push(frame(2, 200, 10)).unwrap();
    let arrived = transfer(&mut queue, &mut assembler().0, BATCH);
    let at = arrived.iter().position(|frame| frame.flow == flow_of(2, 0));
    assert_eq!(at, Some(1), "not behind all that another flow has queued");
}

#[test]
fn a_sender_has_one_turn_and_one_share_however_many_flows_it_has() {
    let mut queue = Interleaver::new(usize::MAX);
    for lane in 0..50 {
        queue.push(frame_of(flow_of(1, lane), 1, 10)).unwrap();
        queue.push(frame_of(flow_of(1, lane), 2, 300_000)).unwrap();
    }
    queue.push(frame(2, 3, 10)).unwrap();
    queue.push(frame(2, 4, 300_000)).unwrap();
    let arrived = transfer(&mut queue, &mut assembler().0, BATCH);
    let at = |number| arrived.iter().position(|frame| frame.hops == number).unwrap();
    assert_eq!(at(3), 1);
    let large = arrived[..at(4)].iter().filter(|frame| frame.hops == 2).count();
    assert!(large <= 1, "{large} large ones before the first of another sender");

    let mut queue = Interleaver::new(1000);
    queue.push(frame_of(flow_of(1, 1), 1, 5000)).unwrap();
    queue.push(frame_of(flow_of(1, 2), 1, 0)).unwrap_err();
}

#[test]
fn small_frames_of_a_sender_pass_its_large_ones_in_another_lane() {
    let mut queue = Interleaver::new(usize::MAX);
    for number in 0..3 {
        queue.push(frame_of(flow_of(1, 1), number, 300_000)).unwrap();
    }
    queue.push(frame_of(flow_of(1, 1), 3, 10)).unwrap();
    queue.push(frame_of(flow_of(1, 2), 4, 10)).unwrap();
    let arrived = transfer(&mut queue, &mut assembler().0, BATCH);
    let order: Vec<_> = arrived.iter().map(|frame| frame.hops).collect();
    assert_eq!(order, [4, 0, 1, 2, 3]);
}

#[test]
fn a_batch_stays_within_its_limit() {
    let mut queue = Interleaver::new(usize::MAX);
    for number in 0..100 {
        queue.push(frame(u32::from(number), number, 3_000 * usize::from(number))).unwrap();
    }
    let mut batch = BytesMut::new();
    while queue.poll_batch(&mut batch, BATCH).unwrap() {
        assert!(batch.len() <= BATCH);
        batch.clear();
    }
}

#[test]
fn beyond_the_budget_a_frame_is_given_up_and_its_head_reported() {
    let budget = Budget::new(100_000);
    let mut assembler = Assembler::new(budget.clone(), MAX_LINK_FRAME);
    let mut queue = Interleaver::new(usize::MAX);
    queue.push(frame(1, 1, 200_000)).unwrap();
    queue.push(frame(1, 2, 10)).unwrap();
    let (mut wire, mut arrived) = (BytesMut::new(), Vec::new());
    while queue.poll_batch(&mut wire, BATCH).unwrap() {
        while let Some(frame) = link::decode(&mut wire, FRAGMENT).unwrap() {
            arrived.push(assembler.handle_frame(frame).unwrap());
        }
    }
    arrived.retain(|arrived| *arrived != Arrived::Part);
    let head = LinkFrame { payload: Bytes::new(), ..frame(1, 1, 0) };
    assert_eq!(arrived, [Arrived::Dropped(Some(head)), Arrived::Frame(frame(1, 2, 10))]);
    assert_eq!(budget.held(), 0);
}

#[test]
fn a_link_that_goes_gives_its_bytes_back() {
    let (mut assembler, budget) = assembler();
    let bytes = encoded(&frame(1, 1, 50_000));
    assembler.handle_frame(fragment(0, FIRST, &bytes[..PIECE])).unwrap();
    assert_eq!(budget.held(), PIECE);
    drop(assembler);
    assert_eq!(budget.held(), 0);
}

#[test]
fn a_claimed_length_reserves_nothing() {
    let (mut assembler, budget) = assembler();
    let mut claim = encoded(&frame(1, 1, 0));
    claim[..4].copy_from_slice(&(MAX_LINK_FRAME as u32).to_be_bytes());
    assembler.handle_frame(fragment(0, FIRST, &claim)).unwrap();
    assert_eq!(budget.held(), claim.len());
}

#[test]
fn peers_that_break_the_rules_are_told_apart() {
    let bytes = encoded(&frame(1, 1, 50_000));
    let first = fragment(0, FIRST, &bytes[..1000]);
    let check = |frames: &[LinkFrame], expected: Fault| {
        let (mut assembler, _) = assembler();
        let (last, before) = frames.split_last().unwrap();
        for frame in before {
            assembler.handle_frame(frame.clone()).unwrap();
        }
        assert_eq!(assembler.handle_frame(last.clone()), Err(expected));
    };
    check(&[fragment(7, 0, b"x")], Fault::Unknown { stream: 7 });
    check(&[first.clone(), first.clone()], Fault::Duplicate { stream: 0 });
    check(&[fragment(0, 4, b"x")], Fault::Malformed { stream: 0 });
    check(&[fragment(0, FIRST, b"")], Fault::Malformed { stream: 0 });
    check(&[fragment(0, FIRST, &bytes[..11])], Fault::Malformed { stream: 0 });
    let nested = encoded(&fragment(1, FIRST, b"x"));
    check(&[fragment(0, FIRST, &nested)], Fault::Malformed { stream: 0 });
    let short = Fault::WrongLength { stream: 0, received: 1001, total: bytes.len() };
    check(&[first.clone(), fragment(0, LAST, b"x")], short);
    let mut long = bytes.clone();
    long.push(0);
    let too_long = Fault::WrongLength { stream: 0, received: long.len(), total: bytes.len() };
    check(&[fragment(0, FIRST, &long)], too_long);
    let many: Vec<_> = (0..=MAX_FRAGMENTED as u32).map(|s| fragment(s, FIRST, &bytes[..100])).collect();
    check(&many, Fault::TooMany);
}

proptest! {
    #[test]
    fn all_arrive_whole_and_in_order_of_their_flow(
        frames in prop::collection::vec((0_u32..9, prop_oneof![0_usize..2000, 0_usize..200_000]), 1..40),
        batches in prop::collection::vec(1_usize..100_000, 0..20),
    ) {
        let mut queue = Interleaver::new(usize::MAX);
        let (mut assembler, budget) = assembler();
        let (mut out, mut wire) = (Vec::new(), BytesMut::new());
        let mut sent: BTreeMap<u32, Vec<LinkFrame>> = BTreeMap::new();
        let mut batches = batches.into_iter();
        for (number, (flow, size)) in frames.into_iter().enumerate() {
            let frame = frame_of(flow_of(flow / 3, flow % 3), number as u8, size);
            sent.entry(frame.flow).or_default().push(frame.clone());
            queue.push(frame).unwrap();
            if let Some(limit) = batches.next() {
                queue.poll_batch(&mut wire, limit).unwrap();
                receive(&mut wire, &mut assembler, &mut out);
            }
        }
        out.extend(transfer(&mut queue, &mut assembler, BATCH));
        let mut received: BTreeMap<u32, Vec<LinkFrame>> = BTreeMap::new();
        for frame in out {
            received.entry(frame.flow).or_default().push(frame);
        }
        prop_assert_eq!(received, sent);
        prop_assert_eq!(budget.held(), 0);
        let goes_on = queue.push(frame(0, 0, 0)).is_ok() && transfer(&mut queue, &mut assembler, BATCH).len() == 1;
        prop_assert!(goes_on, "everybody may have another turn");
    }

    #[test]
    fn arbitrary_fragments_never_panic_nor_leak(
        pieces in prop::collection::vec(
            (0_u32..4, 0_u8..5, prop::collection::vec(prop_oneof![Just(0), any::<u8>()], 0..100)), 0..50),
    ) {
        let budget = Budget::new(500);
        let mut assembler = Assembler::new(budget.clone(), 1000);
        for (stream, marks, piece) in pieces {
            let _ = assembler.handle_frame(fragment(stream, marks, &piece));
            prop_assert!(budget.held() <= 250);
        }
        drop(assembler);
        prop_assert_eq!(budget.held(), 0);
    }
}
