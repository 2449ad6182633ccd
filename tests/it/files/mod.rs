//! Files between clients of real nodes.

mod attacks;
mod cli;
mod forger;
mod full;
mod impostors;
mod private;
mod resume;
mod transfers;

use std::path::{Path, PathBuf};

use amop_client::{Client, FileReceiver, Mode, ReceiveOptions, SendOptions};
use futures::StreamExt;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::mesh::spawn;

/// Bytes of a chunk.
pub(super) const CHUNK: usize = 256 * 1024;

/// Content that looks like nothing else of this size and number.
pub(super) fn content(size: usize, number: u64) -> Vec<u8> {
    let mut bytes = vec![0; size];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&number.to_be_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A directory for what is sent and one for what is received.
pub(super) struct Desk {
    pub(super) out: TempDir,
    pub(super) into: TempDir,
}

impl Desk {
    pub(super) fn new() -> Self {
        let directory = || tempfile::tempdir().expect("a directory");
        Self { out: directory(), into: directory() }
    }

    /// Writes a file to send.
    pub(super) fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.out.path().join(name);
        std::fs::write(&path, content).expect("written");
        path
    }

    /// What was received under this name.
    pub(super) fn received(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.into.path().join(name)).expect("received")
    }
}

pub(super) async fn receiver(client: &Client, into: &Path) -> FileReceiver {
    client.receive_files(["files"], into, ReceiveOptions::default()).await.expect("receives")
}

/// Accepts all that is offered; gives where it was put.
pub(super) fn accept_all(mut receiver: FileReceiver, count: usize) -> JoinHandle<Vec<PathBuf>> {
    spawn(async move {
        let mut paths = Vec::new();
        while paths.len() < count
            && let Some(offer) = receiver.next().await
        {
            paths.push(offer.accept().finished().await.expect("received"));
        }
        paths
    })
}

/// To all that accept.
pub(super) fn multicast() -> SendOptions {
    let mut options = SendOptions::default();
    options.mode = Mode::Multicast;
    options
}
