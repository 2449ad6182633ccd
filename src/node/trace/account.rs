//! An account of one message, in words.

use std::time::Duration;

use amop_protocol::{
    Cause, NodeId, TraceContext,
    broker::{
        journal::{Brief, Key},
        routing::Routing,
    },
    wire::generated::{JournalFrame, JournalKind, JournalReason, JournalStep},
};

use super::align::align;
use crate::telemetry::trace::{Ending, Message, Place, Step, cure};

/// A step, with where and when it happened on this node's clock.
#[derive(Clone, Debug)]
pub(super) struct Noted {
    pub(super) node: NodeId,
    pub(super) key: Key,
    pub(super) at: Duration,
    pub(super) give_or_take: Duration,
    pub(super) step: JournalStep,
}

/// Puts the steps of one message in order, and says how it went.
pub(super) fn message(routing: &Routing, key: Key, mut noted: Vec<Noted>) -> Message {
    align(&mut noted, routing.me());
    noted.sort_by_key(|noted| noted.at);
    let first = noted.first().map(|noted| noted.at).unwrap_or_default();
    // Only the origin's node knows how its send ended, and only it and our own say what the message is: others
    // could have anything shown here.
    let outcome = noted.iter().rfind(|noted| is_end(noted)).map(|noted| noted.step.cause());
    let failed_at =
        outcome.filter(|cause| *cause != Cause::Delivered).and_then(|cause| failing(&noted, cause));
    let steps: Vec<Step> = noted.iter().map(|noted| step(routing, noted, first)).collect();
    let own = routing.find(&routing.me()).map(|me| me.institution.clone());
    let is_own = |noted: &Noted| routing.find(&noted.node).map(|node| node.institution.clone()) == own;
    let told: Vec<_> = noted.iter().filter(|noted| is_by_origin(noted) || is_own(noted)).collect();
    let text = |of: fn(&JournalStep) -> &str| {
        told.iter().map(|noted| of(&noted.step)).find(|text| !text.is_empty()).map(str::to_owned)
    };
    let context = told.iter().find_map(|noted| TraceContext::from_slice(&noted.step.context));
    Message {
        origin: place(routing, key.origin),
        topic: text(|step| &step.topic).map(|topic| in_full(routing, topic)),
        multicast: told.iter().any(|noted| noted.step.multicast),
        traceparent: context.map(|context| context.to_string()),
        verdict: verdict(&noted, &steps, outcome, failed_at),
        cure: outcome.map(cure).unwrap_or_default().to_owned(),
        outcome: outcome.map(Ending::from),
        failed_at,
        steps,
    }
}

/// Journals keep the beginning of long topics; the routing table may have the one that is meant.
fn in_full(routing: &Routing, topic: String) -> String {
    let Some(beginning) = topic.strip_suffix('…') else { return topic };
    let mut known =
        routing.topics().map(|(topic, _)| topic.as_str()).filter(|known| known.starts_with(beginning));
    match (known.next(), known.next()) {
        (Some(only), None) => only.to_owned(),
        _ => topic,
    }
}

/// A node, as far as it is known.
pub(super) fn place(routing: &Routing, brief: Brief) -> Place {
    let id = brief.to_hex();
    match routing.reachable().find(|node| Brief::from(node.id) == brief) {
        Some(node) => Place { name: node.name.to_string(), institution: node.institution.to_string(), id },
        None => Place { name: id[..8].to_owned(), institution: String::new(), id },
    }
}

fn is_end(noted: &Noted) -> bool {
    is_by_origin(noted) && matches!(noted.step.kind(), JournalKind::Told | JournalKind::AtOnce)
}

fn is_by_origin(noted: &Noted) -> bool {
    Brief::from(noted.node) == noted.key.origin
}

