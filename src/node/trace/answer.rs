//! What another node is told.

use std::collections::BTreeSet;

use amop_protocol::{
    NodeId, Time,
    broker::{
        deliver::Delivery,
        inquiry::step,
        journal::{Brief, Entry, Key, Step},
        routing::Routing,
    },
    wire::{
        generated::{Account, JournalStep},
        inquiry::{self, MAX_STEPS, Subject},
        peer::Body,
    },
};
use bytes::Bytes;

use super::{
    Desk,
    inquiries::Asked,
    pace::{Pace, entries_for},
    who,
};
use crate::{config::Show, node::data_path::DataPath, tasks};

/// Sends that one seq may stand for; more are left out.
pub(super) const MAX_KEYS: usize = 8;

/// How much whoever asks may know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    Nothing,
    /// Times, kinds, causes and nodes.
    Hops,
    All,
}

/// Answers a question, if whoever asks does not ask too often.
pub(super) fn answer(desk: &Desk, pace: &mut Pace, asked: &Asked) {
    let metrics = &desk.inquiries.metrics;
    let Ok(subject) = Subject::decode(&asked.question) else {
        metrics.refused.inc();
        tracing::debug!(node = %asked.by, "malformed question about a message ignored");
        return;
    };
    let entries = entries_for(subject, desk.data.entries());
    if !pace.admits(desk.data.now(), &asked.asker, entries) {
        metrics.refused.inc();
        return;
    }
    let account = tasks::at_length(|| account_for(desk, asked.by, subject));
    let body = Body::Inquiry { id: asked.id, is_answer: true };
    metrics.answered.inc();
    // Without a way back there is nobody to tell; whoever asked stops waiting.
    let _ = desk.data.inquire(asked.by, body, inquiry::encode_account(&account));
}

/// What node `asker` is told. The search is made in any case, so that time tells nothing either.
fn account_for(desk: &Desk, asker: NodeId, subject: Subject) -> Account {
    let steps = find(&desk.data, subject);
    let routing = desk.data.routing();
    let extent = extent(&routing, asker, subject, *desk.show.lock());
    match extent {
        Extent::Nothing => Account::default(),
        Extent::Hops | Extent::All => account(steps, desk.data.now(), extent),
    }
}

/// What a node may know about a message.
fn extent(routing: &Routing, asker: NodeId, subject: Subject, show: Show) -> Extent {
    let institution = |node: &NodeId| routing.find(node).map_or("", |node| &*node.institution);
    let origin = match subject {
        Subject::Send { origin, .. } if !is_ambiguous(routing, origin.into()) => Some(institution(&origin)),
        _ => None,
    };
    by_policy(institution(&asker), institution(&routing.me()), origin, show)
}

/// What a node of institution `theirs` is told by one of `mine` about a message from `origin`, if that is known; an
/// empty name is that of no institution.
pub(super) fn by_policy(theirs: &str, mine: &str, origin: Option<&str>, show: Show) -> Extent {
    if theirs.is_empty() {
        return Extent::Nothing;
    }
    match show {
        _ if theirs == mine => Extent::All,
        _ if origin != Some(theirs) => Extent::Nothing,
        Show::Nothing => Extent::Nothing,
        Show::Hops => Extent::Hops,
        Show::All => Extent::All,
    }
}

/// Journals keep the beginning of a node's id only.
fn is_ambiguous(routing: &Routing, brief: Brief) -> bool {
    routing.reachable().filter(|node| Brief::from(node.id) == brief).count() > 1
}

/// What is written down here about a message, with whom each step is about, in order of time.
pub(super) fn find(data: &DataPath, subject: Subject) -> Vec<(Entry, String)> {
    let keys = match subject {
        Subject::Send { .. } => Key::asked(&subject).into_iter().collect(),
        Subject::Seq(seq) => {
            let mut keys = BTreeSet::new();
            data.read_journals(|entry, _| {
                if entry.seq() == Some(&seq) && keys.len() < MAX_KEYS {
                    keys.insert(entry.key());
                }
            });
            keys
        }
    };
    let mut found = Vec::new();
    let is_meant = |entry: &Entry| match (entry.key(), subject) {
        // Many messages that were refused at once have the same key.
        (Key { send: 0, .. }, Subject::Seq(seq)) => entry.seq() == Some(&seq),
        (Key { send: 0, .. }, Subject::Send { .. }) => false,
        (key, _) => keys.contains(&key),
    };
    if !keys.is_empty() {
        data.read_journals(|entry: &Entry, shard: Option<&Delivery>| {
            if found.len() <= MAX_STEPS && is_meant(entry) {
                found.push((*entry, who(entry, shard)));
            }
        });
    }
    found.sort_by_key(|(entry, _)| entry.at());
    found
}

/// The same, as it is told.
pub(super) fn account(steps: Vec<(Entry, String)>, now: Time, extent: Extent) -> Account {
    let partial = steps.len() > MAX_STEPS;
    let told = steps.into_iter().take(MAX_STEPS).map(|(entry, who)| match extent {
        Extent::All => in_full(&entry, who, now),
        Extent::Hops | Extent::Nothing => step(&entry, now),
    });
    Account { steps: told.collect(), partial }
}

fn in_full(entry: &Entry, who: String, now: Time) -> JournalStep {
    let key = entry.key();
    let topic = entry.topic().map(|name| match name.known() {
        Ok(topic) => topic.to_owned(),
        Err(beginning) => format!("{beginning}…"),
    });
    let context = match entry.step {
        Step::Context { context, .. } => Bytes::copy_from_slice(context.as_bytes()),
        _ => Bytes::new(),
    };
    JournalStep {
        who,
        topic: topic.unwrap_or_default(),
        seq: entry.seq().map(|seq| Bytes::copy_from_slice(&seq.0)).unwrap_or_default(),
        context,
        origin: Bytes::copy_from_slice(&key.origin.0),
        epoch: key.epoch,
        send_id: key.send,
        ..step(entry, now)
    }
}
