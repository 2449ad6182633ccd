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
