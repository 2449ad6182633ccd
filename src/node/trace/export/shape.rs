//! What a span says of a message, in OpenTelemetry's words for messaging where it has some.

use std::time::Duration;

use amop_protocol::{
    Cause, Time,
    broker::{
        event::Mode,
        inquiry,
        journal::{Entry, Step},
        routing::Routing,
    },
    wire::generated::JournalReason,
};

use super::follow::{Followed, Role};
use crate::{
    node::trace::account::{self, Noted},
    telemetry::{
        otlp::{Attribute, Event, Span},
        trace::show_seq,
    },
};

/// What steps are seen with.
pub(super) struct Shape<'a> {
    pub(super) routing: &'a Routing,
    pub(super) now: Time,
    /// When the node's clock began, since the Unix epoch.
    pub(super) started: Duration,
}

impl Role {
    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Publish => ("amop publish", "publish"),
            Self::Relay => ("amop relay", "relay"),
            Self::Deliver => ("amop deliver", "deliver"),
        }
    }
}

impl Shape<'_> {
    /// The span of a message.
    pub(super) fn span(&self, mut followed: Followed) -> Span {
        // Two journals may have told of it.
        followed.steps.sort_by_key(|(entry, _)| entry.at());
        let attributes = self.attributes(&followed);
        let Followed { role, context, steps, left_out, last, outcome, .. } = followed;
        let first = steps.first().map_or(last, |(entry, _)| entry.at());
        Span {
            parent: context,
            name: role.names().0,
            time: (self.at(first), self.at(last)),
            attributes,
            events: steps.into_iter().map(|(entry, who)| self.event(&entry, who)).collect(),
            events_left_out: left_out,
            failure: outcome.and_then(failure),
        }
    }

    fn attributes(&self, followed: &Followed) -> Vec<Attribute> {
        let Followed { key, role, topic, steps, outcome, .. } = followed;
        let topic = match topic.known() {
            Ok(topic) => topic.to_owned(),
            Err(beginning) => format!("{beginning}…"),
        };
        let mut all: Vec<Attribute> = vec![
            ("messaging.system", "amop".into()),
            ("messaging.operation.name", role.names().1.into()),
            ("messaging.destination.name", topic.into()),
            ("amop.origin", account::place(self.routing, key.origin).name.into()),
        ];
        if *role == Role::Publish {
            all.push(("messaging.operation.type", "send".into()));
        }
        // A first step has it; a later one may be of the same message under another name.
        if let Some(seq) = steps.iter().find_map(|(entry, _)| entry.seq()) {
            all.push(("messaging.message.id", show_seq(seq).into()));
        }
        if let Some((Entry { step: Step::Published { mode, .. }, .. }, _)) = steps.first() {
            let mode = if *mode == Mode::Unicast { "unicast" } else { "multicast" };
            all.push(("amop.mode", mode.into()));
        }
        let attempts = steps.iter().map(|(entry, _)| entry.attempt()).max().unwrap_or(0);
        if attempts > 0 {
            all.push(("amop.attempts", attempts.into()));
        }
        if let Some(cause) = *outcome {
            all.extend(of_cause(cause));
            let is_failure = cause != Cause::Delivered;
            all.extend(is_failure.then(|| ("error.type", cause.as_str_name().into())));
        }
        all
    }

    fn event(&self, entry: &Entry, who: String) -> Event {
        let mut told = inquiry::step(entry, self.now);
        told.who.clone_from(&who);
        let reason = told.reason();
        let at = entry.at().since_start();
        let noted =
            Noted { node: self.routing.me(), key: entry.key(), at, give_or_take: Duration::ZERO, step: told };
        let cause = noted.step.cause();
        let step = account::step(self.routing, &noted, at);
        let mut attributes: Vec<Attribute> = vec![("amop.text", step.text.into())];
        if step.attempt > 0 {
            attributes.push(("amop.attempt", step.attempt.into()));
        }
        if reason != JournalReason::Unspecified {
            let name = reason.as_str_name().trim_start_matches("JOURNAL_REASON_").to_lowercase();
            attributes.push(("amop.reason", name.into()));
        }
        if cause != Cause::Unspecified {
            attributes.extend(of_cause(cause));
        }
        if !who.is_empty() {
            attributes.push(("amop.client", who.into()));
        }
        Event { at: self.at(entry.at()), name: step.kind, attributes }
    }

    /// A moment of the node's clock, since the Unix epoch.
    fn at(&self, at: Time) -> Duration {
        self.started + at.since_start()
    }
}

fn of_cause(cause: Cause) -> [Attribute; 2] {
    [("amop.code", cause.status().code().into()), ("amop.cause", cause.as_str_name().into())]
}

fn failure(cause: Cause) -> Option<String> {
    (cause != Cause::Delivered).then(|| format!("{}: {}", cause.status().code(), cause.explain()))
}
