//! Puts together what journals have of each message that is followed.

use std::{collections::HashMap, time::Duration};

use amop_protocol::{
    Cause, NodeId, Time, TraceContext,
    broker::journal::{Brief, Entry, Key, Label, Step},
    wire::peer::Carries,
};

/// Messages that are followed at a time; more have no span.
pub(in crate::node::trace) const MAX_FOLLOWED: usize = 4096;
/// Steps of one message that are kept; more are counted.
pub(in crate::node::trace) const MAX_STEPS: usize = 64;
/// How long a message that has ended is followed further: reports, and attempts that begin anew, may come late.
const LINGER: Duration = Duration::from_secs(1);
/// How long a relay waits for what comes back: it may come another way.
const RELAY_PATIENCE: Duration = Duration::from_secs(10);

/// What a node has to do with a message: with one of its own clients' to its own clients it has two roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Role {
    Publish,
    Relay,
    Deliver,
}

/// A message that is followed.
#[derive(Debug)]
pub(super) struct Followed {
    pub(super) key: Key,
    pub(super) role: Role,
    pub(super) context: TraceContext,
    pub(super) topic: Label,
    /// The first steps, each with the client it is about.
    pub(super) steps: Vec<(Entry, String)>,
    /// Steps there was no room for.
    pub(super) left_out: u32,
    /// When the last of all happened.
    pub(super) last: Time,
    /// How it ended, so far.
    pub(super) outcome: Option<Cause>,
    has_ended: bool,
    /// Longest time from one step to the next, as it was when this began.
    patience: Duration,
}

/// All that are followed.
#[derive(Debug)]
pub(super) struct Follower {
    me: Brief,
    /// Longest time from one step of a message to the next, as it is now.
    patience: Duration,
    open: HashMap<(Key, Role), Followed>,
    ended: Vec<Followed>,
    /// The entry before, of the same journal: a trace stands behind the step it belongs to.
    before: Option<Entry>,
    refused: u64,
}

impl Follower {
    /// Follows messages at node `me`, whose sends last no longer than `longest`.
    pub(super) fn new(me: NodeId, longest: Duration) -> Self {
        Self {
            me: me.into(),
            patience: longest + LINGER,
            open: HashMap::new(),
            ended: Vec::new(),
            before: None,
            refused: 0,
        }
    }

    /// From now on sends last no longer than `longest`; those that have begun may last as long as before.
    pub(super) fn set_longest(&mut self, longest: Duration) {
        self.patience = longest + LINGER;
    }

    /// What is taken next is out of another journal.
    pub(super) fn turn_page(&mut self) {
        self.before = None;
    }

    /// Takes an entry; whom it is about is asked only if it matters.
    pub(super) fn take(&mut self, entry: &Entry, who: impl FnOnce() -> String) {
        let before = self.before.replace(*entry);
        match entry.step {
            Step::Context { context, topic } if context.is_sampled() => {
                self.begin(before.filter(|before| before.key() == entry.key()), context, topic);
            }
            Step::Context { .. } => {}
            _ if self.open.is_empty() => {}
            _ => {
                let role = |role| (entry.key(), role);
                let role =
                    roles(&entry.step).iter().map(|it| role(*it)).find(|it| self.open.contains_key(it));
                if let Some(followed) = role.and_then(|role| self.open.get_mut(&role)) {
                    followed.add(*entry, who());
                }
            }
        }
    }

    /// A message is part of a trace; `first` is its first step. Without it the journal has moved on.
    fn begin(&mut self, first: Option<Entry>, context: TraceContext, topic: Label) {
        let Some(first) = first else { return };
        let key = first.key();
        let role = match first.step {
            Step::Published { .. } | Step::AtOnce { .. } => Role::Publish,
            Step::Arrived { .. } => Role::Deliver,
            // What did not get away from here is in the span of its publication.
            Step::Relayed { .. } | Step::Stopped { .. } if key.origin != self.me => Role::Relay,
            _ => return,
        };
        if self.open.contains_key(&(key, role)) {
            return;
        }
        if self.open.len() + self.ended.len() >= MAX_FOLLOWED {
            self.refused += 1;
            return;
        }
        let mut followed = Followed {
            key,
            role,
            context,
            topic,
            steps: Vec::new(),
            left_out: 0,
            last: first.at(),
            outcome: None,
            has_ended: false,
            patience: self.patience,
        };
        followed.add(first, String::new());
        // Many that were refused at once have the same key.
        match first.step {
            Step::AtOnce { .. } => self.ended.push(followed),
            _ => _ = self.open.insert((key, role), followed),
        }
    }

