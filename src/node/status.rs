//! What the node tells of itself when the admin port is asked.

use std::{collections::HashMap, sync::Arc, time::Instant};

use amop_protocol::{
    SessionId, Topic as TopicName,
    broker::routing::{Node, Routing, TopicRoutes},
    topic::Kind,
};
use futures::future::BoxFuture;

use super::{
    certificates::{Certificates, status_of},
    data_path::DataPath,
    endings::Endings,
    lifecycle::{Lifecycle, Moment},
    links::Links,
    overview,
    reload::{self, Changes, Settings},
    sessions::{Session, Sessions},
    trace::Traces,
    usage,
};
use crate::{
    client_port::Registry,
    config::Change,
    overlay::{Overlay, Wanted, WantedState},
    telemetry::{
        overview::{Overview, View},
        status::{
            Addresses, Certificate, ChangedSetting, Client, ConfiguredPeer, Drain, Operations, Page, Peer,
            PeerState, Phase, Reload, Route, Status, StatusSource, Topic, TopicNode, Usage,
        },
        trace::TraceSource,
    },
};

/// Where the admin port's answers come from: snapshots and counters, no busy task.
pub(super) struct Source {
    pub(super) data: Arc<DataPath>,
    pub(super) links: Arc<Links>,
    pub(super) overlay: Overlay,
    pub(super) clients: Arc<Registry>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) lifecycle: Arc<Lifecycle>,
    pub(super) certificates: Arc<Certificates>,
    pub(super) reload: reload::Handle,
    pub(super) endings: Endings,
    pub(super) settings: Arc<Settings>,
    pub(super) addresses: Addresses,
    pub(super) traces: Arc<Traces>,
    pub(super) since: Instant,
}

impl StatusSource for Source {
    fn traces(&self) -> Option<Arc<dyn TraceSource>> {
        Some(self.traces.clone())
    }

    fn status(&self) -> Status {
        let routing = self.data.routing();
        let me = routing.find(&routing.me());
        let not_ready = self.not_ready();
        Status {
            name: me.map(|me| me.name.to_string()).unwrap_or_default(),
            institution: me.map(|me| me.institution.to_string()).unwrap_or_default(),
            node_id: me.map(|me| me.key.to_string()).unwrap_or_default(),
            epoch: me.map(|me| me.epoch).unwrap_or_default(),
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_seconds: self.since.elapsed().as_secs(),
            addresses: self.addresses.clone(),
            links: self.links.len(),
            nodes: routing.reachable().count().saturating_sub(1),
            clients: self.clients.len(),
            topics: routing.topics().filter(|(_, routes)| !routes.sessions.is_empty()).count(),
            ready: not_ready.is_empty(),
            not_ready,
            at_restart: self.settings.in_force().at_restart.clone(),
            configured_peers: self.overlay.wanted().into_iter().map(configured).collect(),
        }
    }

    fn not_ready(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.lifecycle.is_over() {
            reasons.push("draining".to_owned());
        }
        let peers = self.settings.in_force().peers;
        if peers > 0 && self.links.len() == 0 {
            reasons.push(format!("no link is up, and {peers} peers are configured"));
        }
        reasons
    }

    fn peers(&self) -> Vec<Peer> {
        let routing = self.data.routing();
        let mut peers: Vec<Peer> = others(&routing).map(|node| self.peer(node, &routing)).collect();
        peers.sort_by(|a, b| (a.hops, &a.name).cmp(&(b.hops, &b.name)));
        peers
    }

    fn routes(&self) -> Vec<Route> {
        let routing = self.data.routing();
        let mut routes: Vec<Route> = others(&routing).map(|node| route(node, &routing)).collect();
        routes.sort_by(|a, b| (&a.name, &a.node_id).cmp(&(&b.name, &b.node_id)));
        routes
    }

    fn topics(&self, page: &Page) -> Vec<Topic> {
        let routing = self.data.routing();
        let (found, _) = wanted_topics(&routing, page, |_| true);
        found.into_iter().map(|(name, routes)| topic(&routing, name, routes)).collect()
    }

    fn clients(&self, page: &Page) -> Vec<Client> {
        let topics = self.topics_of_clients();
        let after = page.after.as_deref().and_then(|after| after.parse().ok()).unwrap_or(0);
        let is_wanted = |session: &Session| {
            let named = page.prefix.as_deref();
            session.info.id.0 > after && named.is_none_or(|name| session.info.client.name.starts_with(name))
        };
        let wanted = self.sessions.all().into_iter().filter(is_wanted).take(page.limit());
        wanted.filter_map(|session| self.client(&session, &topics)).collect()
    }

    fn limits(&self) -> Vec<Usage> {
        usage::usage(&self.settings.in_force().limits, self)
    }

    fn certificates(&self) -> Vec<Certificate> {
        self.certificates.status()
    }

    fn draining(&self) -> Drain {
        let Moment { phase, grace, report } = self.lifecycle.follow();
        Drain {
            phase,
            in_flight: if phase == Phase::Stopped { 0 } else { self.data.in_flight() },
            clients: self.clients.len(),
            grace_ms: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX),
            cut: report.map(|report| report.cut),
            clients_closed: report.map(|report| report.clients_closed),
        }
    }

    fn overview(&self, view: &View) -> Overview {
        overview::overview(self, view)
    }

    fn sample(&self) {
        self.links.sample();
        self.endings.sample(Instant::now(), self.data.endings());
    }
}

impl Operations for Source {
    fn drain(&self) {
        if !self.lifecycle.is_over() {
            tracing::info!("told to drain over the admin port");
        }
        self.lifecycle.ask();
    }

