//! The `procring` binary: flags, the two threads, the exit code.

use std::fmt::Display;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use procring::api::cors::Cors;
use procring::api::guard::Guard;
use procring::config::flags::{
    self, BackendChoice, CgroupChoice, Invocation, ServerArgs, UsageError,
};
use procring::config::timeouts;
use procring::io::ids::Ids;
use procring::io::runtime::backend;
use procring::io::server::{Options, Server};
use procring::log::Arena;
use procring::notice;
use procring::process::Table;
use procring::supervisor::cgroup::{Cgroups, IfHiding};
use procring::supervisor::living::Living;
use procring::supervisor::signals::{self, Hangup};
use procring::supervisor::spawn::environment::Environment;
use procring::supervisor::spawn::inherit::Inheritance;
use procring::supervisor::state_dir::StateDir;
use procring::supervisor::{self, Groups, Supervisor};
use procring::token::{self, Found};
use procring::wire::http::head::HeadLimits;
use rustix::process::{Resource, getrlimit};

/// Children that have a cgroup of their own at the same time; more are swept for.
const CGROUPS_MAX: usize = 4096;

/// Between two tries of a busy address.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// Why the server did not start.
enum Failure {
    /// Exit 2.
    Usage(UsageError),
    /// Exit 78 (`EX_CONFIG`): io_uring was demanded and is not available.
    Backend(std::io::Error),
    /// Exit 1.
    Start(String),
}

