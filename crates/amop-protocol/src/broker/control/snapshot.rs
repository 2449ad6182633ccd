//! From what is known to the snapshot that everybody routes by.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use super::{Action, Control};
use crate::{
    NodeId, Time,
    broker::{
        announce::{Known, NodeInfo},
        routing::{IdState, Node, NodeIndex},
        subscriptions::ME,
    },
};

/// Least time between two times that routes are worked out for changes of others' links: 5 ms, and
/// 20 µs per node that is known, which keeps the work for it to a fraction of one core.
pub const ROUTES_PAUSE: Duration = Duration::from_millis(5);
const ROUTES_PAUSE_PER_NODE: Duration = Duration::from_micros(20);

impl Control {
    /// Works the routes out anew, and tells if anything came of it.
    pub(super) fn routes_changed(&mut self, now: Time) {
        (self.routed_at, self.routes_due) = (Some(now), None);
        let before: BTreeSet<NodeId> = self.topology.ways().keys().copied().collect();
        let renewed = std::mem::take(&mut self.renewed);
        if self.topology.recompute() || renewed {
            self.reachable_changed(now);
            self.publish_routing(true);
            self.put_questions();
            self.tell_of_newcomers(&before);
        }
    }

    /// Subscribers are challenged as soon as there is a way to them.
    fn reachable_changed(&mut self, now: Time) {
        let ways = self.topology.ways().keys();
        let reachable = ways.filter(|id| self.known.get(id).is_some_and(|known| known.identity.is_some()));
        self.verification.handle_reachable(now, reachable.copied().collect());
    }

    /// Others' links have changed. Alone, that counts at once; of many changes in a row, such as when
    /// a network forms or heals, those of a while are taken together.
    pub(super) fn links_changed(&mut self, now: Time) {
        let gather = ROUTES_PAUSE + ROUTES_PAUSE_PER_NODE * self.indices.len() as u32;
        match self.routed_at.map(|at| at + gather).filter(|due| *due > now) {
            Some(due) => _ = self.routes_due.get_or_insert(due),
            None => self.routes_changed(now),
        }
    }

    pub(super) fn publish_routing(&mut self, ways: bool) {
        self.routing.revision += 1;
        self.routing.topics = self.subscriptions.table();
        self.routing.private = self.verification.take_table();
        if ways {
            let (nodes, index) = self.reachable();
            self.routing.nodes = Arc::new(nodes);
            self.routing.index = Arc::new(index);
            self.routing.graph = self.topology.graph().clone();
        }
        self.actions.push_back(Action::Routing(self.routing.clone()));
    }

    pub(super) fn reachable(&self) -> (Vec<Option<Node>>, HashMap<NodeId, NodeIndex, IdState>) {
        let me = self.own.id();
        let mut nodes = vec![None; self.indices.len() + self.free.len()];
        let mut index = HashMap::default();
        nodes[ME.0 as usize] = Some(node_of(&self.own.info, self.own.address(), self.own.epoch));
        index.insert(me, ME);
        for (id, way) in self.topology.ways() {
            let Some(Known { epoch, identity: Some(identity), .. }) = self.known.get(id) else {
                continue;
            };
            let Some(at) = self.indices.get(id) else { continue };
            let node = Node {
                next_hop: way.next_hop,
                hops: way.hops,
                way: way.mark,
                seal: Some(identity.seal.clone()),
                ..node_of(&identity.info, identity.address.clone(), *epoch)
            };
            nodes[at.0 as usize] = Some(node);
            index.insert(*id, *at);
        }
        (nodes, index)
    }
}

/// This very node, or what another is but for the way there.
pub(super) fn node_of(info: &NodeInfo, address: Arc<str>, epoch: u64) -> Node {
    Node {
        id: info.key.id(),
        key: info.key,
        name: info.name.clone(),
        institution: info.institution.clone(),
        address,
        epoch,
        next_hop: info.key.id(),
        hops: 0,
        way: 0,
        seal: None,
    }
}
