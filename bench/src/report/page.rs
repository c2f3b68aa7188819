//! The page: tables with goals and verdicts, costs, losses, and links to the charts.

use std::fmt::Write;
use std::path::Path;

use super::judge::{Judged, Verdict, judge};
use super::text::{factor, figure, number};
use super::{Figures, SCALE, SCALE_EMULATED};
use crate::install::REFERENCE;
use crate::machine::Machine;
use crate::results::{Comparison, Group, Measured, median};
use crate::sample::{Sample, Side};
use crate::scenario::{Goal, all};

/// A generator that uses this share of a core per thread is what limits a rate.
const GENERATOR_FULL: f64 = 0.9;
/// Where this share of the machine is busy, everybody waits for everybody.
const MACHINE_FULL: f64 = 0.95;

/// The judged table.
pub(super) fn summary(run: &Comparison) -> String {
    let mut text = String::from(
        "| scenario | | procring | reference | better by (rounds) | target | limit | |\n\
         |---|---|---:|---:|---|---:|---:|---|\n",
    );
    let mut last = "";
    for judged in judge(run) {
        let title = if judged.scenario.name == last {
            ""
        } else {
            judged.scenario.title
        };
        last = judged.scenario.name;
        let row = judged.row;
        let limit = row.limit.map_or(String::new(), factor);
        line(
            &mut text,
            &[
                title,
                row.label,
                &figure(judged.procring, row.unit),
                &figure(judged.reference, row.unit),
                &spread(&judged),
                &goal(row.goal),
                &limit,
                &verdict(&judged),
            ],
        );
    }
    text
}

pub(super) fn line(text: &mut String, cells: &[&str]) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "| {} |", cells.join(" | "));
}

fn spread(judged: &Judged) -> String {
    let tie = if judged.tie() { " tie" } else { "" };
    match rounds(&judged.factors) {
        text if text.is_empty() => text,
        text => text + tie,
    }
}

/// The middle factor and, in brackets, those of the lowest and the highest round.
pub(super) fn rounds(factors: &[f64]) -> String {
    let Some(middle) = median(factors) else {
        return String::new();
    };
    let low = factors.iter().copied().fold(f64::INFINITY, f64::min);
    let high = factors.iter().copied().fold(0.0, f64::max);
    match factors.len() {
        1 => factor(middle),
        _ => format!("{} ({} to {})", factor(middle), factor(low), factor(high)),
    }
}

fn goal(goal: Goal) -> String {
    match goal {
        Goal::Factor(wanted) => factor(wanted),
        Goal::NotWorse => "not worse".into(),
        Goal::AtMost(most) => format!("≤ {}", number(most)),
        Goal::AtLeast(least) => format!("≥ {}", number(least)),
        Goal::Shown => String::new(),
    }
}

fn verdict(judged: &Judged) -> String {
    let word = match judged.verdict {
        Verdict::Met => "met",
        Verdict::Missed => "**missed**",
        Verdict::Shown => "",
        Verdict::NotAvailable => "not available",
    };
    word.to_owned()
}

/// One table of alternatives.
pub(super) fn group(group: &Group) -> String {
    let mut text = format!("**{}**\n\n| |", group.question);
    for (name, unit) in &group.columns {
        let unit = if unit.is_empty() {
            String::new()
        } else {
            format!(" ({unit})")
        };
        let _ = write!(text, " {name}{unit} |");
    }
    text += " ratio (rounds) |\n|---|";
    text += &"---:|".repeat(group.columns.len());
    text += "---|\n";
    let floor: Vec<f64> = group
        .rows
        .first()
        .map(|row| first_column(&row.rounds))
        .unwrap_or_default();
    for row in &group.rows {
        if let Some(note) = &row.note {
            let _ = writeln!(
                text,
                "| {} |{} {note} |",
                row.name,
                " |".repeat(group.columns.len())
            );
            continue;
        }
        let _ = write!(text, "| {} |", row.name);
        for column in 0..group.columns.len() {
            let values: Vec<f64> = row
                .rounds
                .iter()
                .filter_map(|round| round.get(column).copied())
                .collect();
            let _ = write!(text, " {} |", figure(median(&values), ""));
        }
        let ratios: Vec<f64> = first_column(&row.rounds)
            .iter()
            .zip(&floor)
            .map(|(own, floor)| own / floor)
            .collect();
        let low = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let high = ratios.iter().copied().fold(0.0, f64::max);
        let _ = match median(&ratios) {
            Some(middle) => writeln!(text, " {middle:.2} ({low:.2} to {high:.2}) |"),
            None => writeln!(text, " |"),
        };
    }
    text.push('\n');
    text
}

