//! Create, list, get and delete managed processes; the record as clients see it.

use serde::Serialize;

use crate::process::table::Description;
use crate::process::{Process, Table};
use crate::types::{JobId, Monotonic, ProcessId, UnixMs, WindowSize};

use super::body::{self, CreateBody};
use super::problem::Problem;
use super::query::Owner;
use super::reply::Reply;
use super::route::Id;
use super::run::check_command;
use super::{Core, Launch, Outcome, refuse_while_ending};

/// A record as JSON; the order of the fields is the order of the keys.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Info<'a> {
    id: String,
    command: &'a str,
    args: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    cwd: Option<&'a str>,
    tty: bool,
    interactive: bool,
    owner: &'static str,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    created_at_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    exited_at_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    descendants: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<String>,
}

fn info(process: &Process) -> Info<'_> {
    let ended = process.ended();
    let status = ended.and_then(|(status, _)| status);
    let description = &process.description;
    Info {
        id: process.id.to_string(),
        command: &description.command,
        args: &description.args,
        cwd: description.cwd.as_deref(),
        tty: description.tty,
        interactive: description.interactive,
        owner: "user",
        status: if process.life.is_running() {
            "running"
        } else {
            "exited"
        },
        pid: process.life.pid(),
        exit_code: status.and_then(|status| status.code()),
        created_at_ms: description.created_at.0,
        exited_at_ms: ended.map(|(_, at)| at.0),
        descendants: process.descendants(Monotonic::now()),
        signal: status.and_then(|status| status.signal_name()),
    }
}

/// The record of a process as an answer.
pub fn reply(process: &Process) -> Reply {
    // Strings, integers and booleans always serialise.
    Reply::json(serde_json::to_vec(&info(process)).unwrap_or_default())
}

/// Finds a process that clients may see.
pub(super) fn find<'a>(id: &Id, core: &'a Core<'_>) -> Result<&'a Process, Problem> {
    id.parsed
        .and_then(|id| core.table.get(id))
        .ok_or_else(|| Problem::no_process(&id.raw))
}

/// Checks a create request and reserves its place.
///
/// # Errors
/// 400 or 422 for a bad body, 409 at the concurrency limit, 503 while the server ends.
pub fn create(bytes: &[u8], core: &mut Core<'_>) -> Result<Outcome, Problem> {
    let request: CreateBody = body::object(bytes, core.strict)?;
    check_command(&request.command)?;
    let terminal = if request.tty {
        Some(window(request.cols, request.rows)?)
    } else {
        None
    };
    refuse_while_ending(core)?;
    let limit = core.settings.max_concurrent_processes;
    let description = Description {
        command: request.command.clone(),
        args: request.args.clone(),
        cwd: request.cwd.clone(),
        tty: request.tty,
        interactive: request.interactive,
        created_at: UnixMs::now(),
    };
    let job = core
        .table
        .reserve(description, limit)
        .ok_or_else(|| Problem::too_many_processes(limit))?;
    let launch = Launch {
        command: request.command,
        args: request.args,
        cwd: request.cwd,
        env: request.env.into_iter().collect(),
    };
    Ok(Outcome::Create {
        job,
        launch,
        terminal,
    })
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

/// All records, by number.
pub fn list(owner: Owner, core: &Core<'_>) -> Outcome {
    #[derive(Serialize)]
    struct List<'a> {
        processes: Vec<Info<'a>>,
    }
    let processes = match owner {
        Owner::User => core.table.iter().map(info).collect(),
        Owner::Nobody => Vec::new(),
    };
    Outcome::Reply(Reply::json(
        serde_json::to_vec(&List { processes }).unwrap_or_default(),
    ))
}

/// One record.
///
/// # Errors
/// 404.
pub fn get(id: &Id, core: &Core<'_>) -> Result<Outcome, Problem> {
    Ok(Outcome::Reply(reply(find(id, core)?)))
}

/// Asks for the removal of a record; [`remove`] follows once it is clear that it has exited.
///
/// # Errors
/// 404.
pub fn delete(id: &Id, tree: bool, core: &Core<'_>) -> Result<Outcome, Problem> {
    let id = find(id, core)?.id;
    Ok(Outcome::Delete { id, tree })
}

/// Removes an exited record and its log. Returns what the supervisor calls it.
///
/// # Errors
/// 404; 409 while it runs.
pub fn remove(id: ProcessId, table: &mut Table) -> Result<JobId, Problem> {
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
