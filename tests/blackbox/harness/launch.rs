//! How a server is started: arguments, environment, and what happens before exec.
//!
//! Out: a `Server` that listens, or the exit code and output of a binary that ended.
//! Safety: reopens `unsafe` for the hook between fork and exec.

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::backend::{Backend, Denial, denial_errno};
use super::server::Server;
use super::{WAIT, eventually, procfs, skipped_anywhere};

/// The path of another server to test, from `PROCRING_TEST_BIN`.
pub(crate) fn foreign() -> Option<String> {
    std::env::var("PROCRING_TEST_BIN")
        .ok()
        .filter(|path| !path.is_empty())
}

/// How a server is started.
pub(crate) struct Launch {
    backend: Backend,
    args: Vec<String>,
    env: Vec<(String, Option<String>)>,
    wrapper: Vec<String>,
    exec_wrapper: Vec<String>,
    program: Option<std::path::PathBuf>,
    cwd: Option<std::path::PathBuf>,
    before: Before,
    listen: Vec<String>,
    stderr: Option<Stdio>,
}

/// What a started program gets between fork and exec.
#[derive(Clone, Copy, Default)]
pub(crate) struct Before {
    /// The errno with which io_uring calls are denied.
    pub(crate) deny: Option<i32>,
    /// Whether SIGHUP is ignored, as under `nohup`.
    pub(crate) ignore_hangup: bool,
    /// Whether an inherited descriptor 57 stays open over exec.
    pub(crate) leak_descriptor: bool,
    /// A terminal's slave side, to lead a session on.
    pub(crate) terminal: Option<RawFd>,
}

impl Launch {
    /// `server --host 127.0.0.1 --port 0`, and nothing else.
    pub(crate) fn new(backend: Backend) -> Self {
        Self {
            backend,
            args: Vec::new(),
            env: Vec::new(),
            wrapper: Vec::new(),
            exec_wrapper: Vec::new(),
            program: None,
            cwd: None,
            before: Before {
                deny: (backend == Backend::Epoll).then(denial_errno),
                ..Before::default()
            },
            listen: ["--host", "127.0.0.1", "--port"]
                .map(str::to_owned)
                .to_vec(),
            stderr: None,
        }
    }

    /// Another standard error than a pipe that is read; then there is no start line to be seen,
    /// and the port is one that was free a moment ago.
    pub(crate) fn stderr(mut self, to: impl Into<Stdio>) -> Self {
        self.stderr = Some(to.into());
        self
    }

    /// Another address and port to listen on; the tests talk to `127.0.0.1` or `[::1]`.
    pub(crate) fn listen(mut self, args: &[&str]) -> Self {
        self.listen = args.iter().map(|a| (*a).to_owned()).collect();
        self
    }

    /// Denies io_uring with this errno, or not at all.
    pub(crate) fn deny(mut self, errno: Option<i32>) -> Self {
        self.before.deny = errno;
        self
    }

    /// Starts the server with a descriptor of its parent's left open.
    pub(crate) fn leaking_descriptor(mut self) -> Self {
        self.before.leak_descriptor = true;
        self
    }

