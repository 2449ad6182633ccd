//! Bytes on their way to a node.

use std::{collections::VecDeque, io::IoSlice};

use amop_protocol::wire::channel::Encoded;
use bytes::{Buf, Bytes, BytesMut};

/// Payloads beyond this are written from where they are.
const COPIED: usize = 16 * 1024;
/// A buffer that grew beyond this is given back when it is empty.
const KEPT: usize = 1024 * 1024;
/// Parts written in one call.
pub(super) const PARTS: usize = 16;

/// What waits to be written: small frames copied together, large payloads as they are.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    parts: VecDeque<Bytes>,
    /// What comes behind them.
    tail: BytesMut,
    len: usize,
}

impl Outbound {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn put(&mut self, frame: &Encoded) {
        self.len += frame.wire_len();
        if frame.payload().len() <= COPIED {
            return frame.put(&mut self.tail);
        }
        if !self.tail.is_empty() {
            self.parts.push_back(self.tail.split().freeze());
        }
        self.parts.extend([frame.head().clone(), frame.payload().clone()]);
    }

    /// The first parts, as many as there is room for.
    pub(super) fn parts<'a>(&'a self, room: &mut [IoSlice<'a>; PARTS]) -> usize {
        let parts = self.parts.iter().map(|part| &part[..]).chain([&self.tail[..]]);
        let filled = room.iter_mut().zip(parts.filter(|part| !part.is_empty()));
        filled.map(|(slice, part)| *slice = IoSlice::new(part)).count()
    }

    /// That many bytes were written.
    pub(super) fn advance(&mut self, mut written: usize) {
        self.len -= written;
        while let Some(part) = self.parts.front_mut() {
            if written < part.len() {
                return part.advance(written);
            }
            written -= part.len();
            self.parts.pop_front();
        }
        self.tail.advance(written);
        if self.is_empty() && self.tail.capacity() > KEPT {
            self.tail = BytesMut::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use amop_protocol::{Seq, wire::channel::Type};

    use super::*;

    #[test]
    fn bytes_come_in_order_however_they_are_taken() {
        for step in [1, 1000, 16 * 1024, 100_000, usize::MAX] {
            let (mut outbound, mut expected, mut got) = (Outbound::default(), BytesMut::new(), Vec::new());
            for (number, len) in [(0, 10), (1, 40_000), (2, 20), (3, 16 * 1024), (4, 16 * 1024 + 1), (5, 0)] {
                let payload = Bytes::from(vec![number; len]);
                let frame = Encoded::new(Type::PUBLISH, Seq::from_u128(7), 0, b"head", payload);
                outbound.put(&frame);
                frame.put(&mut expected);
            }
            assert_eq!(outbound.len(), expected.len());
            while !outbound.is_empty() {
                let mut room = [IoSlice::new(&[]); PARTS];
                let filled = outbound.parts(&mut room);
                let before = got.len();
                got.extend(room[..filled].iter().flat_map(|part| part.iter()).take(step));
                let written = got.len() - before;
                outbound.advance(written);
            }
            assert!(got == expected, "in steps of {step}");
        }
    }

    #[test]
    fn large_payloads_are_not_copied() {
        let payload = Bytes::from(vec![1; 40_000]);
        let mut outbound = Outbound::default();
        outbound.put(&Encoded::new(Type::PUBLISH, Seq::from_u128(7), 0, &[], payload.clone()));
        assert_eq!(outbound.parts[1].as_ptr(), payload.as_ptr());
    }
}
