//! The figures of a run, as they are kept in JSON and turned into the page.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::sample::{Outcome, Sample, Side};
use crate::trouble::{During, Result};

/// Every server in one round.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Round(pub(crate) BTreeMap<Side, Outcome>);

impl Round {
    /// One side's outcome, if it took part.
    pub(crate) fn side(&self, side: Side) -> Option<&Outcome> {
        self.0.get(&side)
    }

    /// One side's figures, where there are any.
    pub(crate) fn sample(&self, side: Side) -> Option<&Sample> {
        self.side(side)?.sample()
    }
}

/// All rounds of one scenario.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// The scenario's name.
    pub(crate) name: String,
    /// Its rounds.
    #[serde(rename = "pairs")]
    pub(crate) rounds: Vec<Round>,
    /// The older build's program, if one took part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) baseline: Option<String>,
    /// Where and when; scenarios may be measured again later than others.
    pub(crate) machine: Machine,
}

impl Measured {
    /// Every sample of one side.
    pub(crate) fn samples(&self, side: Side) -> impl Iterator<Item = &Sample> {
        self.rounds
            .iter()
            .filter_map(move |round| round.sample(side))
    }

    /// The names of all latencies, sorted.
    pub(crate) fn latency_names(&self) -> Vec<&String> {
        let rounds = self.rounds.iter().flat_map(|round| round.0.values());
        let samples = rounds.filter_map(Outcome::sample);
        let names: BTreeSet<_> = samples.flat_map(|sample| sample.latencies.keys()).collect();
        names.into_iter().collect()
    }

    /// Whether one side took part.
    pub(crate) fn has(&self, side: Side) -> bool {
        self.rounds.iter().any(|round| round.side(side).is_some())
    }

    /// Who took part.
    pub(crate) fn sides(&self) -> impl Iterator<Item = Side> {
        Side::ALL.into_iter().filter(|side| self.has(*side))
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
    /// Whether one side took part in any scenario.
    pub(crate) fn has(&self, side: Side) -> bool {
        self.scenarios.iter().any(|measured| measured.has(side))
    }

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

    #[test]
    fn a_comparison_without_an_older_build_is_kept_as_before() {
        let kept = r#"{"name":"start","pairs":[{"procring":{"Failed":"a"},"reference":{"Unavailable":"b"}}],"machine":{"processor":"","cores":0,"memory_gib":0.0,"kernel":"","rustc":"","commit":"","date":"","load":""}}"#;
        let read: Measured = serde_json::from_str(kept).expect("an earlier run is read");
        assert_eq!(read.sides().count(), 2);
        assert_eq!(serde_json::to_string(&read).expect("it is kept"), kept);
    }
}
