//! Real processes of the real program, on free ports, killed when their test ends.

use std::{
    fs::{self, File},
    io,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

pub(crate) use amop_testkit::process::{NodeProcess, send};
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
