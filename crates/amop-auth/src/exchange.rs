//! The handshake of version 2, as its two ends see it: offer, proof, grant.
//!
//! ```text
//! publisher                          subscriber
//! Offered::new       ── offer ──▶    Proving::answer
//! Offered::verify    ◀── proof ──
//! Trusted::grant     ── grant ──▶    Proving::open
//!                    ◀─ granted ─
//! ```
//!
//! Each step is the payload of a message over the subscriber's verify channel, or of its answer.
//! **Invariant**: a [`Trusted`] is made from a proof that answers the offer, and from nothing else.

use std::collections::BTreeSet;

use amop_protocol::{
    Fingerprint, NodeId, Topic,
    broker::wishes::MAX_INSTITUTION,
    wire::generated::{self as pb, private_step::Step as Body},
};
use bytes::Bytes;
use prost::Message as _;
use ring::rand::{SecureRandom, SystemRandom};

use crate::{
    NONCE_BYTES, Party, PrivateKey, Proven, PublicKey, Statement,
    content::{AnswerKey, ContentError, ContentKey, Opener, SEALING_KEY_BYTES, SealingKey},
};

/// What each step begins with, so that none is taken for a challenge, a transaction or a message.
const LABEL: &[u8] = b"amop/private/2\n";
/// Grants in one exchange; with one an hour, for six weeks.
const MAX_GRANTS: usize = 1_024;

/// One step, as it travels.
#[derive(Clone, Debug, PartialEq)]
pub struct Step(Body);

/// Why a step is not gone along with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// It is no step of version 2.
    #[error("the other side does not speak version 2 of the handshake")]
    NotVersion2,
    /// A step that makes no sense here, or is cut off.
    #[error("the step is malformed, or not the one that follows")]
    Unexpected,
    /// The proof is for another publisher: somebody passed an offer on.
    #[error("the proof is for another publisher; somebody passed the offer on")]
    OtherPublisher,
    /// It came too late.
    #[error("the offer has expired")]
    Expired,
    /// No key that the publisher trusts made the signature.
    #[error("no key that is trusted made the signature")]
    Untrusted,
    /// The grant cannot be opened, or the system gives no randomness.
    #[error(transparent)]
    Content(#[from] ContentError),
}

/// An offer that a publisher has made.
#[derive(Clone, Debug)]
pub struct Offered {
    topic: Topic,
    publisher: Fingerprint,
    node: Option<NodeId>,
    nonce: [u8; NONCE_BYTES],
    expires: u64,
}

/// A subscriber that has proved to hold a key.
#[derive(Clone, Debug)]
pub struct Trusted {
    statement: Statement,
    proven: Proven,
}

/// A subscriber's end of an exchange; kept for the grants to come.
pub struct Proving {
    statement: Statement,
    sealing: SealingKey,
    /// Grants that were taken, by their encapsulated key: none is taken again.
    taken: BTreeSet<Bytes>,
}

impl Step {
    /// Reads a payload.
    ///
    /// # Errors
    /// When it is no step.
    pub fn decode(payload: &Bytes) -> Result<Self, StepError> {
        let body = payload.strip_prefix(LABEL).ok_or(StepError::NotVersion2)?;
        let step = pb::PrivateStep::decode(payload.slice_ref(body)).map_err(|_| StepError::Unexpected)?;
        step.step.map(Self).ok_or(StepError::Unexpected)
    }

    /// The answer to a grant that was taken.
    pub fn granted() -> Bytes {
        encode(Body::Granted(pb::PrivateGranted {}))
    }

    /// Whether a grant was taken, says this payload.
    pub fn is_granted(payload: &Bytes) -> bool {
        matches!(Self::decode(payload), Ok(Self(Body::Granted(_))))
    }

    /// Whether it is an offer: what begins an exchange.
    pub fn is_offer(&self) -> bool {
        matches!(self.0, Body::Offer(_))
    }
}

fn encode(step: Body) -> Bytes {
    let step = pb::PrivateStep { step: Some(step) };
    let mut payload = Vec::with_capacity(LABEL.len() + step.encoded_len());
    payload.extend_from_slice(LABEL);
    // A vector grows as needed.
    let _ = step.encode(&mut payload);
    payload.into()
}

