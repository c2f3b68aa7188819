//! What all tasks of the I/O thread share.
//!
//! In: what [`crate::server`] prepared. Out: borrows for one step at a time. Owns the table, the
//! runs that are not answered yet, and every descriptor that leads to a child.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::api::server_info::ServerInfo;
use crate::api::{Problem, Reply};
use crate::budget::Budget;
use crate::config::Settings;
use crate::config::flags::Given;
use crate::journal::{Audit, Journal};
use crate::ledger::RecordId;
use crate::log::Arena;
use crate::process::{Notify, Process, Table};
use crate::sd_notify::Manager;
use crate::supervisor::Inbox;
use crate::supervisor::mailbox::Sender;
use crate::supervisor::message::Command;
use crate::supervisor::spawn::environment::Environment;
use crate::types::{JobId, ProcessId, SpawnError, Stream};
use crate::wire::http::head::HeadLimits;
use crate::wire::http::response::DateCache;

use crate::io::conn::standing::Standing;
use crate::io::gate::Gate;
use crate::io::host::admission::{RunBounds, Runs};
use crate::io::host::begun::Begun;
use crate::io::host::input::Input;
use crate::io::host::late::LateOutputs;
use crate::io::ids::Ids;
use crate::io::metrics::Answers;
use crate::io::ports::Ports;
use crate::io::reload::{Load, Reloads};
use crate::io::repeats;
use crate::io::rules::Rules;
use crate::io::runtime::lane::Lane;
use crate::io::runtime::source::Source;
use crate::io::screen::{Screens, before_eviction};
use crate::io::signal::Asked;
use crate::io::strangers::Strangers;
use crate::io::telling::Telling;
use crate::io::upgrade::Upgrades;
use crate::io::usage::Counts;
use crate::io::watchdog::Watchdog;
use crate::io::ws::input_queue::InputQueue;

/// What the command line fixes.
#[derive(Debug)]
pub(crate) struct Options {
    /// What requests are carried out by, at the start.
    pub rules: Rules,
    /// The limits that clients may change, at the start.
    pub settings: Settings,
    /// Where the configuration comes from.
    pub given: Given,
    /// Limits on request heads.
    pub head_limits: HeadLimits,
    /// Connections at the same time, at the start.
    pub connections_max: usize,
    /// Runs at the same time, and in line, at the start.
    pub runs: RunBounds,
    /// Descriptors from this number on are for accepting and answering only. Numbers are given
    /// lowest first, so a new one that is this high says how many there are.
    pub fds_reserved_from: i32,
    /// Descriptors from this number on are not for strangers: where connections reach it, those that
    /// showed no token go ([`crate::io::strangers`]).
    pub fds_few_from: i32,
    /// Descriptors for outputs that somebody holds open after the exit of their process.
    pub late_outputs_max: usize,
    /// The environment of children, before the request's own variables.
    pub base_env: Arc<Environment>,
    /// Who started the server as a service.
    pub manager: Manager,
    /// Where it listens, for people.
    pub addresses: String,
    /// How long its end may take, at the start.
    pub end_max: Duration,
    /// How another program takes over, if there is a keeper.
    pub upgrades: Option<Upgrades>,
}

/// The descriptors that lead to a job.
#[derive(Debug)]
pub(super) struct Child {
    /// Where its output comes from.
    pub(super) outputs: Vec<(Stream, Rc<Source>)>,
    /// Where its input goes; a run has none.
    pub(super) input: Option<Rc<Input>>,
}

