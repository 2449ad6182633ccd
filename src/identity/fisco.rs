//! What a client port with FISCO BCOS certificates serves with, from its files.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use amop_tls::{
    ChainError, Verifier,
    fisco::{Authority, Ca, Issuer, KeyError, Kind, Purpose, certified_key},
    provider,
};
use rustls::{ServerConfig, sign::SingleCertAndKey};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use super::{
    client_tls::{ClientTls, Serving},
    crl,
    error::LoadError,
    pem,
    tls::refuse_resumption,
};

/// Where a listener's FISCO BCOS certificates and key are, and whose clients it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FiscoPaths {
    /// Which of the two kinds they are.
    pub kind: Kind,
    /// The CA, PEM: that of the agency (RSA) or of the chain (secp256k1).
    pub ca: PathBuf,
    /// The node's certificate, PEM, leaf first; with secp256k1 the agency's CA behind it.
    pub cert: PathBuf,
    /// The node's private key, PEM.
    pub key: PathBuf,
    /// What CAs have revoked, PEM.
    pub crl: Vec<PathBuf>,
    /// Whose clients may connect besides those of the node's own agency.
    pub agencies: Vec<Agency>,
}

/// Another institution whose clients may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agency {
    /// What its clients are said to belong to.
    pub institution: String,
    /// The CA that issues its clients' certificates, PEM; behind it, where that is needed, the
    /// CA of its chain.
    pub ca: PathBuf,
}

impl ClientTls {
    /// Loads and verifies what a listener with FISCO BCOS certificates serves with. The CA that
    /// issued the node's certificate stands for `own_institution`.
    ///
    /// # Errors
    /// With everything that is wrong, at least one problem.
    pub fn load_fisco(paths: &FiscoPaths, own_institution: Arc<str>) -> Result<Self, Vec<LoadError>> {
        Serving::load_fisco(paths, own_institution, None).map(Self::new)
    }
}

impl Serving {
    /// As [`ClientTls::load_fisco`]; beside what is in force `now`, no list that has expired.
    ///
    /// # Errors
    /// With everything that is wrong, at least one problem.
    pub fn load_fisco(
        paths: &FiscoPaths,
        own_institution: Arc<str>,
        now: Option<&Self>,
    ) -> Result<Self, Vec<LoadError>> {
        let mut problems = Vec::new();
        let mut keep = |problem: LoadError| problems.push(problem);
        let chains = cas(paths.kind, &paths.ca).map_err(&mut keep).ok();
        let chain = pem::certificates(&paths.cert).map_err(|e| keep(e.into())).ok();
        let key = pem::any_private_key(&paths.key).map_err(|e| keep(e.into())).ok();
        let mut issuers = Vec::new();
        if let (Some(chains), Some(chain)) = (&chains, &chain) {
            issuers.extend(own_issuer(chains, chain, paths, own_institution).map_err(&mut keep));
        }
        let pair = chain.as_ref().zip(key.as_ref()).and_then(|(chain, key)| {
            let pair = certified_key(paths.kind, presented(paths.kind, chain), key);
            let judged = chains.is_some();
            pair.map_err(|error| match error {
                KeyError::Certificate(_) if judged => {} // said already
                error => keep(of_pair(error, paths)),
            })
            .ok()
        });
        for agency in &paths.agencies {
            let chains = chains.as_deref().unwrap_or_default();
            match other_issuer(chains, agency, paths.kind) {
                Ok(issuer) if issuers.iter().any(|other: &Issuer| other.ca().is_same_ca(issuer.ca())) => {
                    keep(LoadError::SameAgency {
                        path: agency.ca.clone(),
                        institution: agency.institution.clone(),
                    });
                }
                Ok(issuer) => {
                    warn_if_expired(&issuer, agency);
                    issuers.push(issuer);
                }
                Err(problem) => keep(problem),
            }
        }
        let cas = certificates(&issuers);
        let in_force = now.and_then(Self::revocations);
        let revocations = crl::load(&paths.crl, |_| cas.clone(), in_force, &mut keep);
        match (chain, pair) {
            (Some(chain), Some(pair)) if problems.is_empty() => {
                let authority = Authority::new(paths.kind, Purpose::Clients, issuers);
                let authority = authority.revoking(revocations);
                let server = server(paths.kind, &authority, SingleCertAndKey::from(pair));
                server
                    .map(|server| Self::fisco(server, paths.kind, authority, &chain, &cas))
                    .map_err(|error| vec![error.into()])
            }
            _ => Err(problems),
        }
    }
}

