//! Every case to every contender, round after round.

use std::{collections::BTreeMap, path::Path, time::Duration};

use amop_load::meter;

use super::{
    case::{Case, Scale},
    contender::Contender,
    figures::{Figures, Metric},
    turn::Turn,
};

/// How long others may keep the machine busy before it is measured all the same.
const QUIET: Duration = Duration::from_secs(20);

/// What is measured, and how often.
pub(super) struct Plan {
    /// Who takes part. The first is what the others are compared with.
    pub(super) contenders: Vec<Box<dyn Contender>>,
    /// What is put to them.
    pub(super) cases: Vec<Case>,
    /// How often.
    pub(super) rounds: usize,
    /// How long each time.
    pub(super) scale: Scale,
    /// Measured again, once, if others use more than this part of the machine meanwhile.
    pub(super) foreign: f64,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Results {
    /// By case, contender and round.
    pub(super) figures: BTreeMap<(Case, usize), BTreeMap<usize, Figures>>,
    /// What did not work.
    pub(super) failures: Vec<String>,
}

impl Plan {
    /// Measures everything, each time in a process of its own whose files go to `dir`. `tell` is told of each
    /// measurement, and given all that there are.
    pub(super) async fn run(&self, dir: &Path, mut tell: impl FnMut(&str, &Results)) -> Results {
        let mut results = Results::default();
        for round in 0..self.rounds {
            for turn in self.turns(round) {
                let line = self.measure(turn, round, dir, &mut results).await;
                tell(&line, &results);
            }
        }
        results
    }

    /// Every case to every contender that takes it, beginning with another contender in each round.
    fn turns(&self, round: usize) -> impl Iterator<Item = Turn> {
        let each = move |case| {
            let contenders =
                (0..self.contenders.len()).map(move |turn| (turn + round) % self.contenders.len());
            contenders.map(move |contender| Turn { contender, case })
        };
        (0..self.cases.len()).flat_map(each).filter(|turn| {
            let (contender, case) = (self.contenders.get(turn.contender), self.cases.get(turn.case));
            contender.zip(case).is_some_and(|(contender, case)| contender.takes(*case))
        })
    }

    /// Keeps what came of a turn; in one line.
    async fn measure(&self, turn: Turn, round: usize, dir: &Path, results: &mut Results) -> String {
        let (Some(contender), Some(case)) = (self.contenders.get(turn.contender), self.cases.get(turn.case))
        else {
            return format!("there is no turn {turn}");
        };
        let place = format!("round {}, {case}, {}", round + 1, contender.name());
        match self.quieter_of_two(turn, dir).await {
            Ok(figures) => {
                let line = line(*case, &figures);
                results.figures.entry((*case, turn.contender)).or_default().insert(round, figures);
                format!("{place}: {line}")
            }
            Err(error) => {
                let line = format!("{place}: {error}");
                results.failures.push(line.clone());
                line
            }
        }
    }

    /// The quieter of two, if the first is not quiet enough.
    async fn quieter_of_two(&self, turn: Turn, dir: &Path) -> Result<Figures, String> {
        let first = self.once(turn, dir).await;
        match &first {
            Ok(figures) if figures.foreign <= self.foreign => return first,
            _ => {}
        }
        let second = self.once(turn, dir).await;
        match (first, second) {
            (Ok(first), Ok(second)) => Ok(if second.foreign < first.foreign { second } else { first }),
            (first, second) => first.or(second),
        }
    }

    async fn once(&self, turn: Turn, dir: &Path) -> Result<Figures, String> {
        meter::until_quiet(self.foreign, QUIET).await;
        turn.in_process(dir).await
    }
}

fn line(case: Case, figures: &Figures) -> String {
    let each = |metric: &Metric| {
        let value = figures.value(*metric)?;
        Some(format!("{} {value:.*}", metric.title(), metric.decimals(value)))
    };
    let mut parts: Vec<String> = case.metrics().iter().filter_map(each).collect();
    if figures.failed > 0 {
        parts.push(format!("{} failed", figures.failed));
    }
    parts.push(format!("others {:.0} %", figures.foreign * 100.0));
    parts.join(", ")
}
