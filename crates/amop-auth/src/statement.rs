//! What a subscriber signs in version 2: who proves to hold a key, to whom, for what, until when.
//!
//! A statement fits one exchange only. Relayed to the holder of the key by somebody else, it names
//! that somebody as the publisher; for another topic, another node, another session's nonce, or as
//! a proof of 2.x, it is another digest.

use std::sync::Arc;

use amop_protocol::{Fingerprint, NodeId, Topic};
use ring::digest::{Context, SHA256};

use crate::{PrivateKey, PublicKey, SIGNATURE_BYTES, content::SEALING_KEY_BYTES};

/// What the digest begins with, so that no signature for anything else is one of a statement.
const LABEL: &[u8] = b"amop/private-topic/2/subscriber";
/// Bytes of a publisher's nonce.
pub const NONCE_BYTES: usize = 32;

/// A client as its node vouches for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// The institution of its node.
    pub institution: Arc<str>,
    /// Its node.
    pub node: NodeId,
    /// Its certificate.
    pub client: Fingerprint,
}

/// What is signed. Publisher and subscriber each put it together from what they know themselves;
/// it never travels.
#[derive(Clone, Debug)]
pub struct Statement {
    /// The private topic.
    pub topic: Topic,
    /// To whom it is proved.
    pub publisher: Party,
    /// Who proves it.
    pub subscriber: Party,
    /// The publisher's, new for every exchange.
    pub nonce: [u8; NONCE_BYTES],
    /// Until when the publisher takes it, in milliseconds since 1970 by the publisher's clock.
    pub expires: u64,
    /// Whom the content key is to be sealed to.
    pub sealing_key: [u8; SEALING_KEY_BYTES],
}

/// Proof that whoever signed a challenge or a statement holds the private half of a key. Only
/// verification makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proven(PublicKey);

impl Proven {
    /// The key.
    pub fn key(&self) -> PublicKey {
        self.0
    }

    /// The first of `keys` that verifies `signature`.
    pub(crate) fn find<'k>(
        digest: [u8; 32],
        signature: &[u8],
        keys: impl IntoIterator<Item = &'k PublicKey>,
    ) -> Option<Self> {
        let signature: &[u8; SIGNATURE_BYTES] = signature.try_into().ok()?;
        keys.into_iter().find(|key| key.verifies(digest, signature)).map(|key| Self(*key))
    }
}

impl Statement {
    /// The subscriber's signature.
    pub fn sign(&self, key: &PrivateKey) -> [u8; SIGNATURE_BYTES] {
        key.sign(self.digest())
    }

    /// Which of `keys` signed this statement, if any did. Costs one verification (some 60 µs) for
    /// each key until one fits. Whether it has expired is for the caller to see.
    pub fn verify<'k>(
        &self,
        signature: &[u8],
        keys: impl IntoIterator<Item = &'k PublicKey>,
    ) -> Option<Proven> {
        Proven::find(self.digest(), signature, keys)
    }

    /// SHA-256 over the label and every field behind its length.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        let mut field = |bytes: &[u8]| {
            context.update(&(bytes.len() as u32).to_be_bytes());
            context.update(bytes);
        };
        field(LABEL);
        field(self.topic.as_str().as_bytes());
        for party in [&self.publisher, &self.subscriber] {
            field(party.institution.as_bytes());
            field(party.node.as_bytes());
            field(party.client.as_bytes());
        }
        field(&self.nonce);
        field(&self.expires.to_be_bytes());
        field(&self.sealing_key);
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn party(institution: &str, n: u8) -> Party {
        Party {
            institution: institution.into(),
            node: NodeId::new([n; 32]),
            client: Fingerprint::new([n; 32]),
        }
    }

    #[test]
    fn a_statement_fits_one_exchange_only() {
        let key = PrivateKey::generate().unwrap();
        let (topic, other) = (Topic::parse("#!$TopicNeedVerify_a").unwrap(), Topic::parse("b").unwrap());
        let good = Statement {
            topic,
            publisher: party("bank-a", 1),
            subscriber: party("bank-b", 2),
            nonce: [3; 32],
            expires: 4,
            sealing_key: [5; 32],
        };
        let signature = good.sign(&key);
        assert_eq!(good.verify(&signature, &[key.public()]).map(|proven| proven.key()), Some(key.public()));

        let Statement { publisher, subscriber, .. } = good.clone();
        let others = [
            Statement { topic: other, ..good.clone() },
            Statement { publisher: party("bank-c", 1), ..good.clone() },
            Statement {
                publisher: Party { node: NodeId::new([9; 32]), ..publisher.clone() },
                ..good.clone()
            },
            Statement {
                subscriber: Party { client: Fingerprint::new([9; 32]), ..subscriber.clone() },
                ..good.clone()
            },
            Statement { publisher: subscriber, subscriber: publisher, ..good.clone() },
            Statement { nonce: [9; 32], ..good.clone() },
            Statement { expires: 9, ..good.clone() },
            Statement { sealing_key: [9; 32], ..good },
        ];
        for statement in others {
            assert_eq!(statement.verify(&signature, &[key.public()]), None, "{statement:?}");
        }
    }

    #[test]
    fn fields_do_not_run_into_each_other() {
        let topic = Topic::parse("t").unwrap();
        let statement = |institution| Statement {
            topic: topic.clone(),
            publisher: party(institution, b'b'),
            subscriber: party("", 0),
            nonce: [0; 32],
            expires: 0,
            sealing_key: [0; 32],
        };
        assert_ne!(statement("a").digest(), statement("ab").digest());
    }
}
