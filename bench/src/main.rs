//! `procring-bench`: procring beside the reference, the floor below both, and the runtimes.
//!
//! - `compare`: `scenario/` loads a `server`, `account` reads what it cost, `report/` says it.
//! - `floor`, `contenders`: small programs without any server, or small servers of our own.
//! - `child`: what the managed processes run (`payload`).

#![deny(unsafe_code)]

mod account;
mod api;
mod chunked;
mod compare;
mod contenders;
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
        Verb::Floor => keep_groups(floor::run(options)?, &kept("floor.json"))?,
        Verb::Contenders => keep_groups(contenders::run(options)?, &kept("contenders.json"))?,
        Verb::Report | Verb::List => {}
    }
    report::write(&out)?;
    eprintln!("written: {}", out.join("benchmarks.md").display());
    Ok(sound)
}

/// Raises the descriptor limit for ourselves and, by inheritance, for both servers; and
/// adopts what a dead server leaves, so that it can be ended.
fn prepare() -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, set_child_subreaper, setrlimit};
    const DESCRIPTORS: u64 = 1 << 17;
    let raised = Rlimit {
        current: Some(DESCRIPTORS),
        maximum: Some(DESCRIPTORS),
    };
    let mut limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|maximum| maximum < DESCRIPTORS)
        && setrlimit(Resource::Nofile, raised).is_ok()
    {
        // The hard limit was too low for the largest scenario, and we may raise it.
        limit = raised;
    }
    limit.current = limit.maximum.map(|maximum| maximum.min(1 << 20));
    setrlimit(Resource::Nofile, limit).during("raise the descriptor limit")?;
    set_child_subreaper(Some(rustix::process::getpid())).during("become a subreaper")
}

fn folder(options: &Options) -> Result<PathBuf> {
    match &options.out {
        Some(out) => Ok(out.clone()),
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
        for (round, pair) in measured.pairs.iter().enumerate() {
            let fault = match pair.side(Side::Procring) {
                sample::Outcome::Done(sample) if sample.loss.none() => continue,
                sample::Outcome::Unavailable(_) => continue,
                sample::Outcome::Done(sample) => format!("{:?}", sample.loss),
                sample::Outcome::Failed(reason) => reason.clone(),
            };
            sound = false;
            eprintln!("FAULT {} round {}: {fault}", measured.name, round + 1);
        }
    }
    sound
}
