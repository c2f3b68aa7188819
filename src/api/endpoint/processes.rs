//! Create, get and delete managed processes; what of a process is in its record.

use std::time::Duration;

use crate::process::table::Refused;
use crate::process::{Description, Process, Table, Tags};
use crate::types::{JobId, Monotonic, ProcessId, Stdin, UnixMs, Usage, WindowSize};
use crate::wire::say::record::{self, Record};

use super::run::check_command;
use crate::api::body::{self, CreateBody};
use crate::api::problem::Problem;
use crate::api::reply::Reply;
use crate::api::route::Id;
use crate::api::usage::Asked;
use crate::api::{Core, Launch, Outcome, tags};

/// What was asked for, as clients are told of it; what has become of it is not there.
pub(super) fn asked<'a>(
    id: ProcessId,
    description: &'a Description,
    tags: Option<&'a Tags>,
) -> Record<'a> {
    Record {
        id,
        command: &description.command,
        args: &description.args,
        args_truncated: false,
        cwd: description.cwd.as_deref(),
        tty: description.tty,
        interactive: description.interactive,
        is_running: false,
        pid: None,
        created_at: description.created_at,
        exited_at: None,
        name: tags.and_then(|tags| tags.name.as_deref()),
        labels: tags.and_then(|tags| tags.labels.as_deref()),
        descendants: None,
        usage: None,
        exit: None,
    }
}

/// What clients see of a process.
pub(super) fn record(process: &Process, usage: Option<Usage>) -> Record<'_> {
    let ended = process.ended();
    Record {
        is_running: process.life.is_running(),
        pid: process.life.pid(),
        exited_at: ended.map(|(_, at)| at),
        descendants: process.descendants(Monotonic::now()),
        usage,
        exit: ended.and_then(|(exit, _)| exit),
        ..asked(process.id, &process.description, process.tags())
    }
}

/// Appends the record of a process, with what it uses where that was asked for.
pub(crate) fn write(process: &Process, usage: Option<Usage>, out: &mut Vec<u8>) {
    record::write(&record(process, usage), out);
}

/// The same, with at most so many bytes of its arguments, and said to be so.
pub(in crate::api) fn write_short(
    process: &Process,
    usage: Option<Usage>,
    args_max: usize,
    out: &mut Vec<u8>,
) {
    let mut record = record(process, usage);
    let mut left = args_max;
    let fits = |arg: &&String| match left.checked_sub(arg.len() + 1) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    };
    let shown = record.args.iter().take_while(fits).count();
    record.args_truncated = shown < record.args.len();
    record.args = &record.args[..shown];
    record::write(&record, out);
}

/// The record of a process as an answer.
pub(crate) fn reply(process: &Process) -> Reply {
    let mut out = Vec::with_capacity(256);
    write(process, None, &mut out);
    Reply::json(out)
}

/// Finds a process that clients may see.
pub(in crate::api) fn find<'a>(id: &Id, core: &'a Core<'_>) -> Result<&'a Process, Problem> {
    let found = match id.parsed {
        Some(id) => core.table.get(id),
        // No name looks like an id.
        None => core.table.get_named(&id.raw),
    };
    found.ok_or_else(|| Problem::no_process(&id.raw))
}

/// Checks a create request and reserves its place.
///
/// # Errors
/// 400 or 422 for a bad body, 403 for a user that is not allowed, 501 for what this server cannot,
/// 409 for a name that is taken and at the concurrency limit, 503 while the server ends.
pub(crate) fn create(bytes: &[u8], core: &mut Core<'_>) -> Result<Outcome, Problem> {
    let request: CreateBody = body::object(bytes, core.strict)?;
    check_command(&request.command)?;
    let terminal = if request.tty {
        Some(window(request.cols, request.rows)?)
    } else {
        None
    };
    let deadline = lifetime(request.deadline_ms)?;
    let tags = tags::checked(request.name, request.labels)?;
    let stdin = stdin(request.stdin.as_deref(), request.tty, core.stdin_default)?;
    let launch = Launch::new(request.command, request.args, request.cwd)
        .with_env(request.env, request.inherit_env)
        .settled(request.limits, request.user, &tags, core)?;
    let limit = core.settings.max_concurrent_processes;
    let description = Description {
        tty: request.tty,
        interactive: request.interactive,
        ..launch.description(UnixMs::now())
    };
    let reserved = core.table.reserve(description, limit);
    let job = reserved.map_err(|refused| match refused {
        Refused::Places => Problem::too_many_processes(limit),
        Refused::Memory => Problem::no_memory(core.table.budget().max()),
    })?;
    core.table.tag(job, tags);
    Ok(Outcome::Create {
        job,
        launch,
        terminal,
        deadline,
        stdin,
    })
}

/// How long a tree may live.
fn lifetime(ms: Option<u64>) -> Result<Option<Duration>, Problem> {
    match ms {
        Some(0) => Err(Problem::invalid("deadlineMs must be at least 1")),
        ms => Ok(ms.map(Duration::from_millis)),
    }
}

/// Whether a process may be sent input; a terminal always takes some, whatever the default is.
fn stdin(asked: Option<&str>, tty: bool, default: Stdin) -> Result<Stdin, Problem> {
    match asked {
        None if tty => Ok(Stdin::Open),
        None => Ok(default),
        Some("open") => Ok(Stdin::Open),
        Some("closed") if tty => Err(Problem::invalid(
            "stdin must be \"open\" with \"tty\":true: a terminal takes input and gives output",
        )),
        Some("closed") => Ok(Stdin::Closed),
        Some(_) => Err(Problem::invalid("stdin must be one of: open, closed")),
    }
}

fn window(cols: Option<u64>, rows: Option<u64>) -> Result<WindowSize, Problem> {
    let side = |name: &str, value: Option<u64>, default: u16| match value.map(u16::try_from) {
        None => Ok(default),
        Some(Ok(value @ 1..=WindowSize::SIDE_MAX)) => Ok(value),
        Some(_) => Err(Problem::invalid(format!(
            "{name} must be between 1 and {}",
            WindowSize::SIDE_MAX
        ))),
    };
    let default = WindowSize::default();
    Ok(WindowSize {
        cols: side("cols", cols, default.cols)?,
        rows: side("rows", rows, default.rows)?,
    })
}

/// One record.
///
/// # Errors
/// 404.
pub(crate) fn get(id: &Id, usage: bool, core: &Core<'_>) -> Result<Outcome, Problem> {
    let process = find(id, core)?;
    Ok(match usage {
        true => Outcome::Usage(Asked::one(process)),
        false => Outcome::Reply(reply(process)),
    })
}

/// Asks for the removal of a record; [`remove`] follows once it is clear that it has exited.
///
/// # Errors
/// 404.
pub(crate) fn delete(id: &Id, tree: bool, core: &Core<'_>) -> Result<Outcome, Problem> {
    let id = find(id, core)?.id;
    Ok(Outcome::Delete { id, tree })
}

/// Removes an exited record and its log. Returns what the supervisor calls it.
///
/// # Errors
/// 404; 409 while it runs.
pub(crate) fn remove(id: ProcessId, table: &mut Table) -> Result<JobId, Problem> {
    let process = table.get(id).ok_or_else(|| Problem::from(id))?;
    if process.life.is_running() {
        return Err(Problem::conflict(
            "process is still running; stop or kill it before delete",
        ));
    }
    let job = process.job;
    table.remove(job);
    Ok(job)
}
