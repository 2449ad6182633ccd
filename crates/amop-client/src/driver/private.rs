//! Private topics: questions that nodes put, and proofs that publishers ask for.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Weak},
};

use amop_auth::{Party, PublicKey, content::ContentError, exchange::Step};
use amop_protocol::{
    NodeId, Status, Topic,
    broker::event::Mode,
    session::{
        client::{Deliver, Ended, Message, SendId},
        verification::{Inquiry, Verdict},
    },
};
use bytes::Bytes;
use tokio::{sync::oneshot, time::Instant};

use super::{Driver, Home};
use crate::{
    error::PrivateError,
    private::{
        channels::Channels,
        holder::{Holder, Unsealed},
        of_channel,
        publisher::{Change, Next, Publisher, STEP, Stage},
    },
    subscription::REFUSED_UNPROVED,
};

/// Exchanges under way; the nodes put again what cannot be begun.
const MAX_EXCHANGES: usize = 256;

/// Of them, grants of one change of keys at a time.
const GRANTS: usize = 64;

/// What this client has to do with private topics.
#[derive(Default)]
pub(crate) struct Private {
    holders: HashMap<Topic, Weak<Holder>>,
    publishers: HashMap<Topic, Weak<Publisher>>,
    /// The verify channels of each connection and topic.
    channels: HashMap<(u64, Topic), Channels>,
    exchanges: HashMap<(u64, SendId), Exchange>,
    /// Changes of keys that are not complete: grants without an answer, and who waits for them.
    changes: BTreeMap<u64, Pending>,
    next_change: u64,
}

struct Exchange {
    publisher: Arc<Publisher>,
    inquiry: Inquiry,
    stage: Stage,
    /// The change of keys that it belongs to.
    change: Option<u64>,
}

struct Pending {
    publisher: Arc<Publisher>,
    /// Grants that are yet to be sent.
    queue: VecDeque<(u64, Inquiry, Stage, Bytes)>,
    /// Those without an answer.
    running: usize,
    reply: oneshot::Sender<Result<(), PrivateError>>,
}

impl Private {
    /// Makes a topic receivable; gives the holder that it has, if that is the same.
    pub(super) fn hold(&mut self, holder: Holder) -> Result<Arc<Holder>, PrivateError> {
        match self.holders.get(holder.topic()).and_then(Weak::upgrade) {
            Some(present) if present.is_like(&holder) => Ok(present),
            Some(_) => Err(PrivateError::Held),
            None => {
                self.holders.retain(|_, holder| holder.strong_count() > 0);
                self.channels.retain(|(_, of), _| self.holders.contains_key(of));
                let (topic, holder) = (holder.topic().clone(), Arc::new(holder));
                self.holders.insert(topic, Arc::downgrade(&holder));
                Ok(holder)
            }
        }
    }

    pub(super) fn publish(&mut self, publisher: &Arc<Publisher>) -> Result<(), PrivateError> {
        self.publishers.retain(|_, publisher| publisher.strong_count() > 0);
        if self.publishers.contains_key(publisher.topic()) {
            return Err(PrivateError::Published);
        }
        self.publishers.insert(publisher.topic().clone(), Arc::downgrade(publisher));
        Ok(())
    }