/// The step that decided a failure: the one nearest to its cause that says the same, or, of a message that was lost
/// on its way, the last that had it.
fn failing(noted: &[Noted], cause: Cause) -> Option<usize> {
    let rank = |noted: &Noted| match noted.step.kind() {
        JournalKind::NotHanded | JournalKind::Answered => 6,
        JournalKind::Stopped => 5,
        JournalKind::AtOnce => 4,
        JournalKind::Reported => 3,
        JournalKind::Refused => 2,
        JournalKind::Failed => 1,
        _ => 0,
    };
    let same = noted.iter().enumerate().filter(|(_, noted)| noted.step.cause() == cause && rank(noted) > 0);
    let nearest = same.max_by_key(|(at, noted)| (rank(noted), *at));
    let lost = || last_seen(noted);
    let ended = || noted.iter().rposition(is_end);
    match (cause, nearest) {
        (Cause::Unreachable | Cause::Deadline | Cause::AnswerLost | Cause::NoneHanded, nearest) => {
            let telling = nearest.filter(|(_, noted)| rank(noted) > 1).map(|(at, _)| at);
            telling.or_else(lost).or_else(|| nearest.map(|(at, _)| at)).or_else(ended)
        }
        (_, Some((at, _))) => Some(at),
        (_, None) => ended(),
    }
}

/// Where the message, or what was reported of it, was passed on to a node that has nothing to say of it; else where
/// it was stopped.
fn last_seen(noted: &[Noted]) -> Option<usize> {
    let has_it = |brief: &[u8], attempt| {
        let at = |noted: &&Noted| Brief::from(noted.node).0[..] == *brief && noted.step.attempt == attempt;
        let kinds = |noted: &Noted| {
            let kind = noted.step.kind();
            matches!(
                kind,
                JournalKind::Arrived | JournalKind::Again | JournalKind::Relayed | JournalKind::Stopped
            )
        };
        noted.iter().filter(at).any(kinds)
    };
    let is_lost = |noted: &Noted| match noted.step.kind() {
        JournalKind::Stopped => true,
        JournalKind::Sent | JournalKind::Resent | JournalKind::Relayed => {
            let is_here = noted.step.via == Brief::from(noted.node).0[..];
            !is_here && !has_it(&noted.step.via, noted.step.attempt)
        }
        _ => false,
    };
    let handed = noted.iter().rposition(|noted| noted.step.kind() == JournalKind::Handed);
    noted.iter().rposition(is_lost).or(handed)
}

fn verdict(noted: &[Noted], steps: &[Step], outcome: Option<Cause>, failed_at: Option<usize>) -> String {
    let Some(cause) = outcome else {
        return match noted.last() {
            None => "nothing is written down about it".into(),
            Some(_) => "it is under way, or its publisher's node has not said how it ended".into(),
        };
    };
    let took = noted.iter().rfind(|noted| is_end(noted)).zip(noted.first());
    let took = took.map(|(end, first)| ms(end.at.saturating_sub(first.at))).unwrap_or_default();
    if cause == Cause::Delivered {
        return format!("delivered in {took}");
    }
    let code = cause.status().code();
    let at =
        failed_at.and_then(|at| steps.get(at)).map(|step| format!(": at {}, {}", step.node.name, step.text));
    format!("failed with {code} after {took}, {cause}{}", at.unwrap_or_default())
}

fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

pub(super) fn step(routing: &Routing, noted: &Noted, first: Duration) -> Step {
    let told = &noted.step;
    let kind = told.kind();
    Step {
        at_us: u64::try_from(noted.at.saturating_sub(first).as_micros()).unwrap_or(u64::MAX),
        give_or_take_us: u64::try_from(noted.give_or_take.as_micros()).unwrap_or(u64::MAX),
        node: place(routing, noted.node.into()),
        kind: kind.as_str_name().trim_start_matches("JOURNAL_KIND_").to_lowercase(),
        attempt: told.attempt,
        ending: (told.cause() != Cause::Unspecified).then(|| told.cause().into()),
        text: text(routing, noted),
    }
}

