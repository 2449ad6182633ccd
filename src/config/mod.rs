//! The configuration file, and what it means.
//!
//! `file` gives strict access to what is written, `setting` reads and shows values, `resolve` makes of it what is meant: a
//! [`Config`] in which nothing is left to interpret. Nothing else in the program sees raw text.
//! All problems are reported together, each as a sentence with the key and the cure.
//! `change` says what another configuration would change, and what of that a node can change while it runs.

mod change;
mod file;
mod resolve;
mod setting;

use std::{
    fmt, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use amop_protocol::NodeId;

use self::file::Values;
pub use self::{
    change::{Change, Reloaded},
    file::Problem,
};
use crate::{
    identity::{self, ClientTls, Clients, Credentials, FiscoPaths, LoadError, Paths},
    telemetry::{admin::Secret, otlp::Endpoint},
};

/// The example file, which documents every key; a test holds it to the code.
pub const EXAMPLE: &str = include_str!("../../amop.example.toml");

/// Largest configuration file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// A node's configuration, resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Who the node is.
    pub node: Node,
    /// The ports for SDKs.
    pub client_port: ClientPort,
    /// Links to other nodes.
    pub overlay: Overlay,
    /// How messages find their way.
    pub delivery: Delivery,
    /// What the node may use of the machine.
    pub limits: Limits,
    /// What is remembered of messages for those who look for one, and told to others.
    pub trace: Trace,
    /// Metrics, health and status.
    pub admin: Admin,
    /// What is logged, and how.
    pub log: Log,
    /// How the node stops.
    pub shutdown: Shutdown,
    /// The file it was read from.
    pub file: Option<PathBuf>,
    /// All of this as text, key by key.
    values: Values,
}

/// `[node]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The name shown to others; the certificate's common name if absent.
    pub name: Option<String>,
    /// Certificates, key and revocation lists.
    pub paths: Paths,
    /// Days before its end at which a certificate is warned of, in ascending order.
    pub expiry_warnings: Vec<usize>,
}

/// `[client_port]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientPort {
    /// Where clients connect; at least one.
    pub listeners: Vec<Listener>,
    /// Most sessions at a time.
    pub max_clients: usize,
    /// Group ids that `getGroupList` reports: none, or 1.
    pub groups: Vec<u32>,
    /// Most topics of one client.
    pub max_topics_per_client: usize,
    /// Most topics of all clients together.
    pub max_topics: usize,
    /// Most requests of one client that await their outcome.
    pub max_in_flight: usize,
    /// Bytes queued towards one client.
    pub queue_bytes: usize,
    /// Bytes of partly received frames of all clients together.
    pub partial_frame_bytes: usize,
    /// Most handshakes under way; the oldest gives way.
    pub max_handshakes: usize,
    /// Time a handshake may take.
    pub handshake_timeout: Duration,
    /// Silence after which a session is closed.
    pub idle_timeout: Duration,
}

/// Where clients connect: `listen` of `[client_port]`, `[fisco_rsa]` and `[fisco_ec]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The address.
    pub listen: SocketAddr,
    /// What is presented there, and who is served.
    pub certificates: Certificates,
}

/// The certificates of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Certificates {
    /// The node's own, for clients of the consortium.
    Consortium(Clients),
    /// Those of a FISCO BCOS chain.
    Fisco(FiscoPaths),
}

impl Certificates {
    /// Loads what the listener of a node with these credentials needs.
    ///
    /// # Errors
    /// With everything that is wrong with its files.
    pub fn load(&self, credentials: &Credentials) -> Result<ClientTls, Vec<LoadError>> {
        match self {
            Self::Consortium(clients) => Ok(credentials.client_tls(clients.clone()).apart()),
            Self::Fisco(paths) => ClientTls::load_fisco(paths, credentials.subject().institution.clone()),
        }
    }
}

/// `[overlay]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlay {
    /// Where other nodes connect.
    pub listen: SocketAddr,
    /// The address others are told, if it is not the one listened on.
    pub advertise: Option<SocketAddr>,
    /// Nodes to link to.
    pub peers: Vec<SocketAddr>,
    /// If not empty: the only nodes to link with.
    pub allow: Vec<NodeId>,
    /// Nodes never to link with.
    pub deny: Vec<NodeId>,
    /// Most links at a time.
    pub max_connections: usize,
    /// Most nodes known in the whole overlay.
    pub max_nodes: usize,
    /// Bytes queued towards one link.
    pub link_queue_bytes: usize,
    /// Bytes of partly received frames of all links together.
    pub partial_frame_bytes: usize,
}

/// `[delivery]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The deadline of a request that brings none.
    pub default_deadline: Duration,
    /// The longest deadline a client may ask for.
    pub max_deadline: Duration,
    /// How long a path may keep an attempt unconfirmed before another is tried.
    pub path_timeout: Duration,
    /// The least time a subscriber has for its answer.
    pub min_push_timeout: Duration,
    /// The most time a subscriber has for its answer while others are left to try.
    pub max_push_timeout: Duration,
    /// Messages remembered, so that none runs twice.
    pub seen_entries: usize,
    /// Bytes of outcomes remembered for repetition.
    pub seen_bytes: usize,
}

/// `[limits]`
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Most Mbit/s that all clients send together; no limit if absent.
    pub outgoing_bandwidth_limit: Option<f64>,
    /// Most Mbit/s that one client sends; no limit if absent.
    pub client_bandwidth_limit: Option<f64>,
    /// Most Mbit/s that are passed on for other nodes; no limit if absent.
    pub relay_bandwidth_limit: Option<f64>,
    /// Most bytes of payloads held at once.
    pub payload_bytes: usize,
}

