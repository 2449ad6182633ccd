//! Everything that can wake the broker: a coarse timer wheel.
//!
//! Arming costs a push onto a vector and nothing is ever disarmed: what fires is asked whether
//! it still has anything to do. So a message that is answered at once leaves its timers to
//! lapse, and no message pays for an ordered structure.

use std::{collections::VecDeque, time::Duration};

use crate::Time;

/// How far apart the wheel's slots are; a timer fires up to this much late.
pub const TICK: Duration = Duration::from_millis(16);

/// Slots ahead of the current one; later timers wait in the last slot and are armed again.
const HORIZON: usize = 1024;

/// Timers for keys of type `K`.
#[derive(Debug)]
pub struct Wheel<K> {
    slots: VecDeque<Vec<K>>,
    first: u64,
    /// The first tick with a key in it, so that asking costs nothing.
    next: Option<u64>,
}

impl<K> Default for Wheel<K> {
    fn default() -> Self {
        Self { slots: VecDeque::new(), first: 0, next: None }
    }
}

impl<K> Wheel<K> {
    /// Timers that are armed, those that will find nothing to do included. Counts them.
    pub fn armed(&self) -> usize {
        self.slots.iter().map(Vec::len).sum()
    }

    /// Arms `key` to fire at `at`, or at the end of the wheel if that is sooner.
    pub fn arm(&mut self, now: Time, at: Time, key: K) {
        if self.next.is_none() {
            self.slots.clear();
            self.first = self.first.max(tick_of(now));
        }
        let tick = slot_after(at).max(self.first);
        let slot = usize::try_from(tick - self.first).unwrap_or(HORIZON).min(HORIZON);
        if self.slots.len() <= slot {
            self.slots.resize_with(slot + 1, Vec::new);
        }
        self.slots[slot].push(key);
        let tick = self.first + slot as u64;
        self.next = Some(self.next.map_or(tick, |next| next.min(tick)));
    }

    /// Takes the keys whose time has come, slot by slot; `None` when no slot is due.
    pub fn pop_due(&mut self, now: Time) -> Option<Vec<K>> {
        let due = self.next.filter(|next| *next <= tick_of(now))?;
        let passed = usize::try_from(due - self.first).unwrap_or(0);
        self.slots.drain(..passed);
        self.first = due + 1;
        let keys = self.slots.pop_front();
        self.next =
            self.slots.iter().position(|slot| !slot.is_empty()).map(|empty| self.first + empty as u64);
        keys
    }

    /// When the next slot with a key in it is due.
    pub fn next(&self) -> Option<Time> {
        let millis = self.next?.saturating_mul(TICK.as_millis() as u64);
        Some(Time::from_start(Duration::from_millis(millis)))
    }
}

fn tick_of(at: Time) -> u64 {
    (at.since_start().as_millis() / TICK.as_millis()) as u64
}

/// The first tick that is not before `at`.
fn slot_after(at: Time) -> u64 {
    at.since_start().as_nanos().div_ceil(TICK.as_nanos()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    fn fire(wheel: &mut Wheel<u32>, now: Time) -> Vec<u32> {
        std::iter::from_fn(|| wheel.pop_due(now)).flatten().collect()
    }

    #[test]
    fn fires_in_order_and_never_early() {
        let mut wheel = Wheel::default();
        for (millis, key) in [(100, 1), (20, 2), (500, 3), (20, 4)] {
            wheel.arm(at(0), at(millis), key);
        }
        assert!(fire(&mut wheel, at(19)).is_empty());
        assert_eq!(wheel.next(), Some(at(32)));
        assert_eq!(fire(&mut wheel, at(32)), [2, 4]);
        assert!(fire(&mut wheel, at(99)).is_empty());
        assert_eq!(fire(&mut wheel, at(600)), [1, 3]);
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn a_time_beyond_the_wheel_fires_at_its_end() {
        let mut wheel = Wheel::default();
        wheel.arm(at(0), at(3_600_000), 1);
        let end = wheel.next().unwrap();
        assert!(end <= at(17_000), "{end:?}");
        assert_eq!(fire(&mut wheel, end), [1], "to be armed again by its owner");
    }

    #[test]
    fn an_idle_wheel_catches_up_with_the_clock() {
        let mut wheel = Wheel::default();
        wheel.arm(at(3_600_000), at(3_600_500), 1);
        assert!(fire(&mut wheel, at(3_600_499)).is_empty());
        assert_eq!(fire(&mut wheel, at(3_600_512)), [1]);
    }

    #[test]
    fn a_time_that_has_passed_fires_at_once() {
        let mut wheel = Wheel::default();
        assert!(fire(&mut wheel, at(1000)).is_empty());
        wheel.arm(at(1000), at(10), 7);
        assert_eq!(fire(&mut wheel, at(1016)), [7]);
    }
}
