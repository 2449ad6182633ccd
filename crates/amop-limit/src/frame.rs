//! Frames: `u32` little-endian length of the body, `u8` kind, body.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Bytes before a body.
pub const HEADER: usize = 5;
/// Largest body.
pub const MAX_BODY: usize = 16 * 1024 * 1024;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Towards the responder.
    Request,
    /// Towards the requester.
    Answer,
    /// To every subscriber, at every relay.
    Multicast,
    /// First of a client: a [`Role`].
    Hello,
}

impl Kind {
    fn parse(byte: u8) -> io::Result<Self> {
        Ok(match byte {
            0 => Self::Request,
            1 => Self::Answer,
            2 => Self::Multicast,
            3 => Self::Hello,
            other => return Err(broken(format!("no kind of frame: {other}"))),
        })
    }
}

/// What a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Sends requests. One at a time: answers go to the last that said so.
    Requester,
    /// Answers them. One at a time, too.
    Responder,
    /// Is sent what is multicast.
    Subscriber,
    /// Sends what is multicast, or nothing.
    Other,
}

impl Role {
    /// As it stands in a [`Kind::Hello`].
    pub fn byte(self) -> u8 {
        match self {
            Self::Requester => b'Q',
            Self::Responder => b'R',
            Self::Subscriber => b'S',
            Self::Other => b'O',
        }
    }

    pub(crate) fn parse(body: &[u8]) -> io::Result<Self> {
        Ok(match body {
            b"Q" => Self::Requester,
            b"R" => Self::Responder,
            b"S" => Self::Subscriber,
            b"O" => Self::Other,
            _ => return Err(broken("no role of a client".into())),
        })
    }
}

/// A whole frame.
///
/// # Panics
/// When the body exceeds [`MAX_BODY`].
pub fn encode(kind: Kind, body: &[u8]) -> Bytes {
    assert!(body.len() <= MAX_BODY, "a body of at most {MAX_BODY} bytes");
    let mut frame = BytesMut::with_capacity(HEADER + body.len());
    frame.put_u32_le(body.len() as u32);
    frame.put_u8(kind as u8);
    frame.put_slice(body);
    frame.freeze()
}

/// What a buffer begins with.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// The longest run of complete frames of one kind, taken from the buffer as one slice.
    Run(Kind, Bytes),
    /// Not one complete frame; this many bytes make one, as far as can be told.
    Incomplete(usize),
}

/// Takes the longest run of complete frames of one kind off the front.
///
/// # Errors
/// When it begins with what is no frame.
pub fn take_run(buffer: &mut BytesMut) -> io::Result<Next> {
    let mut run = None;
    let mut end = 0;
    while let Some((kind, whole)) = head(&buffer[end..])? {
        if run.is_some_and(|run| run != kind) {
            break;
        }
        if buffer.len() - end < whole {
            if run.is_none() {
                return Ok(Next::Incomplete(whole));
            }
            break;
        }
        run = Some(kind);
        end += whole;
    }
    Ok(match run {
        Some(kind) => Next::Run(kind, buffer.split_to(end).freeze()),
        None => Next::Incomplete(HEADER),
    })
}

/// The bodies of a run that [`take_run`] gave.
pub fn bodies(mut run: Bytes) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let (_, whole) = head(&run).ok()??;
        let mut frame = (whole <= run.len()).then(|| run.split_to(whole))?;
        frame.advance(HEADER);
        Some(frame)
    })
}

/// Kind and whole length of the frame that begins here; `None` if that cannot be told yet.
fn head(bytes: &[u8]) -> io::Result<Option<(Kind, usize)>> {
    let Some((length, rest)) = bytes.split_first_chunk() else { return Ok(None) };
    let Some(kind) = rest.first() else { return Ok(None) };
    let body = u32::from_le_bytes(*length) as usize;
    if body > MAX_BODY {
        return Err(broken(format!("a body of {body} bytes, where {MAX_BODY} are allowed")));
    }
    Ok(Some((Kind::parse(*kind)?, HEADER + body)))
}

fn broken(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_ends_where_the_kind_changes() {
        let mut buffer = BytesMut::new();
        for (kind, body) in [(Kind::Request, "one"), (Kind::Request, ""), (Kind::Answer, "two")] {
            buffer.extend_from_slice(&encode(kind, body.as_bytes()));
        }
        let Next::Run(Kind::Request, run) = take_run(&mut buffer).unwrap() else { panic!("requests") };
        assert_eq!(bodies(run).collect::<Vec<_>>(), ["one", ""]);
        let Next::Run(Kind::Answer, run) = take_run(&mut buffer).unwrap() else { panic!("answers") };
        assert_eq!(bodies(run).collect::<Vec<_>>(), ["two"]);
        assert_eq!(take_run(&mut buffer).unwrap(), Next::Incomplete(HEADER));
    }

    #[test]
    fn what_is_not_complete_says_how_much_is_missing() {
        let whole = encode(Kind::Multicast, &[7; 100]);
        for cut in 0..whole.len() {
            let mut buffer = BytesMut::from(&whole[..cut]);
            let expected = if cut < HEADER { HEADER } else { whole.len() };
            assert_eq!(take_run(&mut buffer).unwrap(), Next::Incomplete(expected), "cut at {cut}");
            assert_eq!(buffer.len(), cut);
        }
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        for bytes in [&[0, 0, 0, 0, 9][..], &[255; 5]] {
            assert!(take_run(&mut BytesMut::from(bytes)).is_err());
        }
    }
}
