use super::*;
use crate::Fingerprint;

const TOPIC: &str = "#!$TopicNeedVerify_a";
const CHANNEL: &str = "#!$VerifyChannel_#!$TopicNeedVerify_a_01";
const OTHER_CHANNEL: &str = "#!$VerifyChannel_#!$TopicNeedVerify_a_02";
const PUSH: &str = "#!$PushChannel_#!$TopicNeedVerify_a";
const PUBLISHER: SessionId = SessionId(1);

fn topic(name: &str) -> Topic {
    Topic::parse(name).unwrap()
}

fn at(node: u8, session: u64) -> Holder {
    Holder { node: NodeId::new([node; 32]), epoch: 1, session: SessionId(session) }
}

fn client(n: u8) -> Arc<ClientIdentity> {
    Arc::new(ClientIdentity { fingerprint: Fingerprint::new([n; 32]), name: "app".into() })
}

fn seconds(n: u64) -> Time {
    Time::from_start(std::time::Duration::from_secs(n))
}

/// Node 1, whose session 1 publishes.
struct Bench {
    verification: Verification,
    now: Time,
}

impl Bench {
    fn new() -> Self {
        let mut bench =
            Self { verification: Verification::new(NodeId::new([1; 32]), [7; 32]), now: Time::ZERO };
        bench.reach(&[2, 3]);
        bench.session(at(1, 1), 1, &[PUSH]);
        bench
    }

    fn reach(&mut self, nodes: &[u8]) {
        let nodes = nodes.iter().map(|node| NodeId::new([*node; 32])).collect();
        self.verification.handle_reachable(self.now, nodes);
    }

    fn challenged(&self, publisher: SessionId, channel: &str) -> Option<Holder> {
        let table = self.verification.table();
        table.challenged(publisher, &topic(channel)).map(|recipient| recipient.holder())
    }

    fn session(&mut self, at: Holder, of: u8, names: &[&str]) {
        let reserved =
            Reserved { client: client(of), topics: names.iter().map(|name| topic(name)).collect() };
        self.verification.handle_session(self.now, at, Some(reserved));
    }

    fn gone(&mut self, at: Holder) {
        self.verification.handle_session(self.now, at, None);
    }

    fn pass(&mut self, to: Time) {
        self.now = to;
        self.verification.handle_timeout(to);
    }

    fn asks(&mut self) -> Vec<Ask> {
        std::iter::from_fn(|| self.verification.poll_action()).collect()
    }

    fn ask(&mut self) -> Ask {
        let mut asks = self.asks();
        assert_eq!(asks.len(), 1, "{asks:?}");
        asks.remove(0)
    }

    fn verdict(&mut self, ask: &Ask, trusted: bool) {
        self.verification.handle_verdict(self.now, ask.publisher, ask.question, &ask.topic, trusted);
    }

    fn verified(&self, publisher: SessionId) -> Vec<Holder> {
        self.verification.table().verified(publisher, &topic(TOPIC)).map(Verified::subscriber).collect()
    }

    /// Nothing is left of sessions that have gone.
    fn assert_empty(&self) {
        let v = &self.verification;
        assert!(v.sessions.is_empty() && v.subscribers.is_empty() && v.claims.is_empty());
        assert!(v.pairs.is_empty() && v.pairs_of.is_empty() && v.asked.is_empty() && v.timers.is_empty());
        assert!(v.table.verified.is_empty() && v.table.channels.is_empty() && v.table.publishers.is_empty());
        assert!(v.table.asked.is_empty());
    }
}

#[test]
fn a_subscriber_is_verified_for_the_publisher_that_was_asked() {
    let mut bench = Bench::new();
    bench.session(at(1, 9), 1, &[PUSH]);
    bench.session(at(2, 5), 2, &[TOPIC, CHANNEL]);
    let asks = bench.asks();
    assert_eq!(
        asks.iter().map(|ask| ask.publisher.0).collect::<Vec<_>>(),
        [1, 9],
        "each has keys of its own"
    );
    let ask = &asks[0];
    assert_eq!((ask.topic.as_str(), ask.channel.as_str(), ask.subscriber), (TOPIC, CHANNEL, at(2, 5)));
    bench.verdict(ask, true);
    assert_eq!(bench.verified(PUBLISHER), [at(2, 5)]);
    assert_eq!(bench.verified(SessionId(9)), []);
    for session in [at(1, 1), at(1, 9), at(2, 5)] {
        bench.gone(session);
    }
    bench.assert_empty();
}

