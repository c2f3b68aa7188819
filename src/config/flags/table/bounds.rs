//! How much there may be of everything.

use super::{Flag, Takes};
use crate::config::flags::BackendChoice;
use crate::config::flags::value::{bytes, choice, grace, milliseconds, number, positive, whole};
use crate::types::Stdin;

/// The least `--memory-max`: six running processes.
const MEMORY_MIN: u64 = 1 << 20;

pub(super) const FLAGS: &[Flag] = &[
    Flag {
        long: "io-backend",
        short: None,
        takes: Takes::Value("BACKEND", |args, value| {
            let words = [
                ("auto", BackendChoice::Auto),
                ("uring", BackendChoice::Uring),
                ("epoll", BackendChoice::Epoll),
            ];
            args.backend = choice(value, &words)?;
            Ok(())
        }),
        default: Some("auto"),
        help: "auto, uring or epoll",
        more: "auto takes io_uring where it is allowed. With uring, a server that cannot have it \
               ends with exit code 78.",
    },
    Flag {
        long: "default-stdin",
        short: None,
        takes: Takes::Value("WHAT", |args, value| {
            let words = [("open", Stdin::Open), ("closed", Stdin::Closed)];
            args.stdin = choice(value, &words)?;
            Ok(())
        }),
        default: Some("open"),
        help: "stdin of processes that do not say: open or closed",
        more: "closed is /dev/null. A terminal takes input always, a run never waits for any.",
    },
    Flag {
        long: "max-exited",
        short: None,
        takes: Takes::Value("N", |args, value| {
            args.exited_max = positive(value)?;
            Ok(())
        }),
        default: Some("1024"),
        help: "exited processes kept for inspection",
        more: "The oldest goes first, one whose descendants live only when there are no others.",
    },
    Flag {
        long: "max-leftovers",
        short: None,
        takes: Takes::Value("N", |args, value| {
            args.leftovers_max = positive(value)?;
            Ok(())
        }),
        default: Some("256"),
        help: "runs whose descendants may live on",
        more: "One more, and those of the oldest are ended; a line on standard error says so.",
    },
    Flag {
        long: "max-connections",
        short: None,
        takes: Takes::Value("N", |args, value| {
            args.connections_max = positive(value)?;
            Ok(())
        }),
        default: Some("8192"),
        help: "connections at the same time",
        more: "One more is answered 503.",
    },
    Flag {
        long: "memory-max",
        short: None,
        takes: Takes::Value("BYTES", |args, value| {
            args.memory_max = Some(bytes(value, MEMORY_MIN)?);
            Ok(())
        }),
        default: None,
        help: "memory for clients; an eighth of all unless said",
        more: "K, M and G may follow the number; at least 1M. Logs, output of runs, bodies, answers \
               and records count. Without it, an eighth of the memory of the machine or of the \
               cgroup that bounds it. When it is reached, logs of exited processes go, the oldest \
               first; then what needs memory is answered 503. 128 KiB are set aside for each \
               running process, so that its log keeps 64 KiB at least.",
    },
    Flag {
        long: "max-concurrent-runs",
        short: None,
        takes: Takes::Value("N", |args, value| {
            args.concurrent_runs_max = positive(value)?;
            Ok(())
        }),
        default: Some("256"),
        help: "runs at the same time",
        more: "More wait in line, each for at most its own timeout, which counts from its start; \
               then they are answered 503.",
    },
    Flag {
        long: "max-queued-runs",
        short: None,
        takes: Takes::Value("N", |args, value| {
            args.queued_runs_max = number(value, "a number of runs")?;
            Ok(())
        }),
        default: Some("1024"),
        help: "runs that may wait in line",
        more: "One more is answered 503.",
    },
    Flag {
        long: "max-concurrent-processes",
        short: None,
        takes: Takes::Value("N", |args, value| {
            args.settings.max_concurrent_processes = whole(value)?;
            Ok(())
        }),
        default: Some("64"),
        help: "managed processes that run at the same time",
        more: "This one and the five that follow are what a client may change with POST \
               /v1/processes/config; SIGHUP takes what the file names again.",
    },
    Flag {
        long: "default-run-timeout-ms",
        short: None,
        takes: Takes::Value("TIME", |args, value| {
            args.settings.default_run_timeout_ms = milliseconds(value)?;
            Ok(())
        }),
        default: Some("30s"),
        help: "timeout of a run that names none",
        more: "A number of milliseconds, or one with ms, s, m or h behind it.",
    },
    Flag {
        long: "max-run-timeout-ms",
        short: None,
        takes: Takes::Value("TIME", |args, value| {
            args.settings.max_run_timeout_ms = milliseconds(value)?;
            Ok(())
        }),
        default: Some("5m"),
        help: "the longest timeout of a run",
        more: "",
    },
    Flag {
        long: "max-output-bytes",
        short: None,
        takes: Takes::Value("SIZE", |args, value| {
            args.settings.max_output_bytes = bytes(value, 1)?;
            Ok(())
        }),
        default: Some("1M"),
        help: "bytes kept of each stream of a run",
        more: "A number of bytes; K, M and G behind it stand for powers of 1024.",
    },
    Flag {
        long: "max-log-bytes-per-process",
        short: None,
        takes: Takes::Value("SIZE", |args, value| {
            args.settings.max_log_bytes_per_process = bytes(value, 1)?;
            Ok(())
        }),
        default: Some("10M"),
        help: "bytes kept in the log of a process",
        more: "",
    },
    Flag {
        long: "max-input-bytes-per-request",
        short: None,
        takes: Takes::Value("SIZE", |args, value| {
            args.settings.max_input_bytes_per_request = bytes(value, 1)?;
            Ok(())
        }),
        default: Some("64K"),
        help: "bytes of one input",
        more: "",
    },
    Flag {
        long: "shutdown-grace",
        short: None,
        takes: Takes::Value("TIME", |args, value| {
            args.shutdown_grace = grace(value)?;
            Ok(())
        }),
        default: Some("3"),
        help: "between SIGTERM and SIGKILL when the server ends",
        more: "A number of seconds, or one with ms, s, m or h behind it; at most an hour.",
    },
];