    /// What a connection is to report beside these topics: a verify channel for each private one.
    pub(crate) fn channels<'a>(&mut self, home: u64, topics: impl Iterator<Item = &'a Topic>) -> Vec<Topic> {
        let private = topics.filter(|topic| self.holders.contains_key(*topic));
        let mut all = Vec::new();
        for topic in private {
            let channels = self.channels.entry((home, topic.clone())).or_insert_with(|| Channels::new(topic));
            all.extend(channels.names().cloned());
        }
        all
    }

    /// When [`Private::renew`] has something to do.
    pub(super) fn next_renewal(&self) -> Option<Instant> {
        self.channels.values().filter_map(Channels::due).min()
    }

    /// Makes new channels where it is time; whether there are any.
    pub(super) fn renew(&mut self, now: Instant) -> bool {
        let mut renewed = false;
        for ((_, topic), channels) in &mut self.channels {
            renewed |= channels.renew(now, topic);
        }
        renewed
    }

    /// Sends of this client that are not the application's, under way or soon to be.
    pub(super) fn in_flight(&self) -> usize {
        let waiting = self.changes.values().map(|pending| pending.queue.len().min(GRANTS));
        self.exchanges.len() + waiting.sum::<usize>()
    }

    pub(super) fn handle_lost(&mut self, home: u64) {
        self.channels.retain(|(at, _), _| *at != home);
        for publisher in self.publishers.values().filter_map(Weak::upgrade) {
            publisher.handle_lost(home);
        }
        let lost = self.exchanges.extract_if(|(at, _), _| *at == home);
        let changes: Vec<u64> = lost.filter_map(|(_, exchange)| exchange.change).collect();
        changes.into_iter().for_each(|change| self.granted(change));
    }

    /// Opens a message to this client. `None` if it must not be handed to the application.
    pub(super) fn unseal(&mut self, message: &Deliver) -> Option<Unsealed> {
        let Some(holder) = self.holders.get(&message.topic).and_then(Weak::upgrade) else {
            return Some(Unsealed::Plain);
        };
        let unsealed = holder.unseal(message);
        if let Err(error) = &unsealed {
            if *error == ContentError::UnknownKey {
                // Asked anew, the publisher gives the key that was missed.
                let theirs = self.channels.iter_mut().filter(|((_, of), _)| *of == message.topic);
                theirs.for_each(|(_, channels)| channels.missed(Instant::now()));
            }
            tracing::warn!(topic = %message.topic, %error, "a message on a private topic is not taken");
        }
        unsealed.ok()
    }

    /// One grant of a change has had its answer, or will not have any.
    fn granted(&mut self, change: u64) {
        let Some(pending) = self.changes.get_mut(&change) else { return };
        pending.running -= 1;
        if pending.running == 0
            && pending.queue.is_empty()
            && let Some(Pending { publisher, reply, .. }) = self.changes.remove(&change)
        {
            // Whoever asked for this change may have gone, and another have begun.
            let others = self.changes.values().any(|other| Arc::ptr_eq(&other.publisher, &publisher));
            publisher.ready.send_replace(!others);
            let _ = reply.send(Ok(()));
        }
    }
}

impl Drop for Private {
    /// The client is closed: who waits to send is not to wait for ever.
    fn drop(&mut self) {
        for pending in self.changes.values() {
            pending.publisher.ready.send_replace(true);
        }
    }
}

impl Driver {
    /// A node asks about a subscriber.
    pub(super) fn handle_inquiry(&mut self, at: usize, inquiry: Inquiry) {
        let publisher = self.private.publishers.get(&inquiry.topic).and_then(Weak::upgrade);
        let Some(publisher) = publisher.filter(|_| self.private.exchanges.len() < MAX_EXCHANGES) else {
            return;
        };
        let next = publisher.begin(node_of(&self.homes[at]));
        self.go_on(at, publisher, inquiry, next, None);
    }

    /// Takes the outcome of a step; whether it was one.
    pub(super) fn handle_step(&mut self, at: usize, id: SendId, ended: &Ended) -> bool {
        let home = self.homes[at].id;
        let Some(exchange) = self.private.exchanges.remove(&(home, id)) else { return false };
        let Exchange { publisher, inquiry, stage, change } = exchange;
        let answer = Some(&ended.payload).filter(|_| ended.status == Status::Success);
        let next = publisher.advance(home, &inquiry, stage, answer);
        self.take_back(publisher.take_evicted());
        self.go_on(at, publisher, inquiry, next, change);
        true
    }

    /// Answers what came over a verify channel.
    pub(super) fn prove(&mut self, at: usize, message: &Deliver) {
        let home = &mut self.homes[at];
        let topic = of_channel(&message.topic).and_then(|topic| Topic::parse(topic).ok());
        let holder = topic.as_ref().and_then(|topic| self.private.holders.get(topic));
        let Some((topic, holder)) = topic.as_ref().zip(holder.and_then(Weak::upgrade)) else {
            return home.answer(&message.push, REFUSED_UNPROVED, Bytes::new());
        };
        let publisher = message.sender.as_ref().map(|sender| Party {
            institution: sender.institution.clone(),
            node: sender.node,
            client: sender.client.fingerprint,
        });
        let subscriber = Party {
            institution: home.node.institution.clone(),
            node: node_of(home).unwrap_or(NodeId::new([0; 32])),
            client: self.connector.fingerprint(),
        };
        match holder.prove(&message.payload, publisher, subscriber) {
            Ok(answer) => {
                let channels = self.private.channels.get_mut(&(home.id, topic.clone()));
                // What becomes of a signature of 2.x is never told.
                if let Some(channels) = channels.filter(|_| Step::decode(&answer).is_ok()) {
                    channels.stepped(&message.topic, Step::is_granted(&answer), Instant::now());
                }
                home.answer(&message.push, 0, answer);
            }
            Err(error) => {
                tracing::warn!(topic = %holder.topic(), %error, "a publisher is given no proof");
                home.answer(&message.push, REFUSED_UNPROVED, Bytes::new());
            }
        }
    }

