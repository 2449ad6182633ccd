//! A private topic as its publisher's application holds it.

use std::{collections::BTreeSet, fmt, sync::Arc};

use amop_auth::{PublicKey, content::ContentError};
use amop_protocol::{Topic, broker::event::Mode, wire::recipients::Recipients};
use bytes::Bytes;
use tokio::sync::{Mutex, oneshot};

use super::publisher::{MAX_KEYS, Publisher, Sealed};
use crate::{
    Client, PendingRequest, PrivateError, PublishError, PublishOptions, RequestError, RequestOptions,
    Subscription, error::Failure,
};

/// A private topic that this client publishes: messages reach the subscribers that prove to hold one
/// of its keys, and nobody else. Clones share it; dropping the last ends that.
///
/// Messages are encrypted for those subscribers, unless [`Compatibility`](crate::Compatibility)
/// allows 2.x and one of them speaks nothing better; see [`PrivateTopic::is_encrypted`].
#[derive(Clone, Debug)]
pub struct PrivateTopic(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    /// Has nodes ask this client about subscribers. It goes first: no node asks in vain.
    pub(crate) _push_channel: Subscription,
    pub(crate) client: Client,
    pub(crate) publisher: Arc<Publisher>,
    /// One change of the keys at a time.
    pub(crate) changing: Mutex<()>,
}

impl PrivateTopic {
    /// The topic, with its prefix.
    pub fn topic(&self) -> &Topic {
        self.0.publisher.topic()
    }

    /// The client it belongs to.
    pub fn client(&self) -> &Client {
        &self.0.client
    }

    /// Whether messages are encrypted now. Always true with
    /// [`Compatibility::Version2`](crate::Compatibility::Version2); otherwise false from the moment
    /// when a subscriber was verified by the handshake of 2.x until the connection to the node that
    /// asked about it ends, or its key is taken off the list.
    pub fn is_encrypted(&self) -> bool {
        self.0.publisher.encrypts()
    }

    /// Resolves when a subscriber has been verified and can be sent messages, at once if one ever was, or
    /// when the client is closed. Others may be verified later. Cancel safe.
    pub async fn verified(&self) {
        self.verified_beyond(0).await;
    }

    /// Resolves when subscribers have been verified more than `count` times, see
    /// [`PrivateTopic::verifications`], or when the client is closed. Cancel safe.
    pub async fn verified_beyond(&self, count: u64) {
        let mut verified = self.0.publisher.verified.subscribe();
        tokio::select! {
            // The sender lives as long as this.
            _ = verified.wait_for(|now| *now > count) => {}
            () = self.0.client.closed() => {}
        }
    }

    /// How often a subscriber has been verified. One that connects again is verified again.
    pub fn verifications(&self) -> u64 {
        *self.0.publisher.verified.borrow()
    }

    /// Replaces the keys. Who holds none of them any more receives nothing that is sent after this
    /// has resolved, and could not read it: the others have been given another content key by then,
    /// or 5 s to take it. What is sent meanwhile waits. Who is there already and holds a new key is verified
    /// when it asks again, within a minute.
    ///
    /// Not cancel safe in the sense that a change that has begun is carried through.
    ///
    /// # Errors
    /// When there are too many keys, the system gives no randomness, or the client is closed.
    pub async fn set_keys(&self, keys: impl IntoIterator<Item = PublicKey>) -> Result<(), PrivateError> {
        self.change(check(keys)?).await
    }

    /// As [`Client::publish`], to those that were verified.
    ///
    /// # Errors
    /// As [`Client::publish`].
    pub async fn publish(&self, payload: impl Into<Bytes>) -> Result<(), PublishError> {
        self.publish_with(payload, PublishOptions::default()).await.map(drop)
    }

