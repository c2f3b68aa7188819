//! Decides what a request means; never waits.
//!
//! In: a request head ([`plan`]), then its body ([`execute`]). Out: an [`Outcome`]: a whole
//! answer, or something that `io` carries out and answers later. Owns nothing; borrows the
//! settings and the table. Knows no socket and no runtime.
//!
//! Order of checks: Host, token, Origin, path and method, query and headers, body, handler, table.

pub(crate) mod access;
pub mod body;
pub(crate) mod bytes;
pub(crate) mod cors;
mod decode;
pub(crate) mod endpoint;
pub mod frame;
pub(crate) mod guard;
pub(crate) mod idempotency;
mod launch;
pub(crate) mod limits;
pub(crate) mod openapi;
pub mod problem;
pub(crate) mod query;
pub(crate) mod reply;
pub(crate) mod route;
pub mod routes;
mod strict;
mod subprotocol;
mod tags;
pub(crate) mod usage;
pub(crate) mod user;

use std::path::PathBuf;
use std::time::Duration;

use crate::config::Settings;
use crate::log::Cursor;
use crate::process::Table;
use crate::types::{JobId, ProcessId, Stdin, WindowSize};
use crate::wire::say::server;
use crate::wire::ws::handshake::Accept;

#[cfg(feature = "console")]
pub(crate) use endpoint::console;
pub(crate) use endpoint::{
    activity, attach, control, events, health, list, logs, metrics, processes, raw, run, screen,
    server_info, settings, signal, stream, upgrade, wait,
};
pub use launch::Launch;
pub use problem::Problem;
pub(crate) use reply::Reply;
pub(crate) use route::{Action, BodyPolicy, Plan, plan};

use self::attach::AttachQuery;
use self::limits::LimitRules;
use self::query::{StdinQuery, TerminalQuery};
use self::user::UserRules;

/// What [`execute`] may look at and change.
#[derive(Debug)]
pub(crate) struct Core<'a> {
    /// The limits in force.
    pub settings: &'a mut Settings,
    /// All processes.
    pub table: &'a mut Table,
    /// The server is ending: no new work.
    pub shutting_down: bool,
    /// The request wants fields that nobody knows to be refused.
    pub strict: bool,
    /// Whether processes may be sent input where the request does not say.
    pub stdin_default: Stdin,
    /// What the operator says of limits.
    pub limits: &'a LimitRules,
    /// What the operator says of users.
    pub users: &'a UserRules,
}

/// What a request comes to.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// A whole answer.
    Reply(Reply),
    /// Start a run and answer when it ends.
    Run(Box<run::Run>),
    /// Start a run and stream what it writes.
    Stream(Box<run::Run>, stream::Form),
    /// Start a managed process that has been reserved, and answer with its record.
    Create {
        /// The reservation.
        job: JobId,
        /// What to start.
        launch: Launch,
        /// The terminal to give it.
        terminal: Option<WindowSize>,
        /// How long its tree may live.
        deadline: Option<Duration>,
        /// Whether it may be sent input.
        stdin: Stdin,
    },
    /// Signal a running process and answer with its record when it has exited or the wait is over.
    Signal {
        /// Which process.
        id: ProcessId,
        /// What to do to it.
        signal: Signal,
        /// How long to wait for its exit.
        wait: Duration,
    },
    /// Count what these use, then answer with their records.
    Usage(usage::Asked),
    /// Answer with what the server is, once all of it is known.
    ServerInfo,
    /// Have another program take over, and answer with what the server is then.
    Upgrade {
        /// Which program; the one at the server's own path if None.
        binary: Option<PathBuf>,
    },
    /// Answer whether both loops go round.
    Healthz,
    /// Answer with what is counted.
    Metrics(metrics::Format),
    /// Stream what happens to records.
    Events {
        /// The number of the event before the first.
        seen: u64,
        /// Labels that must fit.
        labels: Vec<Box<str>>,
        /// What the client knows of their output, if it wants to be told of that.
        activity: Option<Box<activity::Activity>>,
    },
    /// Wait and answer with the record.
    Wait {
        /// For which process.
        id: ProcessId,
        /// For what, and how long.
        wait: wait::Wait,
    },
    /// Send a signal to a running process and answer with its record.
    Send {
        /// Which process.
        id: ProcessId,
        /// Which signal, and to whom.
        signalling: signal::Signalling,
    },
    /// Write to a process and answer when it has taken everything.
    Input {
        /// Which process.
        id: ProcessId,
        /// The bytes.
        data: Vec<u8>,
        /// How many bytes the client believes were accepted before.
        offset: Option<u64>,
        /// The end of input follows.
        eof: bool,
    },
    /// Pass the body on to a process, piece by piece, and answer when it has taken everything.
    Stdin {
        /// Which process.
        id: ProcessId,
        /// How.
        query: StdinQuery,
    },
    /// End the input of a process and answer 204.
    CloseStdin {
        /// Which process.
        id: ProcessId,
    },
    /// Change the size of a terminal and answer with it.
    Resize {
        /// Which process.
        id: ProcessId,
        /// The new size.
        size: WindowSize,
    },
    /// Wait for an entry, then answer as [`logs::answer`] does.
    AwaitEntry(Box<logs::AwaitEntry>),
    /// Answer with the bytes of a log as they were written.
    Bytes(Box<bytes::Bytes>),
    /// Answer with a list that is too long to be written at once.
    List(Box<list::List>),
    /// Answer with a log that is too long to be written at once.
    Fetch(logs::Fetch),
    /// Answer with the screen of a terminal.
    Screen {
        /// Of which process.
        id: ProcessId,
        /// In which form.
        query: screen::ScreenQuery,
    },
    /// Answer with the recording of a terminal.
    Recording {
        /// Of which process.
        id: ProcessId,
        /// Go on to its end.
        follow: bool,
    },
    /// Stream the log from this place on.
    Follow {
        /// Which process.
        id: ProcessId,
        /// Where to begin.
        cursor: Cursor,
    },
    /// Remove the record of a process that has ended, and answer 204; 409 if it runs.
    Delete {
        /// Which process.
        id: ProcessId,
        /// End what is left of its tree before.
        tree: bool,
    },
    /// Upgrade to a WebSocket on this process.
    Attach {
        /// Which process.
        id: ProcessId,
        /// What the client wants to see.
        query: AttachQuery,
        /// The handshake's answer.
        accept: Accept,
    },
    /// Upgrade to a WebSocket on this terminal.
    Terminal {
        /// Which process.
        id: ProcessId,
        /// What the client wants to see.
        query: TerminalQuery,
        /// The handshake's answer.
        accept: Accept,
    },
}

