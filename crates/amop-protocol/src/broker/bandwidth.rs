//! Token buckets that may go into debt by one message, and how those who use one share it.

use std::{collections::BTreeMap, time::Duration};

use crate::{Cause, Fingerprint, Time};

/// Bytes of a Mbit, as FISCO BCOS counts.
const MBIT: f64 = 131_072.0;
/// A client that has sent nothing for so long has no share.
const IDLE: Duration = Duration::from_secs(10);

/// Grants bytes at a rate. A message is granted whenever there is no debt, whatever its size, so
/// that a large one is never unsendable; it is paid off before the next is granted.
#[derive(Clone, Debug)]
pub struct Bandwidth {
    bytes_per_second: f64,
    /// Bytes that may be sent now; negative while in debt.
    credit: f64,
    refilled: Time,
}

impl Bandwidth {
    /// A bucket for a limit in Mbit/s (1 Mbit = 131,072 bytes, as FISCO BCOS counts), one second deep.
    pub fn from_mbit(limit: f64) -> Self {
        Self::new(limit * MBIT, Time::ZERO)
    }

    fn new(bytes_per_second: f64, now: Time) -> Self {
        Self { bytes_per_second, credit: bytes_per_second, refilled: now }
    }

    /// Takes `bytes`, or says when to try again.
    ///
    /// # Errors
    /// While in debt: the time until it is paid off.
    pub fn take(&mut self, now: Time, bytes: usize) -> Result<(), Duration> {
        self.check(now)?;
        self.charge(bytes);
        Ok(())
    }

    /// Whether a message would be granted now.
    ///
    /// # Errors
    /// While in debt: the time until it is paid off.
    pub fn check(&mut self, now: Time) -> Result<(), Duration> {
        let earned = now.since(self.refilled).as_secs_f64() * self.bytes_per_second;
        self.credit = (self.credit + earned).min(self.bytes_per_second);
        self.refilled = now;
        if self.credit < 0.0 {
            let wait = Duration::try_from_secs_f64(-self.credit / self.bytes_per_second);
            return Err(wait.unwrap_or(Duration::MAX));
        }
        Ok(())
    }

    /// Takes `bytes` whether they are there or not.
    pub fn charge(&mut self, bytes: usize) {
        self.credit -= bytes as f64;
    }

    /// Changes the limit, in Mbit/s, from `now` on. What is owed is still owed.
    pub fn set_mbit(&mut self, now: Time, limit: f64) {
        let _ = self.check(now);
        self.bytes_per_second = limit * MBIT;
        self.credit = self.credit.min(self.bytes_per_second);
    }

    /// Changes the rate of a share; what was earned until `now` stays.
    fn set_share(&mut self, now: Time, bytes_per_second: f64) {
        let _ = self.check(now);
        self.bytes_per_second = bytes_per_second;
        // Whoever used what others left has no more to pay off than one message, or one second.
        self.credit = self.credit.clamp(-bytes_per_second, bytes_per_second);
    }
}

/// The bandwidth that the clients of a node share, and what each may use of it; or something else that is
/// used by the second, and those who use it.
///
/// Whatever is left of the node's limit anybody may use. When it is used up, those are still served
/// who stay within their share: the limit, divided among the clients that send at the moment.
#[derive(Clone, Debug)]
pub struct Shared<K = Fingerprint> {
    /// The node's limit.
    node: Option<Bandwidth>,
    /// Bytes per second of each client.
    quota: Option<f64>,
    clients: BTreeMap<K, Client>,
    /// When clients that are idle are next looked for.
    prune_at: Time,
}

#[derive(Clone, Debug)]
struct Client {
    quota: Option<Bandwidth>,
    share: Option<Bandwidth>,
    last: Time,
}

/// A send that is refused for bandwidth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Whose limit it is.
    pub cause: Cause,
    /// When to try again.
    pub retry_after: Duration,
}

impl Shared {
    /// Limits in Mbit/s, for the node and for each of its clients; `None` if there is none at all.
    pub fn from_mbit(node: Option<f64>, client: Option<f64>) -> Option<Self> {
        if node.is_none() && client.is_none() {
            return None;
        }
        Some(Self {
            node: node.map(Bandwidth::from_mbit),
            quota: client.map(|limit| limit * MBIT),
            clients: BTreeMap::new(),
            prune_at: Time::ZERO,
        })
    }
}

impl<K: Ord + Clone> Shared<K> {
    /// So many of anything in a second, without quotas.
    pub fn per_second(limit: f64) -> Self {
        let node = Some(Bandwidth::new(limit, Time::ZERO));
        Self { node, quota: None, clients: BTreeMap::new(), prune_at: Time::ZERO }
    }

