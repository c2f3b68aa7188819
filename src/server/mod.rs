//! One server from its configuration: the command line and tests start it here.
//!
//! In: [`ServerArgs`], the environment. Out: [`Ready`], which listens and serves when it is run;
//! the first lines of its log; a [`StartError`] that says what is in the way. Joins the rooms
//! and knows nothing of what they do.
//!
//! A server takes its process over: every signal is blocked, SIGTERM and its like end the server,
//! orphans become children of the process, and descriptors become close-on-exec. So a process
//! starts one server only, from its first thread and before there are others.

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::fmt::{self, Display};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, geteuid, getrlimit};

use crate::api::cors::Cors;
use crate::api::guard::{Exposed, Guard};
use crate::api::limits::LimitRules;
use crate::api::server_info::ServerInfo;
use crate::api::user::UserRules;
use crate::budget::{self, Budget};
use crate::config::flags::{
    self, BackendChoice, CgroupChoice, ConfigError, Invocation, ServerArgs, UsageError,
};
use crate::config::load::load;
use crate::config::{Settings, timeouts};
use crate::io::RunBounds;
use crate::io::ids::Ids;
use crate::io::reload::{Load, Loaded};
use crate::io::rules::Rules;
use crate::io::runtime::backend::{self, Backend, Built};
use crate::io::runtime::meter;
use crate::io::server::{Options, Server};
use crate::io::upgrade::Upgrades;
use crate::io::{Kind, ListenError, Listening};
use crate::journal::{Audit, Event as Told, Journal, Start};
use crate::ledger::heritage::{Groups as HandedGroups, STATE, Socket};
#[cfg(debug_assertions)]
use crate::ledger::variant;
use crate::ledger::{Heritage, Records};
use crate::log::{Arena, ArenaError};
use crate::notice;
use crate::process::{self, Table};
use crate::sd_notify::Manager;
use crate::supervisor::cgroup::{CgroupError, Cgroups, IfHiding};
use crate::supervisor::keeper::{self, Kept};
use crate::supervisor::living::Living;
use crate::supervisor::mailbox::{Receiver, Sender};
use crate::supervisor::message::Event;
use crate::supervisor::signals::{self, Hangup};
use crate::supervisor::spawn::environment::Environment;
use crate::supervisor::spawn::inherit::{self, Inheritance};
use crate::supervisor::spawn::{pty, rlimits, user};
use crate::supervisor::state_dir::StateDir;
use crate::supervisor::{self, Groups, Inbox, Supervisor};
use crate::token::{self, Found, Tokens};
use crate::types::{UnixMs, Who};
use crate::wire::http::head::HeadLimits;

/// Children that have a cgroup of their own at the same time; more are swept for.
const CGROUPS_MAX: usize = 4096;

/// Clients may make the server hold this part of the memory that there is: the rest is for
/// processes, for what the kernel holds for both, and for what the heap takes besides.
const MEMORY_PART: u64 = 8;

/// And no less, however little there is.
const MEMORY_MIN: u64 = 1 << 20;

/// With fewer (RLIMIT_NOFILE) the server itself has none left for clients and children.
const DESCRIPTORS_MIN: u64 = 64;

/// Why a server did not start, or not serve to its end.
#[derive(Debug)]
pub enum StartError {
    /// What was asked for cannot be.
    Usage(UsageError),
    /// io_uring was demanded and is not available.
    Uring(io::Error),
    /// There is no usable token where one was named; a sentence of `token`.
    Token(String),
    /// Nobody knows who is to be let in; the name and why.
    UnixUser(String),
    /// The address is not to be had.
    Listen(ListenError),
    /// So few descriptors are allowed that nobody could be answered.
    Descriptors(u64),
    /// No descriptor is allowed any more, and with that poll(2) waits for none.
    NothingToWaitWith,
    /// There is no memory for logs.
    Arena(ArenaError),
    /// Groups were demanded and are not to be had.
    Cgroups(CgroupError),
    /// What the configuration file says cannot be.
    Config(ConfigError),
    /// The audit log cannot be written.
    Audit {
        /// Which file.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The directory for the next server cannot be used.
    StateDir {
        /// Which one.
        dir: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A step that nothing on the command line asks for has failed.
    Step {
        /// Which one.
        what: &'static str,
        /// Why.
        error: io::Error,
    },
}

impl StartError {
    /// What the process exits with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Config(_) => 2,
            // EX_CONFIG (sysexits.h(3head)).
            Self::Uring(_) => 78,
            _ => 1,
        }
    }
}

