//! `amop certs renew`: a new certificate for a key that stays.

use std::path::{Path, PathBuf};

use amop_protocol::certificate::Description;
use amop_tls::is_issued_by;
use anyhow::{Context, bail};
use rustls_pki_types::CertificateDer;

use super::{Made, not_a_ca};
use crate::identity::{
    mint::{
        CA_DAYS, Ca, Existing, LEAF_DAYS,
        crl::{CRL_DAYS, Revoker},
        hosts::Host,
        renew::replace,
        renewals,
    },
    pem,
};

/// What to renew, and by whom.
#[derive(Debug, clap::Args)]
pub(super) struct Renew {
    /// The certificate: node.crt or sdk.crt, or an institution's institution.crt
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The directory of the institution's CA that issued it
    #[arg(long, value_name = "DIR", required_unless_present = "ca")]
    institution: Option<PathBuf>,
    /// For an institution's CA: the directory of the root that is to certify it
    #[arg(long, value_name = "DIR", conflicts_with = "institution")]
    ca: Option<PathBuf>,
    /// Another name or address for a node's certificate to say, instead of those it has
    #[arg(long, value_name = "NAME|IP", conflicts_with = "ca")]
    host: Vec<Host>,
    /// Days it is valid [default: 365; of an institution's CA 3650]
    #[arg(long)]
    days: Option<u32>,
}

impl Renew {
    /// Replaces the certificate.
    pub(super) fn run(&self) -> anyhow::Result<Made> {
        let chain = pem::certificates(&self.file)?;
        let old = Description::parse(&chain[0]).with_context(|| self.file.display().to_string())?;
        match (&self.ca, &self.institution) {
            (Some(root), _) => self.renew_institution(root, &chain[0], &old),
            (None, Some(institution)) => {
                let ca = Ca::load_institution(institution)
                    .with_context(|| not_a_ca(institution, "institution", "institution"))?;
                let days = self.days.unwrap_or(LEAF_DAYS);
                let renewed = match &self.host[..] {
                    [] => ca.renew(&chain[0], days)?,
                    hosts => ca.renew_at(&chain[0], hosts, days)?,
                };
                let remembered = remember(&ca, institution, [&chain[0], &renewed[0]])?;
                let saved = replace(&self.file, &renewed)?;
                Ok(Made::new("certificate, renewed, of", &old.subject, vec![saved, remembered]))
            }
            (None, None) => bail!("name the directory of the CA with --institution"),
        }
    }

    fn renew_institution(
        &self,
        root: &Path,
        old_certificate: &CertificateDer<'_>,
        old: &Description,
    ) -> anyhow::Result<Made> {
        let is_named = self.file.file_name().is_some_and(|name| name == "institution.crt");
        if !old.is_ca || old.is_self_issued || !is_named {
            bail!("--ca renews institution.crt in the directory of an institution's CA, which has its key");
        }
        let directory = self.file.parent().unwrap_or(Path::new("."));
        let institution = Ca::load_institution(directory)
            .with_context(|| not_a_ca(directory, "institution", "institution"))?;
        let ca = Ca::load_consortium(root).with_context(|| not_a_ca(root, "consortium", "ca"))?;
        let renewed = ca.recertify(institution, self.days.unwrap_or(CA_DAYS))?;
        let remembered = remember(&ca, root, [old_certificate, renewed.certificate()])?;
        let mut saved = renewed.save(directory, Existing::Replace)?;
        saved.push(remembered);
        // Beside its list stands its certificate, which must lead to the new root too.
        let list = directory.join(renewed.list_name());
        if list.exists() {
            saved.push(renewed.save_crl(&renewed.revoked(&list)?, CRL_DAYS, &list)?);
        }
        Ok(Made::new("institution CA, renewed, of", &old.subject, saved))
    }
}

/// Has the CA in `directory` remember which of these certificates of one key it issued, so that none is
/// forgotten when the key is revoked. Before a file is replaced: what is remembered and was not used does no harm.
fn remember(ca: &Ca, directory: &Path, certificates: [&CertificateDer<'_>; 2]) -> anyhow::Result<PathBuf> {
    // Another root, of whatever name, has issued the one before, and only that one can revoke it.
    let ours = certificates.into_iter().filter(|der| is_issued_by(der, ca.certificate()));
    let path = renewals::beside(&directory.join(ca.list_name()));
    renewals::remember(&path, &ours.map(renewals::Entry::of).collect::<Result<Vec<_>, _>>()?)?;
    Ok(path)
}
