//! `amop certs`: a consortium's certificates, from the root to a client's.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use amop_protocol::certificate::Description;
use anyhow::{Context, bail};
use clap::{Subcommand, ValueEnum};
use serde::Serialize;

use crate::identity::{
    Authority, Role, Subject, fingerprint,
    mint::{CA_DAYS, Ca, Existing, LEAF_DAYS},
    pem,
};

/// Make and inspect certificates
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    /// Print JSON for scripts
    #[arg(long, global = true)]
    json: bool,
}

const EXAMPLE: &str = "Example, from nothing to a node and a client:
  amop certs ca          --name trade              --out consortium
  amop certs institution --name bank-a --ca consortium --out bank-a
  amop certs node        --name node-1 --institution bank-a --out node-1
  amop certs client      --name payments --institution bank-a --out payments";

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a consortium's root CA: ca.crt and ca.key
    Ca {
        #[command(flatten)]
        new: New,
        /// Days it is valid
        #[arg(long, default_value_t = CA_DAYS)]
        days: u32,
    },
    /// Make an institution's CA under a root: institution.crt, institution.key and ca.crt
    Institution {
        #[command(flatten)]
        new: New,
        /// The directory of the consortium's CA
        #[arg(long, value_name = "DIR")]
        ca: PathBuf,
        /// Days it is valid
        #[arg(long, default_value_t = CA_DAYS)]
        days: u32,
    },
    /// Make a node's certificate: node.crt, node.key and ca.crt
    Node(NewLeaf),
    /// Make a client's certificate, as FISCO BCOS SDKs expect it: sdk.crt, sdk.key and ca.crt
    Client(NewLeaf),
    /// Say who certificates are of, and whether they can be used
    Inspect {
        /// Files of certificates in PEM
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Verify against these roots
        #[arg(long, value_name = "FILE")]
        ca: Option<PathBuf>,
    },
}

#[derive(Debug, clap::Args)]
struct New {
    /// The name to stand in the certificate
    #[arg(long)]
    name: String,
    /// The directory to write to
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Replace what exists. A replaced key is lost for ever
    #[arg(long)]
    force: bool,
    /// Kind of certificate
    #[arg(long, value_enum, default_value_t = Profile::Default)]
    profile: Profile,
}

#[derive(Debug, clap::Args)]
struct NewLeaf {
    #[command(flatten)]
    new: New,
    /// The directory of the institution's CA
    #[arg(long, value_name = "DIR")]
    institution: PathBuf,
    /// Days it is valid
    #[arg(long, default_value_t = LEAF_DAYS)]
    days: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Profile {
    /// X.509 version 3, P-256
    Default,
    /// FISCO BCOS RSA channel certificates; not in this release
    FiscoRsa,
    /// FISCO BCOS secp256k1 certificates; not in this release
    FiscoEc,
}

/// Runs the command.
///
/// # Errors
/// When a certificate cannot be made, read or verified, or standard output is gone.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    execute(args, &mut std::io::stdout().lock())?;
    Ok(ExitCode::SUCCESS)
}

fn execute(args: Args, out: &mut impl Write) -> anyhow::Result<()> {
    let made = match args.command {
        Command::Ca { new, days } => {
            let existing = new.existing()?;
            Made::new(
                "consortium root",
                &new.name,
                Ca::consortium(&new.name, days)?.save(&new.out, existing)?,
            )
        }
        Command::Institution { new, ca, days } => {
            let existing = new.existing()?;
            let root = Ca::load_consortium(&ca).with_context(|| not_a_ca(&ca, "consortium", "ca"))?;
            let institution = root.institution(&new.name, days)?;
            Made::new("institution CA", &new.name, institution.save(&new.out, existing)?)
        }
        Command::Node(leaf) => leaf.make(Role::Node)?,
        Command::Client(leaf) => leaf.make(Role::Client)?,
        Command::Inspect { files, ca } => return inspect(&files, ca.as_deref(), args.json, out),
    };
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&made)?)?;
        return Ok(());
    }
    writeln!(out, "made the {} {:?}:", made.kind, made.name)?;
    for file in &made.files {
        let secret =
            if file.extension().is_some_and(|e| e == "key") { "  (secret: keep it here)" } else { "" };
        writeln!(out, "  {}{secret}", file.display())?;
    }
    Ok(())
}

fn not_a_ca(directory: &Path, kind: &str, command: &str) -> String {
    format!(
        "{} is not the directory of a {kind}'s CA (make one with `amop certs {command}`)",
        directory.display()
    )
}

impl New {
    fn existing(&self) -> anyhow::Result<Existing> {
        if self.profile != Profile::Default {
            bail!("the FISCO BCOS certificate profiles come with a later release; leave --profile out");
        }
        Ok(if self.force { Existing::Replace } else { Existing::Keep })
    }
}

impl NewLeaf {
    fn make(&self, role: Role) -> anyhow::Result<Made> {
        let existing = self.new.existing()?;
        let institution = Ca::load_institution(&self.institution)
            .with_context(|| not_a_ca(&self.institution, "institution", "institution"))?;
        let leaf = institution.leaf(role, &self.new.name, self.days)?;
        Ok(Made::new(role.as_str(), &self.new.name, leaf.save(&self.new.out, existing)?))
    }
}

#[derive(Serialize)]
struct Made {
    kind: &'static str,
    name: String,
    files: Vec<PathBuf>,
}

