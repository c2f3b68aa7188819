//! The figures of a run, as they are kept in JSON and turned into the page.

use std::fs;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::sample::{Outcome, Sample, Side};
use crate::trouble::{During, Result};

/// Both servers in one round.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Pair {
    /// procring.
    pub(crate) procring: Outcome,
    /// The reference.
    pub(crate) reference: Outcome,
}

impl Pair {
    /// One side's outcome.
    pub(crate) fn side(&self, side: Side) -> &Outcome {
        match side {
            Side::Procring => &self.procring,
            Side::Reference => &self.reference,
        }
    }
}

/// All rounds of one scenario.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// The scenario's name.
    pub(crate) name: String,
    /// Its rounds.
    pub(crate) pairs: Vec<Pair>,
    /// Where and when; scenarios may be measured again later than others.
    pub(crate) machine: Machine,
}

impl Measured {
    /// Every sample of one side.
    pub(crate) fn samples(&self, side: Side) -> impl Iterator<Item = &Sample> {
        self.pairs
            .iter()
            .filter_map(move |pair| pair.side(side).sample())
    }

    /// A figure of one side, over the rounds.
    pub(crate) fn values(&self, side: Side, key: &str) -> Vec<f64> {
        self.samples(side)
            .filter_map(|sample| sample.values.get(key).copied())
            .collect()
    }
}

/// A comparison run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Comparison {
    /// Whether it was the two-minute version.
    pub(crate) quick: bool,
    /// Its scenarios.
    pub(crate) scenarios: Vec<Measured>,
}

impl Comparison {
    /// Adds what is measured here to what was kept, replacing scenarios of the same name.
    pub(crate) fn merge_into(self, kept: Comparison) -> Comparison {
        let mut scenarios = kept.scenarios;
        for measured in self.scenarios {
            match scenarios
                .iter_mut()
                .find(|other| other.name == measured.name)
            {
                Some(other) => *other = measured,
                None => scenarios.push(measured),
            }
        }
        Comparison {
            quick: self.quick,
            scenarios,
        }
    }
}

/// A table of alternatives, measured in interleaved rounds; the first one is the floor.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Group {
    /// Short name.
    pub(crate) name: String,
    /// What the table answers.
    pub(crate) question: String,
    /// Name and unit of each figure; the ratio is taken of the first.
    pub(crate) columns: Vec<(String, String)>,
    /// The alternatives.
    pub(crate) rows: Vec<GroupRow>,
    /// Where and when.
    pub(crate) machine: Machine,
}

/// One alternative of a [`Group`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct GroupRow {
    /// What it is.
    pub(crate) name: String,
    /// One line of figures per round.
    pub(crate) rounds: Vec<Vec<f64>>,
    /// Why there is no figure.
    pub(crate) note: Option<String>,
}

/// The middle of some figures; the mean of the two middle ones for an even number.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted: Vec<f64> = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let high = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(high);
    }
    Some((high + sorted.get(sorted.len() / 2 - 1)?) / 2.0)
}

/// Reads what an earlier run kept; nothing when there is none or it is of another form.
pub(crate) fn load<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Keeps a run.
pub(crate) fn store<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let text = serde_json::to_vec(value)
        .map_err(std::io::Error::from)
        .during("write figures")?;
    fs::write(path, text).during("write figures")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_the_middle_figure() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }
}
