//! Who wants what: this node's sessions, and other nodes by what they announce.
//!
//! Owns the topic table of the routing snapshot. A change costs what changed, not what there is.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::routing::{NodeIndex, TopicRoutes, TopicTable};
use crate::{NodeId, SessionId, Topic, topic::Kind};

/// The index of this very node.
pub(super) const ME: NodeIndex = NodeIndex(0);

/// Topics a node announces, and how many of its sessions have each.
pub type Counts = BTreeMap<Topic, u32>;

/// Whether other nodes are told how many sessions here have a topic. Reserved names they are told of
/// session by session (`private`).
fn is_counted(topic: &Topic) -> bool {
    topic.kind() == Kind::Ordinary
}

/// Subscriptions, local and remote, and the table made of them.
#[derive(Debug)]
pub struct Subscriptions {
    sessions: BTreeMap<SessionId, BTreeSet<Topic>>,
    local: BTreeMap<Topic, BTreeSet<SessionId>>,
    /// Sessions that hold reserved names, but for the first of each name.
    more_holders: usize,
    /// Announced topics that have changed, with their counts before.
    changed: Counts,
    /// Ids by index, for the order of table entries.
    ids: Vec<NodeId>,
    table: TopicTable,
}

impl Subscriptions {
    /// Nobody wants anything.
    pub fn new(me: NodeId) -> Self {
        Self {
            sessions: BTreeMap::new(),
            local: BTreeMap::new(),
            more_holders: 0,
            changed: Counts::new(),
            ids: vec![me],
            table: TopicTable::default(),
        }
    }

    /// The table as it is now; a cheap clone.
    pub fn table(&self) -> TopicTable {
        self.table.clone()
    }

    /// Replaces a session's topics; true if what other nodes should know has changed.
    pub fn report(&mut self, session: SessionId, topics: impl IntoIterator<Item = Topic>) -> bool {
        let after: BTreeSet<Topic> = topics.into_iter().collect();
        let before = self.sessions.remove(&session).unwrap_or_default();
        let mut announced = false;
        for topic in before.difference(&after) {
            announced |= is_counted(topic);
            self.change_local(topic, |sessions| sessions.remove(&session));
        }
        for topic in after.difference(&before) {
            announced |= is_counted(topic);
            self.change_local(topic, |sessions| sessions.insert(session));
        }
        if !after.is_empty() {
            self.sessions.insert(session, after);
        }
        announced
    }

    /// Drops the topics of a session's report that would bring this node above `most` different
    /// ones, where a reserved name counts once for each session. What the session alone had and gives
    /// up makes room.
    pub fn keep_within(&self, session: SessionId, topics: &mut Vec<Topic>, most: usize) {
        let after: BTreeSet<&Topic> = topics.iter().collect();
        let only_here = |topic: &Topic| {
            topic.is_reserved() || self.local.get(topic).is_some_and(|sessions| sessions.len() == 1)
        };
        let before = self.sessions.get(&session);
        let leaving =
            before.into_iter().flatten().filter(|topic| !after.contains(topic) && only_here(topic)).count();
        let mut room = most.saturating_sub(self.local.len() + self.more_holders - leaving);
        topics.retain(|topic| {
            let own = before.is_some_and(|before| before.contains(topic));
            let known = own || !topic.is_reserved() && self.local.contains_key(topic);
            let kept = known || room > 0;
            room -= usize::from(kept && !known);
            kept
        });
    }

    /// What this node announces with a count: its sessions' topics but for reserved names and those
    /// that stay at home.
    pub fn announced(&self) -> impl Iterator<Item = (&Topic, u32)> {
        let announced = self.local.iter().filter(|(topic, _)| is_counted(topic));
        announced.map(|(topic, sessions)| (topic, sessions.len() as u32))
    }

    /// Different topics of this node's sessions, where a reserved name counts once for each session.
    pub fn local_topics(&self) -> usize {
        self.local.len() + self.more_holders
    }

