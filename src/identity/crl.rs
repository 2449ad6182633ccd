//! Revocation lists out of files.

use std::path::{Path, PathBuf};

use amop_protocol::certificate::Description;
use amop_tls::Crl;
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use super::{error::LoadError, pem};

/// The lists in these files. `cas` gives the CAs that are believed, of those beside a list as well.
/// Where lists are `in_force`, a new one must be newer and not past its end.
pub(super) fn load(
    paths: &[PathBuf],
    cas: impl Fn(&[CertificateDer<'static>]) -> Vec<CertificateDer<'static>>,
    in_force: Option<&[Crl]>,
    mut keep: impl FnMut(LoadError),
) -> Vec<Crl> {
    let mut lists = Vec::new();
    for path in paths {
        let (found, beside) = match pem::revocation_lists(path) {
            Ok(found) => found,
            Err(error) => {
                keep(error.into());
                continue;
            }
        };
        let cas = cas(&beside);
        for (at, der) in found.iter().enumerate() {
            let list = Crl::parse(der, &cas, now()).map_err(|source| LoadError::Crl {
                path: path.clone(),
                position: at + 1,
                source,
            });
            match list.and_then(|list| not_behind(list, in_force, path)) {
                Ok(list) => lists.push(list),
                Err(problem) => keep(problem),
            }
        }
    }
    lists
}

/// Those of `found` that are not among `known` and have expired.
pub(super) fn new_and_expired(
    known: &[CertificateDer<'_>],
    found: &[CertificateDer<'_>],
    path: &Path,
) -> Vec<LoadError> {
    let new = found.iter().enumerate().filter(|(_, der)| !known.contains(der));
    let ends = new.filter_map(|(at, der)| Some((at, Description::parse(der).ok()?.not_after)));
    ends.filter(|(_, not_after)| *not_after < now())
        .map(|(at, not_after)| LoadError::ExpiredCa { path: path.to_owned(), position: at + 1, not_after })
        .collect()
}

/// A list that is in force stays though its end has come: what it revokes stays revoked.
fn not_behind(list: Crl, in_force: Option<&[Crl]>, path: &Path) -> Result<Crl, LoadError> {
    let Some(in_force) = in_force.filter(|in_force| !in_force.contains(&list)) else { return Ok(list) };
    let (path, issuer) = (path.to_owned(), list.issuer().to_owned());
    if let Some(due) = list.next_update().filter(|due| *due < now()) {
        return Err(LoadError::StaleCrl { path, issuer, due });
    }
    match in_force.iter().any(|other| list.is_older_than(other)) {
        true => Err(LoadError::OlderCrl { path, issuer }),
        false => Ok(list),
    }
}

fn now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}
