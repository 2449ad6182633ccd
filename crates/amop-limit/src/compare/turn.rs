//! One measurement, in a process of its own.
//!
//! Clients of a product run in the process that measures. Were that the process of the whole comparison, a client library that
//! aborts would take all results with it, and what one product's clients leave behind in memory would be there for
//! the next. So the program runs itself once for each measurement, with the same options and the turn's numbers.

use std::{
    env,
    io::{self, Write},
    path::Path,
    process::{ExitStatus, Stdio},
    str::FromStr,
    time::Duration,
};

use amop_load::children;
use serde::{Deserialize, Serialize};
use tokio::{process::Command, time::timeout};

use super::{figures::Figures, rounds::Plan};

/// How long one measurement may take, all in all.
const MOST: Duration = Duration::from_secs(180);
/// The option that names a turn.
pub(super) const OPTION: &str = "--turn";

/// A contender and a case, by their numbers in a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    pub(super) contender: usize,
    pub(super) case: usize,
}

/// What a process says that has measured.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Said {
    Figures(Figures),
    Error(String),
}

impl Turn {
    /// Runs this program for it. The files of that process go to `dir`.
    pub(super) async fn in_process(self, dir: &Path) -> Result<Figures, String> {
        let own = env::current_exe().map_err(|error| format!("this program cannot be found: {error}"))?;
        let mut command = Command::new(own);
        command.args(env::args_os().skip(1)).arg(OPTION).arg(self.to_string()).env("TMPDIR", dir);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let output = async { command.spawn()?.wait_with_output().await };
        match timeout(MOST, output).await {
            Ok(Ok(output)) => heard(&output.stdout, output.status),
            Ok(Err(error)) => Err(format!("the process that was to measure cannot be run: {error}")),
            Err(_) => Err(format!("not done within {MOST:?}")),
        }
    }

    /// Measures in this process, and says what came of it to the one that has started it.
    ///
    /// # Errors
    /// When it cannot be said.
    pub(super) async fn play(self, plan: &Plan) -> io::Result<()> {
        children::end_with_parent()?;
        let said = match (plan.contenders.get(self.contender), plan.cases.get(self.case)) {
            (Some(contender), Some(case)) => match contender.put(*case, plan.scale).await {
                Ok(figures) => Said::Figures(figures),
                Err(error) => Said::Error(causes(&error)),
            },
            _ => Said::Error(format!("there is no turn {self}")),
        };
        writeln!(io::stdout(), "{}", serde_json::to_string(&said)?)
    }
}

impl std::fmt::Display for Turn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.contender, self.case)
    }
}

impl FromStr for Turn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/').and_then(|(contender, case)| {
            Some(Self { contender: contender.parse().ok()?, case: case.parse().ok()? })
        });
        numbers.ok_or_else(|| format!("{text:?} is no contender and case, as 0/3"))
    }
}

/// What a process has said, or how it ended without a word.
fn heard(said: &[u8], status: ExitStatus) -> Result<Figures, String> {
    match serde_json::from_slice(said) {
        Ok(Said::Figures(figures)) => Ok(figures),
        Ok(Said::Error(error)) => Err(error),
        Err(_) => Err(format!("the process with the clients ended without a figure ({status})")),
    }
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;
    use crate::compare::Metric;

    #[test]
    fn turns_are_told_on_a_command_line() {
        let turn = Turn { contender: 2, case: 13 };
        assert_eq!(turn.to_string().parse(), Ok(turn));
        for text in ["", "2", "2/", "/13", "2/13/1", "-1/0"] {
            assert!(text.parse::<Turn>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_a_process_says_is_heard() {
        let figures = Figures { failed: 3, foreign: 0.5, ..Figures::default() }.with(Metric::P50, 1.25);
        let said = serde_json::to_vec(&Said::Figures(figures.clone())).expect("JSON");
        assert_eq!(heard(&said, ExitStatus::from_raw(0)), Ok(figures));
        let said = serde_json::to_vec(&Said::Error("no system".into())).expect("JSON");
        assert_eq!(heard(&said, ExitStatus::from_raw(0)), Err("no system".into()));
    }

    #[test]
    fn a_process_that_aborts_fails_its_own_turn_only() {
        let error = heard(b"", ExitStatus::from_raw(6)).expect_err("nothing was said");
        assert!(error.contains("signal: 6"), "{error}");
    }
}
