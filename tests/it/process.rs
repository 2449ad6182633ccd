//! Real processes of the real program, on free ports, killed when their test ends.

use std::{
    fs::{self, File},
    io,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use amop_testkit::wait;
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const AMOP: &str = env!("CARGO_BIN_EXE_amop");
/// A running devnet on free ports; killed when the test ends, however it ends.
pub(crate) struct Devnet {
    child: Child,
    dir: TempDir,
}

impl Devnet {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let output = File::create(dir.path().join("output.txt")).expect("a file");
        let child = Command::new(AMOP)
            .args(["devnet", "--base-port", "0", "--dir"])
            .arg(dir.path().join("net"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("shared"))
            .stderr(output)
            .spawn()
            .expect("amop starts");
        let mut devnet = Self { child, dir };
        let announcement = devnet.path("devnet.json");
        wait::block_until("devnet.json", || {
            let ended = devnet.child.try_wait().expect("a child");
            assert_eq!(ended, None, "the devnet has ended: {}", devnet.output());
            announcement.exists()
        });
        devnet
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join("net").join(name)
    }

    pub(crate) fn output(&self) -> String {
        fs::read_to_string(self.dir.path().join("output.txt")).expect("output")
    }

    pub(crate) fn announcement(&self) -> Value {
        serde_json::from_slice(&fs::read(self.path("devnet.json")).expect("there")).expect("JSON")
    }

    pub(crate) fn wait_for_output(&self, text: &str) {
        wait::block_until(text, || self.output().contains(text));
    }

    pub(crate) fn stop(&mut self, signal: &str) -> ExitStatus {
        send(signal, self.child.id());
        wait::block_until("the devnet's end", || self.child.try_wait().expect("a child").is_some());
        self.child.wait().expect("ended")
    }
}

impl Drop for Devnet {
    fn drop(&mut self) {
        // It fails only if the devnet has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn send(signal: &str, pid: u32) {
    let sent = Command::new("kill").args([signal, &pid.to_string()]).status().expect("kill");
    assert!(sent.success());
}

pub(crate) fn pid(node: &Value) -> u32 {
    node["pid"].as_u64().and_then(|pid| pid.try_into().ok()).expect("a pid")
}

pub(crate) fn address(node: &Value, port: &str) -> SocketAddr {
    node[port].as_str().expect("text").parse().expect("ip:port")
}

pub(crate) fn refuses(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

pub(crate) fn nodes(announcement: &Value) -> &[Value] {
    announcement["nodes"].as_array().expect("nodes")
}

/// `amop node` with a minted certificate, logging JSON to a file.
pub(crate) struct NodeProcess {
    pub(crate) child: Child,
    log: PathBuf,
}

impl NodeProcess {
    /// Starts it and waits until it serves. `dir` holds its certificates; `more` is added to its configuration.
    pub(crate) fn start(dir: &Path, more: &str) -> Self {
        let mut node = Self::spawn(dir, more);
        wait::block_until("a serving node", || {
            let ended = node.child.try_wait().expect("a child");
            assert_eq!(ended, None, "the node has ended: {}", node.log());
            node.serving().is_some()
        });
        node
    }

    /// Starts it. Ports that `more` does not set are free ones.
    pub(crate) fn spawn(dir: &Path, more: &str) -> Self {
        let mut config = more.to_owned();
        for section in ["client_port", "overlay", "admin"] {
            if !config.contains(&format!("{section}.listen")) {
                config = format!("{section}.listen = \"127.0.0.1:0\"\n{config}");
            }
        }
        let path = dir.join("amop.toml");
        fs::write(&path, format!("log.format = \"json\"\n{config}")).expect("written");
        let log = dir.join("node.log");
        let child = Command::new(AMOP)
            .args(["node", "--config"])
            .arg(path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("a file"))
            .spawn()
            .expect("amop starts");
        Self { child, log }
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("a log")
    }

    /// One of the ports it listens on: `channel`, `overlay` or `admin`.
    pub(crate) fn port(&self, name: &str) -> SocketAddr {
        let fields = self.serving().expect("it serves");
        fields[name].as_str().expect("text").parse().expect("ip:port")
    }

    /// The message of the last line logged.
    pub(crate) fn last_words(&self) -> String {
        let log = self.log();
        let last: Value = serde_json::from_str(log.lines().last().expect("a line")).expect("JSON");
        last["fields"]["message"].as_str().expect("text").to_owned()
    }

    /// Waits until it has ended.
    pub(crate) fn end(&mut self) -> ExitStatus {
        wait::block_until("the node's end", || self.child.try_wait().expect("a child").is_some());
        self.child.wait().expect("ended")
    }

    fn serving(&self) -> Option<Value> {
        let log = self.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.map(|line| line["fields"].clone()).find(|fields| fields["message"] == "serving")
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        // It fails only if the node has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
