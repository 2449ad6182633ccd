//! The task of one file that is sent: hashes it, offers it, and keeps every receiver busy.
//!
//! Woken by: the end, what comes to the transfer's inbox, requests that end, and its own clock.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use amop_protocol::{
    Fingerprint,
    broker::event::{Mode, Sender},
    wire::files::{Frame, Id, Offer, Reason, State, Step},
};
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::watch,
    time::{Instant, interval, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    FileReceipt, RecipientState, SendOptions, SendPhase, SendProgress,
    offer::{Offered, Target},
    prepare::{Prepared, prepare},
    record::{How, Keeper, Record},
    request::{Answered, chunk, request},
    stream::{Next, Stream},
};
use crate::{
    Client, Delivery, Subscription,
    files::{
        blocking,
        channel::Channel,
        error::FileError,
        source::{Hashed, Source},
        tree::Hashing,
    },
};

/// How long a receiver of an offer to all has to say that it takes files.
const SEEN_WITHIN: Duration = Duration::from_secs(5);
/// Chunks under way to all receivers of a file: 16 MiB.
const MAX_UNDER_WAY: usize = 64;
/// Receivers of one file.
const MAX_RECEIVERS: usize = 1_024;
/// How often those who look on are told of hashing.
const TICK: Duration = Duration::from_millis(100);
/// How often the state is written.
const WRITE_EACH: Duration = Duration::from_secs(1);
/// So many times the patience, a receiver may say that it is there without taking anything.
const TALK: u32 = 10;
/// How long receivers are tried to be told that it is over.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A file to be sent.
pub(super) struct Sending {
    pub(super) client: Client,
    pub(super) target: Target,
    pub(super) options: SendOptions,
    pub(super) name: String,
    pub(super) progress: watch::Sender<SendProgress>,
    pub(super) stop: CancellationToken,
    pub(super) cancelled: CancellationToken,
}

/// How a request ended.
enum Ended {
    Offered(Result<Offered, FileError>),
    Chunk(Id, u64, Answered),
    Asked(Id, Answered),
}

impl Sending {
    pub(super) async fn run(self, source: Source) -> Result<FileReceipt, FileError> {
        let hashing = Arc::new(Hashing::default());
        let prepared = tokio::select! {
            prepared = self.prepare(source, hashing.clone()) => prepared,
            () = self.stop.cancelled() => Err(FileError::Closed),
            () = self.cancelled.cancelled() => Err(FileError::Cancelled),
        };
        hashing.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let Prepared { source, channel, keeper, record, receivers } = prepared?;
        let topic = channel.transfer.inbox();
        let inbox = tokio::select! {
            inbox = self.client.subscribe(&topic) => inbox?,
            () = self.stop.cancelled() => return Err(FileError::Closed),
            () = self.cancelled.cancelled() => return Err(FileError::Cancelled),
        };
        self.progress.send_modify(|progress| {
            progress.phase = SendPhase::Sending;
            progress.transfer = Some(channel.transfer);
            progress.hash = Some(source.root());
        });
        let now = Instant::now();
        let mut task = Task {
            streams: BTreeMap::new(),
            order: Vec::new(),
            turn: 0,
            expected: None,
            early: Vec::new(),
            offered: None,
            work: FuturesUnordered::new(),
            written: now,
            begun: now,
            sending: &self,
            source: Arc::new(source),
            channel,
            keeper,
            record,
        };
        task.begin(receivers, now);
        let ended = task.run(inbox).await;
        task.finish(ended).await
    }

    /// Hashes the file, or finds the tree of an earlier attempt.
    async fn prepare(&self, source: Source, hashing: Arc<Hashing>) -> Result<Prepared, FileError> {
        let how = How::new(&self.target, &self.options, &self.name);
        let (state, counted) = (self.options.state.clone(), hashing.clone());
        let preparing = blocking(move || prepare(source, state.as_deref(), &how, &counted));
        tokio::pin!(preparing);
        let mut tick = interval(TICK);
        loop {
            tokio::select! {
                prepared = &mut preparing => return prepared?,
                _ = tick.tick() => self.progress.send_modify(|progress| {
                    progress.hashed = hashing.done.load(std::sync::atomic::Ordering::Relaxed);
                }),
            }
        }
    }
}