/// The CAs that vouch for clients, and those above them.
fn certificates(issuers: &[Issuer]) -> Vec<CertificateDer<'static>> {
    let all = issuers.iter().flat_map(|issuer| std::iter::once(issuer.ca()).chain(issuer.above()));
    let mut certificates: Vec<CertificateDer<'static>> = Vec::new();
    for ca in all.map(Ca::certificate) {
        if !certificates.contains(ca) {
            certificates.push(ca.clone());
        }
    }
    certificates
}

/// Another institution's CA that has expired must not keep this node from starting.
fn warn_if_expired(issuer: &Issuer, agency: &Agency) {
    if issuer.ca().not_after() < OffsetDateTime::now_utc().unix_timestamp() {
        let (institution, ca) = (&agency.institution, agency.ca.display());
        tracing::warn!(institution, %ca, "this agency's CA has expired: its clients will be refused until the file is renewed");
    }
}

fn server(kind: Kind, authority: &Authority, pair: SingleCertAndKey) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider::fisco()))
        .with_protocol_versions(&kind.versions())?
        .with_client_cert_verifier(Verifier::logging(authority.clone()))
        .with_cert_resolver(Arc::new(pair));
    refuse_resumption(&mut config);
    Ok(config)
}

fn cas(kind: Kind, path: &Path) -> Result<Vec<Ca>, LoadError> {
    let read = |(at, der): (usize, &CertificateDer<'_>)| {
        Ca::parse(kind, der).map_err(|source| LoadError::Root {
            path: path.to_owned(),
            position: at + 1,
            source,
        })
    };
    pem::certificates(path)?.iter().enumerate().map(read).collect()
}

/// Leaf and agency. Who verifies has the CA above; sending it would only cost bytes.
fn presented(kind: Kind, chain: &[CertificateDer<'static>]) -> Vec<CertificateDer<'static>> {
    let is_root = |der: &CertificateDer<'_>| Ca::parse(kind, der).is_ok_and(|ca| ca.is_self_issued());
    let leaf_or_agency = chain.iter().enumerate().filter(|(at, der)| *at == 0 || !is_root(der));
    leaf_or_agency.map(|(_, der)| der.clone()).collect()
}

/// The CA that issued the node's own certificate, which must be good itself.
fn own_issuer(
    chains: &[Ca],
    chain: &[CertificateDer<'_>],
    paths: &FiscoPaths,
    institution: Arc<str>,
) -> Result<Issuer, LoadError> {
    let unusable = |source| LoadError::Certificate { path: paths.cert.clone(), source };
    let (leaf, behind) = chain.split_first().ok_or(ChainError::Missing).map_err(unusable)?;
    let mut behind = behind.iter().filter_map(|der| Ca::parse(paths.kind, der).ok());
    // Of a CA that was renewed both certificates may be there.
    let found = chains.iter().filter(|ca| ca.issued(leaf)).max_by_key(|ca| ca.not_after()).cloned();
    let found = found.or_else(|| behind.find(|ca| ca.issued(leaf)));
    let issuer = match found {
        Some(ca) if !ca.is_self_issued() || chains.contains(&ca) => {
            Some(Issuer::agency(ca, chains, Some(institution)).map_err(unusable)?)
        }
        // Beside `ca`, nobody vouches for a CA that vouches for itself.
        _ => None,
    };
    let authority = Authority::new(paths.kind, Purpose::Nodes, issuer.clone().into_iter().collect());
    authority.verify_chain(&chain[..1]).map_err(unusable)?;
    issuer.ok_or(ChainError::Missing).map_err(unusable)
}

/// The CA of another institution.
fn other_issuer(chains: &[Ca], agency: &Agency, kind: Kind) -> Result<Issuer, LoadError> {
    let mut found = cas(kind, &agency.ca)?.into_iter();
    let root = |source| LoadError::Root { path: agency.ca.clone(), position: 1, source };
    let ca = found.next().ok_or(ChainError::Missing).map_err(root)?;
    let chains: Vec<Ca> = chains.iter().cloned().chain(found.filter(Ca::is_self_issued)).collect();
    Issuer::agency(ca, &chains, Some(agency.institution.as_str().into())).map_err(root)
}

fn of_pair(error: KeyError, paths: &FiscoPaths) -> LoadError {
    match error {
        KeyError::Certificate(source) => LoadError::Certificate { path: paths.cert.clone(), source },
        KeyError::Mismatch => LoadError::Mismatch { key: paths.key.clone(), cert: paths.cert.clone() },
        source => LoadError::FiscoKey { path: paths.key.clone(), source },
    }
}
