//! Lists, changes of them, and members that send either without measure.

use super::*;

/// Node 1 with neighbours 2 and 5, who knows node 3 by 2 and holds its topics `a` in sequence 2.
fn knows_three(config: Config) -> Control {
    let mut control = linked(config);
    control.handle_link_up(Time::ZERO, id(5));
    for message in [identity(2, 10), links(2, 10, 1, &[1, 3]), identity(3, 10), links(3, 10, 1, &[2])] {
        assert_eq!(hear(&mut control, message).1, []);
    }
    assert_eq!(hear(&mut control, list(3, 2, &["a"])).1, []);
    control
}

fn list(n: u8, sequence: u64, names: &[&str]) -> Message {
    record(n, n, 10, sequence, whole(names))
}

/// The change from `before`, in the sequence before this one.
fn delta(n: u8, signer: u8, sequence: u64, before: &[&str], added: &[&str]) -> Message {
    let all: Vec<&str> = [before, added].concat();
    let delta = pb::TopicsDelta { from: sequence - 1, changes: entries(added, 1), hash: hash(&all) };
    record(n, signer, 10, sequence, Content::TopicsDelta(delta))
}

fn at(millis: u64) -> Time {
    // Tests that say when, say so long after those that do not care.
    Time::ZERO + Duration::from_secs(1_000) + Duration::from_millis(millis)
}

fn hear_at(control: &mut Control, millis: u64, from: u8, message: Message) -> Vec<Message> {
    control.handle_message(at(millis), id(from), message);
    said(control).0
}

/// What was asked of whom: the sequence that is held.
fn pulls(sent: &[Message]) -> Vec<u64> {
    let pulls = sent.iter().filter_map(|message| match message {
        Message::Pull(pull) => Some(pull.topics),
        _ => None,
    });
    pulls.collect()
}

fn has(control: &Control, topics: &[&str]) -> bool {
    let routes = |topic: &&str| control.routing().topic(topic).is_some();
    topics.iter().all(routes) && control.routing().topics().count() == topics.len()
}

#[test]
fn a_change_is_applied_and_passed_on() {
    let mut control = knows_three(Config::default());
    let change = delta(3, 3, 3, &["a"], &["b"]);
    let sent = hear_at(&mut control, 0, 2, change.clone());
    assert!(sent.contains(&change), "to node 5: {sent:?}");
    assert!(has(&control, &["a", "b"]));
    assert_eq!(control.counters().deltas, 1);
}

/// One piece of two of a list.
fn piece(sequence: u64, piece: u32, names: &[&str; 2]) -> Message {
    let topics = entries(&names[piece as usize..=piece as usize], 1);
    record(
        3,
        3,
        10,
        sequence,
        Content::Topics(pb::TopicsContent { topics, piece, pieces: 2, hash: hash(names) }),
    )
}

/// A list overtaken by a newer one on another way while both are coming in, piece by piece.
#[test]
fn who_sent_an_older_list_meanwhile_hears_that_it_has_settled() {
    let mut control = knows_three(Config::default());
    let (older, newer) = (["a", "b"], ["a", "c"]);
    hear_at(&mut control, 0, 5, piece(4, 0, &newer));
    for number in 0..2 {
        assert_eq!(hear_at(&mut control, 1, 2, piece(3, number, &older)), [], "and nobody is asked");
    }
    hear_at(&mut control, 2, 5, piece(4, 1, &newer));
    assert!(has(&control, &newer));
    let settled = |sequence| {
        let node = Bytes::copy_from_slice(id(3).as_bytes());
        Message::Settled(pb::Settled { node, epoch: 10, sequence })
    };
    let told = hear_at(&mut control, 3, 2, settled(4));
    assert!(told.contains(&settled(3)) && told.contains(&settled(4)), "{told:?}");
    assert_eq!((control.claims(), control.unfinished_bytes()), (0, 0));
}

#[test]
fn a_forged_change_is_not() {
    let mut control = knows_three(Config::default());
    assert_eq!(hear(&mut control, delta(3, 2, 3, &["a"], &["lie"])).1, [PeerFault::Signature(id(3))]);
    let piece = pb::TopicsContent { topics: entries(&["lie"], 1), piece: 1, pieces: 2, hash: hash(&["lie"]) };
    let piece = record(3, 2, 10, 9, Content::Topics(piece));
    assert_eq!(hear(&mut control, piece).1, [PeerFault::Signature(id(3))]);
    assert!(has(&control, &["a"]));
}

