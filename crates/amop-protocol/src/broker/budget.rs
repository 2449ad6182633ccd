//! Payload bytes that a node holds at once, for all its sends and receptions together, and who may
//! have how much of them.

use std::{
    hash::Hasher,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use siphasher::sip::SipHasher13;

use crate::{Fingerprint, NodeId};

/// A bound that all shards of a node share. Clones are the same bound.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    max: AtomicUsize,
    held: AtomicUsize,
    /// By holder; those that fall together share. Under a secret, so that nobody can choose with whom.
    holders: [AtomicUsize; HOLDERS],
    secret: u64,
}

/// Holders that are told apart.
const HOLDERS: usize = 256;
/// Whoever has less than this part may have of what is kept back.
const SHARE: usize = 16;
/// The part that is kept back for those.
const RESERVE: usize = 8;
/// What a message takes beside its payload: so that tiny ones are bounded, too.
pub const OVERHEAD: usize = 1024;

/// Who holds bytes: a client of this node, or another node for its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder([u8; 32]);

impl From<&Fingerprint> for Holder {
    fn from(client: &Fingerprint) -> Self {
        Self(*client.as_bytes())
    }
}

impl From<&NodeId> for Holder {
    fn from(node: &NodeId) -> Self {
        Self(*node.as_bytes())
    }
}

/// Some bytes of a budget, given back when this is dropped.
#[derive(Debug)]
pub struct Hold {
    bytes: usize,
    holder: usize,
    budget: Budget,
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(max: usize) -> Self {
        Self::keyed(max, 0)
    }

    /// The same, for strangers who must not know the secret.
    pub fn keyed(max: usize, secret: u64) -> Self {
        let holders = std::array::from_fn(|_| AtomicUsize::new(0));
        Self(Arc::new(Inner { max: AtomicUsize::new(max), held: AtomicUsize::new(0), holders, secret }))
    }

    /// Takes a payload of `bytes`; `None` if there are not so many left for this holder. The last
    /// eighth is for those who hold less than a sixteenth.
    pub fn hold(&self, holder: Holder, bytes: usize) -> Option<Hold> {
        let Inner { max, held, holders, secret } = &*self.0;
        let max = max.load(Ordering::Relaxed);
        let bytes = bytes.saturating_add(OVERHEAD);
        let mut hasher = SipHasher13::new_with_keys(*secret, 0);
        hasher.write(&holder.0);
        let holder = (hasher.finish() % HOLDERS as u64) as usize;
        let has = &holders[holder];
        let is_within_share = has.load(Ordering::Relaxed).saturating_add(bytes) <= max / SHARE;
        let most = if is_within_share { max } else { max - max / RESERVE };
        let fits = |held: usize| held.checked_add(bytes).filter(|total| *total <= most);
        held.try_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        has.fetch_add(bytes, Ordering::Relaxed);
        Some(Hold { bytes, holder, budget: self.clone() })
    }

    /// Changes the bound. What is held beyond a lower one stays until it is given back.
    pub fn set_max(&self, max: usize) {
        self.0.max.store(max, Ordering::Relaxed);
    }

    /// Bytes that are held now.
    pub fn held(&self) -> usize {
        self.0.held.load(Ordering::Relaxed)
    }
}

/// No bound.
impl Default for Budget {
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let Inner { held, holders, .. } = &*self.budget.0;
        held.fetch_sub(self.bytes, Ordering::Relaxed);
        holders[self.holder].fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREEDY: Holder = Holder([1; 32]);
    const MODEST: Holder = Holder([2; 32]);
    const KIB: usize = 1024;

    #[test]
    fn what_does_not_fit_is_refused_until_something_is_given_back() {
        let budget = Budget::new(100 * KIB);
        let first = budget.hold(GREEDY, 70 * KIB - OVERHEAD);
        let second = budget.clone().hold(GREEDY, 17 * KIB - OVERHEAD);
        assert!(first.is_some() && second.is_some());
        assert!(budget.hold(GREEDY, 0).is_none() && budget.hold(MODEST, usize::MAX).is_none());
        drop(first);
        assert_eq!(budget.held(), 17 * KIB);
        assert!(budget.hold(GREEDY, 60 * KIB).is_some());
        drop(second);
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn a_lower_bound_takes_nothing_away() {
        let budget = Budget::new(100 * KIB);
        let first = budget.hold(GREEDY, 70 * KIB).unwrap();
        budget.set_max(50 * KIB);
        assert!(budget.hold(MODEST, 0).is_none());
        drop(first);
        assert!(budget.hold(MODEST, 0).is_some() && budget.hold(GREEDY, 50 * KIB).is_none());
    }

    #[test]
    fn nobody_takes_what_is_kept_for_those_who_have_little() {
        let budget = Budget::new(100 * KIB);
        let greedy: Vec<_> = std::iter::from_fn(|| budget.hold(GREEDY, 0)).collect();
        assert_eq!(greedy.len(), 87);
        let modest: Vec<_> = std::iter::from_fn(|| budget.hold(MODEST, 0)).collect();
        assert_eq!(modest.len(), 6, "a sixteenth");
        assert!(budget.hold(Holder([3; 32]), 5 * KIB).is_some(), "and so may a third");
        drop((greedy, modest));
        assert_eq!(budget.held(), 0);
    }
}
