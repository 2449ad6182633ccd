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
//! - [`Store`] watches the files that all of it came from, and puts in force what has become of
//!   them: all of it, or nothing. [`Fact`]s say what is in force.
//! - [`Handshakes`] bounds the TLS handshakes under way on a port.
//! - [`towards_servers`] is TLS with servers that are no part of the consortium.
//! - [`mint`] makes certificates; nothing in a running node calls it.
//!
//! Invariants: one rule verifies chains, for TLS on both ports and for announcements alike; no
//! TLS session is ever resumed, so every connection verifies its certificate anew; private keys
//! never leave [`Credentials`]; certificates change all together, verified, or not at all, and never who the
//! node is.

mod admin_tls;
mod client_tls;
mod credentials;
mod crl;
mod error;
mod facts;
mod fisco;
mod handshakes;
pub mod mint;
pub mod pem;
mod server_tls;
mod store;
mod tls;

#[cfg(test)]
mod tests;

pub use self::{
    admin_tls::AskingTls,
    client_tls::{Client, ClientTls, Clients, Serving},
    credentials::{Credentials, Renewal},
    error::{LoadError, Paths},
    facts::{Fact, Of},
    fisco::{Agency, FiscoPaths},
    handshakes::{BACKLOG, Handshake, Handshakes, keep_unsent_low},
    server_tls::towards_servers,
    store::{Changes, Files, Refused, Served, Store},
    tls::{OVERLAY_ALPN, OVERLAY_DATA_ALPN},
};
pub use amop_protocol::certificate::{Role, Subject};
pub use amop_tls::fisco::Kind as FiscoKind;
pub use amop_tls::{
    Authority, ChainError, Profile, Throttle, UnknownProfile, WrongKey, fingerprint, node_key, while_valid,
};