impl Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(error) => write!(f, "{error}\nTry `procring --help`."),
            Self::Uring(error) => write!(
                f,
                "--io-backend uring: io_uring is not available: {error}; likely a seccomp profile or \
                 kernel.io_uring_disabled; --io-backend auto falls back to epoll"
            ),
            Self::Config(error) => error.fmt(f),
            Self::Audit { file, error } => write!(f, "--audit-log {}: {error}", file.display()),
            Self::Token(sentence) => f.write_str(sentence),
            Self::UnixUser(who) => write!(f, "--unix-allow-uid {who}"),
            Self::Listen(error) => error.fmt(f),
            Self::Descriptors(few) => write!(
                f,
                "at most {few} descriptors may be open (RLIMIT_NOFILE); {DESCRIPTORS_MIN} are \
                 needed, and three more for each running process: raise the hard limit (ulimit -Hn)"
            ),
            Self::Arena(error) => error.fmt(f),
            Self::Cgroups(error) => write!(f, "--cgroup on: {error}"),
            Self::StateDir { dir, error } => write!(f, "--state-dir {}: {error}", dir.display()),
            Self::NothingToWaitWith => f.write_str(
                "the limit of descriptors (RLIMIT_NOFILE) was set to 0 from outside, so that nothing \
                 can be waited for, and the server ends: leave it at 64 at least (prlimit --nofile)",
            ),
            Self::Step { what, error } => write!(f, "{what}: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<UsageError> for StartError {
    fn from(error: UsageError) -> Self {
        Self::Usage(error)
    }
}

impl From<ConfigError> for StartError {
    fn from(error: ConfigError) -> Self {
        match error {
            ConfigError::Usage(error) => Self::Usage(error),
            error @ ConfigError::File(_) => Self::Config(error),
        }
    }
}

/// The failure of a step.
fn step(what: &'static str) -> impl Fn(io::Error) -> StartError {
    move |error| StartError::Step { what, error }
}

/// The failure of a directory.
fn unusable(dir: &Path) -> impl Fn(io::Error) -> StartError {
    move |error| StartError::StateDir {
        dir: dir.to_owned(),
        error,
    }
}

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

/// What does not work here: told when the log begins, and to whoever asks later.
struct Missing<'a> {
    journal: &'a Journal,
    info: &'a mut ServerInfo,
}

impl Missing<'_> {
    fn warn(&mut self, sentence: String) {
        // A server that goes on would say it again.
        if !self.info.goes_on {
            self.journal.tell(&Told::Warning(&sentence));
        }
        self.info.missing.push(sentence);
    }
}

/// Starts a server: see the module for what that does to the process.
///
/// # Errors
/// What is in the way.
pub fn start(args: &ServerArgs) -> Result<Ready, StartError> {
    begin(args, None)
}

/// A program is asked to take over, or whether it could.
#[derive(Debug)]
pub struct Asked {
    fd: RawFd,
    /// Only whether it could.
    pub is_check: bool,
}

/// Follows [`keeper::HERITAGE`] where a program is asked whether it could take over.
const CHECK: &str = "--check";

/// What it says then.
pub const TAKES_OVER: &str = concat!(
    "procring ",
    env!("CARGO_PKG_VERSION"),
    " with all runs takes over\n"
);

/// Whether these arguments, without the program's name, are not a user's but a keeper's.
pub fn heritage_asked(args: &[OsString]) -> Option<Asked> {
    let [command, heritage, rest @ ..] = args else {
        return None;
    };
    let fd = heritage.to_str()?.strip_prefix(keeper::HERITAGE)?;
    let fd = fd.parse().ok().filter(|_| command == "server")?;
    match rest {
        [] => Some(Asked {
            fd,
            is_check: false,
        }),
        [check] if check == CHECK => Some(Asked { fd, is_check: true }),
        _ => None,
    }
}

