//! Each message once per application, whichever connections it comes through.
//!
//! An application may be connected to several nodes, and a publisher that loses its node sends the
//! same message through another. So a message can reach an application more than once; [`Once`]
//! remembers what has come and how it was answered. It reads no clock and hands over nothing
//! itself: the driver asks it before it hands a message over, and tells it the answer.
//!
//! **Invariant**: a message that names itself is admitted once while the window remembers it.
//! **Invariant**: a request that comes again is answered as it was the first time, or, when that
//! answer is no longer remembered, refused with [`FORGOTTEN`]; never run again.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;

use super::client::Deliver;
use crate::{
    Seq, Time,
    broker::{
        dedup::{Bounds, Keyer, MessageKey, Seen, Window},
        event::Mode,
    },
    mutations::{self, Mutation},
};

/// The code by which a request is refused that was handled, but whose answer is no longer remembered.
pub const FORGOTTEN: i32 = 3;
/// Ways by which one request may be waited for; further ones get no answer, and time out.
const MAX_WAYS: usize = 8;

/// Bounds of the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Requests remembered once answered, and as many publications. Default 100,000; beyond, the
    /// oldest is forgotten.
    pub messages: usize,
    /// Bytes of answers remembered. Default 4 MiB; beyond, the oldest answers are dropped, their
    /// requests not.
    pub bytes: usize,
    /// For how long. Default 130 s: longer than the longest deadline that nodes allow by default.
    pub retention: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { messages: 100_000, bytes: 4 << 20, retention: Duration::from_secs(130) }
    }
}

/// A request that was handed to the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// How the application answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// 0, or the application's refusal.
    pub result: i32,
    /// Empty unless the result is 0.
    pub payload: Bytes,
}

/// What is to be done with a message that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Hand it over. A request has a ticket, for [`Once::handle_answer`].
    New(Option<Ticket>),
    /// It came before; nothing. A request will be answered by this way too.
    Known,
    /// It came before and was answered so: repeat that.
    Answered(Answer),
}

/// What came to one application. `W` names a way back: a connection, and a push on it.
#[derive(Debug)]
pub struct Once<W> {
    config: Config,
    keyer: Keyer,
    asked: BTreeMap<Ticket, Asked<W>>,
    requests: Window<Ticket, Answer>,
    publications: Window<(), ()>,
    next: u64,
    absorbed: u64,
}

/// A request that the application has not answered.
#[derive(Debug)]
struct Asked<W> {
    /// `None`: it did not name itself, and cannot be known again.
    key: Option<MessageKey>,
    ways: Vec<W>,
}

impl<W> Once<W> {
    /// Nothing has come yet. `secret` is drawn at random, so that nobody can make two messages collide.
    pub fn new(config: Config, secret: [u64; 2]) -> Self {
        let bounds = Bounds { entries: config.messages, bytes: config.bytes };
        Self {
            config,
            keyer: Keyer::new(secret),
            asked: BTreeMap::new(),
            requests: Window::new(bounds),
            publications: Window::new(bounds),
            next: 0,
            absorbed: 0,
        }
    }

    /// Requests that the application has not answered.
    pub fn unanswered(&self) -> usize {
        self.asked.len()
    }

    /// Whether the application owes an answer by a way like this.
    pub fn awaits(&self, is_way: impl Fn(&W) -> bool) -> bool {
        self.asked.values().flat_map(|asked| &asked.ways).any(is_way)
    }

    /// Messages that came again, and were not handed over again.
    pub fn absorbed(&self) -> u64 {
        self.absorbed
    }

    /// A message came, and an answer would go back by `way`.
    pub fn handle_deliver(&mut self, now: Time, message: &Deliver, way: W) -> Admission {
        self.handle_timeout(now);
        let key = self.key(message);
        let admission = match message.mode {
            Mode::Multicast => self.publication(now, key),
            Mode::Unicast => self.request(key, way),
        };
        self.absorbed += u64::from(!matches!(admission, Admission::New(_)));
        admission
    }