    /// What has changed of [`Subscriptions::announced`] since this was asked last; 0 for what is gone.
    pub fn take_changes(&mut self) -> Vec<(Topic, u32)> {
        let changed = std::mem::take(&mut self.changed).into_keys();
        changed.map(|topic| (topic.clone(), self.local.get(&topic).map_or(0, BTreeSet::len) as u32)).collect()
    }

    /// Changes what another node announces, to these counts (0: gone).
    pub fn announce(
        &mut self,
        index: NodeIndex,
        id: NodeId,
        changes: impl IntoIterator<Item = (Topic, u32)>,
    ) {
        if self.ids.len() <= index.0 as usize {
            self.ids.resize(index.0 as usize + 1, id);
        }
        self.ids[index.0 as usize] = id;
        for (topic, count) in changes {
            self.set_count(&topic, index, count);
        }
    }

    fn change_local(&mut self, topic: &Topic, change: impl FnOnce(&mut BTreeSet<SessionId>) -> bool) {
        let sessions = self.local.entry(topic.clone()).or_default();
        let before = sessions.len() as u32;
        change(sessions);
        let now: Vec<SessionId> = sessions.iter().copied().collect();
        self.note(topic, before, now.len() as u32);
        if topic.is_reserved() {
            let more = |count: usize| count.saturating_sub(1);
            self.more_holders = self.more_holders + more(now.len()) - more(before as usize);
        }
        if now.is_empty() {
            self.local.remove(topic);
        }
        self.edit(topic, |routes, ids| {
            set_count(routes, ids, ME, now.len() as u32);
            routes.sessions = now;
        });
    }

    /// Notes a change for the next announcement; one that is undone is none.
    fn note(&mut self, topic: &Topic, before: u32, now: u32) {
        if !is_counted(topic) {
            return;
        }
        match self.changed.get(topic) {
            Some(announced) if *announced == now => _ = self.changed.remove(topic),
            Some(_) => {}
            None => _ = self.changed.insert(topic.clone(), before),
        }
    }

    fn set_count(&mut self, topic: &Topic, index: NodeIndex, count: u32) {
        self.edit(topic, |routes, ids| set_count(routes, ids, index, count));
    }

    fn edit(&mut self, topic: &Topic, edit: impl FnOnce(&mut TopicRoutes, &[NodeId])) {
        let entry = self.table.entry(topic.clone()).or_default();
        edit(Arc::make_mut(entry), &self.ids);
        if entry.nodes.is_empty() {
            self.table.remove(topic);
        }
    }
}

