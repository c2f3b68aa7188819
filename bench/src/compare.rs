//! Runs the scenarios on both servers, interleaved, and judges nothing.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use crate::install;
use crate::machine::Machine;
use crate::options::Options;
use crate::results::{Comparison, Measured, Pair};
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
    let (procring, reference) = install::programs(options)?;
    let programs = Programs {
        procring,
        reference,
        this: std::env::current_exe().during("find this program")?,
        text_file: write_text()?,
        quick: options.quick,
    };
    let machine = Machine::read();
    let mut pairs: Vec<Vec<Pair>> = scenarios.iter().map(|_| Vec::new()).collect();
    for round in 0..options.rounds() {
        for (index, scenario) in scenarios.iter().enumerate() {
            pairs[index].push(programs.pair(scenario, round, (round + index) % 2 == 0));
        }
    }
    let measured = scenarios
        .iter()
        .zip(pairs)
        .map(|(scenario, pairs)| Measured {
            name: scenario.name.to_owned(),
            pairs,
            machine: machine.clone(),
        });
    Ok(Comparison {
        quick: options.quick,
        scenarios: measured.collect(),
    })
}

struct Programs {
    procring: PathBuf,
    reference: PathBuf,
    this: PathBuf,
    text_file: PathBuf,
    quick: bool,
}

impl Programs {
    fn pair(&self, scenario: &Scenario, round: usize, procring_first: bool) -> Pair {
        if procring_first {
            let procring = self.one(scenario, Side::Procring, round);
            Pair {
                procring,
                reference: self.one(scenario, Side::Reference, round),
            }
        } else {
            let reference = self.one(scenario, Side::Reference, round);
            Pair {
                procring: self.one(scenario, Side::Procring, round),
                reference,
            }
        }
    }

    fn one(&self, scenario: &Scenario, side: Side, round: usize) -> Outcome {
        let binary = match side {
            Side::Procring => &self.procring,
            Side::Reference => &self.reference,
        };
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
