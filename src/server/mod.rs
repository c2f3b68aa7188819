//! One server from its configuration: the command line and tests start it here.
//!
//! In: [`ServerArgs`], the environment. Out: [`Ready`], which listens and serves when it is run;
//! the first lines of its log; a [`StartError`] that says what is in the way. Joins the rooms
//! and knows nothing of what they do.
//!
//! A server takes its process over: every signal is blocked, SIGTERM and its like end the server,
//! orphans become children of the process, and descriptors become close-on-exec. So a process
//! starts one server only, from its first thread and before there are others.

mod announce;
mod error;
mod groups;
mod keep;
mod options;
mod places;
mod takeover;

use std::net::SocketAddr;
use std::thread;

use rustix::process::{Resource, getrlimit};

use crate::api::server_info::ServerInfo;
use crate::budget::Budget;
use crate::config::Settings;
use crate::config::flags::{self, BackendChoice, ServerArgs};
use crate::io::ids::Ids;
use crate::io::reload::Load;
use crate::io::runtime::backend::{self, Backend, Built};
use crate::io::runtime::meter;
use crate::io::server::{Options, Server};
use crate::io::{Kind, Listening};
use crate::journal::{Audit, Event as Told, Journal};
use crate::ledger::Heritage;
#[cfg(debug_assertions)]
use crate::ledger::variant;
use crate::log::Arena;
use crate::process::{self, Table};
use crate::supervisor::keeper::{self, Kept};
use crate::supervisor::living::Living;
use crate::supervisor::mailbox::{Receiver, Sender};
use crate::supervisor::message::Event;
use crate::supervisor::signals::{self, Hangup};
use crate::supervisor::spawn::inherit::{self, Inheritance};
use crate::supervisor::spawn::user;
use crate::supervisor::{self, Groups, Inbox, Supervisor};
use crate::token::{self, Found};
use crate::types::UnixMs;

use self::announce::{Missing, manager, tell_console, tell_listening, tell_start};
use self::error::{DESCRIPTORS_MIN, step, unusable};
use self::groups::groups_and_state;
use self::keep::{Own, keep, upgrades};
use self::options::{loader, may_serve, memory_max, options, unix_users};
use self::places::{Places, open_all};
use self::takeover::{groups_again, handed, open_again};

pub use self::error::StartError;
pub use self::options::check;
pub use self::takeover::{Asked, TAKES_OVER, heritage, heritage_asked, take_over};

/// A server that has started: its address takes connections, which [`Ready::run`] answers.
pub struct Ready {
    listening: Vec<Listening>,
    options: Options,
    info: ServerInfo,
    table: Table,
    ids: Option<Ids>,
    commands: Sender<Inbox>,
    events: Receiver<Event>,
    // Shows others that a server lives here, as long as it serves.
    living: Living,
    built: Built,
    journal: Journal,
    audit: Option<Audit>,
    load: Load,
    /// Who keeps what this server has.
    kept: Option<Kept>,
}

/// Starts a server: see the module for what that does to the process.
///
/// # Errors
/// What is in the way.
pub fn start(args: &ServerArgs) -> Result<Ready, StartError> {
    begin(args, None)
}

