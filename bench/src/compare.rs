//! Runs the scenarios on every server, interleaved, and judges nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::install;
use crate::machine::Machine;
use crate::options::Options;
use crate::results::{Comparison, Measured, Round};
use crate::sample::{Outcome, Side};
use crate::scenario::{Scenario, Stage, all};
use crate::trouble::{During, Result, Trouble};

/// Bytes of the text that one-shot runs print.
const TEXT_BYTES: usize = 1_000_000;

/// Runs what the options ask for.
///
/// # Errors
/// `Trouble::Setup` when a program cannot be had; what goes wrong within a scenario is an
/// outcome of that scenario.
pub(crate) fn run(options: &Options) -> Result<Comparison> {
    let scenarios: Vec<_> = all()
        .into_iter()
        .filter(|scenario| options.wants(scenario.name))
        .collect();
    if scenarios.is_empty() {
        return Err(Trouble::Setup("no scenario of that name".into()));
    }
    let mut servers = vec![(Side::Procring, install::procring(options)?)];
    if !options.no_reference {
        servers.push((Side::Reference, install::reference(options)?));
    }
    if let Some(older) = &options.baseline_bin {
        servers.push((Side::Baseline, older.clone()));
    }
    let programs = Programs {
        servers,
        this: std::env::current_exe().during("find this program")?,
        text_file: write_text()?,
        quick: options.quick,
    };
    let machine = Machine::read();
    let mut rounds: Vec<Vec<Round>> = scenarios.iter().map(|_| Vec::new()).collect();
    for round in 0..options.rounds() {
        for (index, scenario) in scenarios.iter().enumerate() {
            rounds[index].push(programs.round(scenario, round, round + index));
        }
    }
    let older = options.baseline_bin.as_ref();
    let measured = scenarios
        .iter()
        .zip(rounds)
        .map(|(scenario, rounds)| Measured {
            name: scenario.name.to_owned(),
            rounds,
            baseline: older.map(|path| path.display().to_string()),
            machine: machine.clone(),
        });
    Ok(Comparison {
        quick: options.quick,
        scenarios: measured.collect(),
    })
}

struct Programs {
    servers: Vec<(Side, PathBuf)>,
    this: PathBuf,
    text_file: PathBuf,
    quick: bool,
}

impl Programs {
    /// Every server once; `turn` says which of them comes first.
    fn round(&self, scenario: &Scenario, round: usize, turn: usize) -> Round {
        let mut servers: Vec<_> = self.servers.iter().collect();
        servers.rotate_left(turn % self.servers.len());
        let outcomes = servers
            .into_iter()
            .map(|(side, binary)| (*side, self.one(scenario, *side, binary, round)));
        Round(outcomes.collect())
    }

    fn one(&self, scenario: &Scenario, side: Side, binary: &Path, round: usize) -> Outcome {
        let stage = Stage {
            binary,
            program: &self.this,
            text_file: &self.text_file,
            quick: self.quick,
        };
        let began = Instant::now();
        let outcome = match (scenario.run)(&stage) {
            Ok(sample) => Outcome::Done(sample),
            Err(Trouble::Unavailable(reason)) => Outcome::Unavailable(reason),
            Err(trouble) => Outcome::Failed(trouble.to_string()),
        };
        let result = match &outcome {
            Outcome::Done(sample) => {
                let figures = scenario
                    .rows
                    .iter()
                    .filter_map(|row| Some((row.key, sample.values.get(row.key)?)));
                let mut text = figures
                    .map(|(key, value)| format!(" {key}={value:.4}"))
                    .collect::<String>();
                if !sample.loss.none() {
                    text += &format!(
                        " LOST {:?} {}",
                        sample.loss,
                        sample.note.as_deref().unwrap_or("")
                    );
                }
                text
            }
            other => format!(" {other:?}"),
        };
        let seconds = began.elapsed().as_secs_f64();
        eprintln!(
            "round {} {:<14} {:<9} {seconds:5.1} s {result}",
            round + 1,
            scenario.name,
            side.name()
        );
        outcome
    }
}

fn write_text() -> Result<PathBuf> {
    let path = install::scratch()?.join("text");
    let line = "The quick brown fox jumps over the lazy dog. 0123456789 abcdefg\n";
    let text: String = line.chars().cycle().take(TEXT_BYTES).collect();
    fs::write(&path, text).during("write the text file")?;
    Ok(path)
}