#[test]
fn a_subscriber_of_the_same_node_is_asked_about_too() {
    let mut bench = Bench::new();
    bench.session(at(1, 5), 2, &[TOPIC, CHANNEL]);
    let ask = bench.ask();
    assert_eq!(bench.verified(PUBLISHER), []);
    bench.verdict(&ask, true);
    assert_eq!(bench.verified(PUBLISHER), [at(1, 5)]);
}

#[test]
fn the_order_in_which_sessions_come_does_not_matter() {
    let mut bench = Bench::new();
    bench.gone(at(1, 1));
    bench.session(at(2, 5), 2, &[TOPIC]);
    bench.session(at(1, 1), 1, &[PUSH]);
    assert_eq!(bench.asks(), [], "there is no channel yet");
    bench.session(at(2, 5), 2, &[TOPIC, CHANNEL]);
    bench.ask();
}

#[test]
fn a_second_client_under_the_channel_of_the_first_receives_nothing() {
    let mut bench = Bench::new();
    bench.session(at(2, 5), 2, &[TOPIC, CHANNEL]);
    // On the same node.
    bench.session(at(2, 6), 3, &[TOPIC, CHANNEL]);
    let ask = bench.ask();
    // At another node, which says that the channel is its client's. It waits for its turn.
    bench.session(at(3, 5), 3, &[TOPIC, CHANNEL]);
    assert_eq!((bench.asks(), bench.challenged(PUBLISHER, CHANNEL)), (vec![], Some(at(2, 5))));
    bench.verdict(&ask, true);
    let theirs = bench.ask();
    assert_eq!((theirs.subscriber, bench.challenged(PUBLISHER, CHANNEL)), (at(3, 5), Some(at(3, 5))));
    bench.verdict(&theirs, false);
    bench.pass(seconds(100));
    assert_eq!((bench.asks(), bench.verified(PUBLISHER)), (vec![], vec![at(2, 5)]));
}

#[test]
fn sessions_of_one_client_at_several_nodes_are_challenged_one_after_the_other() {
    let mut bench = Bench::new();
    bench.session(at(2, 5), 2, &[TOPIC, CHANNEL]);
    bench.session(at(3, 8), 2, &[TOPIC, CHANNEL]);
    let (mut asked, mut last) = (Vec::new(), None);
    for second in [0, 1, 2] {
        bench.pass(seconds(second));
        let ask = bench.ask();
        assert_eq!(bench.challenged(PUBLISHER, CHANNEL), Some(ask.subscriber));
        asked.push(ask.subscriber);
        last = Some(ask);
    }
    assert_eq!(asked, [at(2, 5), at(3, 8), at(2, 5)], "whoever does not answer lets others go first");
    bench.verdict(&last.unwrap(), true);
    let ask = bench.ask();
    bench.verdict(&ask, true);
    assert_eq!(bench.verified(PUBLISHER), [at(2, 5), at(3, 8)]);
    assert_eq!(bench.challenged(PUBLISHER, CHANNEL), Some(at(2, 5)), "it may challenge over another node");
}

#[test]
fn nobody_is_asked_about_whom_no_way_leads_to() {
    let mut bench = Bench::new();
    bench.reach(&[]);
    bench.session(at(2, 5), 2, &[TOPIC, CHANNEL]);
    bench.pass(seconds(10));
    assert_eq!(bench.asks(), []);
    bench.reach(&[2]);
    bench.ask();
    bench.reach(&[]);
    bench.pass(seconds(30));
    bench.reach(&[2]);
    let ask = bench.ask();
    bench.verdict(&ask, true);
    bench.reach(&[]);
    assert_eq!(bench.verified(PUBLISHER), [at(2, 5)], "out of reach for a moment");
    bench.verification.handle_node_gone(bench.now, NodeId::new([2; 32]));
    bench.gone(at(1, 1));
    bench.assert_empty();
}

#[test]
fn about_a_node_that_starts_anew_nobody_is_asked_before_the_way_there_is_known_again() {
    let mut bench = Bench::new();
    bench.verification.handle_node_gone(bench.now, NodeId::new([2; 32]));
    bench.session(Holder { epoch: 2, ..at(2, 5) }, 2, &[TOPIC, CHANNEL]);
    assert_eq!(bench.asks(), []);
    bench.reach(&[2, 3]);
    assert_eq!(bench.ask().subscriber.epoch, 2);
}

