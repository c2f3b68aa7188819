//! A server that a service manager has started (systemd.service(5), `Type=notify`): what it says
//! to it and when.
//!
//! Safety: this file reopens `unsafe` for ptrace(2) and waitpid(2), which stop one thread of a
//! server; they write to nothing but a local integer.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::json;

use crate::harness::{Backend, Launch, Server, WAIT, eventually, on_both, sh, skipped_anywhere};

on_both!(
    a_service_manager_hears_of_the_start_and_of_the_end,
    a_reload_is_told_and_leaves_the_status_as_it_is,
    a_watchdog_hears_of_a_server_whose_threads_both_work_and_of_no_other,
    a_server_without_descriptors_is_not_taken_for_hung,
    an_upgrade_is_a_reload_of_the_same_process,
    a_watchdog_of_a_keeper_hears_of_its_server,
    nobody_wakes_up_for_a_watchdog_that_is_not_there,
);

/// The receiving end of NOTIFY_SOCKET.
struct Manager {
    socket: UnixDatagram,
    name: String,
}

impl Manager {
    fn new(test: &str, backend: Backend) -> Self {
        let name = format!("procring-{test}-{}-{}", std::process::id(), backend.word());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        Self { socket, name }
    }

    fn launch(&self, backend: Backend) -> Launch {
        let launch = Launch::new(backend).args(&["--no-token"]);
        launch.env("NOTIFY_SOCKET", &format!("@{}", self.name))
    }

    /// The next word, if there is one in time.
    fn hears(&self, within: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(within)).unwrap();
        let mut buffer = [0; 4096];
        let len = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8(buffer[..len].to_vec()).unwrap())
    }

    /// The next word that says `what`.
    #[track_caller]
    fn awaits(&self, what: &str) -> String {
        loop {
            let word = self.hears(WAIT).expect(what);
            if word.lines().any(|line| line == what) {
                return word;
            }
        }
    }

    /// What has come so far is old.
    fn forgets(&self) {
        self.socket.set_nonblocking(true).unwrap();
        while self.socket.recv(&mut [0; 1]).is_ok() {}
        self.socket.set_nonblocking(false).unwrap();
    }
}

fn a_service_manager_hears_of_the_start_and_of_the_end(backend: Backend) {
    let manager = Manager::new("ready", backend);
    let mut server = manager.launch(backend).start();
    let ready = manager.awaits("READY=1");
    assert!(
        ready.contains(&format!("STATUS=listening on http://{}", server.address)),
        "{ready}"
    );
    // It is answered from here on.
    server.get("/v1/health").expect(200);
    server.spawn(&json!({"command": "sleep", "args": ["77"]}));
    server.signal(libc::SIGTERM);
    let stopping = manager.awaits("STOPPING=1");
    assert!(stopping.contains("to be ended: 1"), "{stopping}");
    // The default grace, what comes after it, and the last words.
    assert!(
        stopping.contains("EXTEND_TIMEOUT_USEC=6150000"),
        "{stopping}"
    );
    assert_eq!(server.await_end(WAIT).code(), Some(0));
    assert_eq!(manager.hears(Duration::from_millis(1)), None);
}

fn a_reload_is_told_and_leaves_the_status_as_it_is(backend: Backend) {
    let manager = Manager::new("reload", backend);
    // With a terminal SIGHUP would end it.
    let launch = manager.launch(backend).through(&["setsid", "--wait"]);
    let server = launch.start();
    manager.awaits("READY=1");
    server.spawn(&json!({"command": "sleep", "args": ["77"]}));
    server.signal(libc::SIGHUP);
    let reloading = manager.awaits("RELOADING=1");
    assert!(reloading.contains("\nMONOTONIC_USEC="), "{reloading}");
    let ready = manager.awaits("READY=1");
    let status = format!(
        "STATUS=listening on http://{}; processes: 1 running, runs: 0",
        server.address
    );
    assert!(ready.lines().any(|line| line == status), "{ready}");
}

fn an_upgrade_is_a_reload_of_the_same_process(backend: Backend) {
    let manager = Manager::new("upgrade", backend);
    let server = manager.launch(backend).args(&["--keep"]).start();
    manager.awaits("READY=1");
    for _ in 0..2 {
        server.signal(libc::SIGUSR2);
        let reloading = manager.awaits("RELOADING=1");
        assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
        let ready = manager.awaits("READY=1");
        assert!(!ready.contains("MAINPID"), "{ready}");
        assert_eq!(server.get("/v1/server").json()["pid"], server.pid);
    }
}

