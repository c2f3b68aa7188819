//! Old against new: how every figure stands to that of an older build.
//!
//! In: rounds in which both took part. Out: Markdown. A ratio is above 1 where the new build is
//! better, whichever direction of the figure that is.

use super::judge::factor;
use super::page::{line, rounds};
use super::text::figure;
use crate::results::{Comparison, Measured, median};
use crate::sample::{Sample, Side};
use crate::scenario::{Better, all};

/// A ratio below this is marked.
const MARKED: f64 = 0.95;

/// The key of a scenario's CPU for each unit of its work.
const CPU: &str = "cpu";

/// What a thing that does nothing costs: scenario, key and name.
const MEMORY: [(&str, &str, &str); 4] = [
    ("idle-memory", "process", "process, RSS"),
    ("idle-memory", "follower", "follower, RSS"),
    ("idle-memory", "connection", "keep-alive connection, RSS"),
    ("scale", "terminal", "terminal, PSS"),
];

const LEAD: &str = "\
*New/old* says how many times better the new build is, round by round: its median and, in brackets,
the lowest and the highest round. 1.00 is unchanged, above 1 is better; what is under 0.95 is
marked. On a busy machine only CPU, memory and counts say something.
";

/// One figure of both builds.
struct Compared {
    scenario: &'static str,
    title: &'static str,
    key: String,
    label: String,
    unit: &'static str,
    old: Option<f64>,
    new: Option<f64>,
    ratios: Vec<f64>,
}

/// Where a figure is found.
type Read<'a> = &'a dyn Fn(&Sample) -> Option<f64>;

/// The section on the older build; nothing where none took part.
pub(super) fn section(run: &Comparison) -> String {
    if !run.has(Side::Baseline) {
        return String::new();
    }
    let compared = compare(run);
    let mut programs: Vec<&str> = run
        .scenarios
        .iter()
        .filter_map(|measured| measured.baseline.as_deref())
        .collect();
    programs.dedup();
    let mut text = format!(
        "\n### Old against new\n\nOld is {}.\n\n{LEAD}\n\
         | scenario | | old | new | new/old (rounds) | |\n|---|---|---:|---:|---|---|\n",
        programs.join(", ")
    );
    let mut last = "";
    for one in &compared {
        let title = if one.scenario == last { "" } else { one.title };
        last = one.scenario;
        row(&mut text, &[title, &one.label], one);
    }
    text += "\n#### Memory of one idle thing\n\n\
             | each | old | new | new/old (rounds) | |\n|---|---:|---:|---|---|\n";
    for (scenario, key, name) in MEMORY {
        let found = |one: &&Compared| one.scenario == scenario && one.key == key;
        if let Some(one) = compared.iter().find(found) {
            row(&mut text, &[name], one);
        }
    }
    text
}

fn row(text: &mut String, names: &[&str], one: &Compared) {
    let (old, new) = (figure(one.old, one.unit), figure(one.new, one.unit));
    let ratios = rounds(&one.ratios);
    let mark = match median(&one.ratios) {
        Some(ratio) if ratio < MARKED => "**under 0.95**",
        _ => "",
    };
    line(text, &[names, &[&old, &new, &ratios, mark]].concat());
}

/// Every figure of every scenario that the older build took part in.
fn compare(run: &Comparison) -> Vec<Compared> {
    let mut compared = Vec::new();
    for scenario in all() {
        let same = |measured: &&Measured| measured.name == scenario.name;
        let Some(measured) = run.scenarios.iter().find(same) else {
            continue;
        };
        if !measured.has(Side::Baseline) {
            continue;
        }
        let mut add = |key: &str, label: &str, unit, better, read: Read<'_>| {
            let of = |side| median(&measured.samples(side).filter_map(read).collect::<Vec<_>>());
            compared.push(Compared {
                scenario: scenario.name,
                title: scenario.title,
                key: key.to_owned(),
                label: label.to_owned(),
                unit,
                old: of(Side::Baseline),
                new: of(Side::Procring),
                ratios: ratios(measured, better, read),
            });
        };
        for row in scenario.rows {
            add(row.key, row.label, row.unit, row.better, &|sample| {
                sample.values.get(row.key).copied()
            });
        }
        // Where only the rate is judged, the cost is the steadier figure.
        if scenario.rows.iter().all(|row| row.key != CPU)
            && !measured.values(Side::Procring, CPU).is_empty()
        {
            add(CPU, "server CPU for each", "µs", Better::Less, &|sample| {
                sample.values.get(CPU).copied()
            });
        }
        for name in measured.latency_names() {
            add(
                name,
                &format!("{name}, p50"),
                "µs",
                Better::Less,
                &|sample| Some(sample.latencies.get(name)?.p50),
            );
            add(
                name,
                &format!("{name}, p99"),
                "µs",
                Better::Less,
                &|sample| Some(sample.latencies.get(name)?.p99),
            );
        }
    }
    compared
}

