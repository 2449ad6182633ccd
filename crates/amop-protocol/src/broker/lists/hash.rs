//! A hash of a list of topics that a change alters at the cost of the change.

use super::Entry;

/// The sum, modulo 2^256, of the BLAKE3 hashes of a list's entries; little-endian on the wire.
///
/// Two lists with the same sum can be looked for at far less cost than 2^128. That is no weakness
/// here: only the origin may sign lists and changes of them, so only the origin could gain from
/// such a pair, and all it could make others disagree about is its own topics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListHash([u64; 4]);

impl ListHash {
    /// The hash of a list, each topic of which stands in it once. Entries without subscribers do
    /// not count.
    pub fn of<'a>(entries: impl IntoIterator<Item = impl Into<Entry<'a>>>) -> Self {
        let mut sum = Self::default();
        entries.into_iter().for_each(|entry| sum.add(entry.into()));
        sum
    }

    /// As it was sent; `None` unless these are 32 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self::from_array(bytes.try_into().ok()?))
    }

    /// As it is sent.
    pub fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (to, limb) in bytes.chunks_exact_mut(8).zip(self.0) {
            to.copy_from_slice(&limb.to_le_bytes());
        }
        bytes
    }

    /// An entry comes into the list.
    pub(super) fn add(&mut self, entry: Entry<'_>) {
        let mut carry = false;
        for (limb, other) in self.0.iter_mut().zip(hash(entry).0) {
            (*limb, carry) = carrying(limb.overflowing_add(other), carry, u64::overflowing_add);
        }
    }

    /// An entry that is in the list goes out of it.
    pub(super) fn remove(&mut self, entry: Entry<'_>) {
        let mut borrow = false;
        for (limb, other) in self.0.iter_mut().zip(hash(entry).0) {
            (*limb, borrow) = carrying(limb.overflowing_sub(other), borrow, u64::overflowing_sub);
        }
    }

    fn from_array(bytes: [u8; 32]) -> Self {
        let mut limbs = [0; 4];
        for (limb, from) in limbs.iter_mut().zip(bytes.chunks_exact(8)) {
            *limb = from.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
        }
        Self(limbs)
    }
}

/// Finishes a step whose first half gave a number and an overflow.
fn carrying((number, over): (u64, bool), carry: bool, step: impl Fn(u64, u64) -> (u64, bool)) -> (u64, bool) {
    let (number, again) = step(number, u64::from(carry));
    (number, over || again)
}

fn hash(Entry { topic, subscribers, holder }: Entry<'_>) -> ListHash {
    if subscribers == 0 {
        return ListHash::default();
    }
    let mut hasher = blake3::Hasher::new();
    match holder {
        None => hasher.update(b"amop/topic/1\0").update(&subscribers.to_le_bytes()),
        Some(holder) => {
            hasher.update(b"amop/holder/1\0").update(&subscribers.to_le_bytes());
            hasher.update(&holder.session.0.to_le_bytes());
            for text in [holder.fingerprint, holder.name.as_bytes()] {
                hasher.update(&(text.len() as u64).to_le_bytes()).update(text);
            }
            &mut hasher
        }
    };
    hasher.update(topic.as_bytes());
    ListHash::from_array(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_order_does_not_matter_and_the_counts_do() {
        let list = ListHash::of([("a", 1), ("b", 2)]);
        assert_eq!(list, ListHash::of([("b", 2), ("a", 1)]));
        assert_ne!(list, ListHash::of([("a", 2), ("b", 1)]));
        assert_eq!(list, ListHash::of([("a", 1), ("c", 0), ("b", 2)]));
        assert_eq!(ListHash::default().to_bytes(), [0; 32]);
    }

    #[test]
    fn sums_carry_over() {
        let mut hash = ListHash([u64::MAX; 4]);
        hash.add(("a", 1).into());
        hash.remove(("a", 1).into());
        assert_eq!(hash, ListHash([u64::MAX; 4]));
        let mut hash = ListHash::default();
        hash.remove(("a", 1).into());
        hash.add(("a", 1).into());
        assert_eq!(hash, ListHash::default());
    }

    proptest! {
        #[test]
        fn what_comes_and_goes_leaves_nothing(
            kept in prop::collection::btree_map("[a-z]{1,3}", 1_u32..9, 0..20),
            passing in prop::collection::btree_map("[A-Z]{1,3}", 1_u32..9, 0..20),
        ) {
            let list = ListHash::of(kept.iter().map(|(topic, n)| (topic.as_str(), *n)));
            let mut hash = list;
            passing.iter().for_each(|(topic, n)| hash.add((topic.as_str(), *n).into()));
            passing.iter().for_each(|(topic, n)| hash.remove((topic.as_str(), *n).into()));
            prop_assert_eq!(hash, list);
            prop_assert_eq!(ListHash::from_bytes(&hash.to_bytes()), Some(hash));
        }
    }
}
