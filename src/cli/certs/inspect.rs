//! `amop certs inspect`: who certificates are of, and whether they can be used.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use amop_protocol::certificate::{Description, ParseError};
use amop_tls::{Crl, Revocations, fisco};
use anyhow::{Context, bail};
use rustls_pki_types::CertificateDer;
use serde::Serialize;

use crate::identity::{
    Authority, FiscoKind, Profile, Role, Subject, fingerprint,
    mint::{
        hosts,
        renewals::{self, Entry},
    },
    pem,
};

/// Seconds of a day.
const DAY: i64 = 86_400;

/// What to show, and by what to judge it.
#[derive(Debug, clap::Args)]
pub(super) struct Inspect {
    /// Files of certificates in PEM
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Verify against these roots
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Say whether they are revoked by the lists in this file, of CAs in --ca, or beside the lists
    #[arg(long, value_name = "FILE", requires = "ca")]
    crl: Option<PathBuf>,
    /// Show the other certificates of their keys: the file beside the CA's list that `amop certs renew` writes
    #[arg(long, value_name = "FILE")]
    renewed: Option<PathBuf>,
}

/// One certificate, as far as it can be read.
#[derive(Serialize)]
struct Inspected {
    file: PathBuf,
    subject: String,
    issuer: String,
    serial: String,
    profile: &'static str,
    key: &'static str,
    is_ca: bool,
    not_before: String,
    not_after: String,
    days_left: i64,
    fingerprint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    institution: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_id: Option<String>,
    /// Hosts it names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hosts: Vec<String>,
    /// `None` for CAs, and where no roots were given.
    #[serde(skip_serializing_if = "Option::is_none")]
    verified: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    /// Others of the same key, as far as they are remembered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    same_key: Vec<SameKey>,
}

#[derive(Serialize)]
struct SameKey {
    serial: String,
    not_after: String,
}