struct Task<'a> {
    sending: &'a Sending,
    source: Arc<Hashed>,
    channel: Channel,
    keeper: Option<Keeper>,
    record: Record,
    streams: BTreeMap<Id, Stream>,
    /// In the order in which they came.
    order: Vec<Id>,
    /// Whose turn it is to be sent something.
    turn: usize,
    /// Of a unicast: who has the offer.
    expected: Option<Id>,
    /// Of a unicast: what came before it was known who has the offer.
    early: Vec<(Sender, Id, Step)>,
    /// When all had been offered it, and how many those were.
    offered: Option<(Instant, usize)>,
    work: FuturesUnordered<BoxFuture<'static, Ended>>,
    written: Instant,
    begun: Instant,
}

impl Task<'_> {
    /// Offers the file, or goes on with those that have accepted it. On a private topic it is offered
    /// again all the same: who holds a key that counts may have changed.
    fn begin(&mut self, receivers: Vec<(Id, Sender)>, now: Instant) {
        if self.sending.target.is_private() {
            return self.offer();
        }
        let size = self.source.source.size();
        for (receiver, who) in receivers {
            self.streams.insert(receiver, Stream::resumed(receiver, who, size, now));
            self.order.push(receiver);
        }
        match (self.sending.options.mode, self.order.first()) {
            (Mode::Unicast, Some(receiver)) => self.expected = Some(*receiver),
            _ => self.offer(),
        }
    }

    fn offer(&mut self) {
        let Sending { client, target, options, name, .. } = self.sending;
        let offer = Offer {
            name: name.clone(),
            size: self.source.source.size(),
            media_type: options.media_type.clone().unwrap_or_default(),
            root: self.source.root(),
            key: self.channel.key.as_ref().map(|key| *key.secret()),
        };
        let transfer = self.channel.transfer;
        let payload = Frame { transfer, step: Step::Offer(offer) }.encode();
        let (client, target, options) = (client.clone(), target.clone(), options.clone());
        self.work.push(Box::pin(async move {
            Ended::Offered(target.offer(&client, transfer, payload, &options).await)
        }));
    }

    /// Until nobody is left to send to.
    async fn run(&mut self, mut inbox: Subscription) -> Result<(), FileError> {
        loop {
            let now = Instant::now();
            self.send(now);
            self.give_up(now);
            self.write(now).await?;
            if self.is_over(now)? {
                return Ok(());
            }
            let wake = self.wake(now);
            tokio::select! {
                biased;
                () = self.sending.stop.cancelled() => return Err(FileError::Closed),
                () = self.sending.cancelled.cancelled() => return Err(FileError::Cancelled),
                Some(ended) = self.work.next(), if !self.work.is_empty() => self.ended(ended)?,
                delivery = inbox.next() => match delivery {
                    Some(delivery) => self.arrived(delivery),
                    None => return Err(FileError::Closed),
                },
                () = sleep_until(wake) => {}
            }
        }
    }

    /// Has everybody sent what it lacks, as far as there is room on the way.
    fn send(&mut self, now: Instant) {
        while self.work.len() < MAX_UNDER_WAY
            && let Some((to, next)) = self.next(now)
        {
            let (client, channel, source) =
                (self.sending.client.clone(), self.channel.clone(), self.source.clone());
            let receiver = to.0;
            self.work.push(match next {
                Next::Chunk(index) => Box::pin(async move {
                    Ended::Chunk(receiver, index, chunk(&client, &channel, source, to, index).await)
                }),
                Next::Ask => Box::pin(async move {
                    let answered = match channel.encode(Step::Ask) {
                        Ok(ask) => request(&client, &channel, to, ask).await,
                        Err(error) => Answered::Local(error),
                    };
                    Ended::Asked(receiver, answered)
                }),
            });
        }
        self.report();
    }

    /// Who is to be sent what; all have their turn.
    fn next(&mut self, now: Instant) -> Option<((Id, Option<Fingerprint>), Next)> {
        let count = self.order.len();
        for at in (0..count).map(|at| (self.turn + at) % count) {
            let Some(stream) = self.streams.get_mut(&self.order[at]) else { continue };
            if let Some(next) = stream.next(now) {
                self.turn = at + 1;
                return Some(((stream.receiver, Some(stream.who.client.fingerprint)), next));
            }
        }
        None
    }

    /// Whoever acknowledges nothing for too long is left.
    fn give_up(&mut self, now: Instant) {
        let SendOptions { patience, decide_within, .. } = self.sending.options;
        for stream in self.streams.values_mut().filter(|stream| stream.ended().is_none()) {
            let limit = if stream.is_decided() { patience } else { decide_within };
            let talks = stream.is_decided() && now - stream.progressed() >= patience * TALK;
            if stream.is_insatiable() {
                stream.fail(FileError::Insatiable);
            } else if now - stream.heard() >= limit || talks {
                let error = if stream.is_decided() {
                    FileError::Stalled(patience)
                } else {
                    FileError::Undecided(decide_within)
                };
                stream.fail(error);
            }
        }
    }

    /// Whether there is nobody left to wait for.
    ///
    /// # Errors
    /// When nobody decided in time.
    fn is_over(&self, now: Instant) -> Result<bool, FileError> {
        let ended = self.streams.values().all(|stream| stream.ended().is_some());
        let decide_within = self.sending.options.decide_within;
        match (self.sending.options.mode, self.offered) {
            _ if !ended => Ok(false),
            (Mode::Unicast, _) if !self.streams.is_empty() => Ok(true),
            (Mode::Multicast, Some((at, handed))) if !self.streams.is_empty() => {
                Ok(self.streams.len() >= handed || now - at >= SEEN_WITHIN)
            }
            (_, Some((at, _))) if now - at >= decide_within => Err(FileError::Undecided(decide_within)),
            _ => Ok(false),
        }
    }

    fn wake(&self, now: Instant) -> Instant {
        let SendOptions { patience, decide_within, .. } = self.sending.options;
        let streams = self.streams.values().filter(|stream| stream.ended().is_none());
        let streams = streams.flat_map(|stream| {
            let limit = if stream.is_decided() { patience } else { decide_within };
            [stream.next_wake(), Some(stream.heard() + limit)]
        });
        let offered = self
            .offered
            .map(|(at, _)| if self.streams.is_empty() { at + decide_within } else { at + SEEN_WITHIN });
        let offered = offered.filter(|at| *at > now);
        let wake = streams.chain([offered, Some(now + WRITE_EACH)]).flatten().min();
        wake.unwrap_or(now + WRITE_EACH)
    }

    fn ended(&mut self, ended: Ended) -> Result<(), FileError> {
        let now = Instant::now();
        match ended {
            Ended::Offered(offered) => self.offer_ended(offered, now),
            Ended::Chunk(receiver, index, answered) => self.chunk_ended(receiver, index, answered, now),
            Ended::Asked(receiver, answered) => self.asked(receiver, answered, now),
        }
    }

    fn offer_ended(&mut self, offered: Result<Offered, FileError>, now: Instant) -> Result<(), FileError> {
        match offered {
            Ok(Offered::One(receiver)) => {
                self.offered = Some((now, 1));
                self.expected = Some(receiver);
                for (who, receiver, step) in std::mem::take(&mut self.early) {
                    self.decided(who, receiver, step);
                }
            }
            Ok(Offered::All(handed)) => self.offered = Some((now, handed)),
            Err(error) if self.streams.is_empty() => return Err(error),
            // Nobody else is there to be offered it, but some had accepted it before.
            Err(_) => self.offered = Some((now, 0)),
        }
        Ok(())
    }

    fn chunk_ended(
        &mut self,
        receiver: Id,
        index: u64,
        answered: Answered,
        now: Instant,
    ) -> Result<(), FileError> {
        let Some(stream) = self.streams.get_mut(&receiver) else { return Ok(()) };
        match answered {
            Answered::Step(Step::Stored { index: stored }) if stored == index => stream.stored(index, now),
            Answered::Step(Step::Stop { reason: Reason::BadChunk, .. }) => {
                if !self.source.is_as_hashed(index) {
                    return Err(FileError::Changed(self.source.source.path().to_owned()));
                }
                if stream.refused(index, now) {
                    stream.fail(FileError::WrongContent);
                }
            }
            Answered::Step(Step::Stop { reason, why, .. }) => {
                stream.failed(index, None, now);
                self.stopped(receiver, reason, why);
            }
            Answered::Step(_) => stream.failed(index, None, now),
            Answered::Nothing(after) => stream.failed(index, after, now),
            Answered::Local(error) => return Err(error),
        }
        Ok(())
    }

    fn asked(&mut self, receiver: Id, answered: Answered, now: Instant) -> Result<(), FileError> {
        let Some(stream) = self.streams.get_mut(&receiver) else { return Ok(()) };
        match answered {
            Answered::Step(Step::State(State::Done { .. })) => stream.done(),
            Answered::Step(Step::State(State::Working)) => stream.works(now),
            Answered::Step(Step::State(State::Missing(missing))) => stream.lacks(&missing, now),
            Answered::Step(Step::Stop { reason, why, .. }) => {
                stream.not_asked(None, now);
                self.stopped(receiver, reason, why);
            }
            Answered::Step(_) => stream.not_asked(None, now),
            Answered::Nothing(after) => stream.not_asked(after, now),
            Answered::Local(error) => return Err(error),
        }
        Ok(())
    }

    /// A receiver says that it is over.
    fn stopped(&mut self, receiver: Id, reason: Reason, why: String) {
        let Some(stream) = self.streams.get_mut(&receiver) else { return };
        // One that has accepted will have room again.
        if reason == Reason::Busy && stream.is_decided() {
            return;
        }
        // It had accepted before this process began, and has lost what it had: offered anew, somebody
        // may take it.
        let lost = reason == Reason::Unknown && self.offered.is_none();
        if lost && self.sending.options.mode == Mode::Unicast {
            self.streams.remove(&receiver);
            self.order.retain(|other| *other != receiver);
            self.record.forget(receiver);
            self.expected = None;
            return self.offer();
        }
        stream.fail(FileError::Stopped { reason, why });
    }

    /// Something came to the inbox.
    fn arrived(&mut self, delivery: Delivery) {
        let Some(who) = delivery.sender.clone() else { return };
        let Some(step) = self.channel.decode(&delivery.payload) else { return };
        let (Step::Seen { receiver }
        | Step::Accept { receiver, .. }
        | Step::Decline { receiver, .. }
        | Step::State(State::Done { receiver })
        | Step::Stop { receiver: Some(receiver), .. }) = step
        else {
            return;
        };
        if !self.is_of_whom_it_was_offered(&who, receiver) {
            return;
        }
        // An offer that was answered too late went to another, too.
        let is_late = self.sending.options.mode == Mode::Unicast
            && self.expected.is_some_and(|expected| expected != receiver);
        let answer = match is_late {
            true => Step::Stop {
                reason: Reason::Cancelled,
                why: "another receiver has it".into(),
                receiver: None,
            },
            false => Step::Noted,
        };
        if let Ok(answer) = self.channel.encode(answer) {
            delivery.answer(answer);
        }
        if !is_late {
            self.decided(who, receiver, step);
        }
    }

    /// Whether this may be a receiver: it is one of those addressed, and the name it gives itself is not that of
    /// somebody else.
    fn is_of_whom_it_was_offered(&self, who: &Sender, receiver: Id) -> bool {
        let to = &self.sending.options.to;
        let addressed = to.institution.as_ref().is_none_or(|institution| *institution == who.institution)
            && to.node.is_none_or(|node| node == who.node)
            && to.client.is_none_or(|client| client == who.client.fingerprint);
        let same = self
            .streams
            .get(&receiver)
            .is_none_or(|known| known.who.client.fingerprint == who.client.fingerprint);
        let room =
            self.streams.contains_key(&receiver) || self.streams.len() + self.early.len() < MAX_RECEIVERS;
        addressed && same && room
    }

    fn decided(&mut self, who: Sender, receiver: Id, step: Step) {
        let now = Instant::now();
        if self.sending.options.mode == Mode::Unicast && self.expected != Some(receiver) {
            if self.expected.is_none() {
                self.early.push((who, receiver, step));
            }
            return;
        }
        let size = self.source.source.size();
        let stream = self.streams.entry(receiver).or_insert_with(|| {
            self.order.push(receiver);
            Stream::new(receiver, who, size, now)
        });
        match step {
            Step::Accept { missing, .. } => stream.accepted(&missing, now),
            Step::Decline { why, .. } => stream.decline(why),
            Step::State(State::Done { .. }) => stream.done(),
            Step::Stop { reason, why, .. } => self.stopped(receiver, reason, why),
            _ => {}
        }
    }

    /// Tells those who look on.
    fn report(&self) {
        let reports = self.order.iter().filter_map(|receiver| self.streams.get(receiver)).map(Stream::report);
        self.sending.progress.send_if_modified(|progress| {
            let recipients: Vec<_> = reports.collect();
            let changed = progress.recipients != recipients;
            progress.recipients = recipients;
            changed
        });
    }

    /// Keeps the state: when somebody accepts or is done, and now and then.
    async fn write(&mut self, now: Instant) -> Result<(), FileError> {
        let Some(keeper) = &self.keeper else { return Ok(()) };
        let mut at_once = false;
        for stream in self.streams.values().filter(|stream| stream.is_decided()) {
            let report = stream.report();
            match report.state {
                RecipientState::Declined(_) => at_once |= self.record.forget(stream.receiver),
                state => {
                    at_once |= self.record.note(
                        stream.receiver,
                        &stream.who,
                        report.bytes,
                        state == RecipientState::Done,
                    )
                }
            }
        }
        if at_once || now - self.written >= WRITE_EACH {
            self.written = now;
            // A small file, at most once a second or for each receiver.
            keeper.write(&self.record)?;
        }
        Ok(())
    }

    /// Tells receivers that are left that it is over, and what became of all.
    async fn finish(mut self, ended: Result<(), FileError>) -> Result<FileReceipt, FileError> {
        self.report();
        let recipients = self.sending.progress.borrow().recipients.clone();
        let done = recipients.iter().any(|recipient| recipient.state == RecipientState::Done);
        let ended = ended.and_then(|()| if done { Ok(()) } else { Err(self.why_nobody()) });
        if let Some(reason) = ended.as_ref().err().and_then(reason_of) {
            self.say_last(reason).await;
        }
        tracing::debug!(transfer = %self.channel.transfer, took = ?self.begun.elapsed(), ok = ended.is_ok(), "sent a file");
        // Of several, some may be gone on with although others have it.
        let resumable = match &ended {
            Ok(()) => {
                self.streams.values_mut().any(|stream| stream.why().is_some_and(|why| why.is_resumable()))
            }
            // Those who had accepted before may be there another time.
            Err(FileError::NotOffered(_) | FileError::NotPublished(_)) => self.record.has_receivers(),
            Err(error) => error.is_resumable(),
        };
        if let Some(keeper) = &self.keeper {
            if resumable { keeper.write(&self.record)? } else { keeper.remove() }
        }
        ended.map(|()| FileReceipt {
            transfer: self.channel.transfer,
            size: self.source.source.size(),
            hash: self.source.root(),
            recipients,
        })
    }
}