/// `[trace]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Steps of messages that are remembered, of the node's own and as many again of those it relays; 0: none.
    pub entries: usize,
    /// What nodes of other institutions are told of their own messages.
    pub show: Show,
    /// Where spans of messages are exported to, if anywhere.
    pub otlp: Option<Collector>,
}

/// A collector of OpenTelemetry's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    /// Where it takes traces.
    pub endpoint: Endpoint,
    /// The CA of its certificate, PEM; there if it is asked over TLS.
    pub ca: Option<PathBuf>,
}

/// What nodes of other institutions are told of messages that come from theirs. Of other messages they are told
/// nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// Nothing either.
    Nothing,
    /// When, what and why, by way of which nodes; no names of clients.
    Hops,
    /// Also the names of this node's clients.
    All,
}

/// `[admin]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Where metrics, health and status are served: TLS on any address but a loopback one.
    pub listen: SocketAddr,
    /// The file of the token that shows authority over the node; nothing can be changed if absent.
    pub token: Option<PathBuf>,
    /// Whether reading needs the token on the loopback interface, too.
    pub token_for_reads: bool,
    /// Names of clients of the node's institution that may read beyond the loopback interface.
    pub clients: Vec<String>,
    /// Host names by which the node is asked, beside addresses and `localhost`; in lower case.
    pub hosts: Vec<String>,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Least important level, or a filter as `tracing` has them.
    pub level: String,
    /// For people or for machines.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// A line for people.
    Text,
    /// A JSON object per line.
    Json,
}

/// `[shutdown]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// How long requests in flight may take to finish.
    pub grace: Duration,
}

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    /// The configuration file.
    pub path: PathBuf,
    /// At least one.
    pub all: Vec<Problem>,
}

impl Problems {
    /// Of the configuration in `path`: what somebody who would have to use it says is wrong.
    pub fn one(path: &Path, problem: impl fmt::Display) -> Self {
        Self { path: path.to_owned(), all: vec![Problem(problem.to_string())] }
    }

    /// As a sentence, where a list would not do.
    pub fn in_one_line(&self) -> String {
        let all: Vec<_> = self.all.iter().map(ToString::to_string).collect();
        format!("{} cannot be used: {}", self.path.display(), all.join("; "))
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cannot be used:", self.path.display())?;
        self.all.iter().try_for_each(|problem| write!(f, "\n  - {problem}"))
    }
}

impl std::error::Error for Problems {}

impl Config {
    /// All defaults, with certificates expected in `directory`.
    pub fn defaults(directory: &Path) -> Self {
        resolve::defaults(directory)
    }
}

/// Reads a configuration file. Relative paths in it are relative to the file.
///
/// # Errors
/// With everything that is wrong with it.
pub fn load(path: &Path) -> Result<Config, Problems> {
    match read(path) {
        (Some(config), problems) if problems.is_empty() => Ok(config),
        (_, all) => Err(Problems { path: path.to_owned(), all }),
    }
}

/// Does all that a node does before it starts: reads the configuration, loads and verifies its
/// certificates and key.
///
/// # Errors
/// With everything that is wrong, in file and certificates alike.
pub fn check(path: &Path) -> Result<(Config, Credentials), Problems> {
    let (config, mut all) = read(path);
    let mut of_files = Vec::new();
    let credentials = config.as_ref().and_then(|config| load_all(config, &mut of_files));
    all.extend(of_files.iter().map(|error| Problem(error.to_string())));
    all.extend(config.as_ref().and_then(|config| problem_of_token(&config.admin)));
    match (config, credentials) {
        (Some(config), Some(credentials)) if all.is_empty() => Ok((config, credentials)),
        _ => Err(Problems { path: path.to_owned(), all }),
    }
}

/// Loads the node's identity and that of every listener.
fn load_all(config: &Config, problems: &mut Vec<LoadError>) -> Option<Credentials> {
    let credentials =
        Credentials::load_all(&config.node.paths).map_err(|of_files| problems.extend(of_files)).ok()?;
    for listener in &config.client_port.listeners {
        let _ = listener.certificates.load(&credentials).map_err(|of_files| problems.extend(of_files));
    }
    if let Some(ca) = config.trace.otlp.as_ref().and_then(|collector| collector.ca.as_ref()) {
        problems.extend(identity::towards_servers(ca).err());
    }
    Some(credentials)
}

/// What is wrong with the admin token that is there; the node makes one if there is none.
fn problem_of_token(admin: &Admin) -> Option<Problem> {
    let path = admin.token.as_ref().filter(|path| path.exists())?;
    Secret::load(path).err().map(|error| Problem(error.to_string()))
}

/// The configuration, with defaults where it is wrong, and the problems; none if it is not TOML at all.
fn read(path: &Path) -> (Option<Config>, Vec<Problem>) {
    let text = match read_text(path) {
        Ok(text) => text,
        Err(problem) => return (None, vec![problem]),
    };
    let directory = path.parent().unwrap_or(Path::new(""));
    match resolve::resolve(&text, directory) {
        Ok(resolved) => {
            let config = Config { file: Some(path.to_owned()), ..resolved.config };
            (Some(config), resolved.problems)
        }
        Err(problem) => (None, vec![problem]),
    }
}

fn read_text(path: &Path) -> Result<String, Problem> {
    let failed = |error: std::io::Error| Problem(format!("cannot read it: {error}"));
    let metadata = fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() || metadata.len() > MAX_FILE_BYTES {
        return Err(Problem(format!("it is not a file of at most {MAX_FILE_BYTES} bytes")));
    }
    fs::read_to_string(path).map_err(failed)
}

#[cfg(test)]
mod tests;
