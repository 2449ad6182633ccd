//! The one task behind a client: owns its connections, restores them, and moves everything through them.
//!
//! Woken by: cancellation, controls (subscriptions, answers), room on a socket, a session's timer,
//! bytes from a node, connections that come up, sends. It waits for nothing else: writing never
//! keeps it from reading. All that is queued for a node goes out in one write.
//!
//! - [`seek`]: which node is dialled when; [`nodes`]: connections that come and go.
//! - [`home`]: one connection; [`outbound`]: what is to be written on it.
//! - [`incoming`]: what nodes say.
//! - [`in_flight`]: sends without an outcome, which outlive connections.
//! - [`private`]: who may receive what on private topics.

mod home;
mod in_flight;
mod incoming;
mod nodes;
mod outbound;
mod private;
mod seek;

use std::{future::poll_fn, ops::ControlFlow, pin::Pin, sync::Arc, task::Poll, time::Duration};

use amop_auth::PublicKey;
use amop_protocol::{
    Topic,
    session::{
        client::{Message, Push},
        once::{Answer, Once, Ticket},
    },
};
use bytes::Bytes;
use futures::{
    StreamExt,
    future::{BoxFuture, join_all},
    stream::FuturesUnordered,
};
use rand::RngExt;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, Sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

pub(crate) use self::{home::Home, private::Private};
use self::{
    in_flight::InFlight,
    nodes::{FURTHER_NODES, Starting},
    seek::Seek,
};
use crate::{
    ConnectError, Node, Options,
    admission::Room,
    connector::{Connector, Established},
    dispatch::Dispatch,
    error::{DialError, Failure, PrivateError, SubscribeError},
    private::{holder::Holder, publisher::Publisher},
    subscription::Sink,
};

/// A message to send and where its outcome goes.
pub(crate) struct Send {
    pub(crate) message: Message,
    pub(crate) reply: oneshot::Sender<Result<Bytes, Failure>>,
    /// Told when a subscriber was handed the message, if anybody wants to know.
    pub(crate) handed: Option<oneshot::Sender<()>>,
    /// Its room among the large messages; given back when it is dropped.
    pub(crate) _room: Option<Room>,
}

/// Everything else a client asks of its driver.
#[derive(Debug)]
pub(crate) enum Control {
    Subscribe {
        sink: Sink,
        topics: Vec<Topic>,
        reply: oneshot::Sender<Result<bool, SubscribeError>>,
    },
    Unsubscribe(u64),
    /// Before subscribing to a private topic.
    Hold {
        holder: Box<Holder>,
        reply: oneshot::Sender<Result<Arc<Holder>, PrivateError>>,
    },
    /// Before subscribing to the push channel of one.
    Publish {
        publisher: Arc<Publisher>,
        reply: oneshot::Sender<Result<(), PrivateError>>,
    },
    ChangeKeys {
        publisher: Arc<Publisher>,
        keys: Vec<PublicKey>,
        reply: oneshot::Sender<Result<(), PrivateError>>,
    },
    Answer {
        ticket: Ticket,
        answer: Answer,
    },
}

/// The driver's ends of what a client's handles hold.
pub(crate) struct Ends {
    pub(crate) sends: mpsc::Receiver<Send>,
    pub(crate) controls: mpsc::Receiver<Control>,
    /// Where places for answers are reserved.
    pub(crate) places: mpsc::Sender<Control>,
    /// The nodes connected; sends go through the first.
    pub(crate) nodes: watch::Sender<Arc<[Arc<Node>]>>,
    pub(crate) closing: CancellationToken,
    /// Told when the first connections are there, or none can be had.
    pub(crate) started: oneshot::Sender<Result<(), ConnectError>>,
}

/// Sends and controls taken in one go, so that nothing else starves.
const TURN: usize = 256;

