use proptest::prelude::*;

use super::*;

pub(crate) fn any_frame() -> impl Strategy<Value = LinkFrame> {
    let kind = prop_oneof![Just(Kind::Control), Just(Kind::Data)];
    let bytes = |max| prop::collection::vec(any::<u8>(), 0..max).prop_map(Bytes::from);
    (kind, any::<u8>(), any::<u32>(), bytes(300), bytes(3000))
        .prop_map(|(kind, hops, flow, header, payload)| LinkFrame { kind, hops, flow, header, payload })
}

fn golden() -> (LinkFrame, &'static [u8]) {
    let frame = LinkFrame {
        kind: Kind::Data,
        hops: 7,
        flow: 0x0102_0304,
        header: Bytes::from_static(b"hd"),
        payload: Bytes::from_static(b"pay"),
    };
    (frame, &[0, 0, 0, 17, 2, 7, 0, 2, 1, 2, 3, 4, b'h', b'd', b'p', b'a', b'y'])
}

#[test]
fn the_layout_is_the_documented_one() {
    let (frame, wire) = golden();
    let mut batch = BytesMut::new();
    frame.encode(&mut batch).unwrap();
    assert_eq!(&batch[..], wire);
    assert_eq!(decode(&mut batch, FRAGMENT), Ok(Some(frame)));
    assert!(batch.is_empty());
}

#[test]
fn a_frame_cut_short_anywhere_is_waited_for() {
    let (_, wire) = golden();
    for end in 0..wire.len() {
        let mut input = BytesMut::from(&wire[..end]);
        assert_eq!(decode(&mut input, FRAGMENT), Ok(None));
        assert_eq!(input.len(), end, "nothing is taken");
    }
}

#[test]
fn bad_prefixes_are_refused_at_once() {
    let check = |bytes: &[u8], fault| {
        assert_eq!(decode(&mut BytesMut::from(bytes), 100), Err(fault));
    };
    check(&[0, 0, 0, 11], FrameFault::TooShort { length: 11 });
    check(&[0, 0, 0, 101], FrameFault::TooLong { length: 101, max: 100 });
    check(&[255, 255, 255, 255], FrameFault::TooLong { length: u32::MAX as usize, max: 100 });
    check(&[0, 0, 0, 14, 2, 0, 0, 3, 0, 0, 0, 0], FrameFault::HeaderTooLong { header: 3, length: 14 });
    check(&[0, 0, 0, 12, 9, 0, 0, 0, 0, 0, 0, 0], FrameFault::UnknownKind { kind: 9 });
}

#[test]
fn what_the_format_cannot_carry_is_not_written() {
    let mut batch = BytesMut::new();
    let (mut frame, _) = golden();
    frame.header = vec![0; 65_536].into();
    assert!(frame.encode(&mut batch).is_err());
    assert!(batch.is_empty());
}

proptest! {
    #[test]
    fn frames_come_back_in_whatever_pieces(
        frames in prop::collection::vec(any_frame(), 1..8), step in 1_usize..700,
    ) {
        let mut wire = BytesMut::new();
        for frame in &frames {
            frame.encode(&mut wire).unwrap();
        }
        let (mut input, mut out) = (BytesMut::new(), Vec::new());
        for piece in wire.chunks(step) {
            input.extend_from_slice(piece);
            while let Some(frame) = decode(&mut input, FRAGMENT).unwrap() {
                out.push(frame);
            }
        }
        prop_assert_eq!(out, frames);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut input = BytesMut::from(&bytes[..]);
        while let Ok(Some(_)) = decode(&mut input, FRAGMENT) {}
    }
}
