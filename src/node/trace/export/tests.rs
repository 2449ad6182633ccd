use std::time::Duration;

use amop_protocol::{
    Cause, NodeId, Seq, SessionId, Time, Topic, TraceContext,
    broker::{
        event::Mode,
        journal::{Brief, Journal, Key, Label, Name, Step},
    },
    wire::peer::{Carries, SendRef},
};

use super::follow::{Followed, Follower, MAX_FOLLOWED, MAX_STEPS, Role};

const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const NOT_SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
const DELIVERED: Step = Step::Told { session: SessionId(1), cause: Cause::Delivered };
const HERE: Brief = Brief([1; 8]);

fn key(origin: u8, send: u64) -> Key {
    Key::new(NodeId::new([origin; 32]), SendRef { epoch: 5, id: send })
}

fn topic() -> Topic {
    Topic::parse("settlement/eur/intraday").expect("a topic")
}

fn published() -> Step {
    Step::Published { seq: Seq::from_u128(1), topic: Name::of(&topic()), mode: Mode::Unicast }
}

fn arrived() -> Step {
    Step::Arrived { seq: Seq::from_u128(1), topic: Name::of(&topic()), over: HERE }
}

fn context(text: &str) -> Step {
    let context: TraceContext = text.parse().expect("a traceparent");
    Step::Context { context, topic: Label::of(&topic()) }
}

const fn relayed(what: Carries) -> Step {
    Step::Relayed { what, from: HERE, to: HERE }
}

/// At the node whose id is all ones; entries are a microsecond apart.
struct Page {
    follower: Follower,
    journal: Journal,
    read: u64,
}

impl Page {
    fn new() -> Self {
        let follower = Follower::new(NodeId::new([1; 32]), Duration::from_secs(100));
        Self { follower, journal: Journal::new(100_000), read: 0 }
    }

    fn note(&mut self, key: Key, steps: &[Step]) {
        for step in steps {
            self.journal.set_now(Time::from_start(Duration::from_micros(self.journal.written())));
            self.journal.note(key, 1, *step);
        }
    }

    /// What has ended by `seconds`.
    fn ended(&mut self, seconds: u64) -> Vec<Followed> {
        self.follower.turn_page();
        let follower = &mut self.follower;
        self.read =
            self.journal.read(self.read, usize::MAX, |entry| follower.take(entry, || "a client".into()));
        follower.end_due(Time::from_start(Duration::from_secs(seconds)));
        follower.ended().collect()
    }
}

#[test]
fn a_message_of_a_recorded_trace_is_followed_to_its_end() {
    let mut page = Page::new();
    page.note(key(1, 7), &[published(), context(SAMPLED), Step::NoWay { to: HERE }]);
    assert!(page.ended(50).is_empty(), "under way");
    page.note(key(1, 7), &[DELIVERED]);
    assert!(page.ended(0).is_empty(), "something may come late");
    let [followed] = &page.ended(2)[..] else { panic!("one") };
    assert_eq!((followed.key, followed.role), (key(1, 7), Role::Publish));
    assert_eq!((followed.outcome, followed.steps.len()), (Some(Cause::Delivered), 3));
    assert_eq!(followed.context.to_string(), SAMPLED);
    assert_eq!(followed.topic.known(), Ok("settlement/eur/intraday"));
    assert_eq!((&*followed.steps[0].1, &*followed.steps[1].1), ("", "a client"));
    assert!(page.ended(1000).is_empty(), "once");
}

#[test]
fn others_are_not() {
    let mut page = Page::new();
    page.note(key(1, 1), &[published(), DELIVERED]);
    page.note(key(1, 2), &[published(), context(NOT_SAMPLED), DELIVERED]);
    // Behind a step of another message, or a first step that is gone.
    page.note(key(1, 3), &[context(SAMPLED), DELIVERED]);
    page.note(key(1, 4), &[DELIVERED, context(SAMPLED)]);
    assert!(page.ended(1000).is_empty());
}

#[test]
fn a_node_has_a_span_for_each_of_its_roles() {
    let mut page = Page::new();
    page.note(key(1, 1), &[published(), context(SAMPLED), arrived(), context(SAMPLED)]);
    let answered = Step::Answered { session: SessionId(2), cause: Cause::Delivered };
    let stopped = Step::Stopped { what: Carries::Attempt, to: HERE, cause: Cause::Unreachable };
    page.note(key(1, 1), &[answered, stopped, context(SAMPLED), DELIVERED]);
    page.note(key(2, 1), &[relayed(Carries::Attempt), context(SAMPLED), relayed(Carries::Outcome)]);
    let mut ended = page.ended(2);
    ended.sort_by_key(|followed| followed.steps[0].0.at());
    let found: Vec<_> = ended.iter().map(|one| (one.role, one.steps.len(), one.outcome)).collect();
    let delivered = Some(Cause::Delivered);
    let expected = [(Role::Publish, 3, delivered), (Role::Deliver, 2, delivered), (Role::Relay, 2, None)];
    assert_eq!(found, expected, "what did not get away is in the span of its publication");
}