fn first_column(rounds: &[Vec<f64>]) -> Vec<f64> {
    rounds
        .iter()
        .filter_map(|round| round.first().copied())
        .collect()
}

/// The whole page.
pub(super) fn whole(figures: &Figures, folder: &Path) -> String {
    let mut text = String::from(INTRODUCTION);
    if let Some(run) = &figures.comparison {
        let machine = run
            .scenarios
            .first()
            .map(|measured| measured.machine.clone())
            .unwrap_or_default();
        let rounds = run
            .scenarios
            .iter()
            .map(|measured| measured.rounds.len())
            .max()
            .unwrap_or(0);
        let (title, others) = match run.has(Side::Reference) {
            true => ("Beside the reference", REFERENCE),
            false => ("Beside an older build", "an older build"),
        };
        text += &format!("\n## {title}\n\n{}\n\n", on(&machine));
        text += &format!(
            "procring commit {} and {others}, {}, each scenario, side and round with a fresh \
             server, in the order A B, B A.{}\n\n",
            machine.commit,
            counted_rounds(rounds),
            if run.quick {
                " This is the two-minute version: its times are not to be judged."
            } else {
                ""
            }
        );
        if run.has(Side::Reference) {
            text += "![How many times better procring is, by scenario](benchmarks/factors.svg)\n\n";
            text += &summary(run);
        }
        text += &super::baseline::section(run);
        text += COSTS_HEAD;
        for scenario in all() {
            if let Some(measured) = run
                .scenarios
                .iter()
                .find(|measured| measured.name == scenario.name)
            {
                costs(&mut text, measured, &machine);
            }
        }
        text += LATENCY_HEAD;
        for measured in &run.scenarios {
            latencies(&mut text, measured);
        }
        text += &notes(run);
        text += &scale_charts(SCALE, folder);
        text += &emulated(figures.emulated.as_ref(), folder);
        // Written by hand: why a target is missed, and what was tried.
        if let Ok(missed) = std::fs::read_to_string(folder.join("missed.md")) {
            text += &format!("\n{missed}");
        }
    }
    for (title, lead, groups) in [
        ("The floor", FLOOR_LEAD, &figures.floor),
        ("Runtimes", CONTENDERS_LEAD, &figures.contenders),
    ] {
        if let Some(first) = groups.first() {
            text += &format!("\n## {title}\n\n{lead}\n\n{}\n\n", on(&first.machine));
            for one in groups {
                text += &group(one);
                text += &format!("![{}](benchmarks/{}.svg)\n\n", one.question, one.name);
            }
        }
    }
    text
}

fn counted_rounds(rounds: usize) -> String {
    format!("{rounds} round{}", if rounds == 1 { "" } else { "s" })
}

/// Links to the charts over size that were drawn.
fn scale_charts(prefix: &str, folder: &Path) -> String {
    super::chart::SCALE
        .iter()
        .filter(|(key, _)| folder.join(format!("{prefix}-{key}.svg")).exists())
        .map(|(key, alt)| format!("\n![{alt}](benchmarks/{prefix}-{key}.svg)\n"))
        .collect()
}

