//! Results as tables and as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use super::{
    case::Case,
    figures::{Better, Figures, Metric, median},
    rounds::{Plan, Results},
};

/// What a figure is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Against {
    /// A contender, by its name.
    Named(&'static str),
    /// The best of the products of others.
    BestPeer,
    /// Nothing: the figure itself.
    Itself,
}

/// What a contender is to reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Aim {
    /// Where.
    pub(super) case: Case,
    /// In what.
    pub(super) metric: Metric,
    /// Compared with whom.
    pub(super) against: Against,
    /// At least this for what is better when more, at most this otherwise.
    pub(super) bound: f64,
}

/// Values by round.
type Rounds = Vec<(usize, f64)>;

impl Results {
    /// A table for each case: medians with minimum and maximum, and ratios to the first contender and to the best
    /// peer; then what did not work.
    pub(super) fn markdown(&self, plan: &Plan) -> String {
        let mut text = String::new();
        for contender in &plan.contenders {
            text.push_str(&format!("- **{}**: {}\n", contender.name(), contender.about()));
        }
        for case in &plan.cases {
            text.push_str(&self.table(plan, *case));
        }
        if !self.failures.is_empty() {
            text.push_str("\nWhat did not work:\n\n");
            self.failures.iter().for_each(|failure| text.push_str(&format!("- {failure}\n")));
        }
        let foreign: Vec<f64> = self.all().map(|figures| figures.foreign * 100.0).collect();
        let most = foreign.iter().copied().fold(0.0, f64::max);
        let failed: u64 = self.all().map(|figures| figures.failed).sum();
        let _ = write!(
            text,
            "\nOther processes used {:.1} % of the machine (median of all measurements), at most {most:.1} %. {failed} messages failed.\n",
            median(foreign).unwrap_or(0.0)
        );
        text
    }

    /// Aims, and whether `name` has reached them.
    pub(super) fn aims(&self, plan: &Plan, name: &str, aims: &[Aim]) -> String {
        let mut text =
            String::from("| work | figure | compared with | aim | measured |\n|---|---|---|---:|---:|\n");
        let Some(own) = plan.contenders.iter().position(|contender| contender.name() == name) else {
            return text;
        };
        for aim in aims {
            let Some((others, values)) = self.measured(plan, own, aim) else { continue };
            let found = median(values.iter().map(|(_, value)| *value));
            let Some(found) = found else { continue };
            let (sign, reached) = match aim.metric.better() {
                Better::More => ("≥", found >= aim.bound),
                Better::Less => ("≤", found <= aim.bound),
            };
            let verdict = if reached { "" } else { " missed" };
            let _ = writeln!(
                text,
                "| {} | {} | {others} | {sign} {} | {found:.2}{verdict} |",
                aim.case,
                aim.metric.title(),
                aim.bound
            );
        }
        text
    }

    /// Everything that was measured.
    pub(super) fn json(&self, plan: &Plan) -> Value {
        let name = |number: &usize| plan.contenders.get(*number).map(|contender| contender.name());
        let record = |case: &Case, number: &usize, round: &usize, figures: &Figures| {
            let values: serde_json::Map<_, _> =
                figures.iter().map(|(metric, value)| (metric.title().to_owned(), json!(value))).collect();
            json!({
                "case": case.to_string(), "system": name(number), "round": round + 1,
                "figures": values, "foreign": figures.foreign, "failed": figures.failed,
            })
        };
        let records: Vec<_> = self
            .figures
            .iter()
            .flat_map(|((case, number), rounds)| {
                rounds.iter().map(move |(round, figures)| record(case, number, round, figures))
            })
            .collect();
        let systems: Vec<_> = plan
            .contenders
            .iter()
            .map(|contender| json!({ "name": contender.name(), "about": contender.about() }))
            .collect();
        json!({ "systems": systems, "rounds": plan.rounds, "records": records, "failures": self.failures })
    }

    /// Whether everything that was to be measured was.
    pub(super) fn is_complete(&self) -> bool {
        self.failures.is_empty()
    }