/// How many times better the new build was, in each round that has both.
fn ratios(measured: &Measured, better: Better, read: Read<'_>) -> Vec<f64> {
    let of = |round: &crate::results::Round, side| round.sample(side).and_then(read);
    let both = measured
        .rounds
        .iter()
        .filter_map(|round| Some((of(round, Side::Procring)?, of(round, Side::Baseline)?)));
    both.map(|(new, old)| factor(better, new, old)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Round;
    use crate::sample::Outcome;

    fn done(key: &str, value: f64) -> Outcome {
        Outcome::Done(Sample::default().value(key, value))
    }

    /// A scenario of which each round has these figures of the new build and of the old one.
    fn measured(name: &str, key: &str, rounds: &[(f64, f64)]) -> Measured {
        let round = |(new, old): &(f64, f64)| {
            Round(
                [
                    (Side::Procring, done(key, *new)),
                    (Side::Baseline, done(key, *old)),
                ]
                .into(),
            )
        };
        Measured {
            name: name.into(),
            rounds: rounds.iter().map(round).collect(),
            baseline: Some("old/procring".into()),
            machine: Default::default(),
        }
    }

    fn section_of(scenarios: Vec<Measured>) -> String {
        section(&Comparison {
            quick: false,
            scenarios,
        })
    }

    fn row_of<'t>(text: &'t str, label: &str) -> &'t str {
        let cell = format!("| {label} |");
        text.lines()
            .find(|line| line.contains(&cell))
            .unwrap_or("no such row")
    }

    #[test]
    fn ratio_is_of_new_to_old_whichever_direction_is_better() {
        let text = section_of(vec![
            measured(
                "run-8",
                "rate",
                &[(90.0, 100.0), (80.0, 100.0), (99.0, 100.0)],
            ),
            measured("echo-1", "cpu", &[(10.0, 20.0)]),
        ]);
        assert!(text.contains("Old is old/procring."));
        assert!(
            row_of(&text, "runs/s")
                .ends_with("| 100/s | 90/s | ×0.90 (×0.80 to ×0.99) | **under 0.95** |")
        );
        assert!(row_of(&text, "server CPU per key").ends_with("| 20 µs | 10 µs | ×2.00 |  |"));
    }

    #[test]
    fn only_what_is_under_the_mark_is_marked() {
        let text = section_of(vec![
            measured("run-8", "rate", &[(95.0, 100.0)]),
            measured("run-32", "rate", &[(94.9, 100.0)]),
        ]);
        assert_eq!(text.matches("**under").count(), 1);
        assert!(text.contains("94.9/s | ×0.95 | **under 0.95** |"));
    }

    #[test]
    fn something_where_there_was_nothing_is_marked() {
        let text = section_of(vec![measured("burst-1", "lost", &[(5.0, 0.0)])]);
        assert!(row_of(&text, "bytes lost").ends_with("| 0 B | 5 B | ×0.00 | **under 0.95** |"));
        let text = section_of(vec![measured("burst-1", "lost", &[(0.0, 0.0)])]);
        assert!(row_of(&text, "bytes lost").ends_with("| 0 B | 0 B | ×1.00 |  |"));
    }

    #[test]
    fn memory_of_idle_things_is_listed_by_itself() {
        let text = section_of(vec![
            measured("idle-memory", "process", &[(3000.0, 2000.0)]),
            measured("scale", "terminal", &[(9000.0, 9000.0)]),
        ]);
        let (_, memory) = text.split_once("#### Memory").expect("a list of memory");
        assert!(
            row_of(memory, "process, RSS")
                .ends_with("| 2000 B | 3000 B | ×0.67 | **under 0.95** |")
        );
        assert!(row_of(memory, "terminal, PSS").ends_with("| 9000 B | 9000 B | ×1.00 |  |"));
    }

    #[test]
    fn a_scenario_that_the_old_build_cannot_run_has_no_ratio() {
        let mut one = measured("run-8", "rate", &[(90.0, 100.0)]);
        one.rounds[0]
            .0
            .insert(Side::Baseline, Outcome::Failed("no".into()));
        let text = section_of(vec![one]);
        assert!(row_of(&text, "runs/s").ends_with("| n/a | 90/s |  |  |"));
    }

    #[test]
    fn without_an_older_build_there_is_no_section() {
        let mut one = measured("run-8", "rate", &[(90.0, 100.0)]);
        one.rounds[0].0.remove(&Side::Baseline);
        one.baseline = None;
        assert_eq!(section_of(vec![one]), "");
    }
}