impl Inspect {
    pub(super) fn run(&self, json: bool, out: &mut impl Write) -> anyhow::Result<()> {
        let believed = self.ca.as_ref().map(|ca| Believed::load(ca, self.crl.as_deref())).transpose()?;
        let renewed = self.renewed.as_ref().map(|path| renewed(path)).transpose()?.unwrap_or_default();
        let mut all = Vec::new();
        for file in &self.files {
            all.extend(inspect_file(file, believed.as_ref(), &renewed)?);
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
}

/// What is named must be there; else nobody would know that nothing was looked at.
fn renewed(path: &Path) -> anyhow::Result<Vec<Entry>> {
    if !path.exists() {
        bail!(
            "{} is not there; `amop certs renew` makes it, beside the CA's revocation list",
            path.display()
        );
    }
    Ok(renewals::read(path)?)
}

fn same_key(der: &CertificateDer<'_>, renewed: &[Entry]) -> anyhow::Result<Vec<SameKey>> {
    if renewed.is_empty() {
        return Ok(Vec::new());
    }
    let own = Entry::of(der)?;
    let others = renewed.iter().filter(|other| other.key == own.key && other.serial != own.serial);
    let shown = |other: &Entry| SameKey {
        serial: other.serial_in_hex(),
        not_after: moment(other.not_after.unix_timestamp()),
    };
    Ok(others.map(shown).collect())
}

fn inspect_file(
    file: &Path,
    believed: Option<&Believed>,
    renewed: &[Entry],
) -> anyhow::Result<Vec<Inspected>> {
    let chain = pem::certificates(file)?;
    let mut all = Vec::new();
    for (at, der) in chain.iter().enumerate() {
        let certificate = Description::parse(der)
            .with_context(|| format!("certificate {} in {}", at + 1, file.display()))?;
        let kind = fisco_kind(certificate.key_kind);
        let mut inspected = Inspected {
            file: file.to_owned(),
            subject: certificate.subject,
            issuer: certificate.issuer,
            serial: certificate.serial,
            profile: kind.map_or(Profile::Default, FiscoKind::profile).as_str(),
            key: certificate.key_kind,
            // One of version 1 does not say so.
            is_ca: certificate.is_ca || (kind.is_some() && certificate.is_self_issued),
            not_before: moment(certificate.not_before),
            not_after: moment(certificate.not_after),
            days_left: certificate.not_after.saturating_sub(now()).div_euclid(DAY),
            fingerprint: fingerprint(der).to_hex(),
            role: None,
            institution: None,
            node_id: None,
            hosts: hosts::of(der).iter().map(ToString::to_string).collect(),
            verified: None,
            problem: None,
            same_key: same_key(der, renewed)?,
        };
        match kind {
            _ if inspected.is_ca => {}
            None => inspected.judge(Subject::parse(der), &chain[at..], believed),
            Some(kind) => inspected.judge_fisco(kind, &chain[at..], believed),
        }
        all.push(inspected);
    }
    Ok(all)
}

/// Which of the FISCO BCOS profiles goes with a kind of key.
fn fisco_kind(key: &str) -> Option<FiscoKind> {
    match key {
        "RSA" => Some(FiscoKind::Rsa),
        "secp256k1" => Some(FiscoKind::Ec),
        _ => None,
    }
}

/// The CAs to verify against. Which rule applies depends on the leaf.
struct Believed {
    path: PathBuf,
    cas: Vec<CertificateDer<'static>>,
    /// Revocation lists, and the CAs beside them.
    crl: Option<(PathBuf, Vec<Vec<u8>>, Vec<CertificateDer<'static>>)>,
}

impl Believed {
    fn load(path: &Path, crl: Option<&Path>) -> anyhow::Result<Self> {
        let crl = crl.map(|path| {
            let (lists, beside) = pem::revocation_lists(path)?;
            anyhow::Ok((path.to_owned(), lists, beside))
        });
        let believed = Self { path: path.to_owned(), cas: pem::certificates(path)?, crl: crl.transpose()? };
        // The file's own problems are said once, and first.
        match Description::parse(&believed.cas[0]).ok().and_then(|ca| fisco_kind(ca.key_kind)) {
            None => believed.consortium().map(drop)?,
            Some(kind) => believed.fisco(kind).map(drop)?,
        }
        Ok(believed)
    }

    fn consortium(&self) -> anyhow::Result<Authority> {
        let authority = Authority::new(&self.cas).map_err(|(at, error)| self.error_of(at, &error))?;
        let revocations = self.revocations(|beside| authority.cas(beside))?;
        Ok(authority.revoking(revocations))
    }

    fn fisco(&self, kind: FiscoKind) -> anyhow::Result<fisco::Authority> {
        let mut issuers = Vec::new();
        for (at, der) in self.cas.iter().enumerate() {
            let ca = fisco::Ca::parse(kind, der).map_err(|error| self.error_of(at, &error))?;
            issuers.push(fisco::Issuer::anchor(ca, None));
        }
        let authority = fisco::Authority::new(kind, fisco::Purpose::Nodes, issuers);
        Ok(authority.revoking(self.revocations(|_| self.cas.clone())?))
    }

    fn revocations(
        &self,
        cas: impl Fn(&[CertificateDer<'static>]) -> Vec<CertificateDer<'static>>,
    ) -> anyhow::Result<Revocations> {
        let Some((path, lists, beside)) = &self.crl else { return Ok(Revocations::default()) };
        let cas = cas(beside);
        let parsed = lists.iter().map(|der| Crl::parse(der, &cas, now())).collect::<Result<_, _>>();
        Ok(Revocations::new(parsed.with_context(|| path.display().to_string())?))
    }

    fn error_of(&self, at: usize, error: &dyn std::error::Error) -> anyhow::Error {
        anyhow::anyhow!("certificate {} in {} cannot be a root: {error}", at + 1, self.path.display())
    }
}

impl Inspected {
    fn judge(
        &mut self,
        subject: Result<Subject, ParseError>,
        chain: &[CertificateDer<'_>],
        believed: Option<&Believed>,
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
        if let Some(believed) = believed {
            let verified = believed.consortium().and_then(|authority| {
                authority.verify_chain(chain, subject.role).map_err(anyhow::Error::new)
            });
            self.verified = Some(verified.is_ok());
            self.problem = verified.err().map(|error| error.to_string());
        }
    }

    /// These certificates name no roles, and institutions only in configuration.
    fn judge_fisco(&mut self, kind: FiscoKind, chain: &[CertificateDer<'_>], believed: Option<&Believed>) {
        if let Some(believed) = believed {
            let verified = believed
                .fisco(kind)
                .and_then(|authority| authority.verify_chain(chain).map_err(anyhow::Error::new));
            self.verified = Some(verified.is_ok());
            self.problem = verified.err().map(|error| error.to_string());
        }
    }

    fn print(&self, out: &mut impl Write) -> std::io::Result<()> {
        writeln!(out, "{}: {}", self.file.display(), self.subject)?;
        let hosts = self.hosts.join(", ");
        let verified = self.verified.map(|good| if good { "yes" } else { "no" });
        let lines = [
            ("role", self.role.or(self.is_ca.then_some("CA"))),
            ("institution", self.institution.as_deref()),
            ("issued by", Some(&*self.issuer)),
            ("valid from", Some(&*self.not_before)),
            ("valid until", Some(&*self.not_after)),
            ("days left", Some(&*self.days_left.to_string())),
            ("profile", Some(self.profile)),
            ("key", Some(self.key)),
            ("node id", self.node_id.as_deref()),
            ("hosts", Some(&*hosts).filter(|hosts| !hosts.is_empty())),
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
        let mut others = self.same_key.iter();
        others.try_for_each(|SameKey { serial, not_after }| {
            writeln!(out, "  same key     {serial} until {not_after}")
        })
    }
}

/// A moment in UTC, as RFC 3339 writes it.
pub(super) fn moment(unix: i64) -> String {
    time::OffsetDateTime::from_unix_timestamp(unix)
        .ok()
        .and_then(|moment| moment.format(&time::format_description::well_known::Rfc3339).ok())
        .unwrap_or_else(|| unix.to_string())
}

fn now() -> i64 {
    time::OffsetDateTime::now_utc().unix_timestamp()
}
