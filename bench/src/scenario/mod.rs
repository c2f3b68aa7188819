//! The scenarios: what is measured, what better means, and what the goal is.
//!
//! A scenario starts a fresh server from its [`Stage`], loads it and hands back a
//! [`Sample`]. It does not know which server it has, nor what the other one did.

mod bare;
mod calls;
mod events;
mod flood;
mod follow;
mod http;
mod idle;
mod ingest;
mod lifecycle;
mod logs;
mod raw;
mod run;
mod scale;
mod start;
mod stream;
mod terminal;
mod upload;
mod wait;

use std::path::Path;
use std::time::Duration;

use crate::api::Api;
use crate::sample::Sample;
use crate::server::Server;
use crate::trouble::Result;

/// Which direction of a figure is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    /// Rates.
    More,
    /// Times, CPU, memory.
    Less,
}

/// What a figure is held against.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Goal {
    /// procring better than the reference by this factor.
    Factor(f64),
    /// procring not worse than the reference, within the noise.
    NotWorse,
    /// procring's own figure at most this.
    AtMost(f64),
    /// procring's own figure at least this.
    AtLeast(f64),
    /// Shown, not judged.
    Shown,
}

/// One line of the result table.
#[derive(Debug)]
pub(crate) struct Row {
    /// Key of the sample's value.
    pub(crate) key: &'static str,
    /// What it is.
    pub(crate) label: &'static str,
    /// Unit of the figure.
    pub(crate) unit: &'static str,
    /// Which direction is better.
    pub(crate) better: Better,
    /// What it is held against.
    pub(crate) goal: Goal,
    /// Factor that the machine itself is thought to allow.
    pub(crate) limit: Option<f64>,
}

/// A rate with a factor to reach and the factor the machine allows.
const fn rate(
    key: &'static str,
    label: &'static str,
    unit: &'static str,
    factor: f64,
    limit: f64,
) -> Row {
    Row {
        key,
        label,
        unit,
        better: Better::More,
        goal: Goal::Factor(factor),
        limit: Some(limit),
    }
}

/// A cost with a factor to reach and, where not 0, the factor the machine allows.
const fn cost(
    key: &'static str,
    label: &'static str,
    unit: &'static str,
    factor: f64,
    limit: f64,
) -> Row {
    let limit = if limit > 0.0 { Some(limit) } else { None };
    Row {
        key,
        label,
        unit,
        better: Better::Less,
        goal: Goal::Factor(factor),
        limit,
    }
}

/// A cost with another kind of goal.
const fn less(key: &'static str, label: &'static str, unit: &'static str, goal: Goal) -> Row {
    Row {
        key,
        label,
        unit,
        better: Better::Less,
        goal,
        limit: None,
    }
}

/// How near procring comes to a bare loop that does the same job in the same round.
const fn share(label: &'static str) -> Row {
    Row {
        key: "share",
        label,
        unit: "",
        better: Better::More,
        goal: Goal::AtLeast(0.6),
        limit: None,
    }
}

/// One scenario.
pub(crate) struct Scenario {
    /// Short name, for `--only`.
    pub(crate) name: &'static str,
    /// What is done, in words.
    pub(crate) title: &'static str,
    /// What is read off.
    pub(crate) rows: &'static [Row],
    /// Does it once with a fresh server.
    pub(crate) run: fn(&Stage<'_>) -> Result<Sample>,
}

/// What a scenario has to work with.
pub(crate) struct Stage<'a> {
    /// The server's program.
    pub(crate) binary: &'a Path,
    /// This benchmark's program, which managed processes run.
    pub(crate) program: &'a Path,
    /// A file of 1 MB of text.
    pub(crate) text_file: &'a Path,
    /// The two-minute version.
    pub(crate) quick: bool,
}

impl Stage<'_> {
    /// A fresh server.
    pub(crate) fn start(&self) -> Result<Server> {
        Server::start(self.binary)
    }

    /// A client of it.
    pub(crate) fn api(&self, server: &Server) -> Result<Api> {
        Api::open(server.address, self.program)
    }

    /// One of two values, by the version that is run.
    pub(crate) fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    /// How long a closed-loop load lasts.
    pub(crate) fn duration(&self) -> Duration {
        self.pick(Duration::from_millis(2500), Duration::from_millis(500))
    }
}

/// Every scenario, in the order of the report.
pub(crate) fn all() -> Vec<&'static Scenario> {
    [
        run::SCENARIOS,
        lifecycle::SCENARIOS,
        ingest::SCENARIOS,
        follow::SCENARIOS,
        stream::SCENARIOS,
        logs::SCENARIOS,
        raw::SCENARIOS,
        upload::SCENARIOS,
        wait::SCENARIOS,
        events::SCENARIOS,
        terminal::SCENARIOS,
        http::SCENARIOS,
        start::SCENARIOS,
        idle::SCENARIOS,
        flood::SCENARIOS,
        calls::SCENARIOS,
        scale::SCENARIOS,
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenario_names_and_row_keys_are_unique() {
        let scenarios = all();
        for (index, scenario) in scenarios.iter().enumerate() {
            assert!(!scenario.rows.is_empty(), "{} has no row", scenario.name);
            assert!(
                scenarios[..index]
                    .iter()
                    .all(|other| other.name != scenario.name)
            );
            for (at, row) in scenario.rows.iter().enumerate() {
                assert!(scenario.rows[..at].iter().all(|other| other.key != row.key));
            }
        }
    }
}
