//! Starts a managed process: descriptors, spawn, and the answer once it runs.

use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};

use crate::api::limits::unavailable;
use crate::api::{Launch, Problem, Reply};
use crate::config::timeouts;
use crate::ledger::records::End;
use crate::metrics::Kind;
use crate::process::terminal::Terminal;
use crate::supervisor::message::Command;
use crate::supervisor::spawn::environment::Environment;
use crate::supervisor::spawn::pty;
use crate::supervisor::spawn::spec::{SpawnSpec, Stdio};
use crate::types::{JobId, Monotonic, SpawnError, SpawnStage, Stdin, Stream, WindowSize};

use crate::io::host::input::Input;
use crate::io::host::paced::limit_rate;
use crate::io::host::resume::named;
use crate::io::host::tally;
use crate::io::runtime::source::Source;
use crate::io::server::{Child, Create, Server};
use crate::io::wait::{Client, Limits, Waited, for_client, until};

/// What a terminal program gets as TERM unless somebody says otherwise; also every run.
pub(crate) const TERM: &str = "xterm-256color";

/// The child's ends and ours.
struct Ends {
    stdio: Stdio,
    child: Child,
}

/// Starts the process that has been reserved as `job`; None if the client is gone. The process is
/// started all the same: its end is not the client's.
pub(crate) async fn create(
    server: &Rc<Server>,
    job: JobId,
    launch: Launch,
    terminal: Option<WindowSize>,
    deadline: Option<Duration>,
    stdin: Stdin,
    client: &mut impl Client,
) -> Option<Reply> {
    let tty = terminal.is_some();
    if let Err(problem) = begin(server, job, &launch, terminal, deadline, stdin) {
        // Nobody has been asked to start it.
        server.table.borrow_mut().cancel(job);
        return Some(problem.reply());
    }
    // The supervisor's answer ends this, which may take as long as a dead mount.
    let started = until(|| match server.creates.borrow().get(&job) {
        Some(create) if create.result.is_none() => Err(create.done.clone()),
        _ => Ok(()),
    });
    let limits = Limits {
        in_all: None,
        half_closed: timeouts::HALF_CLOSED_MAX,
    };
    if for_client(pin!(started), limits, client).await != Waited::Done(()) {
        server.creates.borrow_mut().remove(&job);
        return None;
    }
    let create = server.creates.borrow_mut().remove(&job)?;
    create.result.map(|result| match result {
        Ok(record) => record,
        Err(error) => refusal(server, error, tty, &launch).reply(),
    })
}

fn begin(
    server: &Rc<Server>,
    job: JobId,
    launch: &Launch,
    terminal: Option<WindowSize>,
    deadline: Option<Duration>,
    stdin: Stdin,
) -> Result<(), Problem> {
    server.cover_ids()?;
    let tty = terminal.is_some();
    let Ends { stdio, child } = match terminal {
        Some(size) => {
            let ends = open_terminal(server, job, size)?;
            if let Some((process, _)) = server.table.borrow_mut().job_mut(job) {
                process.extras.make().terminal = Some(Box::new(Terminal::new(size)));
            }
            ends
        }
        None => open_pipes(server, job, stdin)?,
    };
    let term = tty.then_some(TermRule::IfMissing);
    let spec =
        spec(server, launch, stdio, term).map_err(|error| Problem::spawn(error, tty, launch))?;
    if let Some(rate) = launch.output_rate() {
        limit_rate(server, job, &child.outputs, rate);
    }
    server.children.borrow_mut().insert(job, Rc::new(child));
    server.creates.borrow_mut().insert(job, Create::default());
    tally::asked(Kind::Process);
    server.command(Command::Spawn {
        job,
        spec: Box::new(spec),
        deadline: None,
        announce: true,
        counted: true,
        record: server.record_of(job),
    });
    // One beyond the end of the clock never comes.
    if let Some(after) = deadline {
        let at = Monotonic::now() + after;
        server.command(Command::KillAt { job, at });
    }
    Ok(())
}

/// What there is to say of a start that has failed.
pub(crate) fn refusal(server: &Server, error: SpawnError, tty: bool, launch: &Launch) -> Problem {
    if error.stage == SpawnStage::Group {
        let (info, limits) = (server.info.borrow(), launch.limits.as_deref());
        if let Some(problem) = unavailable(limits, info.kept.as_ref()) {
            return problem;
        }
    }
    Problem::spawn(error, tty, launch)
}

/// Who decides what TERM is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TermRule {
    /// Set it unless the request has one, or the server one that says something.
    IfMissing,
    /// Set it unless the request has one.
    Always,
}

/// What to spawn, with the environment that the child gets.
///
/// # Errors
/// For a NUL byte anywhere, and when its descriptors cannot be another user's.
pub(crate) fn spec(
    server: &Server,
    launch: &Launch,
    stdio: Stdio,
    term: Option<TermRule>,
) -> Result<SpawnSpec, SpawnError> {
    let bare;
    let base = if launch.inherit_env {
        &server.options.base_env
    } else {
        bare = Arc::new(Environment::bare());
        &bare
    };
    let set_term = match term {
        None => false,
        Some(TermRule::Always) => true,
        // Both say that the server itself has no terminal.
        Some(TermRule::IfMissing) => base
            .value("TERM")
            .is_none_or(|term| term.is_empty() || term == "dumb"),
    } && !launch.env.iter().any(|(name, _)| name == "TERM");
    let asked = launch.env.iter().map(|(name, value)| (&**name, &**value));
    let own = asked
        .chain(set_term.then_some(("TERM", TERM)))
        .chain(login(launch));
    let cwd = launch.cwd.as_deref();
    let spec = SpawnSpec::new(&launch.command, &launch.args, base, own, cwd, stdio)?;
    let spec = spec.with_limits(launch.limits.clone());
    match &launch.user {
        None => Ok(spec),
        Some(account) => spec.with_user(&account.credentials),
    }
}