    fn reload(&self) -> BoxFuture<'static, Result<Reload, String>> {
        let reload = self.reload.clone();
        Box::pin(async move {
            tracing::info!("told to load configuration and certificates over the admin port");
            let Changes { certificates, configuration, at_restart } =
                reload.reload().await.map_err(|refused| refused.to_string())?;
            Ok(Reload {
                added: status_of(&certificates.added),
                removed: status_of(&certificates.removed),
                changed: settings(configuration),
                at_restart: settings(at_restart),
            })
        })
    }
}

impl Source {
    /// How many topics each session has.
    pub(super) fn topics_of_clients(&self) -> HashMap<SessionId, usize> {
        let routing = self.data.routing();
        let mut counts = HashMap::new();
        for session in routing.topics().flat_map(|(_, routes)| &routes.sessions) {
            *counts.entry(*session).or_default() += 1;
        }
        counts
    }

    /// Bytes that wait for each session.
    pub(super) fn queued_for_clients(&self) -> impl Iterator<Item = usize> {
        let sessions = self.sessions.all().into_iter();
        sessions.filter_map(|session| Some(self.clients.glance(session.info.id)?.0))
    }

    fn client(&self, session: &Session, topics: &HashMap<SessionId, usize>) -> Option<Client> {
        let Session { info, instance } = session;
        let (queued_bytes, is_extended) = self.clients.glance(info.id)?;
        let fingerprint = info.client.fingerprint.as_bytes();
        Some(Client {
            session: info.id.0,
            name: info.client.name.to_string(),
            institution: info.institution.to_string(),
            fingerprint: fingerprint.iter().map(|byte| format!("{byte:02x}")).collect(),
            address: info.address,
            dialect: if is_extended { "extended" } else { "2.x" }.to_owned(),
            instance: instance.map(|instance| format!("{instance:032x}")),
            topics: topics.get(&info.id).copied().unwrap_or_default(),
            connected_seconds: info.since.elapsed().as_secs(),
            queued_bytes,
        })
    }

    pub(super) fn peer(&self, node: &Node, routing: &Routing) -> Peer {
        let neighbour = node.hops == 1;
        let round_trip = self.links.round_trip(node.id).filter(|_| neighbour);
        let via = routing.find(&node.next_hop).filter(|_| !neighbour).map(|via| via.name.to_string());
        Peer {
            node_id: node.key.to_string(),
            name: node.name.to_string(),
            institution: node.institution.to_string(),
            hops: node.hops,
            via,
            round_trip_us: round_trip.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
            link: self.links.status(node.id),
        }
    }
}

/// The topics of a page that pass, in order, and how many would be there from its first one on without a limit.
pub(super) fn wanted_topics<'r>(
    routing: &'r Routing,
    page: &Page,
    passes: impl Fn(&TopicRoutes) -> bool,
) -> (Vec<(&'r TopicName, &'r TopicRoutes)>, usize) {
    let is_wanted = |topic: &TopicName, routes: &TopicRoutes| {
        // Whoever knows the channel of a challenge could claim it.
        page.has(topic.as_str())
            && topic.kind() != Kind::Handshake
            && (!routes.sessions.is_empty() || routes.nodes.iter().any(|(at, _)| is_other(routing, *at)))
            && passes(routes)
    };
    let mut found: Vec<_> = routing.topics().filter(|(topic, routes)| is_wanted(topic, routes)).collect();
    let (limit, all) = (page.limit(), found.len());
    // Of ten thousand topics only those on the page are put in order, and only they are written down.
    if limit > 0 && found.len() > limit {
        found.select_nth_unstable_by(limit - 1, |(a, _), (b, _)| a.as_str().cmp(b.as_str()));
    }
    found.truncate(limit);
    found.sort_unstable_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
    (found, all)
}

fn settings(changes: Vec<Change>) -> Vec<ChangedSetting> {
    changes.into_iter().map(|Change { key, what }| ChangedSetting { key, change: what }).collect()
}

fn configured(wanted: Wanted) -> ConfiguredPeer {
    let Wanted { address, state, failures, error } = wanted;
    let state = match state {
        WantedState::Linked => PeerState::Linked,
        WantedState::Busy => PeerState::Dialling,
        WantedState::Waiting => PeerState::Waiting,
        WantedState::Own => PeerState::Own,
    };
    ConfiguredPeer { address: address.to_string(), state, failures, error }
}

pub(super) fn others(routing: &Routing) -> impl Iterator<Item = &Node> {
    routing.reachable().filter(|node| node.id != routing.me())
}

fn is_other(routing: &Routing, at: amop_protocol::broker::routing::NodeIndex) -> bool {
    routing.node(at).is_some_and(|node| node.id != routing.me())
}

fn route(node: &Node, routing: &Routing) -> Route {
    let next_hop = routing.find(&node.next_hop);
    Route {
        node_id: node.key.to_string(),
        name: node.name.to_string(),
        next_hop_id: next_hop.map(|next| next.key.to_string()).unwrap_or_default(),
        next_hop: next_hop.map(|next| next.name.to_string()).unwrap_or_default(),
        hops: node.hops,
    }
}

fn topic(routing: &Routing, name: &TopicName, routes: &TopicRoutes) -> Topic {
    let nodes = routes.nodes.iter().filter(|(at, _)| is_other(routing, *at));
    let nodes = nodes.filter_map(|(at, subscribers)| Some(topic_node(routing.node(*at)?, *subscribers)));
    Topic { topic: name.to_string(), local_sessions: routes.sessions.len(), nodes: nodes.collect() }
}

fn topic_node(node: &Node, subscribers: u32) -> TopicNode {
    TopicNode { node_id: node.key.to_string(), name: node.name.to_string(), subscribers }
}