impl Task<'_> {
    /// The most telling reason of those for which nobody has the file.
    fn why_nobody(&mut self) -> FileError {
        let failures = self.order.iter().filter_map(|receiver| self.streams.get_mut(receiver)?.why());
        let mut failures: Vec<FileError> = failures.collect();
        let resumable = failures.iter().position(FileError::is_resumable).unwrap_or(0);
        match failures.is_empty() {
            true => FileError::Undecided(self.sending.options.decide_within),
            false => failures.swap_remove(resumable),
        }
    }

    /// Tries for a while to tell all receivers that are left that it is over.
    async fn say_last(&mut self, reason: Reason) {
        let left = self.streams.values().filter(|stream| stream.ended().is_none_or(is_failed));
        let left = left.map(|stream| (stream.receiver, Some(stream.who.client.fingerprint)));
        // Whoever has the offer of a unicast and has not decided is not known by a certificate yet.
        let undecided = self.expected.filter(|receiver| !self.streams.contains_key(receiver));
        let telling: FuturesUnordered<_> = left
            .chain(undecided.map(|receiver| (receiver, None)))
            .filter_map(|to| {
                let stop = Step::Stop { reason, why: String::new(), receiver: None };
                let stop = self.channel.encode(stop).ok()?;
                Some(request(&self.sending.client, &self.channel, to, stop))
            })
            .collect();
        // Whoever is not reached will ask, and hear that nobody knows of it.
        let _ = timeout(LAST_WORDS, telling.count()).await;
    }
}

fn is_failed(state: &RecipientState) -> bool {
    matches!(state, RecipientState::Failed(_))
}

/// What receivers are told of an error here; nothing if the transfer may be gone on with.
fn reason_of(error: &FileError) -> Option<Reason> {
    match error {
        FileError::Cancelled | FileError::Undecided(_) => Some(Reason::Cancelled),
        FileError::Changed(_) => Some(Reason::Changed),
        FileError::Source { .. } => Some(Reason::Disk),
        _ => None,
    }
}