#[test]
fn the_last_word_counts_at_a_relay_and_at_a_subscribers_node() {
    let mut page = Page::new();
    let stopped = Step::Stopped { what: Carries::Attempt, to: HERE, cause: Cause::RelayLimit };
    page.note(key(2, 1), &[stopped, context(SAMPLED)]);
    page.note(key(2, 2), &[stopped, context(SAMPLED), relayed(Carries::Attempt), context(SAMPLED)]);
    page.note(key(2, 2), &[relayed(Carries::Outcome)]);
    let failed = Step::Reported { cause: Cause::PushTimeout };
    let answered = Step::Answered { session: SessionId(2), cause: Cause::Delivered };
    let pushed = Step::Pushed { session: SessionId(2) };
    page.note(key(2, 3), &[arrived(), context(SAMPLED), pushed, failed]);
    page.note(key(2, 4), &[arrived(), context(SAMPLED), pushed, failed, pushed]);
    let mut ended = page.ended(2);
    page.note(key(2, 4), &[answered]);
    ended.extend(page.ended(2));
    ended.sort_by_key(|followed| followed.key);
    let outcomes: Vec<_> = ended.iter().map(|followed| followed.outcome).collect();
    assert_eq!(outcomes, [Some(Cause::RelayLimit), None, Some(Cause::PushTimeout), Some(Cause::Delivered)]);
}

#[test]
fn what_is_refused_at_once_has_a_span_each() {
    let mut page = Page::new();
    let refused =
        |n| Step::AtOnce { seq: Seq::from_u128(n), topic: Name::of(&topic()), cause: Cause::Draining };
    page.note(key(1, 0), &[refused(1), context(SAMPLED), refused(2), refused(3), context(SAMPLED)]);
    let ended = page.ended(0);
    let seqs: Vec<_> = ended.iter().map(|followed| followed.steps[0].0.seq().copied()).collect();
    assert_eq!(seqs, [Some(Seq::from_u128(1)), Some(Seq::from_u128(3))]);
    assert!(ended.iter().all(|followed| followed.outcome == Some(Cause::Draining)));
}

#[test]
fn what_never_ends_is_given_up() {
    let mut page = Page::new();
    page.note(key(2, 1), &[relayed(Carries::FanOut), context(SAMPLED)]);
    page.note(key(1, 1), &[published(), context(SAMPLED)]);
    assert!(page.ended(9).is_empty());
    assert_eq!(page.ended(11).len(), 1, "what is reported may have taken another way");
    assert!(page.ended(100).is_empty());
    assert_eq!(page.ended(102).len(), 1);
    page.note(key(1, 2), &[published(), context(SAMPLED)]);
    assert!(page.ended(0).is_empty());
    page.follower.end_all();
    assert_eq!(page.follower.ended().count(), 1);
}

/// As it is now, or was when they began: whichever is longer.
#[test]
fn sends_are_followed_as_long_as_they_may_last() {
    let mut page = Page::new();
    page.note(key(1, 7), &[published(), context(SAMPLED)]);
    assert!(page.ended(1).is_empty());
    page.follower.set_longest(Duration::from_secs(1000));
    assert!(page.ended(500).is_empty(), "raised");
    page.note(key(1, 8), &[published(), context(SAMPLED)]);
    assert!(page.ended(501).is_empty());
    page.follower.set_longest(Duration::from_secs(10));
    let ended: Vec<u64> = page.ended(600).iter().map(|followed| followed.key.send).collect();
    assert_eq!(ended, [7], "the other began with more");
    assert_eq!(page.ended(1002).len(), 1);
}

#[test]
fn messages_and_their_steps_have_bounds() {
    let mut page = Page::new();
    page.note(key(1, 1), &[published(), context(SAMPLED)]);
    page.note(key(1, 1), &[Step::NoWay { to: HERE }; 2 * MAX_STEPS]);
    page.note(key(1, 1), &[Step::Told { session: SessionId(1), cause: Cause::Unreachable }]);
    let [followed] = &page.ended(2)[..] else { panic!("one") };
    assert_eq!((followed.steps.len(), followed.left_out), (MAX_STEPS, MAX_STEPS as u32 + 2));
    assert_eq!(followed.outcome, Some(Cause::Unreachable), "the end counts all the same");

    for send in 0..MAX_FOLLOWED as u64 + 10 {
        page.note(key(1, 10 + send), &[published(), context(SAMPLED)]);
    }
    page.note(key(1, 10), &[DELIVERED]);
    assert_eq!(page.ended(0).len(), 1, "at once, for there is little room");
    assert_eq!((page.follower.take_refused(), page.follower.take_refused()), (10, 0));
    page.follower.end_all();
    assert_eq!(page.follower.ended().count(), MAX_FOLLOWED - 1);
}