pub(crate) struct Driver {
    options: Arc<Options>,
    connector: Arc<Connector>,
    sends: mpsc::Receiver<Send>,
    controls: mpsc::Receiver<Control>,
    places: mpsc::Sender<Control>,
    nodes: watch::Sender<Arc<[Arc<Node>]>>,
    closing: CancellationToken,
    seek: Seek,
    dials: FuturesUnordered<BoxFuture<'static, Dialled>>,
    /// Oldest first, those from the start in the order of the options; sends go through the first
    /// that is usable.
    homes: Vec<Home>,
    next_home: u64,
    in_flight: InFlight,
    dispatch: Dispatch,
    once: Once<Way>,
    private: Private,
    starting: Option<Starting>,
    /// Every handle of the client is gone.
    abandoned: bool,
}

/// Where an answer goes: a push on a connection.
#[derive(Debug)]
struct Way {
    home: u64,
    push: Push,
}

/// Which node was dialled, and what came of it.
type Dialled = (usize, Result<Established, DialError>);

impl Driver {
    pub(crate) fn new(options: Arc<Options>, connector: Connector, ends: Ends) -> Self {
        let now = Instant::now();
        let Ends { sends, controls, places, nodes, closing, started } = ends;
        let mut rng = rand::rng();
        Self {
            seek: Seek::new(&options, now),
            once: Once::new(options.remember, rng.random()),
            in_flight: InFlight::new(rng.random()),
            options,
            connector: Arc::new(connector),
            sends,
            controls,
            places,
            nodes,
            closing,
            dials: FuturesUnordered::new(),
            homes: Vec::new(),
            next_home: 0,
            dispatch: Dispatch::default(),
            private: Private::default(),
            starting: Some(Starting { since: now, failures: Vec::new(), reply: started }),
            abandoned: false,
        }
    }

    /// Works until the client is closed or dropped, or cannot be connected at first.
    pub(crate) async fn run(mut self) {
        let mut timer = Box::pin(sleep_until(Instant::now()));
        while !self.turn() {
            if self.work(timer.as_mut()).await.is_break() {
                return self.part().await;
            }
        }
        self.nodes.send_replace(Arc::new([]));
    }

    /// Waits until something happens, and takes note of it.
    async fn work(&mut self, mut timer: Pin<&mut Sleep>) -> ControlFlow<()> {
        let clock = self.connector.clock();
        let wake = self.wake();
        if timer.deadline() != wake {
            timer.as_mut().reset(wake);
        }
        let room = self.has_room();
        let Self { homes, dials, .. } = self;
        let io = poll_fn(|cx| {
            let now = clock.now();
            let ready = homes.iter_mut().map(|home| home.poll_io(cx, now).is_ready());
            if ready.fold(false, |any, ready| any | ready) { Poll::Ready(()) } else { Poll::Pending }
        });
        let mut dialled = None;
        tokio::select! {
            // What is rare comes first; controls and sends are taken in every turn besides.
            biased;
            () = self.closing.cancelled() => return ControlFlow::Break(()),
            () = timer => self.handle_timeout(),
            Some(done) = dials.next(), if !dials.is_empty() => dialled = Some(done),
            () = io => {}
            Some(control) = self.controls.recv() => self.handle_control(control),
            send = self.sends.recv(), if room => match send {
                Some(send) => self.in_flight.begin(clock.now(), send),
                None => self.abandoned = true,
            },
        }
        if let Some((seat, result)) = dialled {
            self.handle_dialled(seat, result);
        }
        ControlFlow::Continue(())
    }

