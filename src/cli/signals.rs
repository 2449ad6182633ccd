//! The signals that end a long-running command.

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGINT, SIGTERM and SIGHUP.
#[derive(Debug)]
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// None once it means something else.
    hang_up: Option<Signal>,
}

/// SIGHUP where it does not end the command.
#[derive(Debug)]
pub(super) struct HangUps(Signal);

impl HangUps {
    /// Resolves at the next one. Cancel safe.
    pub(super) async fn recv(&mut self) {
        self.0.recv().await;
    }
}

impl Signals {
    /// Takes the three signals over from here on.
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: Some(listen(SignalKind::hangup())?),
        })
    }

    /// From here on SIGHUP is not among them, but for the caller to handle.
    pub(super) fn take_hang_ups(&mut self) -> anyhow::Result<HangUps> {
        let taken = self.hang_up.take().map_or_else(|| listen(SignalKind::hangup()), Ok);
        taken.map(HangUps)
    }

    /// Resolves at the next signal. Cancel safe.
    pub(super) async fn recv(&mut self) {
        let hang_up = async {
            match &mut self.hang_up {
                Some(hang_up) => _ = hang_up.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            () = hang_up => {}
        }
    }

    /// What comes of `work`; `None` if a signal comes first.
    pub(super) async fn unless<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = work => Some(done),
            () = self.recv() => None,
        }
    }
}

fn listen(kind: SignalKind) -> anyhow::Result<Signal> {
    signal(kind).context("cannot listen for signals")
}
