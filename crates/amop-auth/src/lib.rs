//! Private topics: who may read them, and how that is proved.
//!
//! A publisher names the [`PublicKey`]s whose holders may receive; a subscriber proves that it holds
//! one by signing a challenge with its [`PrivateKey`]. In the handshake of FISCO BCOS 2.x
//! ([`challenge`]) it signs the challenge and nothing else. In version 2, between extension clients, it
//! signs a [`Statement`] that says who proves what to whom ([`exchange`]), and is given the key
//! ([`content`]) under which the publisher encrypts: nodes see ciphertext only. Files have keys of their
//! own ([`transfer`]).
//!
//! Bytes in, bytes out: files are read, and frames sent, by whoever uses this.

pub mod challenge;
pub mod content;
mod encoding;
pub mod exchange;
mod key;
mod pkcs12;
mod statement;
pub mod transfer;

pub use crate::{
    key::{KeyError, PrivateKey, PublicKey, SIGNATURE_BYTES},
    pkcs12::Pkcs12Error,
    statement::{NONCE_BYTES, Party, Proven, Statement},
};

/// The channel specification's vectors.
#[cfg(test)]
const VECTORS: &str = include_str!("../../amop-protocol/tests/data/channel-v2.json");
