//! What a devnet leaves on disk: certificates, configurations, logs, `devnet.json`.
//!
//! ```text
//! DIR/devnet.lock             held while a devnet runs; marks the directory as ours
//! DIR/devnet.json             who there is; written when all nodes are linked
//! DIR/node-1/amop.toml        with ca.crt, node.crt, node.key and node.log beside it
//! DIR/node-1/fisco-rsa/       with that profile: the client port's ca.crt, node.crt, node.key
//! DIR/clients/app-1/          ca.crt, sdk.crt, sdk.key, as FISCO BCOS SDKs expect them
//! ```
//! The consortium's and the institutions' keys are never written: nothing is issued later.

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io::ErrorKind,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use amop_protocol::certificate::Role;
use anyhow::Context;
use serde::Serialize;

use crate::{
    cli::devnet::{
        nodes::Identity,
        plan::{Node, Plan},
    },
    identity::{
        FiscoKind, Profile,
        mint::{Ca, Existing, LEAF_DAYS, MintError, fisco},
    },
};

const LOCK: &str = "devnet.lock";
const ANNOUNCEMENT: &str = "devnet.json";
const CLIENTS: &str = "clients";

/// A devnet's directory, ours as long as this lives.
pub(super) struct Layout {
    dir: PathBuf,
    _lock: File,
}

/// `devnet.json`. Paths are relative to its directory.
#[derive(Serialize)]
struct Announcement<'a> {
    nodes: Vec<NodeEntry<'a>>,
    clients: Vec<ClientEntry<'a>>,
}

#[derive(Serialize)]
struct NodeEntry<'a> {
    name: &'a str,
    institution: &'a str,
    node_id: &'a str,
    pid: u32,
    channel: SocketAddr,
    overlay: SocketAddr,
    admin: SocketAddr,
    config: PathBuf,
}

#[derive(Serialize)]
struct ClientEntry<'a> {
    name: String,
    institution: &'a str,
    node: &'a str,
    dir: PathBuf,
}