/// Variables that tell a child who it is, as login(1) sets them; those of the request go before.
fn login(launch: &Launch) -> impl Iterator<Item = (&str, &str)> {
    let account = launch.user.as_deref();
    let variables = account.into_iter().flat_map(|account| {
        [
            ("HOME", &*account.home),
            ("USER", &*account.name),
            ("LOGNAME", &*account.name),
            ("SHELL", &*account.shell),
        ]
    });
    variables.filter(|(name, _)| launch.env.iter().all(|(asked, _)| asked != name))
}

fn refused(what: &'static str) -> impl Fn(rustix::io::Errno) -> Problem {
    move |errno| Problem::resource(what, errno.raw_os_error())
}

/// An end of a job on the runtime, unless it is one of the last descriptors.
fn registered(server: &Server, job: JobId, end: End, fd: OwnedFd) -> Result<Rc<Source>, Problem> {
    Ok(Rc::new(named(server, job, end, source(server, fd)?)))
}

fn source(server: &Server, fd: OwnedFd) -> Result<Source, Problem> {
    server.make_room_for_descriptor(&fd);
    if !server.may_use(&fd) {
        return Err(Problem::resource(
            "no descriptor to spare (RLIMIT_NOFILE)",
            libc::EMFILE,
        ));
    }
    let errno = |error: std::io::Error| {
        Problem::resource("no descriptor", error.raw_os_error().unwrap_or(libc::EIO))
    };
    Source::new(fd).map_err(errno)
}

fn open_pipes(server: &Server, job: JobId, stdin: Stdin) -> Result<Ends, Problem> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(refused("no pipe for the process"));
    let open_stdin = match stdin {
        Stdin::Open => Some(pipe()?),
        Stdin::Closed => None,
    };
    let (stdout_read, stdout_write) = pipe()?;
    let (stderr_read, stderr_write) = pipe()?;
    let output = |stream, fd| {
        let source = registered(server, job, End::Output(stream), fd);
        source.map(|source| (stream, source))
    };
    let outputs = vec![
        output(Stream::Stdout, stdout_read)?,
        output(Stream::Stderr, stderr_read)?,
    ];
    let (stdio, input) = match open_stdin {
        None => {
            let fds = [stdout_write, stderr_write];
            (Stdio::Outputs(Box::new(fds)), Input::closed())
        }
        Some((stdin_read, stdin_write)) => {
            let fds = [stdin_read, stdout_write, stderr_write];
            let input = Input::pipe(registered(server, job, End::Input, stdin_write)?);
            (Stdio::Separate(Box::new(fds)), input)
        }
    };
    Ok(Ends {
        stdio,
        child: Child {
            outputs,
            input: Some(input),
        },
    })
}

fn open_terminal(server: &Rc<Server>, job: JobId, size: WindowSize) -> Result<Ends, Problem> {
    let (master, slave) =
        pty::open(size).map_err(|errno| Problem::no_terminal(errno.raw_os_error()))?;
    let end = End::Output(Stream::Pty);
    let master = named(server, job, end, source(server, master)?);
    let master = Rc::new(with_farewell(server, job, master));
    Ok(Ends {
        stdio: Stdio::Terminal(slave),
        child: Child {
            outputs: vec![(Stream::Pty, master.clone())],
            input: Some(Input::terminal_of(master)),
        },
    })
}

/// Its name is the next terminal's, so the supervisor closes it, when it knows.
pub(crate) fn with_farewell(server: &Rc<Server>, job: JobId, master: Source) -> Source {
    let of = Rc::downgrade(server);
    master.before_close(move |master| {
        if let Some(server) = of.upgrade() {
            server.command(Command::TerminalClosed { job, master });
        }
    })
}

/// The pipes of a run: ours, the child's three descriptors, and where its input goes if it has one.
///
/// # Errors
/// 503 when there is no descriptor left.
pub(crate) fn open_run_pipes(
    server: &Server,
    has_input: bool,
) -> Result<(Child, Stdio, Option<Source>), Problem> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(refused("no pipe for the run"));
    let (stdout_read, stdout_write) = pipe()?;
    let (stderr_read, stderr_write) = pipe()?;
    let (stdio, input) = match has_input {
        false => (Stdio::Outputs(Box::new([stdout_write, stderr_write])), None),
        true => {
            let (stdin_read, stdin_write) = pipe()?;
            let fds = [stdin_read, stdout_write, stderr_write];
            let input = source(server, stdin_write)?;
            (Stdio::Separate(Box::new(fds)), Some(input))
        }
    };
    let outputs = vec![
        (Stream::Stdout, Rc::new(source(server, stdout_read)?)),
        (Stream::Stderr, Rc::new(source(server, stderr_read)?)),
    ];
    let child = Child {
        outputs,
        input: None,
    };
    Ok((child, stdio, input))
}
