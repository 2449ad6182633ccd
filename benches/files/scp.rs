//! `scp` over loopback, for orientation: one hop, one encryption, no verification by hash.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use amop_testkit::wait;
use anyhow::{Context, ensure};
use tempfile::TempDir;

use crate::transfer;

/// A server of its own, with keys of its own, on a free port; killed when dropped.
pub(crate) struct Server {
    child: std::process::Child,
    port: u16,
    dir: TempDir,
}

impl Server {
    /// Starts it; says what is missing if it cannot.
    pub(crate) fn start(dir: &Path) -> anyhow::Result<Result<Self, String>> {
        let mut missing = Vec::new();
        for name in ["scp", "sshd", "ssh-keygen"] {
            if program(name).is_none() {
                missing.push(name);
            }
        }
        let Some(sshd) = program("sshd").filter(|_| missing.is_empty()) else {
            return Ok(Err(format!("not here: {}", missing.join(", "))));
        };
        let dir = tempfile::tempdir_in(dir)?;
        for key in ["host", "user"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(dir.path().join(key))
                .status()?;
            ensure!(made.success(), "ssh-keygen failed");
        }
        fs::copy(dir.path().join("user.pub"), dir.path().join("authorized"))?;
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let at = dir.path().display();
        let config = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {at}/host\nAuthorizedKeysFile {at}/authorized\n\
             StrictModes no\nPidFile none\nUsePAM no\nPasswordAuthentication no\nSubsystem sftp internal-sftp\n"
        );
        fs::write(dir.path().join("config"), config)?;
        let mut server = Command::new(sshd);
        server.arg("-D").arg("-f").arg(dir.path().join("config"));
        let errors = fs::File::create(dir.path().join("errors"))?;
        let child = server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors).spawn()?;
        let mut server = Self { child, port, dir };
        let mut ended = false;
        wait::block_until("sshd", || {
            ended = !matches!(server.child.try_wait(), Ok(None));
            ended || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        if ended {
            let errors = fs::read_to_string(server.dir.path().join("errors"))?;
            return Ok(Err(format!("sshd does not start: {}", errors.trim())));
        }
        Ok(Ok(server))
    }

    /// Copies the file, compares and removes the copy. Seconds of the whole command.
    pub(crate) fn copy(&self, file: &Path) -> anyhow::Result<f64> {
        let copy = self.dir.path().join("copy");
        let began = Instant::now();
        let copied = Command::new("scp")
            .args([
                "-q",
                "-F",
                "none",
                "-o",
                "StrictHostKeyChecking=no",
                "-o",
                "UserKnownHostsFile=/dev/null",
            ])
            .args([
                "-o",
                "LogLevel=ERROR",
                "-c",
                "aes128-gcm@openssh.com",
                "-P",
                &self.port.to_string(),
                "-i",
            ])
            .arg(self.dir.path().join("user"))
            .arg(file)
            .arg(format!("127.0.0.1:{}", copy.display()))
            .status()
            .context("cannot start scp")?;
        let seconds = began.elapsed().as_secs_f64();
        ensure!(copied.success(), "scp failed");
        transfer::same_content(file, &copy)?;
        fs::remove_file(copy)?;
        Ok(seconds)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// sshd must be started by its whole path, and is not where users' programs are.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places =
        std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")]);
    places.map(|place| place.join(name)).find(|program| program.is_file())
}
