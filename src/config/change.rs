//! What another configuration changes, and what of it a node can change while it runs.

use std::{collections::BTreeSet, fmt};

use super::{
    Admin, Certificates, ClientPort, Config, Listener, Log, Node, Overlay, Trace, file::Values,
    setting::Shown,
};

/// Keys that count when a node starts and not before: its ports, what others know it by, and what room is made
/// for.
const AT_START: [&str; 13] = [
    "node.name",
    "client_port.listen",
    "fisco_rsa.listen",
    "fisco_ec.listen",
    "overlay.listen",
    "overlay.advertise",
    "trace.entries",
    "trace.otlp",
    "trace.otlp_ca",
    "admin.listen",
    "admin.token",
    "admin.token_for_reads",
    "log.format",
];
/// Entries of a list that are named when it changes.
const MOST: usize = 20;

/// A key whose value is another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// As `table.key`.
    pub key: String,
    /// From what to what; of lists, what comes and goes.
    pub what: String,
}

/// What comes of a configuration that a running node is given.
#[derive(Clone, Debug)]
pub struct Reloaded {
    /// What is in force then.
    pub config: Config,
    /// What that changes.
    pub changed: Vec<Change>,
    /// What only a restart will change.
    pub at_restart: Vec<Change>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.what)
    }
}

impl Config {
    /// What comes of it when a node that runs with this configuration is given another.
    pub fn reload(&self, mut new: Self) -> Reloaded {
        let waits = |key: &str| counts_at_start(key) || self.is_of_no_listener(&new, key);
        let (at_restart, changed) =
            changes(&self.values, &new.values).into_iter().partition(|change| waits(&change.key));
        let kept: Vec<_> = self.values.iter().filter(|(key, _)| waits(key)).collect();
        let kept: Values = kept.into_iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        new.values.extend(kept);
        Reloaded { config: self.with_changes_of(new), changed, at_restart }
    }

    /// Whether the key is of a port for clients that does not serve with both configurations.
    fn is_of_no_listener(&self, new: &Self, key: &str) -> bool {
        let is_off = |config: &Self, table: &str| {
            config
                .values
                .get(&format!("{table}.listen"))
                .is_some_and(|listen| *listen == Shown::One("off".into()))
        };
        match key.split_once('.') {
            Some((table @ ("fisco_rsa" | "fisco_ec"), _)) | Some((table, "same_institution_only")) => {
                is_off(self, table) || is_off(new, table)
            }
            _ => false,
        }
    }

    /// `new`, but for what counts only when a node starts.
    fn with_changes_of(&self, new: Self) -> Self {
        let listeners = self.client_port.listeners.iter().map(|listener| listener.reload(&new.client_port));
        Self {
            node: Node { name: self.node.name.clone(), ..new.node },
            client_port: ClientPort { listeners: listeners.collect(), ..new.client_port },
            overlay: Overlay {
                listen: self.overlay.listen,
                advertise: self.overlay.advertise,
                ..new.overlay
            },
            trace: Trace { entries: self.trace.entries, otlp: self.trace.otlp.clone(), ..new.trace },
            admin: Admin { clients: new.admin.clients, hosts: new.admin.hosts, ..self.admin.clone() },
            log: Log { format: self.log.format, ..new.log },
            ..new
        }
    }
}

impl Listener {
    /// This listener with the files that `new` names for one of its kind, and the clients it serves there, if it
    /// has one.
    fn reload(&self, new: &ClientPort) -> Self {
        let is_same = |other: &&Certificates| match (&self.certificates, other) {
            (Certificates::Consortium(_), Certificates::Consortium(_)) => true,
            (Certificates::Fisco(own), Certificates::Fisco(other)) => own.kind == other.kind,
            _ => false,
        };
        let of_kind = new.listeners.iter().map(|listener| &listener.certificates).find(is_same);
        Self { listen: self.listen, certificates: of_kind.unwrap_or(&self.certificates).clone() }
    }
}

fn counts_at_start(key: &str) -> bool {
    AT_START.contains(&key)
}

/// Keys whose values differ. Both have the same keys: all there are.
fn changes(old: &Values, new: &Values) -> Vec<Change> {
    let differing = old.iter().filter_map(|(key, old)| Some((key, old, new.get(key)?)));
    let differing = differing.filter(|(_, old, new)| old != new);
    differing.map(|(key, old, new)| Change { key: key.clone(), what: difference(old, new) }).collect()
}

fn difference(old: &Shown, new: &Shown) -> String {
    let (Shown::Many(old), Shown::Many(new)) = (old, new) else { return format!("{old} -> {new}") };
    let (before, after): (BTreeSet<_>, BTreeSet<_>) = (old.iter().collect(), new.iter().collect());
    let added = named("added", after.difference(&before).map(|entry| entry.as_str()).collect());
    let removed = named("removed", before.difference(&after).map(|entry| entry.as_str()).collect());
    match [added, removed].into_iter().flatten().collect::<Vec<_>>() {
        parts if parts.is_empty() => "the same in another order".to_owned(),
        parts => parts.join("; "),
    }
}

