//! The process API as a blocking client calls it: create, input, kill, delete, logs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::{Value, json};

use crate::http::{Connection, request};
use crate::trouble::{During, Result, Trouble};

/// Where the API keeps its processes.
pub(crate) const PROCESSES: &str = "/v1/processes";

/// A managed process, as the server named it.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    /// `proc_N`.
    pub(crate) id: String,
    /// Its pid; 0 when it had ended before the answer to its creation.
    pub(crate) pid: i32,
}

impl Process {
    /// A path below this process.
    pub(crate) fn path(&self, rest: &str) -> String {
        format!("{PROCESSES}/{}{rest}", self.id)
    }

    /// Waits until the process has ended, through a pidfd: no request reaches the server.
    ///
    /// # Errors
    /// `Trouble::TimedOut` after `limit`.
    pub(crate) fn await_end(&self, limit: Duration) -> Result<()> {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return Ok(());
        };
        let fd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            Err(error) => return Err(error).during("pidfd_open"),
        };
        let limit = Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(60),
            tv_nsec: 0,
        };
        match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&limit)).during("poll a pidfd")? {
            0 => Err(Trouble::TimedOut("the end of a process")),
            _ => Ok(()),
        }
    }
}

/// One client of one server.
pub(crate) struct Api {
    connection: Connection,
    program: PathBuf,
}

impl Api {
    /// Connects; `program` is what managed processes run (this benchmark, `child` verb).
    pub(crate) fn open(address: SocketAddr, program: &Path) -> Result<Api> {
        Ok(Api {
            connection: Connection::open(address)?,
            program: program.to_owned(),
        })
    }

    /// The connection, for requests that are prepared once.
    pub(crate) fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Whether the server says that it has `capability` beyond the reference.
    pub(crate) fn offers(&mut self, capability: &str) -> Result<bool> {
        let quoted = format!("\"{capability}\"");
        let status = self
            .connection
            .exchange(&request("GET", "/v1/server", b""))?;
        let told = self.connection.body();
        Ok(status == 200 && memchr::memmem::find(told, quoted.as_bytes()).is_some())
    }

    /// Replaces the configuration's process limit and log limit.
    pub(crate) fn configure(&mut self, processes: u64, log_bytes: u64) -> Result<()> {
        let config = json!({
            "maxConcurrentProcesses": processes, "defaultRunTimeoutMs": 30_000,
            "maxRunTimeoutMs": 300_000, "maxOutputBytes": 4 << 20,
            "maxLogBytesPerProcess": log_bytes, "maxInputBytesPerRequest": 65_536,
        });
        self.post("/v1/processes/config", &config).map(drop)
    }

    /// Creates a process.
    ///
    /// # Errors
    /// `Trouble::Unavailable` where the server answers 501.
    pub(crate) fn create(&mut self, command: &str, args: &[&str], tty: bool) -> Result<Process> {
        let answer = self.post(
            PROCESSES,
            &json!({"command": command, "args": args, "tty": tty}),
        )?;
        parse_process(&answer)
    }

    /// Creates a process that is one of this benchmark's own small programs.
    pub(crate) fn create_child(&mut self, args: &[&str], tty: bool) -> Result<Process> {
        let program = self.program.to_string_lossy().into_owned();
        let args: Vec<&str> = std::iter::once("child")
            .chain(args.iter().copied())
            .collect();
        self.create(&program, &args, tty)
    }

    /// Sends text to a process.
    pub(crate) fn input(&mut self, process: &Process, text: &str) -> Result<()> {
        self.post(
            &process.path("/input"),
            &json!({"data": text, "encoding": "utf8"}),
        )
        .map(drop)
    }

    /// Kills a process.
    pub(crate) fn kill(&mut self, process: &Process) -> Result<()> {
        self.post(&process.path("/kill"), &Value::Null).map(drop)
    }

    /// Deletes a process that has ended; asks again while the server has not noticed the
    /// end. Returns how often it had to ask again.
    pub(crate) fn delete(&mut self, process: &Process) -> Result<u64> {
        for again in 0..20_000 {
            let answer = self.connection.ask("DELETE", &process.path(""), b"")?;
            match answer.status {
                204 => return Ok(again),
                409 => std::thread::sleep(Duration::from_micros(100)),
                status => return Err(Trouble::Protocol(format!("DELETE answered {status}"))),
            }
        }
        Err(Trouble::TimedOut("a process to count as ended"))
    }

    /// The decoded log.
    pub(crate) fn logs(&mut self, process: &Process, query: &str) -> Result<Vec<u8>> {
        use base64::Engine;
        let path = process.path("/logs") + query;
        let body = self.get(&path)?;
        let value: Value =
            serde_json::from_slice(&body).map_err(|e| Trouble::Protocol(e.to_string()))?;
        let mut bytes = Vec::new();
        for entry in value["entries"].as_array().into_iter().flatten() {
            base64::engine::general_purpose::STANDARD
                .decode_vec(entry["data"].as_str().unwrap_or(""), &mut bytes)
                .map_err(|e| Trouble::Protocol(e.to_string()))?;
        }
        Ok(bytes)
    }

    /// Waits until the log holds `text`.
    pub(crate) fn await_log(&mut self, process: &Process, text: &[u8]) -> Result<()> {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(20) {
            if memchr::memmem::find(&self.logs(process, "")?, text).is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Err(Trouble::TimedOut("a word in the log"))
    }

    /// GET that must answer 200.
    pub(crate) fn get(&mut self, path: &str) -> Result<Vec<u8>> {
        let answer = self.connection.ask("GET", path, b"")?;
        accept(path, answer.status, answer.body)
    }

    fn post(&mut self, path: &str, body: &Value) -> Result<Vec<u8>> {
        let answer = self
            .connection
            .ask("POST", path, body.to_string().as_bytes())?;
        accept(path, answer.status, answer.body)
    }
}

/// Reads the id and the pid out of a ProcessInfo.
pub(crate) fn parse_process(body: &[u8]) -> Result<Process> {
    let value: Value =
        serde_json::from_slice(body).map_err(|e| Trouble::Protocol(e.to_string()))?;
    let id = value["id"].as_str().unwrap_or("").to_owned();
    let pid = value["pid"]
        .as_i64()
        .and_then(|pid| i32::try_from(pid).ok())
        .unwrap_or(0);
    Ok(Process { id, pid })
}

/// The body of a 200; anything else is a trouble of the right kind.
pub(crate) fn accept(path: &str, status: u16, body: Vec<u8>) -> Result<Vec<u8>> {
    match status {
        200 => Ok(body),
        501 => Err(Trouble::Unavailable(format!("{path} answers 501"))),
        _ => Err(Trouble::Protocol(format!(
            "{path} answered {status}: {}",
            String::from_utf8_lossy(&body[..body.len().min(200)])
        ))),
    }
}
