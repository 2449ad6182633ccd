//! Where all frames come in: each goes to the task of its transfer.
//!
//! Woken by: its end, transfers that end, what comes to the topics and to the inbox. It never waits for
//! a transfer: one that takes no more has what comes refused, and its sender tries again.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use amop_protocol::{
    Fingerprint, Topic,
    broker::event::Sender,
    wire::files::{CHUNK, Frame, Id, Offer, Reason, State, Step},
};
use bytes::Bytes;
use futures::StreamExt;
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{
    Decision, FileInfo, FileOffer, ReceiveOptions,
    directory::Directory,
    landing::{About, Parts, was_placed},
    transfer::{Incoming, Transfer},
};
use crate::{
    Client, Delivery, Subscription,
    files::{blocking, channel::Channel, error::FileError, name, one_frame},
};

/// Frames that wait for a transfer; of chunks there are seldom more than a few.
const MAX_FRAMES: usize = 64;
/// No frame but one that carries a whole file is longer.
const MAX_FRAME: usize = CHUNK as usize + 4 * 1024;
/// Bytes of frames that wait to be stored, of all transfers.
const MAX_HELD: usize = 64 * 1024 * 1024;
/// Bytes of files in one frame that wait to be decided on and written.
const MAX_WHOLE: usize = 64 * 1024 * 1024;
/// Transfers put aside that are remembered; more are found when files are next received here.
const MAX_ASIDE: usize = 1_024;
/// Senders that are told something at once, beside those of transfers under way.
const MAX_TELLING: usize = 64;
/// By what a request is refused that is no file.
const REFUSED_NO_FILE: i32 = 6;

/// Who sends, and what it calls the transfer.
type Key = (Fingerprint, Id);

pub(super) struct Desk {
    client: Client,
    directory: Arc<Directory>,
    options: ReceiveOptions,
    offers: mpsc::Sender<FileOffer>,
    stop: CancellationToken,
    transfers: BTreeMap<Key, mpsc::Sender<Incoming>>,
    /// What is on disk of transfers that were put aside: they go on when their senders do.
    aside: BTreeMap<Key, About>,
    running: JoinSet<Option<Ended>>,
    telling: Arc<Semaphore>,
    /// What is left of [`MAX_HELD`], and of [`MAX_WHOLE`].
    room: Arc<Semaphore>,
    whole_room: Arc<Semaphore>,
}

/// A transfer that has ended, and what is on disk of it.
type Ended = (Key, Option<About>);

impl Desk {
    pub(super) fn new(
        client: Client,
        directory: Arc<Directory>,
        options: ReceiveOptions,
        offers: mpsc::Sender<FileOffer>,
        stop: CancellationToken,
    ) -> Self {
        let (transfers, aside, running) = (BTreeMap::new(), BTreeMap::new(), JoinSet::new());
        let [telling, room, whole_room] =
            [MAX_TELLING, MAX_HELD, MAX_WHOLE].map(|most| Arc::new(Semaphore::new(most)));
        Self {
            client,
            directory,
            options,
            offers,
            stop,
            transfers,
            aside,
            running,
            telling,
            room,
            whole_room,
        }
    }