    /// Ends those of which nothing more is to come, as it seems at `now`.
    pub(super) fn end_due(&mut self, now: Time) {
        let patience = self.patience;
        // Where room gets short, those that have ended leave it to others.
        let linger = if self.open.len() > MAX_FOLLOWED / 2 { Duration::ZERO } else { LINGER };
        let is_due = |followed: &Followed| {
            let most = match followed.role {
                _ if followed.has_ended => linger,
                Role::Relay => RELAY_PATIENCE,
                Role::Publish | Role::Deliver => patience.max(followed.patience),
            };
            now.since(followed.last) >= most
        };
        self.ended.extend(self.open.extract_if(|_, followed| is_due(followed)).map(|(_, followed)| followed));
    }

    /// Ends all, however far they have come.
    pub(super) fn end_all(&mut self) {
        self.ended.extend(self.open.drain().map(|(_, followed)| followed));
    }

    /// Those that have ended.
    pub(super) fn ended(&mut self) -> impl Iterator<Item = Followed> {
        self.ended.drain(..)
    }

    /// How many were not followed since this was asked last.
    pub(super) fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }
}

/// To which of a node's roles such a step may belong, the likeliest first.
fn roles(step: &Step) -> &'static [Role] {
    match step {
        Step::Published { .. }
        | Step::Repeated { .. }
        | Step::AtOnce { .. }
        | Step::Sent { .. }
        | Step::Resent { .. }
        | Step::NoWay { .. }
        | Step::Confirmed { .. }
        | Step::Failed { .. }
        | Step::Counted { .. }
        | Step::Refused { .. }
        | Step::Told { .. } => &[Role::Publish],
        Step::Arrived { .. }
        | Step::Again { .. }
        | Step::Pushed { .. }
        | Step::PushedAll { .. }
        | Step::Handed { .. }
        | Step::NotHanded { .. }
        | Step::Answered { .. }
        | Step::Reported { .. } => &[Role::Deliver],
        Step::Relayed { .. } => &[Role::Relay],
        Step::Stopped { .. } => &[Role::Relay, Role::Publish, Role::Deliver],
        Step::Context { .. } => &[],
    }
}

impl Followed {
    fn add(&mut self, entry: Entry, who: String) {
        self.last = self.last.max(entry.at());
        self.judge(&entry.step);
        match self.steps.len() {
            ..MAX_STEPS => self.steps.push((entry, who)),
            _ => self.left_out += 1,
        }
    }

    /// What a step means for the end.
    fn judge(&mut self, step: &Step) {
        use Carries::{Attempt, FanOut, FanOutReport, Outcome, Refused};
        match (self.role, *step) {
            (Role::Publish, Step::Told { cause, .. } | Step::AtOnce { cause, .. }) => {
                self.outcome.get_or_insert(cause);
                self.has_ended = true;
            }
            (Role::Deliver, Step::Answered { cause, .. } | Step::Reported { cause }) => {
                self.outcome = Some(cause);
                self.has_ended = true;
            }
            // The publisher's node has it handed to somebody else here.
            (Role::Deliver, Step::Pushed { .. } | Step::PushedAll { .. }) => self.has_ended = false,
            (Role::Relay, Step::Relayed { what: Attempt | FanOut, .. }) => {
                self.outcome = None;
                self.has_ended = false;
            }
            (Role::Relay, Step::Stopped { what: Attempt | FanOut, cause, .. }) => {
                self.outcome = Some(cause);
                self.has_ended = true;
            }
            (Role::Relay, Step::Relayed { what, .. } | Step::Stopped { what, .. }) => {
                self.has_ended |= matches!(what, Outcome | FanOutReport | Refused);
            }
            _ => {}
        }
    }
}
