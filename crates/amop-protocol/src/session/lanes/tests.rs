use proptest::{collection::vec, prelude::*};

use super::*;
use crate::Topic;

/// What a node's queue towards a client has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Flow {
    Messages(Topic),
    Outcomes(Option<Topic>),
    Replies,
}

/// Stands for an item: what was pushed how many-eth of its flow.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Thing {
    flow: Flow,
    cost: usize,
    number: usize,
}

impl Queued for Thing {
    type Flow = Flow;

    fn cost(&self) -> usize {
        self.cost
    }

    fn flow(&self) -> Flow {
        self.flow.clone()
    }

    fn is_ordered(&self) -> bool {
        matches!(self.flow, Flow::Messages(_))
    }
}

const LARGE: usize = 256 * 1024;

fn topic(name: &str) -> Topic {
    Topic::parse(name).expect("a topic")
}

fn message(name: &str, cost: usize, number: usize) -> Thing {
    Thing { flow: Flow::Messages(topic(name)), cost, number }
}

fn lanes(things: impl IntoIterator<Item = Thing>) -> Lanes<Thing> {
    let mut lanes = Lanes::default();
    things.into_iter().for_each(|thing| lanes.push(thing));
    lanes
}

fn numbers(mut lanes: Lanes<Thing>) -> Vec<usize> {
    std::iter::from_fn(|| lanes.pop()).map(|thing| thing.number).collect()
}

#[test]
fn small_ones_pass_large_ones_of_other_flows() {
    let outcome = Thing { flow: Flow::Outcomes(None), cost: 300, number: 3 };
    let things = [message("a", LARGE, 0), message("a", LARGE, 1), message("b", 300, 2), outcome];
    assert_eq!(numbers(lanes(things)), [2, 3, 0, 1]);
}

#[test]
fn messages_on_one_topic_stay_in_order() {
    let things = [message("a", 300, 0), message("a", LARGE, 1), message("a", 300, 2), message("b", 300, 3)];
    assert_eq!(numbers(lanes(things)), [0, 3, 1, 2]);
}

#[test]
fn the_hand_over_is_told_before_an_outcome_with_a_large_answer() {
    let large = |number| Thing { flow: Flow::Outcomes(Some(topic("a"))), cost: LARGE, number };
    let handed = |number| Thing { flow: Flow::Replies, cost: 300, number };
    let reply = Thing { flow: Flow::Replies, cost: LARGE, number: 0 };
    assert_eq!(numbers(lanes([reply, handed(1), large(2), handed(3), large(4)])), [1, 3, 0, 2, 4]);
    // Also when small ones have passed large ones for as long as they may.
    let flood = (0..400).map(|number| message("b", 1024, number));
    let told = numbers(lanes([large(1000)].into_iter().chain(flood).chain([handed(1001), large(1002)])));
    let at = |number| told.iter().position(|told| *told == number).expect("told");
    assert!(at(1000) < 400, "it had its turn");
    assert!(at(1001) < at(1002));
}

#[test]
fn large_flows_take_turns_by_bytes() {
    let flood = (0..64).map(|number| message("a", LARGE, number));
    let lesser = (0..32).map(|number| message("b", LARGE / 8, 100 + number));
    let order = numbers(lanes(flood.chain(lesser)));
    let b_of = |first: usize| order[..first].iter().filter(|number| **number >= 100).count();
    assert_eq!(b_of(9), 8, "as many bytes of one as of the other: {order:?}");
    assert_eq!(b_of(18), 16);
}

#[test]
fn a_flood_of_small_ones_leaves_large_ones_their_share() {
    let mut lanes = lanes((0..16).map(|number| message("a", LARGE, number)));
    let (mut large, mut small) = (0, 0);
    while large < 16 * LARGE {
        lanes.push(message("b", 1000, 0));
        lanes.push(message("c", 1000, 0));
        let Thing { cost, .. } = lanes.pop().expect("something waits");
        if cost == LARGE {
            large += cost
        } else {
            small += cost
        }
        assert!(small <= large + SMALL_TURN + LARGE, "{small} of small ones, {large} of large ones");
    }
}

#[test]
fn what_is_left_comes_in_the_order_of_each_flow() {
    let things = [message("a", 300, 0), message("b", LARGE, 1), message("a", LARGE, 2), message("a", 300, 3)];
    let left: Vec<usize> = lanes(things).into_items().map(|thing| thing.number).collect();
    let of_a: Vec<usize> = left.iter().copied().filter(|number| *number != 1).collect();
    assert_eq!((left.len(), of_a), (4, vec![0, 2, 3]));
}

fn flow() -> impl Strategy<Value = Flow> {
    let name = prop_oneof![Just("a"), Just("b"), Just("c")];
    prop_oneof![
        4 => name.clone().prop_map(|name| Flow::Messages(topic(name))),
        1 => name.prop_map(|name| Flow::Outcomes(Some(topic(name)))),
        1 => Just(Flow::Outcomes(None)),
        1 => Just(Flow::Replies),
    ]
}

fn cost() -> impl Strategy<Value = usize> {
    prop_oneof![200..2000usize, 12_000..20_000usize, 100_000..400_000usize]
}

proptest! {
    /// Whatever comes and goes in whichever order: all comes out once, messages on one topic in order,
    /// and nothing large before what was small and there before it.
    #[test]
    fn order_is_kept(steps in vec(prop_oneof![3 => (flow(), cost()).prop_map(Some), 2 => Just(None)], 0..200)) {
        let mut lanes = Lanes::default();
        let mut waiting: Vec<Thing> = Vec::new();
        let pushes = steps.len();
        let pops = std::iter::repeat_n(None, pushes);
        for (number, step) in steps.into_iter().chain(pops).enumerate() {
            match step {
                Some((flow, cost)) => {
                    let thing = Thing { flow, cost, number };
                    waiting.push(thing.clone());
                    lanes.push(thing);
                }
                None => {
                    let first = lanes.first().cloned();
                    let popped = lanes.pop();
                    prop_assert_eq!(&first, &popped);
                    let Some(popped) = popped else {
                        prop_assert!(waiting.is_empty());
                        continue;
                    };
                    let at = waiting.iter().position(|thing| *thing == popped);
                    let at = at.expect("it waited");
                    for before in &waiting[..at] {
                        let is_message = matches!(before.flow, Flow::Messages(_));
                        prop_assert!(!(is_message && before.flow == popped.flow), "{popped:?} passed {before:?}");
                        let free = !is_message && before.cost <= SMALL;
                        prop_assert!(!free, "{popped:?} passed {before:?}");
                    }
                    waiting.remove(at);
                }
            }
        }
        prop_assert!(waiting.is_empty());
        prop_assert!(lanes.flows.is_empty() && lanes.turns.is_empty());
    }
}