/// What is handed over, and the configuration with which the server was started.
///
/// # Errors
/// Why this program cannot go on with that, in a sentence.
pub fn heritage(asked: Asked) -> Result<(Heritage, ServerArgs), String> {
    let fd = match asked.fd {
        0 => rustix::io::dup(rustix::stdio::stdin()).ok(),
        fd => keeper::owned(fd),
    };
    let heritage = Heritage::read(fd.ok_or("nothing is handed over")?)?;
    let arguments = heritage.arguments.iter().cloned().map(OsString::from_vec);
    let token = heritage.token.clone().map(OsString::from_vec);
    let token = token.map(|token| (OsString::from(token::VARIABLE), token));
    let others = std::env::vars_os().filter(|(name, _)| name != token::VARIABLE);
    match flags::parse(arguments, others.chain(token)) {
        Ok(Invocation::Server(args)) => {
            let args = load(&args).map_err(|error| error.sentence())?;
            Ok((heritage, args))
        }
        Ok(_) => Err("what was handed over is no server's".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Goes on with what another program has kept in this process. If this one cannot, or panics before
/// there is a server, that program goes on.
///
/// # Errors
/// What is in the way, if that program cannot go on either.
pub fn take_over(args: &ServerArgs, mut heritage: Heritage) -> Result<Ready, StartError> {
    // It was begun by the number of a descriptor, and is called so.
    let _ = rustix::thread::set_name(c"procring");
    go_back_on_panic(heritage.clone());
    #[cfg(debug_assertions)]
    variant::fail_at_once();
    let ready = begin(args, Some(&mut heritage));
    // In a server, or where there is to be none.
    drop(std::panic::take_hook());
    if let Err(error) = &ready {
        keeper::go_back(&heritage, error.to_string(), |line| notice::line(line));
    }
    ready
}

fn go_back_on_panic(heritage: Heritage) {
    let own = std::process::id();
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        // A server is another process.
        if std::process::id() == own {
            let why = "it panicked before it had a server".to_owned();
            keeper::go_back(&heritage, why, |line| notice::line(line));
        }
    }));
}

