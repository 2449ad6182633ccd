//! Receivers as processes, whose disk has no room for the file.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use amop_client::{Client, FileError, FileReceipt, SendOptions};
use amop_protocol::wire::files::Reason;
use amop_testkit::wait;
use serde_json::Value;
use tempfile::TempDir;

use super::{
    CHUNK, Desk,
    attacks::{left, names},
    content,
};
use crate::{mesh::Mesh, process::AMOP};

/// Two MiB are there; a file that needs more is on its way.
const SIZE: usize = 10 * CHUNK;

/// `amop receive-file`, run by a shell that makes its disk small; killed at the end of the test.
struct Receiver {
    child: Child,
    dir: TempDir,
}

impl Receiver {
    async fn start(mesh: &Mesh, small: &str, command: &mut Command, more: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("into")).expect("a directory");
        let said = File::create(dir.path().join("said")).expect("a file");
        let child = command
            .args(["sh", "-c", &format!("{small} && exec \"$0\" \"$@\""), AMOP, "receive-file", "files"])
            .args(["--json", "--node", &mesh.nodes[1].channel(), "--certs"])
            .arg(mesh.certificate(1))
            .args(more)
            .args(["--into", "into"])
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(said)
            .spawn()
            .expect("a shell");
        let receiver = Self { child, dir };
        receiver.says("ready").await;
        receiver
    }

    /// Waits for an event.
    async fn says(&self, event: &str) -> Value {
        let mut found = Value::Null;
        wait::until(event, async || {
            let said = fs::read_to_string(self.dir.path().join("said")).expect("its output");
            let mut lines = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            found = lines.find(|line| line["event"] == event).unwrap_or_default();
            !found.is_null()
        })
        .await;
        found
    }

    /// Its directory, as the process has it.
    fn home(&self) -> PathBuf {
        let path = self.dir.path().join("into");
        let path = path.strip_prefix("/").expect("an absolute path");
        Path::new("/proc").join(self.child.id().to_string()).join("root").join(path)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // It fails only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn send(from: &Client, path: &Path) -> Result<FileReceipt, FileError> {
    let mut sending = from.send_file("files", path, SendOptions::default()).await.expect("begun");
    wait::within("its end", sending.finished()).await
}

/// What both ends say of it, and what is there then.
async fn too_little(receiver: &Receiver, from: &Client, path: &Path) {
    let error = send(from, path).await.expect_err("its disk is full");
    assert!(matches!(error, FileError::Stopped { reason: Reason::DiskFull, .. }), "{error}");
    assert!(error.is_resumable() && error.to_string().contains("its disk is full"), "{error}");
    let failed = receiver.says("failed").await;
    assert_eq!(failed["name"], "a.bin");
    assert_eq!(failed["resumable"], true, "{failed}");
    assert!(failed["error"].as_str().is_some_and(|error| error.contains("into")), "{failed}");
    assert!(!names(&receiver.home()).contains("a.bin"));
}

/// A file may have two MiB: `EFBIG` is what a full disk is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_may_not_be_so_large_are_refused_by_the_disk() {
    let mesh = Mesh::line(2).await;
    let from = mesh.client(0).await;
    let desk = Desk::new();
    let path = desk.file("a.bin", &content(SIZE, 1));
    for (more, kept) in [(&[][..], 3), (&["--discard"][..], 0)] {
        let small = "trap '' XFSZ && ulimit -f 4096";
        let receiver = Receiver::start(&mesh, small, &mut Command::new("env"), more).await;
        too_little(&receiver, &from, &path).await;
        wait::until("what is kept", async || left(&receiver.home()) == kept).await;
        let little = desk.file("b.bin", b"b");
        send(&from, &little).await.expect("there is room for this one");
        assert_eq!(fs::read(receiver.home().join("b.bin")).expect("received"), b"b");
    }
}

/// A disk of two MiB; when there is room again the transfer goes on. Only where this user may mount one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_keeps_what_came_until_there_is_room() {
    let namespaces = Command::new("unshare").args(["-rm", "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    if !namespaces.is_ok_and(|tried| tried.status.success()) {
        return;
    }
    let mesh = Mesh::line(2).await;
    let from = mesh.client(0).await;
    let desk = Desk::new();
    let content = content(SIZE / 2, 1);
    let path = desk.file("a.bin", &content);
    for (more, resumes) in [(&[][..], true), (&["--discard"][..], false)] {
        let small = "mount -t tmpfs -o size=2m none into && head -c 1200000 /dev/zero >into/filler";
        let receiver = Receiver::start(&mesh, small, Command::new("unshare").arg("-rm"), more).await;
        too_little(&receiver, &from, &path).await;
        wait::until("what is kept", async || left(&receiver.home()) == if resumes { 3 } else { 0 }).await;
        fs::remove_file(receiver.home().join("filler")).expect("room");
        let receipt = send(&from, &path).await.expect("there is room");
        assert_eq!(receipt.size, content.len() as u64);
        assert!(fs::read(receiver.home().join("a.bin")).expect("received") == content);
        wait::until("nothing left", async || left(&receiver.home()) == 0).await;
    }
}