/// A create request that waits for exec.
#[derive(Debug, Default)]
pub(super) struct Create {
    /// Set when it is clear: the record as it was then, or why there is no process.
    pub(super) result: Option<Result<Reply, SpawnError>>,
    /// Tells of the result.
    pub(super) done: Notify,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Server {
    /// What the command line fixes.
    pub(super) options: Options,
    /// The limits in force.
    pub(super) settings: Cell<Settings>,
    /// What `GET /v1/server` tells.
    pub(super) info: RefCell<ServerInfo>,
    /// Tells that the supervisor has said whether there are cgroups.
    pub(super) groups_known: Notify,
    /// What clients make it hold in memory.
    pub(super) budget: Budget,
    /// Runs under way, and those that wait in line.
    pub(super) runs: Runs,
    /// All jobs.
    pub(super) table: RefCell<Table>,
    /// Outputs that are open after the exit of their process.
    pub(super) late_outputs: RefCell<LateOutputs>,
    /// Jobs whose descriptors are still wanted.
    pub(super) children: RefCell<HashMap<JobId, Rc<Child>>>,
    /// Creates that wait for exec.
    pub(super) creates: RefCell<HashMap<JobId, Create>>,
    /// Runs that have begun and are not over, if there is a keeper.
    pub(super) begun: RefCell<HashMap<JobId, Begun>>,
    /// Requests that may come again.
    pub(super) repeats: repeats::Store,
    /// The server is ending.
    pub(super) shutting_down: Cell<bool>,
    /// Tells of that.
    pub(super) ending: Notify,
    /// Nobody of any tree is left; no event comes any more but those under way.
    pub(super) all_gone: Cell<bool>,
    /// What searches of logs may take of the thread.
    pub(super) searches: Lane,
    /// What clients of WebSockets send, in messages that may be as short as they like.
    pub(super) messages: Lane,
    /// Screens of terminals that are in use.
    pub(super) screens: Screens,
    /// Ports that somebody waits for.
    pub(super) ports: Ports,
    /// Connections open now.
    pub(super) connections: Cell<usize>,
    /// Those of them that are for metrics.
    pub(super) metrics_connections: Cell<usize>,
    /// Those on which nobody has been let in yet, and the same of connections that are for metrics.
    pub(super) strangers: [Strangers; 2],
    /// What is counted of answers.
    pub(super) answers: Answers,
    /// Those of them that have a request to answer.
    pub(super) busy: Busy,
    /// Where output goes that nobody wants.
    pub(super) scratch: RefCell<Vec<u8>>,
    /// Pipes of children that hold more than usual.
    pub(super) large_pipes: Cell<u32>,
    /// Whether a trim of the arena is due already.
    pub(super) trim_pending: Cell<bool>,
    /// Signals that the supervisor has been asked to send.
    pub(super) signals: Asked,
    /// What it has been asked to count.
    pub(super) counts: Counts,
    /// Whether the supervisor's loop goes round.
    pub(super) watchdog: Watchdog,
    /// Itself, for what goes on later.
    pub(super) me: Weak<Self>,
    /// What requests are carried out by.
    pub(super) rules: RefCell<Rc<Rules>>,
    /// How long its end may take.
    pub(super) end_max: Cell<Duration>,
    /// Connections at the same time; one more is answered 503.
    pub(super) connections_max: Cell<usize>,
    /// The configuration, read again.
    pub(super) reloads: Reloads,
    /// Who changed what, if anybody wants to know.
    pub(super) audit: Option<Audit>,
    /// What is told of all that happens.
    pub(super) telling: Telling,
    /// Another program is to take over.
    pub(super) upgrading: Cell<bool>,
    /// No request is begun.
    pub(super) holds: Cell<bool>,
    /// Viewers are to come back to another server.
    pub(super) leaves: Cell<bool>,
    /// Tells of both, and of the end of that.
    pub(super) held: Notify,
    /// Bodies under way to processes are to stand still.
    pub(super) stills: Cell<bool>,
    /// Whether connections are read.
    pub(super) gate: Rc<Gate>,
    /// What viewers have typed, if there is a keeper.
    pub(super) input_queues: RefCell<Vec<(ProcessId, Weak<InputQueue>)>>,
    /// Connections that are WebSockets.
    pub(super) web_sockets: Cell<usize>,
    /// Where connections stand, by their sockets, if there is a keeper.
    pub(super) standing: RefCell<HashMap<RawFd, Rc<Standing>>>,
    supervisor: Sender<Inbox>,
    /// What makes ids go on after a restart.
    ids: RefCell<Option<Ids>>,
    date: RefCell<DateCache>,
}

/// Connections that have a request to answer, or an answer on its way.
#[derive(Debug, Default)]
pub(super) struct Busy {
    count: Cell<usize>,
    /// Tells that there is none.
    pub(super) none: Notify,
}

impl Busy {
    /// A connection has got a request.
    pub(super) fn begin(&self) {
        self.count.set(self.count.get() + 1);
    }

