use std::fs;

use amop_testkit::ca::Consortium;

use super::*;
use crate::identity::{Agency, FiscoKind};

fn resolved(text: &str) -> resolve::Resolved {
    resolve::resolve(text, Path::new("/etc/amop")).unwrap()
}

fn problems(text: &str) -> Vec<String> {
    resolved(text).problems.iter().map(ToString::to_string).collect()
}

#[test]
fn the_example_file_has_every_key_with_its_default() {
    let example = resolved(EXAMPLE);
    assert_eq!(example.problems, []);
    assert_eq!(example.config, Config::defaults(Path::new("/etc/amop")));
    let mut table = "";
    let mut documented = Vec::new();
    let mut previous = "";
    for line in EXAMPLE.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            table = name;
        } else if let Some((key, _)) = line.trim_start_matches("# ").split_once(" = ")
            && !key.contains(' ')
        {
            assert!(
                previous.starts_with('#') || previous.starts_with("min_push") || previous.starts_with("seen")
            );
            documented.push(format!("{table}.{key}"));
        }
        previous = line;
    }
    let keys: Vec<_> = example.config.values.into_keys().collect();
    documented.sort();
    assert_eq!(documented, keys, "documented, and known to the code");
}

#[test]
fn wrong_keys_are_named_with_the_nearest_right_one() {
    let check = |text: &str, says: &str| assert_eq!(problems(text), [says], "{text}");
    check(
        "[client_port]\nlisten_adress = 1",
        "unknown key client_port.listen_adress; did you mean client_port.listen?",
    );
    check("[overlay]\npears = []", "unknown key overlay.pears; did you mean overlay.peers?");
    check("[overly]\n", "unknown table [overly]; did you mean [overlay]?");
    check("grace = \"5s\"", "unknown key grace; did you mean shutdown.grace?");
    check("[shutdown]\ncolour = 1", "unknown key shutdown.colour; [shutdown] has grace");
    check("node = 1", "[node] must be a table; write its keys on lines below [node]");
}

#[test]
fn wrong_values_say_what_to_write_instead() {
    let check = |text: &str, says: &str| {
        let found = problems(text);
        assert!(matches!(&found[..], [one] if one.contains(says)), "{text:?}: {found:?} should say {says:?}");
    };
    check("[shutdown]\ngrace = 5", "shutdown.grace: expected a duration with its unit");
    check("[shutdown]\ngrace = \"5 parsecs\"", "such as \"5s\", found \"5 parsecs\"");
    check("[shutdown]\ngrace = \"1h\"", "must be between 0ns and 600s, it is 3600s");
    check("[client_port]\nqueue = 16", "such as \"16 MiB\", found 16");
    check("[client_port]\nqueue = \"16 MB\"", "client_port.queue: expected a size");
    check("[client_port]\nqueue = \"1 B\"", "must be between 64 KiB and 4096 MiB, it is 1 B");
    check("[client_port]\nlisten = \"localhost\"", "IP address and port");
    check("[client_port]\nmax_clients = -1", "client_port.max_clients: expected a whole number, found -1");
    check("[client_port]\nsame_institution_only = \"yes\"", "expected true or false");
    check("[client_port]\nlisten = \"off\"", "no client could connect");
    check("[fisco_ec]\nlisten = \"on\"", "fisco_ec.listen: expected an IP address and port");
    check("[fisco_ec]\nlisten = \"0.0.0.0:20200\"", "port 20200 is that of client_port.listen, too");
    for agencies in ["\"x\"", "{ institution = \"x\" }", "{ institution = \"x\", ca = \"\" }"] {
        check(
            &format!("[fisco_rsa]\nagencies = [{agencies}]"),
            "expected { institution = \"NAME\", ca = \"FILE\" }",
        );
    }
    check("[client_port]\ngroups = [2]", "must be [] or [1]");
    check("[overlay]\npeers = [\"1.2.3.4\"]", "overlay.peers: expected an IP address and port");
    check("[overlay]\npeers = [\"0.0.0.0:30300\"]", "no address that can be dialled");
    check("[overlay]\npeers = \"1.2.3.4:5\"", "a list in square brackets");
    check("[overlay]\nallow = [\"abc\"]", "64 or 128 hex digits");
    check(
        "[overlay]\nallow = [\"+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1\"]",
        "hex digits",
    );
    check("[limits]\noutgoing_bandwidth_limit = 0", "Mbit/s as a number above 0");
    check(
        "[trace]\notlp = \"collector:4318\"",
        "trace.otlp: expected the address at which a collector takes traces",
    );
    check("[trace]\notlp = \"http://10.0.0.7:4318/v1/traces\"", "10.0.0.7 is not on the loopback interface");
    check("[trace]\notlp = \"https://10.0.0.7:4318/v1/traces\"", "needs otlp_ca");
    check("[trace]\notlp = \"http://[::1]:4318/v1/traces\"\notlp_ca = \"x\"", "otlp_ca is for https");
    check("[trace]\nentries = 0\notlp = \"http://[::1]:4318/v1/traces\"", "trace.entries is 0");
    check("[log]\nformat = \"xml\"", "\"auto\", \"text\" or \"json\"");
    check("[log]\nlevel = \"loud\"", "log.level");
    check("[delivery]\ndefault_deadline = \"10min\"", "must not be longer than delivery.max_deadline");
    check("[admin]\nlisten = \"127.0.0.1:20200\"", "port 20200 is that of client_port.listen, too");
    // The x of the curve's generator.
    let id = "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296";
    check(&format!("[overlay]\nallow = [\"{id}\"]\ndeny = [\"{id}{id}\"]"), "node 6b17d1f2 is in allow, too");
}

