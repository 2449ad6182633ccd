//! Certificates and keys: what a node is, and whom it believes.
//!
//! A consortium trusts one or more root CAs; each institution's CA is issued by a root, and the
//! leaf certificates of nodes and clients by an institution's CA. Who somebody is comes from the
//! verified leaf alone: role, name, institution, and for nodes the P-256 key that is their id.
//!
//! - [`Authority`], of `amop-tls`, decides whether a certificate chain, or a signature, is genuine.
//! - [`Credentials`] are a node's own chain and key, and the TLS configurations made from them.
//! - [`ClientTls`] is what a client port's listener serves with: the default certificates, or
//!   FISCO BCOS's.
//! - [`Handshakes`] bounds the TLS handshakes under way on a port.
//! - [`mint`] makes certificates; nothing in a running node calls it.
//!
//! Invariants: one rule verifies chains, for TLS on both ports and for announcements alike; no
//! TLS session is ever resumed, so every connection verifies its certificate anew; private keys
//! never leave [`Credentials`].

mod admin_tls;
mod client_tls;
mod credentials;
mod fisco;
mod handshakes;
pub mod mint;
pub mod pem;
mod tls;

#[cfg(test)]
mod tests;

pub use self::{
    admin_tls::AskingTls,
    client_tls::{Client, ClientTls, Clients},
    credentials::{Credentials, LoadError, Paths},
    fisco::{Agency, FiscoPaths},
    handshakes::{BACKLOG, Handshake, Handshakes, keep_unsent_low},
    tls::{OVERLAY_ALPN, OVERLAY_DATA_ALPN},
};
pub use amop_protocol::certificate::{Role, Subject};
pub use amop_tls::fisco::Kind as FiscoKind;
pub use amop_tls::{
    Authority, ChainError, Profile, Throttle, UnknownProfile, WrongKey, fingerprint, node_key,
};
