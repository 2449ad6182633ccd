//! The core's instructions per message, counted by valgrind.

use std::process::{Command, ExitCode};

use super::{
    core,
    work::{Kind, Work},
};

/// The first argument of a process that only plays messages.
const PLAY: &str = "play";
/// Two runs are compared, so that starting and ending do not count.
const MESSAGES: [u64; 2] = [1_024, 3_072];

/// Plays messages if this process was started for that by [`per_message`].
pub(crate) fn play_if_told(arguments: &[String]) -> Option<ExitCode> {
    let [play, kind, nodes, messages] = arguments else { return None };
    if play != PLAY {
        return None;
    }
    let (nodes, messages) = (nodes.parse().expect("a number"), messages.parse().expect("a number"));
    let work = if kind == name(Kind::Request) { Work::request(nodes, 1) } else { Work::multicast(nodes, 1) };
    core::play(work, messages);
    Some(ExitCode::SUCCESS)
}

/// Instructions of the core of all nodes of the work, for one message.
pub(crate) fn per_message(work: Work) -> f64 {
    let [few, many] = MESSAGES.map(|messages| of_a_process(work, messages));
    (many - few) as f64 / (MESSAGES[1] - MESSAGES[0]) as f64
}

fn of_a_process(work: Work, messages: u64) -> u64 {
    let this = std::env::current_exe().expect("this program");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(this)
        .args([PLAY, name(work.kind), &work.nodes.to_string(), &messages.to_string()])
        .output()
        .expect("valgrind runs; if it is not there, install the package of that name");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "valgrind failed: {said}");
    let collected = said.lines().find_map(|line| line.split("Collected :").nth(1));
    collected.and_then(|number| number.trim().parse().ok()).expect("valgrind says what it collected")
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Request => "request",
        Kind::Multicast => "multicast",
    }
}
