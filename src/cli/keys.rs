//! `amop keys`: key pairs for private topics.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use amop_auth::{KeyError, PrivateKey, PublicKey};
use anyhow::{Context, bail};
use clap::{Subcommand, ValueEnum};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::identity::{
    mint::{
        Existing,
        keys::{self, Encoding},
    },
    pem::MAX_FILE_BYTES,
};

/// Make and inspect keys for private topics
#[derive(Debug, clap::Args)]
#[command(after_help = EXPLANATION)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
    /// Print JSON for scripts
    #[arg(long, global = true)]
    json: bool,
}

const EXPLANATION: &str = "\
A subscriber of a private topic proves that it holds a private key; the publisher names the public keys
whose holders may receive. Both are on the curve secp256k1, and SDKs of FISCO BCOS read the same files.
Use a key for private topics only: what is signed with it proves nothing about anything else.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a key pair: NAME.key, which stays here, and NAME.pub, for publishers
    Generate {
        /// What the files are called
        #[arg(long)]
        name: String,
        /// The directory to write to
        #[arg(long, value_name = "DIR", default_value = ".")]
        out: PathBuf,
        /// How the keys are written
        #[arg(long, value_enum, default_value_t = Format::Pem)]
        format: Format,
        /// File with the password of a PKCS#12 file; its first line counts
        #[arg(long, value_name = "FILE", required_if_eq("format", "pkcs12"))]
        password_file: Option<PathBuf>,
        /// Replace what exists. A replaced key is lost for ever
        #[arg(long)]
        force: bool,
    },
    /// Show the public key in files of keys, private ones included
    Show {
        /// PEM, hexadecimal digits or PKCS#12
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// File with the password of PKCS#12 files; its first line counts
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// PKCS#8 and SubjectPublicKeyInfo: for every SDK
    Pem,
    /// 64 and 128 hexadecimal digits
    Hex,
    /// NAME.p12 in place of NAME.key, under a password: for the Java SDK
    Pkcs12,
}

/// Runs the command.
///
/// # Errors
/// When a key cannot be made, read or written, or standard output is gone.
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    execute(args, &mut std::io::stdout().lock())?;
    Ok(ExitCode::SUCCESS)
}

fn execute(args: Args, out: &mut impl Write) -> anyhow::Result<()> {
    match args.command {
        Command::Generate { name, out: directory, format, password_file, force } => {
            let encoding = match format {
                Format::Pem => Encoding::Pem,
                Format::Hex => Encoding::Hex,
                Format::Pkcs12 => Encoding::Pkcs12(password(password_file.as_deref())?),
            };
            let existing = if force { Existing::Replace } else { Existing::Keep };
            let key = PrivateKey::generate()?;
            let files = keys::save(&key, &name, &encoding, &directory, existing)?;
            generated(&Pair { files, public_key: key.public().to_hex() }, args.json, out)
        }
        Command::Show { files, password_file } => {
            let password = password(password_file.as_deref())?;
            files.iter().try_for_each(|file| show(file, &password, args.json, out))
        }
    }
}

fn generated(pair: &Pair, json: bool, out: &mut impl Write) -> anyhow::Result<()> {
    if json {
        writeln!(out, "{}", serde_json::to_string(pair)?)?;
        return Ok(());
    }
    for (file, what) in pair.files.iter().zip(["secret: for the subscriber", "for publishers"]) {
        writeln!(out, "  {}  ({what})", file.display())?;
    }
    writeln!(out, "public key: {}", pair.public_key)?;
    Ok(())
}

fn show(file: &Path, password: &str, json: bool, out: &mut impl Write) -> anyhow::Result<()> {
    let (kind, key) = read(file, password).with_context(|| file.display().to_string())?;
    if json {
        let shown = Shown { file, kind, public_key: key.to_hex(), pem: key.to_pem() };
        writeln!(out, "{}", serde_json::to_string(&shown)?)?;
    } else {
        writeln!(out, "{}: {kind} key\n  public key: {key}\n{}", file.display(), key.to_pem())?;
    }
    Ok(())
}

