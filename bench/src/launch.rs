//! A server is started by a small process: to copy this benchmark, and to give its memory back,
//! is no part of a server's start, but happens within fork(2) and execve(2).
//!
//! In: a program and its arguments. Out: its process, and when it was executed. Knows no server.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Signal, set_parent_process_death_signal};

use crate::account::monotonic_ns;

/// Starts `program` with `/dev/null` for its standard descriptors. It is killed when the thread
/// that calls this ends, so that a crash of the benchmark leaves no server behind.
///
/// # Errors
/// As fork(2) and execve(2) of this benchmark's own program; the child ends by itself if `program`
/// cannot be executed.
pub(crate) fn start(program: &Path, args: &[&str]) -> io::Result<Child> {
    // Once the small process runs, nobody hears why it fails.
    rustix::fs::access(program, rustix::fs::Access::EXEC_OK)?;
    // It runs in another folder.
    let program = std::path::absolute(program)?;
    Command::new(std::env::current_exe()?)
        .args(["child", "launch"])
        .arg(program)
        .args(args)
        .current_dir(std::env::temp_dir())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
}

/// When the program of `child` was executed: nanoseconds of CLOCK_MONOTONIC.
///
/// # Errors
/// If it was not.
pub(crate) fn executed_at(child: &mut Child) -> io::Result<u64> {
    let mut at = [0; 8];
    let clock = child.stdout.as_mut().ok_or(io::ErrorKind::NotConnected)?;
    clock.read_exact(&mut at)?;
    Ok(u64::from_ne_bytes(at))
}

/// The small process: writes the time to its standard output and becomes the program `args`
/// names. Returns why it could not.
pub(crate) fn become_program(args: &[String]) -> io::Error {
    let Some((program, args)) = args.split_first() else {
        return io::ErrorKind::InvalidInput.into();
    };
    let prepared = || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // Closed by the exec.
        let clock = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        rustix::stdio::dup2_stdout(File::options().write(true).open("/dev/null")?)?;
        Ok(clock)
    };
    let told = prepared().and_then(|mut clock| clock.write_all(&monotonic_ns().to_ne_bytes()));
    match told {
        Ok(()) => Command::new(program).args(args).exec(),
        Err(error) => error,
    }
}
