use clap::Parser;

use super::*;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn amop_certs(line: &str, directory: &Path) -> anyhow::Result<String> {
    let line = line.replace('@', &format!("{}/", directory.display()));
    let cli = Cli::try_parse_from(std::iter::once("certs").chain(line.split_whitespace()))?;
    let mut out = Vec::new();
    execute(cli.args, &mut out)?;
    Ok(String::from_utf8(out)?)
}

#[test]
fn from_nothing_to_a_verified_client() {
    let directory = tempfile::tempdir().unwrap();
    let run = |line: &str| amop_certs(line, directory.path());
    assert!(run("ca --name trade --out @root").unwrap().contains("ca.key  (secret"));
    run("institution --name bank-a --ca @root --out @bank").unwrap();
    run("node --name node-1 --institution @bank --out @node").unwrap();
    let made = run("client --name app --institution @bank --out @app --json").unwrap();
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    assert_eq!(
        (&made["kind"], &made["files"][0]),
        (&"client".into(), &format!("{}/app/sdk.crt", directory.path().display()).into())
    );

    let text = run("inspect @node/node.crt --ca @root/ca.crt").unwrap();
    for part in ["role         node", "institution  bank-a", "key          P-256", "verified     yes"] {
        assert!(text.contains(part), "{text}");
    }
    let json = run("inspect @app/sdk.crt @root/ca.crt --json").unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&json[0]["role"], &json[1]["is_ca"], &json[2]["is_ca"]),
        (&"client".into(), &true.into(), &true.into())
    );
}

#[test]
fn what_cannot_be_done_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let check = |line: &str, says: &str| {
        let error = format!("{:#}", amop_certs(line, directory.path()).unwrap_err());
        assert!(error.contains(says), "{line}: {error:?} should say {says:?}");
    };
    check("institution --name b --ca @root --out @bank", "make one with `amop certs ca`");
    amop_certs("ca --name trade --out @root", directory.path()).unwrap();
    check("ca --name trade --out @root", "exists already; nothing was written");
    check("ca --name trade --out @other --days 0", "1 to 36500 days");
    check("ca --name trade --out @other --layout fisco-rsa", "no CA above the institutions'");
    check("institution --name b --out @other", "with --ca");
    check("institution --name b --ca @root --out @other --layout fisco-rsa", "leave --ca out");
    check(
        "institution --name b --ca @root --out @other --layout fisco-ec",
        "`amop certs ca --layout fisco-ec`",
    );
    check("node --name n --institution @root --out @node", "make one with `amop certs institution`");
    check("inspect @nowhere.crt", "cannot read");
    amop_certs("ca --name trade --out @root --force", directory.path()).unwrap();
    amop_certs("institution --name b --ca @root --out @bank", directory.path()).unwrap();
    amop_certs("client --name c --institution @bank --out @c", directory.path()).unwrap();
    amop_certs("ca --name trade --out @foreign", directory.path()).unwrap();
    check("inspect @c/sdk.crt --ca @foreign/ca.crt", "one certificate cannot be used");
}

