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