#[test]
fn one_node_cannot_take_the_room_of_all() {
    let mut bench = Bench::new();
    for session in 0..=MAX_SUBSCRIBERS_OF_NODE as u64 {
        bench.session(at(2, session), 2, &[TOPIC]);
    }
    assert_eq!(bench.verification.counters().over_capacity, 1);
    bench.session(at(3, 1), 2, &[TOPIC, CHANNEL]);
    assert_eq!(bench.ask().subscriber, at(3, 1));
    bench.verification.handle_node_gone(bench.now, NodeId::new([2; 32]));
    bench.gone(at(3, 1));
    bench.gone(at(1, 1));
    bench.assert_empty();
}

#[test]
fn changes_of_another_node_add_up() {
    let mut bench = Bench::new();
    let change = |name: &str, of: Option<u8>| (topic(name), SessionId(5), of.map(client));
    let mut tell = |changes| bench.verification.handle_changes(Time::ZERO, at(2, 5), changes);
    tell(vec![change(TOPIC, Some(2))]);
    tell(vec![change(CHANNEL, Some(2))]);
    let ask = bench.ask();
    bench.verdict(&ask, true);
    bench.verification.handle_changes(Time::ZERO, at(2, 5), vec![change(CHANNEL, None)]);
    assert_eq!(bench.verified(PUBLISHER), [at(2, 5)], "a new report has a new channel");
    bench.verification.handle_changes(Time::ZERO, at(2, 5), vec![change(OTHER_CHANNEL, Some(3))]);
    assert_eq!(bench.verified(PUBLISHER), [], "another client under the same number");
    bench.gone(at(1, 1));
    bench.verification.handle_changes(
        Time::ZERO,
        at(2, 5),
        vec![change(OTHER_CHANNEL, None), change(TOPIC, None)],
    );
    bench.assert_empty();
}

#[test]
fn a_new_own_epoch_begins_with_nobody_verified() {
    let mut bench = Bench::new();
    bench.session(at(1, 5), 2, &[TOPIC, CHANNEL]);
    let ask = bench.ask();
    bench.verdict(&ask, true);
    bench.verification.handle_own_epoch(Time::ZERO, 9);
    assert_eq!(bench.verified(PUBLISHER), []);
    let ask = bench.ask();
    bench.verdict(&ask, true);
    assert_eq!(bench.verified(PUBLISHER), [Holder { epoch: 9, ..at(1, 5) }]);
}

#[test]
fn only_the_verdict_that_was_asked_for_counts() {
    let mut bench = Bench::new();
    bench.session(at(1, 9), 1, &[PUSH]);
    bench.session(at(2, 5), 2, &[TOPIC, CHANNEL]);
    let ask = bench.asks().remove(0);
    let now = bench.now;
    let v = &mut bench.verification;
    v.handle_verdict(now, SessionId(9), ask.question, &ask.topic, true);
    v.handle_verdict(now, PUBLISHER, ask.question, &topic("#!$TopicNeedVerify_b"), true);
    v.handle_verdict(now, PUBLISHER, Question::new(&[8; 32], 1), &ask.topic, true);
    assert_eq!(v.counters().stray, 3);
    assert_eq!(bench.verified(PUBLISHER), []);

    bench.pass(seconds(2));
    let again = bench.asks().into_iter().find(|again| again.publisher == PUBLISHER).unwrap();
    assert_ne!(again.question, ask.question, "a question that nobody answered is void");
    bench.verdict(&ask, true);
    assert_eq!(bench.verified(PUBLISHER), [], "late");
    bench.verdict(&again, false);
    bench.verdict(&again, true);
    assert_eq!(bench.verified(PUBLISHER), [], "after a failure");
}

#[test]
fn a_failure_ends_with_a_new_channel_and_costs_a_pause() {
    let mut bench = Bench::new();
    bench.session(at(2, 5), 2, &[TOPIC, CHANNEL]);
    let ask = bench.ask();
    bench.verdict(&ask, false);
    bench.pass(seconds(50));
    assert_eq!(bench.asks(), [], "the same channel is not tried again");
    bench.session(at(2, 5), 2, &[TOPIC, CHANNEL, OTHER_CHANNEL]);
    let ask = bench.ask();
    assert_eq!(ask.channel.as_str(), OTHER_CHANNEL);
    bench.verdict(&ask, false);
    bench.session(at(2, 5), 2, &[TOPIC, "#!$VerifyChannel_#!$TopicNeedVerify_a_03"]);
    assert_eq!(bench.asks(), [], "a subscriber that fails cannot keep its publisher busy");
    bench.pass(seconds(53));
    let ask = bench.ask();
    bench.verdict(&ask, true);
    assert_eq!(bench.verified(PUBLISHER), [at(2, 5)]);
}

