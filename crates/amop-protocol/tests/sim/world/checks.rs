//! What must hold at certain moments: routes, topics, settling, memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use amop_protocol::Version;

use super::World;
use crate::{
    node::{SimNode, topic},
    plan::TOPICS,
};

/// How soon a change of topics must have settled while nothing breaks.
const SETTLES_WITHIN: Duration = Duration::from_secs(1);
/// And if announcements had to be joined, whose answers may only come with the gossip.
const JOINED_SETTLES_WITHIN: Duration = Duration::from_secs(11);

/// What nodes have announced, and what they owe.
#[derive(Default)]
pub struct Promises {
    /// Whether nothing breaks at present.
    calm: bool,
    /// Per node and version of its topics, what that version says.
    said: BTreeMap<(usize, Version), BTreeMap<String, u32>>,
    /// Per node, the versions that have yet to settle and by when.
    due: BTreeMap<usize, BTreeMap<Version, amop_protocol::Time>>,
    /// Times a node said that its topics had settled, and was right.
    pub kept: u64,
}

impl World {
    /// From now on nothing breaks until the run says otherwise.
    pub fn calm(&mut self, calm: bool) {
        if !calm && !self.promises.calm {
            return;
        }
        self.promises.calm = calm;
        self.promises.due.clear();
        self.promises.said.clear();
        for node in self.alive() {
            self.remember_topics(node);
        }
    }

    fn remember_topics(&mut self, node: usize) {
        let Some(sim) = &self.slots[node].node else { return };
        self.promises.said.insert((node, sim.control.version()), sim.announced());
    }

    /// A node's topics have changed: it must say before long that everybody knows.
    pub(super) fn expect_settled(&mut self, node: usize) {
        let now = self.now;
        let Some(sim) = self.slots[node].node.as_ref().filter(|_| self.promises.calm) else { return };
        if !sim.control.is_settled() {
            let within = if self.limits.waves < 64 { JOINED_SETTLES_WITHIN } else { SETTLES_WITHIN };
            let due = self.promises.due.entry(node).or_default();
            due.entry(sim.control.version()).or_insert(now + within);
        }
        self.remember_topics(node);
    }

    /// A node says that its topics have settled: look into everybody's table whether it is so.
    pub(super) fn settled(&mut self, node: usize, version: Version) {
        if !self.promises.calm {
            return;
        }
        let now = self.now;
        if let Some(due) = self.promises.due.get_mut(&node) {
            let late = due.iter().filter(|(v, at)| **v <= version && **at < now);
            self.oracle
                .broken
                .extend(late.map(|(v, at)| format!("node {node}'s {v:?} settled at {now:?}, due {at:?}")));
            due.retain(|v, _| *v > version);
        }
        for other in self.component(node) {
            let Some(sim) = &self.slots[other].node else { continue };
            let found = sim.announced_by(crate::node::key_of(node).id());
            let newer =
                self.promises.said.range((node, version)..=(node, Version { epoch: u64::MAX, sequence: 0 }));
            if newer.into_iter().all(|(_, said)| *said != found) {
                let fault = format!(
                    "node {node} said at {now:?} that {version:?} had settled; node {other} has {found:?}"
                );
                self.oracle.broken.push(fault);
            }
        }
        self.promises.kept += 1;
    }

    /// And what was announced has settled.
    pub fn check_settled(&mut self) {
        let now = self.now;
        for (node, due) in &self.promises.due {
            let late = due.iter().filter(|(_, at)| **at < now);
            self.oracle.broken.extend(late.map(|(v, _)| format!("node {node}'s {v:?} never settled")));
        }
        for node in self.alive() {
            let Some(sim) = &self.slots[node].node else { continue };
            if sim.control.settling() > 0 || !sim.control.is_settled() {
                let left = sim.control.settling();
                self.oracle
                    .broken
                    .push(format!("node {node} still waits for {left} announcements to settle"));
            }
            let (claims, unfinished) = (sim.control.claims(), sim.control.unfinished_bytes());
            if claims > 0 || unfinished > 0 {
                let fault =
                    format!("node {node} is left with {claims} claims and {unfinished} bytes of lists");
                self.oracle.broken.push(fault);
            }
            let counted = sim.control.counters();
            if counted.misfits + counted.paced + counted.unfinished + counted.refused > 0 {
                self.oracle.broken.push(format!("node {node} found fault with honest nodes: {counted:?}"));
            }
            if sim.control.known() >= self.slots.len() {
                let known = sim.control.known();
                self.oracle.broken.push(format!("node {node} knows {known} others of {}", self.slots.len()));
            }
        }
    }

