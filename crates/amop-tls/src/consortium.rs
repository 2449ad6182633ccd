//! Whom a consortium's members believe: the one rule for certificate chains.

use std::{cell::Cell, sync::Arc};

use amop_protocol::{
    NodeKey,
    certificate::{Description, Role, Subject},
};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use rustls::{
    DigitallySignedStruct, ProtocolVersion, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{
    ChainError, Profile, Revocations, Rule, chain_of_bounded_size, der, error, node_key, provider,
    revocation::is_issued_ca,
};

/// The consortium's roots, and the rule by which they vouch for nodes and clients.
///
/// A chain is genuine if its leaf was issued by an institution CA which a root issued, and all
/// three are valid now. Nothing deeper is accepted: a CA below an institution's could otherwise
/// name itself after another institution. A CA in `ca.crt` that is not a root (an institution's
/// own, listed so that clients may send their leaf alone) vouches for leaves only.
#[derive(Clone)]
pub struct Authority(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    /// What was configured, CAs all.
    given: Vec<CertificateDer<'static>>,
    /// CAs that chains may lead over though they do not bring them.
    behind: Vec<CertificateDer<'static>>,
    revocations: Revocations,
    anchors: Vec<TrustAnchor<'static>>,
    /// Encoded subjects of the anchors that issued themselves; only they vouch for other CAs.
    roots: Vec<Vec<u8>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Authority {
    /// An authority that believes what `roots` vouch for.
    ///
    /// # Errors
    /// With the position of the first certificate that cannot be a root, and why.
    pub fn new(roots: &[CertificateDer<'_>]) -> Result<Self, (usize, ChainError)> {
        let mut inner = Inner {
            given: roots.iter().map(|der| der.clone().into_owned()).collect(),
            behind: Vec::new(),
            revocations: Revocations::default(),
            anchors: Vec::new(),
            roots: Vec::new(),
            algorithms: provider::default().signature_verification_algorithms,
        };
        for (at, certificate) in roots.iter().enumerate() {
            let anchor = webpki::anchor_from_trusted_cert(certificate)
                .map_err(|error| (at, ChainError::Invalid(error)))?
                .to_owned();
            let description = Description::parse(certificate).map_err(|error| (at, error.into()))?;
            if description.is_self_issued {
                inner.roots.push(anchor.subject.to_vec());
            }
            inner.anchors.push(anchor);
        }
        Ok(Self(Arc::new(inner)))
    }

    /// The same, which knows these CAs too: a chain may lead over one of them to a root though it
    /// brings another certificate of that CA, or none. So the clients of an institution whose CA was
    /// certified anew, with the same key, need not have the new certificate at once.
    #[must_use]
    pub fn knowing(mut self, cas: &[CertificateDer<'_>]) -> Self {
        Arc::make_mut(&mut self.0).behind = cas.iter().map(|der| der.clone().into_owned()).collect();
        self
    }

    /// The same, which refuses what these lists revoke, leaves and CAs alike.
    #[must_use]
    pub fn revoking(mut self, revocations: Revocations) -> Self {
        Arc::make_mut(&mut self.0).revocations = revocations;
        self
    }

    /// The lists of what is revoked.
    pub fn revocations(&self) -> &Revocations {
        &self.0.revocations
    }

    /// The CAs that this authority knows, by configuration or because a root vouches for them now;
    /// those of `others` are among them for which one does.
    pub fn cas(&self, others: &[CertificateDer<'static>]) -> Vec<CertificateDer<'static>> {
        let now = unix(UnixTime::now());
        let Inner { given, behind, .. } = &*self.0;
        let vouched = |der: &&CertificateDer<'_>| given.iter().any(|root| is_issued_ca(der, root, now));
        given.iter().chain(behind.iter().chain(others).filter(vouched)).cloned().collect()
    }

    /// Verifies a chain, leaf first, now, for a holder of the given role.
    ///
    /// # Errors
    /// When the chain is not genuine, or its leaf is not of that role.
    pub fn verify_chain(&self, chain: &[CertificateDer<'_>], expected: Role) -> Result<Subject, ChainError> {
        self.verify_chain_at(chain, expected, UnixTime::now())
    }

    /// As [`Authority::verify_chain`], at a given moment.
    ///
    /// # Errors
    /// As [`Authority::verify_chain`].
    pub fn verify_chain_at(
        &self,
        chain: &[CertificateDer<'_>],
        expected: Role,
        now: UnixTime,
    ) -> Result<Subject, ChainError> {
        let (leaf, intermediates) = chain_of_bounded_size(chain)?;
        self.verify_path(leaf, intermediates, expected, now)?;
        let subject = Subject::parse(leaf)?;
        if subject.role != expected {
            return Err(ChainError::Role { expected, found: subject.role });
        }
        if expected == Role::Node {
            node_key(&subject)?;
        }
        Ok(subject)
    }

    /// Whether `signature` is that of the holder of `key` over `label` and `bytes`.
    pub fn verify(&self, key: &NodeKey, label: &str, bytes: &[u8], signature: &[u8]) -> bool {
        let mut point = [4; 65];
        point[1..].copy_from_slice(key.as_bytes());
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            .verify(&signed_message(label, bytes), signature)
            .is_ok()
    }

    fn verify_path(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        role: Role,
        now: UnixTime,
    ) -> Result<(), ChainError> {
        let usage = match role {
            Role::Node => webpki::KeyUsage::server_auth(),
            Role::Client => webpki::KeyUsage::client_auth(),
        };
        let end_entity = webpki::EndEntityCert::try_from(leaf).map_err(unusable)?;
        let brought_and_known = self.with_known(intermediates);
        let intermediates = brought_and_known.as_deref().unwrap_or(intermediates);
        let revoked = Cell::new(None);
        // Another path may lead over a certificate that is good.
        let check = |path: &webpki::VerifiedPath<'_>| {
            self.check_revoked(path).map_err(|cause| {
                revoked.set(Some(cause));
                webpki::Error::CertRevoked
            })
        };
        let path = end_entity.verify_for_usage(
            self.0.algorithms.all,
            &self.0.anchors,
            intermediates,
            now,
            usage,
            None,
            Some(&check),
        );
        match path {
            Err(webpki::Error::CertRevoked) if let Some(cause) = revoked.take() => Err(cause),
            Ok(path) if self.is_shallow(&path) => Ok(()),
            Ok(_) => Err(ChainError::TooDeep),
            Err(error) => Err(chain_error(error, leaf)),
        }
    }

    /// What came along and what is known beside it, where that is more.
    fn with_known<'a>(&'a self, brought: &'a [CertificateDer<'_>]) -> Option<Vec<CertificateDer<'a>>> {
        let mut new = self.0.behind.iter().filter(|known| !brought.contains(known)).peekable();
        new.peek()?;
        Some(brought.iter().chain(new).map(|der| CertificateDer::from(&der[..])).collect())
    }

    /// Refuses a path with a certificate that its issuer has revoked.
    fn check_revoked(&self, path: &webpki::VerifiedPath<'_>) -> Result<(), ChainError> {
        let revocations = &self.0.revocations;
        if revocations.all().next().is_none() {
            return Ok(());
        }
        let check = |whose, below: &webpki::Cert<'_>, key: &[u8]| {
            // Without its tag and length.
            let issuer = der::sequence(&[below.issuer()]);
            revocations.check(whose, &issuer, |known| key.ends_with(known), below.serial())
        };
        let (mut whose, mut below): (_, &webpki::Cert<'_>) = (error::LEAF, path.end_entity());
        for ca in path.intermediate_certificates() {
            check(whose, below, &ca.subject_public_key_info())?;
            (whose, below) = (error::ISSUER, ca);
        }
        check(whose, below, &path.anchor().subject_public_key_info)?;
        self.check_anchor(path.anchor())
    }

    /// Refuses an institution's CA that is listed beside the roots, and was revoked by its root.
    fn check_anchor(&self, anchor: &TrustAnchor<'_>) -> Result<(), ChainError> {
        if self.0.roots.iter().any(|subject| **subject == *anchor.subject) {
            return Ok(());
        }
        let known = self.0.given.iter().chain(&self.0.behind);
        let is_anchor = |der: &&CertificateDer<'_>| {
            X509Certificate::from_der(der).is_ok_and(|(_, ca)| {
                ca.subject().as_raw().ends_with(&anchor.subject)
                    && ca.public_key().raw.ends_with(&anchor.subject_public_key_info)
            })
        };
        known.filter(is_anchor).try_for_each(|der| self.0.revocations.check_ca(der))
    }

    fn is_shallow(&self, path: &webpki::VerifiedPath<'_>) -> bool {
        match path.intermediate_certificates().count() {
            0 => true,
            1 => self.0.roots.iter().any(|subject| **subject == *path.anchor().subject),
            _ => false,
        }
    }
}

/// The consortium's rule for holders of one role: what a [`crate::Verifier`] asks.
#[derive(Clone, Debug)]
pub struct Holder {
    authority: Authority,
    role: Role,
    institution: Option<Arc<str>>,
}

impl Holder {
    /// Nodes: of one institution only, if it is named.
    pub fn node(authority: &Authority, institution: Option<Arc<str>>) -> Self {
        Self { authority: authority.clone(), role: Role::Node, institution }
    }

    /// Clients: of one institution only, if it is named.
    pub fn client(authority: &Authority, institution: Option<Arc<str>>) -> Self {
        Self { authority: authority.clone(), role: Role::Client, institution }
    }
}

impl Rule for Holder {
    fn judge(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(), ChainError> {
        let found = self.authority.verify_chain_at(chain, self.role, now)?.institution;
        match &self.institution {
            Some(own) if *own != found => Err(ChainError::Institution { found, own: own.clone() }),
            _ => Ok(()),
        }
    }

    fn needed(&self) -> &'static str {
        self.role.as_str()
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.authority.0.algorithms.supported_schemes()
    }

    fn verify_signature(
        &self,
        version: ProtocolVersion,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.authority.0.algorithms;
        match version {
            ProtocolVersion::TLSv1_3 => verify_tls13_signature(message, leaf, signed, algorithms),
            _ => verify_tls12_signature(message, leaf, signed, algorithms),
        }
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("anchors", &self.0.anchors.len()).finish()
    }
}

/// What is signed when a node signs `bytes` for the purpose `label`: no signature made for one
/// purpose is good for another.
pub fn signed_message(label: &str, bytes: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(label.len() + 1 + bytes.len());
    message.extend_from_slice(label.as_bytes());
    message.push(0);
    message.extend_from_slice(bytes);
    message
}

fn chain_error(error: webpki::Error, leaf: &CertificateDer<'_>) -> ChainError {
    match error {
        webpki::Error::CertExpired { not_after, .. } => {
            let not_after = unix(not_after);
            let is_leaf = Description::parse(leaf).is_ok_and(|leaf| leaf.not_after == not_after);
            ChainError::Expired { whose: whose(is_leaf), not_after }
        }
        webpki::Error::CertNotValidYet { not_before, .. } => {
            let not_before = unix(not_before);
            let is_leaf = Description::parse(leaf).is_ok_and(|leaf| leaf.not_before == not_before);
            ChainError::NotValidYet { whose: whose(is_leaf), not_before }
        }
        error => match Description::parse(leaf) {
            Ok(leaf) => unbelieved(error, leaf),
            Err(error) => error.into(),
        },
    }
}

/// What is wrong with a chain that is not a matter of dates.
fn unbelieved(error: webpki::Error, leaf: Description) -> ChainError {
    match (error, leaf.key_kind) {
        // FISCO BCOS's, of which webpki may first meet something else.
        (_, found @ "secp256k1") | (webpki::Error::UnknownIssuer, found @ "RSA") => {
            ChainError::Profile { needed: Profile::Default, found }
        }
        (webpki::Error::UnknownIssuer, _) => ChainError::UnknownIssuer { issuer: leaf.issuer },
        (webpki::Error::InvalidSignatureForPublicKey, _) => ChainError::Signature { issuer: leaf.issuer },
        (error, _) => unusable(error),
    }
}

fn unix(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

fn whose(is_leaf: bool) -> &'static str {
    if is_leaf { error::LEAF } else { error::ISSUER }
}

fn unusable(error: webpki::Error) -> ChainError {
    match error {
        webpki::Error::CaUsedAsEndEntity => ChainError::IsCa,
        webpki::Error::UnsupportedCertVersion => ChainError::Version1,
        error => ChainError::Invalid(error),
    }
}
