//! ECDSA on secp256k1, verified: in certificates and handshakes.

use ring::digest::{self, SHA256, SHA384, SHA512};
use rustls_pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, alg_id};
use secp256k1::{Message, ecdsa};

use super::point;

/// ECDSA with SHA-256.
pub static ECDSA_SHA256: &dyn SignatureVerificationAlgorithm =
    &Algorithm { hash: &SHA256, id: alg_id::ECDSA_SHA256 };
/// ECDSA with SHA-384, cut to the curve's 256 bits.
pub static ECDSA_SHA384: &dyn SignatureVerificationAlgorithm =
    &Algorithm { hash: &SHA384, id: alg_id::ECDSA_SHA384 };
/// ECDSA with SHA-512, cut to the curve's 256 bits.
pub static ECDSA_SHA512: &dyn SignatureVerificationAlgorithm =
    &Algorithm { hash: &SHA512, id: alg_id::ECDSA_SHA512 };

#[derive(Debug)]
struct Algorithm {
    hash: &'static digest::Algorithm,
    id: AlgorithmIdentifier,
}

impl SignatureVerificationAlgorithm for Algorithm {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let key = point(public_key).ok_or(InvalidSignature)?;
        let mut signature = ecdsa::Signature::from_der(signature).map_err(|_| InvalidSignature)?;
        // The library refuses s above half the order, which others make as often as not.
        signature.normalize_s();
        let mut hash = [0; 32];
        hash.copy_from_slice(&digest::digest(self.hash, message).as_ref()[..32]);
        signature.verify(Message::from_digest(hash), &key).map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_P256K1
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.id
    }
}