fn files(directory: &Path) -> Vec<String> {
    let names = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn certificates_of_fisco_bcos_are_made_and_inspected() {
    let directory = tempfile::tempdir().unwrap();
    let run = |line: &str| amop_certs(line, directory.path()).unwrap();
    let made = |line: &str, kind: &str| {
        let out = line.split_whitespace().skip_while(|word| *word != "--out").nth(1).unwrap();
        run(&format!("{line} --layout {kind}"));
        files(&directory.path().join(out.trim_start_matches('@'))).join(" ")
    };
    assert_eq!(made("institution --name bank-a --out @rsa", "fisco-rsa"), "ca.crt ca.key");
    assert_eq!(made("ca --name chain --out @chain", "fisco-ec"), "ca.crt ca.key");
    let institution = "institution --name bank-a --ca @chain --out @ec";
    assert_eq!(made(institution, "fisco-ec"), "agency.crt agency.key ca.crt");
    for (kind, key) in [("rsa", "RSA"), ("ec", "secp256k1")] {
        let layout = format!("fisco-{kind}");
        let node = made(&format!("node --name n --institution @{kind} --out @{kind}-node"), &layout);
        assert_eq!(node, "ca.crt node.crt node.key");
        let line = format!("client --name app --institution @{kind} --out @{kind}-app");
        assert_eq!(made(&line, &layout), "ca.crt sdk.crt sdk.key");
        let text = run(&format!("inspect @{kind}-app/sdk.crt --ca @{kind}-app/ca.crt"));
        for part in ["CN=app, O=fisco-bcos", &format!("profile      {layout}"), "verified     yes"] {
            assert!(text.contains(part), "{text:?} lacks {part}");
        }
        assert!(text.contains(&format!("key          {key}")), "{text}");
        // The CA of the other kind is none for these.
        let other = if kind == "rsa" { "ec" } else { "rsa" };
        let line = format!("inspect @{kind}-app/sdk.crt --ca @{other}-app/ca.crt");
        assert!(amop_certs(&line, directory.path()).is_err());
    }
    let wrong = "client --name c --institution @rsa --out @c --layout fisco-ec";
    let error = format!("{:#}", amop_certs(wrong, directory.path()).unwrap_err());
    assert!(error.contains("`amop certs institution --layout fisco-ec`"), "{error}");
}

#[test]
fn certificates_are_renewed_revoked_and_listed() {
    let directory = tempfile::tempdir().unwrap();
    let run = |line: &str| amop_certs(line, directory.path());
    let json = |line: &str| -> serde_json::Value { serde_json::from_str(&run(line).unwrap()).unwrap() };
    run("ca --name trade --out @root").unwrap();
    run("institution --name bank-a --ca @root --out @bank").unwrap();
    run("node --name node-1 --institution @bank --out @node --days 5").unwrap();
    run("client --name app --institution @bank --out @app").unwrap();
    let before = json("inspect @node/node.crt --json");
    let key = std::fs::read(directory.path().join("node/node.key")).unwrap();
    run("renew @node/node.crt --institution @bank").unwrap();
    let after = json("inspect @node/node.crt --ca @root/ca.crt --json");
    assert_eq!(before[0]["node_id"], after[0]["node_id"]);
    assert_ne!(before[0]["serial"], after[0]["serial"]);
    let days = [&before, &after].map(|inspected| inspected[0]["days_left"].as_i64().unwrap());
    assert!((4..=5).contains(&days[0]) && (364..=365).contains(&days[1]), "{days:?}");
    assert_eq!(after[0]["verified"], true);
    assert_eq!(std::fs::read(directory.path().join("node/node.key")).unwrap(), key);

    let error = run("crl --institution @bank").unwrap_err().to_string();
    assert!(error.contains("make it with --refresh"), "{error}");
    assert!(run("crl --institution @bank --refresh").unwrap().contains("nothing is revoked"));
    run("revoke @app/sdk.crt --institution @bank").unwrap();
    run("revoke --serial 0a:ff --institution @bank").unwrap();
    run("revoke @app/sdk.crt --institution @bank").unwrap();
    let listed = json("crl --institution @bank --refresh --json");
    assert_eq!(listed["revoked"].as_array().unwrap().len(), 2);
    assert_eq!(listed["revoked"][0]["serial"], "0a:ff");
    let inspect = "inspect @app/sdk.crt --ca @root/ca.crt --crl @bank/institution.crl";
    assert!(run(inspect).is_err());
    assert!(run("inspect @node/node.crt --ca @root/ca.crt --crl @bank/institution.crl").is_ok());

    run("ca --name trade --out @new").unwrap();
    run("renew @bank/institution.crt --ca @new").unwrap();
    run("renew @node/node.crt --institution @bank").unwrap();
    run("inspect @node/node.crt --ca @new/ca.crt --crl @bank/institution.crl").unwrap();
    run("revoke @bank/institution.crt --ca @new").unwrap();
    assert!(run("inspect @node/node.crt --ca @new/ca.crt --crl @new/ca.crl").is_err());
}

#[test]
fn who_revokes_a_certificate_revokes_all_of_its_key() {
    let directory = tempfile::tempdir().unwrap();
    let run = |line: &str| amop_certs(line, directory.path()).unwrap();
    let json = |line: &str| -> serde_json::Value { serde_json::from_str(&run(line)).unwrap() };
    let serial =
        |file: &str| json(&format!("inspect {file} --json"))[0]["serial"].as_str().unwrap().to_owned();
    let copy = |from: &str, to: &str| {
        std::fs::copy(directory.path().join(from), directory.path().join(to)).unwrap();
    };
    let is_good = |file: &str, ca: &str, crl: &str| {
        amop_certs(&format!("inspect {file} --ca {ca} --crl {crl}"), directory.path()).is_ok()
    };
    run("ca --name trade --out @root");
    run("institution --name bank-a --ca @root --out @bank");
    for name in ["one", "two", "three"] {
        run(&format!("client --name {name} --institution @bank --out @{name}"));
        for at in 0..2 {
            copy(&format!("{name}/sdk.crt"), &format!("{name}-{at}.crt"));
            run(&format!("renew @{name}/sdk.crt --institution @bank"));
        }
        copy(&format!("{name}/sdk.crt"), &format!("{name}-2.crt"));
    }
    // Somebody renewed the first one again, and its second and third were never used.
    run("renew @one-0.crt --institution @bank");
    let known = json("inspect @one/sdk.crt --renewed @bank/institution.renewed --json");
    let known: Vec<_> =
        known[0]["same_key"].as_array().unwrap().iter().map(|other| &other["serial"]).collect();
    assert_eq!(known.len(), 3, "{known:?}");
    assert!(known.contains(&&serial("@one-1.crt").into()) && known.contains(&&serial("@one-0.crt").into()));
    let text = run("inspect @one/sdk.crt --renewed @bank/institution.renewed");
    assert!(text.contains(&format!("same key     {} until 2", serial("@one-1.crt"))), "{text}");

    let said = run("revoke @one-0.crt --institution @bank");
    run(&format!("revoke --serial {} --institution @bank", serial("@two-1.crt")));
    run("revoke @three-1.crt --only --institution @bank");
    for (name, good) in [("one", [false; 3]), ("two", [false; 3]), ("three", [true, false, true])] {
        let found = [0, 1, 2]
            .map(|at| is_good(&format!("@{name}-{at}.crt"), "@root/ca.crt", "@bank/institution.crl"));
        assert_eq!(found, good, "{name}");
    }
    assert!(said.contains(&serial("@one-1.crt")) && !said.contains(&serial("@two-1.crt")), "{said}");
    assert_eq!(json("crl --institution @bank --json")["revoked"].as_array().unwrap().len(), 4 + 3 + 1);
}

#[test]
fn an_institution_that_was_renewed_is_revoked_whole_by_each_root() {
    let directory = tempfile::tempdir().unwrap();
    let run = |line: &str| amop_certs(line, directory.path());
    let listed = |ca: &str| {
        let listed = run(&format!("crl --ca {ca} --json")).unwrap();
        serde_json::from_str::<serde_json::Value>(&listed).unwrap()["revoked"].as_array().unwrap().len()
    };
    run("ca --name trade --out @old").unwrap();
    run("ca --name trade --out @new").unwrap();
    run("institution --name bank-a --ca @old --out @bank").unwrap();
    run("renew @bank/institution.crt --ca @old").unwrap();
    std::fs::copy(directory.path().join("bank/institution.crt"), directory.path().join("of-old.crt"))
        .unwrap();
    run("renew @bank/institution.crt --ca @new").unwrap();
    let error = run("revoke @bank/institution.crt --ca @old").unwrap_err().to_string();
    assert!(error.contains("another CA with the name CN=trade"), "{error}");
    run("revoke @of-old.crt --ca @old").unwrap();
    run("revoke @bank/institution.crt --ca @new").unwrap();
    assert_eq!((listed("@old"), listed("@new")), (2, 1));
}

#[test]
fn hosts_are_named_kept_and_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let run = |line: &str| amop_certs(line, directory.path());
    let hosts = || {
        let inspected = run("inspect @node/node.crt --ca @root/ca.crt --json").unwrap();
        serde_json::from_str::<serde_json::Value>(&inspected).unwrap()[0]["hosts"].clone()
    };
    run("ca --name trade --out @root").unwrap();
    run("institution --name bank-a --ca @root --out @bank").unwrap();
    run("node --name n --institution @bank --out @node --host n.bank-a.example --host 2001:db8::7").unwrap();
    let text = run("inspect @node/node.crt").unwrap();
    assert!(text.contains("hosts        n.bank-a.example, 2001:db8::7"), "{text}");
    run("renew @node/node.crt --institution @bank").unwrap();
    assert_eq!(hosts(), serde_json::json!(["n.bank-a.example", "2001:db8::7"]));
    run("renew @node/node.crt --institution @bank --host 192.0.2.7").unwrap();
    assert_eq!(hosts(), serde_json::json!(["192.0.2.7"]));
    let error = run("node --name n --institution @bank --out @x --host https://n").unwrap_err().to_string();
    assert!(error.contains("without scheme and port"), "{error}");
    run("institution --layout fisco-rsa --name c --out @c").unwrap();
    let line = "node --layout fisco-rsa --name n --institution @c --out @x --host localhost";
    assert!(run(line).unwrap_err().to_string().contains("leave --host out"));
}

