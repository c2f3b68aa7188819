//! The configuration as the rooms want it: what requests are carried out by, and what the I/O thread
//! keeps to.
//!
//! In: [`ServerArgs`], at the start and each time that the configuration is read again. Out: rules,
//! bounds and options, or what is wrong with them. Starts and opens nothing.

use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, geteuid, getrlimit};

use crate::api::cors::Cors;
use crate::api::guard::{Exposed, Guard};
use crate::api::limits::LimitRules;
use crate::api::user::UserRules;
use crate::budget;
use crate::config::flags::{self, ServerArgs, UsageError};
use crate::config::load::load;
use crate::config::timeouts;
use crate::io::reload::{Load, Loaded};
use crate::io::rules::Rules;
use crate::io::server::Options;
use crate::io::upgrade::Upgrades;
use crate::io::{Kind, Listening, RunBounds};
use crate::sd_notify::Manager;
use crate::supervisor::spawn::environment::Environment;
use crate::supervisor::spawn::{rlimits, user};
use crate::token::{self, Tokens};
use crate::types::Who;
use crate::wire::http::head::HeadLimits;

use super::error::StartError;
use super::places::{Places, are_near};

/// Clients may make the server hold this part of the memory that there is: the rest is for
/// processes, for what the kernel holds for both, and for what the heap takes besides.
const MEMORY_PART: u64 = 8;

/// And no less, however little there is.
const MEMORY_MIN: u64 = 1 << 20;

/// Whether a server could be started with this configuration, as far as that can be told without
/// binding an address and without the cgroup that it will be in.
///
/// # Errors
/// What is in the way.
pub fn check(args: &ServerArgs) -> Result<(), StartError> {
    checked(args).map(|_| ())
}

/// The same; its tokens, and whom it lets in over unix sockets.
fn checked(args: &ServerArgs) -> Result<(Tokens, Vec<u32>), StartError> {
    let tokens = token::read(args).map_err(StartError::Token)?;
    may_serve(args, &tokens)?;
    Ok((tokens, unix_users(args)?))
}

/// Refuses what cannot go together, or not here.
pub(super) fn may_serve(args: &ServerArgs, tokens: &Tokens) -> Result<(), UsageError> {
    flags::check_open(args, !tokens.is_empty())?;
    flags::check_keep(args)?;
    flags::check_user(args, user::may_change())
}

/// Reads the configuration again for a server that listens there.
pub(super) fn loader(args: &ServerArgs, listening: &[Listening]) -> Load {
    let args = args.clone();
    let places = Places::of(listening);
    Arc::new(move || {
        let args = load(&args).map_err(|error| error.sentence())?;
        let (tokens, unix_users) = checked(&args).map_err(|error| error.to_string())?;
        places
            .check(&args, !tokens.is_empty())
            .map_err(|error| error.to_string())?;
        Ok(Loaded {
            rules: rules(&args, unix_users, tokens, &places),
            runs: run_bounds(&args),
            memory_max: memory_max(&args),
            end_max: end_max(&args),
            args,
        })
    })
}

/// What requests are carried out by.
fn rules(args: &ServerArgs, unix_users: Vec<u32>, tokens: Tokens, places: &Places) -> Rules {
    let guard = guard(args, unix_users, tokens, &places.others);
    let joined = |words: &[String]| (!words.is_empty()).then(|| words.join(","));
    Rules {
        metrics_guard: Guard {
            exposed: Exposed::MetricsOnly,
            check_host: are_near(&places.for_metrics),
            ..guard.clone()
        },
        guard,
        cors: Cors {
            methods: joined(&args.cors_methods),
            headers: joined(&args.cors_headers),
            credentials: args.cors_credentials,
        },
        stdin_default: args.stdin,
        limits: LimitRules {
            defaults: args.default_limits,
            maxima: args.max_limits,
            hard: rlimits::hard_limits(),
        },
        users: UserRules {
            may_change: user::may_change(),
            allowed: args.allow_users.clone(),
            default: args.default_user.clone(),
            accounts: crate::io::accounts::read,
        },
        terminal_replay: args.terminal_replay,
    }
}

