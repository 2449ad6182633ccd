//! This node's own records.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;

use crate::{
    NodeId, Time, Version,
    broker::{
        announce::{Authenticator, NodeInfo, Versions, sign},
        lists::{Bounds, OwnList},
        private::OwnHolders,
        seal::MacSecret,
        subscriptions::Subscriptions,
    },
    wire::generated::{self as pb, SignedRecord, TopicCount, record::Content},
};

/// What a node is when it starts.
#[derive(Clone, Debug)]
pub struct Me {
    /// What its certificate says of it.
    pub info: NodeInfo,
    /// The certificate chain: DER, leaf first, without the root.
    pub chain: Vec<Bytes>,
    /// The overlay address that others are told; may be empty.
    pub address: Arc<str>,
    /// Higher than that of any earlier start, as far as the clock can tell.
    pub epoch: u64,
    /// The key of this start from which MACs are derived.
    pub mac: MacSecret,
}

/// What this node says about itself, and in which version.
pub(super) struct Own {
    pub(super) info: NodeInfo,
    chain: Vec<Bytes>,
    address: Arc<str>,
    pub(super) mac: MacSecret,
    pub(super) epoch: u64,
    pub(super) identity: SignedRecord,
    identity_sequence: u64,
    pub(super) links: SignedRecord,
    links_sequence: u64,
    pub(super) topics: OwnList,
    bounds: Bounds,
    /// Whether the list was begun anew, so that all topics are to be announced.
    anew: bool,
    /// When gathered changes of topics are to be announced.
    pub(super) topics_due: Option<Time>,
    pub(super) draining: bool,
}

impl Own {
    pub(super) fn new(me: Me, bounds: Bounds, authenticator: &dyn Authenticator) -> Self {
        let Me { info, chain, address, epoch, mac } = me;
        let mut own = Self {
            info,
            chain,
            address,
            mac,
            epoch,
            identity: SignedRecord::default(),
            identity_sequence: 0,
            links: SignedRecord::default(),
            links_sequence: 0,
            topics: OwnList::new(),
            bounds,
            anew: true,
            topics_due: None,
            draining: false,
        };
        own.begin_epoch(epoch, authenticator);
        own
    }

    pub(super) fn address(&self) -> Arc<str> {
        self.address.clone()
    }

    pub(super) fn id(&self) -> NodeId {
        self.info.key.id()
    }

    /// The version in which everything that changed so far is announced.
    pub(super) fn version(&self) -> Version {
        let pending = u64::from(self.topics_due.is_some());
        Version { epoch: self.epoch, sequence: self.topics.sequence() + pending }
    }

    /// The version of the topics record that was announced last.
    pub(super) fn announced_version(&self) -> Version {
        Version { epoch: self.epoch, sequence: self.topics.sequence() }
    }

    pub(super) fn held(&self) -> Versions {
        Versions {
            epoch: self.epoch,
            identity: self.identity_sequence,
            links: self.links_sequence,
            topics: self.topics.sequence(),
        }
    }

    pub(super) fn versions(&self) -> pb::Versions {
        self.held().of(self.id())
    }

    /// Notes a change of topics; a change that is waiting already takes this one along.
    pub(super) fn topics_changed(&mut self, due: Time) {
        self.topics_due.get_or_insert(due);
    }

    /// A new identity in a higher epoch; links and topics are to be announced after it.
    pub(super) fn begin_epoch(&mut self, epoch: u64, authenticator: &dyn Authenticator) {
        self.epoch = epoch;
        self.identity_sequence = 0;
        self.next_identity(authenticator);
        self.links_sequence = 0;
        self.next_links(&BTreeSet::new(), authenticator);
        self.topics = OwnList::new();
        self.advance(Vec::new(), authenticator);
        self.anew = true;
    }

    /// The same identity, shown by another chain.
    pub(super) fn renew(&mut self, chain: Vec<Bytes>, authenticator: &dyn Authenticator) -> SignedRecord {
        self.chain = chain;
        self.next_identity(authenticator);
        self.identity.clone()
    }

    fn next_identity(&mut self, authenticator: &dyn Authenticator) {
        self.identity_sequence += 1;
        let content = Content::Identity(pb::IdentityContent {
            chain: self.chain.clone(),
            name: self.info.name.to_string(),
            address: self.address.to_string(),
            x25519_key: Bytes::copy_from_slice(&self.mac.public()),
        });
        let version = Version { epoch: self.epoch, sequence: self.identity_sequence };
        self.identity = sign(authenticator, self.id(), version, content);
    }

    pub(super) fn next_links(
        &mut self,
        up: &BTreeSet<NodeId>,
        authenticator: &dyn Authenticator,
    ) -> SignedRecord {
        self.links_sequence += 1;
        let neighbours = up.iter().map(|peer| Bytes::copy_from_slice(peer.as_bytes())).collect();
        let version = Version { epoch: self.epoch, sequence: self.links_sequence };
        let content = Content::Links(pb::LinksContent { neighbours });
        self.links = sign(authenticator, self.id(), version, content);
        self.links.clone()
    }

    /// The records that tell others what has changed of the topics.
    pub(super) fn next_topics(
        &mut self,
        subscriptions: &mut Subscriptions,
        holders: &mut OwnHolders,
        authenticator: &dyn Authenticator,
    ) -> Vec<SignedRecord> {
        self.topics_due = None;
        let changed = (subscriptions.take_changes(), holders.take_changes());
        let changes: Vec<TopicCount> = if self.draining {
            self.topics.withdrawal()
        } else {
            let (counts, held) = if self.anew {
                let counts = subscriptions.announced().map(|(topic, count)| (topic.clone(), count));
                (counts.collect(), holders.take_all())
            } else {
                changed
            };
            counts.into_iter().map(TopicCount::from).chain(held.into_iter().map(TopicCount::from)).collect()
        };
        self.anew = false;
        self.advance(changes, authenticator)
    }

    fn advance(&mut self, changes: Vec<TopicCount>, authenticator: &dyn Authenticator) -> Vec<SignedRecord> {
        let (id, epoch) = (self.id(), self.epoch);
        self.topics.advance(changes, &self.bounds, |sequence, content| {
            sign(authenticator, id, Version { epoch, sequence }, content)
        })
    }
}
