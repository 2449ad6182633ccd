//! The one owner of announcements and routes.
//!
//! A task around the core's `Control`. Woken by commands (session and status tasks), overlay
//! events and its timer; it waits on nothing else, and what it sends it only queues.

use std::{sync::Arc, time::Duration};

use amop_protocol::{
    ClientIdentity, NodeId, SessionId, Topic, Version,
    broker::control::{Action, Control},
    session::verification::Verdict,
    wire::generated as pb,
};
use tokio::sync::{mpsc, oneshot};

use super::{core_counters::ControlCounters, data_path::DataPath, links::Links};
use crate::{client_port::Registry, overlay, tasks::Tasks};

/// Commands that may wait for the control task. Policy: whoever asks waits.
const COMMANDS: usize = 1024;
/// Overlay events that are handled after each command while commands keep coming.
const EVENTS_PER_COMMAND: usize = 16;
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
    (
        Handle(send),
        ControlTask { control, data, links, clients, commands, events, counters, waiting: Vec::new() },
    )
}

impl ControlTask {
    /// Serves until the group ends.
    pub(super) async fn run(mut self, tasks: Tasks) {
        self.carry_out();
        loop {
            let due = self.control.poll_timeout().map(|at| self.data.instant(at));
            tokio::select! {
                // The end first; then timers, which nothing may starve; then what others wait for.
                biased;
                () = tasks.cancelled() => return,
                () = super::data_path::sleep_until(due) => self.control.handle_timeout(self.data.now()),
                Some(command) = self.commands.recv() => {
                    self.command(command);
                    self.waiting_events();
                }
                Some(event) = self.events.recv() => self.event(event),
            }
            self.carry_out();
            *self.counters.lock() = self.control.counters();
        }
    }

    fn command(&mut self, command: Command) {
        let now = self.data.now();
        match command {
            Command::Report { session, client, topics, done } => {
                self.control.handle_report(now, session, &client, topics);
                self.carry_out();
                let _ = done.send(());
            }
            Command::Verdict { session, verdict: Verdict { question, topic, trusted }, done } => {
                self.control.handle_verdict(now, session, &question, &topic, trusted);
                self.carry_out();
                let _ = done.send(());
            }
            Command::Closed { session } => self.control.handle_session_closed(now, session),
            Command::Settled { done } => self.wait_settled(done),
            Command::Drain { done } => {
                self.control.handle_drain(now);
                self.carry_out();
                let _ = done.send(());
            }
        }
    }

    /// Events get their turn however many commands there are: clients must not hold up gossip.
    fn waiting_events(&mut self) {
        for _ in 0..EVENTS_PER_COMMAND {
            let Ok(event) = self.events.try_recv() else { return };
            self.event(event);
        }
    }

    fn event(&mut self, event: overlay::Event) {
        let now = self.data.now();
        match event {
            overlay::Event::LinkUp { peer, link } => {
                self.links.insert(link);
                self.control.handle_link_up(now, peer.id);
            }
            overlay::Event::LinkDown { peer, link, .. } => {
                if self.links.remove(peer, link) {
                    self.control.handle_link_down(now, peer);
                }
            }
            overlay::Event::Control { peer, link, message } => {
                if self.links.is_current(peer, link) {
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
                    tracing::warn!(%peer, %fault, "a neighbour broke the gossip protocol; what it sent is ignored");
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
