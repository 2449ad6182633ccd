//! The limit: what is left of a node when everything is taken away that TLS does not need.
//!
//! ```text
//! client ── mutual TLS ── relay ── mutual TLS ── relay ── mutual TLS ── client
//! ```
//!
//! A [`relay`] forwards length-prefixed frames ([`frame`]) or bare bytes. It has no topics, no routes, no
//! identities beyond TLS, no acknowledgements, no timeouts, no log and no metrics; it is no product, it is what the
//! figures of products are divided by. [`client`] is its other end. The cryptography is pinned in [`tls`].
//! [`compare`] puts the same work to several systems in turn and tells how they compare; [`setup`] is what they
//! are started with.
//!
//! Never a dependency of what ships: benches measure with it.

pub mod answers;
pub mod client;
pub mod compare;
pub mod frame;
pub mod relay;
pub mod setup;
mod stream;
pub mod tls;