impl Layout {
    /// Takes the directory, clears what a former devnet left, and writes everything the nodes need.
    pub(super) fn create(dir: &Path, plan: &Plan) -> anyhow::Result<Self> {
        let layout = Self { dir: dir.to_owned(), _lock: take(dir)? };
        layout.clear().with_context(|| format!("cannot clear {}", dir.display()))?;
        layout.mint(plan).context("cannot make the certificates")?;
        for node in &plan.nodes {
            let path = layout.config(&node.name);
            fs::write(&path, config_text(plan, node))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(layout)
    }

    /// The directory, as given.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A node's configuration.
    pub(super) fn config(&self, node: &str) -> PathBuf {
        self.dir.join(config_path(node))
    }

    /// What a node prints.
    pub(super) fn log(&self, node: &str) -> PathBuf {
        self.dir.join(node).join("node.log")
    }

    /// The credentials of the client that belongs to this node's institution.
    pub(super) fn client_dir(&self, node: &Node) -> PathBuf {
        self.dir.join(client_path(node))
    }

    /// Writes `devnet.json`, whole or not at all.
    pub(super) fn announce(&self, plan: &Plan, identities: &BTreeMap<&str, Identity>) -> anyhow::Result<()> {
        let known = |node: &Node| identities.get(node.name.as_str()).context("a node without identity");
        let nodes = plan.nodes.iter().map(|node| {
            let identity = known(node)?;
            Ok(NodeEntry {
                name: &node.name,
                institution: &node.institution,
                node_id: &identity.node_id,
                pid: identity.pid,
                channel: node.channel,
                overlay: node.overlay,
                admin: node.admin,
                config: config_path(&node.name),
            })
        });
        let announcement = Announcement {
            nodes: nodes.collect::<anyhow::Result<_>>()?,
            clients: plan.nodes.iter().map(client_entry).collect(),
        };
        let path = self.dir.join(ANNOUNCEMENT);
        let unfinished = self.dir.join(".devnet.json.new");
        fs::write(&unfinished, serde_json::to_vec_pretty(&announcement)?)
            .and_then(|()| fs::rename(&unfinished, &path))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Removes what devnets write, and nothing else.
    fn clear(&self) -> std::io::Result<()> {
        let _ = fs::remove_file(self.dir.join(ANNOUNCEMENT));
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let ours = entry.file_name().to_str().is_some_and(|name| name == CLIENTS || is_node(name));
            if ours && entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }

    fn mint(&self, plan: &Plan) -> anyhow::Result<()> {
        let root = Ca::consortium("devnet", LEAF_DAYS)?;
        for node in &plan.nodes {
            let institution = root.institution(&node.institution, LEAF_DAYS)?;
            let leaf = institution.leaf(Role::Node, &node.name, LEAF_DAYS)?;
            leaf.save(&self.dir.join(&node.name), Existing::Replace)?;
            if plan.profile == Profile::Default {
                let leaf = institution.leaf(Role::Client, &client_name(node), LEAF_DAYS)?;
                leaf.save(&self.client_dir(node), Existing::Replace)?;
            }
        }
        match plan.profile {
            Profile::Default => Ok(()),
            Profile::FiscoRsa => {
                self.mint_fisco(plan, |name| fisco::Agency::new(FiscoKind::Rsa, name, LEAF_DAYS))
            }
            Profile::FiscoEc => {
                let chain = fisco::Chain::new("chain", LEAF_DAYS)?;
                self.mint_fisco(plan, |name| chain.agency(name, LEAF_DAYS))
            }
        }
    }

    /// What client ports and clients present instead of the consortium's certificates.
    fn mint_fisco(
        &self,
        plan: &Plan,
        agency: impl Fn(&str) -> Result<fisco::Agency, MintError>,
    ) -> anyhow::Result<()> {
        for node in &plan.nodes {
            let agency = agency(&node.institution)?;
            let directory = self.dir.join(&node.name).join(plan.profile.as_str());
            agency.node(&node.name, LEAF_DAYS)?.save(&directory, Existing::Replace)?;
            agency.client(&client_name(node), LEAF_DAYS)?.save(&self.client_dir(node), Existing::Replace)?;
        }
        Ok(())
    }
}

/// Creates the directory or takes over one that a devnet made; refuses any other.
fn take(dir: &Path) -> anyhow::Result<File> {
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let lock = dir.join(LOCK);
    let foreign = !lock.exists()
        && fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?.next().is_some();
    if foreign {
        anyhow::bail!(
            "{} holds something that no devnet has made; choose an empty or new directory with --dir",
            dir.display()
        );
    }
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock)
        .with_context(|| format!("cannot write {}", lock.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => anyhow::bail!(
            "a devnet is running in {}; stop it, or choose another directory with --dir (and --base-port 0)",
            dir.display()
        ),
        // Some file systems have no locks; the ports will tell two devnets apart.
        Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => Ok(file),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", lock.display()))
        }
    }
}

fn is_node(name: &str) -> bool {
    name.strip_prefix("node-").is_some_and(|number| number.parse::<u16>().is_ok())
}

fn config_path(node: &str) -> PathBuf {
    Path::new(node).join("amop.toml")
}

/// `app-1` is the client of `node-1`'s institution.
fn client_name(node: &Node) -> String {
    format!("app-{}", node.index + 1)
}

fn client_path(node: &Node) -> PathBuf {
    Path::new(CLIENTS).join(client_name(node))
}

fn client_entry(node: &Node) -> ClientEntry<'_> {
    ClientEntry {
        name: client_name(node),
        institution: &node.institution,
        node: &node.name,
        dir: client_path(node),
    }
}

fn config_text(plan: &Plan, node: &Node) -> String {
    let peers: Vec<String> =
        plan.dialled_by(node.index).map(|peer| format!("\"{}\"", peer.overlay)).collect();
    format!(
        "# {name} of {institution}, written by `amop devnet`.\n\
         # Every key and its default: amop.example.toml\n\n\
         [node]\nca = \"ca.crt\"\ncert = \"node.crt\"\nkey = \"node.key\"\n\n\
         {client_port}{max_clients}\n\
         [overlay]\nlisten = \"{overlay}\"\npeers = [{peers}]\n\n\
         [admin]\nlisten = \"{admin}\"\n\n\
         [log]\nformat = \"text\"\n",
        name = node.name,
        institution = node.institution,
        client_port = client_port_text(plan.profile, node.channel),
        max_clients = plan.max_clients.map(|most| format!("max_clients = {most}\n")).unwrap_or_default(),
        overlay = node.overlay,
        admin = node.admin,
        peers = peers.join(", "),
    )
}