    /// Changes the limits, in Mbit/s, from `now` on. What anybody has yet to pay off of a limit that stays,
    /// in whatever height, is still to be paid.
    pub fn set_mbit(&mut self, now: Time, node: Option<f64>, client: Option<f64>) {
        let new = |limit: f64| Bandwidth::new(limit * MBIT, now);
        change(&mut self.node, node, new, |bucket, limit| bucket.set_mbit(now, limit));
        self.quota = client.map(|limit| limit * MBIT);
        for one in self.clients.values_mut() {
            change(&mut one.quota, client, new, |bucket, limit| bucket.set_mbit(now, limit));
            change(&mut one.share, node, |_| Bandwidth::new(0.0, now), |_, _| {});
        }
        self.divide(now);
    }

    /// Grants `bytes` to a client, or says whose limit is used up and until when.
    ///
    /// # Errors
    /// While the client is over its quota, or the node is over its limit and the client over its share.
    pub fn take(&mut self, now: Time, client: K, bytes: usize) -> Result<(), Refusal> {
        self.meet(now, &client);
        let Some(one) = self.clients.get_mut(&client) else { return Ok(()) };
        one.last = now;
        let refused = |cause| move |retry_after| Refusal { cause, retry_after };
        if let Some(quota) = &mut one.quota {
            quota.check(now).map_err(refused(Cause::ClientQuota))?;
        }
        if let (Some(node), Some(share)) = (&mut self.node, &mut one.share)
            && let Err(until_paid) = node.check(now)
        {
            let until_share = |wait: Duration| wait.min(until_paid);
            share.check(now).map_err(until_share).map_err(refused(Cause::NodeBandwidth))?;
        }
        for bucket in [&mut self.node, &mut one.share, &mut one.quota].into_iter().flatten() {
            bucket.charge(bytes);
        }
        Ok(())
    }

    /// Notes that a client sends, and forgets those that have stopped.
    fn meet(&mut self, now: Time, client: &K) {
        let mut changed = false;
        if now >= self.prune_at {
            self.prune_at = now + Duration::from_secs(1);
            let before = self.clients.len();
            self.clients.retain(|_, client| now.since(client.last) < IDLE);
            changed = self.clients.len() != before;
        }
        let quota = self.quota;
        let shared = self.node.is_some();
        self.clients.entry(client.clone()).or_insert_with(|| {
            changed = true;
            Client {
                quota: quota.map(|rate| Bandwidth::new(rate, now)),
                share: shared.then(|| Bandwidth::new(0.0, now)),
                last: now,
            }
        });
        if changed {
            self.divide(now);
        }
    }

    fn divide(&mut self, now: Time) {
        let Some(node) = &self.node else { return };
        let share = node.bytes_per_second / self.clients.len().max(1) as f64;
        for bucket in self.clients.values_mut().filter_map(|client| client.share.as_mut()) {
            bucket.set_share(now, share);
        }
    }
}