fn begin(args: &ServerArgs, mut inherited: Option<&mut Heritage>) -> Result<Ready, StartError> {
    let heritage = inherited.as_deref();
    let listen_fds = match heritage {
        None => inherit::listen_fds(),
        Some(_) => Vec::new(),
    };
    // Two would write to one memory.
    heritage.into_iter().for_each(keeper::end_predecessor);
    let Found { tokens, exposed } = token::find(args).map_err(StartError::Token)?;
    flags::check_open(args, !tokens.is_empty())?;
    flags::check_keep(args)?;

    flags::check_user(args, user::may_change())?;
    let (journal, unwritten) = Journal::new(args.log_level, args.log_format);
    let mut info = ServerInfo {
        started_at: heritage.map_or_else(UnixMs::now, |of| UnixMs(of.started_at)),
        users: user::may_change(),
        of_all: args.default_limits.or(&args.max_limits),
        goes_on: heritage.is_some(),
        ..ServerInfo::default()
    };
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
    let nofile = heritage.map(|heritage| heritage.nofile);
    let inheritance = Inheritance::prepare(nofile).map_err(|error| {
        match getrlimit(Resource::Nofile).current {
            Some(few @ ..DESCRIPTORS_MIN) => StartError::Descriptors(few),
            _ => step("standard descriptors")(error),
        }
    })?;
    // A server that listens and can answer nobody is worse than none.
    if let Some(few @ ..DESCRIPTORS_MIN) = getrlimit(Resource::Nofile).current {
        return Err(StartError::Descriptors(few));
    }
    let listening = match heritage {
        None => open_all(args, listen_fds)?,
        Some(heritage) => open_again(heritage)?,
    };
    Places::of(&listening).check(args, !tokens.is_empty())?;
    let arena = match heritage {
        None => Arena::new(),
        Some(heritage) => Arena::again(handed(heritage.log)?, handed(heritage.index)?),
    };
    let arena = arena.map_err(StartError::Arena)?;
    let memory = arena.numbers();
    let mut table = Table::new(arena, args.exited_max, args.leftovers_max);
    table.count_in(Budget::new(memory_max(args)));
    let living = Living::begin().map_err(step("lock of a living server"))?;
    let (mut groups, state) = match heritage.and_then(|heritage| heritage.groups.as_ref()) {
        None => groups_and_state(args, &mut missing)?,
        Some(handed) => (groups_again(handed), None),
    };
    let mut upgrades = None;
    let kept = match args.keep {
        false => None,
        // From here on this is one of possibly many servers.
        true => Some(keep(&mut groups, &journal, inherited.as_deref_mut())?),
    };
    let takes_over = kept.as_ref().is_some_and(|kept| kept.takes_over);
    let taken = inherited.as_deref_mut().filter(|_| takes_over);
    let taken = taken.map(Heritage::take);
    let heritage = inherited.as_deref();
    if let Some(kept) = &kept {
        missing.info.keeper = Some(kept.pid());
        missing.info.goes_on = kept.goes_on;
        table.keep(process::Kept::new(kept.records.clone()));
        upgrades = Some(Upgrades {
            kept: kept.clone(),
            heritage: Heritage {
                state: STATE,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                arguments: args
                    .given
                    .words()
                    .into_iter()
                    .map(OsString::into_vec)
                    .collect(),
                token: args.given.token_variable().map(|of| of.as_bytes().to_vec()),
                nofile: inheritance.nofile,
                started_at: missing.info.started_at.0,
                records: kept.records.number(),
                log: memory[0],
                index: memory[1],
                bell: kept.bell(),
                sockets: listening.iter().map(Listening::hand_over).collect(),
                groups: match &groups {
                    Groups::Made(groups) => Some(groups.hand_over()),
                    Groups::None(_) | Groups::AtBegin { .. } => None,
                },
                upgrades: heritage.map_or(0, |of| of.upgrades + u64::from(of.failed.is_none())),
                ..Heritage::default()
            },
            taken: RefCell::new(taken),
            program: own_program(),
        });
    }
    let goes_on = kept.as_ref().is_some_and(|kept| kept.goes_on);
    let changed = kept.as_ref().and_then(|kept| kept.records.settings());
    let settings = changed.map_or(args.settings, Settings::from_numbers);
    if goes_on {
        table.go_on(settings.max_log_bytes_per_process);
    }
    // The first other thread: what was set for the process meanwhile is as it was.
    unwritten.begin(goes_on).map_err(step("log"))?;
    let audit = args.audit_log.as_deref().map(|file| {
        Audit::begin(file, journal.clone()).map_err(|error| StartError::Audit {
            file: file.to_owned(),
            error,
        })
    });
    let audit = audit.transpose()?;
    let load = loader(args, &listening);
    let open = tokens.is_empty();
    let main = kept.as_ref().map_or_else(std::process::id, Kept::pid);
    let manager = manager(&listening, main, &mut missing);
    let options = options(args, unix_users(args)?, tokens, &listening, manager);
    if let Some(error) = exposed {
        let sentence = format!(
            "the token can be read in /proc/{}/cmdline or environ, because it cannot be \
             overwritten there: {error}; --token-file keeps it out of both",
            std::process::id()
        );
        missing.warn(sentence);
    }
    if !missing.info.users {
        let sentence = "children of another user cannot be had: that needs CAP_SETUID, \
                        CAP_SETGID, CAP_CHOWN and CAP_KILL, as root has";
        missing.warn(sentence.to_owned());
    }
    if !pty::are_there() {
        let sentence = "no terminals: they need /dev/ptmx (or /dev/pts/ptmx) and a devpts mounted \
                        on /dev/pts";
        missing.warn(sentence.to_owned());
    }
    let built = backend::build(args.backend).map_err(|error| match args.backend {
        BackendChoice::Uring => StartError::Uring(error),
        BackendChoice::Auto | BackendChoice::Epoll => step("I/O backend")(error),
    })?;
    if !goes_on {
        tell_start(args, built.backend, &journal);
    }
    let ids = args
        .state_dir
        .as_deref()
        .map(|dir| Ids::open(dir).map_err(unusable(dir)));
    let ids = ids.transpose()?.map(|(ids, last)| {
        table.begin_behind(last);
        ids
    });
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
    let (supervisor, commands, events) =
        Supervisor::new(child_options).map_err(step("supervisor"))?;
    thread::Builder::new()
        .name("supervisor".to_owned())
        .stack_size(256 << 10)
        .spawn(|| supervisor.run(groups))
        .map_err(step("supervisor"))?;
    missing.info.uring = built.backend != Backend::Epoll;
    if let Some(error) = &built.denied {
        let sentence = format!(
            "io_uring is not available: {error}; likely a seccomp profile or \
             kernel.io_uring_disabled; using epoll"
        );
        match goes_on {
            false => missing.warn(sentence),
            true => missing.info.missing.push(sentence),
        }
    }
    for one in listening.iter().filter(|_| !goes_on) {
        let access = match one.kind() {
            _ if one.is_for_metrics() => "metrics, no token",
            Kind::Tcp(_) if open => "no token",
            Kind::Unix if !args.unix_token => "by user",
            Kind::Tcp(_) | Kind::Unix => "token required",
            // Its starter knows.
            Kind::Starter => continue,
        };
        journal.tell(&Told::Listening {
            address: one.name(),
            access,
            backend: &built.backend.to_string(),
        });
    }
    if cfg!(feature = "console") && !args.no_console && !goes_on {
        tell_console(args, &listening, &journal);
    }
    let options = Options {
        upgrades,
        ..options
    };
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

/// Where this program is, also if it has been replaced there.
fn own_program() -> io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    let bytes = path.as_os_str().as_bytes();
    // proc_pid_exe(5)
    Ok(match bytes.strip_suffix(b" (deleted)") {
        Some(path) => OsStr::from_bytes(path).into(),
        None => path,
    })
}

