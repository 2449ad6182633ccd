//! What messages carry.
//!
//! ```text
//! 0..8    number of the message, unique in this process; an answer repeats it
//! 8..16   when it was to be sent, by `clock`; 0: not to be timed
//! 16..    bytes without a pattern, so that nothing on the way can compress them
//! ```
//! Both numbers are little-endian.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{BufMut, Bytes, BytesMut};

/// Bytes of the number and the moment: the smallest payload.
pub const HEADER: usize = 16;
/// The largest payload that works take: 16 MiB.
pub const MOST: usize = 16 * 1024 * 1024;
/// Bytes of an acknowledgement.
pub const ACKNOWLEDGEMENT: usize = 32;

static NEXT: AtomicU64 = AtomicU64::new(1);

/// Makes payloads of one size.
#[derive(Clone, Debug)]
pub struct Template(Bytes);

impl Template {
    /// For payloads of so many bytes, made at least [`HEADER`] and at most [`MOST`].
    pub fn new(size: usize) -> Self {
        let size = size.clamp(HEADER, MOST);
        let mut bytes = BytesMut::with_capacity(size + 8);
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        while bytes.len() < size {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.put_u64_le(state);
        }
        bytes.truncate(size);
        Self(bytes.freeze())
    }

    /// A payload with a number of its own. `moment`: when it is to be sent, by [`clock`](crate::clock); 0 if it is not
    /// to be timed.
    pub fn fill(&self, moment: u64) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.0.len());
        bytes.put_u64_le(NEXT.fetch_add(1, Ordering::Relaxed));
        bytes.put_u64_le(moment);
        bytes.put_slice(self.0.get(HEADER..).unwrap_or_default());
        bytes.freeze()
    }
}

/// What a responder answers to this payload: 32 bytes, of which the first 8 are the payload's first 8.
pub fn acknowledgement(payload: &[u8]) -> Bytes {
    let mut answer = [0; ACKNOWLEDGEMENT];
    answer.iter_mut().zip(number(payload)).for_each(|(to, from)| *to = from);
    Bytes::copy_from_slice(&answer)
}

/// The number of a payload; zeros if it is too short to have one.
pub fn number(payload: &[u8]) -> [u8; 8] {
    payload.first_chunk().copied().unwrap_or_default()
}

/// Whether this is the [`acknowledgement`] of the payload with this [`number`].
pub fn acknowledges(answer: &[u8], number: [u8; 8]) -> bool {
    answer.len() == ACKNOWLEDGEMENT && answer.starts_with(&number)
}

/// When this payload was to be sent; `None` if it is not to be timed, or too short to say.
pub fn moment(payload: &[u8]) -> Option<u64> {
    let bytes = payload.get(8..HEADER)?.try_into().ok()?;
    Some(u64::from_le_bytes(bytes)).filter(|moment| *moment > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_have_their_size_a_number_and_a_moment() {
        for (asked, made) in [(0, HEADER), (16, 16), (100, 100), (1 << 16, 1 << 16), (usize::MAX, MOST)] {
            let template = Template::new(asked);
            let (one, two) = (template.fill(7), template.fill(0));
            assert_eq!((one.len(), two.len()), (made, made));
            assert_ne!(one[..8], two[..8]);
            assert_eq!((moment(&one), moment(&two)), (Some(7), None));
        }
        assert_eq!(moment(b"short"), None);
    }

    #[test]
    fn an_acknowledgement_is_of_one_payload() {
        let template = Template::new(64);
        let (one, two) = (template.fill(0), template.fill(0));
        let answer = acknowledgement(&one);
        assert_eq!(answer.len(), ACKNOWLEDGEMENT);
        assert!(acknowledges(&answer, number(&one)) && !acknowledges(&answer, number(&two)));
        assert!(!acknowledges(&answer[..31], number(&one)) && !acknowledges(b"", number(b"")));
        assert_eq!(acknowledgement(b"abc").len(), ACKNOWLEDGEMENT);
    }
}
