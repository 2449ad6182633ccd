//! Certificates and keys: what a node is, and whom it believes.
//!
//! A consortium trusts one or more root CAs; each institution's CA is issued by a root, and the
//! leaf certificates of nodes and clients by an institution's CA. Who somebody is comes from the
//! verified leaf alone: role, name, institution, and for nodes the P-256 key that is their id.
//!
//! - [`Authority`] decides whether a certificate chain, or a signature, is genuine.
//! - [`Credentials`] are a node's own chain and key, and the TLS configurations made from them.
//! - [`mint`] makes certificates; nothing in a running node calls it.
//!
//! Invariants: one rule verifies chains, for TLS on both ports and for announcements alike; no
//! TLS session is ever resumed, so every connection verifies its certificate anew; private keys
//! never leave [`Credentials`].

mod client_tls;
mod credentials;
pub mod mint;
pub mod pem;
mod tls;

#[cfg(test)]
mod tests;

pub use self::{
    client_tls::{Agency, Client, ClientTls, Clients, FiscoPaths, Profile, UnknownProfile},
    credentials::{Credentials, LoadError, Paths},
    tls::OVERLAY_ALPN,
};
pub use amop_protocol::certificate::{Role, Subject};
pub use amop_tls::{Authority, ChainError, WrongKey, fingerprint, node_key};