/// Entries stand in order of node id, so that all nodes with the same table see the same order.
fn set_count(routes: &mut TopicRoutes, ids: &[NodeId], index: NodeIndex, count: u32) {
    let id = ids[index.0 as usize];
    let at = routes.nodes.binary_search_by_key(&id, |(index, _)| ids[index.0 as usize]);
    match (at, count) {
        (Ok(at), 0) => {
            routes.nodes.remove(at);
        }
        (Ok(at), count) => routes.nodes[at] = (index, count),
        (Err(_), 0) => {}
        (Err(at), count) => routes.nodes.insert(at, (index, count)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> NodeId {
        NodeId::new([n; 32])
    }

    fn topic(name: &str) -> Topic {
        Topic::parse(name).unwrap()
    }

    fn nodes(subscriptions: &Subscriptions, name: &str) -> Vec<(u32, u32)> {
        let table = subscriptions.table();
        table.get(name).map_or(vec![], |routes| routes.nodes.iter().map(|(i, n)| (i.0, *n)).collect())
    }

    #[test]
    fn a_report_replaces_the_set() {
        let mut subs = Subscriptions::new(id(5));
        assert!(subs.report(SessionId(1), [topic("a"), topic("b"), topic("a")]));
        assert!(subs.report(SessionId(2), [topic("a")]));
        assert_eq!(nodes(&subs, "a"), [(0, 2)]);
        assert!(subs.report(SessionId(1), [topic("b")]));
        assert_eq!(nodes(&subs, "a"), [(0, 1)]);
        assert!(!subs.report(SessionId(1), [topic("b")]), "nothing new");
        subs.report(SessionId(1), []);
        subs.report(SessionId(2), []);
        assert_eq!((subs.table().len(), subs.local_topics()), (0, 0), "nothing is left behind");
    }

    #[test]
    fn at_the_bound_a_session_may_still_replace_its_topics() {
        let mut subs = Subscriptions::new(id(5));
        subs.report(SessionId(1), [topic("a"), topic("b")]);
        subs.report(SessionId(2), [topic("b")]);
        let kept = |names: &[&str]| {
            let mut topics = names.iter().map(|name| topic(name)).collect();
            subs.keep_within(SessionId(1), &mut topics, 2);
            topics.iter().map(Topic::to_string).collect::<Vec<_>>()
        };
        assert_eq!(kept(&["c", "d"]), ["c"], "`b` is still another session's");
        assert_eq!(kept(&["a", "b", "c"]), ["a", "b"]);
        assert_eq!(kept(&["b", "c"]), ["b", "c"]);
    }

    #[test]
    fn a_reserved_name_counts_for_every_session_and_is_told_otherwise() {
        let mut subs = Subscriptions::new(id(5));
        let private = "#!$TopicNeedVerify_a";
        assert!(!subs.report(SessionId(1), [topic(private)]));
        assert!(!subs.report(SessionId(2), [topic(private), topic("#!$PushChannel_#!$TopicNeedVerify_a")]));
        assert_eq!((subs.take_changes(), subs.announced().count()), (vec![], 0));
        let kept = |session, most| {
            let mut topics = vec![topic(private)];
            subs.keep_within(SessionId(session), &mut topics, most);
            topics.len()
        };
        assert_eq!((kept(3, 3), kept(3, 4), kept(1, 3)), (0, 1, 1));
        subs.report(SessionId(1), []);
        subs.report(SessionId(2), []);
        assert_eq!((subs.more_holders, subs.table().len()), (0, 0));
    }

    #[test]
    fn changes_are_told_once_and_not_if_undone() {
        let mut subs = Subscriptions::new(id(5));
        subs.report(SessionId(1), [topic("a"), topic("b"), topic("_block_notify_1")]);
        subs.report(SessionId(2), [topic("b"), topic("c")]);
        subs.report(SessionId(2), [topic("b")]);
        assert_eq!(subs.take_changes(), [(topic("a"), 1), (topic("b"), 2)]);
        assert_eq!(subs.take_changes(), []);
        subs.report(SessionId(1), [topic("b")]);
        subs.report(SessionId(2), [topic("a")]);
        assert_eq!(subs.take_changes(), [(topic("b"), 1)], "one session has `a` as before");
        subs.report(SessionId(2), []);
        assert_eq!(subs.take_changes(), [(topic("a"), 0)]);
    }

    #[test]
    fn block_notify_topics_stay_at_home() {
        let mut subs = Subscriptions::new(id(5));
        assert!(!subs.report(SessionId(1), [topic("_block_notify_1")]));
        assert_eq!(subs.announced().count(), 0);
        assert_eq!(nodes(&subs, "_block_notify_1"), [(0, 1)]);
    }

    #[test]
    fn nodes_stand_in_order_of_their_ids() {
        let mut subs = Subscriptions::new(id(5));
        subs.report(SessionId(1), [topic("t")]);
        subs.announce(NodeIndex(1), id(9), [(topic("t"), 3)]);
        subs.announce(NodeIndex(2), id(1), [(topic("t"), 2), (topic("u"), 1)]);
        assert_eq!(nodes(&subs, "t"), [(2, 2), (0, 1), (1, 3)]);
        subs.announce(NodeIndex(2), id(1), [(topic("t"), 0), (topic("u"), 0)]);
        assert_eq!(nodes(&subs, "t"), [(0, 1), (1, 3)]);
        assert_eq!(nodes(&subs, "u"), []);
    }

    #[test]
    fn a_table_that_was_handed_out_does_not_change() {
        let mut subs = Subscriptions::new(id(5));
        subs.report(SessionId(1), [topic("t")]);
        let before = subs.table();
        subs.report(SessionId(1), []);
        assert_eq!(before.get("t").map(|routes| routes.sessions.len()), Some(1));
    }
}