fn text(routing: &Routing, noted: &Noted) -> String {
    let told = &noted.step;
    let name = |brief: &[u8]| match brief.try_into() {
        Ok(brief) => place(routing, Brief(brief)).name,
        Err(_) => "another node".to_owned(),
    };
    let (node, via) = (name(&told.node), name(&told.via));
    let is_here = told.node == Brief::from(noted.node).0[..];
    let over = if told.node == told.via { String::new() } else { format!(" by way of {via}") };
    let whom = |who: &str| if who.is_empty() { "a subscriber".to_owned() } else { who.to_owned() };
    let (who, cause, count) = (whom(&told.who), told.cause(), told.count);
    match told.kind() {
        JournalKind::Published => "published by a client of this node".into(),
        JournalKind::Repeated => "published again; both publishers will have its outcome".into(),
        JournalKind::AtOnce => format!("ended at once: {cause}"),
        JournalKind::Sent if is_here => "for subscribers of this very node".into(),
        JournalKind::Sent if count > 1 => format!("sent to {count} nodes by way of {via}"),
        JournalKind::Sent => format!("sent to {node}{over}"),
        JournalKind::Resent => format!("sent again to {node}{over}: {}", reason(told.reason())),
        JournalKind::NoWay => format!("no way to {node} at this moment"),
        JournalKind::Confirmed => format!("{node} says that a subscriber has it"),
        JournalKind::Failed if is_here => format!("this attempt is given up: {cause}"),
        JournalKind::Failed => format!("this attempt has failed at {node}: {cause}"),
        JournalKind::Counted => {
            let more = if told.complete { "" } else { ", so far" };
            format!("{node} says: handed to {count} subscribers, not to {}{more}", told.failed)
        }
        JournalKind::Refused => format!("{node} did not pass it on: {cause}"),
        JournalKind::Told => format!("told its publisher: {} {cause}", cause.status().code()),
        JournalKind::Arrived if told.via == Brief::from(noted.node).0[..] => {
            "taken for subscribers here".into()
        }
        JournalKind::Arrived => format!("arrived over {via}"),
        JournalKind::Again => format!("arrived again over {via}; not handed out again"),
        JournalKind::Pushed if count > 1 => format!("queued for {count} subscribers"),
        JournalKind::Pushed => format!("queued for {who}"),
        JournalKind::Handed => format!("handed to {who}"),
        JournalKind::NotHanded => format!("{who} is given up: {cause}"),
        JournalKind::Answered if cause == Cause::Delivered => format!("{who} answered"),
        JournalKind::Answered => format!("{who} refused it"),
        JournalKind::Reported => format!("told the publisher's node: {cause}"),
        JournalKind::Relayed => format!("passed {} on from {node} to {via}", carried(told.frame())),
        JournalKind::Stopped if told.via.is_empty() => {
            format!("did not pass {} on: {cause}", carried(told.frame()))
        }
        JournalKind::Stopped if cause == Cause::Unreachable => {
            format!("could not pass {} on to {via}: no link, or its queue is full", carried(told.frame()))
        }
        JournalKind::Stopped => format!("did not pass {} on to {via}: {cause}", carried(told.frame())),
        JournalKind::Context => "is part of its publisher's trace".into(),
        JournalKind::Unspecified => "something that this version does not know".into(),
    }
}

const fn reason(reason: JournalReason) -> &'static str {
    match reason {
        JournalReason::Unconfirmed => "not confirmed in time",
        JournalReason::Rerouted => "the way there changed",
        JournalReason::Refused => "a node on the way refused it",
        JournalReason::Unspecified => "for a reason that this version does not know",
    }
}

const fn carried(frame: JournalFrame) -> &'static str {
    match frame {
        JournalFrame::Attempt | JournalFrame::FanOut => "the message",
        JournalFrame::Handed => "the word that it was handed over",
        JournalFrame::Outcome => "the answer or its failure",
        JournalFrame::FanOutReport => "how it fared",
        JournalFrame::Refused => "a refusal",
        JournalFrame::Unspecified => "a frame",
    }
}
