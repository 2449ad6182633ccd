//! The two substreams of a link, opened by the side that dialled, bound to their connection.
//!
//! A peer may for a moment have several connections (both dialled; it restarted). Which of them
//! carries the link is decided later, so the pair must be known to come from one connection.
//! Nothing else may open substreams of these protocols: a third one is dropped.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::{Ready, ready},
    io,
    task::{Context, Poll, Waker},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{
        Endpoint,
        transport::PortUse,
        upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo},
    },
    swarm::{
        ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
        NetworkBehaviour, Stream, StreamProtocol, StreamUpgradeError, SubstreamProtocol, THandler,
        THandlerInEvent, THandlerOutEvent, ToSwarm,
        handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};

const CONTROL: StreamProtocol = StreamProtocol::new("/amop/control/1");
const DATA: StreamProtocol = StreamProtocol::new("/amop/data/1");

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    Control,
    Data,
}

/// What became of a connection's pair.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are the large one, and there are few")]
pub(super) enum Event {
    /// Both substreams are there.
    Opened { connection: ConnectionId, control: Stream, data: Stream },
    /// They cannot be opened.
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
        Ok(Handler::new([]))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new([Lane::Control, Lane::Data]))
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.events.push_back(match event {
            Ok((control, data)) => Event::Opened { connection, control, data },
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

/// Collects the pair of one connection.
#[derive(Debug)]
pub(super) struct Handler {
    /// Lanes still to be asked for; empty on the side that was dialled.
    wanted: VecDeque<Lane>,
    control: Option<Stream>,
    data: Option<Stream>,
    opened: Opened,
    failed: Option<io::Error>,
}

/// Whether the pair was handed on. There is only one in a connection's life.
#[derive(Debug, PartialEq, Eq)]
enum Opened {
    Waiting,
    Done,
}

impl Handler {
    fn new(wanted: impl IntoIterator<Item = Lane>) -> Self {
        Self {
            wanted: wanted.into_iter().collect(),
            control: None,
            data: None,
            opened: Opened::Waiting,
            failed: None,
        }
    }

    fn collect(&mut self, lane: Lane, stream: Stream) {
        let slot = match lane {
            Lane::Control => &mut self.control,
            Lane::Data => &mut self.data,
        };
        if self.opened == Opened::Waiting && slot.is_none() {
            *slot = Some(stream);
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Result<(Stream, Stream), io::Error>;
    type InboundProtocol = Lanes;
    type OutboundProtocol = Lanes;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Lanes> {
        SubstreamProtocol::new(Lanes(vec![CONTROL, DATA]), ())
    }

    /// The driver closes what it does not use, so nothing else may.
    fn connection_keep_alive(&self) -> bool {
        true
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Lanes, (), Self::ToBehaviour>> {
        if let Some(lane) = self.wanted.pop_front() {
            let protocol = SubstreamProtocol::new(Lanes(vec![lane.protocol()]), ());
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        if let Some(error) = self.failed.take() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(Err(error)));
        }
        if self.control.is_some()
            && let Some(data) = self.data.take()
            && let Some(control) = self.control.take()
        {
            self.opened = Opened::Done;
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(Ok((control, data))));
        }
        // Woken by the connection, which polls again after every event it hands in.
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Lanes, Lanes>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (lane, stream),
                ..
            })
            | ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: (lane, stream),
                ..
            }) => self.collect(lane, stream),
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, .. }) => {
                self.failed = Some(match error {
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

impl Lane {
    fn protocol(self) -> StreamProtocol {
        match self {
            Self::Control => CONTROL,
            Self::Data => DATA,
        }
    }
}

/// Negotiates any of these lanes.
#[derive(Clone, Debug)]
pub(super) struct Lanes(Vec<StreamProtocol>);

impl UpgradeInfo for Lanes {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl<S> InboundUpgrade<S> for Lanes {
    type Output = (Lane, S);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: S, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((lane(&protocol), stream)))
    }
}

impl<S> OutboundUpgrade<S> for Lanes {
    type Output = (Lane, S);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: S, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((lane(&protocol), stream)))
    }
}

fn lane(protocol: &StreamProtocol) -> Lane {
    if *protocol == CONTROL { Lane::Control } else { Lane::Data }
}