impl Offered {
    /// A new offer for a topic. `publisher` is whom nodes will name as the sender, `node` its node
    /// if it knows; `expires` is in milliseconds since 1970.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn new(
        topic: Topic,
        publisher: Fingerprint,
        node: Option<NodeId>,
        expires: u64,
    ) -> Result<Self, StepError> {
        let mut nonce = [0; NONCE_BYTES];
        SystemRandom::new().fill(&mut nonce).map_err(|_| ContentError::NoRandomness)?;
        Ok(Self { topic, publisher, node, nonce, expires })
    }

    /// What to send to the subscriber.
    pub fn to_payload(&self) -> Bytes {
        let nonce = Bytes::copy_from_slice(&self.nonce);
        encode(Body::Offer(pb::PrivateOffer { nonce, expires_ms: self.expires }))
    }

    /// Checks the subscriber's answer, at `now` (milliseconds since 1970). Costs one verification
    /// (some 60 µs) for each of `keys` until one fits.
    ///
    /// # Errors
    /// When it is no proof of version 2, or proves nothing to this publisher.
    pub fn verify<'k>(
        &self,
        now: u64,
        answer: &Bytes,
        keys: impl IntoIterator<Item = &'k PublicKey>,
    ) -> Result<Trusted, StepError> {
        let Step(Body::Proof(proof)) = Step::decode(answer)? else { return Err(StepError::Unexpected) };
        let publisher = read_party(proof.publisher)?;
        if publisher.client != self.publisher || self.node.is_some_and(|node| node != publisher.node) {
            return Err(StepError::OtherPublisher);
        }
        if now > self.expires {
            return Err(StepError::Expired);
        }
        let statement = Statement {
            topic: self.topic.clone(),
            publisher,
            subscriber: read_party(proof.subscriber)?,
            nonce: self.nonce,
            expires: self.expires,
            sealing_key: proof.sealing_key[..].try_into().map_err(|_| StepError::Unexpected)?,
        };
        let proven = statement.verify(&proof.signature, keys).ok_or(StepError::Untrusted)?;
        Ok(Trusted { statement, proven })
    }
}

impl Trusted {
    /// The key that was proved to be held.
    pub fn key(&self) -> PublicKey {
        self.proven.key()
    }

    /// Who the subscriber says it is, under its signature.
    pub fn subscriber(&self) -> &Party {
        &self.statement.subscriber
    }

    /// What gives the subscriber a content key, and what will open its answers.
    ///
    /// # Errors
    /// When the subscriber's sealing key is none, or there is no randomness.
    pub fn grant(&self, key: &ContentKey) -> Result<(Bytes, AnswerKey), StepError> {
        let (sealed, answers) = key.seal_to(&self.statement, &self.proven)?;
        let nonce = Bytes::copy_from_slice(&self.statement.nonce);
        Ok((encode(Body::Grant(pb::PrivateGrant { nonce, sealed: sealed.into() })), answers))
    }
}

impl Proving {
    /// Proves to hold `key`: the subscriber's end of the exchange, and what to answer to the offer.
    ///
    /// # Errors
    /// When the step is no offer, or there is no randomness.
    pub fn answer(
        offer: &Step,
        topic: Topic,
        publisher: Party,
        subscriber: Party,
        key: &PrivateKey,
    ) -> Result<(Self, Bytes), StepError> {
        let Step(Body::Offer(offer)) = offer else { return Err(StepError::Unexpected) };
        let nonce = offer.nonce[..].try_into().map_err(|_| StepError::Unexpected)?;
        let sealing = SealingKey::generate()?;
        let expires = offer.expires_ms;
        let statement =
            Statement { topic, publisher, subscriber, nonce, expires, sealing_key: *sealing.public() };
        let proof = pb::PrivateProof {
            publisher: Some(write_party(&statement.publisher)),
            subscriber: Some(write_party(&statement.subscriber)),
            sealing_key: Bytes::copy_from_slice(&statement.sealing_key),
            signature: Bytes::copy_from_slice(&statement.sign(key)),
        };
        Ok((Self { statement, sealing, taken: BTreeSet::new() }, encode(Body::Proof(proof))))
    }

    /// Whose grants this waits for.
    pub fn publisher(&self) -> &Party {
        &self.statement.publisher
    }

    /// Whether a step is a grant in this exchange.
    pub fn is_for(&self, step: &Step) -> bool {
        matches!(&step.0, Body::Grant(grant) if grant.nonce[..] == self.statement.nonce)
    }

    /// Whether a content key was taken.
    pub fn was_granted(&self) -> bool {
        !self.taken.is_empty()
    }

    /// Takes a content key. The same grant is not taken twice, so that what was opened stays opened.
    ///
    /// # Errors
    /// When the step is no grant to this subscriber in this exchange, or was taken before.
    pub fn open(&mut self, step: &Step) -> Result<Opener, StepError> {
        let Body::Grant(grant) = &step.0 else { return Err(StepError::Unexpected) };
        let key = grant.sealed.get(..SEALING_KEY_BYTES).map(|_| grant.sealed.slice(..SEALING_KEY_BYTES));
        let key = key.ok_or(ContentError::Malformed)?;
        if !self.is_for(step) || self.taken.contains(&key) || self.taken.len() >= MAX_GRANTS {
            return Err(StepError::Unexpected);
        }
        let opener = self.sealing.open(&grant.sealed, &self.statement)?;
        // Not a part of the whole frame, which would be kept with it.
        self.taken.insert(Bytes::copy_from_slice(&key));
        Ok(opener)
    }
}

fn write_party(party: &Party) -> pb::PrivateParty {
    pb::PrivateParty {
        institution: party.institution.to_string(),
        node: Bytes::copy_from_slice(party.node.as_bytes()),
        client: Bytes::copy_from_slice(party.client.as_bytes()),
    }
}