/// What has expired needs no revoking, and would only make lists longer.
#[test]
fn what_has_expired_is_not_revoked_for_its_key() {
    let directory = tempfile::tempdir().unwrap();
    let run = |line: &str| amop_certs(line, directory.path()).unwrap();
    run("ca --name trade --out @root");
    run("institution --name bank-a --ca @root --out @bank");
    run("client --name app --institution @bank --out @app");
    run("renew @app/sdk.crt --institution @bank");
    let path = directory.path().join("bank/institution.renewed");
    let text = std::fs::read_to_string(&path).unwrap();
    let key = text.lines().last().unwrap().split(' ').nth(2).unwrap();
    std::fs::write(&path, format!("{text}0b:ad 2020-01-01T00:00:00Z {key} CN=app\n")).unwrap();
    let said = run("revoke @app/sdk.crt --institution @bank");
    assert!(said.matches(", ").count() == 2 && !said.contains("0b:ad"), "{said}");
    std::fs::write(&path, format!("{text}half a li\n")).unwrap();
    let line = format!("revoke {}/app/sdk.crt --institution @bank", directory.path().display());
    let error = amop_certs(&line, directory.path()).unwrap_err().to_string();
    assert!(error.contains("line 4 of") && error.contains("makes no sense"), "{error}");
}

