//! `amop certs revoke` and `amop certs crl`: what a CA has taken back.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use amop_protocol::certificate::Description;
use amop_tls::{Crl, is_issued_by, serial_from_hex};
use anyhow::{Context, bail};
use rustls_pki_types::CertificateDer;
use serde::Serialize;

use super::{Layout, Made, inspect::moment, not_a_ca};
use crate::identity::{
    mint::{
        Ca,
        crl::{CRL_DAYS, Revoker},
        fisco::Agency,
        renewals,
    },
    pem,
};

/// Whose list it is.
#[derive(Debug, clap::Args)]
pub(super) struct Whose {
    /// The directory of the institution's CA
    #[arg(long, value_name = "DIR", required_unless_present = "ca")]
    institution: Option<PathBuf>,
    /// The directory of the consortium's root, to revoke an institution's CA
    #[arg(long, value_name = "DIR", conflicts_with = "institution")]
    ca: Option<PathBuf>,
    /// Kind of the CA's certificates
    #[arg(long, value_enum, default_value_t = Layout::Default)]
    layout: Layout,
    /// Days until the list is to be replaced by a newer one
    #[arg(long, default_value_t = CRL_DAYS)]
    days: u32,
}

/// What to revoke.
#[derive(Debug, clap::Args)]
pub(super) struct Revoke {
    /// Files of certificates; the first in each is revoked
    #[arg(value_name = "FILE", required_unless_present = "serial")]
    files: Vec<PathBuf>,
    /// Serial numbers of certificates, in hex
    #[arg(long, value_name = "HEX")]
    serial: Vec<String>,
    /// Leave the other certificates of the same keys good, which `amop certs renew` made
    #[arg(long)]
    only: bool,
    #[command(flatten)]
    whose: Whose,
}

/// Which list to show, or to make.
#[derive(Debug, clap::Args)]
pub(super) struct List {
    #[command(flatten)]
    whose: Whose,
    /// Make a newer list with the same entries; the first one if there is none
    #[arg(long)]
    refresh: bool,
}

/// A list, as it is shown.
#[derive(Serialize)]
struct Shown {
    file: PathBuf,
    issuer: String,
    made: String,
    replaced_by: Option<String>,
    revoked: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    serial: String,
    since: String,
}

impl Whose {
    /// The CA, and where its list is.
    fn load(&self) -> anyhow::Result<(Box<dyn Revoker>, PathBuf)> {
        let (ca, directory): (Box<dyn Revoker>, _) = match (&self.ca, &self.institution, self.layout.fisco())
        {
            (Some(_), _, Some(_)) => {
                bail!("--ca is for the root of a consortium; name an agency with --institution")
            }
            (Some(root), _, None) => {
                let ca = Ca::load_consortium(root).with_context(|| not_a_ca(root, "consortium", "ca"))?;
                (Box::new(ca), root)
            }
            (None, Some(directory), kind) => {
                let wrong = || not_a_ca(directory, "institution", "institution");
                let ca: Box<dyn Revoker> = match kind {
                    None => Box::new(Ca::load_institution(directory).with_context(wrong)?),
                    Some(kind) => Box::new(Agency::load(kind, directory).with_context(wrong)?),
                };
                (ca, directory)
            }
            (None, None, _) => bail!("name the directory of the CA with --institution"),
        };
        let path = directory.join(ca.list_name());
        Ok((ca, path))
    }
}

impl Revoke {
    /// Adds the certificates to the CA's list, and all others of the same keys that have not expired.
    pub(super) fn run(&self) -> anyhow::Result<Made> {
        let (ca, path) = self.whose.load()?;
        let mut revoked = ca.revoked(&path)?;
        let mut serials = Vec::new();
        // Nothing beside these, so what is known of others does not count, whatever state it is in.
        let known = if self.only { Vec::new() } else { renewals::read(&renewals::beside(&path))? };
        for (serial, shown) in self.meant(&*ca, &known)? {
            revoked.add(serial);
            if !serials.contains(&shown) {
                serials.push(shown);
            }
        }
        let saved = ca.save_crl(&revoked, self.whose.days, &path)?;
        Ok(Made::new("revocation list, with the serial", &serials.join(", "), vec![saved]))
    }

