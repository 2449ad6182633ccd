//! Entries of a list: topics with their subscribers, and the sessions that hold reserved names.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    ClientIdentity, Fingerprint, SessionId, Topic,
    broker::subscriptions::Counts,
    wire::generated::{self as pb, TopicCount},
};

/// Most bytes of a client's name in an entry; certificates allow fewer.
pub const MAX_CLIENT_NAME: usize = 256;

/// The sessions of a node that hold reserved names, name by name.
pub type Holders = BTreeMap<(Topic, SessionId), Arc<ClientIdentity>>;

/// A change of one session's hold on a reserved name; `None`: it holds it no longer.
pub type HolderChange = (Topic, SessionId, Option<Arc<ClientIdentity>>);

/// What a list says of a topic or, if the name is reserved, of one session that holds it.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    pub(super) topic: &'a str,
    pub(super) subscribers: u32,
    pub(super) holder: Option<Holder<'a>>,
}

/// A session, as an entry names it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holder<'a> {
    pub(super) session: SessionId,
    pub(super) fingerprint: &'a [u8],
    pub(super) name: &'a str,
}

impl<'a> From<(&'a str, u32)> for Entry<'a> {
    fn from((topic, subscribers): (&'a str, u32)) -> Self {
        Self { topic, subscribers, holder: None }
    }
}

impl<'a> From<&'a TopicCount> for Entry<'a> {
    fn from(count: &'a TopicCount) -> Self {
        let holder = |holder: &'a pb::TopicHolder| {
            let client = holder.client.as_ref();
            Holder {
                session: SessionId(holder.session),
                fingerprint: client.map_or(&[][..], |client| &client.fingerprint),
                name: client.map_or("", |client| &client.name),
            }
        };
        let subscribers = count.subscribers;
        Self { topic: &count.topic, subscribers, holder: count.holder.as_ref().map(holder) }
    }
}

impl Entry<'_> {
    /// As it is sent.
    pub(super) fn to_count(self) -> TopicCount {
        let holder = self.holder.map(|Holder { session, fingerprint, name }| pb::TopicHolder {
            session: session.0,
            client: (self.subscribers > 0).then(|| pb::ClientIdentity {
                fingerprint: bytes::Bytes::copy_from_slice(fingerprint),
                name: name.into(),
            }),
        });
        TopicCount { topic: self.topic.into(), subscribers: self.subscribers, holder }
    }
}

impl From<(Topic, u32)> for TopicCount {
    fn from((topic, subscribers): (Topic, u32)) -> Self {
        Self { topic: topic.to_string(), subscribers, holder: None }
    }
}

impl From<HolderChange> for TopicCount {
    fn from((topic, session, client): HolderChange) -> Self {
        let subscribers = u32::from(client.is_some());
        let client = client.map(|client| {
            let name = &client.name[..client.name.floor_char_boundary(MAX_CLIENT_NAME)];
            let fingerprint = bytes::Bytes::copy_from_slice(client.fingerprint.as_bytes());
            pb::ClientIdentity { fingerprint, name: name.into() }
        });
        let holder = Some(pb::TopicHolder { session: session.0, client });
        Self { topic: topic.to_string(), subscribers, holder }
    }
}

/// What a list says that it did not say before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::broker) struct Changes {
    /// Topics with their counts; 0 for what is gone.
    pub(in crate::broker) counts: Vec<(Topic, u32)>,
    /// Sessions that hold reserved names, or do no longer.
    pub(in crate::broker) holders: Vec<HolderChange>,
}

/// Where an entry belongs.
enum Place {
    Counted(Topic),
    Held((Topic, SessionId), Option<Arc<ClientIdentity>>),
    /// It means nothing here.
    Strange,
}

/// Entries of a list, by topic and session.
#[derive(Clone, Debug, Default)]
pub(super) struct Entries {
    pub(super) counts: Counts,
    pub(super) holders: Holders,
    /// Names that are no topics here, and entries that do not suit their names. They route nowhere,
    /// but the hash covers them.
    strange: BTreeMap<(Box<str>, Option<SessionId>), TopicCount>,
}

impl Entries {
    pub(super) fn len(&self) -> usize {
        self.counts.len() + self.holders.len() + self.strange.len()
    }

    pub(super) fn strange(&self) -> usize {
        self.strange.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Entry<'_>> {
        let counts = self.counts.iter().map(|(topic, count)| (topic.as_str(), *count).into());
        let holders = self.holders.iter().map(|((topic, session), client)| held(topic, *session, client));
        counts.chain(holders).chain(self.strange.values().map(Entry::from))
    }

