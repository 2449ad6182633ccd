//! Asks around, and puts together what all say.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use amop_protocol::{
    NodeId, Seq,
    broker::{
        journal::{Brief, Key},
        routing::Routing,
    },
    wire::{
        generated::{Account, JournalStep},
        inquiry::{self, Subject},
        peer::Body,
    },
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use super::{
    Desk,
    account::{self, Noted},
    answer::{self, Extent, MAX_KEYS},
};
use crate::telemetry::trace::{Seen, Trace, show_seq};

/// How long other nodes have for their answers.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long one trace may take, if several messages have the seq, or the first to be asked know of none.
const IN_ALL: Duration = Duration::from_secs(4);
/// Nodes that are asked about one message, those first that are known to have had it.
pub(super) const MAX_ASKED: usize = 128;
/// How long somebody who follows a topic waits for the next message before being told that there was none.
const LONG_POLL: Duration = Duration::from_secs(3);
/// How often the journals are looked at meanwhile.
const LOOK: Duration = Duration::from_millis(100);
/// Messages of one answer to somebody who follows a topic.
pub(super) const MAX_SEEN: usize = 64;

/// What is known so far.
struct Found {
    /// When it is enough.
    until: Instant,
    noted: Vec<Noted>,
    asked: BTreeSet<NodeId>,
    silent: BTreeSet<NodeId>,
    notes: BTreeSet<&'static str>,
}

/// What became of the messages with this seq.
pub(super) async fn gather(desk: &Desk, seq: Seq, here: bool) -> Trace {
    let mut found = Found::new(Instant::now() + IN_ALL);
    found.look_here(desk, Subject::Seq(seq));
    let routing = desk.data.routing().clone();
    if found.noted.is_empty() && !here {
        let colleagues = colleagues(&routing);
        found.ask(desk, Subject::Seq(seq), &colleagues).await;
    }
    if !here {
        let keys: BTreeSet<Key> =
            found.noted.iter().map(|noted| noted.key).filter(|key| key.send != 0).collect();
        for key in keys.into_iter().take(MAX_KEYS) {
            found.follow(desk, &routing, key).await;
        }
    }
    found.into_trace(&routing, seq)
}

impl Found {
    fn new(until: Instant) -> Self {
        let (asked, silent, notes) = Default::default();
        Self { until, noted: Vec::new(), asked, silent, notes }
    }

    /// Asks those about a message who may have had it, and answer.
    async fn follow(&mut self, desk: &Desk, routing: &Routing, key: Key) {
        let Some(origin) = routing.reachable().find(|node| Brief::from(node.id) == key.origin) else {
            self.notes.insert("the publisher's node cannot be reached any more, so only this institution's nodes were asked");
            return;
        };
        let mine = routing.find(&routing.me()).map(|me| me.institution.clone());
        let to = if mine.as_ref() == Some(&origin.institution) {
            self.everybody(routing, key)
        } else {
            self.notes.insert(
                "the publisher is of another institution: only its own nodes are told what happened elsewhere",
            );
            colleagues(routing)
        };
        // What colleagues said when they were asked by seq, they say again in full.
        let me = routing.me();
        self.noted.retain(|noted| noted.key != key || noted.node == me);
        let subject = Subject::Send { origin: origin.id, epoch: key.epoch, send: key.send };
        self.ask(desk, subject, &to).await;
        if self.noted.iter().all(|noted| noted.key != key || noted.node != me) {
            self.look_here(desk, subject);
        }
    }

    /// All other nodes; those first that are mentioned.
    fn everybody(&self, routing: &Routing, key: Key) -> Vec<NodeId> {
        let of_message = self.noted.iter().filter(|noted| noted.key == key);
        let mentioned: BTreeSet<&[u8]> =
            of_message.flat_map(|noted| [&noted.step.node[..], &noted.step.via[..]]).collect();
        let mut others: Vec<(bool, u32, NodeId)> = routing
            .reachable()
            .filter(|node| node.id != routing.me())
            .map(|node| (!mentioned.contains(&Brief::from(node.id).0[..]), node.hops, node.id))
            .collect();
        others.sort_unstable();
        others.into_iter().map(|(_, _, node)| node).collect()
    }

    fn look_here(&mut self, desk: &Desk, subject: Subject) {
        let me = desk.data.routing().me();
        let steps = crate::tasks::at_length(|| answer::find(&desk.data, subject));
        let now = desk.data.now();
        let account = answer::account(steps, now, Extent::All);
        self.add(me, now.since_start(), Duration::ZERO, subject, account);
    }

