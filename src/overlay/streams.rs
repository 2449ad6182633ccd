//! The control substream of a link, opened by the side that dialled, bound to its connection.
//!
//! A peer may for a moment have several connections (both dialled; it restarted). Which of them
//! carries the link is decided later, so a substream must be known to come from one connection.
//! Nothing else may open substreams of this protocol: a second one is dropped.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    task::{Context, Poll, Waker},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse, upgrade::ReadyUpgrade},
    swarm::{
        ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
        NetworkBehaviour, Stream, StreamProtocol, StreamUpgradeError, SubstreamProtocol, THandler,
        THandlerInEvent, THandlerOutEvent, ToSwarm,
        handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};

const CONTROL: StreamProtocol = StreamProtocol::new("/amop/control/1");

/// What became of a connection's substream.
#[derive(Debug)]
pub(super) enum Event {
    /// It is there.
    Opened { connection: ConnectionId, control: Stream },
    /// It cannot be opened.
    Failed { connection: ConnectionId, error: io::Error },
}

/// Gives every connection a [`Handler`].
#[derive(Debug, Default)]
pub(super) struct Behaviour {
    events: VecDeque<Event>,
    waker: Option<Waker>,
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new(Role::Dialled))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new(Role::Dialler))
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.events.push_back(match event {
            Ok(control) => Event::Opened { connection, control },
            Err(error) => Event::Failed { connection, error },
        });
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Event, THandlerInEvent<Self>>> {
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(ToSwarm::GenerateEvent(event));
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// Brings about the substream of one connection.
#[derive(Debug)]
pub(super) struct Handler {
    step: Step,
}

#[derive(Clone, Copy)]
enum Role {
    Dialler,
    Dialled,
}

#[derive(Debug)]
enum Step {
    /// It is yet to be asked for.
    Asking,
    Waiting,
    Opened(Stream),
    Failed(io::Error),
    /// There is only one in a connection's life.
    Done,
}

impl Handler {
    fn new(role: Role) -> Self {
        Self {
            step: match role {
                Role::Dialler => Step::Asking,
                Role::Dialled => Step::Waiting,
            },
        }
    }

    fn opened(&mut self, stream: Stream) {
        if let Step::Waiting = self.step {
            self.step = Step::Opened(stream);
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = io::Result<Stream>;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<ReadyUpgrade<StreamProtocol>> {
        SubstreamProtocol::new(ReadyUpgrade::new(CONTROL), ())
    }

    /// The driver closes what it does not use, so nothing else may.
    fn connection_keep_alive(&self) -> bool {
        true
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<ReadyUpgrade<StreamProtocol>, (), Self::ToBehaviour>> {
        match std::mem::replace(&mut self.step, Step::Done) {
            Step::Asking => {
                self.step = Step::Waiting;
                let protocol = self.listen_protocol();
                Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
            }
            Step::Opened(stream) => Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(Ok(stream))),
            Step::Failed(error) => Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(Err(error))),
            step @ (Step::Waiting | Step::Done) => {
                self.step = step;
                // Woken by the connection, which polls again after every event it hands in.
                Poll::Pending
            }
        }
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, ReadyUpgrade<StreamProtocol>, ReadyUpgrade<StreamProtocol>>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) => {
                self.opened(protocol);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, .. }) => {
                self.opened(protocol);
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, .. }) => {
                self.step = Step::Failed(match error {
                    StreamUpgradeError::Timeout => io::ErrorKind::TimedOut.into(),
                    StreamUpgradeError::NegotiationFailed => {
                        io::Error::new(io::ErrorKind::Unsupported, "the peer does not accept links")
                    }
                    StreamUpgradeError::Io(error) => error,
                    StreamUpgradeError::Apply(never) => match never {},
                });
            }
            _ => {}
        }
    }
}
