//! The limits of docs/operations.md: those of the code, with keys that set them and metrics that are there.

use std::{fs, path::Path, time::Duration};

use amop::{
    config::{self, Config},
    node::limits::{limits, table},
    telemetry::client as admin,
};
use amop_protocol::limits::{Bound, Limit, Policy};

use crate::mesh::Mesh;

const BEGIN: &str = "<!-- limits: made by the test `limits` -->\n";
const END: &str = "<!-- end of limits -->";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn defaults() -> Vec<Limit> {
    limits(&Config::defaults(root()))
}

/// `UPDATE_GENERATED=1 cargo test --test it limits` writes the table anew.
#[test]
fn operations_shows_the_limits_of_the_code() {
    let path = root().join("docs/operations.md");
    let document = fs::read_to_string(&path).expect("there");
    let (before, rest) = document.split_once(BEGIN).expect("a beginning");
    let (_, after) = rest.split_once(END).expect("an end");
    let fresh = format!("{before}{BEGIN}{}{END}{after}", table(&defaults()));
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        fs::write(&path, &fresh).expect("a source tree that can be written");
        return;
    }
    assert!(document == fresh, "run UPDATE_GENERATED=1 cargo test --test it limits");
}

/// A bound as a configuration file has it.
fn written(bound: Bound) -> String {
    match bound {
        Bound::Count(count) => count.to_string(),
        Bound::Bytes(bytes) => format!("\"{} MiB\"", bytes >> 20),
        Bound::Time(time) => format!("\"{} s\"", time.as_secs()),
        Bound::Mbit(rate) => rate.expect("a rate").to_string(),
    }
}

/// Another value that is good for the same key.
fn another(bound: Bound) -> Bound {
    match bound {
        Bound::Count(count) => Bound::Count(count / 2),
        Bound::Bytes(bytes) => Bound::Bytes(bytes / 2),
        Bound::Time(time) => Bound::Time(time / 2 + Duration::from_secs(16)),
        Bound::Mbit(_) => Bound::Mbit(Some(2.5)),
    }
}

fn rounded(bound: Bound) -> Bound {
    match bound {
        Bound::Time(time) => Bound::Time(Duration::from_secs(time.as_secs())),
        other => other,
    }
}

#[test]
fn every_key_of_a_limit_sets_it() {
    let example: toml::Table = config::EXAMPLE.parse().expect("TOML");
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("amop.toml");
    let mut checked = 0;
    for limit in defaults() {
        let Some(key) = limit.key else { continue };
        let (section, name) = key.split_once('.').expect("table.key");
        let documented = example[section].get(name).is_some();
        assert_eq!(documented, limit.bound != Bound::Mbit(None), "{key} has a default, and it is shown");
        let bound = rounded(another(limit.bound));
        fs::write(&path, format!("[{section}]\n{name} = {}\n", written(bound))).expect("written");
        let changed = config::load(&path).unwrap_or_else(|problems| panic!("{key}: {problems}"));
        let changed = limits(&changed).into_iter().find(|other| other.key == Some(key)).expect("the limit");
        let difference = match (changed.bound, bound) {
            // Shared out between shards, and some are left over.
            (Bound::Count(found), Bound::Count(set)) => set.abs_diff(found) < 16,
            (found, set) => found == set,
        };
        assert!(difference, "{key} = {bound} leads to {}", changed.bound);
        checked += 1;
    }
    assert!(checked > 15, "only {checked} limits have keys");
}

#[tokio::test]
async fn every_metric_of_a_limit_is_shown() {
    let mesh = Mesh::line(1).await;
    let page = admin::get(mesh.nodes[0].admin(), "/metrics").await.expect("the admin port answers");
    let page = String::from_utf8(page.to_vec()).expect("text");
    for limit in defaults() {
        let Some(metric) = limit.metric else {
            // An answer that is cut short and says so takes nothing from anybody.
            let is_told = limit.then.ends_with("the answer says how many there are");
            let harmless =
                is_told || limit.policy == Policy::Wait || limit.what.starts_with("certificates of nodes");
            assert!(harmless, "{}: something is lost, and no metric says so", limit.what);
            continue;
        };
        let (name, label) = metric.split_once('{').unwrap_or((metric, ""));
        let label = label.trim_end_matches('}');
        let is_it = |line: &&str| line.split(['{', ' ']).next() == Some(name) && line.contains(label);
        assert!(page.lines().any(|line| is_it(&line)), "{}: there is no {metric}", limit.what);
    }
}
