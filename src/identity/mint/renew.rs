//! Certificates made anew for keys that stay.

use std::path::{Path, PathBuf};

use amop_protocol::certificate::Subject;
use amop_tls::{Authority, while_valid};
use rcgen::SubjectPublicKeyInfo;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{
    Ca, CaKind, Existing, MintError, ca_params,
    files::File,
    hosts::{self, Host, alternative_names},
    leaf_params, write_all,
};
use crate::identity::pem;

impl Ca {
    /// The CA of an institution, certified by this root, with the name and the key that it has: what it
    /// has issued stays good. Its roots are those it had, and this one.
    ///
    /// # Errors
    /// When this is not a root, `institution` is not an institution's CA, or the validity cannot be used.
    pub fn recertify(&self, institution: Self, days: u32) -> Result<Self, MintError> {
        self.expect_kind(CaKind::Consortium, "an institution's CA")?;
        institution.expect_kind(CaKind::Institution, "what this root could certify anew")?;
        let params = ca_params(CaKind::Institution, &institution.name, days, Some(self.not_after))?;
        let certificate = params.signed_by(institution.issuer.key(), &self.issuer)?.der().clone();
        let mut roots = institution.roots;
        if !roots.contains(&self.certificate) {
            roots.push(self.certificate.clone());
        }
        Ok(Self { certificate, roots, not_after: params.not_after, ..institution })
    }

    /// A new certificate for the key, name, role and hosts of one that this institution issued, whether or
    /// not it has expired: it and this CA's, in the order they are presented.
    ///
    /// # Errors
    /// When this is not an institution's CA, did not issue the old one, or the validity cannot be used.
    pub fn renew(
        &self,
        old: &CertificateDer<'_>,
        days: u32,
    ) -> Result<Vec<CertificateDer<'static>>, MintError> {
        self.renew_at(old, &hosts::of(old), days)
    }

    /// The same, which names these hosts.
    ///
    /// # Errors
    /// As [`Ca::renew`].
    pub fn renew_at(
        &self,
        old: &CertificateDer<'_>,
        hosts: &[Host],
        days: u32,
    ) -> Result<Vec<CertificateDer<'static>>, MintError> {
        self.expect_kind(CaKind::Institution, "nodes and clients")?;
        let not_ours = || MintError::NotOurs { ca: self.name.clone() };
        let subject = Subject::parse(old).map_err(|_| not_ours())?;
        let authority = Authority::new(std::slice::from_ref(&self.certificate)).map_err(|_| not_ours())?;
        let chain = std::slice::from_ref(old);
        authority.verify_chain_at(chain, subject.role, while_valid(chain)).map_err(|_| not_ours())?;
        let key = match X509Certificate::from_der(old) {
            Ok((_, old)) => SubjectPublicKeyInfo::from_der(old.public_key().raw)?,
            Err(_) => return Err(not_ours()),
        };
        let mut params = leaf_params(subject.role, &subject.name, &self.name, days, self.not_after)?;
        params.subject_alt_names = alternative_names(hosts)?;
        let certificate = params.signed_by(&key, &self.issuer)?.der().clone();
        Ok(vec![certificate, self.certificate.clone()])
    }
}

/// Replaces the file of a certificate by a chain, at once.
///
/// # Errors
/// When the disk refuses.
pub fn replace(path: &Path, chain: &[CertificateDer<'_>]) -> Result<PathBuf, MintError> {
    let text = chain.iter().map(|der| pem::encode("CERTIFICATE", der)).collect::<String>();
    replace_text(path, text)
}

/// Replaces a file that everybody may read, at once.
pub(super) fn replace_text(path: &Path, text: String) -> Result<PathBuf, MintError> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    let written =
        write_all(directory.unwrap_or(Path::new(".")), &[File::open(name, text)], Existing::Replace)?;
    Ok(written.into_iter().next().unwrap_or_default())
}
