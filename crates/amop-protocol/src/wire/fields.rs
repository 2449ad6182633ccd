//! Protobuf fields written and skimmed by hand, where the generated types would first copy every
//! text and id into allocations of their own: the headers that go with each message.

/// Appends a varint field, unless it is zero, which protobuf leaves out.
pub(super) fn number(out: &mut Vec<u8>, tag: u8, value: u64) {
    if value != 0 {
        out.push(tag << 3);
        varint(out, value);
    }
}

/// Appends a length-delimited field, unless it is empty.
pub(super) fn bytes(out: &mut Vec<u8>, tag: u8, value: &[u8]) {
    if !value.is_empty() {
        entry(out, tag, value);
    }
}

/// Appends a length-delimited field, empty or not: an entry of a list.
pub(super) fn entry(out: &mut Vec<u8>, tag: u8, value: &[u8]) {
    length(out, tag, value.len());
    out.extend_from_slice(value);
}

/// Appends the beginning of a length-delimited field of `len` bytes, which must follow.
pub(super) fn length(out: &mut Vec<u8>, tag: u8, len: usize) {
    out.push(tag << 3 | LENGTH_DELIMITED);
    varint(out, len as u64);
}

/// Bytes of a [`bytes()`] field whose value has `len` of them.
pub(super) fn bytes_len(len: usize) -> usize {
    if len == 0 { 0 } else { entry_len(len) }
}

/// Bytes of an [`entry()`] field whose value has `len` of them.
pub(super) fn entry_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

/// A field of a message: its tag, all of its bytes, and its value: bytes if it is length-delimited, a number
/// if it is a varint.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    pub(super) tag: u64,
    pub(super) raw: &'a [u8],
    pub(super) value: Option<&'a [u8]>,
    pub(super) number: Option<u64>,
}

/// The fields of a message, in order; `None` in place of one that cannot be read, and then no more.
pub(super) fn skim(mut message: &[u8]) -> impl Iterator<Item = Option<Field<'_>>> {
    std::iter::from_fn(move || {
        if message.is_empty() {
            return None;
        }
        let field = next(message);
        message = field.map_or(&[][..], |field| &message[field.raw.len()..]);
        Some(field)
    })
}

fn next(message: &[u8]) -> Option<Field<'_>> {
    let (key, after_key) = read_varint(message)?;
    if key >> 3 == 0 || key > u64::from(u32::MAX) {
        return None;
    }
    let mut number = None;
    let (value, rest) = match key as u8 & 7 {
        0 => {
            let (varint, rest) = read_varint(after_key)?;
            number = Some(varint);
            (None, rest)
        }
        1 => (None, after_key.get(8..)?),
        LENGTH_DELIMITED => {
            let (len, body) = read_varint(after_key)?;
            let (value, rest) = body.split_at_checked(usize::try_from(len).ok()?)?;
            (Some(value), rest)
        }
        5 => (None, after_key.get(4..)?),
        _ => return None,
    };
    Some(Field { tag: key >> 3, raw: &message[..message.len() - rest.len()], value, number })
}

const LENGTH_DELIMITED: u8 = 2;

/// Appends a number without a tag.
pub(super) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Reads a number without a tag; what follows it.
#[inline]
pub(super) fn read_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    match bytes {
        // Nearly all tags, lengths and numbers.
        [byte, rest @ ..] if *byte < 0x80 => Some((u64::from(*byte), rest)),
        _ => read_long_varint(bytes),
    }
}

fn read_long_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (i, byte) in bytes.iter().take(10).enumerate() {
        if i == 9 && *byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[i + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_are_read_as_written(value in 1u64..) {
            let mut out = Vec::new();
            number(&mut out, 3, value);
            prop_assert_eq!(read_varint(&out[1..]), Some((value, &[][..])));
            prop_assert_eq!(varint_len(value), out.len() - 1);
        }

        #[test]
        fn arbitrary_bytes_are_skimmed_to_an_end(bytes: Vec<u8>) {
            let mut left = bytes.len();
            for field in skim(&bytes) {
                left -= field.map_or(0, |field| field.raw.len());
            }
            prop_assert!(left <= bytes.len());
        }
    }

    #[test]
    fn fields_are_found_with_their_values() {
        let mut out = Vec::new();
        number(&mut out, 1, 300);
        bytes(&mut out, 2, b"");
        bytes(&mut out, 3, b"abc");
        assert_eq!(out.len(), 3 + bytes_len(0) + bytes_len(3));
        let found: Vec<_> = skim(&out).map(|field| field.map(|f| (f.tag, f.value))).collect();
        assert_eq!(found, [Some((1, None)), Some((3, Some(&b"abc"[..])))]);
        let cut: Vec<_> = skim(&out[..out.len() - 1]).map(|field| field.is_some()).collect();
        assert_eq!(cut, [true, false]);
    }
}
