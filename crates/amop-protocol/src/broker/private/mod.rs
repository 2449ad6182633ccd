//! Private topics at the publisher's node: who is asked, and who has been verified.
//!
//! For each own session that can verify subscribers of a topic (a *publisher*) and each session
//! anywhere that has the topic (a *subscriber*), the publisher is asked whether it trusts that
//! subscriber, as soon as both are known. It challenges the subscriber over a channel that the
//! subscriber's session reported, and says how it went. Channel spec, section 6, with the corrections
//! of the product description: verification is per publisher session, subscriber session and topic.
//!
//! **Invariant**: a [`Verified`] is made only from the verdict of the publisher that was asked, on the
//! question it was asked, while both sessions are as they were.
//! **Invariant**: it ends with either session, or when either gives up the topic.

mod ask;
mod name;
mod own;
mod pair;
mod pairs;
mod sessions;
mod table;
#[cfg(test)]
mod tests;
mod verdict;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

pub(super) use self::own::OwnHolders;
use self::pair::Pair;
pub use self::{
    ask::Ask,
    name::topic_of_channel,
    pair::Question,
    table::{PrivateTable, Recipient, Verified},
};
use crate::{ClientIdentity, NodeId, SessionId, Time, Topic};

/// A session anywhere in the overlay. A node that restarts numbers its sessions in a new epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder {
    /// Its node.
    pub node: NodeId,
    /// The epoch of its node.
    pub epoch: u64,
    /// Its number there.
    pub session: SessionId,
}

impl Holder {
    const FIRST: Self = Self { node: NodeId::new([0; 32]), epoch: 0, session: SessionId(0) };
}

/// What a session has to do with private topics, as its node tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// Whose session it is.
    pub client: Arc<ClientIdentity>,
    /// Its topics; those that are not reserved may be among them and mean nothing here.
    pub topics: BTreeSet<Topic>,
}

/// What has been counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Questions put to publishers.
    pub asked: u64,
    /// Subscribers that were verified.
    pub verified: u64,
    /// Subscribers that failed.
    pub failed: u64,
    /// Verifications their publisher took back.
    pub revoked: u64,
    /// Verdicts on no question that was asked of that session.
    pub stray: u64,
    /// Subscribers of a publisher beyond a bound, not asked about until they report again.
    pub over_capacity: u64,
}

/// One publisher, one topic, one subscriber.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    publisher: SessionId,
    topic: Topic,
    subscriber: Holder,
}

/// Subscribers that one publisher session is asked about for one topic, at most.
pub const MAX_SUBSCRIBERS: usize = 10_000;
/// Those of one node among them.
pub const MAX_SUBSCRIBERS_OF_NODE: usize = 1_000;
/// Publishers and their subscribers, of all topics together.
pub const MAX_PAIRS: usize = 100_000;

/// A publisher's subscribers of a topic; with a node, only those there.
type Count = (SessionId, Topic, Option<NodeId>);

/// The machine.
#[derive(Debug)]
pub struct Verification {
    me: NodeId,
    secret: [u8; 32],
    questions: u64,
    sessions: BTreeMap<Holder, Reserved>,
    subscribers: BTreeMap<Topic, BTreeSet<Holder>>,
    /// Who says that a channel is theirs, in the order they were heard.
    claims: BTreeMap<Topic, Vec<Holder>>,
    pairs: BTreeMap<Key, Pair>,
    /// How many pairs there are of each kind that is bounded.
    pairs_of: BTreeMap<Count, usize>,
    asked: BTreeMap<Question, Key>,
    timers: BTreeSet<(Time, Key)>,
    /// Other nodes that can be reached.
    reachable: BTreeSet<NodeId>,
    table: PrivateTable,
    /// Whether the table has changed since it was taken.
    changed: bool,
    actions: VecDeque<Ask>,
    counters: Counters,
}

impl Verification {
    /// For the sessions of the node `me`. From `secret`, new at every start, come the questions.
    pub fn new(me: NodeId, secret: [u8; 32]) -> Self {
        Self {
            me,
            secret,
            questions: 0,
            sessions: BTreeMap::new(),
            subscribers: BTreeMap::new(),
            claims: BTreeMap::new(),
            pairs: BTreeMap::new(),
            pairs_of: BTreeMap::new(),
            asked: BTreeMap::new(),
            timers: BTreeSet::new(),
            reachable: BTreeSet::new(),
            table: PrivateTable::default(),
            changed: false,
            actions: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Who may receive what, as it is now.
    pub fn table(&self) -> PrivateTable {
        self.table.clone()
    }

    /// Whether the table has changed since it was taken last.
    pub fn has_changed(&self) -> bool {
        self.changed
    }

    /// The table, to be put in force.
    pub fn take_table(&mut self) -> PrivateTable {
        self.changed = false;
        self.table.clone()
    }

    /// What has been counted.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Time passed: questions nobody answered are put again.
    pub fn handle_timeout(&mut self, now: Time) {
        while self.timers.first().is_some_and(|(due, _)| *due <= now)
            && let Some((_, key)) = self.timers.pop_first()
        {
            self.proceed(now, &key);
        }
    }

    /// When [`Verification::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// What to ask next.
    pub fn poll_action(&mut self) -> Option<Ask> {
        self.actions.pop_front()
    }
}