/// The section on what was compared within an emulated machine.
fn emulated(run: Option<&Comparison>, folder: &Path) -> String {
    let Some((run, first)) = run.and_then(|run| Some((run, run.scenarios.first()?))) else {
        return String::new();
    };
    format!(
        "\n### All of it at once, in an emulated machine\n\n{EMULATED_LEAD}\n\n{}\n\nprocring \
         commit {} and {REFERENCE}, {}.\n\n{}{}{}",
        on(&first.machine),
        first.machine.commit,
        counted_rounds(first.rounds.len()),
        summary(run),
        notes(run),
        scale_charts(SCALE_EMULATED, folder)
    )
}

const INTRODUCTION: &str = "\
# Benchmarks

This page is written by `procring-bench`. To have it written on your machine:

```
cargo run --release -p procring-bench -- compare      # some 20 minutes; needs npm
cargo run --release -p procring-bench -- emulated     # 6 to 8 minutes a round; needs QEMU
cargo run --release -p procring-bench -- floor
cargo run --release -p procring-bench -- contenders
```

With `compare --baseline-bin PATH` another build of procring takes part in each round, and the
report says how every figure of the new one stands to it (see CONTRIBUTING.md).

How to read it. Absolute figures drift by a factor of two on shared machines, so each round
runs both servers one after the other and the *factor* of that round is what counts: the
table gives the median factor and, in brackets, the lowest and the highest round. Differences
below 15 % are noise and are called a tie. CPU is the kernel's own accounting of the server
process (its CPU-time clock); what its children used is listed apart. Every byte delivered is
accounted for, by sequence numbers and by record numbers within the content. The load
generator shares the machine with the server; where it, and not the server, was the limit,
the table of costs says so. `limit` is what the machine itself was found to allow.
";

const COSTS_HEAD: &str = "
### Costs and losses

Medians. *CPU* is that of the server process over the measured stretch, in seconds; *children*
that of the children it reaped meanwhile; *generator* the share of one core that the load
generator used; *machine* the share of all cores that was busy; memory is of the server process.

| scenario | side | wall s | CPU s | children s | generator | machine | peak RSS MiB | PSS MiB | lost bytes / entries / errors | limited by |
|---|---|---:|---:|---:|---:|---:|---:|---:|---|---|
";

const LATENCY_HEAD: &str = "
### Latencies

Median over the rounds of each percentile, microseconds.

| scenario | what | side | count | p50 | p90 | p99 | p99.9 | max |
|---|---|---|---:|---:|---:|---:|---:|---:|
";

const EMULATED_LEAD: &str = "\
Where the machine's hard limit on descriptors is too low for 5,000 of each, the scenario above
ends at what it allows. The same scenario ran within QEMU, without KVM, where the limit can be
raised: memory, descriptors and how costs grow are those of any machine, the times are ten and
more times those of a real one.";

const FLOOR_LEAD: &str = "\
What the machine allows without any server: the bare system calls that a process API cannot
do without. No server can be faster than its row here.";

const CONTENDERS_LEAD: &str = "\
The same small servers on each way to do I/O, with the same handlers. This is the reason for
the runtime that procring uses: monoio with SINGLE_ISSUER and DEFER_TASKRUN. The first row of
each table is the floor, plain epoll; ratios are of the first column. Below 15 % is a tie.";

fn on(machine: &Machine) -> String {
    let load: f64 = machine.load.parse().unwrap_or(0.0);
    let busy = if load > machine.cores as f64 / 2.0 {
        " **Other programs had the machine busy: rates and latencies are noise, only CPU, memory and losses say something.**"
    } else {
        ""
    };
    format!(
        "Measured on {}: {}, {} cores, {:.0} GiB, Linux {}, {}, load average {} at the start.{busy}",
        machine.date,
        machine.processor,
        machine.cores,
        machine.memory_gib,
        machine.kernel,
        machine.rustc,
        machine.load
    )
}