/// Begins to keep; comes back in the server.
fn keep(
    groups: &mut Groups,
    journal: &Journal,
    heritage: Option<&mut Heritage>,
) -> Result<Kept, StartError> {
    if !Path::new("/proc/self/stat").exists() {
        let why = "it needs /proc: without it nobody is found who lost his parents";
        return Err(step("--keep")(io::Error::other(why)));
    }
    let records = match &heritage {
        None => Records::new(),
        Some(heritage) => Records::again(handed(heritage.records)?),
    };
    let records = records.map_err(step("--keep: memory for records"))?;
    if let Groups::Made(groups) = groups {
        groups.rest();
    }
    let last = || {
        if let Groups::Made(groups) = groups {
            groups.remove_all();
        }
    };
    // The keeper has no thread to write.
    let say = |sentence: &str| journal.tell_at_once(&Told::Warning(sentence));
    keeper::keep(&Arc::new(records), heritage, say, last).map_err(step("--keep"))
}

/// A descriptor that another program has left to this one.
fn handed(fd: RawFd) -> Result<OwnedFd, StartError> {
    let missing = || io::Error::new(io::ErrorKind::NotFound, format!("no descriptor {fd}"));
    keeper::handed_over(fd).ok_or_else(|| step("what was handed over")(missing()))
}

/// Goes on with the sockets of another program.
fn open_again(heritage: &Heritage) -> Result<Vec<Listening>, StartError> {
    let again =
        |about: &Socket| Listening::again(handed(about.fd)?, about).map_err(StartError::Listen);
    heritage.sockets.iter().map(again).collect()
}

