//! Certificates, keys, CAs and revocation lists as they are in files, put in force while a node runs.
//!
//! All or nothing: everything is read and verified before anything is put in force, and what cannot
//! be used leaves all as it was. That includes what would have revoked certificates believed again: a list may
//! go only for a newer one of its CA, or with that CA, and then what it revokes stays revoked. Files are compared by what is in them, so it does not matter how they
//! were changed; a change is looked at once it has held for two looks, and complained about a look
//! later, so that nobody reads a copy that is half written.

use std::{fmt, path::Path};

use amop_protocol::certificate::Description;
use ring::digest::{Context, SHA256};
use zeroize::Zeroizing;

use super::{
    client_tls::{ClientTls, Clients, Serving},
    credentials::Credentials,
    error::{LoadError, Paths},
    facts::{Fact, Of},
    fisco::FiscoPaths,
    pem,
};

/// Looks for which files must be the same before they are loaded.
const STEADY: u32 = 2;
/// Looks after which files that cannot be used are complained about.
const PATIENCE: u32 = 3;
/// Looks between attempts at files that cannot be used: time alone may cure some of them.
const AGAIN: u32 = 30;

/// Which files there are, and who is to have what is in them.
#[derive(Clone, Debug)]
pub struct Files {
    /// Those of the node.
    pub node: Paths,
    /// What each listener serves with.
    pub listeners: Vec<(Served, ClientTls)>,
}

/// What a listener serves with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Served {
    /// The node's own certificates, for these clients.
    Consortium(Clients),
    /// Those of a FISCO BCOS chain.
    Fisco(FiscoPaths),
}

/// Watches the files, and puts in force what has become of them.
#[derive(Debug)]
pub struct Store {
    credentials: Credentials,
    files: Files,
    in_force: Stamp,
    /// Files that are not in force: how they are, and for how many looks they have been so.
    changed: Option<(Stamp, u32)>,
}

/// What a reload has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Certificates and lists that are in force now, and were not.
    pub added: Vec<Fact>,
    /// Those that were in force, and are no more.
    pub removed: Vec<Fact>,
    /// Whether the node presents another chain.
    pub own_chain: bool,
}

/// Why nothing was changed.
#[derive(Debug)]
pub struct Refused {
    /// At least one problem, unless the files were being written.
    pub problems: Vec<LoadError>,
    /// The certificate that was offered as the node's own, where it can be read.
    pub offered: Option<Box<Description>>,
}

/// Tells what files hold from anything else that they may hold.
type Stamp = [u8; 32];

impl Changes {
    /// Whether nothing has changed.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && !self.own_chain
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.problems.is_empty() {
            return f.write_str("the files are being written; ask again once they are complete");
        }
        let problems: Vec<_> = self.problems.iter().map(ToString::to_string).collect();
        f.write_str(&problems.join("; "))
    }
}

impl std::error::Error for Refused {}

impl Store {
    /// Watches the files from which `credentials` and the listeners were loaded. They are loaded once more when
    /// they have held still: they may have changed since.
    pub fn new(credentials: Credentials, files: Files) -> Self {
        Self { credentials, files, in_force: Stamp::default(), changed: None }
    }

    /// Looks at the files; to be called about once a second. What holds still is loaded.
    ///
    /// # Errors
    /// When it cannot be used: once for each state of the files.
    pub fn look(&mut self) -> Result<Changes, Refused> {
        let found = stamp(&self.files);
        if found == self.in_force {
            self.changed = None;
            return Ok(Changes::default());
        }
        let looks = match self.changed {
            Some((stamp, looks)) if stamp == found => looks.saturating_add(1),
            _ => 1,
        };
        self.changed = Some((found, looks));
        if looks < STEADY || looks > PATIENCE && !looks.is_multiple_of(AGAIN) {
            return Ok(Changes::default());
        }
        match self.load() {
            Err(refused) if looks == PATIENCE && !refused.problems.is_empty() => Err(refused),
            loaded => Ok(loaded.unwrap_or_default()),
        }
    }

