//! `amop certs`: a consortium's certificates, from the root to a client's.

mod inspect;
mod renew;
mod revoke;
#[cfg(test)]
mod tests;

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use clap::{Subcommand, ValueEnum};
use serde::Serialize;

use crate::identity::{
    FiscoKind, Role,
    mint::{CA_DAYS, Ca, Existing, LEAF_DAYS, MintError, fisco, hosts::Host},
};

/// Make and inspect certificates
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Args {
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
  amop certs client      --name payments --institution bank-a --out payments

Later, a new certificate for the node's key, and an end to the client's, renewed ones too:
  amop certs renew  node-1/node.crt  --institution bank-a
  amop certs revoke payments/sdk.crt --institution bank-a

The same for SDKs of FISCO BCOS, as its own tools make them; an institution is an agency there:
  amop certs institution --layout fisco-rsa --name bank-a --out channel
  amop certs node        --layout fisco-rsa --name node-1 --institution channel --out channel_cert
  amop certs client      --layout fisco-rsa --name payments --institution channel --out sdk
With fisco-ec, make a chain's CA first (`ca --layout fisco-ec`), and name it to `institution` (`--ca`).";

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a consortium's root CA, or a chain's with fisco-ec: ca.crt and ca.key
    Ca {
        #[command(flatten)]
        new: New,
        /// Days it is valid
        #[arg(long, default_value_t = CA_DAYS)]
        days: u32,
    },
    /// Make an institution's CA under a root: institution.crt, institution.key and ca.crt;
    /// with fisco-ec agency.crt, agency.key and ca.crt; with fisco-rsa, under no root, ca.crt and ca.key
    Institution {
        #[command(flatten)]
        new: New,
        /// The directory of the consortium's CA, or the chain's; none with fisco-rsa
        #[arg(long, value_name = "DIR")]
        ca: Option<PathBuf>,
        /// Days it is valid
        #[arg(long, default_value_t = CA_DAYS)]
        days: u32,
    },
    /// Make a node's certificate: node.crt, node.key and ca.crt
    Node {
        #[command(flatten)]
        leaf: NewLeaf,
        /// A name or address by which Prometheus, or whatever else verifies hosts, asks its admin port; may be repeated
        #[arg(long, value_name = "NAME|IP")]
        host: Vec<Host>,
    },
    /// Make a client's certificate, as FISCO BCOS SDKs expect it: sdk.crt, sdk.key and ca.crt
    Client(NewLeaf),
    /// Replace a certificate by a new one for the same key
    Renew(renew::Renew),
    /// Add certificates to their CA's revocation list: institution.crl, or ca.crl of a root
    Revoke(revoke::Revoke),
    /// Show or refresh a CA's revocation list
    Crl(revoke::List),
    /// Say who certificates are of, how long they last, and whether they can be used
    Inspect(inspect::Inspect),
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
    /// Kind of certificates; the same for a CA and what it issues
    #[arg(long, value_enum, default_value_t = Layout::Default)]
    layout: Layout,
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
enum Layout {
    /// X.509 version 3, P-256, roles; what nodes need among themselves
    Default,
    /// FISCO BCOS 2.9 and later: RSA, X.509 version 1
    FiscoRsa,
    /// FISCO BCOS on secp256k1
    FiscoEc,
}

impl Layout {
    fn fisco(self) -> Option<FiscoKind> {
        match self {
            Self::Default => None,
            Self::FiscoRsa => Some(FiscoKind::Rsa),
            Self::FiscoEc => Some(FiscoKind::Ec),
        }
    }
}

/// Runs the command.
///
/// # Errors
/// When a certificate cannot be made, read or verified, or standard output is gone.
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    execute(args, &mut std::io::stdout().lock())?;
    Ok(ExitCode::SUCCESS)
}

fn execute(args: Args, out: &mut impl Write) -> anyhow::Result<()> {
    let made = match args.command {
        Command::Ca { new, days } => new.make_ca(days)?,
        Command::Institution { new, ca, days } => new.make_institution(ca.as_deref(), days)?,
        Command::Node { leaf, host } => leaf.make(Role::Node, &host)?,
        Command::Client(leaf) => leaf.make(Role::Client, &[])?,
        Command::Renew(renew) => renew.run()?,
        Command::Revoke(revoke) => revoke.run()?,
        Command::Crl(list) => return list.run(args.json, out),
        Command::Inspect(inspect) => return inspect.run(args.json, out),
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
    fn existing(&self) -> Existing {
        if self.force { Existing::Replace } else { Existing::Keep }
    }

    /// The kind of FISCO BCOS certificates, if it is one.
    fn fisco(&self) -> Option<FiscoKind> {
        self.layout.fisco()
    }

    fn make_ca(&self, days: u32) -> anyhow::Result<Made> {
        let saved = match self.fisco() {
            None => Ca::consortium(&self.name, days)?.save(&self.out, self.existing())?,
            Some(FiscoKind::Ec) => fisco::Chain::new(&self.name, days)?.save(&self.out, self.existing())?,
            Some(FiscoKind::Rsa) => bail!(
                "with fisco-rsa there is no CA above the institutions'; make theirs with `amop certs institution --layout fisco-rsa`"
            ),
        };
        let kind = if self.fisco().is_some() { "chain's CA" } else { "consortium root" };
        Ok(Made::new(kind, &self.name, saved))
    }

    fn make_institution(&self, ca: Option<&Path>, days: u32) -> anyhow::Result<Made> {
        let saved = match (self.fisco(), ca) {
            (None, Some(ca)) => {
                let root = Ca::load_consortium(ca).with_context(|| not_a_ca(ca, "consortium", "ca"))?;
                root.institution(&self.name, days)?.save(&self.out, self.existing())?
            }
            (Some(FiscoKind::Ec), Some(ca)) => {
                let made = |error: MintError| {
                    anyhow::Error::new(error).context(not_a_ca(ca, "chain", "ca --layout fisco-ec"))
                };
                let chain = fisco::Chain::load(ca).map_err(made)?;
                chain.agency(&self.name, days)?.save(&self.out, self.existing())?
            }
            (Some(FiscoKind::Rsa), None) => {
                fisco::Agency::new(FiscoKind::Rsa, &self.name, days)?.save(&self.out, self.existing())?
            }
            (Some(FiscoKind::Rsa), Some(_)) => {
                bail!("with fisco-rsa an institution's CA issues itself; leave --ca out")
            }
            (_, None) => bail!("name the directory of the CA above with --ca"),
        };
        Ok(Made::new("institution CA", &self.name, saved))
    }
}

impl NewLeaf {
    fn make(&self, role: Role, hosts: &[Host]) -> anyhow::Result<Made> {
        let (new, existing) = (&self.new, self.new.existing());
        let saved = match new.fisco() {
            None => {
                let institution = Ca::load_institution(&self.institution)
                    .with_context(|| not_a_ca(&self.institution, "institution", "institution"))?;
                institution.leaf_at(role, &new.name, hosts, self.days)?.save(&new.out, existing)?
            }
            Some(_) if !hosts.is_empty() => {
                bail!("no program verifies the hosts of FISCO BCOS certificates; leave --host out")
            }
            Some(kind) => {
                let command = format!("institution --layout {}", kind.profile());
                let agency = fisco::Agency::load(kind, &self.institution)
                    .with_context(|| not_a_ca(&self.institution, "institution", &command))?;
                agency.leaf(role, &new.name, self.days)?.save(&new.out, existing)?
            }
        };
        Ok(Made::new(role.as_str(), &new.name, saved))
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