#[test]
fn questions_are_put_again_with_growing_patience() {
    let mut bench = Bench::new();
    bench.session(at(2, 5), 2, &[TOPIC, CHANNEL]);
    let mut moments = Vec::new();
    while bench.now < seconds(120) {
        moments.extend(bench.asks().iter().map(|_| bench.now.since_start().as_secs()));
        let due = bench.verification.poll_timeout().unwrap();
        bench.pass(due);
    }
    assert_eq!(moments, [0, 1, 3, 7, 15, 25, 35, 45, 55, 115]);
}

#[test]
fn a_publisher_takes_its_trust_back() {
    let mut bench = Bench::new();
    bench.session(at(2, 5), 2, &[TOPIC, CHANNEL]);
    let ask = bench.ask();
    bench.verdict(&ask, true);
    bench.verdict(&ask, false);
    assert_eq!(bench.verified(PUBLISHER), []);
    bench.verdict(&ask, true);
    bench.pass(seconds(100));
    assert_eq!((bench.verified(PUBLISHER), bench.asks()), (vec![], vec![]));
    assert_eq!(bench.verification.counters().revoked, 1);
}

#[test]
fn verification_ends_with_either_side() {
    let verified = || {
        let mut bench = Bench::new();
        bench.session(at(2, 5), 2, &[TOPIC, CHANNEL]);
        let ask = bench.ask();
        bench.verdict(&ask, true);
        assert_eq!(bench.verified(PUBLISHER).len(), 1);
        bench
    };
    let mut bench = verified();
    bench.gone(at(2, 5));
    assert_eq!(bench.verified(PUBLISHER), []);
    bench.session(at(2, 5), 2, &[TOPIC, CHANNEL]);
    assert_eq!(bench.verified(PUBLISHER), [], "it has to prove it anew");
    bench.ask();

    let mut bench = verified();
    bench.session(at(2, 5), 3, &[TOPIC, CHANNEL]);
    assert_eq!(bench.verified(PUBLISHER), [], "another client under the same number");

    let mut bench = verified();
    bench.session(at(2, 5), 2, &[CHANNEL]);
    assert_eq!(bench.verified(PUBLISHER), [], "the topic was given up");

    let mut bench = verified();
    bench.session(at(1, 1), 1, &[]);
    assert_eq!(bench.verified(PUBLISHER), [], "the publisher gave up");
    bench.session(at(1, 1), 1, &[PUSH]);
    assert_eq!(bench.verified(PUBLISHER), []);
}

#[test]
fn only_a_publisher_may_challenge() {
    let mut bench = Bench::new();
    bench.session(at(2, 5), 2, &[TOPIC, CHANNEL]);
    bench.session(at(1, 7), 7, &[TOPIC]);
    assert_eq!(bench.challenged(PUBLISHER, CHANNEL), Some(at(2, 5)));
    assert_eq!(bench.challenged(SessionId(7), CHANNEL), None);
    assert_eq!(bench.challenged(PUBLISHER, OTHER_CHANNEL), None);
    let recipients = |name| bench.verification.table().recipients(PUBLISHER, &topic(name)).len();
    assert_eq!((recipients(CHANNEL), recipients(TOPIC), recipients(PUSH), recipients("a")), (1, 0, 0, 0));
}

#[test]
fn a_question_comes_back_from_its_digits() {
    let question = Question::new(&[1; 32], 2);
    let ask = Ask { number: u64::MAX, ..some_ask() };
    assert!(Ask::is_seq(ask.to_seq()) && crate::broker::event::PushId::from_seq(ask.to_seq()).is_none());
    assert!(!Ask::is_seq(crate::broker::event::PushId(u64::MAX).to_seq()));
    let digits = question.to_hex();
    assert_eq!(digits.len(), 128);
    assert_eq!(Question::from_hex(&digits), Some(question));
    for bad in [&digits[1..], &digits.to_uppercase(), &"g".repeat(128), "", &"é".repeat(64)] {
        assert_eq!(Question::from_hex(bad), None, "{bad}");
    }
}

fn some_ask() -> Ask {
    let mut bench = Bench::new();
    bench.session(at(2, 5), 2, &[TOPIC, CHANNEL]);
    bench.ask()
}
