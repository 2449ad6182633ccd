//! What the driver is to do, in order.

use std::{collections::VecDeque, sync::Arc};

use crate::{
    SessionId,
    broker::event::{Action, Handout, Push},
};

/// Actions that wait. A multicast to many sessions is one of them until they are asked for one by one.
#[derive(Debug, Default)]
pub(super) struct Actions(VecDeque<Waiting>);

#[derive(Debug)]
enum Waiting {
    One(Action),
    /// The sessions from this place on are handed this.
    Hand(Arc<Handout>, Arc<Vec<SessionId>>, usize),
}

impl Actions {
    pub(super) fn push(&mut self, action: Action) {
        self.0.push_back(Waiting::One(action));
    }

    pub(super) fn extend(&mut self, actions: impl IntoIterator<Item = Action>) {
        self.0.extend(actions.into_iter().map(Waiting::One));
    }

    /// Hands a message to all of these.
    pub(super) fn hand(&mut self, handout: Handout, to: &Arc<Vec<SessionId>>) {
        if !to.is_empty() {
            self.0.push_back(Waiting::Hand(Arc::new(handout), to.clone(), 0));
        }
    }

    pub(super) fn pop(&mut self) -> Option<Action> {
        if let Waiting::Hand(handout, to, next) = self.0.front_mut()?
            && *next + 1 < to.len()
        {
            let session = to[*next];
            *next += 1;
            return Some(Action::Push(Push { session, handout: handout.clone() }));
        }
        Some(match self.0.pop_front()? {
            Waiting::One(action) => action,
            Waiting::Hand(handout, to, last) => Action::Push(Push { session: to[last], handout }),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::{
        ClientIdentity, Fingerprint, NodeId, Seq, Topic,
        broker::event::{Mode, PushId, Sender},
    };

    fn handout() -> Handout {
        let client = ClientIdentity { fingerprint: Fingerprint::new([3; 32]), name: "app".into() };
        Handout {
            id: PushId(1),
            mode: Mode::Multicast,
            topic: Topic::parse("t").unwrap(),
            payload: Bytes::new(),
            sender: Sender {
                institution: "bank".into(),
                node: NodeId::new([3; 32]),
                client: Arc::new(client),
            },
            answer_within: Duration::ZERO,
            message: Seq([1; 32]),
            context: None,
            frame: None,
        }
    }

    #[test]
    fn everybody_is_handed_it_once_and_in_order() {
        let handed = |session| Action::Handed { session: SessionId(session), seq: Seq([0; 32]) };
        let to = Arc::new([1, 2, 3].map(SessionId).to_vec());
        let mut actions = Actions::default();
        actions.push(handed(10));
        actions.hand(handout(), &to);
        actions.hand(handout(), &Arc::default());
        actions.hand(handout(), &Arc::new(vec![SessionId(4)]));
        assert!(matches!(actions.pop(), Some(Action::Handed { .. })));
        assert!(matches!(actions.pop(), Some(Action::Push(push)) if push.session == SessionId(1)));
        // What comes meanwhile waits its turn.
        actions.extend([handed(11)]);
        let order: Vec<u64> = std::iter::from_fn(|| actions.pop())
            .map(|action| match action {
                Action::Push(push) => push.session.0,
                Action::Handed { session, .. } => session.0,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(order, [2, 3, 4, 11]);
    }
}