    fn table(&self, plan: &Plan, case: Case) -> String {
        let mut text = format!("\n### {case}\n\n| system |");
        let mut rule = String::from("|---|");
        let best = peers(plan).next().is_some();
        for metric in case.metrics() {
            let _ = write!(text, " {} | × {} |", metric.title(), first(plan));
            rule.push_str("---:|---:|");
            if best {
                text.push_str(" × best peer |");
                rule.push_str("---:|");
            }
        }
        text.push_str(&format!("\n{rule}\n"));
        for (number, contender) in plan.contenders.iter().enumerate() {
            if !self.figures.contains_key(&(case, number)) {
                continue;
            }
            let _ = write!(text, "| {} |", contender.name());
            for metric in case.metrics() {
                let values = self.rounds(case, number, *metric);
                let _ = write!(
                    text,
                    " {} | {} |",
                    spread(*metric, &values),
                    ratio(&values, &self.rounds(case, 0, *metric))
                );
                if best {
                    let _ = write!(text, " {} |", ratio(&values, &self.best(plan, case, *metric)));
                }
            }
            text.push('\n');
        }
        text
    }

    /// With whom an aim compares, and the ratio (or the value itself) in each round.
    fn measured(&self, plan: &Plan, own: usize, aim: &Aim) -> Option<(String, Rounds)> {
        let values = self.rounds(aim.case, own, aim.metric);
        let (name, others) = match aim.against {
            Against::Itself => return Some(("–".into(), values)),
            Against::BestPeer => ("best peer", self.best(plan, aim.case, aim.metric)),
            Against::Named(name) => {
                let number = plan.contenders.iter().position(|contender| contender.name() == name)?;
                (name, self.rounds(aim.case, number, aim.metric))
            }
        };
        Some((name.into(), ratios(&values, &others)))
    }

    fn rounds(&self, case: Case, number: usize, metric: Metric) -> Rounds {
        let rounds = self.figures.get(&(case, number)).into_iter().flatten();
        rounds.filter_map(|(round, figures)| Some((*round, figures.value(metric)?))).collect()
    }

    /// The best value of any peer in each round.
    fn best(&self, plan: &Plan, case: Case, metric: Metric) -> Rounds {
        let peers: Vec<_> = peers(plan).collect();
        let of_round = |round| {
            let values = peers
                .iter()
                .filter_map(|number| self.figures.get(&(case, *number))?.get(&round)?.value(metric));
            values.reduce(|one, other| match metric.better() {
                Better::More => one.max(other),
                Better::Less => one.min(other),
            })
        };
        (0..plan.rounds).filter_map(|round| Some((round, of_round(round)?))).collect()
    }

    fn all(&self) -> impl Iterator<Item = &Figures> {
        self.figures.values().flat_map(|rounds| rounds.values())
    }
}

fn peers(plan: &Plan) -> impl Iterator<Item = usize> {
    let all = plan.contenders.iter().enumerate();
    all.filter(|(_, contender)| contender.is_peer()).map(|(number, _)| number)
}

fn first(plan: &Plan) -> &str {
    plan.contenders.first().map_or("", |contender| contender.name())
}

fn ratios(values: &Rounds, others: &Rounds) -> Rounds {
    let other = |round| others.iter().find(|(found, _)| *found == round).map(|(_, value)| *value);
    let each = values.iter().filter_map(|(round, value)| Some((*round, value / other(*round)?)));
    // A slope may have come out below zero, by noise.
    each.filter(|(_, ratio)| ratio.is_finite() && *ratio > 0.0).collect()
}

fn ratio(values: &Rounds, others: &Rounds) -> String {
    let found = median(ratios(values, others).into_iter().map(|(_, ratio)| ratio));
    found.map_or("–".into(), |ratio| format!("{ratio:.2}"))
}

/// Median, and minimum and maximum if there are several.
fn spread(metric: Metric, values: &Rounds) -> String {
    let values: Vec<f64> = values.iter().map(|(_, value)| *value).collect();
    let Some(middle) = median(values.iter().copied()) else { return "–".into() };
    let show = |value: f64| format!("{value:.*}", metric.decimals(middle));
    let (least, most) =
        values.iter().fold((middle, middle), |(least, most), value| (least.min(*value), most.max(*value)));
    match values.len() {
        1 => show(middle),
        _ => format!("**{}** [{}–{}]", show(middle), show(least), show(most)),
    }
}