/// Starts a server, or goes on with what another one has left. The order of the steps matters: what
/// is set for the process comes before its first other thread.
fn begin(args: &ServerArgs, mut inherited: Option<&mut Heritage>) -> Result<Ready, StartError> {
    let heritage = inherited.as_deref();
    let listen_fds = match heritage {
        None => inherit::listen_fds(),
        Some(_) => Vec::new(),
    };
    // Two would write to one memory.
    heritage.into_iter().for_each(keeper::end_predecessor);
    let Found { tokens, exposed } = token::find(args).map_err(StartError::Token)?;
    may_serve(args, &tokens)?;
    let (journal, unwritten) = Journal::new(args.log_level, args.log_format);
    let mut info = info(args, heritage);
    if !info.goes_on {
        for sentence in flags::misspelled() {
            journal.tell(&Told::Warning(&sentence));
        }
    }
    let mut missing = Missing {
        journal: &journal,
        info: &mut info,
    };
    let hangup = Hangup::at_start();
    // Before any thread is started: they inherit the mask.
    signals::block_all();
    signals::reset_child_signal();
    let inheritance = inheritance(heritage)?;
    let listening = match heritage {
        None => open_all(args, listen_fds)?,
        Some(heritage) => open_again(heritage)?,
    };
    Places::of(&listening).check(args, !tokens.is_empty())?;
    let mut table = table(args, heritage)?;
    let living = Living::begin().map_err(step("lock of a living server"))?;
    let (mut groups, state) = match heritage.and_then(|heritage| heritage.groups.as_ref()) {
        None => groups_and_state(args, &mut missing)?,
        Some(handed) => (groups_again(handed), None),
    };
    let kept = match args.keep {
        false => None,
        // From here on this is one of possibly many servers.
        true => Some(keep(&mut groups, &journal, inherited.as_deref_mut())?),
    };
    let takes_over = kept.as_ref().is_some_and(|kept| kept.takes_over);
    let taken = inherited.as_deref_mut().filter(|_| takes_over);
    let mut taken = taken.map(Heritage::take);
    let events = taken.as_mut().map(|of| std::mem::take(&mut of.events));
    let (last, events) = events.unwrap_or_default();
    let heritage = inherited.as_deref();
    let upgrades = kept.as_ref().map(|kept| {
        missing.info.keeper = Some(kept.pid());
        missing.info.goes_on = kept.goes_on;
        table.keep(process::Kept::new(kept.records.clone()), (last, &events));
        let own = Own {
            nofile: inheritance.nofile,
            started_at: missing.info.started_at.0,
            memory: table.arena().numbers(),
            listening: &listening,
            groups: &groups,
        };
        upgrades(args, kept, heritage, taken, &own)
    });
    let goes_on = kept.as_ref().is_some_and(|kept| kept.goes_on);
    let changed = kept.as_ref().and_then(|kept| kept.records.settings());
    let settings = changed.map_or(args.settings, Settings::from_numbers);
    let mut lost = Vec::new();
    if goes_on {
        let taken = upgrades.as_ref().map(|of| of.taken.borrow());
        let taken = taken.iter().filter_map(|taken| taken.as_ref());
        let held = taken.flat_map(Heritage::slots);
        lost = table.go_on(settings.max_log_bytes_per_process, held);
    }
    // The first other thread: what was set for the process meanwhile is as it was.
    unwritten.begin(goes_on).map_err(step("log"))?;
    for of in lost {
        let (id, what) = (of.id, &*of.what);
        journal.tell(&Told::Damaged { id, what });
    }
    let audit = audit(args, &journal)?;
    let load = loader(args, &listening);
    let open = tokens.is_empty();
    let main = kept.as_ref().map_or_else(std::process::id, Kept::pid);
    let manager = manager(&listening, main, &mut missing);
    let users = unix_users(args)?;
    let options = options(args, users, tokens, &listening, manager, upgrades);
    missing.warn_of_start(exposed);
    let built = backend::build(args.backend).map_err(|error| match args.backend {
        BackendChoice::Uring => StartError::Uring(error),
        BackendChoice::Auto | BackendChoice::Epoll => step("I/O backend")(error),
    })?;
    if !goes_on {
        tell_start(args, built.backend, &journal);
    }
    let ids = ids(args, &mut table)?;
    let child_options = supervisor::Options {
        shutdown_grace: args.shutdown_grace,
        hangup,
        inheritance,
        state,
        kept: kept.clone(),
        dues: heritage
            .filter(|_| takes_over)
            .map_or(Vec::new(), |heritage| heritage.dues.clone()),
    };
    let (commands, events) = supervise(child_options, groups)?;
    missing.info.uring = built.backend != Backend::Epoll;
    if let Some(error) = &built.denied {
        missing.warn(format!(
            "io_uring is not available: {error}; likely a seccomp profile or \
             kernel.io_uring_disabled; using epoll"
        ));
    }
    if !goes_on {
        tell_listening(args, &listening, open, built.backend, &journal);
        tell_console(args, &listening, &journal);
    }
    Ok(Ready {
        listening,
        options,
        info,
        table,
        ids,
        commands,
        events,
        living,
        built,
        journal,
        audit,
        load,
        kept,
    })
}

/// What a server knows of itself before it has begun.
fn info(args: &ServerArgs, heritage: Option<&Heritage>) -> ServerInfo {
    ServerInfo {
        started_at: heritage.map_or_else(UnixMs::now, |of| UnixMs(of.started_at)),
        users: user::may_change(),
        of_all: args.default_limits.or(&args.max_limits),
        goes_on: heritage.is_some(),
        ..ServerInfo::default()
    }
}

