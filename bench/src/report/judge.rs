//! Holds the figures of a comparison against their goals.

use crate::results::{Comparison, Measured, median};
use crate::sample::{Outcome, Side};
use crate::scenario::{Better, Goal, Row, Scenario, all};

/// Differences below this share are noise.
pub(super) const TIE: f64 = 1.15;
/// A factor above this says only that one figure is next to nothing.
const FACTOR_MAX: f64 = 1000.0;

/// What became of a goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The goal is reached.
    Met,
    /// It is not.
    Missed,
    /// There is no goal.
    Shown,
    /// There are no figures.
    NotAvailable,
}

/// One row with its figures.
pub(super) struct Judged {
    /// Its scenario.
    pub(super) scenario: &'static Scenario,
    /// What is judged.
    pub(super) row: &'static Row,
    /// procring's median.
    pub(super) procring: Option<f64>,
    /// The reference's median.
    pub(super) reference: Option<f64>,
    /// How many times better procring is, round by round.
    pub(super) factors: Vec<f64>,
    /// The verdict.
    pub(super) verdict: Verdict,
    /// Why there are no figures.
    pub(super) note: Option<String>,
}

impl Judged {
    /// The middle factor.
    pub(super) fn factor(&self) -> Option<f64> {
        median(&self.factors)
    }

    /// Whether the two are as good as the same.
    pub(super) fn tie(&self) -> bool {
        self.factor()
            .is_some_and(|factor| (1.0 / TIE..=TIE).contains(&factor))
    }
}

/// Every row of every scenario that was run, in the order of the scenarios.
pub(super) fn judge(run: &Comparison) -> Vec<Judged> {
    let mut judged = Vec::new();
    for scenario in all() {
        if let Some(measured) = run
            .scenarios
            .iter()
            .find(|measured| measured.name == scenario.name)
        {
            judged.extend(
                scenario
                    .rows
                    .iter()
                    .map(|row| judge_row(scenario, row, measured)),
            );
        }
    }
    judged
}

fn judge_row(scenario: &'static Scenario, row: &'static Row, measured: &Measured) -> Judged {
    let procring = median(&measured.values(Side::Procring, row.key));
    let reference = median(&measured.values(Side::Reference, row.key));
    let factors: Vec<f64> = measured
        .rounds
        .iter()
        .filter_map(|round| {
            let ours = *round.sample(Side::Procring)?.values.get(row.key)?;
            let theirs = *round.sample(Side::Reference)?.values.get(row.key)?;
            // Nothing is no multiple of something.
            (theirs != 0.0 || ours == 0.0).then(|| factor(row.better, ours, theirs))
        })
        .collect();
    let verdict = verdict(row.goal, procring, median(&factors));
    let note = measured.rounds.iter().find_map(|round| {
        Side::ALL
            .into_iter()
            .find_map(|side| match round.side(side)? {
                Outcome::Unavailable(reason) => {
                    Some(format!("{}: not available ({reason})", side.name()))
                }
                Outcome::Failed(reason) => Some(format!("{}: failed ({reason})", side.name())),
                Outcome::Done(_) => None,
            })
    });
    Judged {
        scenario,
        row,
        procring,
        reference,
        factors,
        verdict,
        note,
    }
}

/// How many times better `ours` is than `theirs`.
pub(super) fn factor(better: Better, ours: f64, theirs: f64) -> f64 {
    let (good, bad) = match better {
        Better::More => (ours, theirs),
        Better::Less => (theirs, ours),
    };
    if good == bad {
        return 1.0;
    }
    (good / bad.max(f64::MIN_POSITIVE)).min(FACTOR_MAX)
}

fn verdict(goal: Goal, procring: Option<f64>, factor: Option<f64>) -> Verdict {
    let reached = match goal {
        Goal::Shown => return Verdict::Shown,
        // A tie with the reference is enough where the goal is to be as good as it.
        Goal::Factor(wanted) if wanted <= 1.0 => factor.map(|factor| factor * TIE >= wanted),
        Goal::Factor(wanted) => factor.map(|factor| factor >= wanted),
        Goal::NotWorse => factor.map(|factor| factor * TIE >= 1.0),
        Goal::AtMost(most) => procring.map(|value| value <= most),
        Goal::AtLeast(least) => procring.map(|value| value >= least),
    };
    match reached {
        Some(true) => Verdict::Met,
        Some(false) => Verdict::Missed,
        None => Verdict::NotAvailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factor_is_above_one_when_procring_is_better() {
        assert_eq!(factor(Better::More, 20.0, 10.0), 2.0);
        assert_eq!(factor(Better::Less, 10.0, 20.0), 2.0);
        assert_eq!(factor(Better::Less, 0.0, 0.0), 1.0);
        assert_eq!(factor(Better::Less, 0.0, 5.0), FACTOR_MAX);
    }

    #[test]
    fn goal_is_met_at_its_factor_and_missed_below() {
        assert_eq!(
            verdict(Goal::Factor(1.5), Some(1.0), Some(1.5)),
            Verdict::Met
        );
        assert_eq!(
            verdict(Goal::Factor(1.5), Some(1.0), Some(1.49)),
            Verdict::Missed
        );
        assert_eq!(
            verdict(Goal::Factor(1.0), Some(1.0), Some(0.9)),
            Verdict::Met
        );
        assert_eq!(
            verdict(Goal::NotWorse, Some(1.0), Some(0.8)),
            Verdict::Missed
        );
        assert_eq!(verdict(Goal::AtMost(0.0), Some(0.0), None), Verdict::Met);
        assert_eq!(
            verdict(Goal::Factor(2.0), None, None),
            Verdict::NotAvailable
        );
    }
}
