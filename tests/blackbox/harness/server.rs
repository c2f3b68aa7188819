//! A server under test: started, asked, and cleaned up with all it left behind.
//!
//! Owns the child process and whatever descends from it. Every server carries a mark of
//! its own in its environment; its children inherit it, so that a sweep of `/proc`
//! finds and ends what is left when the test is over, by pid.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::{Value, json};

use super::{Backend, Conn, Launch, Response, WAIT, eventually, procfs, sh};

/// What the server wrote to its standard error so far.
#[derive(Clone)]
struct Stderr {
    text: Arc<Mutex<String>>,
    first_lines: Arc<Mutex<mpsc::Receiver<String>>>,
    ended: Arc<AtomicBool>,
}

impl Stderr {
    fn capture(child: &mut Child) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let (tell, first_lines) = mpsc::channel();
        let ended = Arc::<AtomicBool>::default();
        if let Some(pipe) = child.stderr.take() {
            let sink = Arc::clone(&text);
            let ended = Arc::clone(&ended);
            std::thread::spawn(move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    sink.lock().unwrap().push_str(&format!("{line}\n"));
                    let _ = tell.send(line);
                }
                ended.store(true, Ordering::SeqCst);
            });
        }
        Self {
            text,
            first_lines: Arc::new(Mutex::new(first_lines)),
            ended,
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

    /// Takes over a started process that carries `mark` and may not listen yet.
    pub(super) fn adopt(mut child: Child, mark: String, address: SocketAddr) -> Self {
        Self {
            address,
            pid: child.id() as i32,
            start_line: String::new(),
            stderr: Stderr::capture(&mut child),
            child,
            mark,
        }
    }

    /// Waits for the start line; checks the backend it names and takes the address from it.
    pub(super) fn await_start_line(&mut self, backend: Backend) {
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
        let words = line.split("listening on http://").nth(1);
        let words = words.unwrap_or_default();
        let address = words.split(' ').next();
        self.address = address
            .and_then(|a| a.parse().ok())
            .expect("an address in the start line");
        if self.address.ip().is_unspecified() {
            self.address.set_ip([127, 0, 0, 1].into());
        }
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

    /// Whether it will write no more there.
    pub(crate) fn stderr_has_ended(&self) -> bool {
        self.stderr.ended.load(Ordering::SeqCst)
    }

    /// What it wrote there about everything that it was asked before: lines come a moment later.
    #[track_caller]
    pub(crate) fn told_so_far(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mark = format!("mark-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let headers = [
            ("Content-Type", "application/json"),
            ("X-Request-Id", &mark),
        ];
        let body = json!({"command": "true"}).to_string();
        self.request("POST", "/v1/processes/run", &headers, body.as_bytes())
            .expect(200);
        eventually("the last line", || {
            let text = self.stderr();
            let last = |line: &str| line.contains("run_ended") && line.contains(&mark);
            text.lines().any(last).then_some(text)
        })
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

    /// A process that reads nothing until it gets SIGUSR1, and then copies all to its output; it is
    /// ready for the signal. Gives its id and its pid.
    #[track_caller]
    pub(crate) fn sleeper(&self) -> (String, i32) {
        let info = self.create(&sh(
            "trap 'go=1' USR1; while [ -z \"$go\" ]; do sleep 0.05; done; exec cat",
        ));
        let pid = info["pid"].as_i64().expect("a pid") as i32;
        eventually("a trap for SIGUSR1", || {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
            let caught = procfs::mask(&status, "SigCgt");
            (caught & 1 << (libc::SIGUSR1 - 1) != 0).then_some(())
        });
        (info["id"].as_str().expect("an id").to_owned(), pid)
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

    /// Text to a process that runs.
    #[track_caller]
    pub(crate) fn feed(&self, id: &str, text: &str) {
        let body = json!({"data": text, "encoding": "utf8"});
        self.post(&format!("/v1/processes/{id}/input"), &body)
            .expect(200);
    }

    /// A line to a process after each of `texts` is in its log: what it writes then, and not
    /// before, is an entry of its own, however long the server is kept from reading.
    #[track_caller]
    pub(crate) fn feed_after_each(&self, id: &str, texts: &[&str]) {
        for text in texts {
            self.await_output(id, text);
            self.feed(id, "\n");
        }
    }

    /// The lines 1 to `count` to a process that answers each by itself: what it says to line n is
    /// entry n, however long the server is kept from reading.
    #[track_caller]
    pub(crate) fn feed_entries(&self, id: &str, count: u64) {
        for n in 1..=count {
            self.feed(id, &format!("{n}\n"));
            eventually("the entry", || {
                let logs = self.logs(id, "?tail=1");
                (logs["entries"][0]["sequence"] == n).then_some(())
            });
        }
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

    /// The process that serves, where there is a keeper: a child of that, as are all others.
    pub(crate) fn kept(&self) -> Option<i32> {
        let is_it = |pid: &i32| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            name.trim() == "procring-server" && procfs::alive(*pid)
        };
        procfs::children_of(self.pid).into_iter().find(is_it)
    }

    /// Living processes that this server started, directly or not.
    pub(crate) fn survivors(&self) -> Vec<i32> {
        let kept = self.kept().unwrap_or(self.pid);
        let own = [self.pid, self.child.id() as i32, kept];
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
        // By group where one is led by a descendant: a process that forks and exits in a
        // loop is never caught by its pid. Twice, since what forks meanwhile may be missed.
        let own_group = procfs::field(std::process::id() as i32, 2);
        for _ in 0..2 {
            for pid in procfs::pids_with_environment(&self.mark) {
                match procfs::field(pid, 2) {
                    Some(group) if group > 1 && Some(group) != own_group => kill_group(group),
                    _ => send_signal(pid, libc::SIGKILL),
                }
            }
        }
        remove_groups(self.pid);
        if std::thread::panicking() {
            eprintln!("the server's stderr:\n{}", self.stderr());
        }
    }
}

/// Removes the empty cgroups of a server that was killed; the next one would do so, but after the
/// last test there is none.
fn remove_groups(pid: i32) {
    let membership = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let Some(own) = membership
        .lines()
        .find_map(|line| line.strip_prefix("0::/"))
    else {
        return;
    };
    let name = format!("procring-{pid}-0");
    for mount in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
        let dir = Path::new(mount).join(own).join(&name);
        for group in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            // Files stay, and so do groups whose members are still on their way out.
            let _ = std::fs::remove_dir(group.path());
        }
        let _ = std::fs::remove_dir(dir);
    }
}

/// Sends a signal to one process that a test started.
pub(crate) fn send_signal(pid: i32, signal: i32) {
    assert!(pid > 1);
    // SAFETY: no pointer; a pid that is gone gives ESRCH, which nobody needs.
    unsafe { libc::kill(pid, signal) };
}

/// Ends a process group that a test, or a server under test, made.
pub(crate) fn kill_group(group: i32) {
    // SAFETY: no pointer; a group that is gone gives ESRCH, which nobody needs.
    unsafe { libc::kill(-group, libc::SIGKILL) };
}

/// The decoded bytes of a log entry.
pub(crate) fn entry_bytes(entry: &Value) -> Vec<u8> {
    assert_eq!(entry["encoding"], "base64");
    let data = entry["data"].as_str().expect("data");
    base64::engine::general_purpose::STANDARD
        .decode(data)
        .expect("base64")
}
