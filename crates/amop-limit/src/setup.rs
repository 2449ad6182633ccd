//! What all systems of a comparison are started with: certificates, a directory, programs.

use std::{
    fmt::Display,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::Arc,
};

use amop_load::{children, system::Failure};
use amop_testkit::ca::Consortium;
use clap::Subcommand;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    client::Line,
    compare::{Case, Contender, Of},
    relay, tls,
};

/// The most nodes a system is started with.
const MOST_NODES: usize = 4;
/// Where certificates are.
const CERTS: &str = "certs";

/// What a bench is as a process of its own. A bench has these as subcommands.
#[derive(Clone, Debug, Subcommand)]
pub enum Role {
    /// A relay
    #[command(hide = true)]
    Relay(relay::Settings),
    /// Another program, which then ends with the parent of this process
    #[command(hide = true)]
    Become {
        /// The program and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
}

impl Role {
    /// Plays it. A relay runs until it is killed or its parent ends.
    #[expect(clippy::print_stderr, reason = "the one who started this reads it")]
    pub fn play(&self) -> ExitCode {
        let settings = match self {
            Self::Become { command } => return children::become_program(command),
            Self::Relay(settings) => settings,
        };
        let ready = children::end_with_parent().and_then(|()| children::raise_open_files());
        let ended = ready.map_err(relay::Error::from).and_then(|()| relay::run(settings));
        match ended {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}: {:?}", std::error::Error::source(&error));
                ExitCode::FAILURE
            }
        }
    }
}

/// Certificates and places for files. Certificates are of one kind for all systems: P-256, of an
/// institution under a root, naming [`tls::HOST`].
#[derive(Debug)]
pub struct Setup {
    dir: PathBuf,
    own: PathBuf,
    nodes: Vec<PathBuf>,
}

impl Setup {
    /// For systems of at most `MOST_NODES` nodes; files go to `dir`. This program must have [`Role`] as subcommands.
    ///
    /// # Errors
    /// When this program cannot be found.
    ///
    /// # Panics
    /// When certificates cannot be made, or not be written to `dir`.
    pub fn new(dir: &Path) -> io::Result<Self> {
        let bank = Consortium::new().institution("bank");
        let leaf = |name: &str, role| bank.leaf(name, role).hosts([tls::HOST]).build();
        leaf("node", "node").write_node_dir(&dir.join(CERTS));
        leaf("client", "client").write_client_dir(&dir.join(CERTS));
        let nodes = (0..MOST_NODES).map(|number| {
            let own = dir.join(format!("node-{number}"));
            leaf(&format!("node-{number}"), "node").write_node_dir(&own);
            own
        });
        Ok(Self { dir: dir.to_owned(), own: std::env::current_exe()?, nodes: nodes.collect() })
    }

    /// `ca.crt`, `node.crt`, `node.key`, `sdk.crt` and `sdk.key`.
    pub fn certs(&self) -> PathBuf {
        self.dir.join(CERTS)
    }

    /// A directory with `ca.crt`, `node.crt` and `node.key` for each of so many nodes of ours, at most those there are.
    pub fn nodes(&self, count: usize) -> Vec<PathBuf> {
        self.nodes.iter().take(count).cloned().collect()
    }

    /// Relays in a line.
    pub fn relays(&self, relays: usize, mode: relay::Mode) -> Line {
        let program = vec![self.own.display().to_string(), "relay".to_owned()];
        Line { relays, mode, certs: self.certs(), logs: self.dir.clone(), program }
    }

    /// What runs a program that ends with this one, when arguments are added.
    pub fn program(&self, program: &Path) -> Vec<String> {
        vec![self.own.display().to_string(), "become".to_owned(), program.display().to_string()]
    }

    /// The same as a command.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(&self.own);
        command.arg("become").arg(program);
        command
    }

    /// Writes a configuration; where it is then.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf, Failure> {
        let path = self.dir.join(name);
        fs::write(&path, text).map_err(failed("start"))?;
        Ok(path)
    }

    /// Where a process may say what it likes.
    pub fn log(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.log"))
    }
}

/// The relays of frames, those of bytes, and nodes of ours: the program `amop`, wherever it is.
pub fn contenders(setup: &Arc<Setup>, amop: &Path) -> Vec<Box<dyn Contender>> {
    let relays = |mode| {
        let setup = setup.clone();
        move |nodes| setup.relays(nodes, mode)
    };
    let nodes = {
        let (setup, program) = (setup.clone(), setup.program(amop));
        move |nodes| amop_rig::Line {
            nodes: setup.nodes(nodes),
            certs: setup.certs(),
            program: program.clone(),
        }
    };
    let pinned = tls::security();
    let limit = format!("relays of frames, one thread each, rustls with ring, {pinned}");
    let raw = format!("relays of bytes, a connection between them for each client, the same TLS; {pinned}");
    let amop_is = format!("two nodes, each with as many threads as there are cores; {}", version(amop));
    vec![
        Box::new(Of::new("limit", limit, relays(relay::Mode::Frames))),
        Box::new(Of::new("raw", raw, relays(relay::Mode::Pipes)).except(needs_more_than_pipes)),
        Box::new(Of::new("amop", amop_is, nodes)),
    ]
}

/// Bytes go to the one responder that waits, and answers to the one requester.
fn needs_more_than_pipes(case: Case) -> bool {
    matches!(case, Case::FanOut { .. } | Case::Idle { .. } | Case::Start)
}

/// What a program says of its version: the last line, since zenohd logs before.
pub fn version(program: &Path) -> String {
    let output = Command::new(program).arg("--version").output();
    match output {
        Ok(output) => String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned(),
        Err(error) => format!("{}: {error}", program.display()),
    }
}

/// A failure of this cause, in the words of an error.
pub fn failed<E: Display>(cause: &'static str) -> impl Fn(E) -> Failure {
    move |error| Failure::new(cause, error.to_string())
}

/// A task of a client, which ends with it.
pub fn spawn(task: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
    #[expect(clippy::disallowed_methods, reason = "it ends with its handle")]
    AbortOnDropHandle::new(tokio::spawn(task))
}
