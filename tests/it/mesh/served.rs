//! Subscribers that answer.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use amop_client::{Client, Delivery};
use amop_testkit::wait;
use bytes::Bytes;
use futures::StreamExt;

use super::spawn;

/// A subscription that is served in the background until its client is dropped or closed.
pub(crate) struct Served {
    pub(crate) client: Client,
    handled: Arc<AtomicUsize>,
}

impl Served {
    /// Every request is answered with what it says.
    pub(crate) async fn echo(client: Client, topic: &str) -> Self {
        Self::with(client, topic, |delivery| {
            let payload = delivery.payload.clone();
            delivery.answer(payload);
        })
        .await
    }

    /// Every request is answered with `answer`.
    pub(crate) async fn answer(client: Client, topic: &str, answer: &'static str) -> Self {
        Self::with(client, topic, move |delivery| delivery.answer(Bytes::from_static(answer.as_bytes())))
            .await
    }

    /// Every message goes to `handle`.
    pub(crate) async fn with(
        client: Client,
        topic: &str,
        mut handle: impl FnMut(Delivery) + Send + 'static,
    ) -> Self {
        let mut subscription =
            wait::within("a subscription", client.subscribe(topic)).await.expect("subscribed");
        assert!(subscription.is_complete(), "all nodes confirmed it");
        let handled = Arc::new(AtomicUsize::new(0));
        let count = handled.clone();
        spawn(async move {
            while let Some(delivery) = subscription.next().await {
                count.fetch_add(1, Ordering::SeqCst);
                handle(delivery);
            }
        });
        Self { client, handled }
    }

    /// Messages that reached it.
    pub(crate) fn handled(&self) -> usize {
        self.handled.load(Ordering::SeqCst)
    }
}
