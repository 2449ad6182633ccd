//! Authenticity across relays: MACs between nodes that are not neighbours.
//!
//! Every node announces an X25519 key, signed with its identity and new at every start. Two nodes
//! derive from theirs one key for each direction; what one sends the other over relays carries a
//! MAC under it, over all of the header but the route, and the payload. So a relay can drop, delay
//! and repeat, and nothing else. Between neighbours the link itself is authentic.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use x25519_dalek::{PublicKey, StaticSecret};

use super::routing::Routing;
use crate::{
    NodeId,
    wire::{
        link::LinkFrame,
        peer::{self, DataError, DataMessage, Mac, Route},
    },
};

/// Names what the keys are for; nothing else derives the same.
const CONTEXT: &str = "amop/1 2026-11 MAC over a data message, node to node";

/// This node's X25519 key.
#[derive(Clone)]
pub struct MacSecret(StaticSecret);

/// What two nodes share. Clones are the same.
#[derive(Clone)]
pub struct Seal(Arc<Pair>);

struct Pair {
    ours: MacSecret,
    me: NodeId,
    theirs: PublicKey,
    other: NodeId,
    /// Made when they are first needed: most nodes never send each other anything.
    keys: OnceLock<Option<Keys>>,
}

struct Keys {
    sealing: [u8; 32],
    opening: [u8; 32],
}

/// Why a data frame that came to its destination is not heard.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unheard {
    /// It does not decode.
    #[error(transparent)]
    Malformed(#[from] DataError),
    /// It claims to come from this very node.
    #[error("it claims to come from this node")]
    Own,
    /// Its origin is not known here, or not any longer.
    #[error("its origin {0} is not known")]
    Unknown(NodeId),
    /// It came over a relay, and its MAC is not its origin's. Just after a start of either node that
    /// may only mean that one of them has not heard of it.
    #[error("its MAC is not that of its origin {0}; a relay may have changed it or made it up")]
    Forged(NodeId),
}

impl MacSecret {
    /// A key of 32 random bytes.
    pub fn new(random: [u8; 32]) -> Self {
        Self(StaticSecret::from(random))
    }

    /// What others are told: 32 bytes.
    pub fn public(&self) -> [u8; 32] {
        PublicKey::from(&self.0).to_bytes()
    }

    /// Another secret of this start, for another purpose.
    pub(super) fn derive(&self, purpose: &str) -> [u8; 32] {
        blake3::derive_key(purpose, self.0.as_bytes())
    }

    /// What node `me` shares with `other`, whose public key is `theirs`; `None` if that is no key.
    pub fn share(&self, me: &NodeId, other: &NodeId, theirs: &[u8]) -> Option<Seal> {
        let theirs: [u8; 32] = theirs.try_into().ok()?;
        Some(Seal(Arc::new(Pair {
            ours: self.clone(),
            me: *me,
            theirs: PublicKey::from(theirs),
            other: *other,
            keys: OnceLock::new(),
        })))
    }
}

impl Seal {
    /// The keys; none if theirs would make them known to everybody.
    fn keys(&self) -> Option<&Keys> {
        self.0.keys.get_or_init(|| self.0.derive()).as_ref()
    }
}

impl Pair {
    fn derive(&self) -> Option<Keys> {
        let shared = self.ours.0.diffie_hellman(&self.theirs);
        if !shared.was_contributory() {
            return None;
        }
        let key = |from: (&NodeId, &[u8; 32]), to: (&NodeId, &[u8; 32])| {
            let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
            for part in [shared.as_bytes(), from.0.as_bytes(), from.1, to.0.as_bytes(), to.1] {
                hasher.update(part);
            }
            *hasher.finalize().as_bytes()
        };
        let ours = self.ours.public();
        let (me, other) = ((&self.me, &ours), (&self.other, self.theirs.as_bytes()));
        Some(Keys { sealing: key(me, other), opening: key(other, me) })
    }
}