fn costs(text: &mut String, measured: &Measured, machine: &Machine) {
    for side in measured.sides() {
        let middle = |read: &dyn Fn(&Sample) -> f64| {
            median(&measured.samples(side).map(read).collect::<Vec<_>>())
                .map_or_else(|| "n/a".into(), number)
        };
        let sum = |read: &dyn Fn(&Sample) -> u64| measured.samples(side).map(read).sum::<u64>();
        let name = if measured.machine.commit == machine.commit {
            measured.name.clone()
        } else {
            format!("{} (at {})", measured.name, measured.machine.commit)
        };
        line(
            text,
            &[
                &name,
                side.name(),
                &middle(&|sample| sample.usage.wall_s),
                &middle(&|sample| sample.usage.server_s),
                &middle(&|sample| sample.usage.reaped_s),
                &middle(&|sample| sample.generator_share()),
                &middle(&|sample| sample.usage.machine),
                &middle(&|sample| sample.rss_peak as f64 / 1024.0),
                &middle(&|sample| sample.pss as f64 / 1024.0),
                &format!(
                    "{} / {} / {}",
                    sum(&|sample| sample.loss.bytes),
                    sum(&|sample| sample.loss.entries),
                    sum(&|sample| sample.loss.errors)
                ),
                limited_by(measured, side),
            ],
        );
    }
}

/// What kept a rate from being higher, as far as the accounts tell.
fn limited_by(measured: &Measured, side: Side) -> &'static str {
    let middle = |read: &dyn Fn(&Sample) -> f64| {
        median(&measured.samples(side).map(read).collect::<Vec<_>>())
    };
    let generator =
        middle(&|sample| sample.generator_share() / sample.generator_threads.max(1) as f64);
    let server = middle(&|sample| sample.usage.server_s / sample.usage.wall_s.max(1e-9));
    let machine = middle(&|sample| sample.usage.machine);
    match (generator, server, machine) {
        (Some(generator), _, _) if generator >= GENERATOR_FULL => "generator",
        (_, _, Some(machine)) if machine >= MACHINE_FULL => "machine (all cores busy)",
        (_, Some(server), _) if server >= GENERATOR_FULL => "server",
        _ => "",
    }
}

fn latencies(text: &mut String, measured: &Measured) {
    for name in measured.latency_names() {
        for side in measured.sides() {
            let rounds: Vec<_> = measured
                .samples(side)
                .filter_map(|sample| sample.latencies.get(name))
                .collect();
            if rounds.is_empty() {
                continue;
            }
            let middle = |read: &dyn Fn(&crate::sample::Latency) -> f64| {
                median(
                    &rounds
                        .iter()
                        .map(|latency| read(latency))
                        .collect::<Vec<_>>(),
                )
                .map_or(String::new(), number)
            };
            line(
                text,
                &[
                    &measured.name,
                    name,
                    side.name(),
                    &middle(&|latency| latency.count as f64),
                    &middle(&|latency| latency.p50),
                    &middle(&|latency| latency.p90),
                    &middle(&|latency| latency.p99),
                    &middle(&|latency| latency.p999),
                    &middle(&|latency| latency.max),
                ],
            );
        }
    }
}

/// What the measurements themselves remarked, and why figures are absent.
fn notes(run: &Comparison) -> String {
    let mut notes = Vec::new();
    for judged in judge(run) {
        notes.extend(
            judged
                .note
                .map(|note| format!("- {}: {note}", judged.scenario.name)),
        );
    }
    let commit = run.scenarios.first().map(|first| &first.machine.commit);
    for measured in &run.scenarios {
        if commit.is_some_and(|commit| *commit != measured.machine.commit) {
            notes.push(format!(
                "- {}: measured apart from the others, procring commit {}",
                measured.name, measured.machine.commit
            ));
        }
        for side in measured.sides() {
            let remarks = measured
                .samples(side)
                .filter_map(|sample| sample.note.as_ref());
            notes.extend(
                remarks.map(|note| format!("- {}, {}: {note}", measured.name, side.name())),
            );
        }
    }
    notes.dedup();
    if notes.is_empty() {
        String::new()
    } else {
        format!("\n### Remarks\n\n{}\n", notes.join("\n"))
    }
}
