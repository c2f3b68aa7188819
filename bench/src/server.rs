//! Starts one server, waits for its first health answer, and leaves nothing behind.
//!
//! In: a binary that takes the shared command line. Out: an address and a pid. When
//! dropped, the server and every process it started are gone. There is one server at a
//! time: whatever else is a child of this process then is ended, too.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Child;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::account::monotonic_ns;
use crate::launch;
use crate::trouble::{During, Result, Trouble};

/// How long a server may take to its first answer.
const START_MAX: Duration = Duration::from_secs(20);
/// Between two looks whether a server answers.
const LOOK_AGAIN: Duration = Duration::from_micros(20);
/// How long a server may take to end after SIGTERM.
const END_MAX: Duration = Duration::from_secs(4);

/// A running server.
pub(crate) struct Server {
    child: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// From execve(2) to its first health answer.
    pub(crate) started_in: Duration,
}

impl Server {
    /// Starts `binary` on a free port and waits for its first health answer.
    ///
    /// # Errors
    /// `Trouble::Setup` when it ends or does not answer.
    pub(crate) fn start(binary: &Path) -> Result<Server> {
        let address = free_address()?;
        let port = address.port().to_string();
        let args = ["server", "--host", "127.0.0.1", "--port", &port];
        let began = Instant::now();
        let child = launch::start(
            binary,
            &[&args[..], &["--no-token", "--no-telemetry"]].concat(),
        )
        .during("start the server")?;
        let mut server = Server {
            child,
            address,
            started_in: Duration::ZERO,
        };
        while !answers(address) {
            if let Some(status) = server.child.try_wait().during("wait for the server")? {
                return Err(Trouble::Setup(format!(
                    "{} ended at its start: {status}",
                    binary.display()
                )));
            }
            if began.elapsed() > START_MAX {
                return Err(Trouble::TimedOut("the server's first health answer"));
            }
            sleep(LOOK_AGAIN);
        }
        let now = monotonic_ns();
        let executed = launch::executed_at(&mut server.child).during("start the server")?;
        server.started_in = Duration::from_nanos(now.saturating_sub(executed));
        Ok(server)
    }

    /// The server's pid.
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or(i32::MAX)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = Pid::from_child(&self.child);
        // Failures mean that it is gone already.
        let _ = kill_process(pid, Signal::TERM);
        let began = Instant::now();
        while began.elapsed() < END_MAX && matches!(self.child.try_wait(), Ok(None)) {
            sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        end_orphans();
    }
}

/// Ends what a dead server left: this process is their subreaper, so they are children now.
fn end_orphans() {
    for _ in 0..200 {
        let orphans = own_children();
        if orphans.is_empty() {
            return;
        }
        for pid in orphans.into_iter().filter_map(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
            let _ = waitpid(Some(pid), WaitOptions::empty());
        }
    }
}

fn own_children() -> Vec<i32> {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else {
        return Vec::new();
    };
    let lists = tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_ascii_whitespace()
                .flat_map(str::parse)
                .collect::<Vec<i32>>()
        })
        .collect()
}

/// A port that was free a moment ago. Both servers get theirs in this way.
pub(crate) fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).during("find a free port")?;
    listener.local_addr().during("find a free port")
}

fn answers(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else {
        return false;
    };
    let mut answer = [0; 12];
    stream.set_read_timeout(Some(START_MAX)).is_ok()
        && stream
            .write_all(b"GET /v1/health HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")
            .is_ok()
        && stream.read_exact(&mut answer).is_ok()
        && answer.ends_with(b" 200")
}