    /// Other keys count from now on. The reply comes when all that remain have a new content key.
    pub(super) fn change_keys(
        &mut self,
        publisher: Arc<Publisher>,
        keys: Vec<PublicKey>,
        reply: oneshot::Sender<Result<(), PrivateError>>,
    ) {
        let Change { revoked, grants } = match publisher.change(keys) {
            Ok(change) => change,
            Err(error) => {
                let _ = reply.send(Err(error.into()));
                return;
            }
        };
        self.take_back(revoked);
        let change = self.private.next_change;
        self.private.next_change += 1;
        // One more, until all that can be sent now are.
        let pending = Pending { publisher, queue: grants.into(), running: 1, reply };
        self.private.changes.insert(change, pending);
        self.send_grants();
        self.private.granted(change);
    }

    /// Sends grants as far as there is room for them.
    pub(super) fn send_grants(&mut self) {
        let changes: Vec<u64> = self.private.changes.keys().copied().collect();
        for change in changes {
            while let Some((home, inquiry, stage, payload)) = self.next_grant(change) {
                let Some(pending) = self.private.changes.get_mut(&change) else { break };
                pending.running += 1;
                let publisher = pending.publisher.clone();
                match self.homes.iter().position(|other| other.id == home) {
                    Some(at) => {
                        self.go_on(at, publisher, inquiry, Next::Send(stage, payload), Some(change));
                    }
                    None => self.private.granted(change),
                }
            }
        }
    }

    fn next_grant(&mut self, change: u64) -> Option<(u64, Inquiry, Stage, Bytes)> {
        let pending = self.private.changes.get_mut(&change)?;
        let (home, ..) = pending.queue.front()?;
        let home = self.homes.iter().find(|other| other.id == *home);
        let room = home.is_none_or(|home| home.session.in_flight() < self.options.max_in_flight);
        if room && pending.running <= GRANTS { pending.queue.pop_front() } else { None }
    }

    /// Tells nodes whom to trust no longer.
    fn take_back(&mut self, subscribers: Vec<(u64, Inquiry)>) {
        for (home, inquiry) in subscribers {
            if let Some(home) = self.homes.iter_mut().find(|other| other.id == home) {
                decide(home, inquiry, false);
            }
        }
    }

    /// Does what follows in an exchange.
    fn go_on(
        &mut self,
        at: usize,
        publisher: Arc<Publisher>,
        inquiry: Inquiry,
        next: Next,
        change: Option<u64>,
    ) {
        let now = self.connector.clock().now();
        let home = &mut self.homes[at];
        match next {
            Next::Send(stage, payload) => {
                let topic = inquiry.channel.clone();
                let message =
                    Message { mode: Mode::Unicast, topic, payload, deadline: Some(STEP), wishes: None };
                if let Ok(id) = home.session.send(now, message) {
                    let exchange = Exchange { publisher, inquiry, stage, change };
                    self.private.exchanges.insert((home.id, id), exchange);
                    return;
                }
            }
            Next::Decide(trusted) => {
                decide(home, inquiry, trusted);
                if trusted {
                    publisher.announce();
                }
            }
            Next::Leave => {}
        }
        change.into_iter().for_each(|change| self.private.granted(change));
    }
}

fn decide(home: &mut Home, inquiry: Inquiry, trusted: bool) {
    let Inquiry { question, topic, .. } = inquiry;
    home.session.decide(&Verdict { question, topic, trusted });
}

/// The node at the other end, if its certificate says which.
fn node_of(home: &Home) -> Option<NodeId> {
    home.node.key.as_ref().map(amop_protocol::NodeKey::id)
}
