//! Heartbeats: who answers what.

use super::handshake::Protocol;

/// What a node answers to a 0x13 with this body, if it answers at all.
///
/// On version 1 only the digit `0` is answered; later versions answer anything.
pub fn reply(protocol: Protocol, body: &[u8]) -> Option<&'static [u8]> {
    match protocol {
        Protocol::V1 => (body == b"0").then_some(b"1"),
        Protocol::V2 | Protocol::V3 => Some(b"{\"heartBeat\":1}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_answers_the_digit_and_nothing_else() {
        assert_eq!(reply(Protocol::V1, b"0"), Some(&b"1"[..]));
        for body in [&b""[..], b"1", b"00", b"{\"heartBeat\":0}"] {
            assert_eq!(reply(Protocol::V1, body), None);
        }
    }

    #[test]
    fn later_versions_answer_anything() {
        for body in [&b""[..], b"0", b"{\"heartBeat\":0}", b"\xff"] {
            assert_eq!(reply(Protocol::V2, body), Some(&b"{\"heartBeat\":1}\n"[..]));
            assert_eq!(reply(Protocol::V3, body), Some(&b"{\"heartBeat\":1}\n"[..]));
        }
    }
}
