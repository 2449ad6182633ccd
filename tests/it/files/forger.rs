//! Ends of transfers that do as they like, over a plain client.

use amop_client::{Client, Delivery, RequestError, Subscription};
use amop_protocol::wire::files::{Frame, Id, Offer, Range, Step};
use amop_testkit::wait;
use blake3::{
    Hasher,
    hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root},
};
use bytes::Bytes;
use futures::StreamExt;

use super::{CHUNK, content};

/// Names a transfer, or a receiver.
pub(super) fn id(number: u64) -> Id {
    Id(content(16, number).try_into().expect("16 bytes"))
}

/// What offers this content under this name.
pub(super) fn offer(name: &str, content: &[u8]) -> Offer {
    let root = *blake3::hash(content).as_bytes();
    Offer { name: name.into(), size: content.len() as u64, media_type: String::new(), root, key: None }
}

/// A chunk of this content, with its proof.
pub(super) fn chunk(content: &[u8], index: usize) -> Step {
    let data = content.chunks(CHUNK).nth(index).expect("such a chunk");
    Step::Chunk { index: index as u64, proof: proof(content, index), data: Bytes::copy_from_slice(data) }
}

/// The hashes beside a chunk on its way up.
pub(super) fn proof(content: &[u8], index: usize) -> Bytes {
    let leaf = |(at, data): (usize, &[u8])| {
        Hasher::new().set_input_offset((at * CHUNK) as u64).update(data).finalize_non_root()
    };
    let mut level: Vec<ChainingValue> = content.chunks(CHUNK).enumerate().map(leaf).collect();
    let (mut proof, mut at) = (Vec::new(), index);
    while level.len() > 1 {
        proof.extend(level.get(at ^ 1).into_iter().flatten());
        let join = |pair: &[ChainingValue]| match pair {
            [left, right] => merge_subtrees_non_root(left, right, Mode::Hash),
            left => left[0],
        };
        level = level.chunks(2).map(join).collect();
        at /= 2;
    }
    proof.into()
}

/// Asks whoever has this inbox something about a transfer; what is no frame is no answer.
pub(super) async fn say(client: &Client, inbox: Id, transfer: Id, step: Step) -> Result<Step, RequestError> {
    let frame = Frame { transfer, step }.encode();
    let answer = wait::within("an answer", client.request(&inbox.inbox(), frame)).await?;
    Ok(Frame::decode(&answer).expect("a frame").step)
}

/// Waits for what comes to an inbox; says that it is understood.
pub(super) async fn told(inbox: &mut Subscription) -> Step {
    let delivery = wait::within("a frame", inbox.next()).await.expect("a client");
    let Frame { transfer, step } = Frame::decode(&delivery.payload).expect("a frame");
    delivery.answer(Frame { transfer, step: Step::Noted }.encode());
    step
}

/// A sender.
pub(super) struct Forger {
    pub(super) client: Client,
    pub(super) transfer: Id,
    pub(super) inbox: Subscription,
}

impl Forger {
    pub(super) async fn new(client: &Client, number: u64) -> Self {
        let transfer = id(number);
        let inbox = client.subscribe(&transfer.inbox()).await.expect("an inbox");
        Self { client: client.clone(), transfer, inbox }
    }

    /// Offers a file; gives what is answered.
    pub(super) async fn offer(&self, offer: Offer) -> Result<Step, RequestError> {
        let frame = Frame { transfer: self.transfer, step: Step::Offer(offer) }.encode();
        let answer = wait::within("an answer", self.client.request("files", frame)).await?;
        Ok(Frame::decode(&answer).expect("a frame").step)
    }

    /// Waits until the file is wanted; gives by whom.
    pub(super) async fn accepted(&mut self) -> Id {
        loop {
            if let Step::Accept { receiver, .. } = told(&mut self.inbox).await {
                return receiver;
            }
        }
    }

    pub(super) async fn say(&self, receiver: Id, step: Step) -> Result<Step, RequestError> {
        say(&self.client, receiver, self.transfer, step).await
    }
}

/// A receiver.
pub(super) struct Impostor {
    pub(super) client: Client,
    pub(super) receiver: Id,
    topic: Subscription,
    inbox: Subscription,
}

impl Impostor {
    pub(super) async fn new(client: Client, number: u64) -> Self {
        let receiver = id(number);
        let topic = client.subscribe("files").await.expect("a topic");
        let inbox = client.subscribe(&receiver.inbox()).await.expect("an inbox");
        Self { client, receiver, topic, inbox }
    }

    /// Waits for an offer, says that it was seen; gives its transfer.
    pub(super) async fn offered(&mut self) -> Id {
        let delivery = wait::within("an offer", self.topic.next()).await.expect("a client");
        let Frame { transfer, step } = Frame::decode(&delivery.payload).expect("a frame");
        assert!(matches!(step, Step::Offer(_)), "{step:?}");
        delivery.answer(Frame { transfer, step: Step::Seen { receiver: self.receiver } }.encode());
        transfer
    }

    /// Says something to the sender of a transfer, until it is understood.
    pub(super) async fn tell(&self, transfer: Id, step: Step) {
        wait::until("a sender that understands", async || {
            say(&self.client, transfer, transfer, step.clone()).await.is_ok_and(|step| step == Step::Noted)
        })
        .await;
    }

    /// Waits for an offer, and accepts it with this missing.
    pub(super) async fn accept(&mut self, missing: Vec<Range>) -> Id {
        let transfer = self.offered().await;
        self.tell(transfer, Step::Accept { receiver: self.receiver, missing }).await;
        transfer
    }

    /// Waits for what is sent here.
    pub(super) async fn next(&mut self) -> (Step, Delivery) {
        let (frame, delivery) = self.next_frame().await;
        (frame.step, delivery)
    }

    /// Waits for what is sent here of a transfer; what is left of others is refused.
    pub(super) async fn next_of(&mut self, transfer: Id) -> Delivery {
        loop {
            let (frame, delivery) = self.next_frame().await;
            if frame.transfer == transfer {
                return delivery;
            }
        }
    }

    async fn next_frame(&mut self) -> (Frame, Delivery) {
        let delivery = wait::within("a frame", self.inbox.next()).await.expect("a client");
        (Frame::decode(&delivery.payload).expect("a frame"), delivery)
    }
}

/// Answers in the name of a receiver.
pub(super) fn answer(delivery: Delivery, transfer: Id, step: Step) {
    delivery.answer(Frame { transfer, step }.encode());
}
