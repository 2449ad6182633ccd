//! The cryptography used everywhere: ring, AES-128-GCM first.
//!
//! On links where both ends are ours the first suite is the one used, and it costs least for
//! what it gives.

use rustls::{CipherSuite, SupportedCipherSuite, crypto::CryptoProvider};

/// For the overlay, and for client ports and SDKs with the default certificates.
pub fn default() -> CryptoProvider {
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites.sort_by_key(|suite| !is_aes_128(suite));
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