    /// The serial numbers that are to be revoked, each also as it is shown.
    fn meant(&self, ca: &dyn Revoker, known: &[renewals::Entry]) -> anyhow::Result<Vec<(Vec<u8>, String)>> {
        let (mut meant, mut keys) = (Vec::new(), Vec::new());
        for file in &self.files {
            let certificate = pem::certificates(file)?.swap_remove(0);
            check_issuer(&certificate, ca.certificate(), file)?;
            let certificate = renewals::Entry::of(&certificate)?;
            meant.push((certificate.serial.clone(), certificate.serial_in_hex()));
            keys.push(certificate.key);
        }
        for shown in &self.serial {
            let serial = serial_from_hex(shown);
            let serial = serial.with_context(|| format!("{shown:?} is no serial number in hex"))?;
            keys.extend(known.iter().filter(|other| other.serial == serial).map(|other| other.key.clone()));
            meant.push((serial, shown.clone()));
        }
        if !self.only {
            let others = known.iter().filter(|other| other.is_good() && keys.contains(&other.key));
            let others = others.filter(|other| !meant.iter().any(|(serial, _)| *serial == other.serial));
            let others: Vec<_> = others.map(|other| (other.serial.clone(), other.serial_in_hex())).collect();
            meant.extend(others);
        }
        Ok(meant)
    }
}

/// A list counts for what its CA has issued, by name and key.
fn check_issuer(
    certificate: &CertificateDer<'_>,
    ca: &CertificateDer<'_>,
    file: &Path,
) -> anyhow::Result<()> {
    let (theirs, ours) = (Description::parse(certificate)?, Description::parse(ca)?);
    if theirs.issuer != ours.subject {
        bail!(
            "{} was issued by {}, not by {}, which cannot revoke it",
            file.display(),
            theirs.issuer,
            ours.subject
        );
    }
    if !is_issued_by(certificate, ca) {
        bail!(
            "{} was issued by another CA with the name {}, which alone can revoke it; give that one's directory",
            file.display(),
            ours.subject
        );
    }
    Ok(())
}

impl List {
    /// Shows the list, after it was made anew if that is asked for.
    pub(super) fn run(&self, json: bool, out: &mut impl Write) -> anyhow::Result<()> {
        let (ca, path) = self.whose.load()?;
        if self.refresh {
            ca.save_crl(&ca.revoked(&path)?, self.whose.days, &path)?;
        } else if !path.exists() {
            bail!("{} is not there; make it with --refresh, or with `amop certs revoke`", path.display());
        }
        let shown = Shown::load(&path, &*ca)?;
        match json {
            true => writeln!(out, "{}", serde_json::to_string(&shown)?)?,
            false => shown.print(out)?,
        }
        Ok(())
    }
}

impl Shown {
    fn load(path: &Path, ca: &dyn Revoker) -> anyhow::Result<Self> {
        let (lists, _) = pem::revocation_lists(path)?;
        let list = Crl::parse(&lists[0], std::slice::from_ref(ca.certificate()), i64::MAX)
            .with_context(|| path.display().to_string())?;
        let entry = |(serial, since)| Entry { serial, since: moment(since) };
        Ok(Self {
            file: path.to_owned(),
            issuer: list.issuer().to_owned(),
            made: moment(list.this_update()),
            replaced_by: list.next_update().map(moment),
            revoked: list.serials().map(entry).collect(),
        })
    }

    fn print(&self, out: &mut impl Write) -> std::io::Result<()> {
        let Self { file, issuer, made, replaced_by, revoked } = self;
        writeln!(out, "{}: what {issuer} has revoked", file.display())?;
        writeln!(out, "  made         {made}")?;
        writeln!(out, "  replaced by  {}", replaced_by.as_deref().unwrap_or("-"))?;
        if revoked.is_empty() {
            writeln!(out, "  nothing is revoked")?;
        }
        revoked.iter().try_for_each(|entry| writeln!(out, "  {}  since {}", entry.serial, entry.since))
    }
}