/// Who may ask a server that listens there.
fn guard(args: &ServerArgs, unix_users: Vec<u32>, tokens: Tokens, kinds: &[Kind]) -> Guard {
    let named = tokens.named.iter();
    Guard {
        check_host: tokens.is_empty() && are_near(kinds),
        named_tokens: named
            .map(|(name, token)| (name.as_str().into(), token.clone()))
            .collect(),
        token: tokens.own,
        allowed_hosts: args.allowed_hosts.clone(),
        allowed_origins: args.cors_origins.clone(),
        users: [0, geteuid().as_raw()]
            .into_iter()
            .chain(unix_users)
            .collect(),
        users_need_token: args.unix_token,
        base_path: args.base_path.clone(),
        no_console: args.no_console,
        exposed: match (&args.metrics_listen, args.public_metrics) {
            (Some(_), _) => Exposed::NoMetrics,
            (None, true) => Exposed::PublicMetrics,
            (None, false) => Exposed::All,
        },
    }
}

/// What the I/O thread is to keep to.
pub(super) fn options(
    args: &ServerArgs,
    unix_users: Vec<u32>,
    tokens: Tokens,
    listening: &[Listening],
    manager: Manager,
    upgrades: Option<Upgrades>,
) -> Options {
    let base_env = base_env(&tokens);
    let nofile = getrlimit(Resource::Nofile).current;
    Options {
        rules: rules(args, unix_users, tokens, &Places::of(listening)),
        settings: args.settings,
        given: args.given.clone(),
        head_limits: HeadLimits::default(),
        connections_max: args.connections_max,
        runs: run_bounds(args),
        fds_reserved_from: Options::reserve_fds(nofile),
        fds_few_from: Options::fds_few_from(nofile),
        late_outputs_max: Options::late_outputs_max(nofile),
        base_env: Arc::new(base_env),
        manager,
        addresses: listening
            .iter()
            .map(Listening::name)
            .collect::<Vec<_>>()
            .join(", "),
        end_max: end_max(args),
        upgrades,
    }
}

/// Bytes that clients may make the server hold.
pub(super) fn memory_max(args: &ServerArgs) -> u64 {
    let usual = || budget::host::memory() / MEMORY_PART;
    args.memory_max.unwrap_or_else(usual).max(MEMORY_MIN)
}

/// Runs at the same time, and in line.
fn run_bounds(args: &ServerArgs) -> RunBounds {
    RunBounds {
        concurrent_max: args.concurrent_runs_max,
        queued_max: args.queued_runs_max,
    }
}

/// How long the end may take.
fn end_max(args: &ServerArgs) -> Duration {
    args.shutdown_grace + timeouts::SHUTDOWN_MAX + timeouts::LAST_WORDS
}

/// The numbers of those who are let in over unix sockets. A number needs no file.
pub(super) fn unix_users(args: &ServerArgs) -> Result<Vec<u32>, StartError> {
    let number = |who: &Who| {
        let refused = |why: &dyn Display| StartError::UnixUser(format!("{who}: {why}"));
        if let Who::Id(uid) = who {
            return Ok(*uid);
        }
        let accounts = crate::io::accounts::read().map_err(|error| refused(&error))?;
        let uid = accounts.uid(who);
        uid.ok_or_else(|| refused(&"/etc/passwd has no such name; a number would do without"))
    };
    args.unix_users.iter().map(number).collect()
}

/// The environment of children: this process's own, without the tokens.
fn base_env(tokens: &Tokens) -> Environment {
    let is_token = |value: &OsStr| tokens.all().any(|token| value == token);
    let is_theirs =
        |(name, value): &(OsString, OsString)| !flags::is_variable(name) && !is_token(value);
    Environment::new(std::env::vars_os().filter(is_theirs))
}