    /// It has been answered, or its client has gone.
    pub(super) fn end(&self) {
        self.count.set(self.count.get() - 1);
        if self.is_none() {
            self.none.notify();
        }
    }

    /// Whether there is none.
    pub(super) fn is_none(&self) -> bool {
        self.count.get() == 0
    }
}

/// Descriptors that are kept for accepting connections and refusing them.
const FDS_RESERVED: u64 = 16;

/// Descriptors that are kept for what those ask for who are let in, at least.
const FDS_KEPT_MIN: u64 = 24;

/// One in so many descriptors is kept for them.
const FDS_PER_KEPT: u64 = 4;

/// One in so many descriptors may be an output that outlives its process.
const FDS_PER_LATE_OUTPUT: u64 = 4;

impl Options {
    /// [`Options::fds_reserved_from`] for a limit of `nofile` descriptors (RLIMIT_NOFILE); None is
    /// no limit.
    pub(crate) fn reserve_fds(nofile: Option<u64>) -> i32 {
        let from = nofile.map(|nofile| nofile.saturating_sub(FDS_RESERVED));
        from.and_then(|from| i32::try_from(from).ok())
            .unwrap_or(i32::MAX)
    }

    /// [`Options::fds_few_from`] for a limit of `nofile` descriptors.
    pub(crate) fn fds_few_from(nofile: Option<u64>) -> i32 {
        let kept = |nofile: u64| FDS_KEPT_MIN.max(nofile / FDS_PER_KEPT);
        let from = nofile.map(|nofile| nofile.saturating_sub(kept(nofile)));
        from.and_then(|from| i32::try_from(from).ok())
            .unwrap_or(i32::MAX)
    }

    /// [`Options::late_outputs_max`] for a limit of `nofile` descriptors.
    pub(crate) fn late_outputs_max(nofile: Option<u64>) -> usize {
        let max = nofile.map(|nofile| nofile / FDS_PER_LATE_OUTPUT);
        max.and_then(|max| usize::try_from(max).ok())
            .unwrap_or(usize::MAX)
    }
}

impl Server {
    /// A server without connections.
    pub(crate) fn new(
        options: Options,
        info: ServerInfo,
        table: Table,
        supervisor: Sender<Inbox>,
        ids: Option<Ids>,
        (journal, audit): (Journal, Option<Audit>),
        load: Load,
    ) -> Rc<Self> {
        let late_outputs = LateOutputs::new(options.late_outputs_max);
        let runs = Runs::new(options.runs);
        let repeats = repeats::Store::new(&table);
        let rules = RefCell::new(Rc::new(options.rules.clone()));
        let end_max = Cell::new(options.end_max);
        let connections_max = Cell::new(options.connections_max);
        let reloads = Reloads::new(load, options.given.clone());
        let settings = Cell::new(options.settings);
        // The server before may have died on its way to its end.
        let upgrades = options.upgrades.as_ref();
        let ends = upgrades.is_some_and(|of| of.kept.records.ending_since().is_some());
        let server = Rc::new_cyclic(|me| Self {
            me: me.clone(),
            options,
            settings,
            info: RefCell::new(info),
            groups_known: Notify::default(),
            budget: table.budget().clone(),
            runs,
            table: RefCell::new(table),
            late_outputs: RefCell::new(late_outputs),
            children: RefCell::new(HashMap::new()),
            creates: RefCell::new(HashMap::new()),
            begun: RefCell::default(),
            repeats,
            shutting_down: Cell::new(ends),
            ending: Notify::default(),
            all_gone: Cell::new(false),
            searches: Lane::default(),
            messages: Lane::default(),
            screens: Screens::default(),
            ports: Ports::default(),
            large_pipes: Cell::new(0),
            connections: Cell::new(0),
            metrics_connections: Cell::new(0),
            strangers: Default::default(),
            answers: Answers::default(),
            busy: Busy::default(),
            scratch: RefCell::new(Vec::new()),
            trim_pending: Cell::new(false),
            signals: Asked::default(),
            counts: Counts::default(),
            watchdog: Watchdog::default(),
            rules,
            end_max,
            connections_max,
            reloads,
            audit,
            telling: Telling::new(journal),
            upgrading: Cell::new(false),
            holds: Cell::new(false),
            leaves: Cell::new(false),
            held: Notify::default(),
            stills: Cell::new(false),
            gate: Rc::default(),
            input_queues: RefCell::default(),
            web_sockets: Cell::new(0),
            standing: RefCell::default(),
            supervisor,
            ids: RefCell::new(ids),
            date: RefCell::new(DateCache::default()),
        });
        let me = server.me.clone();
        let before_loss = move |process: &Process, arena: &Arena, going| {
            if let Some(server) = me.upgrade() {
                before_eviction(&server, process, arena, going);
            }
        };
        server.table.borrow_mut().before_loss(before_loss);
        server
    }

