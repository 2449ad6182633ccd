//! Every case to every contender, round after round.

use std::{collections::BTreeMap, time::Duration};

use amop_load::meter;
use tokio::time::timeout;

use super::{
    case::{Case, Scale},
    contender::Contender,
    figures::{Figures, Metric},
};

/// How long others may keep the machine busy before it is measured all the same.
const QUIET: Duration = Duration::from_secs(20);
/// How long one measurement may take, all in all.
const MOST: Duration = Duration::from_secs(180);

/// What is measured, and how often.
pub struct Plan {
    /// Who takes part. The first is what the others are compared with.
    pub contenders: Vec<Box<dyn Contender>>,
    /// What is put to them.
    pub cases: Vec<Case>,
    /// How often.
    pub rounds: usize,
    /// How long each time.
    pub scale: Scale,
    /// Measured again, once, if others use more than this part of the machine meanwhile.
    pub foreign: f64,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Results {
    /// By case, contender and round.
    pub(super) figures: BTreeMap<(Case, usize), BTreeMap<usize, Figures>>,
    /// What did not work.
    pub(super) failures: Vec<String>,
}

impl Plan {
    /// Measures everything; `tell` is told of each measurement.
    pub async fn run(&self, tell: impl Fn(&str)) -> Results {
        let mut results = Results::default();
        for round in 0..self.rounds {
            for case in &self.cases {
                for turn in 0..self.contenders.len() {
                    let number = (turn + round) % self.contenders.len();
                    let Some(contender) = self.contenders.get(number) else { continue };
                    if !contender.takes(*case) {
                        continue;
                    }
                    let place = format!("round {}, {case}, {}", round + 1, contender.name());
                    match self.measure(&**contender, *case).await {
                        Ok(figures) => {
                            tell(&format!("{place}: {}", line(*case, &figures)));
                            results.figures.entry((*case, number)).or_default().insert(round, figures);
                        }
                        Err(error) => {
                            tell(&format!("{place}: {error}"));
                            results.failures.push(format!("{place}: {error}"));
                        }
                    }
                }
            }
        }
        results
    }

    /// The quieter of two, if the first is not quiet enough.
    async fn measure(&self, contender: &dyn Contender, case: Case) -> Result<Figures, String> {
        let first = self.once(contender, case).await;
        match &first {
            Ok(figures) if figures.foreign <= self.foreign => return first,
            _ => {}
        }
        let second = self.once(contender, case).await;
        match (first, second) {
            (Ok(first), Ok(second)) => Ok(if second.foreign < first.foreign { second } else { first }),
            (first, second) => first.or(second),
        }
    }

    async fn once(&self, contender: &dyn Contender, case: Case) -> Result<Figures, String> {
        meter::until_quiet(self.foreign, QUIET).await;
        match timeout(MOST, contender.put(case, self.scale)).await {
            Ok(Ok(figures)) => Ok(figures),
            Ok(Err(error)) => Err(causes(&error)),
            Err(_) => Err(format!("not done within {MOST:?}")),
        }
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

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
