//! Addresses and errors of libp2p as ours.

use std::{error::Error, io, net::SocketAddr};

use libp2p::{
    Multiaddr, TransportError,
    core::ConnectedPoint,
    multiaddr::Protocol,
    swarm::{DialError, ListenError},
};

pub(super) fn multiaddr(address: SocketAddr) -> Multiaddr {
    Multiaddr::from(address.ip()).with(Protocol::Tcp(address.port()))
}

pub(super) fn socket_address(endpoint: &ConnectedPoint) -> Option<SocketAddr> {
    match endpoint {
        ConnectedPoint::Dialer { address, .. } => socket_address_of(address),
        ConnectedPoint::Listener { send_back_addr, .. } => socket_address_of(send_back_addr),
    }
}

pub(super) fn socket_address_of(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    match parts.next()? {
        Protocol::Tcp(port) => Some(SocketAddr::new(ip, port)),
        _ => None,
    }
}

/// An error with its causes, each once: wrappers often repeat what they wrap.
pub(super) fn describe(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

pub(super) fn describe_dial(error: &DialError) -> String {
    match error {
        DialError::Transport(attempts) => {
            attempts.iter().map(|(_, error)| describe_transport(error)).collect::<Vec<_>>().join("; ")
        }
        other => describe(other),
    }
}

pub(super) fn describe_listen(error: &ListenError) -> String {
    match error {
        ListenError::Transport(error) => describe_transport(error),
        other => describe(other),
    }
}

pub(super) fn describe_transport(error: &TransportError<io::Error>) -> String {
    match error {
        TransportError::Other(error) => describe(error),
        other => describe(other),
    }
}
