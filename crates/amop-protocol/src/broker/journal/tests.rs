use std::time::Duration;

use super::*;
use crate::{NodeId, Seq, Topic, broker::event::Mode, wire::peer::SendRef};

fn key(send: u64) -> Key {
    Key::new(NodeId::new([7; 32]), SendRef { epoch: 1 << 40 | 5, id: send })
}

fn filled(bound: usize, entries: u64) -> Journal {
    let mut journal = Journal::new(bound);
    for n in 1..=entries {
        journal.set_now(Time::from_start(Duration::from_micros(n)));
        journal.note(key(n), n as u32, Step::NoWay { to: Brief([n as u8; 8]) });
    }
    journal
}

fn sends(journal: &Journal, from: u64, most: usize) -> (Vec<u64>, u64) {
    let mut found = Vec::new();
    let next = journal.read(from, most, |entry| found.push(entry.key().send));
    (found, next)
}

#[test]
fn entries_are_read_in_order_and_the_oldest_give_way() {
    for (bound, entries) in [(4, 0), (4, 3), (4, 4), (4, 5), (4, 11), (1, 3)] {
        let journal = filled(bound, entries);
        let oldest = entries.saturating_sub(bound as u64) + 1;
        assert_eq!(sends(&journal, 0, 100), ((oldest..=entries).collect(), entries), "{bound} {entries}");
        assert_eq!(journal.len(), bound.min(entries as usize));
        assert_eq!(journal.oldest(), oldest - 1);
    }
}

#[test]
fn a_search_in_portions_misses_nothing_that_is_left() {
    let mut journal = filled(4, 6);
    assert_eq!(sends(&journal, 0, 2), (vec![3, 4], 4));
    assert_eq!(sends(&journal, 4, 2), (vec![5, 6], 6));
    assert_eq!(sends(&journal, 6, 2), (vec![], 6));
    assert_eq!(sends(&journal, 99, 2), (vec![], 99), "a place that is yet to come");
    for n in 7..=12 {
        journal.note(key(n), 0, Step::NoWay { to: Brief([0; 8]) });
    }
    assert_eq!(sends(&journal, 4, 2), (vec![9, 10], 10), "what gave way meanwhile is left out");
}

#[test]
fn with_no_room_nothing_is_written_down() {
    let journal = filled(0, 9);
    assert!(journal.is_empty() && !journal.is_on());
    assert_eq!(sends(&journal, 0, 100), (vec![], 0));
}

#[test]
fn an_entry_says_when_and_of_what() {
    let seq = Seq::from_u128(9);
    let topic = Name::of(&Topic::parse("orders").unwrap());
    let mut journal = Journal::new(8);
    journal.set_now(Time::from_start(Duration::from_nanos(5_000_000_123)));
    journal.note(key(3), 70_000, Step::Published { seq, topic, mode: Mode::Unicast });
    let mut found = None;
    journal.read(0, 1, |entry| found = Some(*entry));
    let entry = found.unwrap();
    assert_eq!(entry.at(), Time::from_start(Duration::from_nanos(5_000_000_123)));
    assert_eq!((entry.key(), entry.attempt()), (key(3), 65_535));
    assert_eq!((entry.seq(), entry.topic()), (Some(&seq), Some(&topic)));
    assert_eq!(entry.key().epoch, 5, "the low bits");
}

#[test]
fn topics_are_told_apart_however_long() {
    let name = |text: &str| Name::of(&Topic::parse(text).unwrap());
    assert_eq!(name("orders").known(), Ok("orders"));
    assert_eq!(name("exactly-14-oct").known(), Ok("exactly-14-oct"));
    let long = name("settlement/eur/intraday");
    assert_eq!(long.known(), Err("settlement/eur"));
    assert_eq!(long, name("settlement/eur/intraday"));
    assert_ne!(long, name("settlement/eur/overnight"));
    assert_ne!(name("settlement/eur/x"), name("settlement/eur/"), "of one length more");
    assert_eq!(name("市场市场市").known(), Err("市场市场"), "cut within a character");
}

#[test]
fn a_label_has_more_of_a_topic() {
    let label = |text: &str| Label::of(&Topic::parse(text).unwrap());
    assert_eq!(label("settlement/eur/intraday").known(), Ok("settlement/eur/intraday"));
    assert_eq!(label(&"x".repeat(37)).known(), Ok(&*"x".repeat(37)));
    assert_eq!(label(&"x".repeat(38)).known(), Err(&*"x".repeat(37)));
    assert_eq!(label(&"市".repeat(13)).known(), Err(&*"市".repeat(12)), "cut within a character");
    assert_eq!(label(&"x".repeat(254)).known(), Err(&*"x".repeat(37)));
}

/// Memory is what `[trace] entries` says: measured where it is documented, bounded here.
#[test]
fn an_entry_has_its_size() {
    assert_eq!(ENTRY_BYTES, 96);
}