    pub(super) async fn run(mut self, mut topics: Subscription, mut inbox: Subscription) {
        self.go_on().await;
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                Some(ended) = self.running.join_next(), if !self.running.is_empty() => {
                    if let Ok(Some((key, left))) = ended {
                        self.transfers.remove(&key);
                        if let Some(about) = left {
                            self.put_aside(key, about);
                        }
                    }
                }
                delivery = topics.next() => match delivery {
                    Some(delivery) => self.offered(delivery),
                    None => break,
                },
                delivery = inbox.next() => match delivery {
                    Some(delivery) => self.arrived(delivery),
                    None => break,
                },
            }
        }
        // Each learns of it by its own; what it is doing on disk is finished first.
        self.stop.cancel();
        self.transfers.clear();
        while self.running.join_next().await.is_some() {}
    }

    /// Offers what an earlier receiver left.
    async fn go_on(&mut self) {
        let directory = self.directory.clone();
        let unfinished = blocking(move || {
            let unfinished = directory.unfinished()?;
            let placed = |about: &About| {
                was_placed(&directory, about).unwrap_or_else(|error| {
                    tracing::warn!(name = about.name, %error, "it cannot be noted that a file is complete");
                    false
                })
            };
            Ok(unfinished.into_iter().filter(|about| !placed(about)).collect::<Vec<_>>())
        });
        match unfinished.await.and_then(|unfinished| unfinished) {
            Ok(unfinished) => unfinished.into_iter().for_each(|about| self.begin(about)),
            Err(error) => tracing::warn!(%error, "files that were not complete are not gone on with"),
        }
    }

    /// Something came to the topics.
    fn offered(&mut self, delivery: Delivery) {
        if Frame::is_frame(&delivery.payload) {
            if let (Ok(Frame { transfer, step: Step::Offer(offer) }), Some(sender)) =
                (Frame::decode(&delivery.payload), delivery.sender.clone())
            {
                return self.offer(transfer, offer, &sender, delivery);
            }
            return tracing::debug!(topic = %delivery.topic, "an offer of a file cannot be read");
        }
        match one_frame::decode(&delivery.payload) {
            Some(Ok(one_frame::File { name, content })) => self.whole(name, content, delivery),
            Some(Err(error)) => {
                tracing::warn!(topic = %delivery.topic, %error, "a file in one frame is malformed");
                delivery.refuse(REFUSED_NO_FILE);
            }
            None => delivery.refuse(REFUSED_NO_FILE),
        }
    }

    fn offer(&mut self, transfer: Id, offer: Offer, sender: &Sender, delivery: Delivery) {
        let key = (sender.client.fingerprint, transfer);
        if self.directory.done(key.0, key.1).is_none() && !self.transfers.contains_key(&key) {
            if self.transfers.len() >= self.options.max_transfers || self.offers.capacity() == 0 {
                return self.busy(key, &offer, delivery);
            }
            self.begin(About::new(transfer, delivery.topic.as_str(), sender, &offer));
        }
        let seen = Step::Seen { receiver: self.directory.receiver() };
        if delivery.is_request() {
            delivery.answer(Frame { transfer, step: seen }.encode());
        } else {
            // Who offers to all is to know for whom to wait.
            self.tell(key.0, Channel::new(transfer, offer.key), seen);
        }
        match self.transfers.get(&key) {
            // It tells the sender what is missing, now or when that is decided.
            Some(transfer) => drop(transfer.try_send(Incoming::Offered)),
            None => {
                if let Some(secret) = self.directory.done(key.0, key.1) {
                    let done = State::Done { receiver: self.directory.receiver() };
                    self.tell(key.0, Channel::new(transfer, secret), Step::State(done));
                }
            }
        }
    }

    /// There is no room for another transfer now.
    fn busy(&mut self, (sender, transfer): Key, offer: &Offer, delivery: Delivery) {
        let receiver = self.directory.receiver();
        if delivery.is_request() {
            return stop(transfer, Reason::Busy, receiver, delivery);
        }
        let busy = Step::Stop { reason: Reason::Busy, why: String::new(), receiver: Some(receiver) };
        self.tell(sender, Channel::new(transfer, offer.key), busy);
    }

    /// Keeps in mind what is on disk of a transfer. Of one file there is one record, that of the transfer
    /// which was last.
    fn put_aside(&mut self, key: Key, about: About) {
        let file = about.key();
        self.aside.retain(|_, other| other.key() != file);
        if self.aside.len() < MAX_ASIDE {
            self.aside.insert(key, about);
        }
    }

    /// Tells the sender of a transfer something, once. With too much to tell nothing is said: it asks.
    fn tell(&mut self, sender: Fingerprint, channel: Channel, step: Step) {
        let Ok(turn) = self.telling.clone().try_acquire_owned() else { return };
        let (client, stop) = (self.client.clone(), self.stop.clone());
        self.running.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                _ = super::transfer::tell(&client, &channel, sender, step) => {}
            }
            drop(turn);
            None
        });
    }

    /// A transfer begins, or goes on.
    fn begin(&mut self, about: About) {
        let (Some(Parts { sender, transfer, root, key }), Ok(topic)) =
            (about.parts(), Topic::parse(about.topic()))
        else {
            return;
        };
        let named = (sender.client.fingerprint, transfer);
        self.aside.remove(&named);
        let file = FileInfo {
            transfer,
            topic,
            name: name::safe(&about.name),
            claimed_name: about.name.clone(),
            size: about.size,
            media_type: about.media_type.clone(),
            hash: Some(root),
            sender: Some(sender),
        };
        let (decide, decision) = oneshot::channel();
        let (frames, incoming) = mpsc::channel(MAX_FRAMES);
        if self.offers.try_send(FileOffer { file, decide }).is_err() {
            self.put_aside(named, about);
            return;
        }
        self.transfers.insert(named, frames);
        let transfer = Transfer {
            client: self.client.clone(),
            directory: self.directory.clone(),
            channel: Channel::new(transfer, key),
            sender: named.0,
            about,
            options: self.options.clone(),
            stop: self.stop.clone(),
            make_way: CancellationToken::new(),
        };
        self.running.spawn(async move { Some((named, transfer.run(decision, incoming).await)) });
    }

    /// Something came to the inbox.
    fn arrived(&mut self, delivery: Delivery) {
        let Some(sender) = &delivery.sender else { return };
        if delivery.payload.len() > MAX_FRAME {
            return tracing::warn!(client = %sender.client.name, "a chunk of a file is too large");
        }
        let Ok(frame) = Frame::decode(&delivery.payload) else { return };
        let key = (sender.client.fingerprint, frame.transfer);
        let receiver = self.directory.receiver();
        if !self.transfers.contains_key(&key) {
            if let Some(secret) = self.directory.done(key.0, key.1) {
                return answer_done(&Channel::new(key.1, secret), receiver, frame, delivery);
            }
            if self.transfers.len() >= self.options.max_transfers {
                return stop(frame.transfer, Reason::Busy, receiver, delivery);
            }
            match self.aside.remove(&key) {
                Some(about) => self.begin(about),
                None => return stop(frame.transfer, Reason::Unknown, receiver, delivery),
            }
        }
        if let Some(transfer) = self.transfers.get(&key) {
            // Without room it is refused, and the sender tries again.
            let bytes = delivery.payload.len() as u32;
            if let Ok(room) = self.room.clone().try_acquire_many_owned(bytes) {
                let _ = transfer.try_send(Incoming::Frame(Box::new((frame, delivery, room))));
            }
        }
    }

    /// A file that came in one frame: it is offered with its content here already.
    fn whole(&mut self, name: String, content: Bytes, delivery: Delivery) {
        // One that is larger than all the room waits for it to be empty.
        let bytes = content.len().min(MAX_WHOLE) as u32;
        let room = self.whole_room.clone().try_acquire_many_owned(bytes);
        let (Ok(room), true) = (room, self.running.len() < self.options.max_transfers) else {
            return delivery.refuse(REFUSED_NO_FILE);
        };
        let file = FileInfo {
            transfer: Id(rand::RngExt::random(&mut rand::rng())),
            topic: delivery.topic.clone(),
            name: name::safe(&name),
            claimed_name: name,
            size: content.len() as u64,
            media_type: String::new(),
            hash: None,
            sender: delivery.sender.clone(),
        };
        let (decide, decision) = oneshot::channel();
        let name = file.name.clone();
        if self.offers.try_send(FileOffer { file, decide }).is_err() {
            return delivery.refuse(REFUSED_NO_FILE);
        }
        let (directory, stop) = (self.directory.clone(), self.stop.clone());
        self.running.spawn(async move {
            let decided = tokio::select! {
                () = stop.cancelled() => None,
                decided = decision => decided.ok(),
            };
            let Some(Decision::Accept { result, .. }) = decided else {
                delivery.refuse(REFUSED_NO_FILE);
                return None;
            };
            let written = blocking(move || put(&directory, &name, &content)).await;
            drop(room);
            let written = written.and_then(|written| written);
            match &written {
                Ok(_) => delivery.answer(one_frame::ANSWER),
                Err(_) => delivery.refuse(REFUSED_NO_FILE),
            }
            // Whoever asked may have gone.
            let _ = result.send(written);
            None
        });
    }
}

/// Writes a file that is here as a whole.
fn put(directory: &Directory, name: &str, content: &[u8]) -> Result<PathBuf, FileError> {
    let failed = |source| FileError::Directory { path: directory.path().to_owned(), source };
    directory.put(name, content).map_err(failed)
}

/// What a sender hears that asks about a transfer that is done.
fn answer_done(channel: &Channel, receiver: Id, frame: Frame, delivery: Delivery) {
    let step = match channel.open(frame) {
        Some(Step::Ask) => Step::State(State::Done { receiver }),
        Some(Step::Chunk { index, .. }) => Step::Stored { index },
        Some(Step::Stop { .. }) => Step::Noted,
        _ => return,
    };
    if let Ok(payload) = channel.encode(step) {
        delivery.answer(payload);
    }
}

/// Without a key, there being none: whoever is told so learns what it knew.
fn stop(transfer: Id, reason: Reason, receiver: Id, delivery: Delivery) {
    let step = Step::Stop { reason, why: String::new(), receiver: Some(receiver) };
    delivery.answer(Frame { transfer, step }.encode());
}