    /// As [`Client::publish_with`], to those that were verified.
    ///
    /// # Errors
    /// As [`Client::publish_with`].
    pub async fn publish_with(
        &self,
        payload: impl Into<Bytes>,
        options: PublishOptions,
    ) -> Result<Recipients, PublishError> {
        let sealed = self.seal(Mode::Multicast, payload.into()).await?;
        self.0.client.publish_to(self.topic().as_str(), sealed.payload, options).await
    }

    /// As [`Client::request`], to one of those that were verified.
    ///
    /// # Errors
    /// As [`Client::request`], and when the answer was not encrypted by that subscriber.
    pub async fn request(&self, payload: impl Into<Bytes>) -> Result<Bytes, RequestError> {
        self.request_with(payload, RequestOptions::default()).await
    }

    /// As [`Client::request_with`], to one of those that were verified.
    ///
    /// # Errors
    /// As [`PrivateTopic::request`].
    pub async fn request_with(
        &self,
        payload: impl Into<Bytes>,
        options: RequestOptions,
    ) -> Result<Bytes, RequestError> {
        let sealed = self.seal(Mode::Unicast, payload.into()).await?;
        let message = sealed.payload.clone();
        let answer = self.0.client.request_to(self.topic().as_str(), message, options).await?;
        Ok(self.open(&sealed, answer)?)
    }

    /// As [`Client::start_request`], to one of those that were verified.
    ///
    /// # Errors
    /// As [`Client::start_request`].
    pub async fn start_request(
        &self,
        payload: impl Into<Bytes>,
        options: RequestOptions,
    ) -> Result<PendingRequest, RequestError> {
        let sealed = self.seal(Mode::Unicast, payload.into()).await?;
        let (message, opens) = (sealed.payload.clone(), Some((self.0.publisher.clone(), sealed)));
        self.0.client.start_request_to(self.topic().as_str(), message, options, opens).await
    }

    pub(crate) async fn seal(&self, mode: Mode, payload: Bytes) -> Result<Sealed, Failure> {
        if self.0.publisher.is_stale() {
            // Another may have come first; then there is nothing left to do.
            let _ = self.change_if(Publisher::is_stale, self.0.publisher.keys()).await;
        }
        let mut ready = self.0.publisher.ready.subscribe();
        loop {
            // The sender lives as long as this.
            let _ = ready.wait_for(|ready| *ready).await;
            if let Some(sealed) = self.0.publisher.seal(mode, &payload).map_err(Failure::unsealed)? {
                return Ok(sealed);
            }
        }
    }

    /// Reads the answer to a message.
    pub(crate) fn open(&self, sealed: &Sealed, answer: Bytes) -> Result<Bytes, Failure> {
        self.0.publisher.open(sealed, answer).map_err(Failure::unreadable)
    }

    async fn change(&self, keys: Vec<PublicKey>) -> Result<(), PrivateError> {
        self.change_if(|_| true, keys).await
    }

    async fn change_if(
        &self,
        still: impl FnOnce(&Publisher) -> bool,
        keys: Vec<PublicKey>,
    ) -> Result<(), PrivateError> {
        let _turn = self.0.changing.lock().await;
        if !still(&self.0.publisher) {
            return Ok(());
        }
        let (reply, done) = oneshot::channel();
        self.0.client.change_keys(self.0.publisher.clone(), keys, reply).await?;
        done.await.unwrap_or(Err(PrivateError::Closed))
    }
}

/// Each key once, and not too many of them.
pub(crate) fn check(keys: impl IntoIterator<Item = PublicKey>) -> Result<Vec<PublicKey>, PrivateError> {
    let mut distinct = BTreeSet::new();
    for key in keys {
        distinct.insert(key);
        if distinct.len() > MAX_KEYS {
            return Err(PrivateError::TooManyKeys(MAX_KEYS));
        }
    }
    Ok(distinct.into_iter().collect())
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("topic", self.topic()).finish_non_exhaustive()
    }
}

impl From<ContentError> for PrivateError {
    fn from(error: ContentError) -> Self {
        Self::Encryption(error)
    }
}