/// The frame of a message of this node's own that goes to the neighbour `to`, with a MAC for each of its
/// destinations that it reaches over others.
pub(crate) fn seal(
    routing: &Routing,
    to: NodeId,
    message: &DataMessage,
    route: &Route,
    flow: u32,
    payload: Bytes,
) -> LinkFrame {
    let mut digest = None;
    peer::encode_sealed(message, route, flow, payload, |node, header, payload| {
        let seal = routing.find(node).filter(|_| *node != to)?.seal.as_ref()?;
        let digest = digest.get_or_insert_with(|| blake3::hash(payload));
        Some(mac(&seal.keys()?.sealing, header, digest))
    })
}

/// Reads a data frame that the neighbour `from` brought to this node, if it is from whom it says.
///
/// # Errors
/// When it is not, or does not decode.
pub fn open(routing: &Routing, from: NodeId, frame: &LinkFrame) -> Result<DataMessage, Unheard> {
    let message = peer::decode(&frame.header)?;
    let origin = message.origin;
    if origin == routing.me() {
        return Err(Unheard::Own);
    }
    if origin == from {
        return Ok(message);
    }
    let node = routing.find(&origin).ok_or(Unheard::Unknown(origin))?;
    let Some(seal) = &node.seal else { return Ok(message) };
    let found = peer::mac_for(&frame.header, &routing.me())?;
    let (Some(found), Some(keys)) = (found, seal.keys()) else { return Err(Unheard::Forged(origin)) };
    let expected = mac(&keys.opening, &frame.header, &blake3::hash(&frame.payload));
    match constant_time_eq::constant_time_eq_16(&found, &expected) {
        true => Ok(message),
        false => Err(Unheard::Forged(origin)),
    }
}

fn mac(key: &[u8; 32], header: &[u8], payload: &blake3::Hash) -> Mac {
    let mut hasher = blake3::Hasher::new_keyed(key);
    for field in peer::authenticated(header) {
        hasher.update(field);
    }
    hasher.update(payload.as_bytes());
    let mut mac = Mac::default();
    hasher.finalize_xof().fill(&mut mac);
    mac
}

/// Secrets are never shown.
impl fmt::Debug for MacSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacSecret")
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal")
    }
}