    /// The application answered. Gives the ways that the answer is to go.
    pub fn handle_answer(&mut self, now: Time, ticket: Ticket, answer: &Answer) -> Vec<W> {
        let Some(Asked { key, ways }) = self.asked.remove(&ticket) else { return Vec::new() };
        if let Some(key) = key {
            let until = now + self.config.retention;
            self.requests.end(key, answer.clone(), answer.payload.len(), until);
        }
        ways
    }

    /// Connections are gone: no answer can go by the ways that `is_lost`.
    pub fn handle_lost(&mut self, is_lost: impl Fn(&W) -> bool) {
        for asked in self.asked.values_mut() {
            asked.ways.retain(|way| !is_lost(way));
        }
    }

    /// Forgets what is past its time.
    pub fn handle_timeout(&mut self, now: Time) {
        self.requests.expire(now);
        self.publications.expire(now);
    }

    fn key(&self, message: &Deliver) -> Option<MessageKey> {
        let (sender, seq): (_, &Seq) = (message.sender.as_ref()?, message.message.as_ref()?);
        let publisher = &sender.client.fingerprint;
        let key = self.keyer.key(publisher, message.mode, &message.topic, seq, &message.payload);
        (!mutations::on(Mutation::SubscriberForgets)).then_some(key)
    }

    fn publication(&mut self, now: Time, key: Option<MessageKey>) -> Admission {
        let Some(key) = key else { return Admission::New(None) };
        if self.publications.get(key).is_some() {
            return Admission::Known;
        }
        self.publications.end(key, (), 0, now + self.config.retention);
        Admission::New(None)
    }

    fn request(&mut self, key: Option<MessageKey>, way: W) -> Admission {
        match key.and_then(|key| self.requests.get(key)) {
            None => self.ask(key, way),
            Some(Seen::Running(ticket)) => {
                let asked = self.asked.get_mut(ticket);
                if let Some(asked) = asked.filter(|asked| asked.ways.len() < MAX_WAYS) {
                    asked.ways.push(way);
                }
                Admission::Known
            }
            Some(Seen::Done(answer)) => Admission::Answered(answer.clone()),
            Some(Seen::Dropped) => Admission::Answered(Answer { result: FORGOTTEN, payload: Bytes::new() }),
        }
    }

