//! The one owner of announcements and routes.
//!
//! A task around the core's `Control`. Woken by commands (session and status tasks), overlay
//! events and its timer; it waits on nothing else, and what it sends it only queues.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use amop_protocol::{
    ClientIdentity, NodeId, SessionId, Topic, Version,
    broker::control::{self, Action, Control},
    session::verification::Verdict,
    wire::generated as pb,
};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::{core_counters::ControlCounters, data_path::DataPath, links::Links};
use crate::{
    client_port::Registry,
    identity::Throttle,
    overlay,
    tasks::{self, Tasks},
};

/// Commands that may wait for the control task. Policy: whoever asks waits.
pub(super) const COMMANDS: usize = 1024;
/// How long overlay events are handled after each command while commands keep coming, save that
/// the last of them may take longer.
const SLICE: Duration = Duration::from_millis(5);
/// After a long message its link rests so many times as long as handling it took, and so do long
/// reports while others wait: none of them has more than a fifth of the task's time.
const REST: u32 = 4;
/// Topics, or entries of a vector, that take long to handle; bytes of a record.
const MANY: usize = 500;
const MANY_BYTES: usize = 16 * 1024;
/// How long a subscription's acknowledgement is waited for before it is given as incomplete.
const SETTLE_BOUND: Duration = Duration::from_secs(5);

/// What other tasks ask of control.
#[derive(Debug)]
pub(super) enum Command {
    /// A session's whole set of topics; answered once the routing snapshot has them.
    Report { session: SessionId, client: Arc<ClientIdentity>, topics: Vec<Topic>, done: oneshot::Sender<()> },
    /// A publisher's verdict on what it was asked; answered once it is in force.
    Verdict { session: SessionId, verdict: Verdict, done: oneshot::Sender<()> },
    /// A session is gone.
    Closed { session: SessionId },
    /// Answered true once every reachable node holds this node's topics as they are now.
    Settled { done: oneshot::Sender<bool> },
    /// Certificates have changed: this node's own chain, if one is given, and who is believed; answered
    /// with the nodes that are known and believed.
    Certificates { chain: Option<Vec<Bytes>>, done: oneshot::Sender<Vec<NodeId>> },
    /// Bounds have changed.
    Configure(Box<control::Config>),
    /// Announce no topics any more; answered once that is queued for all neighbours.
    Drain { done: oneshot::Sender<()> },
}

/// Gives commands to the control task. Clones share its queue; it outlives the task harmlessly.
#[derive(Clone, Debug)]
pub(super) struct Handle(mpsc::Sender<Command>);

impl Handle {
    /// Resolves once the topics are in force, or the node is ending. Cancel safe: the report stands.
    pub(super) async fn report(&self, session: SessionId, client: Arc<ClientIdentity>, topics: Vec<Topic>) {
        let (done, wait) = oneshot::channel();
        if self.0.send(Command::Report { session, client, topics, done }).await.is_ok() {
            let _ = wait.await;
        }
    }

    /// Resolves once the verdict is in force, or the node is ending. Cancel safe: the verdict stands.
    pub(super) async fn verdict(&self, session: SessionId, verdict: Verdict) {
        let (done, wait) = oneshot::channel();
        if self.0.send(Command::Verdict { session, verdict, done }).await.is_ok() {
            let _ = wait.await;
        }
    }

    /// Resolves true once all reachable nodes hold this node's topics, false after 5 s. Cancel safe.
    pub(super) async fn settled(&self) -> bool {
        let (done, wait) = oneshot::channel();
        self.0.send(Command::Settled { done }).await.is_ok()
            && matches!(tokio::time::timeout(SETTLE_BOUND, wait).await, Ok(Ok(true)))
    }

    /// Tells control that a session is gone. Cancel safe only before it waits for room.
    pub(super) async fn closed(&self, session: SessionId) {
        let _ = self.0.send(Command::Closed { session }).await;
    }

    /// Tells control that certificates have changed; gives the nodes that are known and still believed.
    pub(super) async fn certificates(&self, chain: Option<Vec<Bytes>>) -> Vec<NodeId> {
        let (done, wait) = oneshot::channel();
        match self.0.send(Command::Certificates { chain, done }).await {
            Ok(()) => wait.await.unwrap_or_default(),
            Err(_) => Vec::new(),
        }
    }

