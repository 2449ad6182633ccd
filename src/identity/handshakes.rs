//! TLS handshakes under way: bounded, and the oldest of whoever has the most gives way.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// Connections that the system lets wait to be accepted, on each port. Whoever finds no place tries
/// again a second later, so a storm of strangers must not fill it in the time others take.
pub const BACKLOG: u32 = 4096;
/// Bytes that the system may hold of a connection which it has not sent yet.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT: u32 = 128 * 1024;

/// Has the system take little more than it can send. What it has taken, nothing passes any more: it
/// would be megabytes on a line that is slower than its writer.
pub fn keep_unsent_low(tcp: &tokio::net::TcpStream) {
    // Where it cannot be had, small messages wait longer.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = socket2::SockRef::from(tcp).set_tcp_notsent_lowat(UNSENT);
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = tcp;
}

/// Handshakes under way. Whoever begins many makes room with its own, not with those of others.
#[derive(Debug)]
pub struct Handshakes {
    max: AtomicUsize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    total: usize,
    by_source: HashMap<IpAddr, BTreeMap<u64, CancellationToken>>,
    /// Who has how many, and which is the oldest; the last is to make room.
    ranks: BTreeSet<(usize, Reverse<u64>, IpAddr)>,
}

/// One of them; over when dropped.
#[derive(Debug)]
pub struct Handshake {
    all: Arc<Handshakes>,
    source: IpAddr,
    number: u64,
    evicted: CancellationToken,
}

impl Handshakes {
    /// At most `max` at a time.
    pub fn new(max: usize) -> Self {
        Self { max: AtomicUsize::new(max), inner: Mutex::default() }
    }

    /// Changes how many there may be. Those beyond a lower number go on.
    pub fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// Begins a handshake with somebody at `address`; if there are too many, one is told to end.
    pub fn begin(self: &Arc<Self>, address: IpAddr) -> Handshake {
        let source = source(address);
        let evicted = CancellationToken::new();
        let mut inner = self.inner.lock();
        if inner.total >= self.max.load(Ordering::Relaxed)
            && let Some((_, Reverse(oldest), of)) = inner.ranks.last().copied()
            && let Some(token) = inner.remove(of, oldest)
        {
            token.cancel();
        }
        let number = inner.next;
        inner.next += 1;
        inner.insert(source, number, evicted.clone());
        Handshake { all: self.clone(), source, number, evicted }
    }
}

impl Inner {
    fn insert(&mut self, source: IpAddr, number: u64, token: CancellationToken) {
        self.change(source, |numbers| numbers.insert(number, token));
        self.total += 1;
    }

    fn remove(&mut self, source: IpAddr, number: u64) -> Option<CancellationToken> {
        let token = self.change(source, |numbers| numbers.remove(&number))?;
        self.total -= 1;
        Some(token)
    }

    fn change<T>(
        &mut self,
        source: IpAddr,
        change: impl FnOnce(&mut BTreeMap<u64, CancellationToken>) -> T,
    ) -> T {
        let rank = |numbers: &BTreeMap<u64, CancellationToken>| {
            numbers.first_key_value().map(|(oldest, _)| (numbers.len(), Reverse(*oldest), source))
        };
        let numbers = self.by_source.entry(source).or_default();
        if let Some(rank) = rank(numbers) {
            self.ranks.remove(&rank);
        }
        let result = change(numbers);
        match rank(numbers) {
            Some(rank) => _ = self.ranks.insert(rank),
            None => _ = self.by_source.remove(&source),
        }
        result
    }
}

impl Handshake {
    /// Resolves when this handshake must give way. Cancel safe.
    pub async fn evicted(&self) {
        self.evicted.cancelled().await;
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.all.inner.lock().remove(self.source, self.number);
    }
}

/// Who is taken for one: an address, of IPv6 the network that is given to one subscriber (/64).
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn gave_way(handshakes: &[Handshake]) -> Vec<usize> {
        (0..handshakes.len()).filter(|index| handshakes[*index].evicted.is_cancelled()).collect()
    }

    #[test]
    fn the_oldest_of_whoever_has_the_most_gives_way() {
        let all = Arc::new(Handshakes::new(4));
        let mut begun: Vec<_> =
            ["10.0.0.1", "10.0.0.2", "10.0.0.2", "10.0.0.2"].map(|ip| all.begin(at(ip))).into();
        assert!(gave_way(&begun).is_empty());
        begun.push(all.begin(at("10.0.0.3")));
        assert_eq!(gave_way(&begun), [1]);
        begun.extend((0..10).map(|_| all.begin(at("10.0.0.2"))));
        assert!(!gave_way(&begun).iter().any(|index| [0, 4].contains(index)), "others stay");
        assert_eq!(begun.len() - gave_way(&begun).len(), 4);
    }

    #[test]
    fn where_all_have_as_many_the_oldest_gives_way() {
        let all = Arc::new(Handshakes::new(2));
        let begun = ["10.0.0.9", "10.0.0.1", "10.0.0.5"].map(|ip| all.begin(at(ip)));
        assert_eq!(gave_way(&begun), [0]);
    }

    #[test]
    fn one_that_is_over_makes_room() {
        let all = Arc::new(Handshakes::new(1));
        drop(all.begin(at("10.0.0.1")));
        let first = all.begin(at("10.0.0.1"));
        assert!(!first.evicted.is_cancelled());
        let second = all.begin(at("10.0.0.2"));
        assert!(first.evicted.is_cancelled() && !second.evicted.is_cancelled());
        drop((first, second));
        let inner = all.inner.lock();
        assert_eq!((inner.total, inner.by_source.len(), inner.ranks.len()), (0, 0, 0));
    }

    #[test]
    fn a_subscriber_of_ipv6_is_one() {
        assert_eq!(source(at("2001:db8:0:1::1")), source(at("2001:db8:0:1:2:3:4:5")));
        assert_ne!(source(at("2001:db8:0:1::1")), source(at("2001:db8:0:2::1")));
        assert_eq!(source(at("::ffff:10.0.0.1")), at("10.0.0.1"));
    }
}
