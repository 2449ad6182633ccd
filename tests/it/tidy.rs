//! Tests the repository itself: floors, file sizes, headers, documents.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use amop_protocol::Cause;
use walkdir::WalkDir;

/// Which module of the root package may use which others. A new edge is an architectural change:
/// edit this table and ARCHITECTURE.md in the same commit.
const EDGES: &[(&str, &[&str])] = &[
    // Floor 2: the shell. `overlay` and `client_port` never know each other.
    ("tasks", &[]),
    ("identity", &[]),
    ("overlay", &["identity", "tasks"]),
    ("client_port", &["identity", "tasks"]),
    ("telemetry", &["identity", "tasks"]),
    // Floor 3: composition.
    ("config", &["client_port", "identity", "overlay", "telemetry"]),
    ("node", &["client_port", "config", "identity", "overlay", "tasks", "telemetry"]),
    // Floor 4: programs.
    ("cli", &["config", "identity", "node", "tasks", "telemetry"]),
    ("main", &["cli"]),
    ("lib", &[]),
];
/// Composition may take the settings of what it composes, nothing more.
const CONFIG_ONLY: &[(&str, &str)] = &[("config", "overlay"), ("config", "client_port")];
/// Lines of code that fail, and that deserve a second look. Tests files are not counted.
const MAX_LINES: usize = 700;
const LONG_LINES: usize = 400;
/// Lines of ARCHITECTURE.md.
const MAX_ARCHITECTURE_LINES: usize = 250;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files below the root that are ours, by extension; neither built nor hidden.
fn files(extension: &str) -> Vec<PathBuf> {
    let hidden = |name: &str| name == "target" || (name.starts_with('.') && name != ".ci");
    WalkDir::new(root())
        .sort_by_file_name()
        .into_iter()
        .filter_entry(|entry| entry.depth() == 0 || !entry.file_name().to_str().is_some_and(hidden))
        .map(|entry| entry.expect("the repository can be read").into_path())
        .filter(|path| path.is_file() && path.extension().is_some_and(|found| found == extension))
        .collect()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// The top-level module a file of `src/` belongs to.
fn module_of(path: &Path) -> String {
    let inside = path.strip_prefix(root().join("src")).expect("a file of src/");
    let first = inside.components().next().expect("a name").as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// The modules a line of code names after `crate::`, those of a `use crate::{…}` list included.
fn modules_used(text: &str) -> Vec<String> {
    let mut used = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let before = text[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &text[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(list) => used.extend(top_level_names(list)),
            None => used.extend(name(rest)),
        }
    }
    used
}

/// The first name of each item of a use list, whose opening brace has been read.
fn top_level_names(list: &str) -> Vec<String> {
    let (mut depth, mut names, mut start) = (0, Vec::new(), 0);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                names.extend(name(&list[start..at]));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.extend(name(&list[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    names
}

fn name(text: &str) -> Option<String> {
    let name: String = text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

fn without_comments(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn modules_use_only_what_lies_below() {
    let table: BTreeMap<&str, &[&str]> = EDGES.iter().copied().collect();
    let mut wrong = Vec::new();
    for path in files("rs").into_iter().filter(|path| path.starts_with(root().join("src"))) {
        let module = module_of(&path);
        let allowed = table.get(module.as_str()).unwrap_or_else(|| panic!("{module} is not in EDGES"));
        for used in modules_used(&without_comments(&read(&path))) {
            if used != module && !allowed.contains(&used.as_str()) {
                wrong.push(format!("{}: {module} may not use {used}", relative(&path)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn composition_takes_only_settings() {
    for (module, used) in CONFIG_ONLY {
        let prefix = root().join("src").join(module);
        for path in files("rs").into_iter().filter(|path| path.starts_with(&prefix)) {
            for line in without_comments(&read(&path)).lines() {
                let named = line.contains(&format!("{used}::"));
                let setting = line.contains("Config") || line.contains("config") || line.contains("DEFAULT");
                assert!(!named || setting, "{}: {line}", relative(&path));
            }
        }
    }
}

#[test]
fn bytes_become_messages_without_the_machines_that_use_them() {
    let wire = root().join("crates/amop-protocol/src/wire");
    for path in files("rs").into_iter().filter(|path| path.starts_with(&wire)) {
        let used = modules_used(&without_comments(&read(&path)));
        let above = used.iter().find(|used| ["broker", "session"].contains(&used.as_str()));
        assert!(above.is_none(), "{} uses {above:?}", relative(&path));
    }
}

#[test]
fn load_knows_no_system_and_only_programs_use_it() {
    let manifest = read(&root().join("crates/amop-load/Cargo.toml"));
    let dependencies = manifest.split("dependencies]").skip(1).flat_map(str::lines);
    for name in dependencies.filter_map(|line| line.split(['.', ' ']).next()) {
        let known =
            ["amop", "rustls", "tokio-rustls", "libp2p"].into_iter().any(|system| name.starts_with(system));
        assert!(!known, "amop-load depends on {name}");
    }
    for path in files("rs").into_iter().filter(|path| path.starts_with(root().join("src"))) {
        let used = without_comments(&read(&path)).contains("amop_load");
        assert!(!used || module_of(&path) == "cli", "{} uses amop_load", relative(&path));
    }
}

#[test]
fn the_limit_is_never_part_of_what_ships() {
    let manifest = read(&root().join("Cargo.toml"));
    let shipped = manifest.split("\n[dependencies]").nth(1).and_then(|rest| rest.split("\n[").next());
    let shipped = shipped.expect("what the root package depends on");
    assert!(shipped.contains("amop-rig") && !shipped.contains("amop-limit"), "{shipped}");
}

#[test]
fn use_lists_are_understood() {
    let text = "use crate::{\n    a::{b, c},\n    d,\n};\nfn f() { crate::e::g(); mycrate::h(); }";
    assert_eq!(modules_used(text), ["a", "d", "e"]);
}

#[test]
fn files_are_short_and_say_what_they_are() {
    let (mut wrong, mut long) = (Vec::new(), Vec::new());
    for path in files("rs") {
        let (name, text) = (relative(&path), read(&path));
        let is_test = name.ends_with("tests.rs") || name.contains("/tests/") || name.contains("generated");
        let lines = text.lines().count();
        if lines > MAX_LINES && !name.contains("generated") {
            wrong.push(format!("{name}: {lines} lines; the most is {MAX_LINES}"));
        } else if lines > LONG_LINES && !is_test {
            long.push(format!("{name}: {lines} lines; look for the second idea in it"));
        }
        if !is_test && !text.starts_with("//!") {
            wrong.push(format!("{name}: begins without a //! header"));
        }
    }
    for line in long {
        println!("{line}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_test_is_ignored_and_nothing_is_left_for_later() {
    // Put together here, so that this file does not find itself.
    let forbidden = [["#[ign", "ore"].concat(), ["TO", "DO"].concat(), ["FIX", "ME"].concat()];
    let extensions = ["rs", "toml", "md", "proto"];
    for path in extensions.into_iter().flat_map(files) {
        let text = read(&path);
        for word in &forbidden {
            assert!(!text.contains(word.as_str()), "{}: {word}", relative(&path));
        }
    }
}

#[test]
fn the_protocol_document_names_every_message() {
    let document = read(&root().join("docs/protocol.md"));
    let mut missing = Vec::new();
    for path in files("proto") {
        for line in read(&path).lines() {
            let mut words = line.split_whitespace();
            let named = match words.next() {
                Some("message" | "enum") => words.next(),
                Some(value) if value.starts_with("CAUSE_") => Some(value),
                _ => None,
            };
            missing.extend(named.filter(|name| !document.contains(&format!("`{name}`"))).map(str::to_owned));
        }
    }
    assert!(missing.is_empty(), "docs/protocol.md does not name {}", missing.join(", "));
}

#[test]
fn the_protocol_document_has_every_cause_under_its_code() {
    let document = read(&root().join("docs/protocol.md"));
    for cause in (0..=64).filter_map(|number| Cause::try_from(number).ok()) {
        let (name, row) = (format!("`{}`", cause.as_str_name()), format!("| {} |", cause.status().code()));
        assert!(document.contains(&name), "docs/protocol.md does not name {name}");
        let mut in_table = document.lines().filter(|line| line.starts_with("| ") && line.contains(&name));
        let found = in_table.next();
        let right = match cause {
            Cause::Unspecified => found.is_none(),
            _ => found.is_some_and(|line| line.starts_with(&row)) && in_table.next().is_none(),
        };
        assert!(right, "docs/protocol.md has {name} in another row than {row}");
    }
}

/// Writes the table anew with `UPDATE_GENERATED=1`.
#[test]
fn the_table_of_causes_is_that_of_the_code() {
    let path = root().join("docs/protocol.md");
    let document = read(&path);
    let (before, rest) = document.split_once("<!-- causes:").expect("a mark before the table");
    let (mark, rest) = rest.split_once("-->\n").expect("the mark's end");
    let (found, after) = rest.split_once("<!-- end of causes -->").expect("a mark behind the table");
    let table = table_of_causes();
    if std::env::var_os("UPDATE_GENERATED").is_some() && found != table {
        let fresh = format!("{before}<!-- causes:{mark}-->\n{table}<!-- end of causes -->{after}");
        fs::write(&path, fresh).expect("a writable source tree");
        return;
    }
    assert!(found == table, "run UPDATE_GENERATED=1 cargo test --test it causes");
}

fn table_of_causes() -> String {
    // What an application matches on is this very enum.
    let mut causes: Vec<amop_client::Cause> =
        (1..=64).filter_map(|number| Cause::try_from(number).ok()).collect();
    causes.sort_by_key(|cause| (cause.status().code(), *cause as i32));
    let rows = causes.into_iter().map(|cause| {
        let (code, name) = (cause.status().code(), cause.as_str_name());
        format!("| {code} | `{name}` | {} | `{}` |\n", cause.explain(), cause.retry().as_str_name())
    });
    format!("| code | cause | what happened | again |\n|---|---|---|---|\n{}", rows.collect::<String>())
}

#[test]
fn the_map_of_the_country_fits_on_a_table() {
    let map = read(&root().join("ARCHITECTURE.md"));
    assert!(map.lines().count() <= MAX_ARCHITECTURE_LINES);
    for (module, _) in EDGES.iter().filter(|(module, _)| !["main", "lib"].contains(module)) {
        assert!(map.contains(&format!("`src/{module}")), "ARCHITECTURE.md does not mention src/{module}");
    }
}

#[test]
fn no_private_key_is_in_the_repository() {
    let marker = ["PRIVATE", " KEY-----"].concat();
    let text_files = ["rs", "toml", "md", "json", "pem", "crt", "txt", "sh"];
    for path in text_files.into_iter().flat_map(files) {
        let held = String::from_utf8_lossy(&fs::read(&path).expect("readable")).matches(&marker).count();
        let key = held > 0 && String::from_utf8_lossy(&fs::read(&path).expect("readable")).contains("\nMI");
        let exception = relative(&path).ends_with("channel-v2.json"); // published test vectors
        assert!(!key || exception, "{} holds a private key", relative(&path));
    }
    assert!(files("key").is_empty() && files("p12").is_empty(), "key files: {:?}", files("key"));
}

#[test]
fn every_command_of_the_readme_is_run_by_the_gates() {
    assert!(read(&root().join(".ci/run")).contains("tests/readme.sh"), "no gate runs README.md");
    let text = read(&root().join("README.md"));
    let lines: Vec<&str> = text.lines().collect();
    let blocks: Vec<_> = (0..lines.len()).filter(|at| lines[*at].trim() == "```sh").collect();
    assert!(blocks.len() > 3, "README.md has commands");
    for at in blocks {
        let how = at.checked_sub(1).map_or("", |before| lines[before]);
        assert!(
            how.starts_with("<!-- run"),
            "README.md line {}: say how it is run, as tests/readme.sh has it",
            at + 1
        );
    }
}