    /// Changes bounds. Cancel safe.
    pub(super) async fn configure(&self, config: control::Config) {
        let _ = self.0.send(Command::Configure(Box::new(config))).await;
    }

    /// Withdraws this node's topics.
    pub(super) async fn drain(&self) {
        let (done, wait) = oneshot::channel();
        if self.0.send(Command::Drain { done }).await.is_ok() {
            let _ = wait.await;
        }
    }
}

/// The task's state.
pub(super) struct ControlTask {
    control: Control,
    data: Arc<DataPath>,
    links: Arc<Links>,
    clients: Arc<Registry>,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Receiver<overlay::Event>,
    counters: ControlCounters,
    /// Who waits for which version of this node's topics to have settled.
    waiting: Vec<(Version, oneshot::Sender<bool>)>,
    /// Places of links that rest, and until when.
    resting: Vec<(Instant, overlay::Turn)>,
    /// Reports of many topics, in the order they came, at most one of each session. What is short
    /// goes before them: a client with one topic must not wait for a hundred with thousands.
    long: VecDeque<LongReport>,
    /// When the next of them is handled though others wait.
    long_at: Instant,
    /// Lines in the log about neighbours that break the rules.
    faults: Throttle,
}

/// All topics of a session; whoever sent the report waits for the end of it.
struct LongReport {
    session: SessionId,
    client: Arc<ClientIdentity>,
    topics: Vec<Topic>,
    done: oneshot::Sender<()>,
}

/// A command queue and the task that serves it.
pub(super) fn new(
    control: Control,
    data: Arc<DataPath>,
    links: Arc<Links>,
    clients: Arc<Registry>,
    counters: ControlCounters,
    events: mpsc::Receiver<overlay::Event>,
) -> (Handle, ControlTask) {
    let (send, commands) = mpsc::channel(COMMANDS);
    let (waiting, faults) = (Vec::new(), Throttle::default());
    (
        Handle(send),
        ControlTask {
            control,
            data,
            links,
            clients,
            commands,
            events,
            counters,
            waiting,
            resting: Vec::new(),
            long: VecDeque::new(),
            long_at: Instant::now(),
            faults,
        },
    )
}

impl ControlTask {
    /// Serves until the group ends.
    pub(super) async fn run(mut self, tasks: Tasks) {
        self.carry_out();
        loop {
            let due = self.due();
            tokio::select! {
                // The end first; then timers, which nothing may starve; then what others wait for.
                biased;
                () = tasks.cancelled() => return,
                () = super::data_path::sleep_until(due) => self.timeout(),
                Some(command) = self.commands.recv() => {
                    self.command(command);
                    self.waiting_events();
                }
                Some(event) = self.events.recv() => self.event(event),
                () = tokio::task::yield_now(), if !self.long.is_empty() => self.long_report(),
            }
            self.carry_out();
            *self.counters.lock() = self.control.counters();
        }
    }

    /// When the timer is to wake the task: for control, or to let a link go on.
    fn due(&self) -> Option<tokio::time::Instant> {
        let rested = self.resting.iter().map(|(until, _)| tokio::time::Instant::from_std(*until)).min();
        let control = self.control.poll_timeout().map(|at| self.data.instant(at));
        let long = (!self.long.is_empty()).then(|| tokio::time::Instant::from_std(self.long_at));
        rested.into_iter().chain(control).chain(long).min()
    }

    fn timeout(&mut self) {
        let now = self.data.now();
        let instant = Instant::now();
        self.resting.retain(|(until, _)| *until > instant);
        if self.long_at <= instant {
            self.long_report();
        }
        if self.control.poll_timeout().is_none_or(|at| at > now) {
            return;
        }
        if self.control.local_topics() > MANY {
            tasks::at_length(|| self.control.handle_timeout(now));
        } else {
            self.control.handle_timeout(now);
        }
    }

