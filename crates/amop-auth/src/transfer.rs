//! Encryption of a file on a private topic: its offer, which only verified subscribers can read,
//! carries a key made for this transfer alone, and every further frame is sealed under it.
//!
//! Two keys are derived from the one in the offer. Chunks have their index as nonce: a chunk that is
//! sent again is the same bytes again, because what is sealed is checked against the hash tree first.
//! All other frames are few, and have nonces drawn at random.

use std::fmt;

use amop_protocol::wire::files::{Id, LABEL, NONCE};
use bytes::{Bytes, BytesMut};
use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, Salt},
};
use zeroize::Zeroizing;

use crate::content::{ContentError, random};

/// Bytes that sealing appends.
pub const TAG: usize = 16;

/// What seals the frames of one transfer.
pub struct TransferKey {
    transfer: Id,
    secret: Zeroizing<[u8; 32]>,
    chunks: LessSafeKey,
    steps: LessSafeKey,
}

/// What a sealed frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sealing {
    /// The chunk of this index.
    Chunk(u64),
    /// Anything else.
    Step,
}

impl TransferKey {
    /// A new key for this transfer.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate(transfer: Id) -> Result<Self, ContentError> {
        Ok(Self::new(transfer, *random()?))
    }

    /// The key that an offer carries.
    pub fn new(transfer: Id, secret: [u8; 32]) -> Self {
        let secret = Zeroizing::new(secret);
        let prk = Salt::new(HKDF_SHA256, &transfer.0).extract(secret.as_slice());
        let derive = |info: &'static [u8]| {
            let info = [info];
            let okm =
                prk.expand(&info, &CHACHA20_POLY1305).expect("invariant: a key is shorter than HKDF gives");
            LessSafeKey::new(UnboundKey::from(okm))
        };
        let (chunks, steps) = (derive(b"amop file chunks"), derive(b"amop file steps"));
        Self { transfer, secret, chunks, steps }
    }

    /// What goes into the offer.
    pub fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// The nonce to seal with; each is for one frame.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn nonce(&self, sealing: Sealing) -> Result<[u8; NONCE], ContentError> {
        let mut nonce = [0; NONCE];
        match sealing {
            Sealing::Chunk(index) => nonce[NONCE - 8..].copy_from_slice(&index.to_be_bytes()),
            Sealing::Step => {
                nonce = *random()?;
                // Not that of a chunk: which of the two keys a frame is under must be clear.
                nonce[0] |= 1;
            }
        }
        Ok(nonce)
    }

    /// Seals `frame` in place from `at` on, and appends the tag.
    pub fn seal(&self, nonce: [u8; NONCE], frame: &mut BytesMut, at: usize) {
        let tag = self.key(&nonce).seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            self.scope(),
            &mut frame[at..],
        );
        frame
            .extend_from_slice(tag.expect("invariant: a frame is shorter than the cipher can take").as_ref());
    }

    /// Opens what was sealed.
    ///
    /// # Errors
    /// When it is not genuine, or of another transfer.
    pub fn open(&self, nonce: [u8; NONCE], sealed: Bytes) -> Result<Bytes, ContentError> {
        // What came from the network is seldom shared; then nothing is copied.
        let mut sealed = sealed.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        let nonce_of = Nonce::assume_unique_for_key(nonce);
        let opened = self.key(&nonce).open_in_place(nonce_of, self.scope(), &mut sealed);
        let len = opened.map_err(|_| ContentError::NotGenuine)?.len();
        sealed.truncate(len);
        Ok(sealed.freeze())
    }

    fn key(&self, nonce: &[u8; NONCE]) -> &LessSafeKey {
        if nonce[..NONCE - 8] == [0; NONCE - 8] { &self.chunks } else { &self.steps }
    }

    fn scope(&self) -> Aad<Vec<u8>> {
        Aad::from([LABEL, &self.transfer.0].concat())
    }
}

impl fmt::Debug for TransferKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransferKey").field("transfer", &self.transfer).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(key: &TransferKey, nonce: [u8; NONCE], text: &[u8]) -> Bytes {
        let mut frame = BytesMut::from(text);
        key.seal(nonce, &mut frame, 0);
        frame.freeze()
    }

    #[test]
    fn what_is_sealed_opens_with_its_key_nonce_and_transfer_only() {
        let key = TransferKey::generate(Id([1; 16])).unwrap();
        let same = TransferKey::new(Id([1; 16]), *key.secret());
        for sealing in [Sealing::Chunk(0), Sealing::Chunk(u64::MAX), Sealing::Step] {
            let nonce = key.nonce(sealing).unwrap();
            let bytes = sealed(&key, nonce, b"content");
            assert_eq!(bytes.len(), 7 + TAG);
            assert_eq!(same.open(nonce, bytes.clone()), Ok(Bytes::from_static(b"content")));
            let others =
                [TransferKey::new(Id([2; 16]), *key.secret()), TransferKey::generate(Id([1; 16])).unwrap()];
            for other in others {
                assert_eq!(other.open(nonce, bytes.clone()), Err(ContentError::NotGenuine));
            }
            let another = key.nonce(Sealing::Chunk(7)).unwrap();
            assert_eq!(key.open(another, bytes.clone()), Err(ContentError::NotGenuine));
            let mut bent = bytes.to_vec();
            bent[2] ^= 1;
            assert_eq!(key.open(nonce, bent.into()), Err(ContentError::NotGenuine));
        }
        assert_eq!(key.open([0; NONCE], Bytes::new()), Err(ContentError::NotGenuine));
    }

    #[test]
    fn chunks_and_steps_never_share_a_key() {
        let key = TransferKey::generate(Id([1; 16])).unwrap();
        for _ in 0..1_000 {
            assert_ne!(key.nonce(Sealing::Step).unwrap()[..4], [0; 4]);
        }
        assert_eq!(key.nonce(Sealing::Chunk(u64::MAX)).unwrap()[..4], [0; 4]);
    }

    #[test]
    fn the_secret_is_not_printed() {
        let key = TransferKey::new(Id([1; 16]), [0xee; 32]);
        assert!(!format!("{key:?}").contains("ee"), "{key:?}");
    }
}
