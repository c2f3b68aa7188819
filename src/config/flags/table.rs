//! Every flag of `procring server`, once: what it is called, what it takes, what it is for.
//!
//! The parser, the environment, `--help` and the manual page read this table; there is no other
//! list of flags. It has a file for each subject.

mod access;
mod bounds;
mod children;
mod reach;
mod told;

use std::ffi::OsStr;

use super::ServerArgs;

/// Takes a value; the error says what it must be.
pub(super) type Set = fn(&mut ServerArgs, &OsStr) -> Result<(), String>;

/// What follows a flag.
#[derive(Clone, Copy)]
pub(super) enum Takes {
    /// Nothing.
    Nothing(fn(&mut ServerArgs)),
    /// One value, the last one counts.
    Value(&'static str, Set),
    /// One value each time; all of them count.
    Values(&'static str, Set),
}

/// One flag.
pub(super) struct Flag {
    /// Behind two dashes; the variable is `PROCRING_` and this in capitals.
    pub(super) long: &'static str,
    /// Behind one dash.
    pub(super) short: Option<char>,
    /// What follows it.
    pub(super) takes: Takes,
    /// What holds without it, as it would be written.
    pub(super) default: Option<&'static str>,
    /// One line for `--help`.
    pub(super) help: &'static str,
    /// More sentences for the manual page.
    pub(super) more: &'static str,
}

/// What has no key in a configuration file.
pub(super) const NOT_IN_FILE: [&str; 3] = ["config", "print-config", "check-config"];

/// What can change while a server runs.
pub(super) const LIVE: &[&str] = &[
    "unix-allow-uid",
    "unix-token",
    "public-metrics",
    "token",
    "token-file",
    "client-token",
    "allowed-host",
    "cors-allow-origin",
    "cors-allow-method",
    "cors-allow-header",
    "cors-allow-credentials",
    "default-stdin",
    "memory-max",
    "max-concurrent-runs",
    "max-queued-runs",
    "shutdown-grace",
    "default-limits",
    "max-limits",
    "default-user",
    "allow-user",
    "terminal-replay",
    "base-path",
    "no-console",
    "no-telemetry",
    "log-level",
    "max-exited",
    "max-leftovers",
    "max-connections",
    "max-concurrent-processes",
    "default-run-timeout-ms",
    "max-run-timeout-ms",
    "max-output-bytes",
    "max-log-bytes-per-process",
    "max-input-bytes-per-request",
];

/// All flags, in the order of `--help`.
pub(super) fn all_flags() -> impl Iterator<Item = &'static Flag> + Clone {
    let subjects = [
        reach::FLAGS,
        access::FLAGS,
        bounds::FLAGS,
        children::FLAGS,
        told::FLAGS,
    ];
    subjects.into_iter().flatten()
}