fn a_watchdog_of_a_keeper_hears_of_its_server(backend: Backend) {
    let manager = Manager::new("kept-watchdog", backend);
    // As systemd has it: for the main process, which is the keeper.
    let own = ["sh", "-c", "WATCHDOG_PID=$$ exec \"$@\"", "sh"];
    let launch = manager.launch(backend).args(&["--keep"]);
    let server = launch
        .through_exec(&own)
        .env("WATCHDOG_USEC", "400000")
        .start();
    manager.awaits("WATCHDOG=1");
    server.signal(libc::SIGUSR2);
    manager.awaits("RELOADING=1");
    manager.awaits("READY=1");
    manager.awaits("WATCHDOG=1");
}

/// A thread of a server that does not go on.
pub(crate) struct Stopped(i32);

impl Stopped {
    pub(crate) fn new(server: &Server, name: &str) -> std::io::Result<Self> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid))?;
        let comm = |task: &std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm"));
        let found = tasks
            .flatten()
            .find(|task| comm(task).is_ok_and(|comm| comm.trim_end() == name));
        let found = found.ok_or(std::io::ErrorKind::NotFound)?;
        let tid: i32 = found.file_name().to_string_lossy().parse().unwrap();
        // SAFETY: no pointer is read or written for these requests.
        let seized = unsafe {
            libc::ptrace(libc::PTRACE_SEIZE, tid, 0, 0) == 0
                && libc::ptrace(libc::PTRACE_INTERRUPT, tid, 0, 0) == 0
        };
        if !seized {
            return Err(std::io::Error::last_os_error());
        }
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        unsafe { libc::waitpid(tid, &raw mut status, libc::__WALL) };
        Ok(Self(tid))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // SAFETY: no pointer; the thread goes on.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.0, 0, 0) };
    }
}

fn a_watchdog_hears_of_a_server_whose_threads_both_work_and_of_no_other(backend: Backend) {
    let manager = Manager::new("watchdog", backend);
    let launch = manager.launch(backend).env("WATCHDOG_USEC", "100000");
    let server = launch.start();
    manager.awaits("READY=1");
    server.spawn(&json!({"command": "sleep", "args": ["77"]}));
    eventually("a word about the process", || {
        let word = manager.awaits("WATCHDOG=1");
        word.contains("processes: 1 running").then_some(())
    });
    for thread in ["supervisor", "procring"] {
        let stopped = match Stopped::new(&server, thread) {
            Ok(stopped) => stopped,
            Err(error) => return skipped_anywhere(&format!("ptrace(2) is refused: {error}")),
        };
        // What was on its way has come by then.
        let _ = manager.hears(Duration::from_millis(300));
        manager.forgets();
        assert_eq!(
            manager.hears(Duration::from_millis(700)),
            None,
            "{thread} does not work"
        );
        drop(stopped);
        manager.awaits("WATCHDOG=1");
    }
    assert_eq!(server.run(&sh("exit 3"))["exitCode"], 3);
}

fn a_server_without_descriptors_is_not_taken_for_hung(backend: Backend) {
    let manager = Manager::new("descriptors", backend);
    let launch = manager.launch(backend).env("WATCHDOG_USEC", "100000");
    let server = launch.start();
    manager.awaits("WATCHDOG=1");
    // From now on it gets no other. Not 0, which poll(2) refuses to wait with.
    let none = Rlimit {
        current: Some(3),
        maximum: Some(3),
    };
    prlimit(Pid::from_raw(server.pid), Resource::Nofile, none).unwrap();
    manager.forgets();
    for _ in 0..3 {
        manager.awaits("WATCHDOG=1");
    }
}

fn nobody_wakes_up_for_a_watchdog_that_is_not_there(backend: Backend) {
    let manager = Manager::new("unwatched", backend);
    let server = manager.launch(backend).start();
    manager.awaits("READY=1");
    server.get("/v1/health").expect(200);
    assert_eq!(manager.hears(Duration::from_millis(300)), None);
    // For another process.
    let other = manager.launch(backend).env("WATCHDOG_USEC", "100000");
    let other = other.env("WATCHDOG_PID", "1").start();
    manager.awaits("READY=1");
    other.get("/v1/health").expect(200);
    assert_eq!(manager.hears(Duration::from_millis(300)), None);
}
