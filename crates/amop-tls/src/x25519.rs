//! X25519, in TLS 1.3 only.
//!
//! The TLS library inside the Java SDKs up to 2.10.0, an OpenSSL 1.0.2 with changes, offers the
//! number of this group first, cannot compute on it, and breaks off when a server takes it. It
//! speaks TLS 1.2 at most, and whoever does offers P-256 beside it.

use rustls::{
    Error, NamedGroup, ProtocolVersion,
    crypto::{ActiveKeyExchange, CompletedKeyExchange, SupportedKxGroup, ring::kx_group::X25519},
    ffdhe_groups::FfdheGroup,
};

/// Puts the restricted group in the place of the full one; leaves others as they are.
pub(crate) fn in_tls_1_3_only(group: &mut &'static dyn SupportedKxGroup) {
    if group.name() == NamedGroup::X25519 {
        *group = &Group;
    }
}

#[derive(Debug)]
struct Group;

impl SupportedKxGroup for Group {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        X25519.start()
    }

    fn start_and_complete(&self, peer: &[u8]) -> Result<CompletedKeyExchange, Error> {
        X25519.start_and_complete(peer)
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }

    fn usable_for_version(&self, version: ProtocolVersion) -> bool {
        version == ProtocolVersion::TLSv1_3
    }
}
