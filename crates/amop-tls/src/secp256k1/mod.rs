//! The curve secp256k1, which rustls lacks: a key exchange group, signatures, and keys.
//!
//! FISCO BCOS 2.x uses the curve for certificates, and its Python SDK offers no other group for
//! the key exchange. The arithmetic is libsecp256k1's. In TLS 1.2 only: TLS 1.3 has no code
//! point under which a certificate on this curve could sign, and OpenSSL takes no share on it.
//!
//! Points are uncompressed, always: the fork of Go's TLS that the Go SDK uses knows no others.
//! Signatures with a high s are accepted, as OpenSSL makes them half of the time.

mod exchange;
mod key;
mod signature;
#[cfg(test)]
mod tests;

use secp256k1::PublicKey;

pub use self::{
    exchange::GROUP,
    key::{BadKey, PrivateKey},
    signature::{ECDSA_SHA256, ECDSA_SHA384, ECDSA_SHA512},
};

/// Bytes of a point: `04`, x, y.
pub const POINT_BYTES: usize = 65;

/// A point as it may stand in certificates and key exchanges: uncompressed, on the curve.
fn point(bytes: &[u8]) -> Option<PublicKey> {
    // The library also takes compressed and hybrid forms, which no peer of ours may send.
    let bytes: &[u8; POINT_BYTES] = bytes.try_into().ok().filter(|_| bytes.first() == Some(&4))?;
    PublicKey::from_slice(bytes).ok()
}

/// Whether `bytes` are an uncompressed point on the curve.
pub fn is_point(bytes: &[u8]) -> bool {
    point(bytes).is_some()
}