fn main() -> ExitCode {
    let result = match flags::parse(std::env::args_os().skip(1), std::env::vars_os()) {
        Ok(Invocation::Help) => answer(&flags::help()),
        Ok(Invocation::Man) => answer(&flags::man()),
        Ok(Invocation::Version) => answer(concat!("procring ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Invocation::Server(args)) => serve(&args),
        Err(error) => Err(Failure::Usage(error)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(error)) => {
            notice::line(format_args!("{error}\nTry `procring --help`."));
            ExitCode::from(2)
        }
        Err(Failure::Backend(error)) => {
            notice::line(format_args!(
                "--io-backend uring: io_uring is not available: {error}; likely a seccomp profile or \
                 kernel.io_uring_disabled; --io-backend auto falls back to epoll"
            ));
            ExitCode::from(78)
        }
        Err(Failure::Start(error)) => {
            notice::line(error);
            ExitCode::FAILURE
        }
    }
}

/// What was asked for on the command line, on standard output.
fn answer(text: &str) -> Result<(), Failure> {
    notice::answer(text)
        .map_err(|error| Failure::Start(format!("standard output cannot be written: {error}")))
}

fn serve(args: &ServerArgs) -> Result<(), Failure> {
    let start = |what: &str| {
        let what = what.to_owned();
        move |error: std::io::Error| Failure::Start(format!("{what}: {error}"))
    };
    let Found { token, exposed } = token::find(args).map_err(Failure::Start)?;
    flags::check_open(args, token.is_some()).map_err(Failure::Usage)?;

    let hangup = Hangup::at_start();
    // Before any thread is started: they inherit the mask.
    signals::block_all();
    signals::reset_child_signal();
    let inheritance = Inheritance::prepare().map_err(start("standard descriptors"))?;
    let listener = bind(args)?;
    let address = listener.local_addr().map_err(start("local address"))?;
    let base_env = base_env(token.as_deref());
    let open = token.is_none();
    let guard = Guard {
        check_host: open && address.ip().is_loopback(),
        token,
        allowed_hosts: args.allowed_hosts.clone(),
        allowed_origins: args.cors_origins.clone(),
    };
    let joined = |words: &[String]| (!words.is_empty()).then(|| words.join(","));
    let cors = Cors {
        methods: joined(&args.cors_methods),
        headers: joined(&args.cors_headers),
        credentials: args.cors_credentials,
    };
    let nofile = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let options = Options {
        guard,
        cors,
        head_limits: HeadLimits::default(),
        connections_max: args.connections_max,
        fds_reserved_from: Options::reserve_fds(nofile),
        late_outputs_max: Options::late_outputs_max(nofile),
        base_env: Arc::new(base_env),
    };
    let arena = Arena::new().map_err(|error| Failure::Start(error.to_string()))?;
    let mut table = Table::new(arena, args.exited_max, args.leftovers_max);
    let mut built = backend::build(args.backend).map_err(|error| match args.backend {
        BackendChoice::Uring => Failure::Backend(error),
        BackendChoice::Auto | BackendChoice::Epoll => {
            Failure::Start(format!("I/O backend: {error}"))
        }
    })?;
    let _living = Living::begin().map_err(start("lock of a living server"))?;
    let (groups, state) = groups_and_state(args)?;
    let ids = args.state_dir.as_deref().map(|dir| {
        let opened = Ids::open(dir);
        opened.map_err(start(&format!("--state-dir {}", dir.display())))
    });
    let ids = ids.transpose()?.map(|(ids, last)| {
        table.begin_behind(last);
        ids
    });
    let child_options = supervisor::Options {
        shutdown_grace: args.shutdown_grace,
        hangup,
        inheritance,
        groups,
        state,
    };
    let (supervisor, commands, events) =
        Supervisor::new(child_options).map_err(start("supervisor"))?;
    thread::Builder::new()
        .name("supervisor".to_owned())
        .stack_size(256 << 10)
        .spawn(|| supervisor.run(|error| without_groups(error)))
        .map_err(start("supervisor"))?;
    if let Some(error) = &built.denied {
        notice::line(format_args!(
            "warning: io_uring is not available: {error}; likely a seccomp profile or \
             kernel.io_uring_disabled; using epoll"
        ));
    }
    if let Some(error) = exposed {
        notice::line(format_args!(
            "warning: the token can be read in /proc/{}/cmdline or environ, because it cannot be \
             overwritten there: {error}; --token-file keeps it out of both",
            std::process::id()
        ));
    }
    let access = if open { "no token" } else { "token required" };
    notice::line(format_args!(
        "listening on http://{address} ({access}, {})",
        built.backend
    ));
    built
        .driver
        .block_on(async {
            let server = Server::new(options, table, commands, ids);
            let result = procring::io::serve(server.clone(), listener, events).await;
            server.end_ids();
            result
        })
        .map_err(start("serving"))
}

/// Groups for children, as far as they are wanted and to be had, and the record of both.
fn groups_and_state(args: &ServerArgs) -> Result<(Groups, Option<StateDir>), Failure> {
    // Two descriptors each: an eighth of them at most.
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let open_max = usize::try_from(descriptors / 16).map_or(CGROUPS_MAX, |n| n.min(CGROUPS_MAX));
    let cgroups = match (args.cgroup, &args.state_dir) {
        (CgroupChoice::Off, _) => {
            without_groups(&"--cgroup off");
            None
        }
        (CgroupChoice::On, _) => {
            let made = Cgroups::new(open_max, IfHiding::Accept);
            let made = made.map_err(|error| Failure::Start(format!("--cgroup on: {error}")))?;
            if let Some(hidden) = made.hidden() {
                notice::line(format_args!("warning: --cgroup on hides {hidden}"));
            }
            Some(made)
        }
        (CgroupChoice::Auto, None) => return Ok((Groups::AtBegin { open_max }, None)),
        // The record names them.
        (CgroupChoice::Auto, Some(_)) => {
            let made = Cgroups::new(open_max, IfHiding::Refuse);
            made.inspect_err(|error| without_groups(error)).ok()
        }
    };
    let state = args.state_dir.as_deref();
    let state = state.map(|dir| state_dir(dir, cgroups.as_ref()));
    Ok((Groups::Decided(cgroups), state.transpose()?))
}

/// How sure the end of a tree is depends on it (docs/security.md).
fn without_groups(why: &dyn Display) {
    let how = if Path::new("/proc/self/stat").exists() {
        "trees are ended by a search of /proc, which a process that hides on purpose escapes until \
         the server ends"
    } else {
        "without /proc, too, only the process group of a tree's first process is ended"
    };
    notice::line(format_args!("no cgroup for each process ({why}): {how}"));
}

/// Ends what a killed server left behind, and begins the record for the next one.
fn state_dir(dir: &Path, cgroups: Option<&Cgroups>) -> Result<StateDir, Failure> {
    let groups = cgroups.map(Cgroups::path);
    let (state, ended) = StateDir::open(dir, groups.as_deref())
        .map_err(|error| Failure::Start(format!("--state-dir {}: {error}", dir.display())))?;
    if ended > 0 {
        notice::line(format_args!(
            "ended {ended} processes that a killed server left behind"
        ));
    }
    Ok(state)
}

fn bind(args: &ServerArgs) -> Result<TcpListener, Failure> {
    let host = args
        .host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(&args.host);
    let busy_until = Instant::now() + timeouts::BUSY_FOR;
    loop {
        match TcpListener::bind((host, args.port)) {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < busy_until => {
                thread::sleep(BUSY_PAUSE);
            }
            Err(error) => {
                return Err(Failure::Start(format!(
                    "cannot listen on {host} port {}: {error}",
                    args.port
                )));
            }
        }
    }
}

/// The environment of children: this process's own, without the token.
fn base_env(token: Option<&str>) -> Environment {
    Environment::new(std::env::vars_os().filter(|(name, value)| {
        !flags::is_variable(name) && token.is_none_or(|token| value != token)
    }))
}
