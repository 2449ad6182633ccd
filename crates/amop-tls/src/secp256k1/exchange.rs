//! ECDHE on secp256k1 for TLS 1.2.

use rustls::{
    Error, NamedGroup, PeerMisbehaved, ProtocolVersion,
    crypto::{ActiveKeyExchange, SharedSecret, SupportedKxGroup},
    ffdhe_groups::FfdheGroup,
};
use secp256k1::{SecretKey, ecdh::shared_secret_point};
use zeroize::Zeroizing;

use super::{POINT_BYTES, PrivateKey, point};

/// The group, by its number in the registry of TLS.
const NAME: NamedGroup = NamedGroup::Unknown(0x0016);

/// The group secp256k1.
pub static GROUP: &dyn SupportedKxGroup = &Group;

#[derive(Debug)]
struct Group;

impl SupportedKxGroup for Group {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let key = PrivateKey::generate().map_err(|_| Error::FailedToGetRandomBytes)?;
        Ok(Box::new(Exchange { public: key.public(), key }))
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn name(&self) -> NamedGroup {
        NAME
    }

    fn usable_for_version(&self, version: ProtocolVersion) -> bool {
        version == ProtocolVersion::TLSv1_2
    }
}

/// One exchange under way.
pub(super) struct Exchange {
    pub(super) key: PrivateKey,
    pub(super) public: [u8; POINT_BYTES],
}

impl ActiveKeyExchange for Exchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let x = shared_x(self.key.secret(), peer).ok_or(PeerMisbehaved::InvalidKeyShare)?;
        Ok(SharedSecret::from(x.as_slice()))
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn pub_key(&self) -> &[u8] {
        &self.public
    }

    fn group(&self) -> NamedGroup {
        NAME
    }
}

/// The x coordinate of both sides' common point, with its leading zeros, as TLS wants it.
fn shared_x(secret: &SecretKey, peer: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let both = Zeroizing::new(shared_secret_point(&point(peer)?, secret));
    let mut x = Zeroizing::new([0; 32]);
    x.copy_from_slice(&both[..32]);
    Some(x)
}