fn client_port_text(profile: Profile, channel: SocketAddr) -> String {
    let section = match profile {
        Profile::Default => return format!("[client_port]\nlisten = \"{channel}\"\n"),
        Profile::FiscoRsa => "fisco_rsa",
        Profile::FiscoEc => "fisco_ec",
    };
    format!(
        "[client_port]\nlisten = \"off\"\n\n\
         [{section}]\nlisten = \"{channel}\"\n\
         ca = \"{profile}/ca.crt\"\ncert = \"{profile}/node.crt\"\nkey = \"{profile}/node.key\"\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::devnet::plan::Topology;

    fn plan() -> Plan {
        Plan::new(2, Topology::Line, Profile::Default, 0).expect("free ports")
    }

    #[test]
    fn a_directory_is_reused_but_not_shared_nor_stolen() {
        let dir = tempfile::tempdir().expect("dir");
        let ours = dir.path().join("devnet");
        let first = Layout::create(&ours, &plan()).expect("new");
        let key = fs::read(ours.join("node-1/node.key")).expect("key");
        let error = Layout::create(&ours, &plan()).err().expect("locked").to_string();
        assert!(error.contains("a devnet is running in"), "{error}");

        drop(first);
        fs::write(ours.join("notes.txt"), "mine").expect("write");
        let _second = Layout::create(&ours, &plan()).expect("again");
        assert_ne!(fs::read(ours.join("node-1/node.key")).expect("key"), key, "minted anew");
        assert!(ours.join("notes.txt").exists(), "what is not ours stays");

        let error = Layout::create(dir.path(), &plan()).err().expect("foreign").to_string();
        assert!(error.contains("no devnet has made"), "{error}");
    }

    #[test]
    fn a_node_finds_nothing_wrong_with_its_configuration() {
        let dir = tempfile::tempdir().expect("dir");
        let plan = plan();
        let layout = Layout::create(dir.path(), &plan).expect("new");
        let (config, credentials) = crate::config::check(&layout.config("node-2")).expect("in order");
        assert_eq!(config.client_port.listeners[0].listen, plan.nodes[1].channel);
        assert_eq!(config.overlay.peers, [plan.nodes[0].overlay]);
        assert_eq!(&*credentials.subject().institution, "bank-b");
    }

    #[test]
    fn client_ports_have_certificates_of_the_profile() {
        for profile in [Profile::FiscoRsa, Profile::FiscoEc] {
            let dir = tempfile::tempdir().expect("dir");
            let plan = Plan::new(2, Topology::Line, profile, 0).expect("free ports");
            let layout = Layout::create(dir.path(), &plan).expect("new");
            let (config, credentials) = crate::config::check(&layout.config("node-1")).expect("in order");
            let [listener] = &config.client_port.listeners[..] else { panic!("one listener") };
            assert_eq!(listener.listen, plan.nodes[0].channel);
            assert_eq!(listener.certificates.load(&credentials).expect("loaded").profile(), profile);
        }
    }

    #[test]
    fn the_announcement_names_everything_relative_to_itself() {
        let dir = tempfile::tempdir().expect("dir");
        let plan = plan();
        let layout = Layout::create(dir.path(), &plan).expect("new");
        let identity = || Identity { node_id: "ab".repeat(64), pid: 7 };
        layout.announce(&plan, &[("node-1", identity()), ("node-2", identity())].into()).expect("written");
        let text = fs::read(dir.path().join("devnet.json")).expect("there");
        let value: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        assert_eq!(value["nodes"][1]["channel"], plan.nodes[1].channel.to_string());
        for client in value["clients"].as_array().expect("array") {
            let client_dir = dir.path().join(client["dir"].as_str().expect("text"));
            for file in ["ca.crt", "sdk.crt", "sdk.key"] {
                assert!(client_dir.join(file).exists(), "{file}");
            }
        }
    }
}