#[test]
fn what_a_ca_cannot_renew_or_revoke_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let run = |line: &str| amop_certs(line, directory.path());
    run("ca --name trade --out @root").unwrap();
    run("institution --name bank-a --ca @root --out @a").unwrap();
    run("institution --name bank-b --ca @root --out @b").unwrap();
    run("client --name app --institution @a --out @app").unwrap();
    run("institution --layout fisco-ec --name c --ca @none --out @c").unwrap_err();
    run("institution --layout fisco-rsa --name c --out @c").unwrap();
    run("client --layout fisco-rsa --name app --institution @c --out @old").unwrap();
    run("revoke --layout fisco-rsa @old/sdk.crt --institution @c").unwrap();
    assert!(run("crl --layout fisco-rsa --institution @c").unwrap().contains("since"));
    let check = |line: &str, says: &str| {
        let error = format!("{:#}", run(line).unwrap_err());
        assert!(error.contains(says), "{line}: {error:?} should say {says:?}");
    };
    check("renew @app/sdk.crt --institution @b", "the CA that issued it must make it anew");
    check("renew @old/sdk.crt --institution @a", "was not issued by the CA bank-a");
    check("renew @app/sdk.crt --ca @root", "--ca renews institution.crt");
    check("renew @app/sdk.crt --institution @a --days 0", "1 to 36500 days");
    check("revoke @app/sdk.crt --institution @b", "which cannot revoke it");
    check("inspect @app/sdk.crt --renewed @a/institution.renewed", "`amop certs renew` makes it");
    check("revoke --serial xyz --institution @a", "is no serial number in hex");
    check("revoke --serial 1 --layout fisco-rsa --ca @root", "name an agency with --institution");
    std::fs::write(directory.path().join("a/institution.crl"), "half").unwrap();
    check("revoke @app/sdk.crt --institution @a", "there is no BEGIN X509 CRL in it");
}
