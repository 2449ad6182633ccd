//! Pipes: each client of the first relay has a connection of its own to each further one, and there to
//! the next responder that waits.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes},
    sync::mpsc,
};

use super::{Accepted, Ends, Settings, listen, spawn};

/// What a pipe reads and writes at once, each way.
const BUFFER: usize = 64 * 1024;
/// Responders that wait for a pipe.
const WAITING: usize = 64;

pub(super) async fn run(ends: Ends, settings: &Settings) -> io::Result<()> {
    let (responders, waiting) = mpsc::channel(WAITING);
    if let Some(peers) = settings.peers {
        spawn(accept_peers(ends.clone(), peers, settings.dial, waiting));
    }
    let clients = listen(settings.clients)?;
    loop {
        let (tcp, _) = clients.accept().await?;
        let (ends, responders, dial) = (ends.clone(), responders.clone(), settings.dial);
        spawn(async move {
            let client = ends.accept(tcp).await?;
            match dial {
                Some(to) => pipe(client, ends.dial(to).await).await,
                None => responders.send(client).await.map_err(io::Error::other),
            }
        });
    }
}

async fn accept_peers(
    ends: Ends,
    at: SocketAddr,
    dial: Option<SocketAddr>,
    mut waiting: mpsc::Receiver<Accepted>,
) -> io::Result<()> {
    let peers = listen(at)?;
    loop {
        let (tcp, _) = peers.accept().await?;
        let before = ends.accept(tcp).await?;
        match dial {
            Some(to) => {
                let ends = ends.clone();
                spawn(async move { pipe(before, ends.dial(to).await).await });
            }
            None => {
                let Some(responder) = waiting.recv().await else { return Ok(()) };
                spawn(pipe(before, responder));
            }
        }
    }
}

async fn pipe(
    mut one: impl AsyncRead + AsyncWrite + Unpin,
    mut other: impl AsyncRead + AsyncWrite + Unpin,
) -> io::Result<()> {
    copy_bidirectional_with_sizes(&mut one, &mut other, BUFFER, BUFFER).await?;
    Ok(())
}