    /// Takes what else is queued and carries out what follows. True when the client has ended.
    fn turn(&mut self) -> bool {
        let now = self.connector.clock().now();
        self.take_queued();
        for at in 0..self.homes.len() {
            while let Some(action) = self.homes[at].next_action(now) {
                self.carry_out(now, at, action);
            }
        }
        self.leave_homes();
        self.send_grants();
        self.dial();
        // Large answers and large sends take turns: an answer may come before what follows.
        self.homes.iter_mut().for_each(Home::fill);
        if let Some(home) = self.homes.iter_mut().find(|home| home.is_usable()) {
            self.in_flight.place(now, home);
        }
        let hope = self.homes.iter().any(Home::is_usable) || self.seek.is_hopeful(Instant::now());
        self.in_flight.give_up(now, hope, !self.homes.is_empty());
        let Self { homes, dispatch, private, .. } = self;
        for home in homes.iter_mut().filter(|home| home.is_usable()) {
            dispatch.report(home, private);
        }
        dispatch.settle(Instant::now(), homes.iter().filter(|home| home.is_usable()).map(|home| home.id));
        homes.iter_mut().for_each(Home::fill);
        self.start(hope) || self.abandoned && self.is_finished()
    }

    fn take_queued(&mut self) {
        for _ in 0..TURN {
            let Ok(control) = self.controls.try_recv() else { break };
            self.handle_control(control);
        }
        let now = self.connector.clock().now();
        for _ in 0..TURN {
            if !self.has_room() {
                break;
            }
            let Ok(send) = self.sends.try_recv() else { break };
            self.in_flight.begin(now, send);
        }
    }

    /// Whether another send may be taken from the queue.
    fn has_room(&self) -> bool {
        let home = self.homes.iter().find(|home| home.is_usable());
        !self.abandoned
            && self.in_flight.len() + self.private.in_flight() < self.options.max_in_flight
            && self.in_flight.small_bytes() < self.options.max_in_flight_bytes
            && home.is_none_or(Home::has_room)
    }

    fn is_finished(&self) -> bool {
        let is_placed = self.in_flight.is_placed() || !self.homes.iter().any(Home::is_usable);
        is_placed && self.homes.iter().all(Home::is_written) && self.once.unanswered() == 0
    }

    /// When something is to be done, whatever happens until then.
    fn wake(&self) -> Instant {
        let clock = self.connector.clock();
        let manned = self.manned();
        let homes = self.homes.iter().flat_map(|home| {
            let (session, leave) = home.wake();
            [Some(clock.instant(session)), leave]
        });
        let others = [
            self.in_flight.next_expiry().map(|at| clock.instant(at)),
            self.seek.next_wake(manned),
            self.dispatch.next_wake(),
            self.private.next_renewal(),
            self.starting.as_ref().filter(|_| manned > 0).map(|starting| starting.since + FURTHER_NODES),
        ];
        let wake = homes.chain(others).flatten().min();
        wake.unwrap_or_else(|| Instant::now() + FAR)
    }

    fn handle_timeout(&mut self) {
        let now = self.connector.clock().now();
        self.homes.iter_mut().for_each(|home| home.handle_timeout(now));
        self.once.handle_timeout(now);
        if self.private.renew(Instant::now()) {
            self.dispatch.changed();
        }
    }

    fn handle_control(&mut self, control: Control) {
        match control {
            Control::Subscribe { sink, topics, reply } => self.dispatch.subscribe(&sink, topics, reply),
            Control::Unsubscribe(subscription) => self.dispatch.unsubscribe(subscription),
            Control::Answer { ticket, answer } => self.answer(ticket, &answer),
            // Whoever asked may have gone.
            Control::Hold { holder, reply } => drop(reply.send(self.private.hold(*holder))),
            Control::Publish { publisher, reply } => drop(reply.send(self.private.publish(&publisher))),
            Control::ChangeKeys { publisher, keys, reply } => self.change_keys(publisher, keys, reply),
        }
    }

    /// Writes what is queued on all connections, then closes them.
    async fn part(mut self) {
        while let Ok(control) = self.controls.try_recv() {
            self.handle_control(control);
        }
        join_all(std::mem::take(&mut self.homes).into_iter().map(Home::part)).await;
        self.nodes.send_replace(Arc::new([]));
    }
}

/// Stands for "never".
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);
