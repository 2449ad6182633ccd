//! The cryptography used everywhere: ring, AES-128-GCM first.
//!
//! On links where both ends are ours the first suite is the one used, and it costs least for
//! what it gives.

use std::sync::Arc;

use rustls::{
    CipherSuite, Error, SupportedCipherSuite,
    crypto::{CryptoProvider, KeyProvider, ring},
    sign::SigningKey,
};
use rustls_pki_types::PrivateKeyDer;

use crate::{secp256k1, x25519};

/// For the overlay, and for client ports and SDKs with the default certificates.
pub fn default() -> CryptoProvider {
    let mut provider = ring::default_provider();
    provider.cipher_suites.sort_by_key(|suite| !is_aes_128(suite));
    provider.kx_groups.iter_mut().for_each(x25519::in_tls_1_3_only);
    provider
}

/// For the certificates of FISCO BCOS: with the group secp256k1, last, and keys on that curve.
///
/// The verification of signatures is that of [`crate::fisco::Authority`], which asks no provider.
pub fn fisco() -> CryptoProvider {
    let mut provider = default();
    provider.kx_groups.push(secp256k1::GROUP);
    provider.key_provider = &Keys;
    provider
}

fn is_aes_128(suite: &SupportedCipherSuite) -> bool {
    matches!(
        suite.suite(),
        CipherSuite::TLS13_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
    )
}

/// Keys on secp256k1, and all that ring has.
#[derive(Debug)]
struct Keys;

impl KeyProvider for Keys {
    fn load_private_key(&self, der: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, Error> {
        match secp256k1::PrivateKey::from_der(&der) {
            Ok(key) => Ok(Arc::new(key)),
            Err(_) => ring::sign::any_supported_type(&der),
        }
    }
}
