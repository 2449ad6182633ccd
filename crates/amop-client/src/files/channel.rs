//! The frames of one transfer, sealed if it has a key.

use std::sync::Arc;

use amop_auth::transfer::{Sealing, TAG, TransferKey};
use amop_protocol::wire::files::{Frame, Id, Step, sealed_head};
use bytes::Bytes;

use super::error::FileError;

/// What the two ends of a transfer share.
#[derive(Clone, Debug)]
pub(super) struct Channel {
    pub(super) transfer: Id,
    pub(super) key: Option<Arc<TransferKey>>,
}

impl Channel {
    pub(super) fn new(transfer: Id, key: Option<[u8; 32]>) -> Self {
        Self { transfer, key: key.map(|key| Arc::new(TransferKey::new(transfer, key))) }
    }

    /// The payload that carries a step other than a chunk.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub(super) fn encode(&self, step: Step) -> Result<Bytes, FileError> {
        let frame = Frame { transfer: self.transfer, step };
        let Some(key) = &self.key else { return Ok(frame.encode()) };
        let nonce = key.nonce(Sealing::Step).map_err(FileError::Encryption)?;
        let mut sealed = sealed_head(self.transfer, nonce, 256 + TAG);
        let at = sealed.len();
        frame.encode_inner(&mut sealed);
        key.seal(nonce, &mut sealed, at);
        Ok(sealed.freeze())
    }

    /// What a payload says; `None` if it is not of this transfer, or not sealed as it must be.
    pub(super) fn decode(&self, payload: &Bytes) -> Option<Step> {
        self.open(Frame::decode(payload).ok()?)
    }

    /// What a frame says; `None` as for [`Channel::decode`].
    pub(super) fn open(&self, frame: Frame) -> Option<Step> {
        let frame = match (&self.key, frame) {
            (Some(key), Frame { step: Step::Sealed { nonce, sealed }, .. }) => {
                Frame::decode_inner(key.open(nonce, sealed).ok()?).ok()?
            }
            (None, frame) if !matches!(frame.step, Step::Sealed { .. }) => frame,
            _ => return None,
        };
        (frame.transfer == self.transfer).then_some(frame.step)
    }
}

#[cfg(test)]
mod tests {
    use amop_protocol::wire::files::State;

    use super::*;

    #[test]
    fn a_channel_with_a_key_takes_nothing_else() {
        let (plain, sealed) = (Channel::new(Id([1; 16]), None), Channel::new(Id([1; 16]), Some([2; 32])));
        let other = Channel::new(Id([1; 16]), Some([3; 32]));
        let step = || Step::State(State::Done { receiver: Id([9; 16]) });
        assert_eq!(sealed.decode(&sealed.encode(step()).unwrap()), Some(step()));
        assert_eq!(plain.decode(&plain.encode(step()).unwrap()), Some(step()));
        assert_eq!(sealed.decode(&plain.encode(step()).unwrap()), None);
        assert_eq!(sealed.decode(&other.encode(step()).unwrap()), None);
        assert_eq!(plain.decode(&sealed.encode(step()).unwrap()), None);
        assert_eq!(Channel::new(Id([2; 16]), None).decode(&plain.encode(step()).unwrap()), None);
        assert_eq!(plain.decode(&Bytes::from_static(b"hello")), None);
    }
}