    /// Two gossip periods after the last change: every node's routes and topics equal the truth.
    pub fn check_converged(&mut self) {
        for node in self.alive() {
            let component = self.component(node);
            self.check_routes(node, &component);
            self.check_topics(node, &component);
        }
    }

    fn component(&self, node: usize) -> BTreeSet<usize> {
        let mut reached = BTreeSet::from([node]);
        loop {
            let before = reached.len();
            for ((a, b), _) in self.links.iter().filter(|(_, link)| link.is_up()) {
                if reached.contains(a) || reached.contains(b) {
                    reached.extend([*a, *b]);
                }
            }
            if reached.len() == before {
                return reached;
            }
        }
    }

    fn check_routes(&mut self, node: usize, component: &BTreeSet<usize>) {
        let Some(sim) = &self.slots[node].node else { return };
        let found: BTreeSet<usize> = sim.routing.reachable().map(|node| self.ids[&node.id]).collect();
        if found != *component {
            self.oracle.broken.push(format!("node {node} reaches {found:?}, the truth is {component:?}"));
        }
    }

    fn check_topics(&mut self, node: usize, component: &BTreeSet<usize>) {
        let Some(sim) = &self.slots[node].node else { return };
        let (now, mut wrong) = (self.now, Vec::new());
        for number in 0..TOPICS {
            let truth: BTreeMap<usize, u32> = component
                .iter()
                .filter_map(|n| Some((*n, self.slots[*n].node.as_ref()?.subscribers(&topic(number)))))
                .filter(|(_, count)| *count > 0)
                .collect();
            let routes = sim.routing.topic(topic(number).as_str());
            let found: BTreeMap<usize, u32> = routes
                .map_or(&[][..], |routes| &routes.nodes)
                .iter()
                .filter_map(|(index, count)| Some((self.ids[&sim.routing.node(*index)?.id], *count)))
                .collect();
            if found != truth {
                wrong.push(format!(
                    "at {now:?} node {node} has topic {number} at {found:?}, the truth is {truth:?}"
                ));
            }
        }
        for other in component.iter().filter(|other| **other != node) {
            let Some(truth) = self.slots[*other].node.as_ref().map(SimNode::announced) else { continue };
            if sim.announced_by(crate::node::key_of(*other).id()) != truth {
                wrong.push(format!(
                    "at {now:?} node {node} has another list of node {other} than that itself"
                ));
            }
        }
        self.oracle.broken.extend(wrong);
    }

    /// After the run: nothing is in flight, nothing is waited for.
    pub fn finish(&mut self) {
        for number in self.alive() {
            let left = self.slots[number].node.as_ref().map_or(0, SimNode::in_flight);
            if left > self.challenges_under_way(number) {
                self.oracle.broken.push(format!("node {number} still has {left} sends in flight"));
            }
        }
        self.oracle.judge(self.now);
    }

    /// At any time: windows and tables are within their bounds.
    pub fn check_memory(&mut self) {
        for number in self.alive() {
            let Some(sim) = &self.slots[number].node else { continue };
            let (entries, bytes) = sim.window_load();
            if entries > self.limits.window_entries || bytes > self.limits.window_bytes {
                self.oracle
                    .broken
                    .push(format!("a window of node {number} holds {entries} messages, {bytes} bytes"));
            }
            let held = sim.held_bytes();
            if self.limits.room.is_some_and(|room| held > room) {
                self.oracle.broken.push(format!("node {number} holds {held} bytes of payloads"));
            }
            let (settling, most) = (sim.control.settling(), self.limits.waves * self.slots.len());
            if settling > most {
                self.oracle
                    .broken
                    .push(format!("{settling} announcements settle at node {number}, {most} may"));
            }
        }
    }

    /// Long after the last send: the windows have forgotten everything.
    pub fn check_forgotten(&mut self) {
        for number in self.alive() {
            let Some(sim) = &self.slots[number].node else { continue };
            let left = sim.remembered();
            if left != 0 {
                self.oracle.broken.push(format!("node {number} still remembers {left} messages"));
            }
            let held = sim.held_bytes();
            if held > 0 {
                self.oracle.broken.push(format!("node {number} still holds {held} bytes of payloads"));
            }
        }
    }
}