/// Goes on with the groups of another program, whatever `--cgroup` says now.
fn groups_again(about: &HandedGroups) -> Groups {
    let path = PathBuf::from(OsString::from_vec(about.path.clone()));
    let why = match keeper::handed_over(about.dir) {
        None => "its directory was not handed over".to_owned(),
        Some(dir) => match Cgroups::again(dir, path, groups_max()) {
            Ok(groups) => return Groups::Made(Box::new(groups)),
            Err(error) => error.to_string(),
        },
    };
    Groups::None(why)
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

/// Bytes that clients may make the server hold.
fn memory_max(args: &ServerArgs) -> u64 {
    let usual = || budget::host::memory() / MEMORY_PART;
    args.memory_max.unwrap_or_else(usual).max(MEMORY_MIN)
}

/// Where connections come from.
struct Places {
    for_metrics: Vec<Kind>,
    others: Vec<Kind>,
}

impl Places {
    fn of(listening: &[Listening]) -> Self {
        let of = |for_metrics: bool| {
            let such = listening
                .iter()
                .filter(|one| one.is_for_metrics() == for_metrics);
            such.map(Listening::kind).collect()
        };
        Self {
            for_metrics: of(true),
            others: of(false),
        }
    }

    /// Addresses where commands can be run. Where there are metrics only, nobody runs any.
    fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.others.iter().filter_map(|kind| match kind {
            Kind::Tcp(address) => Some(*address),
            Kind::Unix | Kind::Starter => None,
        })
    }

    /// Refuses an open server where others can reach it.
    fn check(&self, args: &ServerArgs, has_token: bool) -> Result<(), UsageError> {
        let mut addresses = self.addresses();
        addresses.try_for_each(|address| flags::check_bound(args, has_token, address))
    }
}

