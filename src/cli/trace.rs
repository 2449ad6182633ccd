//! `amop trace`: where a message is, or was lost, hop by hop; or all messages of a topic as they come by.
//!
//! Exits with 0 if the message was delivered or is under way, with 3 if it failed, with 4 if nobody knows of it.

use std::{process::ExitCode, time::Duration};

use super::ask::{Intent, Node};
use crate::{
    cli::{output, signals::Signals},
    telemetry::{
        client::Asker,
        trace::{Message, Place, Step, Trace, read_seq},
    },
};

/// The message has failed.
const FAILED: u8 = 3;
/// Nobody who was asked knows of the message, or may say so.
const UNKNOWN: u8 = 4;
/// Messages that are followed at a time with `--live`; others that come by meanwhile are counted only.
const MAX_FOLLOWED: usize = 32;
/// How long the end of a message is waited for with `--live`.
const MAX_LOOKS: u32 = 20;
/// How soon it is asked about again.
const AGAIN: Duration = Duration::from_millis(500);

/// Which message, and which node to ask.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The message: its seq, which SDKs log
    #[arg(value_name = "ID", required_unless_present = "live", conflicts_with = "live")]
    id: Option<String>,
    /// Follow the messages of a topic as they come by the node that is asked
    #[arg(long, value_name = "TOPIC")]
    live: Option<String>,
    #[command(flatten)]
    node: Node,
    /// Print JSON, for scripts: one trace per line
    #[arg(long)]
    json: bool,
}

/// Asks and prints.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let asker = args.node.asker(Intent::Read)?;
    if let Some(topic) = &args.live {
        return live(&asker, topic, args.json).await;
    }
    let seq = read_seq(args.id.as_deref().unwrap_or_default()).map_err(anyhow::Error::msg)?;
    let trace = asker.trace(&seq).await?;
    print(&trace, args.json)?;
    Ok(exit_code(&trace))
}

fn exit_code(trace: &Trace) -> ExitCode {
    let failed = |message: &Message| message.outcome.as_ref().is_some_and(|outcome| outcome.code != 0);
    match &trace.messages[..] {
        [] => ExitCode::from(UNKNOWN),
        messages if messages.iter().any(failed) => ExitCode::from(FAILED),
        _ => ExitCode::SUCCESS,
    }
}

fn print(trace: &Trace, json: bool) -> anyhow::Result<()> {
    if json { output::json(trace) } else { Ok(output::say(describe(trace))?) }
}

/// Prints each message once it has ended, until a signal comes.
async fn live(asker: &Asker, topic: &str, json: bool) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    let mut place = asker.seen(topic, "").await?.place;
    output::note(output::dim(format_args!("following {topic}; end with Ctrl-C")));
    let mut open: Vec<(String, u32)> = Vec::new();
    loop {
        let Some(seen) = signals.unless(asker.seen(topic, &place)).await else {
            return Ok(ExitCode::SUCCESS);
        };
        let seen = seen?;
        place = seen.place;
        let mut left_out = seen.left_out;
        for id in seen.ids {
            if open.iter().any(|(known, _)| *known == id) {
                continue;
            }
            match open.len() {
                ..MAX_FOLLOWED => open.push((id, 0)),
                _ => left_out += 1,
            }
        }
        if left_out > 0 {
            output::note(output::dim(format_args!("{left_out} more messages came by than are followed")));
        }
        while !open.is_empty() {
            let Some(left) = signals.unless(look(asker, std::mem::take(&mut open), json)).await else {
                return Ok(ExitCode::SUCCESS);
            };
            open = left?;
            // New messages are looked for between two looks at those that have not ended.
            if open.len() < MAX_FOLLOWED {
                break;
            }
        }
    }
}

/// Prints those that have ended; gives back the others.
async fn look(asker: &Asker, open: Vec<(String, u32)>, json: bool) -> anyhow::Result<Vec<(String, u32)>> {
    let mut left = Vec::new();
    for (id, looks) in open {
        let seq = read_seq(&id).map_err(anyhow::Error::msg)?;
        let here = asker.trace_here(&seq).await?;
        let ended = here.messages.iter().any(has_ended);
        if ended || looks >= MAX_LOOKS {
            print(&asker.trace(&seq).await?, json)?;
        } else {
            left.push((id, looks + 1));
        }
    }
    if !left.is_empty() {
        tokio::time::sleep(AGAIN).await;
    }
    Ok(left)
}

