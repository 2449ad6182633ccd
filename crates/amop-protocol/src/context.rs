//! The trace a message is part of, as W3C's `traceparent` names it: carried from publisher to subscriber as it is.

use std::{fmt, str::FromStr};

use crate::ident::hex;

/// W3C trace context, version 00: trace, span and flags. Neither trace nor span is all zeros.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext([u8; TraceContext::BYTES]);

/// A text that is no `traceparent`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a traceparent; it looks like 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01, in lower case"
)]
pub struct NotTraceparent;

impl TraceContext {
    /// Bytes of one on the wire: 16 of the trace, 8 of the span, 1 of flags.
    pub const BYTES: usize = 25;

    /// One with these bytes, if neither trace nor span is all zeros.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        let bytes: [u8; Self::BYTES] = bytes.try_into().ok()?;
        let is_there = |part: &[u8]| part.iter().any(|byte| *byte != 0);
        (is_there(&bytes[..16]) && is_there(&bytes[16..24])).then_some(Self(bytes))
    }

    /// The trace.
    pub fn trace_id(&self) -> &[u8] {
        &self.0[..16]
    }

    /// The span in it that the message was sent in.
    pub fn span_id(&self) -> &[u8] {
        &self.0[16..24]
    }

    /// W3C's flags.
    pub const fn flags(&self) -> u8 {
        self.0[24]
    }

    /// Whether its publisher has the trace recorded: W3C's flag `sampled`.
    pub const fn is_sampled(&self) -> bool {
        self.flags() & 1 != 0
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

/// The `traceparent` header.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, rest) = self.0.split_at(16);
        let (span, flags) = rest.split_at(8);
        write!(f, "00-{}-{}-{}", hex(trace), hex(span), hex(flags))
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Reads a `traceparent` header of version 00, or of a later one whose beginning is the same.
impl FromStr for TraceContext {
    type Err = NotTraceparent;

    fn from_str(text: &str) -> Result<Self, NotTraceparent> {
        let mut parts = text.splitn(5, '-');
        let version = digits::<1>(parts.next())?;
        let (trace, span, flags) =
            (digits::<16>(parts.next())?, digits::<8>(parts.next())?, digits::<1>(parts.next())?);
        let is_later = parts.next().is_some();
        if version == [0xff] || version == [0] && is_later {
            return Err(NotTraceparent);
        }
        let bytes = [&trace[..], &span, &flags].concat();
        Self::from_slice(&bytes).ok_or(NotTraceparent)
    }
}

fn digits<const N: usize>(text: Option<&str>) -> Result<[u8; N], NotTraceparent> {
    let text = text.filter(|text| text.len() == 2 * N).ok_or(NotTraceparent)?;
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |digit: u8| match digit {
            b'0'..=b'9' => Ok(digit - b'0'),
            b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => Err(NotTraceparent),
        };
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_read_as_it_is_written() {
        let context: TraceContext = ONE.parse().unwrap();
        assert_eq!(context.to_string(), ONE);
        assert_eq!(TraceContext::from_slice(context.as_bytes()), Some(context));
        let parts = (context.trace_id(), context.span_id(), context.flags());
        assert_eq!((hex(parts.0), hex(parts.1), parts.2), (ONE[3..35].to_owned(), ONE[36..52].to_owned(), 1));
        for (flags, sampled) in [("00", false), ("01", true), ("02", false), ("ff", true)] {
            let context: TraceContext = format!("{}{flags}", &ONE[..53]).parse().unwrap();
            assert_eq!(context.is_sampled(), sampled, "{flags}");
        }
        let later = ONE.replacen("00", "cc", 1) + "-what will be";
        assert_eq!(later.parse(), Ok(context), "of a later version its beginning");
    }

    #[test]
    fn what_is_none_is_refused() {
        let zeros = "0".repeat(32);
        for bad in [
            "".to_owned(),
            ONE.to_uppercase(),
            ONE.replacen("00", "ff", 1),
            format!("{ONE}-more"),
            ONE.replace("4bf92f3577b34da6a3ce929d0e0e4736", &zeros),
            ONE.replace("00f067aa0ba902b7", &zeros[..16]),
            ONE[..54].to_owned(),
            format!("{ONE}0"),
            ONE.replace('-', "_"),
            "é".repeat(27) + "x",
        ] {
            assert_eq!(bad.parse::<TraceContext>(), Err(NotTraceparent), "{bad}");
        }
        assert_eq!(TraceContext::from_slice(&[1; 24]), None);
    }
}