/// Whether only this machine can reach them.
fn are_near(kinds: &[Kind]) -> bool {
    kinds.iter().all(|kind| match kind {
        Kind::Tcp(address) => address.ip().is_loopback(),
        Kind::Unix | Kind::Starter => true,
    })
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

/// Reads the configuration again for a server that listens there.
fn loader(args: &ServerArgs, listening: &[Listening]) -> Load {
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
    flags::check_open(args, !tokens.is_empty())?;
    flags::check_keep(args)?;
    flags::check_user(args, user::may_change())?;
    Ok((tokens, unix_users(args)?))
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

/// What the I/O thread is to keep to.
fn options(
    args: &ServerArgs,
    unix_users: Vec<u32>,
    tokens: Tokens,
    listening: &[Listening],
    manager: Manager,
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
        upgrades: None,
    }
}

/// The numbers of those who are let in over unix sockets. A number needs no file.
fn unix_users(args: &ServerArgs) -> Result<Vec<u32>, StartError> {
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

/// Whoever started the server as a service. One that serves its starter only is part of what that
/// does, and not the service.
fn manager(listening: &[Listening], main: u32, missing: &mut Missing<'_>) -> Manager {
    if listening.iter().all(|one| one.kind() == Kind::Starter) {
        return Manager::default();
    }
    Manager::from_environment(main).unwrap_or_else(|error| {
        missing.warn(error.to_string());
        Manager::default()
    })
}

/// Where the page for people is, where a browser can go.
fn tell_console(args: &ServerArgs, listening: &[Listening], journal: &Journal) {
    let Some(address) = Places::of(listening).addresses().next() else {
        return;
    };
    // Every address: the one that a browser of this machine can go to.
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    let address = SocketAddr::new(ip, address.port());
    let base = &args.base_path;
    let sentence = format!("console at http://{address}{base}/console/");
    journal.tell(&Told::Told(&sentence));
}

/// Descriptors of a managed process, and of a connection, at most.
const DESCRIPTORS_PER_PROCESS: u64 = 3;

/// Tells of the start: what there is, and what the limits would need if all of them were reached.
fn tell_start(args: &ServerArgs, backend: Backend, journal: &Journal) {
    let settings = &args.settings;
    let connections = u64::try_from(args.connections_max).unwrap_or(u64::MAX);
    let processes = settings.max_concurrent_processes;
    let of_processes = processes.saturating_mul(DESCRIPTORS_PER_PROCESS);
    let start = Start {
        backend: &backend.to_string(),
        descriptors: getrlimit(Resource::Nofile).current,
        descriptors_wanted: connections.saturating_add(of_processes),
        memory: budget::host::memory(),
        logs_wanted: processes.saturating_mul(settings.max_log_bytes_per_process),
        config: args.config.as_deref().and_then(Path::to_str),
    };
    journal.tell(&Told::Start(start.clone()));
    if let Some(max) = start.descriptors
        && max < start.descriptors_wanted
    {
        journal.tell(&Told::Warning(&format!(
            "{max} descriptors may be open (RLIMIT_NOFILE), and --max-connections and \
             maxConcurrentProcesses together would need {}: what is beyond is refused with 503",
            start.descriptors_wanted
        )));
    }
    if start.memory < start.logs_wanted {
        journal.tell(&Told::Warning(&format!(
            "there are {} bytes of memory, and maxConcurrentProcesses times \
             maxLogBytesPerProcess would need {} for logs alone",
            start.memory, start.logs_wanted
        )));
    }
}

/// Groups at the same time.
fn groups_max() -> usize {
    // Two descriptors each: an eighth of them at most.
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(descriptors / 16).map_or(CGROUPS_MAX, |n| n.min(CGROUPS_MAX))
}

/// Groups for children, as far as they are wanted and to be had, and the record of both.
fn groups_and_state(
    args: &ServerArgs,
    missing: &mut Missing<'_>,
) -> Result<(Groups, Option<StateDir>), StartError> {
    let open_max = groups_max();
    let cgroups = match (args.cgroup, &args.state_dir) {
        (CgroupChoice::Off, _) => Err("--cgroup off".to_owned()),
        (CgroupChoice::On, _) => {
            let made = Cgroups::new(open_max, IfHiding::Accept);
            let made = made.map_err(StartError::Cgroups)?;
            if let Some(hidden) = made.hidden() {
                missing.warn(format!("--cgroup on hides {hidden}"));
            }
            Ok(made)
        }
        (CgroupChoice::Auto, None) if !args.keep => {
            return Ok((Groups::AtBegin { open_max }, None));
        }
        // The record names them, or they are for servers to come, too.
        (CgroupChoice::Auto, _) => {
            Cgroups::new(open_max, IfHiding::Refuse).map_err(|error| error.to_string())
        }
    };
    let state = args.state_dir.as_deref();
    let state = state.map(|dir| state_dir(dir, cgroups.as_ref().ok(), missing));
    let groups = match cgroups {
        Ok(made) => Groups::Made(Box::new(made)),
        Err(why) => Groups::None(why),
    };
    Ok((groups, state.transpose()?))
}

/// Ends what a killed server left behind, and begins the record for the next one.
fn state_dir(
    dir: &Path,
    cgroups: Option<&Cgroups>,
    missing: &mut Missing<'_>,
) -> Result<StateDir, StartError> {
    let groups = cgroups.map(Cgroups::path);
    let (state, ended) = StateDir::open(dir, groups.as_deref()).map_err(unusable(dir))?;
    if ended > 0 {
        let sentence = format!("ended {ended} processes that a killed server left behind");
        missing.journal.tell(&Told::Told(&sentence));
    }
    if !Path::new("/proc/self/stat").exists() {
        let sentence = "--state-dir: without /proc nobody that this server leaves when it is \
                        killed can be told from others, so the next one ends nobody";
        missing.warn(sentence.to_owned());
    }
    Ok(state)
}

/// Opens every socket that is asked for.
fn open_all(args: &ServerArgs, mut inherited: Vec<OwnedFd>) -> Result<Vec<Listening>, StartError> {
    let mut all = Vec::new();
    for listen in args.listen() {
        let opened = crate::io::open(&listen, args.unix_mode, &mut inherited);
        all.extend(opened.map_err(StartError::Listen)?);
    }
    if let Some(listen) = &args.metrics_listen {
        let opened = crate::io::open(listen, args.unix_mode, &mut Vec::new());
        let opened = opened.map_err(StartError::Listen)?;
        all.extend(opened.into_iter().map(Listening::for_metrics));
    }
    Ok(all)
}

/// The environment of children: this process's own, without the tokens.
fn base_env(tokens: &Tokens) -> Environment {
    let is_token = |value: &OsStr| tokens.all().any(|token| value == token);
    let is_theirs =
        |(name, value): &(OsString, OsString)| !flags::is_variable(name) && !is_token(value);
    Environment::new(std::env::vars_os().filter(is_theirs))
}