    fn command(&mut self, command: Command) {
        let now = self.data.now();
        match command {
            Command::Report { session, client, topics, done } => {
                // Whatever it has reported before is no longer so.
                self.long.retain(|report| report.session != session);
                if topics.len() > MANY {
                    return self.long.push_back(LongReport { session, client, topics, done });
                }
                self.control.handle_report(now, session, &client, topics);
                self.carry_out();
                let _ = done.send(());
            }
            Command::Verdict { session, verdict: Verdict { question, topic, trusted }, done } => {
                self.control.handle_verdict(now, session, &question, &topic, trusted);
                self.carry_out();
                let _ = done.send(());
            }
            Command::Closed { session } => {
                self.long.retain(|report| report.session != session);
                self.control.handle_session_closed(now, session);
            }
            Command::Settled { done } => self.wait_settled(done),
            Command::Certificates { chain, done } => {
                if let Some(chain) = chain {
                    self.control.handle_renewed(chain);
                    self.carry_out();
                }
                let believed = tasks::at_length(|| self.control.handle_trust_changed(now));
                self.carry_out();
                let _ = done.send(believed);
            }
            Command::Configure(config) => self.control.configure(*config),
            Command::Drain { done } => {
                self.control.handle_drain(now);
                self.carry_out();
                let _ = done.send(());
            }
        }
    }

    fn long_report(&mut self) {
        let Some(LongReport { session, client, topics, done }) = self.long.pop_front() else { return };
        let (now, began) = (self.data.now(), Instant::now());
        tasks::at_length(|| self.control.handle_report(now, session, &client, topics));
        self.carry_out();
        self.long_at = Instant::now() + began.elapsed() * REST;
        let _ = done.send(());
    }

    /// Events get their turn however many commands there are: clients must not hold up gossip.
    fn waiting_events(&mut self) {
        let until = Instant::now() + SLICE;
        while let Ok(event) = self.events.try_recv() {
            self.event(event);
            if Instant::now() >= until {
                return;
            }
        }
    }

    fn event(&mut self, event: overlay::Event) {
        let now = self.data.now();
        match event {
            overlay::Event::LinkUp { peer, link } => {
                self.links.insert(&peer, link);
                self.control.handle_link_up(now, peer.id);
            }
            overlay::Event::LinkDown { peer, link, .. } => {
                if self.links.remove(peer, link) {
                    self.control.handle_link_down(now, peer);
                }
            }
            overlay::Event::Control { peer, link, message, turn } => {
                if !self.links.is_current(peer, link) {
                    return;
                }
                if is_long(&message) {
                    let began = Instant::now();
                    tasks::at_length(|| self.control.handle_message(now, peer, message));
                    self.resting.push((Instant::now() + began.elapsed() * REST, turn));
                } else {
                    self.control.handle_message(now, peer, message);
                }
            }
            overlay::Event::RoundTrip { peer, time } => {
                self.links.measured(peer, time);
                self.control.handle_round_trip(now, peer, time);
            }
        }
    }

    fn carry_out(&mut self) {
        while let Some(action) = self.control.poll_action() {
            match action {
                Action::Send { to, message } => self.send(to, message),
                Action::Routing(routing) => self.data.set_routing(routing),
                Action::Ask(ask) => self.clients.ask(&ask),
                Action::Settled { version } => self.tell_settled(version),
                Action::PeerFault { peer, fault } => {
                    self.faults.line(|| {
                        tracing::warn!(
                            %peer,
                            %fault,
                            "a neighbour broke the gossip protocol; what it sent is ignored"
                        );
                    });
                }
            }
        }
    }

    fn send(&self, to: NodeId, message: pb::control::Message) {
        // A link whose control queue is full closes, and gossip starts afresh over the next one.
        self.links.send_control(to, message);
    }

    fn wait_settled(&mut self, done: oneshot::Sender<bool>) {
        if self.control.is_settled() {
            let _ = done.send(true);
        } else {
            self.waiting.retain(|(_, waiting)| !waiting.is_closed());
            self.waiting.push((self.control.version(), done));
        }
    }

    fn tell_settled(&mut self, settled: Version) {
        for (wanted, done) in std::mem::take(&mut self.waiting) {
            if wanted <= settled {
                let _ = done.send(true);
            } else {
                self.waiting.push((wanted, done));
            }
        }
    }
}

fn is_long(message: &pb::control::Message) -> bool {
    match message {
        pb::control::Message::Record(record) => record.body.len() > MANY_BYTES,
        pb::control::Message::Vector(vector) => vector.entries.len() > MANY,
        _ => false,
    }
}
