//! Payload bytes that a node holds at once, for all its sends and receptions together.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// A bound that all shards of a node share. Clones are the same bound.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    max: usize,
    held: AtomicUsize,
}

/// Some bytes of a budget, given back when this is dropped.
#[derive(Debug)]
pub struct Hold {
    bytes: usize,
    budget: Budget,
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(max: usize) -> Self {
        Self(Arc::new(Inner { max, held: AtomicUsize::new(0) }))
    }

    /// Takes `bytes`; `None` if there are not so many left.
    pub fn hold(&self, bytes: usize) -> Option<Hold> {
        let Inner { max, held } = &*self.0;
        let fits = |held: usize| held.checked_add(bytes).filter(|total| total <= max);
        held.try_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(Hold { bytes, budget: self.clone() })
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
        self.budget.0.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_until_something_is_given_back() {
        let budget = Budget::new(10);
        let first = budget.hold(6);
        let second = budget.clone().hold(4);
        assert!(first.is_some() && second.is_some());
        assert!(budget.hold(1).is_none() && budget.hold(usize::MAX).is_none());
        assert!(budget.hold(0).is_some());
        drop(first);
        assert_eq!(budget.held(), 4);
        assert!(budget.hold(6).is_some());
    }
}
