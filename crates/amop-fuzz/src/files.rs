//! What two ends of a file transfer send to each other, and what whoever can send to them makes up.

use std::sync::LazyLock;

use amop_auth::transfer::{Sealing, TAG, TransferKey};
use amop_protocol::wire::files::{
    CHUNK, Frame, Id, LABEL, MAX_MEDIA_TYPE, MAX_NAME, MAX_RANGES, MAX_SIZE, MAX_WHY, Range, State, Step,
    chunk_head, chunks, extent, sealed_head,
};
use bytes::{Bytes, BytesMut};

use crate::script::Script;

const TRANSFER: Id = Id([7; 16]);

static KEY: LazyLock<TransferKey> = LazyLock::new(|| TransferKey::new(TRANSFER, [7; 32]));

/// Frames of file transfers, sealed ones, and where chunks are.
pub fn file_frame(data: &[u8]) {
    let mut script = Script::new(data);
    match script.byte() % 4 {
        0 => frame(&[LABEL, script.rest()].concat()),
        1 => frame(script.rest()),
        2 => sealed(script.byte(), script.byte(), script.rest()),
        _ => extents(script.rest()),
    }
}

/// What is read is within its bounds, and written as it was read.
fn frame(bytes: &[u8]) {
    let Ok(frame) = Frame::decode(&Bytes::copy_from_slice(bytes)) else { return };
    assert!(Frame::is_frame(bytes), "a frame says that it is one");
    match &frame.step {
        Step::Offer(offer) => {
            assert!(offer.name.len() <= MAX_NAME && offer.media_type.len() <= MAX_MEDIA_TYPE);
            assert!(offer.size <= MAX_SIZE && !offer.media_type.contains(char::is_control));
        }
        Step::Accept { missing, .. } | Step::State(State::Missing(missing)) => ranges(missing),
        Step::Decline { why, .. } | Step::Stop { why, .. } => {
            assert!(why.len() <= MAX_WHY && !why.contains(char::is_control));
        }
        Step::Chunk { index, proof, data } => {
            let mut head = chunk_head(frame.transfer, *index, proof.clone(), data.len());
            head.extend_from_slice(data);
            assert_eq!(head.freeze(), frame.encode(), "a chunk is written in one way");
        }
        Step::Sealed { nonce, sealed } => {
            let mut head = sealed_head(frame.transfer, *nonce, sealed.len());
            head.extend_from_slice(sealed);
            assert_eq!(head.freeze(), frame.encode());
            if let Ok(opened) = KEY.open(*nonce, sealed.clone()) {
                panic!("nobody sealed this: {opened:?}");
            }
        }
        _ => {}
    }
    assert_eq!(Frame::decode(&frame.encode()).as_ref(), Ok(&frame));
    assert_eq!(Id::from_hex(&frame.transfer.to_string()), Some(frame.transfer));
}

fn ranges(ranges: &[Range]) {
    assert!(ranges.len() <= MAX_RANGES);
    let mut from = 0;
    for Range { first, count } in ranges {
        assert!(*first >= from && *count > 0);
        from = first + count;
    }
    assert!(from <= chunks(MAX_SIZE));
}

/// What is sealed opens as it was, and not at all when a byte of it is another.
fn sealed(at: u8, by: u8, content: &[u8]) {
    let nonce = KEY.nonce(Sealing::Chunk(at.into())).expect("no randomness is needed");
    let mut sealed = BytesMut::from(content);
    KEY.seal(nonce, &mut sealed, 0);
    assert_eq!(sealed.len(), content.len() + TAG);
    let mut other = sealed.to_vec();
    let at = usize::from(at) % other.len();
    other[at] ^= by;
    if by != 0 {
        KEY.open(nonce, other.into()).expect_err("a byte is another");
    }
    let opened = KEY.open(nonce, sealed.freeze()).expect("as it was sealed");
    assert_eq!(opened, content);
    // Whatever was sealed is read like anything else.
    if let Ok(frame) = Frame::decode_inner(opened) {
        let mut again = BytesMut::new();
        frame.encode_inner(&mut again);
        assert_eq!(Frame::decode_inner(again.freeze()), Ok(frame));
    }
}

/// The chunks of a file lie one behind the other, and there are no more.
fn extents(bytes: &[u8]) {
    let number = |bytes: &[u8]| bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    let (size, index) = bytes.split_at(bytes.len().min(8));
    let (size, index) = (number(size), number(&index[..index.len().min(8)]));
    let Some((at, len)) = extent(size, index) else {
        assert!(index >= chunks(size), "chunk {index} of {size} bytes is not there");
        return;
    };
    assert!(index < chunks(size) && at == index * CHUNK && len > 0 && len as u64 <= CHUNK);
    assert_eq!(at + len as u64 == size, index + 1 == chunks(size));
}
