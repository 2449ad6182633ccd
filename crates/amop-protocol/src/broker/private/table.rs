//! Who may receive what: part of the routing snapshot.

use std::{collections::BTreeSet, sync::Arc};

use imbl::OrdMap;

use super::{Holder, Key, Question, topic_of_channel};
use crate::{
    ClientIdentity, NodeId, SessionId, Topic,
    topic::{Kind, PRIVATE_PREFIX},
};

/// A subscriber that a publisher trusts with a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    subscriber: Holder,
    client: Arc<ClientIdentity>,
    question: Question,
}

impl Verified {
    /// Only for the verdict of the publisher that was asked.
    pub(super) fn new(subscriber: Holder, client: Arc<ClientIdentity>, question: Question) -> Self {
        Self { subscriber, client, question }
    }

    /// Whom messages may go to.
    pub fn subscriber(&self) -> Holder {
        self.subscriber
    }

    /// Whose session that is, as its node tells.
    pub fn client(&self) -> &Arc<ClientIdentity> {
        &self.client
    }
}

/// One session that a message to a reserved name may go to. There is no other way to make one than
/// from a [`Verified`], or for a challenge from the question that a publisher was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient(Holder, Arc<ClientIdentity>);

impl Recipient {
    /// The session.
    pub fn holder(&self) -> Holder {
        self.0
    }

    /// Whose it is, as its node tells.
    pub fn client(&self) -> &Arc<ClientIdentity> {
        &self.1
    }
}

impl From<&Verified> for Recipient {
    fn from(verified: &Verified) -> Self {
        Self(verified.subscriber, verified.client.clone())
    }
}

/// Who owns a channel: a session, and whose it is.
pub(super) type Owner = (Holder, Arc<ClientIdentity>);

/// Who may receive what. Clones share all; a change costs what changed.
#[derive(Clone, Debug, Default)]
pub struct PrivateTable {
    pub(super) verified: OrdMap<Key, Verified>,
    /// Whose each channel is: at each node, of the session that reported it first.
    pub(super) channels: OrdMap<Topic, Arc<[Owner]>>,
    /// Which session a publisher is being asked about over a channel.
    pub(super) asked: OrdMap<(SessionId, Topic), Holder>,
    pub(super) publishers: OrdMap<Topic, BTreeSet<SessionId>>,
}

impl PrivateTable {
    /// The subscribers that `publisher`, a session of this node, has verified for `topic`, in order.
    pub fn verified(&self, publisher: SessionId, topic: &Topic) -> impl Iterator<Item = &Verified> {
        let first = Key { publisher, topic: topic.clone(), subscriber: Holder::FIRST };
        let topic = topic.clone();
        let from = self.verified.range(first..);
        from.take_while(move |(key, _)| key.publisher == publisher && key.topic == topic).map(|(_, it)| it)
    }

    /// Where a challenge over `channel` goes, if `publisher` may send one: to the session it is being
    /// asked about. An SDK that is connected to several nodes may challenge over another one than asked;
    /// there the first owner of the channel is challenged.
    pub fn challenged(&self, publisher: SessionId, channel: &Topic) -> Option<Recipient> {
        if !self.may_challenge(publisher, channel) {
            return None;
        }
        let owners = self.owners(channel);
        let asked = self.asked.get(&(publisher, channel.clone()));
        let owner = match asked {
            Some(asked) => owners.iter().find(|(owner, _)| owner == asked),
            None => owners.first(),
        };
        owner.map(|(at, client)| Recipient(*at, client.clone()))
    }

    /// Every session that a message of `publisher` to a reserved name may go to, in order.
    pub fn recipients(&self, publisher: SessionId, topic: &Topic) -> Vec<Recipient> {
        match topic.kind() {
            Kind::Private => self.verified(publisher, topic).map(Recipient::from).collect(),
            Kind::Handshake => self.challenged(publisher, topic).into_iter().collect(),
            Kind::Ordinary | Kind::BlockNotify => Vec::new(),
        }
    }

    /// Whether what was sent to this recipient may still go there.
    pub fn allows(&self, publisher: SessionId, topic: &Topic, to: Holder) -> bool {
        match topic.kind() {
            Kind::Private => {
                self.verified.contains_key(&Key { publisher, topic: topic.clone(), subscriber: to })
            }
            Kind::Handshake => {
                self.may_challenge(publisher, topic) && self.owners(topic).iter().any(|(at, _)| *at == to)
            }
            Kind::Ordinary | Kind::BlockNotify => false,
        }
    }

    /// At which node `publisher` has verified somebody, for which topic.
    pub fn verified_by(&self, publisher: SessionId) -> impl Iterator<Item = (NodeId, &Topic)> {
        let lowest = Topic::parse(PRIVATE_PREFIX).ok();
        let first = lowest.map(|topic| Key { publisher, topic, subscriber: Holder::FIRST });
        let all = first.into_iter().flat_map(|first| self.verified.range(first..));
        let own = all.take_while(move |(key, _)| key.publisher == publisher);
        own.map(|(key, _)| (key.subscriber.node, &key.topic))
    }

    pub(super) fn publishers(&self, topic: &Topic) -> BTreeSet<SessionId> {
        self.publishers.get(topic).cloned().unwrap_or_default()
    }

    pub(super) fn is_publisher(&self, session: SessionId, topic: &Topic) -> bool {
        self.publishers.get(topic).is_some_and(|publishers| publishers.contains(&session))
    }

    pub(super) fn owners(&self, channel: &Topic) -> &[Owner] {
        self.channels.get(channel).map_or(&[], |owners| owners)
    }

    pub(super) fn owns(&self, channel: &Topic, at: Holder) -> bool {
        self.owners(channel).iter().any(|(owner, _)| *owner == at)
    }

    fn may_challenge(&self, publisher: SessionId, channel: &Topic) -> bool {
        topic_of_channel(channel).is_some_and(|topic| self.is_publisher(publisher, &topic))
    }
}
