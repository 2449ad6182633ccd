//! A node that gossips honestly and passes data frames on as the test pleases.
//!
//! Its certificate is genuine, and so are its links: what it does, any member could do.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use amop::{
    identity::Credentials,
    overlay::{self, Event, Link, Overlay, Router},
    tasks::Tasks,
};
use amop_protocol::{
    NodeId, NodeKey, Time,
    broker::{
        announce::{Authenticator, NodeInfo},
        control::{self, Action, Control, Me},
        deliver::route_frame,
        routing::Routing,
        seal::MacSecret,
    },
    certificate::{Role, Subject},
    wire::{
        generated::{self as pb, control::Message},
        link::LinkFrame,
        peer::DataError,
    },
};
use amop_testkit::ca::Leaf;
use bytes::Bytes;
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use tokio::sync::mpsc;

/// Records that neighbours have sent are kept up to this length, in bytes, and so many.
const KEPT: (usize, usize) = (16 * 1024, 10_000);
/// What signatures on records are for.
pub(super) const RECORD: &str = "amop/record/1";

/// A frame on its way through the relay.
#[derive(Clone, Debug)]
pub(super) struct Passing {
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    pub(super) frame: LinkFrame,
}

/// What becomes of a frame: what is sent instead, and to whom.
type Deed = Box<dyn FnMut(&Passing) -> Vec<(NodeId, LinkFrame)> + Send>;

/// The hostile relay, running.
pub(super) struct Relay {
    pub(super) credentials: Credentials,
    tasks: Tasks,
    shared: Arc<Shared>,
    _overlay: Overlay,
}

struct Shared {
    routing: Mutex<Routing>,
    links: Mutex<BTreeMap<NodeId, Link>>,
    deed: Mutex<Deed>,
    passed: Mutex<Vec<Passing>>,
    records: Mutex<Vec<pb::SignedRecord>>,
}

impl Relay {
    /// Starts it; it dials these nodes.
    pub(super) async fn start(leaf: &Leaf, peers: &[SocketAddr]) -> Self {
        let credentials = Credentials::new(&[leaf.root()], leaf.chain(), leaf.key()).expect("credentials");
        let me = Me {
            info: info(credentials.subject()).expect("a key"),
            chain: credentials.chain().iter().map(|der| Bytes::copy_from_slice(der)).collect(),
            address: "".into(),
            epoch: 1,
            mac: mac_key(),
        };
        let trust = Box::new(Trust(credentials.clone()));
        let control = Control::new(control::Config::default(), me, 1, trust, Time::ZERO);
        let shared = Arc::new(Shared {
            routing: Mutex::new(control.routing().clone()),
            links: Mutex::default(),
            deed: Mutex::new(Box::new(honest)),
            passed: Mutex::default(),
            records: Mutex::default(),
        });
        let tasks = Tasks::new();
        let config = overlay::Config {
            peers: peers.iter().map(|peer| overlay::Address::from(*peer)).collect(),
            ..overlay::Config::new(([127, 0, 0, 1], 0).into())
        };
        let router = Arc::new(Inbound(shared.clone()));
        let (overlay, events) =
            Overlay::start(&tasks, config, credentials.clone(), 1, router).expect("an overlay");
        tasks.spawn("control", gossip(control, shared.clone(), events, tasks.clone()));
        Self { credentials, tasks, shared, _overlay: overlay }
    }

    /// From now on frames fare like this; what has passed is forgotten.
    pub(super) fn does(&self, deed: impl FnMut(&Passing) -> Vec<(NodeId, LinkFrame)> + Send + 'static) {
        self.shared.passed.lock().clear();
        *self.shared.deed.lock() = Box::new(deed);
    }

    /// Frames that came to be passed on, since it was last told what to do.
    pub(super) fn passed(&self) -> Vec<Passing> {
        self.shared.passed.lock().clone()
    }

    /// The records that neighbours have sent, newest last.
    pub(super) fn records(&self) -> Vec<pb::SignedRecord> {
        self.shared.records.lock().clone()
    }

    /// Sends a data frame of its own making.
    pub(super) fn send(&self, to: NodeId, frame: LinkFrame) {
        self.link(to).try_send(frame).expect("room in the queue");
    }

    /// Sends a control message of its own making.
    pub(super) fn say(&self, to: NodeId, message: Message) {
        self.link(to).send_control(message).expect("room in the queue");
    }

    /// Its own id.
    pub(super) fn id(&self) -> NodeId {
        self.credentials.node_key().id()
    }