impl PartialEq for Seal {
    /// Whether both are the same, not whether they hold the same keys.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Seal {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        broker::testing::{id, routing},
        wire::peer::{Body, SendRef},
    };

    /// A line of four nodes.
    const LINE: [(u8, u8); 3] = [(1, 2), (2, 3), (3, 4)];

    fn secret(n: u8) -> MacSecret {
        MacSecret::new([n; 32])
    }

    /// What node `me` knows, with the keys it shares with all others.
    fn known_to(me: u8) -> Routing {
        let mut routing = routing(me, &LINE, &[], &[]);
        let seals: BTreeMap<NodeId, Seal> = (1..=4)
            .filter(|n| *n != me)
            .map(|n| (id(n), secret(me).share(&id(me), &id(n), &secret(n).public()).expect("a key")))
            .collect();
        for node in Arc::make_mut(&mut routing.nodes).iter_mut().flatten() {
            node.seal = seals.get(&node.id).cloned();
        }
        routing
    }

    const PAYLOAD: Bytes = Bytes::from_static(b"payload");

    fn message(from: u8, destinations: &[u8]) -> (DataMessage, Route) {
        let body = Body::Handed { send: SendRef { epoch: 1, id: 2 }, number: 3 };
        let destinations = destinations.iter().map(|n| id(*n)).collect();
        let route = Route { destinations, path: vec![] };
        (DataMessage { origin: id(from), origin_epoch: 1, body }, route)
    }

    fn frame(from: u8, destinations: &[u8]) -> LinkFrame {
        let (message, route) = message(from, destinations);
        peer::encode(&message, &route, 0, PAYLOAD)
    }

    fn sealed(from: u8, over: u8, destinations: &[u8]) -> LinkFrame {
        sealed_by(from, from, over, destinations)
    }

    /// With the keys of `owner`.
    fn sealed_by(owner: u8, from: u8, over: u8, destinations: &[u8]) -> LinkFrame {
        let (message, route) = message(from, destinations);
        seal(&known_to(owner), id(over), &message, &route, 0, PAYLOAD)
    }

    fn opened(me: u8, from: u8, frame: &LinkFrame) -> Result<NodeId, Unheard> {
        open(&known_to(me), id(from), frame).map(|message| message.origin)
    }

    #[test]
    fn each_destination_behind_a_relay_can_tell_who_sent_a_frame() {
        let sealed = sealed(1, 2, &[2, 3, 4]);
        for (me, from) in [(2, 1), (3, 2), (4, 3)] {
            assert_eq!(opened(me, from, &sealed), Ok(id(1)));
        }
        let onwards =
            peer::reroute(&sealed.header, &Route { destinations: [id(4)][..].into(), path: vec![] });
        assert_eq!(opened(4, 3, &LinkFrame { header: onwards.unwrap(), ..sealed }), Ok(id(1)), "split");
    }

    #[test]
    fn between_neighbours_there_is_none() {
        let plain = frame(1, &[2]);
        assert_eq!(sealed(1, 2, &[2]), plain);
        assert_eq!(opened(2, 1, &plain), Ok(id(1)));
        // By a detour the same message needs one.
        assert_eq!(opened(2, 3, &plain), Err(Unheard::Forged(id(1))));
        assert_eq!(opened(2, 3, &sealed(1, 4, &[2])), Ok(id(1)));
    }

    #[test]
    fn whatever_a_relay_changes_but_the_route_is_noticed() {
        let sealed = sealed(1, 2, &[4]);
        let forged = |frame: &LinkFrame| opened(4, 3, frame) == Err(Unheard::Forged(id(1)));
        for at in 0..sealed.header.len() {
            for flip in [1, 0x80, 0xff] {
                let mut header = sealed.header.to_vec();
                header[at] ^= flip;
                let changed = LinkFrame { header: header.into(), ..sealed.clone() };
                match opened(4, 3, &changed) {
                    Err(_) => {}
                    // Only where the frame goes is the relays' affair.
                    Ok(origin) => {
                        let route = |frame: &LinkFrame| peer::decode_route(&frame.header);
                        assert_eq!(origin, id(1));
                        assert_ne!(route(&changed), route(&sealed), "byte {at}");
                    }
                }
            }
        }
        assert!(forged(&LinkFrame { payload: Bytes::from_static(b"Payload"), ..sealed.clone() }));
        assert!(forged(&LinkFrame { payload: Bytes::new(), ..sealed }));
        assert!(forged(&frame(1, &[4])), "made up");
    }

    #[test]
    fn what_was_for_another_node_or_way_round_is_no_good() {
        let to_3 = sealed(1, 2, &[3]);
        assert_eq!(opened(4, 3, &to_3), Err(Unheard::Forged(id(1))));
        let back = sealed(4, 3, &[1]);
        let claimed = peer::decode(&back.header).map(|message| message.origin);
        assert_eq!(claimed, Ok(id(4)));
        assert_eq!(opened(1, 2, &back), Ok(id(4)));
        // A relay that has keys of its own with the destination is still not the origin.
        let as_relay = sealed_by(2, 1, 3, &[4]);
        assert_eq!(opened(4, 3, &as_relay), Err(Unheard::Forged(id(1))));
        assert_eq!(opened(4, 3, &frame(9, &[4])), Err(Unheard::Unknown(id(9))));
        assert_eq!(opened(4, 3, &frame(4, &[4])), Err(Unheard::Own));
    }

    #[test]
    fn keys_that_are_none_are_refused() {
        let share = |theirs: &[u8]| secret(1).share(&id(1), &id(2), theirs);
        assert!(share(&[]).is_none() && share(&[1; 31]).is_none() && share(&[1; 33]).is_none());
        // Points of small order: the secret would be zero, whatever ours is.
        let mut one = [0; 32];
        one[0] = 1;
        for point in [[0; 32], one] {
            assert!(share(&point).is_some_and(|seal| seal.keys().is_none()));
        }
    }
}
