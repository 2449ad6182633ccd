//! The limit: bytes through two TLS relays, four processes, from memory to memory.

use std::{path::Path, time::Instant};

use amop_testkit::ca::Consortium;
use anyhow::{Context, ensure};
use serde_json::Value;

use crate::process::{Process, own};

/// What a run of the pipe took.
pub(crate) struct Piped {
    /// From the sender's first byte to the receiver's last.
    pub(crate) seconds: f64,
    /// CPU seconds: sender, its relay, the other relay, receiver.
    pub(crate) cpu: [f64; 4],
}

/// Sends `bytes` through a new pipe. In a plain one relays read and write in turn; in the other they read
/// from the system and write to it as much at once as there is.
pub(crate) async fn run(dir: &Path, bytes: u64, plain: bool) -> anyhow::Result<Piped> {
    let dir = tempfile::tempdir_in(dir)?;
    let certs = dir.path().join("certs");
    Consortium::new().institution("bank").node("pipe").write_node_dir(&certs);
    let errors = dir.path().join("errors");
    let start = |name: &'static str, arguments: &[String]| {
        let mut command = own()?;
        command.arg(name).arg(&certs).args(arguments);
        Process::start(name, command, &errors)
    };
    let mut receiver = start("receive", &[bytes.to_string()])?;
    let at = listening(&mut receiver).await?;
    let relay = |at| {
        let mut arguments = vec![at];
        arguments.extend(plain.then(|| "--plain".to_owned()));
        start("relay", &arguments)
    };
    let mut relay_b = relay(at)?;
    let at = listening(&mut relay_b).await?;
    let mut relay_a = relay(at)?;
    let at = listening(&mut relay_a).await?;
    let mut sender = start("send", &[at, bytes.to_string()])?;
    sender.event("sending").await?;
    let began = Instant::now();
    receiver.event("received").await?;
    let seconds = began.elapsed().as_secs_f64();
    let mut all = [sender, relay_a, relay_b, receiver];
    for process in &mut all {
        ensure!(process.end().await?.success(), "a process of the pipe failed");
    }
    Ok(Piped { seconds, cpu: all.each_ref().map(|process| process.usage.cpu) })
}

async fn listening(process: &mut Process) -> anyhow::Result<String> {
    let line: Value = process.event("listening").await?;
    Ok(line["at"].as_str().context("an address")?.to_owned())
}