/// What every child gets. A server that listens and can answer nobody is worse than none, so there
/// have to be some descriptors.
fn inheritance(heritage: Option<&Heritage>) -> Result<Inheritance, StartError> {
    let nofile = heritage.map(|heritage| heritage.nofile);
    let inheritance = Inheritance::prepare(nofile);
    // Asked behind that, which raises it as far as it can.
    match (getrlimit(Resource::Nofile).current, inheritance) {
        (Some(few @ ..DESCRIPTORS_MIN), _) => Err(StartError::Descriptors(few)),
        (_, inheritance) => inheritance.map_err(step("standard descriptors")),
    }
}

/// The table of processes, with the memory that their output is in.
fn table(args: &ServerArgs, heritage: Option<&Heritage>) -> Result<Table, StartError> {
    let arena = match heritage {
        None => Arena::new(),
        Some(heritage) => Arena::again(handed(heritage.log)?, handed(heritage.index)?),
    };
    let arena = arena.map_err(StartError::Arena)?;
    let mut table = Table::new(arena, args.exited_max, args.leftovers_max);
    table.count_in(Budget::new(memory_max(args)));
    Ok(table)
}

/// The log of who has changed what, if one is asked for.
fn audit(args: &ServerArgs, journal: &Journal) -> Result<Option<Audit>, StartError> {
    let audit = args.audit_log.as_deref().map(|file| {
        Audit::begin(file, journal.clone()).map_err(|error| StartError::Audit {
            file: file.to_owned(),
            error,
        })
    });
    audit.transpose()
}

/// The record of ids, if there is a directory for it; the table goes on behind the last of them.
fn ids(args: &ServerArgs, table: &mut Table) -> Result<Option<Ids>, StartError> {
    let Some(dir) = args.state_dir.as_deref() else {
        return Ok(None);
    };
    let (ids, last) = Ids::open(dir).map_err(unusable(dir))?;
    table.begin_behind(last);
    Ok(Some(ids))
}

/// Starts the supervisor's thread.
fn supervise(
    options: supervisor::Options,
    groups: Groups,
) -> Result<(Sender<Inbox>, Receiver<Event>), StartError> {
    let (supervisor, commands, events) = Supervisor::new(options).map_err(step("supervisor"))?;
    thread::Builder::new()
        .name("supervisor".to_owned())
        .stack_size(256 << 10)
        .spawn(|| supervisor.run(groups))
        .map_err(step("supervisor"))?;
    Ok((commands, events))
}

impl Ready {
    /// The addresses that it listens on.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        let kinds = self.listening.iter().map(Listening::kind);
        kinds.filter_map(|kind| match kind {
            Kind::Tcp(address) => Some(address),
            Kind::Unix | Kind::Starter => None,
        })
    }

    /// Serves until a signal ends the server. To be called on the thread that started it, which
    /// becomes the I/O thread.
    ///
    /// # Errors
    /// When it cannot go on.
    pub fn run(self) -> Result<(), StartError> {
        let Self {
            listening,
            options,
            info,
            table,
            ids,
            commands,
            events,
            mut built,
            living: _living,
            journal,
            audit,
            load,
            kept,
        } = self;
        let result = built.driver.block_on(meter::measured(async {
            let logs = (journal.clone(), audit.clone());
            let server = Server::new(options, info, table, commands, ids, logs, load);
            if let Some(kept) = &kept {
                if kept.goes_on {
                    #[cfg(debug_assertions)]
                    variant::fail(kept.takes_over);
                    let settings = kept.records.settings();
                    crate::io::resume_keys(&server);
                    crate::io::resume(&server, settings.map(Settings::from_numbers));
                    if let Some(wants_token) = kept.records.was_reloaded() {
                        server.reload_again(wants_token);
                    }
                }
                kept.records.serves();
            }
            let result = crate::io::serve(server.clone(), listening, events).await;
            server.end_ids();
            result
        }));
        if let Some(audit) = audit {
            audit.finish();
        }
        journal.finish();
        result.map_err(|error| match getrlimit(Resource::Nofile).current {
            Some(0) => StartError::NothingToWaitWith,
            _ => step("serving")(error),
        })
    }
}