/// At the publisher's node its outcome, at a subscriber's what that node reported.
fn has_ended(message: &Message) -> bool {
    let is_end = |step: &Step| matches!(&*step.kind, "told" | "at_once" | "answered" | "reported");
    message.steps.iter().any(is_end)
}

fn describe(trace: &Trace) -> String {
    let mut lines = vec![format!("{} {}", output::bold("message"), trace.id)];
    if trace.messages.is_empty() {
        lines.push(output::warning("nobody who was asked knows of it, or may say so").to_string());
        lines.push(output::dim(
            "  is the ID the seq that the SDK logged? is this a node of the publisher's institution? is it long ago?",
        ));
    }
    for message in &trace.messages {
        lines.extend(of_message(message));
    }
    if !trace.silent.is_empty() {
        let names: Vec<String> = trace.silent.iter().map(full_name).collect();
        lines.push(output::warning(format_args!("no answer from {}", names.join(", "))));
    }
    lines.extend(trace.notes.iter().map(|note| output::dim(format_args!("note: {note}"))));
    lines.join("\n")
}

fn of_message(message: &Message) -> Vec<String> {
    let kind = if message.multicast { "multicast" } else { "request" };
    let topic = message.topic.as_ref().map(|topic| format!(" to {topic}")).unwrap_or_default();
    let mut lines = vec![format!("{kind}{topic} from {}", full_name(&message.origin))];
    lines.extend(message.traceparent.as_ref().map(|context| format!("traceparent {context}")));
    let width = message.steps.iter().map(|step| step.node.name.chars().count()).max().unwrap_or(0);
    for (at, step) in message.steps.iter().enumerate() {
        lines.push(of_step(step, width, message.failed_at == Some(at)));
    }
    let is_failure = message.outcome.as_ref().is_some_and(|outcome| outcome.code != 0);
    lines.push(match is_failure {
        true => output::warning(&message.verdict),
        false => output::good(&message.verdict),
    });
    if !message.cure.is_empty() {
        lines.push(format!("{} {}", output::bold("what to do:"), message.cure));
    }
    lines
}

fn of_step(step: &Step, width: usize, is_failing: bool) -> String {
    let uncertain = if step.give_or_take_us > 0 { "~" } else { " " };
    let at = format!("{uncertain}{:>10.3} ms", step.at_us as f64 / 1000.0);
    let attempt = if step.attempt > 1 { format!(" (attempt {})", step.attempt) } else { String::new() };
    let text = format!("{}{attempt}", step.text);
    let mark = if is_failing { "✗" } else { " " };
    let text = if is_failing { output::warning(text) } else { text };
    format!("{mark} {}  {:width$}  {text}", output::dim(at), step.node.name)
}

fn full_name(place: &Place) -> String {
    match &*place.institution {
        "" => place.name.clone(),
        institution => format!("{} ({institution})", place.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::trace::Ending;

    #[test]
    fn the_failing_step_is_marked_and_the_cure_named() {
        let place = |name: &str| Place { name: name.into(), institution: "Bank".into(), id: "00".repeat(8) };
        let step = |node: &str, text: &str| Step { node: place(node), text: text.into(), ..Step::default() };
        let message = Message {
            origin: place("a"),
            topic: Some("orders".into()),
            steps: vec![step("a", "sent to c by way of b"), step("longer", "did not pass it on")],
            outcome: Some(Ending { code: 103, cause: "CAUSE_RELAY_LIMIT".into(), text: String::new() }),
            failed_at: Some(1),
            verdict: "failed with 103".into(),
            cure: "raise it".into(),
            ..Message::default()
        };
        let trace = Trace { id: "1".repeat(32), messages: vec![message], ..Trace::default() };
        let text = describe(&trace);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "request to orders from a (Bank)");
        assert!(lines[2].starts_with("  ") && lines[2].ends_with("a       sent to c by way of b"), "{text}");
        assert!(lines[3].starts_with("✗ ") && lines[3].ends_with("longer  did not pass it on"), "{text}");
        assert_eq!(lines[4..], ["failed with 103", "what to do: raise it"]);
    }
}
