//! The node's key and the consortium's certificates, as gossip needs them.

use amop_protocol::{
    NodeKey,
    broker::announce::{Authenticator, NodeInfo},
    certificate::{Description, Role, Subject},
};
use bytes::Bytes;
use rustls_pki_types::CertificateDer;

use crate::identity::{Credentials, Throttle, while_valid};

/// What signatures on records are for; part of what is signed.
const RECORD: &str = "amop/record/1";

/// Signs this node's records, and checks those of others against the consortium.
pub(super) struct Trust {
    credentials: Credentials,
    /// Lines in the log about chains that are refused.
    refusals: Throttle,
}

impl Trust {
    pub(super) fn new(credentials: Credentials) -> Self {
        Self { credentials, refusals: Throttle::default() }
    }
}

impl Authenticator for Trust {
    fn sign(&self, body: &[u8]) -> Bytes {
        self.credentials.sign(RECORD, body).into()
    }

    fn verify_chain(&self, chain: &[Bytes]) -> Option<NodeInfo> {
        let chain: Vec<_> = chain.iter().map(|der| CertificateDer::from(&der[..])).collect();
        match self.credentials.authority().verify_chain(&chain, Role::Node) {
            Ok(subject) => info(&subject),
            Err(error) => {
                self.refusals.line(|| {
                    tracing::warn!(%error, "the certificate chain of an announced node is refused");
                });
                None
            }
        }
    }

    fn still_believes(&self, chain: &[Bytes]) -> bool {
        let chain: Vec<_> = chain.iter().map(|der| CertificateDer::from(&der[..])).collect();
        let judged = self.credentials.authority().verify_chain_at(&chain, Role::Node, while_valid(&chain));
        judged
            .inspect_err(|cause| {
                let leaf = chain.first().and_then(|leaf| Description::parse(leaf).ok());
                let Some(Description { subject, serial, issuer, .. }) = leaf else { return };
                tracing::warn!(subject, serial, issuer, %cause, "a node's certificate is no longer believed; what it announced is forgotten");
            })
            .is_ok()
    }

    fn verify(&self, key: &NodeKey, body: &[u8], signature: &[u8]) -> bool {
        self.credentials.authority().verify(key, RECORD, body, signature)
    }
}

/// What gossip needs to know of a node's certificate.
pub(super) fn info(subject: &Subject) -> Option<NodeInfo> {
    Some(NodeInfo { key: subject.key?, name: subject.name.clone(), institution: subject.institution.clone() })
}