    /// More arguments for `server`.
    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|a| (*a).to_owned()));
        self
    }

    /// A variable of the server's environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), Some(value.to_owned())));
        self
    }

    /// A variable that the server's environment must not have.
    pub(crate) fn env_remove(mut self, name: &str) -> Self {
        self.env.push((name.to_owned(), None));
        self
    }

    /// The server's working directory.
    pub(crate) fn cwd(mut self, path: &std::path::Path) -> Self {
        self.cwd = Some(path.to_owned());
        self
    }

    /// Starts the server as the child of another command, such as `unshare -fp`.
    pub(crate) fn through(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|a| (*a).to_owned()).collect();
        self
    }

    /// Starts the server through a command that becomes it by exec, in the same process.
    pub(crate) fn through_exec(mut self, wrapper: &[impl AsRef<str>]) -> Self {
        self.exec_wrapper = wrapper.iter().map(|a| a.as_ref().to_owned()).collect();
        self
    }

    /// A copy of the built program, for users who cannot reach the original.
    pub(crate) fn program(mut self, path: &std::path::Path) -> Self {
        self.program = Some(path.to_owned());
        self
    }

    /// Starts the server with SIGHUP ignored, as `nohup` does.
    pub(crate) fn ignoring_hangup(mut self) -> Self {
        self.before.ignore_hangup = true;
        self
    }

    /// Starts the server as the leader of a session on this terminal, whose slave side is to stay
    /// open until then.
    pub(crate) fn on_terminal(mut self, slave: &impl AsRawFd) -> Self {
        self.before.terminal = Some(slave.as_raw_fd());
        self
    }

    /// Starts and waits until the server listens.
    #[track_caller]
    pub(crate) fn start(self) -> Server {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let serial = NEXT.fetch_add(1, Ordering::Relaxed);
        let mark = format!("PROCRING_TEST_MARK={}-{serial}", std::process::id());
        let foreign = foreign();
        let program = foreign
            .clone()
            .or_else(|| Some(self.program.as_ref()?.display().to_string()))
            .unwrap_or_else(|| env!("CARGO_BIN_EXE_procring").to_owned());
        let mut line = [self.wrapper.clone(), self.exec_wrapper].concat();
        line.push(program);
        let silent = foreign.is_some() || self.stderr.is_some();
        let port = if silent { free_port() } else { 0 };
        line.push("server".to_owned());
        line.extend(self.listen);
        if line.last().is_some_and(|last| last == "--port") {
            line.push(port.to_string());
        }
        if foreign.is_some() {
            line.push("--no-telemetry".to_owned());
        }
        line.extend(self.args);
        let is_kept = line.iter().any(|arg| arg == "--keep");
        if std::env::var_os("PROCRING_TEST_KEEP").is_some() && !is_kept {
            line.push("--keep".to_owned());
        }
        let mut command = Command::new(&line[0]);
        command
            .args(&line[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(self.stderr.unwrap_or_else(Stdio::piped));
        let (name, value) = mark.split_once('=').unwrap();
        command.env(name, value).env_remove("PROCRING_TOKEN");
        for (name, value) in &self.env {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(cwd) = &self.cwd {
            command.current_dir(cwd);
        }
        // A group of its own: a child that signals its group must not reach the tests. Who leads
        // a session leads a group, too, and could not begin one if it did already.
        if self.before.terminal.is_none() {
            command.process_group(0);
        }
        before_exec(&mut command, self.before);
        let child = command.spawn().expect("start the server");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut server = Server::adopt(child, mark, address);
        if silent {
            eventually("a server that says nothing to listen", || {
                TcpStream::connect(address).ok()
            });
        } else {
            server.await_start_line(self.backend);
        }
        if !self.wrapper.is_empty() {
            let wrapper = server.pid;
            server.pid = eventually("the wrapped server", || procfs::children_of(wrapper).pop());
        }
        server
    }
}

/// Between fork and exec: death with the starting thread, the filter, ignored SIGHUP.
pub(crate) fn before_exec(command: &mut Command, before: Before) {
    let mut denial = before.deny.map(Denial::new);
    let hook = move || {
        // SAFETY: plain integers, no pointer.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        // std blocks nothing, but a test runner may have ignored signals: start clean.
        let action = if before.ignore_hangup {
            libc::SIG_IGN
        } else {
            libc::SIG_DFL
        };
        // SAFETY: sets dispositions that need no handler.
        unsafe {
            libc::signal(libc::SIGHUP, action);
            libc::signal(libc::SIGINT, libc::SIG_DFL);
            libc::signal(libc::SIGQUIT, libc::SIG_DFL);
        }
        if let Some(slave) = before.terminal {
            // SAFETY: no pointer; on an error the server has no terminal, and the test fails.
            unsafe {
                libc::setsid();
                libc::ioctl(slave, libc::TIOCSCTTY, 0);
            }
        }
        if before.leak_descriptor {
            // SAFETY: plain integers; the copy of standard input is not close-on-exec.
            unsafe { libc::dup2(0, 57) };
        }
        denial.as_mut().map_or(Ok(()), Denial::install)
    };
    // SAFETY: the closure makes only raw system calls (prctl, sigaction, setsid, ioctl, dup2) on
    // memory it owns since before the fork; it neither allocates nor locks.
    unsafe { command.pre_exec(hook) };
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// What starts a program as the first of a PID namespace, for [`Launch::through`]; None, and a line
/// that says so, where that is not allowed.
pub(crate) fn pid_namespace() -> Option<&'static [&'static str]> {
    let is_allowed = |wrapper: &&&[&str]| {
        let mut tried = Command::new(wrapper[0]);
        let tried = tried.args(&wrapper[1..]).arg("true").status();
        tried.is_ok_and(|status| status.success())
    };
    let ways: [&[&str]; 2] = [
        &["unshare", "-fp", "--mount-proc"],
        &["unshare", "-Urfp", "--mount-proc"],
    ];
    let found = ways.iter().find(is_allowed).copied();
    if found.is_none() {
        skipped_anywhere("unshare(1) cannot make a PID namespace; PID 1 is not tested");
    }
    found
}

/// The exit code and output of the binary run with `args` until it ends by itself.
#[track_caller]
pub(crate) fn run_binary(args: &[&str], deny: Option<i32>) -> (Option<i32>, String, String) {
    let program = foreign().unwrap_or_else(|| env!("CARGO_BIN_EXE_procring").to_owned());
    let mut command = Command::new(program);
    command.args(args).env_remove("PROCRING_TOKEN");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    before_exec(
        &mut command,
        Before {
            deny,
            ..Before::default()
        },
    );
    let mut child = command.spawn().expect("start the binary");
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let end = Instant::now() + WAIT;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > end {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{args:?}: still running after {WAIT:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let (mut stdout, mut stderr) = (String::new(), String::new());
    out.read_to_string(&mut stdout).unwrap();
    err.read_to_string(&mut stderr).unwrap();
    (status.code(), stdout, stderr)
}
