//! Revocation lists out of files.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use amop_protocol::certificate::Description;
use amop_tls::{Crl, Revocations};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use super::{error::LoadError, pem};

/// The lists in these files. `cas` gives the CAs that are believed, of those beside a list as well.
/// Where lists are `in_force`, a new one must be newer and not past its end, and none may go whose CA is
/// still believed by a certificate that is known. What any other revokes stays revoked: its CA's key may be
/// believed by a certificate that only others have.
pub(super) fn load(
    paths: &[PathBuf],
    cas: impl Fn(&[CertificateDer<'static>]) -> Vec<CertificateDer<'static>>,
    in_force: Option<&Revocations>,
    keep: impl FnMut(LoadError),
) -> Revocations {
    let mut problems = Vec::new();
    let lists = read(paths, &cas, in_force, |problem| problems.push(problem));
    // Otherwise it is said already why one is not there.
    if problems.is_empty() {
        problems = missing(&lists, in_force.into_iter().flat_map(Revocations::all), &cas);
    }
    problems.into_iter().for_each(keep);
    let lists = Revocations::new(lists);
    match in_force {
        Some(before) => lists.after(before),
        None => lists,
    }
}

fn read(
    paths: &[PathBuf],
    cas: impl Fn(&[CertificateDer<'static>]) -> Vec<CertificateDer<'static>>,
    in_force: Option<&Revocations>,
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

/// The lists in force that would go without a newer one, though their CA stays, or that have gone with their CA and
/// it comes back without them: one of each name. What is judged
/// is the certificate by which a list was verified, and all others of that CA that are known.
fn missing<'a>(
    found: &[Crl],
    in_force: impl Iterator<Item = &'a Crl>,
    cas: impl Fn(&[CertificateDer<'static>]) -> Vec<CertificateDer<'static>>,
) -> Vec<LoadError> {
    let revocations = Revocations::new(found.to_vec());
    let is_believed = |list: &Crl| {
        let cas = cas(std::slice::from_ref(list.ca()));
        cas.iter().any(|ca| list.is_of(ca) && !revocations.revoke(ca, &cas))
    };
    let is_replaced = |list: &&Crl| found.iter().any(|newer| newer.replaces(list));
    let gone = in_force.filter(|list| !is_replaced(list) && is_believed(list));
    let by_issuer: BTreeMap<_, _> = gone.map(|list| (list.issuer(), list)).collect();
    let missing = |list: &Crl| LoadError::MissingCrl { issuer: list.issuer().to_owned(), list: shown(list) };
    by_issuer.into_values().map(missing).collect()
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
fn not_behind(list: Crl, in_force: Option<&Revocations>, path: &Path) -> Result<Crl, LoadError> {
    let is_known = |in_force: &&Revocations| in_force.all().any(|other| other.digest() == list.digest());
    let Some(in_force) = in_force.filter(|in_force| !is_known(in_force)) else { return Ok(list) };
    let (path, issuer) = (path.to_owned(), list.issuer().to_owned());
    if let Some(due) = list.next_update().filter(|due| *due < now()) {
        return Err(LoadError::StaleCrl { path, issuer, due });
    }
    match in_force.all().find(|other| list.is_older_than(other)) {
        Some(newer) => Err(LoadError::OlderCrl { path, issuer, list: shown(&list), in_force: shown(newer) }),
        None => Ok(list),
    }
}

/// Which of its CA's lists it is, for messages.
fn shown(list: &Crl) -> String {
    let made = super::error::moment(list.this_update());
    list.number().map_or_else(|| format!("of {made}"), |number| format!("number {number} of {made}"))
}

fn now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}