    /// Where a job is written down, if there is a keeper.
    pub(super) fn record_of(&self, job: JobId) -> Option<RecordId> {
        self.table.borrow().job(job)?.record
    }

    /// Other limits hold from now on.
    pub(super) fn change_settings(&self, settings: Settings) {
        self.settings.set(settings);
        if let Some(kept) = self.table.borrow().kept() {
            kept.records().set_settings(settings.numbers());
        }
    }

    /// Asks the supervisor for something.
    pub(crate) fn command(&self, command: Command) {
        match command {
            // Not worth a wake-up: it only frees memory.
            Command::Forget { .. } | Command::RunIsOver { .. } => {
                self.supervisor.send_quietly(Inbox::Command(command))
            }
            command => self.supervisor.send(Inbox::Command(command)),
        }
    }

    /// Whether a descriptor may be used for work that a client asked for.
    pub(super) fn may_use(&self, fd: &impl AsRawFd) -> bool {
        fd.as_raw_fd() < self.options.fds_reserved_from
    }

    /// Calls `f` with the `date` of now.
    pub(crate) fn with_date<T>(&self, f: impl FnOnce(&str) -> T) -> T {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        f(self.date.borrow_mut().at(now.as_secs()))
    }

    /// Our ends of a managed process, while it runs.
    pub(super) fn input(&self, id: ProcessId) -> Option<Rc<Input>> {
        let job = self.table.borrow().get(id)?.job;
        self.children.borrow().get(&job)?.input.clone()
    }

    /// How much input of a job went the way that is open, in bytes.
    pub(super) fn accepted_input(&self, job: JobId) -> u64 {
        let children = self.children.borrow();
        let input = children.get(&job).and_then(|child| child.input.as_ref());
        input.map_or(0, |input| input.accepted())
    }

    /// How many outputs of a job may be written to.
    pub(super) fn outputs_of(&self, job: JobId) -> u8 {
        let children = self.children.borrow();
        let outputs = children.get(&job).map_or(0, |child| child.outputs.len());
        u8::try_from(outputs).unwrap_or(u8::MAX)
    }

    /// To be asked before an id that was taken is told to anybody: makes sure that the next
    /// server will not give it again (`--state-dir`).
    ///
    /// # Errors
    /// 503 when that cannot be written down.
    pub(crate) fn cover_ids(&self) -> Result<(), Problem> {
        let mut ids = self.ids.borrow_mut();
        let Some(ids) = ids.as_mut() else {
            return Ok(());
        };
        let last = self.table.borrow().last_id();
        ids.cover(last).map_err(|error| {
            let path = ids.path().display();
            Problem::unavailable(
                format!("process ids cannot be noted in {path}: {error}"),
                Some("state_dir"),
            )
        })
    }

    /// The last word of a server that ends in order.
    pub(crate) fn end_ids(&self) {
        if let Some(ids) = self.ids.take() {
            ids.end(self.table.borrow().last_id());
        }
    }

    /// Forgets the descriptors of a removed record. What is left of its tree lives on.
    pub(crate) fn forget(&self, job: JobId) {
        self.children.borrow_mut().remove(&job);
        self.command(Command::Forget { job });
    }
}