fn read_party(party: Option<pb::PrivateParty>) -> Result<Party, StepError> {
    let party = party.filter(|party| party.institution.len() <= MAX_INSTITUTION);
    let party = party.ok_or(StepError::Unexpected)?;
    let client = party.client[..].try_into().map_err(|_| StepError::Unexpected)?;
    let node = NodeId::from_slice(&party.node).ok_or(StepError::Unexpected)?;
    Ok(Party { institution: party.institution.into(), node, client: Fingerprint::new(client) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Scope;

    fn party(n: u8) -> Party {
        Party { institution: "bank".into(), node: NodeId::new([n; 32]), client: Fingerprint::new([n; 32]) }
    }

    fn offered() -> Offered {
        let Party { node, client, .. } = party(1);
        let topic = Topic::parse("#!$TopicNeedVerify_a").unwrap();
        Offered::new(topic, client, Some(node), 1_000).unwrap()
    }

    fn answer(offered: &Offered, sender: Party, key: &PrivateKey) -> (Proving, Bytes) {
        let step = Step::decode(&offered.to_payload()).unwrap();
        assert!(step.is_offer());
        Proving::answer(&step, offered.topic.clone(), sender, party(2), key).unwrap()
    }

    #[test]
    fn offer_proof_grant() {
        let (key, offered) = (PrivateKey::generate().unwrap(), offered());
        let (mut proving, proof) = answer(&offered, party(1), &key);
        let trusted = offered.verify(1_000, &proof, &[key.public()]).unwrap();
        assert_eq!((trusted.key(), trusted.subscriber()), (key.public(), &party(2)));
        let content = ContentKey::generate().unwrap();
        let (grant, answers) = trusted.grant(&content).unwrap();
        let grant = Step::decode(&grant).unwrap();
        let mut opener = proving.open(&grant).unwrap();
        assert_eq!(proving.open(&grant).err(), Some(StepError::Unexpected), "a second time");
        let scope = Scope { topic: "t", unicast: true, publisher: party(1).client };
        let message = content.seal(b"quote", scope).unwrap();
        let (payload, reply) = opener.open(&message, scope).unwrap();
        assert_eq!(payload, b"quote");
        let answer = reply.seal(b"done");
        assert_eq!(answers.open(&answer, &message, &content).unwrap(), b"done");
        assert!(Step::is_granted(&Step::granted()) && !Step::is_granted(&encode(grant.0)));
    }

    #[test]
    fn a_proof_for_somebody_else_proves_nothing() {
        let (key, offered) = (PrivateKey::generate().unwrap(), offered());
        let verify = |now, proof: &Bytes| offered.verify(now, proof, &[key.public()]).map(|_| ());
        let (_, passed_on) = answer(&offered, party(3), &key);
        assert_eq!(verify(0, &passed_on), Err(StepError::OtherPublisher));
        let elsewhere = Party { node: NodeId::new([9; 32]), ..party(1) };
        assert_eq!(verify(0, &answer(&offered, elsewhere, &key).1), Err(StepError::OtherPublisher));
        let (_, good) = answer(&offered, party(1), &key);
        assert_eq!(verify(1_001, &good), Err(StepError::Expired));
        let stranger = PrivateKey::generate().unwrap();
        assert_eq!(verify(0, &answer(&offered, party(1), &stranger).1), Err(StepError::Untrusted));
        let other = Offered { nonce: [7; 32], ..offered.clone() };
        assert_eq!(verify(0, &answer(&other, party(1), &key).1), Err(StepError::Untrusted), "another offer");
        let mut named = Step::decode(&answer(&offered, party(3), &key).1).unwrap();
        let Body::Proof(proof) = &mut named.0 else { unreachable!() };
        proof.publisher = Some(write_party(&party(1)));
        assert_eq!(verify(0, &encode(named.0)), Err(StepError::Untrusted), "the signature names the other");
        assert_eq!(verify(0, &good), Ok(()));
    }

    #[test]
    fn other_payloads_are_no_steps() {
        let offered = offered();
        for payload in [&b""[..], &[0; 65], b"0123456789abcdef0123456789abcdef"] {
            let error = offered.verify(0, &Bytes::from_static(payload), &[]).err();
            assert_eq!(error, Some(StepError::NotVersion2));
        }
        assert_eq!(offered.verify(0, &offered.to_payload(), &[]).err(), Some(StepError::Unexpected));
        for cut in 1..offered.to_payload().len() {
            let _ = offered.verify(0, &offered.to_payload().slice(..cut), &[]).unwrap_err();
        }
    }

    #[test]
    fn a_grant_of_another_exchange_is_not_taken() {
        let key = PrivateKey::generate().unwrap();
        let (one, other) = (offered(), offered());
        let ((first, proof), (mut second, _)) =
            (answer(&one, party(1), &key), answer(&other, party(1), &key));
        let trusted = one.verify(0, &proof, &[key.public()]).unwrap();
        let (grant, _) = trusted.grant(&ContentKey::generate().unwrap()).unwrap();
        let grant = Step::decode(&grant).unwrap();
        assert!(first.is_for(&grant) && !second.is_for(&grant));
        assert_eq!(second.open(&grant).err(), Some(StepError::Unexpected));
    }
}
