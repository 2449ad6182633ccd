//! `amop send-file` and `amop receive-file` as processes that are killed and started again.

use std::{
    ffi::OsString,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use amop_testkit::{
    process::{amop, send},
    wait,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::block_in_place;

use crate::net::Net;

/// Bytes of a chunk.
pub(crate) const CHUNK: u64 = 256 * 1024;

/// A command with `--json`, and what it has printed. Killed when its test ends.
pub(crate) struct Cli {
    arguments: Vec<OsString>,
    /// Its output, of each run in files of their own.
    dir: TempDir,
    runs: u32,
    child: Option<Child>,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) events: Vec<Value>,
    pub(crate) errors: String,
}

impl Cli {
    /// Sends a file to a topic, with what else is in `more`.
    pub(crate) fn sender(net: &Net, node: usize, desk: &Desk, topic: &str, more: &[&str]) -> Self {
        let mut sender = Self::new("send-file", net, node, more);
        sender.arguments.extend(["--state".into(), desk.state.path().into(), topic.into()]);
        sender.arguments.push(desk.file.clone().into());
        sender.start();
        sender
    }

    /// Receives one file, and is ready to.
    pub(crate) async fn receiver(net: &Net, node: usize, into: &Path, topic: &str) -> Self {
        Self::receiver_of(net, node, into, topic, &["--count", "1"]).await
    }

    /// As [`Cli::receiver`], with what is in `more`.
    pub(crate) async fn receiver_of(net: &Net, node: usize, into: &Path, topic: &str, more: &[&str]) -> Self {
        let mut receiver = Self::new("receive-file", net, node, more);
        receiver.arguments.extend(["--into".into(), into.into(), topic.into()]);
        receiver.start();
        receiver.said("ready").await;
        receiver
    }

    fn new(command: &str, net: &Net, node: usize, more: &[&str]) -> Self {
        let mut arguments: Vec<OsString> = vec![command.into(), "--json".into(), "--node".into()];
        arguments.push(net.nodes[node].channel.to_string().into());
        arguments.extend(["--certs".into(), net.certificate(node).into()]);
        arguments.extend(more.iter().map(OsString::from));
        Self { arguments, dir: tempfile::tempdir().expect("a directory"), runs: 0, child: None }
    }

    /// Starts it, with the same command line every time.
    pub(crate) fn start(&mut self) {
        self.runs += 1;
        let output = |kind| File::create(self.output(kind)).expect("a file");
        let child = amop()
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(output("out"))
            .stderr(output("err"))
            .spawn();
        self.child = Some(child.expect("amop starts"));
    }

    /// Kills it, and waits until it is gone.
    pub(crate) async fn kill(&mut self) {
        self.signal("-KILL");
        let ended = self.ended().await;
        assert_eq!(ended.code, None, "killed: {ended:?}");
    }

    /// Kills it, unless it has come to its end; whether it did.
    pub(crate) async fn kill_if_it_runs(&mut self) -> bool {
        let child = self.child.as_mut().expect("started");
        let runs = child.try_wait().expect("a child").is_none();
        if runs {
            self.kill().await;
        }
        runs
    }

    pub(crate) fn signal(&self, signal: &str) {
        send(signal, self.child.as_ref().expect("it runs").id());
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> Ended {
        let mut child = self.child.take().expect("it runs");
        let mut status = None;
        wait::until("the end of a command", async || {
            status = child.try_wait().expect("a child");
            status.is_some()
        })
        .await;
        let errors = fs::read_to_string(self.output("err")).expect("text");
        Ended { code: status.and_then(|status| status.code()), events: self.events(), errors }
    }

    /// What it has printed since it was last started.
    pub(crate) fn events(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.output("out")).expect("text");
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        lines.map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// Waits until it has said so.
    pub(crate) async fn said(&self, event: &str) {
        wait::until(event, async || self.events().iter().any(|said| said["event"] == event)).await;
    }

    fn output(&self, kind: &str) -> PathBuf {
        self.dir.path().join(format!("{}.{kind}", self.runs))
    }
}

impl Drop for Cli {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It fails only if the command has ended already.
            let _ = child.kill();
            let _ = block_in_place(|| child.wait());
        }
    }
}

impl Ended {
    /// The last thing that it printed, which is this.
    pub(crate) fn last(&self, event: &str) -> &Value {
        let last = self.events.last();
        last.filter(|last| last["event"] == event)
            .unwrap_or_else(|| panic!("no {event} at the end: {self:?}"))
    }
}

/// A file to send, and the directories that sending and receiving use.
pub(crate) struct Desk {
    pub(crate) file: PathBuf,
    pub(crate) hash: String,
    state: TempDir,
    out: TempDir,
}

impl Desk {
    /// A file of this size with content of its own.
    pub(crate) fn new(size: u64, number: u64) -> Self {
        let directory = || tempfile::tempdir().expect("a directory");
        let (state, out) = (directory(), directory());
        let mut content = vec![0; usize::try_from(size).expect("it fits")];
        blake3::Hasher::new().update(&number.to_be_bytes()).finalize_xof().fill(&mut content);
        let file = out.path().join("batch.bin");
        fs::write(&file, &content).expect("written");
        Self { file, hash: blake3::hash(&content).to_hex().to_string(), state, out }
    }

    /// A directory to receive into.
    pub(crate) fn inbox(&self, name: &str) -> PathBuf {
        self.out.path().join(name)
    }

    /// The sender has nothing left to go on with.
    pub(crate) fn assert_nothing_is_kept(&self) {
        assert_eq!(names(self.state.path()), Vec::<String>::new(), "state of the sender");
    }

    /// The file is there, once, as it was sent, and nothing else is.
    pub(crate) fn assert_received(&self, into: &Path) {
        assert_eq!(names(into), [".amop", "batch.bin"]);
        assert_eq!(names(&into.join(".amop")), ["done", "receiver"]);
        let content = fs::read(into.join("batch.bin")).expect("received");
        assert_eq!(blake3::hash(&content).to_hex().as_str(), self.hash);
    }
}

/// Bytes of an unfinished file that are in a directory, verified: each of its chunks has a hash in the journal.
pub(crate) fn arrived(into: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(into.join(".amop")) else { return 0 };
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let journals = paths.filter(|path| path.extension().is_some_and(|kind| kind == "journal"));
    // It may be complete, and gone, by now.
    let hashes = journals.filter_map(|journal| fs::read(journal).ok());
    hashes
        .map(|hashes| {
            hashes.chunks(32).filter(|hash| hash.iter().any(|byte| *byte != 0)).count() as u64 * CHUNK
        })
        .sum()
}

/// What is in a directory.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("a directory");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names
}