/// What `stop` and `kill` do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// SIGTERM to the group; the tree is killed after the grace, if there is one.
    Stop {
        /// Until SIGKILL.
        grace: Option<Duration>,
    },
    /// SIGKILL to the tree.
    Kill,
}

impl From<Problem> for Outcome {
    fn from(problem: Problem) -> Self {
        Outcome::Reply(problem.reply())
    }
}

/// Carries out what can be done at once; says what is left to wait for.
pub(crate) fn execute(action: Action, body: &[u8], core: &mut Core<'_>) -> Outcome {
    let outcome = match action {
        Action::Root => Ok(Outcome::Reply(Reply::json(server::ROOT))),
        #[cfg(feature = "console")]
        Action::Console(wanted) => console::console(&wanted),
        Action::Health => Ok(Outcome::Reply(Reply::json(server::OK))),
        Action::Healthz => Ok(Outcome::Healthz),
        Action::Readyz => Ok(Outcome::Reply(health::readyz(core.shutting_down))),
        Action::OpenApi { gzip } => Ok(Outcome::Reply(openapi::reply(gzip))),
        Action::Metrics(format) => Ok(Outcome::Metrics(format)),
        Action::ServerInfo => Ok(Outcome::ServerInfo),
        Action::Upgrade { binary } => upgrade::upgrade(binary, core),
        Action::GetSettings => Ok(settings::get(core)),
        Action::SetSettings => settings::set(body, core),
        Action::Run { stream, usage } => run::plan(body, stream, usage, core),
        Action::Create => processes::create(body, core),
        Action::List(query) => Ok(list::list(*query, core)),
        Action::Get { id, usage } => processes::get(&id, usage, core),
        Action::Delete { id, tree } => processes::delete(&id, tree, core),
        Action::Logs { id, query } => logs::logs(&id, &query, core),
        Action::RawLogs { id, query } => raw::raw(&id, &query, core),
        Action::Stop { id, wait, grace } => control::stop(&id, wait, grace, core),
        Action::Kill { id, wait } => control::kill(&id, wait, core),
        Action::Events(query) => events::events(query, core),
        Action::Wait { id, wait } => wait::wait(&id, wait, core),
        Action::Signal(id) => signal::signal(&id, body, core),
        Action::Input(id) => control::input(&id, body, core),
        Action::Stdin { id, query } => control::stdin(&id, query, core),
        Action::CloseStdin(id) => control::close_stdin(&id, core),
        Action::Resize(id) => control::resize(&id, body, core),
        Action::Attach { id, query, accept } => attach::attach(&id, query, accept, core),
        Action::Screen { id, query } => screen::screen(&id, query, core),
        Action::Recording { id, follow } => screen::recording(&id, follow, core),
        Action::Terminal { id, query, accept } => control::terminal(&id, query, accept, core),
    };
    outcome.unwrap_or_else(Outcome::from)
}

fn refuse_while_ending(core: &Core<'_>) -> Result<(), Problem> {
    if core.shutting_down {
        return Err(Problem::ending());
    }
    Ok(())
}