#[test]
fn all_problems_are_reported_not_only_the_first() {
    let found = problems("[node]\nnam = \"x\"\n[overlay]\nlisten = 3\n[shutdown]\ngrace = 1");
    assert_eq!(found.len(), 3, "{found:?}");
}

#[test]
fn what_is_written_is_what_is_meant() {
    let config = resolved(
        "[node]\nname = \"n\"\nca = \"/x/ca.crt\"\ncert = \"certs/n.crt\"\n\
         [client_port]\nsame_institution_only = true\ngroups = []\nqueue = \"1.5 MiB\"\n\
         [overlay]\npeers = [\"10.0.0.1:30300\", \"[::1]:30301\"]\n\
         [delivery]\npath_timeout = \"250ms\"\n[limits]\noutgoing_bandwidth_limit = 2.5\n[log]\nformat = \"json\"",
    );
    assert_eq!(config.problems, []);
    let config = config.config;
    assert_eq!(config.node.paths.ca, Path::new("/x/ca.crt"));
    assert_eq!(config.node.paths.cert, Path::new("/etc/amop/certs/n.crt"), "beside the file");
    let [own] = &config.client_port.listeners[..] else { panic!("one listener") };
    assert_eq!(own.certificates, Certificates::Consortium(Clients::OfOwnInstitution));
    assert_eq!(config.client_port.queue_bytes, 3 << 19);
    assert_eq!(config.overlay.peers.len(), 2);
    assert_eq!(config.delivery.path_timeout, Duration::from_millis(250));
    assert_eq!(config.limits.outgoing_bandwidth_limit, Some(2.5));
    assert_eq!(config.log.format, LogFormat::Json);
}

#[test]
fn who_may_ask_the_admin_port_is_resolved() {
    let admin = |text: &str| {
        let found = resolved(text);
        assert_eq!(found.problems, [], "{text}");
        found.config.admin
    };
    let default = admin("");
    assert_eq!(default.token.as_deref(), Some(Path::new("/etc/amop/admin.token")));
    assert!(default.listen.ip().is_loopback() && !default.token_for_reads && default.clients.is_empty());
    let open = admin(
        "[admin]\nlisten = \"0.0.0.0:1\"\ntoken = \"/run/t\"\nclients = [\"prometheus\"]\nhosts = [\"Node-1.Bank\"]",
    );
    assert_eq!(open.token.as_deref(), Some(Path::new("/run/t")));
    assert_eq!(
        (&open.clients[..], &open.hosts[..]),
        (&["prometheus".to_owned()][..], &["node-1.bank".to_owned()][..])
    );
    assert_eq!(admin("[admin]\ntoken = \"off\"").token, None);
    admin("[admin]\nlisten = \"0.0.0.0:1\"\ntoken = \"off\"\nclients = [\"p\"]");
    for bad in ["10.0.0.1", "a b", "", "x:1", "a..b"] {
        assert_eq!(problems(&format!("[admin]\nhosts = [\"{bad}\"]")).len(), 1, "{bad}");
    }
    for bad in
        ["listen = \"10.0.0.1:1\"\ntoken = \"off\"", "token = \"off\"\ntoken_for_reads = true", "token = 1"]
    {
        assert_eq!(problems(&format!("[admin]\n{bad}")).len(), 1, "{bad}");
    }
}

