//! The smallest part of a plan that still breaks the contract.

use std::time::{Duration, Instant};

use crate::plan::{Plan, Step};

/// How long is looked for a smaller part.
const PATIENCE: Duration = Duration::from_secs(20);

/// Leaves out of a plan that `fails` whatever is not needed for that: first halves, then ever
/// smaller pieces (delta debugging). Returns the numbers of the steps that are left.
pub fn shrink(plan: &Plan, fails: impl Fn(&Plan) -> bool) -> Vec<usize> {
    let begun = Instant::now();
    let mut kept: Vec<usize> = (0..plan.steps.len()).collect();
    let mut piece = kept.len().div_ceil(2);
    while piece > 0 && begun.elapsed() < PATIENCE {
        let before = kept.len();
        let mut at = 0;
        while at < kept.len() && begun.elapsed() < PATIENCE {
            let mut without = kept.clone();
            without.drain(at..(at + piece).min(kept.len()));
            if fails(&only(plan, &without)) {
                kept = without;
            } else {
                at += piece;
            }
        }
        if kept.len() == before || piece > 1 {
            piece /= 2;
        }
    }
    kept
}

/// A plan with these of its steps only.
pub fn only(plan: &Plan, kept: &[usize]) -> Plan {
    let steps: Vec<Step> = kept.iter().filter_map(|number| plan.steps.get(*number)).cloned().collect();
    Plan { steps, setup: plan.setup.clone(), ..*plan }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{generate, plan::Act};

    #[test]
    fn what_is_not_needed_is_left_out() {
        let step = |millis| Step { at: Duration::from_millis(millis), act: Act::Crash { node: 0 } };
        let plan = Plan { steps: (0..100).map(step).collect(), ..generate::plan(0) };
        let has = |plan: &Plan, at| plan.steps.iter().any(|step| step.at == Duration::from_millis(at));
        assert_eq!(shrink(&plan, |plan| has(plan, 17) && has(plan, 61)), [17, 61]);
    }
}
