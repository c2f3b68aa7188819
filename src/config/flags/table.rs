//! Every flag of `procring server`, once: what it is called, what it takes, what it is for.
//!
//! The parser, the environment, `--help` and the manual page read this table; there is no other
//! list of flags.

use std::ffi::OsStr;

use super::ServerArgs;
use super::value::{
    allow_user, base_path, bytes, choice, client_token, grace, host, limits, listen, listen_here,
    milliseconds, number, octal, origin, positive, text, user, who, whole,
};
use super::{BackendChoice, CgroupChoice, LogFormat, LogLevel, Mode, ReplayChoice};
use crate::types::Stdin;

/// The least `--memory-max`: six running processes.
const MEMORY_MIN: u64 = 1 << 20;

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
pub(super) const FLAGS: &[Flag] = &[
    Flag {
        long: "config",
        short: None,
        takes: Takes::Value("FILE", |args, value| {
            args.config = Some(value.into());
            Ok(())
        }),
        default: None,
        help: "read flags from this TOML file, too",
        more: "A key is a flag's name with _ for - (max_exited = 10), a list is an array, a flag \
               without a value a boolean. A flag wins over its variable, and that over the file. \
               SIGHUP has it read again: limits, tokens, users, origins and the level of the log \
               change, all of them or none; what needs a restart is named, and changes nothing.",
    },
    Flag {
        long: "print-config",
        short: None,
        takes: Takes::Nothing(|args| args.mode = Mode::Print),
        default: None,
        help: "print the configuration in force, and end",
        more: "As a file that says the same, without secrets.",
    },
    Flag {
        long: "check-config",
        short: None,
        takes: Takes::Nothing(|args| args.mode = Mode::Check),
        default: None,
        help: "say whether a server could start with it, and end",
        more: "Addresses are not bound.",
    },
    Flag {
        long: "host",
        short: Some('H'),
        takes: Takes::Value("HOST", |args, value| {
            args.host = text(value)?;
            Ok(())
        }),
        default: Some("127.0.0.1"),
        help: "address to bind",
        more: "An address that others can reach needs a token or an explicit --no-token.",
    },
    Flag {
        long: "port",
        short: Some('p'),
        takes: Takes::Value("PORT", |args, value| {
            args.port = number(value, "a number from 0 to 65535")?;
            Ok(())
        }),
        default: Some("2468"),
        help: "port to bind; 0 lets the kernel choose",
        more: "An address that is still held by a server that has just ended is tried again for \
               a second.",
    },
    Flag {
        long: "listen",
        short: None,
        takes: Takes::Values("ADDR", |args, value| {
            args.listen.push(listen(value)?);
            Ok(())
        }),
        default: None,
        help: "HOST:PORT, unix:PATH or systemd; replaces both",
        more: "unix:PATH answers root, the server's own user and those of --unix-allow-uid, and no \
               one else, whatever they bring. systemd takes the sockets that a socket unit has \
               opened (LISTEN_FDS).",
    },
    Flag {
        long: "unix-mode",
        short: None,
        takes: Takes::Value("MODE", |args, value| {
            args.unix_mode = octal(value)?;
            Ok(())
        }),
        default: Some("600"),
        help: "permissions of such a path, in octal",
        more: "",
    },
    Flag {
        long: "unix-allow-uid",
        short: None,
        takes: Takes::Values("USER", |args, value| {
            args.unix_users.push(who(value)?);
            Ok(())
        }),
        default: None,
        help: "let this user in over unix sockets",
        more: "A name or a number. --unix-mode has to let it connect.",
    },
    Flag {
        long: "unix-token",
        short: None,
        takes: Takes::Nothing(|args| args.unix_token = true),
        default: None,
        help: "ask for the token on unix sockets, too",
        more: "",
    },
    Flag {
        long: "metrics-listen",
        short: None,
        takes: Takes::Value("ADDR", |args, value| {
            args.metrics_listen = Some(listen_here(value)?);
            Ok(())
        }),
        default: None,
        help: "serve /metrics at HOST:PORT or unix:PATH, and only there",
        more: "To anybody who reaches it, without a token, beside /healthz and /readyz and nothing \
               else. It is answered when --max-connections are open, too.",
    },
    Flag {
        long: "public-metrics",
        short: None,
        takes: Takes::Nothing(|args| args.public_metrics = true),
        default: None,
        help: "serve /metrics to who brings no token, too",
        more: "",
    },
    Flag {
        long: "token",
        short: Some('t'),
        takes: Takes::Value("TOKEN", |args, value| {
            args.token = Some(header_text(value)?);
            Ok(())
        }),
        default: None,
        help: "require `Authorization: Bearer TOKEN`",
        more: "It is overwritten in the process's own command line and environment, and no child \
               gets it. An empty one is refused.",
    },
    Flag {
        long: "token-file",
        short: None,
        takes: Takes::Value("FILE", |args, value| {
            args.token_file = Some(value.into());
            Ok(())
        }),
        default: None,
        help: "the same, from the first line of FILE",
        more: "",
    },
    Flag {
        long: "client-token",
        short: None,
        takes: Takes::Values("NAME=FILE", |args, value| {
            let (name, file) = client_token(value)?;
            if args.client_tokens.iter().any(|(known, _)| *known == name) {
                return Err(format!("{name} has a token already"));
            }
            args.client_tokens.push((name, file));
            Ok(())
        }),
        default: None,
        help: "a token of its own for NAME, in FILE",
        more: "Its first line. It opens as much as the server's own, beside it or without one. The audit log tells \
               who used it (token:NAME), and SIGHUP reads it again, so that one of them can be \
               changed or taken back.",
    },
    Flag {
        long: "no-token",
        short: Some('n'),
        takes: Takes::Nothing(|args| args.no_token = true),
        default: None,
        help: "no token, also on an address that others can reach",
        more: "Whoever reaches the address can run commands. A token that is given all the same \
               is required.",
    },
    Flag {
        long: "allowed-host",
        short: None,
        takes: Takes::Values("HOST", |args, value| {
            args.allowed_hosts.push(host(value)?);
            Ok(())
        }),
        default: None,
        help: "allow this Host besides local ones; * for any",
        more: "Only a server without a token looks at it, against pages that have another name \
               resolve to this machine. On a loopback address it refuses all requests for other \
               names, elsewhere those by which a page of such a name would change something.",
    },
    Flag {
        long: "cors-allow-origin",
        short: Some('O'),
        takes: Takes::Values("O", |args, value| {
            args.cors_origins.push(origin(value)?);
            Ok(())
        }),
        default: None,
        help: "allow pages of this origin; * for any",
        more: "Such as https://app.example:8443. It is compared in the form that browsers send; \
               what none of them sends is refused.",
    },
    Flag {
        long: "cors-allow-method",
        short: Some('M'),
        takes: Takes::Values("M", |args, value| {
            args.cors_methods.push(header_text(value)?);
            Ok(())
        }),
        default: Some("any"),
        help: "methods named to browsers",
        more: "",
    },
    Flag {
        long: "cors-allow-header",
        short: Some('A'),
        takes: Takes::Values("H", |args, value| {
            args.cors_headers.push(header_text(value)?);
            Ok(())
        }),
        default: Some("any"),
        help: "headers named to browsers",
        more: "",
    },
    Flag {
        long: "cors-allow-credentials",
        short: Some('C'),
        takes: Takes::Nothing(|args| args.cors_credentials = true),
        default: None,
        help: "let browsers send credentials",
        more: "",
    },
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
    Flag {
        long: "cgroup",
        short: None,
        takes: Takes::Value("WHEN", |args, value| {
            let words = [
                ("auto", CgroupChoice::Auto),
                ("on", CgroupChoice::On),
                ("off", CgroupChoice::Off),
            ];
            args.cgroup = choice(value, &words)?;
            Ok(())
        }),
        default: Some("auto"),
        help: "a cgroup v2 for each process: auto, on or off",
        more: "Without one, a process that hides on purpose outlives its tree, and a line at start \
               says so. With on, a server that cannot make cgroups does not start. With auto there \
               are none where they would hide memory.max, memory.high or cpu.max of the server's \
               own group and those cannot be handed on.",
    },
    Flag {
        long: "default-limits",
        short: None,
        takes: Takes::Value("K=V,...", |args, value| {
            args.default_limits = limits(value)?;
            Ok(())
        }),
        default: None,
        help: "limits of what does not name its own",
        more: "As memoryBytes=64M,pids=100. memoryBytes, swapBytes, cpuMillis and pids are of a whole \
               tree and need cgroups; nofile, fileBytes, coreBytes, addressSpaceBytes and cpuSeconds \
               are of each process (setrlimit(2)); outputBytesPerSecond is of what is read of a \
               process.",
    },
    Flag {
        long: "max-limits",
        short: None,
        takes: Takes::Value("K=V,...", |args, value| {
            args.max_limits = limits(value)?;
            Ok(())
        }),
        default: None,
        help: "what no request may exceed",
        more: "It also holds where neither the request nor --default-limits names one.",
    },
    Flag {
        long: "default-user",
        short: None,
        takes: Takes::Value("USER", |args, value| {
            args.default_user = Some(user(value)?);
            Ok(())
        }),
        default: None,
        help: "who children are where the request does not say",
        more: "A name, a number, or either with :GROUP. The server needs the privilege for it \
               (CAP_SETUID, CAP_SETGID, CAP_CHOWN, CAP_KILL), else it does not start.",
    },
    Flag {
        long: "allow-user",
        short: None,
        takes: Takes::Values("USER", |args, value| {
            args.allow_users.push(allow_user(value)?);
            Ok(())
        }),
        default: None,
        help: "let requests name this user; * for all but root",
        more: "A user comes with the groups that it is in; USER:GROUP is that user in that group. \
               Without this flag a request that names a user is answered 403.",
    },
    Flag {
        long: "terminal-replay",
        short: None,
        takes: Takes::Value("WHAT", |args, value| {
            let words = [
                ("auto", ReplayChoice::Auto),
                ("screen", ReplayChoice::Screen),
                ("tail", ReplayChoice::Tail),
                ("none", ReplayChoice::None),
            ];
            args.terminal_replay = choice(value, &words)?;
            Ok(())
        }),
        default: Some("auto"),
        help: "what who attaches is shown: auto, screen, tail or none",
        more: "Where the request does not say (replay). tail is the last 256 KiB of the output, \
               auto the same where that is all there is and no program has the screen for itself, \
               else the screen.",
    },
    Flag {
        long: "keep",
        short: None,
        takes: Takes::Nothing(|args| args.keep = true),
        default: None,
        help: "keep processes, logs and exit codes when the server dies",
        more: "A small process stays the parent of all others; when the server is killed, it begins \
               another one, which goes on with the same processes. SIGUSR2 and `procring upgrade` \
               have another program go on with them. What survives is in docs/operations.md.",
    },
    Flag {
        long: "state-dir",
        short: None,
        takes: Takes::Value("DIR", |args, value| {
            args.state_dir = Some(value.into());
            Ok(())
        }),
        default: None,
        help: "end what a killed server left behind, as noted in DIR",
        more: "Ids of processes go on, too, so that none ever names another process.",
    },
    Flag {
        long: "base-path",
        short: None,
        takes: Takes::Value("PATH", |args, value| {
            args.base_path = base_path(value)?;
            Ok(())
        }),
        default: None,
        help: "what a proxy in front leaves before every path",
        more: "Such as /sandbox/7, for one that does not cut it off. Paths without it are answered, \
               too.",
    },
    Flag {
        long: "no-console",
        short: None,
        takes: Takes::Nothing(|args| args.no_console = true),
        default: None,
        help: "no page for people at /console/",
        more: "",
    },
    Flag {
        long: "log-level",
        short: None,
        takes: Takes::Value("LEVEL", |args, value| {
            args.log_level = choice(value, &LogLevel::ALL)?;
            Ok(())
        }),
        default: Some("info"),
        help: "lines on standard error: off, error, warn, info or debug",
        more: "With debug a line about a start shows the arguments. Tokens, inputs and outputs are \
               in no line.",
    },
    Flag {
        long: "log-format",
        short: None,
        takes: Takes::Value("FORMAT", |args, value| {
            let words = [
                ("auto", LogFormat::Auto),
                ("text", LogFormat::Text),
                ("json", LogFormat::Json),
                ("journal", LogFormat::Journal),
            ];
            args.log_format = choice(value, &words)?;
            Ok(())
        }),
        default: Some("auto"),
        help: "their form: text, json, journal, or auto",
        more: "auto is journal (text with a priority in front, sd-daemon(3)) where JOURNAL_STREAM \
               names standard error, else text.",
    },
    Flag {
        long: "audit-log",
        short: None,
        takes: Takes::Value("FILE", |args, value| {
            args.audit_log = Some(value.into());
            Ok(())
        }),
        default: None,
        help: "append to FILE who changed what, and who was refused",
        more: "A JSON object a line. SIGHUP opens the file anew. What cannot be written is counted \
               and told, and refuses nothing.",
    },
    Flag {
        long: "no-telemetry",
        short: None,
        takes: Takes::Nothing(|_| {}),
        default: None,
        help: "accepted for compatibility; there is no telemetry",
        more: "",
    },
];

/// What can stand in a header.
fn header_text(value: &OsStr) -> Result<String, String> {
    let value = text(value)?;
    if value.trim().is_empty() || value.chars().any(char::is_control) {
        return Err("must not be empty or hold control characters".to_owned());
    }
    Ok(value)
}