#[test]
fn listeners_for_fisco_bcos_are_switched_on_one_by_one() {
    let config = resolved(
        "[client_port]\nlisten = \"off\"\n[fisco_rsa]\nlisten = \"0.0.0.0:20200\"\ncert = \"/x/n.crt\"\n\
         agencies = [{ institution = \"bank-b\", ca = \"b/ca.crt\" }]\n\
         [fisco_ec]\nlisten = \"0.0.0.0:20201\"",
    );
    assert_eq!(config.problems, []);
    let [rsa, ec] = &config.config.client_port.listeners[..] else { panic!("two listeners") };
    let beside = |file: &str| Path::new("/etc/amop").join(file);
    let agency = Agency { institution: "bank-b".into(), ca: beside("b/ca.crt") };
    let expected = FiscoPaths {
        kind: FiscoKind::Rsa,
        ca: beside("fisco-rsa/ca.crt"),
        cert: "/x/n.crt".into(),
        key: beside("fisco-rsa/node.key"),
        crl: Vec::new(),
        agencies: vec![agency],
    };
    assert_eq!((rsa.listen.port(), &rsa.certificates), (20200, &Certificates::Fisco(expected)));
    assert_eq!(ec.listen.port(), 20201);
    assert!(matches!(&ec.certificates, Certificates::Fisco(paths) if paths.kind == FiscoKind::Ec));
}

#[test]
fn the_configuration_in_the_migration_guide_is_in_order() {
    let guide = include_str!("../../docs/migration.md");
    let sample = guide.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let config = resolved(sample);
    assert_eq!(config.problems, []);
    let [Listener { certificates: Certificates::Fisco(paths), .. }] =
        &config.config.client_port.listeners[..]
    else {
        panic!("one listener, with FISCO BCOS certificates")
    };
    assert_eq!(paths.agencies.len(), 1);
}

#[test]
fn a_check_covers_file_and_certificates() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("amop.toml");
    assert!(check(&file).unwrap_err().to_string().contains("cannot read it"));
    fs::write(&file, "[node\n").unwrap();
    assert!(check(&file).unwrap_err().to_string().contains("line 1: not TOML"));

    fs::write(&file, "[node]\nnmae = \"x\"").unwrap();
    let text = check(&file).unwrap_err().to_string();
    for problem in ["did you mean node.name?", "ca.crt", "node.crt", "node.key"] {
        assert!(text.contains(problem), "{text}");
    }

    fs::write(&file, "[trace]\notlp = \"https://c.example/v1/traces\"\notlp_ca = \"c.crt\"").unwrap();
    let bank = Consortium::new().institution("bank-a");
    bank.node("node-1").write_node_dir(directory.path());
    let text = check(&file).unwrap_err().to_string();
    assert!(text.contains("c.crt") && text.lines().count() == 2, "{text}");
    fs::copy(directory.path().join("ca.crt"), directory.path().join("c.crt")).unwrap();
    let collector = check(&file).unwrap().0.trace.otlp.unwrap();
    assert_eq!(
        (collector.endpoint.to_string(), collector.ca),
        ("https://c.example:443/v1/traces".into(), Some(directory.path().join("c.crt")))
    );

    fs::write(&file, "").unwrap();
    let (config, credentials) = check(&file).unwrap();
    assert_eq!(config, Config { file: Some(file.clone()), ..Config::defaults(directory.path()) });
    assert_eq!(&*credentials.subject().name, "node-1");

    bank.client("app").write_node_dir(directory.path());
    assert!(
        check(&file)
            .unwrap_err()
            .to_string()
            .contains("its role is client, but a node certificate is needed")
    );
}