/// The private key in a file.
///
/// # Errors
/// When the file cannot be read, or holds no private key.
pub(super) fn read_private(file: &Path, password_file: Option<&Path>) -> anyhow::Result<PrivateKey> {
    let password = password(password_file)?;
    let key = || Ok(PrivateKey::parse(&bytes_of(file)?, &password)?);
    key().map_err(|error: anyhow::Error| error.context(file.display().to_string()))
}

/// The public key in a file.
///
/// # Errors
/// When the file cannot be read, or holds no public key.
pub(super) fn read_public(file: &Path) -> anyhow::Result<PublicKey> {
    let key = || Ok(PublicKey::parse(&bytes_of(file)?)?);
    key().map_err(|error: anyhow::Error| error.context(file.display().to_string()))
}

fn bytes_of(file: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    if fs::metadata(file)?.len() > MAX_FILE_BYTES {
        bail!("it is larger than {MAX_FILE_BYTES} bytes; is it the right file?");
    }
    Ok(Zeroizing::new(fs::read(file)?))
}

/// The public key in a file, and which half was in it.
fn read(file: &Path, password: &str) -> anyhow::Result<(&'static str, PublicKey)> {
    let bytes = bytes_of(file)?;
    match PublicKey::parse(&bytes) {
        Ok(key) => Ok(("public", key)),
        Err(KeyError::Other { .. } | KeyError::Unknown(_) | KeyError::NotOnCurve(_)) => {
            Ok(("private", PrivateKey::parse(&bytes, password)?.public()))
        }
        Err(error) => Err(error.into()),
    }
}

/// The first line of a file; nothing without one.
fn password(file: Option<&Path>) -> anyhow::Result<Zeroizing<String>> {
    let Some(file) = file else { return Ok(Zeroizing::default()) };
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let text = Zeroizing::new(text);
    Ok(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned()))
}

#[derive(Serialize)]
struct Pair {
    files: Vec<PathBuf>,
    public_key: String,
}

#[derive(Serialize)]
struct Shown<'a> {
    file: &'a Path,
    kind: &'static str,
    public_key: String,
    pem: String,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        args: Args,
    }

    fn keys(arguments: &[&str]) -> anyhow::Result<String> {
        let args = Program::try_parse_from([&["keys"], arguments].concat())?.args;
        let mut out = Vec::new();
        execute(args, &mut out)?;
        Ok(String::from_utf8(out)?)
    }

    #[test]
    fn what_is_generated_can_be_shown() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        fs::write(path("password"), "geheim\n").unwrap();
        for (format, private) in [("pem", "a.key"), ("hex", "a.key"), ("pkcs12", "a.p12")] {
            let (out, password) = (path(""), path("password"));
            let made = keys(&[
                "generate",
                "--name",
                "a",
                "--out",
                &out,
                "--format",
                format,
                "--password-file",
                &password,
                "--force",
                "--json",
            ])
            .unwrap();
            let made: serde_json::Value = serde_json::from_str(&made).unwrap();
            for file in [private, "a.pub"] {
                let shown = keys(&["show", &path(file), "--password-file", &password, "--json"]).unwrap();
                let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
                assert_eq!(shown["public_key"], made["public_key"], "{format} {file}");
                assert_eq!(shown["kind"], if file == private { "private" } else { "public" });
            }
        }
    }

    #[test]
    fn a_private_key_is_for_its_owner_and_is_not_replaced() {
        use std::os::unix::fs::PermissionsExt;

        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().display().to_string();
        let generate = |name: &str| keys(&["generate", "--name", name, "--out", &out]);
        generate("a").unwrap();
        let key = directory.path().join("a.key");
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        let before = fs::read(&key).unwrap();
        assert!(generate("a").unwrap_err().to_string().contains("exists"));
        assert_eq!(fs::read(&key).unwrap(), before);
        assert!(generate("../a").unwrap_err().to_string().contains("no name for a file"));
    }

    #[test]
    fn bad_files_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("x");
        let show = || keys(&["show", file.to_str().unwrap()]).map_err(|error| format!("{error:#}"));
        assert!(show().unwrap_err().contains("No such file"));
        fs::write(&file, "hello").unwrap();
        let error = show().unwrap_err();
        assert!(error.contains("/x: ") && error.contains("BEGIN PRIVATE KEY"), "{error}");
        assert!(keys(&["generate", "--name", "a", "--format", "pkcs12"]).is_err(), "needs a password");
    }
}
