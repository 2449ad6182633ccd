//! Limits of bandwidth, which may come, change and go while the node runs.

use std::sync::atomic::{AtomicBool, Ordering};

use amop_protocol::{
    Time,
    broker::bandwidth::{Bandwidth, Shared},
};
use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};

/// A limit, if there is one. Where there is none, nobody waits for the lock.
#[derive(Debug)]
pub(super) struct Limit<T> {
    is_set: AtomicBool,
    limit: Mutex<Option<T>>,
}

impl<T> Limit<T> {
    pub(super) fn new(limit: Option<T>) -> Self {
        Self { is_set: AtomicBool::new(limit.is_some()), limit: Mutex::new(limit) }
    }

    /// Whether there is one.
    pub(super) fn is_set(&self) -> bool {
        self.is_set.load(Ordering::Relaxed)
    }

    /// The limit, locked.
    pub(super) fn lock(&self) -> Option<MappedMutexGuard<'_, T>> {
        if !self.is_set() {
            return None;
        }
        MutexGuard::try_map(self.limit.lock(), Option::as_mut).ok()
    }

    fn change(&self, change: impl FnOnce(&mut Option<T>)) {
        let mut limit = self.limit.lock();
        change(&mut limit);
        self.is_set.store(limit.is_some(), Ordering::Relaxed);
    }
}

impl Limit<Shared> {
    /// Mbit/s for the node and for each of its clients, from `now` on.
    pub(super) fn set(&self, now: Time, node: Option<f64>, client: Option<f64>) {
        self.change(|limit| match limit {
            Some(shared) if node.is_some() || client.is_some() => shared.set_mbit(now, node, client),
            _ => *limit = Shared::from_mbit(node, client),
        });
    }
}

impl Limit<Bandwidth> {
    /// Mbit/s, from `now` on.
    pub(super) fn set(&self, now: Time, mbit: Option<f64>) {
        self.change(|limit| match (limit.as_mut(), mbit) {
            (Some(bandwidth), Some(mbit)) => bandwidth.set_mbit(now, mbit),
            (_, mbit) => *limit = mbit.map(Bandwidth::from_mbit),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_comes_changes_and_goes() {
        let limit: Limit<Bandwidth> = Limit::new(None);
        assert!(limit.lock().is_none());
        limit.set(Time::ZERO, Some(1.0));
        limit.lock().unwrap().charge(2 << 17);
        assert!(limit.lock().unwrap().check(Time::ZERO).is_err());
        limit.set(Time::ZERO, Some(100.0));
        assert!(limit.lock().unwrap().check(Time::ZERO).is_err(), "what is owed stays owed");
        limit.set(Time::ZERO, None);
        assert!(limit.lock().is_none());
    }
}