/// Makes, changes or removes what there is where there is a limit.
fn change(
    bucket: &mut Option<Bandwidth>,
    limit: Option<f64>,
    make: impl FnOnce(f64) -> Bandwidth,
    set: impl FnOnce(&mut Bandwidth, f64),
) {
    match (limit, &mut *bucket) {
        (Some(limit), Some(bucket)) => set(bucket, limit),
        (Some(limit), None) => *bucket = Some(make(limit)),
        (None, _) => *bucket = None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::from_start(Duration::from_millis(millis))
    }

    fn client(number: u8) -> Fingerprint {
        Fingerprint::new([number; 32])
    }

    #[test]
    fn one_message_may_go_into_debt_and_the_next_waits() {
        let mut bucket = Bandwidth::from_mbit(8.0);
        assert_eq!(bucket.take(at(0), 10 << 20), Ok(()), "ten times the credit");
        let wait = bucket.take(at(0), 1).unwrap_err();
        assert!((8.9..9.1).contains(&wait.as_secs_f64()), "{wait:?}");
        assert!(bucket.take(at(8_900), 1).is_err());
        assert_eq!(bucket.take(at(9_100), 1), Ok(()));
    }

    #[test]
    fn the_rate_holds_over_time() {
        let mut bucket = Bandwidth::from_mbit(1.0);
        let granted = (0..10_000).filter(|millis| bucket.take(at(*millis), 1311).is_ok()).count();
        assert!((1080..=1110).contains(&granted), "ten seconds and the initial credit: {granted}");
    }

    #[test]
    fn a_client_over_its_quota_is_refused_and_no_other() {
        let mut shared = Shared::from_mbit(None, Some(1.0)).unwrap();
        assert_eq!(shared.take(at(0), client(1), 1 << 20), Ok(()));
        let refusal = shared.take(at(0), client(1), 1).unwrap_err();
        assert_eq!(refusal.cause, Cause::ClientQuota);
        assert!((6.9..7.1).contains(&refusal.retry_after.as_secs_f64()), "{refusal:?}");
        assert_eq!(shared.take(at(0), client(2), 1 << 20), Ok(()), "its own quota");
        assert_eq!(shared.take(at(7_100), client(1), 1), Ok(()));
    }

    /// One client sends ten times what there is, the other less than half of it.
    #[test]
    fn a_client_within_its_share_is_served_whatever_another_does() {
        let mut shared = Shared::from_mbit(Some(8.0), None).unwrap();
        let (mut greedy, mut modest) = (0, 0);
        for millis in 0..20_000 {
            for _ in 0..10 {
                greedy += usize::from(shared.take(at(millis), client(1), 1024).is_ok());
            }
            if millis % 3 == 0 {
                assert_eq!(shared.take(at(millis), client(2), 1024), Ok(()), "at {millis} ms");
                modest += 1;
            }
        }
        let total = (greedy + modest) as f64 * 1024.0 / 20.0;
        let limit = f64::from(8 << 17);
        assert!((limit * 0.95..limit * 1.2).contains(&total), "{total} bytes a second of {limit}");
    }

    #[test]
    fn limits_that_change_hold_from_then_on() {
        let mut shared = Shared::from_mbit(Some(1.0), None).unwrap();
        shared.take(at(0), client(1), 2 << 17).unwrap();
        assert_eq!(shared.take(at(0), client(1), 1).unwrap_err().cause, Cause::NodeBandwidth);
        shared.set_mbit(at(0), Some(8.0), Some(1.0));
        let refusal = shared.take(at(500), client(1), 1 << 17);
        assert_eq!(refusal, Ok(()), "the debt is paid at the new rate");
        shared.set_mbit(at(500), None, Some(1.0));
        shared.take(at(500), client(1), 1 << 17).unwrap();
        assert_eq!(shared.take(at(500), client(1), 1).unwrap_err().cause, Cause::ClientQuota);
        shared.set_mbit(at(500), None, None);
        assert_eq!(shared.take(at(500), client(1), 1 << 30), Ok(()), "no limit is left");
        shared.set_mbit(at(500), Some(1.0), None);
        shared.take(at(500), client(1), 2 << 17).unwrap();
        shared.take(at(500), client(2), 1).unwrap();
        assert!(shared.take(at(500), client(1), 1).is_err(), "and one has come back, with shares");
    }

    #[test]
    fn whoever_comes_as_another_goes_has_a_share() {
        let mut shared = Shared::per_second(100.0);
        shared.take(at(0), client(1), 1).unwrap();
        // Forgotten, and met again, in one go.
        shared.take(at(11_000), client(1), 1000).unwrap();
        let refusal = shared.take(at(11_000), client(1), 1).unwrap_err();
        assert!(refusal.retry_after <= Duration::from_secs(10), "{refusal:?}");
        shared.set_mbit(at(11_000), Some(1.0), None);
        shared.take(at(30_000), client(2), 1).unwrap();
    }

    #[test]
    fn what_is_owed_is_owed_whatever_is_set() {
        let mut shared = Shared::from_mbit(Some(1.0), Some(1.0)).unwrap();
        shared.take(at(0), client(1), 80 << 17).unwrap();
        let owed = shared.take(at(0), client(1), 1).unwrap_err();
        shared.set_mbit(at(0), Some(1.0), Some(1.0));
        assert_eq!(shared.take(at(0), client(1), 1), Err(owed));
        let mut slow = Bandwidth::from_mbit(1e-300);
        slow.charge(1);
        assert_eq!(slow.check(at(0)), Err(Duration::MAX), "no number is too small");
    }

    #[test]
    fn what_others_leave_can_be_used_and_those_who_stop_are_forgotten() {
        let mut shared = Shared::from_mbit(Some(1.0), None).unwrap();
        for number in 0..10 {
            shared.take(at(0), client(number), 1).unwrap();
        }
        let granted = (0..8_000).filter(|millis| shared.take(at(*millis), client(0), 1311).is_ok()).count();
        assert!(granted > 800, "alone it has all, not a tenth: {granted}");
        shared.take(at(20_000), client(77), 1).unwrap();
        assert_eq!(shared.clients.len(), 1);
    }
}
