//! `amop node` as a process of its own, on free ports, killed when its test ends.
//!
//! For integration tests of the root package only: Cargo names the program to them.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use serde_json::Value;

use crate::wait;

/// The program under test.
///
/// # Panics
/// Outside of `cargo test` of the package that has it.
pub fn amop() -> Command {
    let program = std::env::var_os("CARGO_BIN_EXE_amop");
    Command::new(program.expect("Cargo says where the program is; run this with `cargo test`"))
}

/// `amop node` with a minted certificate, logging JSON to a file.
#[derive(Debug)]
pub struct NodeProcess {
    /// The process; tests may signal it.
    pub child: Child,
    log: PathBuf,
}

impl NodeProcess {
    /// Starts it and waits until it serves. `dir` holds its certificates; `more` is added to its configuration.
    ///
    /// # Panics
    /// When it ends instead.
    pub fn start(dir: &Path, more: &str) -> Self {
        Self::start_by(amop(), dir, more)
    }

    /// As [`NodeProcess::start`], with another program that takes the same arguments.
    ///
    /// # Panics
    /// When it ends instead.
    pub fn start_by(command: Command, dir: &Path, more: &str) -> Self {
        let log = File::create(dir.join(LOG)).expect("a file");
        let mut node = Self::spawn_by(command, dir, more, log.into());
        node.serves();
        node
    }

    /// Waits until it serves.
    ///
    /// # Panics
    /// When it ends instead.
    pub fn serves(&mut self) {
        wait::block_until("a serving node", || {
            let ended = self.child.try_wait().expect("a child");
            assert_eq!(ended, None, "the node has ended: {}", self.log());
            self.serving().is_some()
        });
    }

    /// Starts it. Ports that `more` does not set are free ones.
    ///
    /// # Panics
    /// When the program is not there.
    pub fn spawn(dir: &Path, more: &str) -> Self {
        let log = File::create(dir.join(LOG)).expect("a file");
        Self::spawn_by(amop(), dir, more, log.into())
    }

    /// As [`NodeProcess::spawn`]: `command` runs `amop` with the arguments it is given, `errors` is
    /// what the node has for standard error.
    ///
    /// # Panics
    /// When the program is not there.
    pub fn spawn_by(mut command: Command, dir: &Path, more: &str, errors: Stdio) -> Self {
        let mut config = more.to_owned();
        for section in ["client_port", "overlay", "admin"] {
            if !config.contains(&format!("{section}.listen")) {
                config = format!("{section}.listen = \"127.0.0.1:0\"\n{config}");
            }
        }
        let path = dir.join("amop.toml");
        fs::write(&path, format!("log.format = \"json\"\n{config}")).expect("written");
        let child = command
            .args(["node", "--config"])
            .arg(path)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .expect("amop starts");
        Self { child, log: dir.join(LOG) }
    }

    /// What it has logged.
    ///
    /// # Panics
    /// When it logs to somewhere else.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("a log")
    }

    /// One of the ports it listens on: `channel`, `overlay` or `admin`.
    ///
    /// # Panics
    /// When it does not serve yet.
    pub fn port(&self, name: &str) -> SocketAddr {
        let fields = self.serving().expect("it serves");
        fields[name].as_str().expect("text").parse().expect("ip:port")
    }

    /// The message of the last line logged.
    ///
    /// # Panics
    /// When there is none.
    pub fn last_words(&self) -> String {
        let log = self.log();
        let last: Value = serde_json::from_str(log.lines().last().expect("a line")).expect("JSON");
        last["fields"]["message"].as_str().expect("text").to_owned()
    }

    /// Sends it a signal, such as `-TERM`.
    ///
    /// # Panics
    /// When it has ended and been waited for.
    pub fn send(&self, signal: &str) {
        send(signal, self.child.id());
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    /// When it does not end.
    pub fn end(&mut self) -> ExitStatus {
        wait::block_until("the node's end", || self.child.try_wait().expect("a child").is_some());
        self.child.wait().expect("ended")
    }

    /// The lines it has logged with this message.
    ///
    /// # Panics
    /// When it logs to somewhere else.
    pub fn lines_of(&self, message: &str) -> Vec<Value> {
        let log = self.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["fields"]["message"] == message).collect()
    }

    fn serving(&self) -> Option<Value> {
        self.lines_of("serving").first().map(|line| line["fields"].clone())
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        // It fails only if the node has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal, such as `-TERM`, to a process.
///
/// # Panics
/// When there is no such process.
pub fn send(signal: &str, pid: u32) {
    let sent = Command::new("kill").args([signal, &pid.to_string()]).status().expect("kill");
    assert!(sent.success());
}

const LOG: &str = "node.log";