    fn ask(&mut self, key: Option<MessageKey>, way: W) -> Admission {
        let ticket = Ticket(self.next);
        self.next += 1;
        self.asked.insert(ticket, Asked { key, ways: vec![way] });
        if let Some(key) = key {
            self.requests.begin(key, ticket);
        }
        Admission::New(Some(ticket))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{ClientIdentity, Fingerprint, NodeId, Topic, broker::event::Sender, session::client::Push};

    fn once(config: Config) -> Once<u32> {
        Once::new(config, [1, 2])
    }

    fn at(secs: u64) -> Time {
        Time::from_start(Duration::from_secs(secs))
    }

    fn message(mode: Mode, publisher: u8, seq: u128) -> Deliver {
        let client = ClientIdentity { fingerprint: Fingerprint::new([publisher; 32]), name: "app".into() };
        let sender =
            Sender { institution: "bank".into(), node: NodeId::new([3; 32]), client: Arc::new(client) };
        let topic = Topic::parse("t").unwrap();
        Deliver {
            push: Push::new(Seq::from_u128(7), topic.clone()),
            mode,
            topic,
            sender: Some(sender),
            answer_within: None,
            message: Some(Seq::from_u128(seq)),
            context: None,
            payload: Bytes::from_static(b"x"),
        }
    }

    fn asked(admission: Admission) -> Ticket {
        let Admission::New(Some(ticket)) = admission else { panic!("{admission:?}") };
        ticket
    }

    fn answer(text: &'static str) -> Answer {
        Answer { result: 0, payload: Bytes::from_static(text.as_bytes()) }
    }

    #[test]
    fn a_publication_comes_once_and_another_one_is_another() {
        let mut once = once(Config::default());
        let first = message(Mode::Multicast, 1, 1);
        assert_eq!(once.handle_deliver(at(0), &first, 0), Admission::New(None));
        assert_eq!(once.handle_deliver(at(1), &first, 1), Admission::Known);
        for other in [message(Mode::Multicast, 2, 1), message(Mode::Multicast, 1, 2)] {
            assert_eq!(once.handle_deliver(at(1), &other, 0), Admission::New(None));
        }
        let other = Deliver { payload: Bytes::from_static(b"y"), ..first.clone() };
        assert_eq!(once.handle_deliver(at(1), &other, 0), Admission::New(None));
        assert_eq!(once.absorbed(), 1);
        assert_eq!(once.handle_deliver(at(130), &first, 0), Admission::New(None), "it was long ago");
    }

    #[test]
    fn a_request_that_comes_again_joins_the_first_or_gets_its_answer() {
        let mut once = once(Config::default());
        let request = message(Mode::Unicast, 1, 1);
        let ticket = asked(once.handle_deliver(at(0), &request, 10));
        assert_eq!(once.handle_deliver(at(1), &request, 20), Admission::Known);
        assert_eq!(once.unanswered(), 1);
        assert_eq!(once.handle_answer(at(2), ticket, &answer("yes")), [10, 20]);
        assert_eq!(once.handle_deliver(at(3), &request, 30), Admission::Answered(answer("yes")));
        assert!(once.handle_answer(at(3), ticket, &answer("no")).is_empty(), "one answer to a ticket");
    }

    #[test]
    fn an_answer_goes_no_way_that_is_lost_and_is_remembered_all_the_same() {
        let mut once = once(Config::default());
        let request = message(Mode::Unicast, 1, 1);
        let ticket = asked(once.handle_deliver(at(0), &request, 10));
        once.handle_lost(|way| *way == 10);
        assert!(once.handle_answer(at(1), ticket, &answer("yes")).is_empty());
        assert_eq!(once.handle_deliver(at(2), &request, 20), Admission::Answered(answer("yes")));
    }

    #[test]
    fn an_answer_dropped_at_the_bound_leads_to_a_refusal_and_no_second_run() {
        let mut once = once(Config { bytes: 3, ..Config::default() });
        let requests = [message(Mode::Unicast, 1, 1), message(Mode::Unicast, 1, 2)];
        for request in &requests {
            let ticket = asked(once.handle_deliver(at(0), request, 10));
            once.handle_answer(at(0), ticket, &answer("yes"));
        }
        let forgotten = Answer { result: FORGOTTEN, payload: Bytes::new() };
        assert_eq!(once.handle_deliver(at(1), &requests[0], 20), Admission::Answered(forgotten));
        assert_eq!(once.handle_deliver(at(1), &requests[1], 20), Admission::Answered(answer("yes")));
    }

    #[test]
    fn few_wait_for_one_answer() {
        let mut once = once(Config::default());
        let request = message(Mode::Unicast, 1, 1);
        let ticket = asked(once.handle_deliver(at(0), &request, 0));
        for way in 1..20 {
            assert_eq!(once.handle_deliver(at(0), &request, way), Admission::Known);
        }
        assert_eq!(once.handle_answer(at(1), ticket, &answer("yes")).len(), MAX_WAYS);
    }

    #[test]
    fn what_does_not_name_itself_is_new_every_time() {
        let mut once = once(Config::default());
        for mode in [Mode::Unicast, Mode::Multicast] {
            let nameless = Deliver { message: None, ..message(mode, 1, 1) };
            for _ in 0..2 {
                assert!(matches!(once.handle_deliver(at(0), &nameless, 0), Admission::New(_)));
            }
        }
        assert_eq!((once.unanswered(), once.absorbed()), (2, 0));
    }
}