    /// Loads what is in the files, at once.
    ///
    /// # Errors
    /// When something in them cannot be used, or they were changed meanwhile; then nothing is changed.
    pub fn load(&mut self) -> Result<Changes, Refused> {
        let before = stamp(&self.files);
        let prepared = self.prepare();
        if stamp(&self.files) != before {
            return Err(Refused { problems: Vec::new(), offered: None });
        }
        let (renewal, listeners) = prepared.map_err(|problems| self.refused(problems))?;
        let (chain, facts) = (self.credentials.chain(), self.facts());
        self.credentials.adopt(renewal);
        for ((_, tls), serving) in self.files.listeners.iter().zip(listeners) {
            tls.replace(serving);
        }
        (self.in_force, self.changed) = (before, None);
        let now = self.facts();
        let removed: Vec<_> = facts.iter().filter(|fact| !now.contains(fact)).cloned().collect();
        warn_of_lists(&removed, &now);
        Ok(Changes {
            added: now.into_iter().filter(|fact| !facts.contains(fact)).collect(),
            removed,
            own_chain: self.credentials.chain() != chain,
        })
    }

    /// Loads what is in these files, at once; they are watched from then on.
    ///
    /// # Errors
    /// As [`Store::load`]; then it is the former files that are watched.
    pub fn load_from(&mut self, files: Files) -> Result<Changes, Refused> {
        let former = std::mem::replace(&mut self.files, files);
        let loaded = self.load();
        if loaded.is_err() {
            self.files = former;
        }
        loaded
    }

    /// The certificates and lists in force.
    pub fn facts(&self) -> Vec<Fact> {
        let mut facts = self.credentials.facts();
        facts.extend(self.files.listeners.iter().flat_map(|(_, tls)| tls.facts()));
        facts.sort();
        facts.dedup();
        facts
    }

    fn prepare(&self) -> Result<(super::Renewal, Vec<Serving>), Vec<LoadError>> {
        let mut problems = Vec::new();
        let mut keep = |of_files: Vec<LoadError>| problems.extend(of_files);
        let renewal = self.credentials.prepare(&self.files.node).map_err(&mut keep).ok();
        let own = &self.credentials.subject().institution;
        let mut listeners = Vec::new();
        for (served, tls) in &self.files.listeners {
            match served {
                Served::Consortium(clients) => {
                    listeners.extend(renewal.as_ref().map(|renewal| renewal.client_port(clients)));
                }
                Served::Fisco(paths) => {
                    let loaded = Serving::load_fisco(paths, own.clone(), Some(&tls.serving()));
                    listeners.extend(loaded.map_err(&mut keep));
                }
            }
        }
        match renewal {
            Some(renewal) if problems.is_empty() => Ok((renewal, listeners)),
            _ => Err(problems),
        }
    }

    fn refused(&self, problems: Vec<LoadError>) -> Refused {
        let chain = pem::certificates(&self.files.node.cert).ok();
        let offered = chain.and_then(|chain| Description::parse(chain.first()?).ok()).map(Box::new);
        Refused { problems, offered }
    }
}

/// Lists leave the files without a newer one only with their CA, which somebody must have meant.
fn warn_of_lists(removed: &[Fact], now: &[Fact]) {
    let is_list_of = |fact: &Fact, issuer: &str| fact.of == Of::RevocationList && fact.issuer == issuer;
    let lists = removed.iter().filter(|fact| fact.of == Of::RevocationList);
    for list in lists.filter(|list| !now.iter().any(|fact| is_list_of(fact, &list.issuer))) {
        tracing::warn!(
            issuer = list.issuer,
            "a revocation list is in no file any more, and its CA is not believed: until the node is started again, what it revokes stays revoked"
        );
    }
}

fn stamp(files: &Files) -> Stamp {
    let Paths { ca, cert, key, crl } = &files.node;
    let mut context = Context::new(&SHA256);
    [ca, cert, key].into_iter().chain(crl).for_each(|path| add(&mut context, path));
    let of_listeners = files.listeners.iter().filter_map(|(served, _)| match served {
        Served::Consortium(_) => None,
        Served::Fisco(paths) => Some(paths),
    });
    for FiscoPaths { ca, cert, key, crl, agencies, .. } in of_listeners {
        let agencies = agencies.iter().map(|agency| &agency.ca);
        [ca, cert, key].into_iter().chain(crl).chain(agencies).for_each(|path| add(&mut context, path));
    }
    let mut stamp = Stamp::default();
    stamp.copy_from_slice(context.finish().as_ref());
    stamp
}

fn add(context: &mut Context, path: &Path) {
    match pem::read(path).map(Zeroizing::new) {
        Ok(bytes) => {
            context.update(&(bytes.len() as u64).to_be_bytes());
            context.update(&bytes);
        }
        Err(error) => context.update(error.to_string().as_bytes()),
    }
}
