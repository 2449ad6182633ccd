//! Times that several nodes told, put on one clock.
//!
//! A node tells the age of its steps, and how long its answer took makes all of them uncertain by the same. What one
//! node sent another cannot have come before it left: so each node's steps are moved together, as little as needed,
//! those first that are next to a node whose times stand. The node that asks is right.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use amop_protocol::{
    NodeId,
    broker::journal::Brief,
    wire::generated::{JournalFrame, JournalKind, JournalStep},
};

use super::account::Noted;

/// The least that a frame takes from one node to the next, in nanoseconds: so that the order is plain.
const HOP: i128 = 1_000;

/// A frame from one node to its neighbour: of which attempt, and what it carried.
type Frame = (Brief, Brief, u32, i32);

/// Where and when something happened.
type Moment = (NodeId, Duration);

/// When it left, and when it came, as far as these were told: of several the first.
#[derive(Default)]
struct Passage {
    left: Option<Moment>,
    came: Option<Moment>,
}

/// Moves what other nodes than `me` told until nothing comes before it left.
pub(super) fn align(noted: &mut [Noted], me: NodeId) {
    noted.sort_by_key(|noted| noted.at);
    let passages: Vec<_> =
        passages(noted).into_values().filter_map(|it| Some((it.left?, it.came?))).collect();
    let mut shifts = BTreeMap::from([(me, 0_i128)]);
    let mut left: BTreeSet<NodeId> =
        noted.iter().map(|noted| noted.node).filter(|node| *node != me).collect();
    while let Some((node, bounds)) = next(&left, &shifts, &passages) {
        left.remove(&node);
        let (least, most) = bounds;
        // Both cannot be had if a node's clock jumps: then order matters more.
        shifts.insert(node, 0.min(most).max(least));
    }
    for noted in noted.iter_mut() {
        let shift = shifts.get(&noted.node).copied().unwrap_or_default();
        let at = nanos(noted.at).saturating_add(shift).max(0);
        noted.at = Duration::from_nanos(u64::try_from(at).unwrap_or(u64::MAX));
    }
}

/// A node that has exchanged frames with one whose times stand, and by how much it may be moved.
fn next(
    left: &BTreeSet<NodeId>,
    shifts: &BTreeMap<NodeId, i128>,
    passages: &[(Moment, Moment)],
) -> Option<(NodeId, (i128, i128))> {
    left.iter().find_map(|node| {
        let (mut least, mut most) = (i128::MIN, i128::MAX);
        for ((from, left), (to, came)) in passages {
            match (shifts.get(from), shifts.get(to)) {
                (Some(shift), None) if to == node => {
                    least = least.max(nanos(*left) + shift + HOP - nanos(*came));
                }
                (None, Some(shift)) if from == node => {
                    most = most.min(nanos(*came) + shift - HOP - nanos(*left));
                }
                _ => {}
            }
        }
        (least > i128::MIN || most < i128::MAX).then_some((*node, (least, most)))
    })
}

fn passages(noted: &[Noted]) -> BTreeMap<Frame, Passage> {
    let mut passages: BTreeMap<Frame, Passage> = BTreeMap::new();
    for noted in noted {
        let (here, attempt) = (Brief::from(noted.node), noted.step.attempt);
        if let Some((to, frame)) = leaves(&noted.step) {
            let passage = passages.entry((here, to, attempt, frame as i32)).or_default();
            passage.left.get_or_insert((noted.node, noted.at));
        }
        if let Some((from, frame)) = comes(&noted.step) {
            let passage = passages.entry((from, here, attempt, frame as i32)).or_default();
            passage.came.get_or_insert((noted.node, noted.at));
        }
    }
    passages
}

/// To which neighbour a frame went with this step.
fn leaves(step: &JournalStep) -> Option<(Brief, JournalFrame)> {
    let frame = match step.kind() {
        JournalKind::Sent | JournalKind::Resent => JournalFrame::Attempt,
        JournalKind::Relayed => of_message(step.frame()),
        _ => return None,
    };
    Some((brief(&step.via)?, frame))
}

/// From which neighbour a frame came with this step.
fn comes(step: &JournalStep) -> Option<(Brief, JournalFrame)> {
    match step.kind() {
        JournalKind::Arrived | JournalKind::Again => Some((brief(&step.via)?, JournalFrame::Attempt)),
        JournalKind::Relayed => Some((brief(&step.node)?, of_message(step.frame()))),
        _ => None,
    }
}

/// What carries the message, to one or to all, is the same here.
fn of_message(frame: JournalFrame) -> JournalFrame {
    if frame == JournalFrame::FanOut { JournalFrame::Attempt } else { frame }
}

fn brief(bytes: &[u8]) -> Option<Brief> {
    bytes.try_into().ok().map(Brief)
}

fn nanos(time: Duration) -> i128 {
    i128::try_from(time.as_nanos()).unwrap_or(i128::MAX / 4)
}

#[cfg(test)]
mod tests {
    use amop_protocol::{broker::journal::Key, wire::peer::SendRef};
    use bytes::Bytes;

    use super::*;

    fn id(n: u8) -> NodeId {
        NodeId::new([n; 32])
    }

    fn noted(node: u8, at: u64, kind: JournalKind, frame: JournalFrame, (from, to): (u8, u8)) -> Noted {
        let brief = |n: u8| Bytes::copy_from_slice(&[n; 8]);
        let mut step =
            JournalStep { attempt: 1, node: brief(from), via: brief(to), ..JournalStep::default() };
        step.set_kind(kind);
        step.set_frame(frame);
        let at = Duration::from_micros(at);
        let key = Key::new(id(1), SendRef { epoch: 1, id: 1 });
        Noted { node: id(node), key, at, give_or_take: Duration::from_micros(50), step }
    }

    #[test]
    fn nothing_comes_before_it_left() {
        use JournalFrame::{Attempt, Outcome, Unspecified};
        use JournalKind::{Arrived, Relayed, Sent, Told};
        // 1 sends to 3 by way of 2, and asks: 2 says that it was too early, 3 that it was too late.
        let mut all = vec![
            noted(1, 100, Sent, Unspecified, (3, 2)),
            noted(2, 70, Relayed, Attempt, (1, 3)),
            noted(2, 90, Relayed, Outcome, (3, 1)),
            noted(3, 60, Arrived, Unspecified, (0, 2)),
            noted(1, 150, Told, Unspecified, (0, 0)),
        ];
        align(&mut all, id(1));
        all.sort_by_key(|noted| noted.at);
        let order: Vec<(u8, u128)> =
            all.iter().map(|it| (it.node.as_bytes()[0], it.at.as_micros())).collect();
        assert_eq!(order, [(1, 100), (2, 101), (3, 102), (2, 121), (1, 150)]);
    }

    #[test]
    fn what_fits_stays_and_what_nobody_can_place_too() {
        use JournalFrame::{Attempt, Unspecified};
        use JournalKind::{Relayed, Sent};
        let mut all = vec![
            noted(1, 100, Sent, Unspecified, (3, 2)),
            noted(2, 130, Relayed, Attempt, (1, 3)),
            noted(9, 20, Relayed, Attempt, (7, 8)),
        ];
        align(&mut all, id(1));
        let mut times: Vec<u128> = all.iter().map(|it| it.at.as_micros()).collect();
        times.sort_unstable();
        assert_eq!(times, [20, 100, 130]);
    }
}