    fn link(&self, to: NodeId) -> Link {
        self.shared.links.lock().get(&to).expect("a link").clone()
    }

    /// Its links.
    pub(super) fn links(&self) -> Vec<Link> {
        self.shared.links.lock().values().cloned().collect()
    }

    /// The nodes it knows a way to, itself among them.
    pub(super) fn known(&self) -> Vec<NodeId> {
        self.shared.routing.lock().reachable().map(|node| node.id).collect()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

/// The relay's key for MACs.
pub(super) fn mac_key() -> MacSecret {
    MacSecret::new([7; 32])
}

/// Passes a frame on as it is.
pub(super) fn honest(passing: &Passing) -> Vec<(NodeId, LinkFrame)> {
    vec![(passing.to, passing.frame.clone())]
}

struct Inbound(Arc<Shared>);

impl Router for Inbound {
    fn handle_data(&self, from: NodeId, frame: LinkFrame) -> Result<(), DataError> {
        let onwards = route_frame(&self.0.routing.lock(), from, &frame)?.onwards;
        for (to, frame) in onwards {
            let passing = Passing { from, to, frame };
            self.0.passed.lock().push(passing.clone());
            for (to, frame) in (self.0.deed.lock())(&passing) {
                let link = self.0.links.lock().get(&to).cloned();
                // A link that is going down takes nothing; the frame is lost, as on any relay.
                let _ = link.map(|link| link.try_send(frame));
            }
        }
        Ok(())
    }

    fn handle_dropped(&self, _: NodeId, _: LinkFrame) {}
}

async fn gossip(mut control: Control, shared: Arc<Shared>, mut events: mpsc::Receiver<Event>, tasks: Tasks) {
    let started = Instant::now();
    loop {
        while let Some(action) = control.poll_action() {
            shared.carry_out(action);
        }
        let now = Time::from_start(started.elapsed());
        let due = control.poll_timeout().map_or(Duration::MAX, |at| at.since(now));
        let event = tokio::select! {
            () = tasks.cancelled() => return,
            event = tokio::time::timeout(due, events.recv()) => event,
        };
        let now = Time::from_start(started.elapsed());
        match event {
            Ok(Some(Event::LinkUp { peer, link })) => {
                shared.links.lock().insert(peer.id, link);
                control.handle_link_up(now, peer.id);
            }
            Ok(Some(Event::LinkDown { peer, .. })) => {
                shared.links.lock().remove(&peer);
                control.handle_link_down(now, peer);
            }
            Ok(Some(Event::Control { peer, message, .. })) => {
                if let Message::Record(record) = &message {
                    shared.keep(record);
                }
                control.handle_message(now, peer, message);
            }
            Ok(Some(Event::RoundTrip { peer, time })) => control.handle_round_trip(now, peer, time),
            Ok(None) => return,
            Err(_) => control.handle_timeout(now),
        }
    }
}

impl Shared {
    fn keep(&self, record: &pb::SignedRecord) {
        let mut records = self.records.lock();
        if record.body.len() <= KEPT.0 && records.len() < KEPT.1 {
            records.push(record.clone());
        }
    }

    fn carry_out(&self, action: Action) {
        match action {
            Action::Send { to, message } => {
                let link = self.links.lock().get(&to).cloned();
                // A link that is going down takes nothing; gossip starts afresh over the next.
                let _ = link.map(|link| link.send_control(message));
            }
            Action::Routing(routing) => *self.routing.lock() = routing,
            Action::Settled { .. } => {}
            Action::Ask(ask) => panic!("nobody here verifies anybody: {ask:?}"),
            // Whatever the test says, the others know better than to say such things.
            Action::PeerFault { peer, fault } => panic!("{peer} is honest, and yet: {fault}"),
        }
    }
}

struct Trust(Credentials);

impl Authenticator for Trust {
    fn sign(&self, body: &[u8]) -> Bytes {
        self.0.sign(RECORD, body).into()
    }

    fn verify_chain(&self, chain: &[Bytes]) -> Option<NodeInfo> {
        let chain: Vec<_> = chain.iter().map(|der| CertificateDer::from(&der[..])).collect();
        info(&self.0.authority().verify_chain(&chain, Role::Node).ok()?)
    }

    fn verify(&self, key: &NodeKey, body: &[u8], signature: &[u8]) -> bool {
        self.0.authority().verify(key, RECORD, body, signature)
    }
}

fn info(subject: &Subject) -> Option<NodeInfo> {
    Some(NodeInfo { key: subject.key?, name: subject.name.clone(), institution: subject.institution.clone() })
}
