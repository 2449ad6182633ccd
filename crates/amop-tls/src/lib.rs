//! TLS as AMOP's certificates need it, for nodes and SDKs alike.
//!
//! - [`Authority`] is the consortium's rule: whom the default certificates vouch for.
//! - [`fisco::Authority`] is the rule for FISCO BCOS certificates, on client ports only.
//! - [`Verifier`] is the one adapter between a [`Rule`] and rustls; [`ChainError`] says why a
//!   certificate is refused, and what to do.
//! - [`Revocations`] are what CAs have taken back; both rules refuse it.
//! - [`provider`] is the cryptography: ring, and [`secp256k1`].
//!
//! Invariants: a chain is verified anew on every connection; no host name decides anything; all
//! that is read from certificates is bounded and never panics.

mod consortium;
mod der;
mod error;
pub mod fisco;
mod node_id;
mod profile;
pub mod provider;
mod revocation;
pub mod secp256k1;
mod throttle;
mod verifier;
mod x25519;

use std::time::Duration;

use amop_protocol::certificate::Description;
use rustls_pki_types::{CertificateDer, UnixTime};

pub use self::{
    consortium::{Authority, Holder, signed_message},
    error::ChainError,
    node_id::{WrongKey, fingerprint, node_key},
    profile::{Profile, UnknownProfile},
    revocation::{Crl, CrlError, Revocations, is_issued_by, serial_from_hex, serial_of},
    throttle::Throttle,
    verifier::{Rule, Verifier, refusal},
};

/// Most certificates a presented chain may hold: leaf, institution CA, and a root or two that came along.
pub const MAX_CHAIN: usize = 4;
/// Largest certificate that is looked at, in bytes.
pub const MAX_CERTIFICATE_BYTES: usize = 16 * 1024;

/// Now or, if the leaf has expired, the last moment it was valid: for asking whether a chain that was
/// verified when its connection began would still be believed.
pub fn while_valid(chain: &[CertificateDer<'_>]) -> UnixTime {
    let now = UnixTime::now();
    let leaf = chain.first().and_then(|leaf| Description::parse(leaf).ok());
    match leaf.and_then(|leaf| u64::try_from(leaf.not_after).ok()) {
        Some(end) if end < now.as_secs() => UnixTime::since_unix_epoch(Duration::from_secs(end)),
        _ => now,
    }
}

/// A chain's leaf and the rest, if there is one and no more than anybody needs.
fn chain_of_bounded_size<'a, 'c>(
    chain: &'a [CertificateDer<'c>],
) -> Result<(&'a CertificateDer<'c>, &'a [CertificateDer<'c>]), ChainError> {
    let (leaf, rest) = chain.split_first().ok_or(ChainError::Missing)?;
    if chain.len() > MAX_CHAIN || chain.iter().any(|c| c.len() > MAX_CERTIFICATE_BYTES) {
        return Err(ChainError::TooLarge);
    }
    Ok((leaf, rest))
}