    /// What stands in the place of this entry; without subscribers if nothing does.
    pub(super) fn find<'a>(&'a self, of: Entry<'a>) -> Entry<'a> {
        let session = of.holder.map(|holder| holder.session);
        let nothing = Entry { subscribers: 0, ..of };
        if !self.strange.is_empty()
            && let Some(strange) = self.strange.get(&(of.topic.into(), session))
        {
            return strange.into();
        }
        let Some(session) = session else {
            return self.counts.get(of.topic).map_or(nothing, |count| (of.topic, *count).into());
        };
        let Ok(topic) = Topic::parse(of.topic) else { return nothing };
        match self.holders.get_key_value(&(topic, session)) {
            Some(((topic, _), client)) => held(topic, session, client),
            None => nothing,
        }
    }

    /// Sets an entry, and notes what that changes.
    pub(super) fn set(&mut self, entry: &TopicCount, changes: &mut Changes) {
        let session = entry.holder.as_ref().map(|holder| SessionId(holder.session));
        if !self.strange.is_empty() {
            self.strange.remove(&(entry.topic.as_str().into(), session));
        }
        match place(entry) {
            Place::Counted(topic) => {
                match entry.subscribers {
                    0 => self.counts.remove(&topic),
                    count => self.counts.insert(topic.clone(), count),
                };
                changes.counts.push((topic, entry.subscribers));
            }
            Place::Held(key, client) => {
                let (topic, session) = key.clone();
                match &client {
                    None => self.holders.remove(&key),
                    Some(client) => self.holders.insert(key, client.clone()),
                };
                changes.holders.push((topic, session, client));
            }
            Place::Strange => self.set_strange(entry, session, changes),
        }
    }

    /// What is strange takes the place of what was not.
    fn set_strange(&mut self, entry: &TopicCount, session: Option<SessionId>, changes: &mut Changes) {
        if let Ok(topic) = Topic::parse(&entry.topic) {
            match session {
                None if self.counts.remove(&topic).is_some() => changes.counts.push((topic, 0)),
                Some(session) if self.holders.remove(&(topic.clone(), session)).is_some() => {
                    changes.holders.push((topic, session, None));
                }
                _ => {}
            }
        }
        if entry.subscribers > 0 {
            self.strange.insert((entry.topic.as_str().into(), session), entry.clone());
        }
    }

    /// What `after` says that this did not.
    pub(super) fn differences(&self, after: &Self) -> Changes {
        let gone = self.counts.keys().filter(|topic| !after.counts.contains_key(*topic));
        let new = after.counts.iter().filter(|(topic, count)| self.counts.get(*topic) != Some(count));
        let counts = gone.map(|topic| (topic.clone(), 0));
        let lost = self.holders.keys().filter(|key| !after.holders.contains_key(*key));
        let won = after.holders.iter().filter(|(key, client)| self.holders.get(*key) != Some(client));
        let holders = lost.map(|(topic, session)| (topic.clone(), *session, None));
        Changes {
            counts: counts.chain(new.map(|(topic, count)| (topic.clone(), *count))).collect(),
            holders: holders
                .chain(won.map(|((topic, at), client)| (topic.clone(), *at, Some(client.clone()))))
                .collect(),
        }
    }
}

fn held<'a>(topic: &'a Topic, session: SessionId, client: &'a ClientIdentity) -> Entry<'a> {
    let holder = Holder { session, fingerprint: client.fingerprint.as_bytes(), name: &client.name };
    Entry { topic: topic.as_str(), subscribers: 1, holder: Some(holder) }
}

fn place(entry: &TopicCount) -> Place {
    let Ok(topic) = Topic::parse(&entry.topic) else { return Place::Strange };
    match (&entry.holder, topic.is_reserved()) {
        (None, false) => Place::Counted(topic),
        (Some(holder), true) => {
            let key = (topic, SessionId(holder.session));
            match (entry.subscribers, holder.client.as_ref().and_then(client)) {
                (0, _) => Place::Held(key, None),
                (1, Some(client)) => Place::Held(key, Some(client)),
                _ => Place::Strange,
            }
        }
        _ => Place::Strange,
    }
}

fn client(client: &pb::ClientIdentity) -> Option<Arc<ClientIdentity>> {
    let fingerprint = Fingerprint::from_slice(&client.fingerprint)?;
    let name = Some(&client.name).filter(|name| name.len() <= MAX_CLIENT_NAME)?;
    Some(Arc::new(ClientIdentity { fingerprint, name: name.as_str().into() }))
}
