//! Black-box tests: the built server, real sockets, one module per part of the contract.
//!
//! In: the binary `procring`, started by each test for itself on a port the kernel
//! chose. Out: passed or failed promises. Knows nothing of the server's insides.
//!
//! Every promise is checked twice, on io_uring and on epoll (`on_both!`); the second
//! half runs under a seccomp filter that really denies io_uring.
//!
//! - `PROCRING_TEST_BIN=path` points the tests at another server with the same command
//!   line, to compare readings of the contract (no start line is expected then).
//! - `PROCRING_TEST_DENIAL=ENOSYS` makes the filter answer ENOSYS in place of EPERM.

#![allow(clippy::unwrap_used)]
// What is wrong with a number of a test fails the test.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss
)]

mod harness;

mod abandoned;
mod afternoon;
mod amplification;
mod attach;
mod attach_input;
mod audit;
mod auth;
mod bare;
mod bursts;
mod child_environment;
mod cli;
mod cli_commands;
mod cli_cuts;
mod cli_older;
mod cli_readme;
mod cli_shells;
mod cli_streams;
mod cli_terminal;
mod client_tokens;
mod config;
mod configuration;
mod connections;
mod console;
mod cors;
mod deadline;
mod errors;
mod events;
mod fixtures;
mod follow;
mod follow_clients;
mod framing;
mod graces;
mod http_basics;
mod idempotency;
mod idle;
mod ids;
mod inherit_env;
mod input;
mod keep;
mod keep_damage;
mod keep_ends;
mod keep_told;
mod leftovers;
mod limits;
mod list;
mod listen;
mod logs;
mod logs_poll;
mod logs_raw;
mod logs_text;
mod logs_time;
mod memory;
mod metrics;
mod metrics_prometheus;
mod names;
mod openapi;
mod output_rate;
mod pipes;
mod probes;
mod processes;
mod readers;
mod reload;
mod rlimits;
mod run;
mod run_keep;
mod run_queue;
mod run_record;
mod run_stdin;
mod run_stream;
mod run_stream_clients;
mod sdk;
mod server_info;
mod server_log;
mod service;
mod signals;
mod small_endpoints;
mod stdin;
mod stdin_bodies;
mod storm;
mod strangers;
mod strict;
mod subprotocol;
mod supervision;
mod supervision_books;
mod supervision_bounds;
mod supervision_deadlines;
mod supervision_faults;
mod supervision_hostile;
mod supervision_identity;
mod supervision_left;
mod supervision_pids;
#[cfg(target_arch = "x86_64")]
mod supervision_short;
mod supervision_state;
mod supervision_trees;
mod surroundings;
mod terminal;
mod terminal_control;
mod terminal_flow;
mod terminal_frames;
mod terminal_hangups;
mod terminal_input;
mod terminal_programs;
mod terminal_pty;
mod terminal_screen;
mod terminal_viewers;
mod tree_limits;
mod upgrade;
mod upgrade_bodies;
mod upgrade_fails;
mod upgrade_runs;
mod upgrade_viewers;
mod usage;
mod users;
mod waits;