impl Made {
    fn new(kind: &'static str, name: &str, files: Vec<PathBuf>) -> Self {
        Self { kind, name: name.to_owned(), files }
    }
}

/// One certificate, as far as it can be read.
#[derive(Serialize)]
struct Inspected {
    file: PathBuf,
    subject: String,
    issuer: String,
    serial: String,
    key: &'static str,
    is_ca: bool,
    not_before: String,
    not_after: String,
    fingerprint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    institution: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_id: Option<String>,
    /// `None` for CAs, and where no roots were given.
    #[serde(skip_serializing_if = "Option::is_none")]
    verified: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

fn inspect(files: &[PathBuf], ca: Option<&Path>, json: bool, out: &mut impl Write) -> anyhow::Result<()> {
    let authority = match ca {
        Some(path) => Some(
            Authority::new(&pem::certificates(path)?)
                .map_err(|(at, error)| error_of_root(path, at, &error))?,
        ),
        None => None,
    };
    let mut all = Vec::new();
    for file in files {
        all.extend(inspect_file(file, authority.as_ref())?);
    }
    if json {
        writeln!(out, "{}", serde_json::to_string(&all)?)?;
    } else {
        all.iter().try_for_each(|certificate| certificate.print(out))?;
    }
    match all.iter().filter(|certificate| certificate.problem.is_some()).count() {
        0 => Ok(()),
        1 => bail!("one certificate cannot be used"),
        many => bail!("{many} certificates cannot be used"),
    }
}

fn error_of_root(path: &Path, at: usize, error: &dyn std::error::Error) -> anyhow::Error {
    anyhow::anyhow!("certificate {} in {} cannot be a root: {error}", at + 1, path.display())
}

fn inspect_file(file: &Path, authority: Option<&Authority>) -> anyhow::Result<Vec<Inspected>> {
    let chain = pem::certificates(file)?;
    let mut all = Vec::new();
    for (at, der) in chain.iter().enumerate() {
        let certificate = Description::parse(der)
            .with_context(|| format!("certificate {} in {}", at + 1, file.display()))?;
        let mut inspected = Inspected {
            file: file.to_owned(),
            subject: certificate.subject,
            issuer: certificate.issuer,
            serial: certificate.serial,
            key: certificate.key_kind,
            is_ca: certificate.is_ca,
            not_before: moment(certificate.not_before),
            not_after: moment(certificate.not_after),
            fingerprint: fingerprint(der).to_hex(),
            role: None,
            institution: None,
            node_id: None,
            verified: None,
            problem: None,
        };
        if !certificate.is_ca {
            inspected.judge(Subject::parse(der), &chain[at..], authority);
        }
        all.push(inspected);
    }
    Ok(all)
}

impl Inspected {
    fn judge(
        &mut self,
        subject: Result<Subject, amop_protocol::certificate::ParseError>,
        chain: &[rustls_pki_types::CertificateDer<'_>],
        authority: Option<&Authority>,
    ) {
        let subject = match subject {
            Ok(subject) => subject,
            Err(error) => return self.problem = Some(error.to_string()),
        };
        self.role = Some(subject.role.as_str());
        self.institution = Some(subject.institution.to_string());
        if subject.role == Role::Node {
            self.node_id = subject.key.map(|key| key.to_string());
        }
        if let Some(authority) = authority {
            let verified = authority.verify_chain(chain, subject.role);
            self.verified = Some(verified.is_ok());
            self.problem = verified.err().map(|error| error.to_string());
        }
    }

    fn print(&self, out: &mut impl Write) -> std::io::Result<()> {
        writeln!(out, "{}: {}", self.file.display(), self.subject)?;
        let verified = self.verified.map(|good| if good { "yes" } else { "no" });
        let lines = [
            ("role", self.role.or(self.is_ca.then_some("CA"))),
            ("institution", self.institution.as_deref()),
            ("issued by", Some(&*self.issuer)),
            ("valid from", Some(&*self.not_before)),
            ("valid until", Some(&*self.not_after)),
            ("key", Some(self.key)),
            ("node id", self.node_id.as_deref()),
            ("fingerprint", Some(&*self.fingerprint)),
            ("serial", Some(&*self.serial)),
            ("verified", verified),
            ("problem", self.problem.as_deref()),
        ];
        for (label, text) in lines {
            if let Some(text) = text {
                writeln!(out, "  {label:<12} {text}")?;
            }
        }
        Ok(())
    }
}

/// A moment in UTC, as RFC 3339 writes it.
fn moment(unix: i64) -> String {
    time::OffsetDateTime::from_unix_timestamp(unix)
        .ok()
        .and_then(|moment| moment.format(&time::format_description::well_known::Rfc3339).ok())
        .unwrap_or_else(|| unix.to_string())
}

#[cfg(test)]
mod tests {
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
        check("ca --name trade --out @other --profile fisco-rsa", "later release");
        check("node --name n --institution @root --out @node", "make one with `amop certs institution`");
        check("inspect @nowhere.crt", "cannot read");
        amop_certs("ca --name trade --out @root --force", directory.path()).unwrap();
        amop_certs("institution --name b --ca @root --out @bank", directory.path()).unwrap();
        amop_certs("client --name c --institution @bank --out @c", directory.path()).unwrap();
        amop_certs("ca --name trade --out @foreign", directory.path()).unwrap();
        check("inspect @c/sdk.crt --ca @foreign/ca.crt", "one certificate cannot be used");
    }
}
