//! What the machine allows without any server: the system calls a process API is made of.

mod codec;
mod pipe;
mod pty;
mod relay;
pub(crate) mod run;
mod spawn;

use std::time::Duration;

use crate::contenders::{http_floor, rounds};
use crate::options::Options;
use crate::results::Group;
use crate::trouble::Result;

/// Measures every floor that is asked for.
pub(crate) fn run(options: &Options) -> Result<Vec<Group>> {
    let mut groups = Vec::new();
    let quick = options.quick;
    if options.wants("floor-spawn") {
        let columns = [("own CPU", "µs"), ("wall", "µs"), ("children's CPU", "µs")];
        let question = "Start /bin/true and reap it: what does each way cost?";
        let names = [
            "posix_spawn",
            "clone(CLONE_VM, CLONE_VFORK), execve",
            "std::process::Command",
        ];
        let count = if quick { 100 } else { 1000 };
        groups.push(rounds(
            "floor-spawn",
            question,
            &columns,
            &names,
            options,
            &|index| spawn::measure(index, count),
        )?);
    }
    if options.wants("floor-run") {
        let columns = [("server CPU", "µs/run"), ("rate", "runs/s"), ("p99", "µs")];
        let question = "A run of /bin/true over HTTP, a thread for each connection and nothing else: \
                        what does a run cost that promises nothing?";
        let names = run::CLIENTS.map(|clients| match clients {
            1 => "1 client".to_owned(),
            many => format!("{many} clients"),
        });
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let duration = Duration::from_millis(if quick { 300 } else { 2000 });
        groups.push(rounds(
            "floor-run",
            question,
            &columns,
            &names,
            options,
            &|index| run::measure(index, duration),
        )?);
    }
    if options.wants("floor-pipe") {
        let columns = [("reader CPU", "s/GiB"), ("rate", "GiB/s")];
        let question = "Drain a pipe that a process writes to: what does a byte cost?";
        let names = ["64 KiB blocks", "8 KiB blocks", "lines: `yes`"];
        let total = if quick { 64 << 20 } else { 1 << 30 };
        groups.push(rounds(
            "floor-pipe",
            question,
            &columns,
            &names,
            options,
            &|index| pipe::measure(index, total),
        )?);
    }
    if options.wants("floor-pty") {
        let columns = [("p50", "µs"), ("p99", "µs"), ("own CPU", "µs")];
        let question = "Write a key to a terminal, read its echo: how long is the way?";
        let names = ["raw-mode program echoes", "line discipline echoes"];
        let count = if quick { 1_000 } else { 20_000 };
        groups.push(rounds(
            "floor-pty",
            question,
            &columns,
            &names,
            options,
            &|index| pty::measure(index, count),
        )?);
    }
    if options.wants("floor-relay") {
        let columns = [("own CPU", "µs")];
        let question = "Wait, read here, write there, and no more: what does one cost?";
        let names = [
            "a line every 2 ms, pipe to TCP",
            "a key, TCP to terminal, and its echo back",
        ];
        let keys = if quick { 1_000 } else { 20_000 };
        groups.push(rounds(
            "floor-relay",
            question,
            &columns,
            &names,
            options,
            &|index| relay::measure(index, keys),
        )?);
    }
    if options.wants("floor-http") {
        groups.push(http_floor(options)?);
    }
    if options.wants("floor-codec") {
        let columns = [("CPU", "ms/GiB of input"), ("rate", "GiB/s")];
        let question = "Turn bytes into base64, or only move them: what does a byte cost?";
        let bytes = if quick { 64 << 20 } else { 512 << 20 };
        groups.push(rounds(
            "floor-codec",
            question,
            &columns,
            &codec::NAMES,
            options,
            &|index| codec::measure(index, bytes),
        )?);
    }
    Ok(groups)
}
