//! A server under test: started, asked, and cleaned up with all it left behind.
//!
//! Owns the child process and whatever descends from it. Every server carries a mark of
//! its own in its environment; its children inherit it, so that a sweep of `/proc`
//! finds and ends what is left when the test is over, by pid.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::Value;

use super::backend::{Backend, Denial, denial_errno};
use super::{Conn, Response, WAIT, eventually, procfs};

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
    cwd: Option<std::path::PathBuf>,
    before: Before,
    listen: Vec<String>,
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
            cwd: None,
            before: Before {
                deny: (backend == Backend::Epoll).then(denial_errno),
                ..Before::default()
            },
            listen: ["--host", "127.0.0.1", "--port"]
                .map(str::to_owned)
                .to_vec(),
        }
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
    pub(crate) fn through_exec(mut self, wrapper: &[&str]) -> Self {
        self.exec_wrapper = wrapper.iter().map(|a| (*a).to_owned()).collect();
        self
    }

    /// Starts the server with SIGHUP ignored, as `nohup` does.
    pub(crate) fn ignoring_hangup(mut self) -> Self {
        self.before.ignore_hangup = true;
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
            .unwrap_or_else(|| env!("CARGO_BIN_EXE_procring").to_owned());
        let mut line = [self.wrapper.clone(), self.exec_wrapper].concat();
        line.push(program);
        let port = if foreign.is_some() { free_port() } else { 0 };
        line.push("server".to_owned());
        line.extend(self.listen);
        if line.last().is_some_and(|last| last == "--port") {
            line.push(port.to_string());
        }
        if foreign.is_some() {
            line.push("--no-telemetry".to_owned());
        }
        line.extend(self.args);
        let mut command = Command::new(&line[0]);
        command
            .args(&line[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
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
        // A group of its own: a child that signals its group must not reach the tests.
        command.process_group(0);
        before_exec(&mut command, self.before);
        let mut child = command.spawn().expect("start the server");
        let stderr = Stderr::capture(&mut child);
        let mut server = Server {
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            pid: child.id() as i32,
            child,
            mark,
            stderr,
            start_line: String::new(),
        };
        if foreign.is_some() {
            let address = server.address;
            eventually("the other server to listen", || {
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
        // SAFETY: sets a disposition that needs no handler.
        unsafe { libc::signal(libc::SIGHUP, action) };
        if before.leak_descriptor {
            // SAFETY: plain integers; the copy of standard input is not close-on-exec.
            unsafe { libc::dup2(0, 57) };
        }
        denial.as_mut().map_or(Ok(()), Denial::install)
    };
    // SAFETY: the closure makes only raw system calls (prctl, sigaction, dup2) on memory it
    // owns since before the fork; it neither allocates nor locks.
    unsafe { command.pre_exec(hook) };
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// What the server wrote to its standard error so far.
#[derive(Clone)]
struct Stderr {
    text: Arc<Mutex<String>>,
    first_lines: Arc<Mutex<mpsc::Receiver<String>>>,
}

impl Stderr {
    fn capture(child: &mut Child) -> Self {
        let pipe = child.stderr.take().expect("a pipe");
        let text = Arc::new(Mutex::new(String::new()));
        let (tell, first_lines) = mpsc::channel();
        let sink = Arc::clone(&text);
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                sink.lock().unwrap().push_str(&format!("{line}\n"));
                let _ = tell.send(line);
            }
        });
        Self {
            text,
            first_lines: Arc::new(Mutex::new(first_lines)),
        }
    }
}

/// A running server; dropping it ends it and everything that it left behind.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// The pid of the started process: the server itself, unless started through a wrapper.
    pub(crate) pid: i32,
    /// The line that the server prints once it listens.
    pub(crate) start_line: String,
    child: Child,
    mark: String,
    stderr: Stderr,
}

impl Server {
    /// An open server (`--no-token`).
    #[track_caller]
    pub(crate) fn open(backend: Backend) -> Self {
        Launch::new(backend).args(&["--no-token"]).start()
    }

    fn await_start_line(&mut self, backend: Backend) {
        let end = Instant::now() + WAIT;
        let lines = Arc::clone(&self.stderr.first_lines);
        let lines = lines.lock().unwrap();
        let line = loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = match lines.recv_timeout(left) {
                Ok(line) => line,
                Err(e) => panic!("no start line ({e}); stderr: {:?}", self.stderr()),
            };
            if line.contains("listening on http://") {
                break line;
            }
        };
        let address = line
            .split("http://")
            .nth(1)
            .and_then(|rest| rest.split(' ').next());
        self.address = address
            .and_then(|a| a.parse().ok())
            .expect("an address in the start line");
        if self.address.ip().is_unspecified() {
            self.address.set_ip([127, 0, 0, 1].into());
        }
        let words = line.split("http://").nth(1).unwrap_or_default();
        let other = if backend == Backend::Uring {
            Backend::Epoll
        } else {
            Backend::Uring
        };
        assert!(
            words.contains(backend.word()),
            "{} expected: {line:?}",
            backend.word()
        );
        assert!(
            !words.contains(&format!(", {}", other.word())),
            "{} named: {line:?}",
            other.word()
        );
        self.start_line = line;
    }

    /// What the server wrote to standard error so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.text.lock().unwrap().clone()
    }

    pub(crate) fn conn(&self) -> Conn {
        Conn::open(self.address)
    }

    /// One request on a connection of its own, which must end after the answer.
    #[track_caller]
    pub(crate) fn request(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        let mut conn = self.conn();
        let mut head = format!("{method} {target} HTTP/1.1\r\n");
        if !headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("host"))
        {
            head.push_str(&format!("Host: {}\r\n", self.address));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() || method == "POST" {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("Connection: close\r\n\r\n");
        conn.send_some([head.as_bytes(), body].concat());
        let response = conn.response(method);
        conn.expect_closed();
        response
    }

    #[track_caller]
    pub(crate) fn get(&self, target: &str) -> Response {
        self.request("GET", target, &[], b"")
    }

    #[track_caller]
    pub(crate) fn delete(&self, target: &str) -> Response {
        self.request("DELETE", target, &[], b"")
    }

    /// A POST without a body.
    #[track_caller]
    pub(crate) fn post_empty(&self, target: &str) -> Response {
        self.request("POST", target, &[], b"")
    }

    #[track_caller]
    pub(crate) fn post(&self, target: &str, body: &Value) -> Response {
        self.post_text(target, &body.to_string())
    }

    /// A POST of `body` as it stands, called JSON.
    #[track_caller]
    pub(crate) fn post_text(&self, target: &str, body: &str) -> Response {
        self.request(
            "POST",
            target,
            &[("Content-Type", "application/json")],
            body.as_bytes(),
        )
    }

    #[track_caller]
    pub(crate) fn run(&self, body: &Value) -> Value {
        self.post("/v1/processes/run", body).json()
    }

    /// Creates a managed process; gives its ProcessInfo.
    #[track_caller]
    pub(crate) fn create(&self, body: &Value) -> Value {
        self.post("/v1/processes", body).json()
    }

    /// Creates a managed process; gives its id.
    #[track_caller]
    pub(crate) fn spawn(&self, body: &Value) -> String {
        self.create(body)["id"].as_str().expect("an id").to_owned()
    }

    #[track_caller]
    pub(crate) fn info(&self, id: &str) -> Value {
        self.get(&format!("/v1/processes/{id}")).json()
    }

    #[track_caller]
    pub(crate) fn await_exit(&self, id: &str) -> Value {
        eventually(&format!("{id} to exit"), || {
            let info = self.info(id);
            (info["status"] == "exited").then_some(info)
        })
    }

    #[track_caller]
    pub(crate) fn kill(&self, id: &str) -> Value {
        self.post_empty(&format!("/v1/processes/{id}/kill?waitMs=20000"))
            .json()
    }

    #[track_caller]
    pub(crate) fn logs(&self, id: &str, query: &str) -> Value {
        self.get(&format!("/v1/processes/{id}/logs{query}")).json()
    }

    /// The decoded bytes of one stream's retained log.
    #[track_caller]
    pub(crate) fn output(&self, id: &str, stream: &str) -> Vec<u8> {
        let logs = self.logs(id, &format!("?stream={stream}"));
        logs["entries"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(entry_bytes)
            .collect()
    }

    /// Waits until the retained log of one stream holds `text`.
    #[track_caller]
    pub(crate) fn await_output(&self, id: &str, text: &str) -> String {
        eventually(&format!("{text:?} in the log of {id}"), || {
            let output = String::from_utf8_lossy(&self.output(id, "combined")).into_owned();
            output.contains(text).then_some(output)
        })
    }

    /// Replaces some fields of the configuration.
    #[track_caller]
    pub(crate) fn configure(&self, fields: &[(&str, u64)]) {
        let mut config = self.get("/v1/processes/config").json();
        for (name, value) in fields {
            config[*name] = (*value).into();
        }
        self.post("/v1/processes/config", &config).expect(200);
    }

    /// The environment the server was started with, `Launch::env` apart.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let (name, value) = self.mark.split_once('=').unwrap();
        let own = std::env::vars().filter(|(name, _)| name != "PROCRING_TOKEN");
        own.chain([(name.to_owned(), value.to_owned())]).collect()
    }

    /// Open connections to the server, by proc_net_tcp(5): those not yet closed by both.
    pub(crate) fn connections(&self) -> usize {
        let local = format!(":{:04X}", self.address.port());
        let table = std::fs::read_to_string("/proc/net/tcp").expect("/proc/net/tcp");
        let established_or_half_closed = ["01", "04", "05", "08", "09"];
        let open = |line: &&str| {
            let mut fields = line.split_whitespace().skip(1);
            let at_server = fields.next().is_some_and(|f| f.ends_with(&local));
            at_server
                && fields
                    .nth(1)
                    .is_some_and(|s| established_or_half_closed.contains(&s))
        };
        table.lines().skip(1).filter(open).count()
    }

    /// Living processes that this server started, directly or not.
    pub(crate) fn survivors(&self) -> Vec<i32> {
        let own = [self.pid, self.child.id() as i32];
        procfs::pids_with_environment(&self.mark)
            .into_iter()
            .filter(|p| !own.contains(p))
            .collect()
    }

    pub(crate) fn signal(&self, signal: i32) {
        send_signal(self.pid, signal);
    }

    /// Waits for the server's own end.
    #[track_caller]
    pub(crate) fn await_end(&mut self, wait: Duration) -> ExitStatus {
        let end = Instant::now() + wait;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                Instant::now() < end,
                "the server has not ended within {wait:?}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Twice, since what forks meanwhile may be missed once.
        for _ in 0..2 {
            for pid in procfs::pids_with_environment(&self.mark) {
                send_signal(pid, libc::SIGKILL);
            }
        }
        if std::thread::panicking() {
            eprintln!("the server's stderr:\n{}", self.stderr());
        }
    }
}

/// Sends a signal to one process that a test started.
pub(crate) fn send_signal(pid: i32, signal: i32) {
    assert!(pid > 1);
    // SAFETY: no pointer; a pid that is gone gives ESRCH, which nobody needs.
    unsafe { libc::kill(pid, signal) };
}

/// The decoded bytes of a log entry.
pub(crate) fn entry_bytes(entry: &Value) -> Vec<u8> {
    assert_eq!(entry["encoding"], "base64");
    let data = entry["data"].as_str().expect("data");
    base64::engine::general_purpose::STANDARD
        .decode(data)
        .expect("base64")
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