#[test]
fn whoever_is_behind_asks_one_neighbour_at_a_time() {
    let mut control = knows_three(Config::default());
    let later = delta(3, 3, 5, &["a", "b", "c"], &["d"]);
    assert_eq!(pulls(&hear_at(&mut control, 0, 2, later.clone())), [2], "it says what it holds");
    assert_eq!(pulls(&hear_at(&mut control, 1, 5, later.clone())), [0_u64; 0]);
    control.handle_timeout(at(PATIENCE.as_millis() as u64 + 1));
    assert_eq!(pulls(&said(&mut control).0), [2], "the other, in its turn");
    control.handle_timeout(at(3 * PATIENCE.as_millis() as u64));
    assert_eq!(pulls(&said(&mut control).0), [0_u64; 0], "nobody has claimed anything since");
    assert_eq!(control.claims(), 0);
    for (sequence, before, added) in [(3, &["a"][..], "b"), (4, &["a", "b"], "c"), (5, &["a", "b", "c"], "d")]
    {
        hear_at(&mut control, 5_000, 5, delta(3, 3, sequence, before, &[added]));
    }
    assert!(has(&control, &["a", "b", "c", "d"]));
}

#[test]
fn a_change_that_does_not_fit_leads_to_one_question_for_the_whole_list() {
    let mut control = knows_three(Config::default());
    let lie = delta(3, 3, 3, &["another"], &["b"]);
    assert_eq!(pulls(&hear_at(&mut control, 0, 2, lie.clone())), [0]);
    assert!(has(&control, &["a"]), "what was held holds");
    assert_eq!(pulls(&hear_at(&mut control, 1, 2, lie)), [0_u64; 0]);
    for second in 1..60 {
        control.handle_timeout(at(second * 1_000));
        assert_eq!(pulls(&said(&mut control).0), [0_u64; 0]);
    }
    hear_at(&mut control, 61_000, 2, list(3, 4, &["c"]));
    assert!(has(&control, &["c"]));
    assert_eq!(control.counters().misfits, 1);
}

#[test]
fn made_up_nodes_cost_no_more_than_real_ones() {
    let mut control = linked(Config { max_nodes: 8, ..Config::default() });
    for n in 0..200_u8 {
        let node = Bytes::copy_from_slice(&[n; 32]);
        let entry = pb::Versions { node, epoch: u64::MAX, links: 1, topics: 1, identity: 0 };
        hear(&mut control, Message::Vector(pb::Vector { entries: vec![entry], partial: true }));
        hear(&mut control, list(n, 7, &["t"]));
        assert!(control.claims() <= 9);
    }
}

#[test]
fn lists_that_are_never_complete_share_a_bound() {
    let lists = crate::broker::lists::Bounds { max_unfinished_bytes: 2_000, ..Default::default() };
    let mut control = linked(Config { lists, ..Config::default() });
    for n in 10..60 {
        hear(&mut control, identity(n, 10));
        for piece in 0..u32::from(n % 7) {
            let topics = entries(&["some topic"], 1);
            let content = pb::TopicsContent { topics, piece, pieces: 9, hash: hash(&[]) };
            assert_eq!(hear(&mut control, record(n, n, 10, 2, Content::Topics(content))).1, []);
            assert!(control.unfinished_bytes() <= 2_000);
        }
    }
    assert!(control.counters().unfinished > 0);
}

/// A member that signs a change every 100 µs is heard no more often than is good; its newest state
/// comes in all the same, and nobody else waits.
#[test]
fn a_storm_is_taken_in_at_a_pace() {
    let mut control = knows_three(Config::default());
    for message in [identity(4, 10), links(4, 10, 1, &[2]), links(2, 10, 2, &[1, 3, 4])] {
        hear(&mut control, message);
    }
    let mut before = vec!["a".to_owned()];
    let (mut asked, mut taken) = (0, 0);
    for n in 0_u64..20_000 {
        let millis = n / 10;
        let (sequence, name) = (3 + n, format!("topic-{n}"));
        // Its list has two topics at any time; the one that a change brings, and the one before.
        let names = [before.last().cloned().unwrap_or_default(), name.clone()];
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        taken += u64::from(!hear_at(&mut control, millis, 2, list(3, sequence, &names)).is_empty());
        before = vec![name];
        control.handle_timeout(at(millis));
        asked += pulls(&said(&mut control).0).len();
        if n % 1_000 == 0 {
            let topic = format!("quiet-{n}");
            hear_at(&mut control, millis, 2, list(4, 2 + n, &[&topic]));
            assert!(control.routing().topic(&topic).is_some(), "nobody else waits");
        }
    }
    assert!((3_000..6_000).contains(&taken), "4,000 at once and 400 a second: {taken}");
    assert!(control.counters().paced > 5 && asked < 10, "{asked} questions");
    control.handle_timeout(at(60_000));
    assert_eq!(pulls(&said(&mut control).0).len(), 1, "it is asked for what it says now");
    hear_at(&mut control, 60_000, 2, list(3, 30_000, &["last"]));
    assert!(control.routing().topic("last").is_some());
}