fn named(what: &str, entries: Vec<&str>) -> Option<String> {
    let shown = entries.get(..MOST).unwrap_or(&entries).join(", ");
    match entries.len() {
        0 => None,
        1..=MOST => Some(format!("{what} {shown}")),
        more => Some(format!("{what} {shown} and {} more", more - MOST)),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{EXAMPLE, resolve};

    fn config(text: &str) -> Config {
        let resolved = resolve::resolve(text, Path::new("/etc/amop")).unwrap();
        assert_eq!(resolved.problems, [], "{text}");
        resolved.config
    }

    /// Another value for each key; each is changed alone, which its neighbours must allow.
    const OTHERS: &str = include_str!("other_values.toml");

    /// What can be changed is what is said to be: every key there is, one by one.
    #[test]
    fn each_key_changes_now_or_is_said_to_change_at_the_next_start() {
        let default = config("");
        let others = OTHERS.parse::<toml::Table>().unwrap();
        let mut tried = BTreeSet::new();
        for (table, keys) in &others {
            for (short, value) in keys.as_table().unwrap() {
                let key = format!("{table}.{short}");
                // What it means something with, and what it is before.
                let (beside, former) = match &*key {
                    "fisco_rsa.listen" | "fisco_ec.listen" => ("", ""),
                    key if key.starts_with("fisco") => ("listen = \"0.0.0.0:1\"", ""),
                    "trace.otlp_ca" => {
                        ("otlp = \"https://127.0.0.1:1/v1/traces\"", "otlp_ca = \"former.crt\"")
                    }
                    _ => ("", ""),
                };
                let text = |line: &str| format!("[{table}]\n{beside}\n{line}\n");
                let before = config(&text(former));
                let after = config(&text(&format!("{short} = {value}")));
                assert_ne!(before, after, "{key} has another value");
                let Reloaded { config: now, changed, at_restart } = before.reload(after.clone());
                if counts_at_start(&key) {
                    assert_eq!((changed.len(), at_restart.len()), (0, 1), "{key}");
                    assert_eq!(now, before, "{key} does not change");
                } else {
                    assert_eq!((changed.len(), at_restart.len()), (1, 0), "{key}");
                    assert_eq!(now, after, "{key} changes");
                }
                tried.insert(key);
            }
        }
        let all: BTreeSet<_> = default.values.keys().cloned().collect();
        assert_eq!(tried, all, "every key is tried");
    }

    #[test]
    fn what_waits_for_a_restart_is_told_again_until_then() {
        let before = config("");
        let text = "[overlay]\nlisten = \"0.0.0.0:1\"\nmax_nodes = 7";
        let first = before.reload(config(text));
        assert_eq!(first.changed.len(), 1);
        assert_eq!(first.changed[0].to_string(), "overlay.max_nodes: 1024 -> 7");
        let again = first.config.reload(config(text));
        assert_eq!(again.changed, []);
        assert_eq!(again.at_restart[0].to_string(), "overlay.listen: 0.0.0.0:30300 -> 0.0.0.0:1");
        assert_eq!(again.at_restart, first.at_restart);
        let back = first.config.reload(config("[overlay]\nmax_nodes = 7"));
        assert_eq!((back.changed, back.at_restart), (vec![], vec![]));
    }

    #[test]
    fn files_of_a_port_that_is_off_wait_for_it() {
        let on = "[fisco_ec]\nlisten = \"0.0.0.0:1\"\ncrl = [\"a.crl\"]";
        for (before, after) in [("", on), (on, "")] {
            let before = config(before);
            let Reloaded { config: now, changed, at_restart } = before.reload(config(after));
            assert_eq!((changed.len(), at_restart.len()), (0, 2));
            assert_eq!(now, before);
        }
    }

    #[test]
    fn whom_a_port_serves_that_is_off_waits_for_it() {
        let on = "[fisco_ec]\nlisten = \"0.0.0.0:1\"\n[client_port]\n";
        let off = format!("{on}listen = \"off\"");
        let other = format!("{on}same_institution_only = true");
        let now = config(on);
        let reloaded = now.reload(config(&format!("{off}\nsame_institution_only = true")));
        assert_eq!((reloaded.changed.len(), reloaded.at_restart.len()), (0, 2));
        assert_eq!(reloaded.config, now);
        let reloaded = config(&off).reload(config(&other));
        assert_eq!((reloaded.changed.len(), reloaded.at_restart.len()), (0, 2));
    }

    #[test]
    fn of_lists_only_the_difference_is_told() {
        let list = |from: u32, to: u32| {
            let peers: Vec<_> = (from..to).map(|port| format!("\"10.0.0.1:{port}\"")).collect();
            config(&format!("[overlay]\npeers = [{}]", peers.join(", ")))
        };
        let what = |old: &Config, new: Config| old.reload(new).changed.pop().unwrap().what;
        assert_eq!(what(&list(1, 3), list(2, 4)), "added 10.0.0.1:3; removed 10.0.0.1:1");
        assert!(what(&list(1, 2), list(1, 31)).contains(" and 9 more"));
    }

    /// The example marks each key that changes only at a start, in the comment above it.
    #[test]
    fn the_example_says_what_needs_a_restart() {
        let (mut table, mut about, mut marked) = ("", String::new(), BTreeSet::new());
        for line in EXAMPLE.lines() {
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                (table, about) = (name, String::new());
            } else if let Some((key, _)) = line.trim_start_matches("# ").split_once(" = ")
                && !key.contains(' ')
            {
                if about.contains("(restart)") {
                    marked.insert(format!("{table}.{key}"));
                }
                about.clear();
            } else {
                about.push_str(line);
            }
        }
        let keys = config("").values.into_keys();
        assert_eq!(marked, keys.filter(|key| counts_at_start(key)).collect());
    }
}
