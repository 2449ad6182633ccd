//! Which answer belongs to which request, where the system does not say: by the number that both begin with.

use std::{collections::HashMap, sync::Arc};

use amop_load::system::Failure;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Requests of one client without an answer. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Waiting(Arc<Mutex<HashMap<u64, oneshot::Sender<Bytes>>>>);

impl Waiting {
    /// Expects the answer to this payload; to be called before it is sent.
    ///
    /// # Errors
    /// When the payload is too short to have a number. What is returned fails when nothing will come any more.
    pub fn expect(
        &self,
        payload: &[u8],
    ) -> Result<impl Future<Output = Result<Bytes, Failure>> + Send + use<>, Failure> {
        let number =
            number(payload).ok_or_else(|| Failure::new("misuse", "a payload begins with a number"))?;
        let (resolve, answer) = oneshot::channel();
        self.0.lock().insert(number, resolve);
        Ok(async move { answer.await.map_err(|_| Failure::new("closed", "the connection has ended")) })
    }

    /// Gives an answer to whoever waits for it, if somebody does.
    pub fn resolve(&self, answer: Bytes) {
        let waits = number(&answer).and_then(|number| self.0.lock().remove(&number));
        if let Some(waits) = waits {
            // Whoever asked may have given up.
            let _ = waits.send(answer);
        }
    }
}

fn number(payload: &[u8]) -> Option<u64> {
    payload.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use amop_load::payload::{Template, acknowledgement};

    use super::*;

    #[tokio::test]
    async fn answers_find_their_requests() {
        let (waiting, template) = (Waiting::default(), Template::new(64));
        let (one, other) = (template.fill(0), template.fill(0));
        let (first, second) = (waiting.expect(&one).unwrap(), waiting.expect(&other).unwrap());
        waiting.resolve(acknowledgement(&other));
        waiting.resolve(acknowledgement(&one));
        waiting.resolve(acknowledgement(&one));
        assert_eq!((first.await, second.await), (Ok(acknowledgement(&one)), Ok(acknowledgement(&other))));
        assert!(waiting.expect(b"short").is_err());
    }
}
