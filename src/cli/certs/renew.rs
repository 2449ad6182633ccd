//! `amop certs renew`: a new certificate for a key that stays.

use std::path::{Path, PathBuf};

use amop_protocol::certificate::Description;
use anyhow::{Context, bail};

use super::{Made, not_a_ca};
use crate::identity::{
    mint::{
        CA_DAYS, Ca, Existing, LEAF_DAYS,
        crl::{CRL_DAYS, Revoker},
        renew::replace,
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
            (Some(root), _) => self.renew_institution(root, &old),
            (None, Some(institution)) => {
                let ca = Ca::load_institution(institution)
                    .with_context(|| not_a_ca(institution, "institution", "institution"))?;
                let days = self.days.unwrap_or(LEAF_DAYS);
                let saved = replace(&self.file, &ca.renew(&chain[0], days)?)?;
                Ok(Made::new("certificate, renewed, of", &old.subject, vec![saved]))
            }
            (None, None) => bail!("name the directory of the CA with --institution"),
        }
    }

    fn renew_institution(&self, root: &Path, old: &Description) -> anyhow::Result<Made> {
        let is_named = self.file.file_name().is_some_and(|name| name == "institution.crt");
        if !old.is_ca || old.is_self_issued || !is_named {
            bail!("--ca renews institution.crt in the directory of an institution's CA, which has its key");
        }
        let directory = self.file.parent().unwrap_or(Path::new("."));
        let institution = Ca::load_institution(directory)
            .with_context(|| not_a_ca(directory, "institution", "institution"))?;
        let root = Ca::load_consortium(root).with_context(|| not_a_ca(root, "consortium", "ca"))?;
        let renewed = root.recertify(institution, self.days.unwrap_or(CA_DAYS))?;
        let mut saved = renewed.save(directory, Existing::Replace)?;
        // Beside its list stands its certificate, which must lead to the new root too.
        let list = directory.join(renewed.list_name());
        if list.exists() {
            saved.push(renewed.save_crl(&renewed.revoked(&list)?, CRL_DAYS, &list)?);
        }
        Ok(Made::new("institution CA, renewed, of", &old.subject, saved))
    }
}