    async fn ask(&mut self, desk: &Desk, subject: Subject, nodes: &[NodeId]) {
        let (nodes, others) = nodes.split_at(nodes.len().min(MAX_ASKED));
        if !others.is_empty() {
            self.notes.insert("there are more nodes than are asked about one message");
            desk.inquiries.metrics.left_out.inc_by(others.len() as u64);
        }
        let (sender, mut answers) = mpsc::channel(nodes.len().max(1));
        let began = desk.data.now();
        let (mut ids, mut waited): (Vec<u64>, BTreeSet<NodeId>) = Default::default();
        for node in nodes {
            let id = desk.inquiries.expect(*node, sender.clone());
            ids.push(id);
            waited.insert(*node);
            // One that cannot be sent to is one that does not answer.
            let _ = desk.data.inquire(*node, Body::Inquiry { id, is_answer: false }, subject.encode());
        }
        drop(sender);
        self.asked.extend(nodes);
        let until = self.until.min(Instant::now() + PATIENCE);
        while !waited.is_empty()
            && let Ok(Some((node, payload))) = timeout_at(until, answers.recv()).await
        {
            waited.remove(&node);
            let now = desk.data.now();
            match inquiry::decode_account(&payload) {
                Ok(account) => {
                    let half = now.since(began) / 2;
                    self.add(node, now.since_start().saturating_sub(half), half, subject, account);
                }
                Err(cause) => {
                    tracing::debug!(%node, %cause, "answer about a message ignored");
                    self.silent.insert(node);
                }
            }
        }
        desk.inquiries.forget(&ids);
        self.silent.extend(waited);
    }

    /// What a node said at `now`, give or take something.
    fn add(&mut self, node: NodeId, now: Duration, give_or_take: Duration, subject: Subject, said: Account) {
        if said.partial {
            self.notes.insert("some node has more steps than it tells at once");
        }
        self.noted.extend(said.steps.into_iter().map(|step| Noted {
            node,
            key: key_of(subject, &step),
            at: now.saturating_sub(Duration::from_micros(step.age_us)),
            give_or_take,
            step,
        }));
    }

    fn into_trace(self, routing: &Routing, seq: Seq) -> Trace {
        let mut by_key: BTreeMap<Key, Vec<Noted>> = BTreeMap::new();
        for noted in self.noted {
            by_key.entry(noted.key).or_default().push(noted);
        }
        let messages = by_key.into_iter().map(|(key, steps)| account::message(routing, key, steps));
        Trace {
            id: show_seq(&seq),
            messages: messages.collect(),
            asked: self.asked.len(),
            silent: self.silent.iter().map(|node| account::place(routing, Brief::from(*node))).collect(),
            notes: self.notes.into_iter().map(str::to_owned).collect(),
        }
    }
}

/// Whoever is asked about a send speaks of that one; to who asks by seq they say which.
fn key_of(subject: Subject, step: &JournalStep) -> Key {
    Key::asked(&subject).unwrap_or_else(|| {
        let origin = step.origin[..].try_into().map(Brief).unwrap_or_default();
        Key { origin, epoch: step.epoch, send: step.send_id }
    })
}

/// The other nodes of this node's institution.
fn colleagues(routing: &Routing) -> Vec<NodeId> {
    let me = routing.me();
    let Some(mine) = routing.find(&me).map(|me| &me.institution) else { return Vec::new() };
    let ours = routing.reachable().filter(|node| node.id != me && node.institution == *mine);
    ours.map(|node| node.id).collect()
}

/// Messages to a topic that have come by here since `place`.
pub(super) async fn seen(desk: &Desk, topic: &str, place: &str) -> Seen {
    let mut places = desk.data.journals_written();
    for (place, given) in places.iter_mut().zip(place.split('.')) {
        if let Ok(given) = given.parse() {
            *place = given;
        }
    }
    let name =
        amop_protocol::Topic::parse(topic).ok().map(|topic| amop_protocol::broker::journal::Name::of(&topic));
    let until = Instant::now() + LONG_POLL;
    let (mut ids, mut left_out) = (Vec::new(), 0);
    loop {
        for (shard, place) in places.iter_mut().enumerate() {
            *place = desk.data.read_shard(shard, *place, &mut |entry, _| {
                let Some(seq) = entry.seq().filter(|_| name.is_some() && entry.topic() == name.as_ref())
                else {
                    return;
                };
                let id = (entry.at(), show_seq(seq));
                match ids.len() {
                    ..MAX_SEEN => ids.push(id),
                    _ => left_out += 1,
                }
            });
        }
        if !ids.is_empty() || Instant::now() >= until {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    ids.sort();
    desk.inquiries.metrics.left_out.inc_by(left_out);
    let mut ids: Vec<String> = ids.into_iter().map(|(_, id)| id).collect();
    ids.dedup();
    let place = places.iter().map(u64::to_string).collect::<Vec<_>>().join(".");
    Seen { ids, place, left_out }
}
