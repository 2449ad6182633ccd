//! Identifiers: small copies with a short `Display`, so that every log line can carry them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A node: the x coordinate of its P-256 leaf key, 32 bytes.
///
/// SDKs know a node by the 64-byte public point in 128 hex digits ([`NodeKey`]); this is its
/// first half, which already determines the key pair up to its sign, so nobody else can own it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId([u8; 32]);

impl NodeId {
    /// The id with these bytes.
    pub const fn new(x: [u8; 32]) -> Self {
        Self(x)
    }

    /// The id in `bytes`, if they are exactly 32.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The id in 64 hex digits, as [`NodeId::to_hex`] writes it.
    pub fn from_hex(digits: &str) -> Option<Self> {
        from_hex(digits).map(Self)
    }

    /// All 64 lower-case hex digits; `Display` gives the first eight.
    pub fn to_hex(&self) -> String {
        hex(&self.0)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0[..4]))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A node's public key as SDKs name nodes: the uncompressed point without its leading `04`, 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeKey([u8; 64]);

impl NodeKey {
    /// The key with this point.
    pub const fn new(point: [u8; 64]) -> Self {
        Self(point)
    }

    /// The id that goes with this key: its x coordinate.
    pub fn id(&self) -> NodeId {
        let mut x = [0; 32];
        x.copy_from_slice(&self.0[..32]);
        NodeId(x)
    }

    /// The raw point.
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl fmt::Display for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id().fmt(f)
    }
}

/// A client certificate: SHA-256 over its DER bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint with these bytes.
    pub const fn new(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// The fingerprint in `bytes`, if they are exactly 32.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The fingerprint in 64 hex digits, as [`Fingerprint::to_hex`] writes it.
    pub fn from_hex(digits: &str) -> Option<Self> {
        from_hex(digits).map(Self)
    }

    /// All 64 lower-case hex digits.
    pub fn to_hex(&self) -> String {
        hex(&self.0)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0[..4]))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One client session on this node, numbered as sessions come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(pub u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}", self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The 32 bytes by which a channel frame and its answer are matched; opaque (channel spec, section 2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub [u8; 32]);

impl Seq {
    /// Thirty-two lower-case hex digits, as SDKs write them: safe for clients that decode seqs as text.
    pub fn from_u128(value: u128) -> Self {
        let mut digits = [0; 32];
        for (i, digit) in digits.iter_mut().enumerate() {
            *digit = HEX[(value >> (124 - 4 * i)) as usize & 0xf];
        }
        Self(digits)
    }

    /// The number a seq made by [`Seq::from_u128`] holds; `None` for any other seq.
    pub fn to_u128(self) -> Option<u128> {
        self.0.iter().try_fold(0, |value, digit| {
            let nibble = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                _ => return None,
            };
            Some(value << 4 | u128::from(nibble))
        })
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A client as its node verified it; travels with every message it sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The certificate it connected with.
    pub fingerprint: Fingerprint,
    /// The common name in that certificate.
    pub name: std::sync::Arc<str>,
}

/// The version of a record: compares by epoch first, so that a restart always wins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// New and higher at every start of the node.
    pub epoch: u64,
    /// Grows with every change of the record within the epoch; 0 means "nothing yet".
    pub sequence: u64,
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn from_hex(digits: &str) -> Option<[u8; 32]> {
    let digits: &[u8; 64] = digits.as_bytes().try_into().ok()?;
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let nibble = |digit: u8| char::from(digit).to_digit(16);
        *byte = (nibble(pair[0])? << 4 | nibble(pair[1])?) as u8;
    }
    Some(bytes)
}

/// Lower-case hex digits of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|b| [b >> 4, b & 0xf]).map(|n| char::from(HEX[usize::from(n)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seq_holds_a_number_and_gives_it_back() {
        for value in [0, 1, u128::MAX, 0x1122_3344_5566_7788_9900_aabb_ccdd_0001] {
            assert_eq!(Seq::from_u128(value).to_u128(), Some(value));
        }
        assert_eq!(Seq(*b"11223344556677889900AABBCCDD0001").to_u128(), None, "upper case is not ours");
    }

    #[test]
    fn an_id_is_the_first_half_of_the_key() {
        let mut point = [7; 64];
        point[32..].fill(9);
        assert_eq!(NodeKey::new(point).id(), NodeId::new([7; 32]));
        assert!(NodeKey::new(point).to_string().starts_with(&NodeId::new([7; 32]).to_hex()));
    }
}
