//! `procring-bench`: procring beside the reference, the floor below both, and the runtimes.
//!
//! - `compare`: `scenario/` loads a `server`, `account` reads what it cost, `report/` says it.
//! - `floor`, `contenders`: small programs without any server, or small servers of our own.
//! - `emulated`: a comparison within an emulated machine, where this one's limits are too low.
//! - `child`: what the managed processes run (`payload`).

#![deny(unsafe_code)]

mod account;
mod api;
mod chunked;
mod compare;
mod contenders;
mod emulated;
mod floor;
mod follow;
mod http;
mod install;
mod launch;
mod load;
mod machine;
mod options;
mod payload;
mod poll;
mod report;
mod results;
mod sample;
mod scenario;
mod server;
mod sse;
mod sys;
mod terminal;
mod trouble;

use std::path::PathBuf;
use std::process::ExitCode;

use options::{HELP, Options, Verb};
use results::{Comparison, Group};
use sample::Side;
use trouble::{During, Result};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("child") => {
            return status(payload::run(&args[2..]).map_err(|error| error.to_string()));
        }
        Some("serve") => {
            return status(contenders::serve(&args[2..]).map_err(|error| error.to_string()));
        }
        _ => {}
    }
    match Options::parse().and_then(|options| options.map_or_else(help, |options| act(&options))) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(trouble) => {
            eprintln!("procring-bench: {trouble}");
            ExitCode::from(2)
        }
    }
}

fn status(result: std::result::Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("procring-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn help() -> Result<bool> {
    print!("{HELP}");
    Ok(true)
}

/// Does what was asked for; false when procring lost something or answered wrongly.
fn act(options: &Options) -> Result<bool> {
    if options.verb == Verb::List {
        for scenario in scenario::all() {
            println!("{:<14} {}", scenario.name, scenario.title);
        }
        return Ok(true);
    }
    prepare()?;
    let out = folder(options)?;
    let kept = |name: &str| out.join("benchmarks").join(name);
    std::fs::create_dir_all(out.join("benchmarks")).during("create the report's folder")?;
    let mut sound = true;
    match options.verb {
        Verb::Compare => {
            let fresh = compare::run(options)?;
            print!("{}", report::summary(&fresh));
            sound = report_faults(&fresh);
            let path = kept("compare.json");
            let whole = fresh.merge_into(results::load::<Comparison>(&path).unwrap_or_default());
            results::store(&path, &whole)?;
        }
        Verb::Emulated => {
            let fresh = emulated::run(options)?;
            print!("{}", report::summary(&fresh));
            sound = report_faults(&fresh);
            results::store(&kept("emulated.json"), &fresh)?;
        }
        Verb::Floor => keep_groups(floor::run(options)?, &kept("floor.json"))?,
        Verb::Contenders => keep_groups(contenders::run(options)?, &kept("contenders.json"))?,
        Verb::Report | Verb::List => {}
    }
    report::write(&out)?;
    eprintln!("written: {}", out.join("benchmarks.md").display());
    Ok(sound)
}

/// Descriptors that the largest scenario needs.
const DESCRIPTORS: u64 = 65_536;

/// Raises the descriptor limit, for ourselves and by inheritance for both servers, to what the
/// largest scenario needs, or as far as it may be; and adopts what a dead server leaves, so that
/// it can be ended.
fn prepare() -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, set_child_subreaper, setrlimit};
    let hard = getrlimit(Resource::Nofile).maximum;
    let needed = Rlimit {
        current: Some(DESCRIPTORS),
        maximum: hard.map(|hard| hard.max(DESCRIPTORS)),
    };
    // A higher hard limit asks for a privilege; without it, what there is must do.
    if setrlimit(Resource::Nofile, needed).is_err() {
        let allowed = Rlimit {
            current: hard,
            maximum: hard,
        };
        setrlimit(Resource::Nofile, allowed).during("raise the descriptor limit")?;
    }
    set_child_subreaper(Some(rustix::process::getpid())).during("become a subreaper")
}

fn folder(options: &Options) -> Result<PathBuf> {
    match &options.out {
        Some(out) => Ok(out.clone()),
        None if options.baseline_bin.is_some() => Ok(install::scratch()?.join("baseline")),
        None if options.quick || !options.only.is_empty() => Ok(install::scratch()?.join("report")),
        None => Ok(install::workspace().join("docs")),
    }
}

fn keep_groups(fresh: Vec<Group>, path: &std::path::Path) -> Result<()> {
    let mut groups: Vec<Group> = results::load(path).unwrap_or_default();
    for group in fresh {
        print!("{}", report::group(&group));
        match groups.iter_mut().find(|other| other.name == group.name) {
            Some(other) => *other = group,
            None => groups.push(group),
        }
    }
    results::store(path, &groups)
}

/// Names every loss and error of procring's; false when there is one.
fn report_faults(run: &Comparison) -> bool {
    let mut sound = true;
    for measured in &run.scenarios {
        for (index, round) in measured.rounds.iter().enumerate() {
            let fault = match round.side(Side::Procring) {
                None | Some(sample::Outcome::Unavailable(_)) => continue,
                Some(sample::Outcome::Done(sample)) if sample.loss.none() => continue,
                Some(sample::Outcome::Done(sample)) => format!("{:?}", sample.loss),
                Some(sample::Outcome::Failed(reason)) => reason.clone(),
            };
            sound = false;
            eprintln!("FAULT {} round {}: {fault}", measured.name, index + 1);
        }
    }
    sound
}
