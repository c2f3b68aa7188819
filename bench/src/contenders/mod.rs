//! The same small servers on each way to do I/O: why procring's runtime is what it is.
//!
//! HTTP responders run as processes of their own (`serve`), so that their CPU is told from
//! the generator's; pipes are drained by a thread whose CPU clock is read.

mod buffers;
mod epoll;
mod monoio;
mod ring;
mod session;
mod tokio;
mod tokio_uring;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::floor;
use crate::http::request;
use crate::load;
use crate::machine::Machine;
use crate::options::Options;
use crate::results::{Group, GroupRow};
use crate::sys;
use crate::trouble::{During, Result, Trouble};
use monoio::Driver;

/// Bytes of one sparse line.
const LINE: usize = 100;
/// Pipes that sparse lines come from.
const PIPES: usize = 200;
/// Sparse lines in one millisecond.
const LINES_PER_MS: usize = 10;

type Http = fn(TcpListener) -> Result<()>;
type Drain = fn(OwnedFd, u64) -> Result<()>;
type Lines = fn(Vec<OwnedFd>, u64) -> Result<()>;

/// The HTTP responders; the first is the floor.
const HTTP: [(&str, Http); 9] = [
    ("raw epoll", epoll::http),
    (
        "raw io_uring: multishot, buffer ring, DEFER_TASKRUN",
        |listener| ring::http(true, listener),
    ),
    ("raw io_uring: the same, default flags", |listener| {
        ring::http(false, listener)
    }),
    ("monoio: SINGLE_ISSUER, DEFER_TASKRUN", |listener| {
        monoio::http(Driver::Defer, listener)
    }),
    ("monoio: COOP_TASKRUN", |listener| {
        monoio::http(Driver::Coop, listener)
    }),
    ("monoio: default flags", |listener| {
        monoio::http(Driver::Plain, listener)
    }),
    ("monoio: epoll driver", |listener| {
        monoio::http(Driver::Epoll, listener)
    }),
    ("tokio, current thread", tokio::http),
    ("tokio-uring", tokio_uring::http),
];

/// Ways to drain one pipe; the first is the floor.
const DRAIN: [(&str, Drain); 9] = [
    ("raw epoll + read", epoll::drain),
    ("blocking read", epoll::drain_blocking),
    ("raw io_uring: READ, DEFER_TASKRUN", ring::drain_single),
    ("raw io_uring: READ_MULTISHOT, buffer ring", ring::drain),
    ("monoio: readiness + read, DEFER_TASKRUN", |pipe, total| {
        monoio::drain(Driver::Defer, pipe, total)
    }),
    ("monoio: readiness + read, default flags", |pipe, total| {
        monoio::drain(Driver::Plain, pipe, total)
    }),
    ("monoio: readiness + read, epoll driver", |pipe, total| {
        monoio::drain(Driver::Epoll, pipe, total)
    }),
    ("tokio: readiness + read", tokio::drain),
    ("tokio-uring: READ", tokio_uring::drain),
];

/// Ways to read sparse lines from many pipes; the first is the floor.
const LINES: [(&str, Lines); 7] = [
    ("raw epoll + read", epoll::lines),
    (
        "raw io_uring: READ_MULTISHOT, buffer ring, copy",
        ring::lines,
    ),
    ("monoio: readiness + read, DEFER_TASKRUN", |pipes, total| {
        monoio::lines(Driver::Defer, pipes, total)
    }),
    ("monoio: readiness + read, default flags", |pipes, total| {
        monoio::lines(Driver::Plain, pipes, total)
    }),
    ("monoio: readiness + read, epoll driver", |pipes, total| {
        monoio::lines(Driver::Epoll, pipes, total)
    }),
    ("tokio: readiness + read", tokio::lines),
    ("tokio-uring: READ", tokio_uring::lines),
];

/// Measures all contenders.
pub(crate) fn run(options: &Options) -> Result<Vec<Group>> {
    let mut groups = Vec::new();
    if options.wants("contenders-http") {
        groups.push(http_group("contenders-http", &HTTP, options)?);
    }
    if options.wants("contenders-pipe") {
        let total = if options.quick { 64 << 20 } else { 1 << 30 };
        let columns = [("reader CPU", "s/GiB"), ("rate", "GiB/s")];
        let question =
            "One pipe in bulk, 64 KiB writes, into memory: what does the way to read it cost?";
        groups.push(rounds(
            "contenders-pipe",
            question,
            &columns,
            &names(&DRAIN),
            options,
            &|index| {
                let gib = total as f64 / f64::from(1 << 30);
                let spent = drained(DRAIN[index].1, total)?;
                Ok(vec![spent.cpu_s / gib, gib / spent.wall_s])
            },
        )?);
    }
    if options.wants("contenders-lines") {
        let count = if options.quick { 3_000 } else { 20_000 };
        let columns = [("reader CPU", "µs/line")];
        let question = "Sparse lines of 100 B from 200 pipes: what does one cost its reader?";
        groups.push(rounds(
            "contenders-lines",
            question,
            &columns,
            &names(&LINES),
            options,
            &|index| {
                let spent = lines_read(LINES[index].1, count)?;
                Ok(vec![spent.cpu_s * 1e6 / count as f64])
            },
        )?);
    }
    Ok(groups)
}

/// The two responders without a runtime, for the floor.
pub(crate) fn http_floor(options: &Options) -> Result<Group> {
    http_group("floor-http", &HTTP[..2], options)
}

fn http_group(name: &str, contenders: &[(&'static str, Http)], options: &Options) -> Result<Group> {
    let columns = [("server CPU", "µs/request"), ("rate", "requests/s")];
    let question = "HTTP keep-alive, 64 connections, one handler: what does the runtime cost?";
    let duration = Duration::from_millis(if options.quick { 300 } else { 2000 });
    rounds(
        name,
        question,
        &columns,
        &names(contenders),
        options,
        &|index| {
            let responder = Responder::start(contenders[index].0)?;
            let load = |duration| {
                load::epoll(
                    responder.address,
                    64,
                    duration,
                    &request("GET", "/v1/health", b""),
                )
            };
            // Connections and caches first.
            load(duration / 10)?;
            let cpu = || sys::process_cpu(responder.pid()).during("read a responder's CPU clock");
            let (began, before) = (Instant::now(), cpu()?);
            let done = load(duration)?;
            let spent = (cpu()? - before).as_secs_f64();
            if done.wrong > 0 {
                return Err(Trouble::Protocol(format!("{} wrong answers", done.wrong)));
            }
            Ok(vec![
                spent * 1e6 / done.count as f64,
                done.count as f64 / began.elapsed().as_secs_f64(),
            ])
        },
    )
}

fn names<T>(contenders: &[(&'static str, T)]) -> Vec<&'static str> {
    contenders.iter().map(|(name, _)| *name).collect()
}

/// Measures alternatives in interleaved rounds; every other round goes backwards. One that
/// fails keeps its reason instead of figures.
pub(crate) fn rounds(
    name: &str,
    question: &str,
    columns: &[(&str, &str)],
    names: &[&str],
    options: &Options,
    measure: &dyn Fn(usize) -> Result<Vec<f64>>,
) -> Result<Group> {
    let row = |name: &&str| GroupRow {
        name: (*name).to_owned(),
        rounds: Vec::new(),
        note: None,
    };
    let mut rows: Vec<GroupRow> = names.iter().map(row).collect();
    for round in 0..options.rounds() {
        let count = rows.len();
        for step in 0..count {
            let index = if round % 2 == 0 {
                step
            } else {
                count - 1 - step
            };
            if rows[index].note.is_some() {
                continue;
            }
            match measure(index) {
                Ok(figures) => rows[index].rounds.push(figures),
                Err(trouble) => rows[index].note = Some(trouble.to_string()),
            }
        }
        eprintln!("round {} {name}", round + 1);
    }
    Ok(Group {
        name: name.to_owned(),
        question: question.to_owned(),
        columns: columns
            .iter()
            .map(|(name, unit)| ((*name).to_owned(), (*unit).to_owned()))
            .collect(),
        rows,
        machine: Machine::read(),
    })
}

/// `procring-bench serve NAME PORT`: one responder, until it is ended.
pub(crate) fn serve(args: &[String]) -> Result<()> {
    let [name, port] = args else {
        return Err(Trouble::Setup("serve NAME PORT".into()));
    };
    let port = port
        .parse()
        .map_err(|_| Trouble::Setup("serve NAME PORT".into()))?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).during("bind")?;
    if name == floor::run::NAME {
        return floor::run::serve(listener);
    }
    let contender = HTTP.iter().find(|(other, _)| other == name);
    contender
        .ok_or_else(|| Trouble::Setup("no such responder".into()))?
        .1(listener)
}

/// A responder process; dropped, it is gone.
pub(crate) struct Responder {
    child: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Responder {
    /// Starts the responder of this name and waits until it can be connected to.
    pub(crate) fn start(name: &str) -> Result<Responder> {
        let program = std::env::current_exe().during("find this program")?;
        let address = crate::server::free_address()?;
        let mut command = Command::new(program);
        command.args(["serve", name, &address.port().to_string()]);
        sys::die_with_parent(&mut command);
        let mut responder = Responder {
            child: command.spawn().during("start a responder")?,
            address,
        };
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            if responder
                .child
                .try_wait()
                .during("wait for a responder")?
                .is_some()
            {
                return Err(Trouble::Unavailable("the responder did not start".into()));
            }
            if began.elapsed() > Duration::from_secs(5) {
                return Err(Trouble::TimedOut("a responder's start"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(responder)
    }

    /// Its pid.
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or(i32::MAX)
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a reader spent.
struct Spent {
    wall_s: f64,
    cpu_s: f64,
}

/// Runs `work` on a thread of its own and reads that thread's CPU clock.
fn on_thread(
    work: impl FnOnce() -> Result<()> + Send + 'static,
) -> std::thread::JoinHandle<Result<Spent>> {
    std::thread::spawn(move || {
        let cpu = || {
            let now = clock_gettime(ClockId::ThreadCPUTime);
            now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
        };
        let (began, before) = (Instant::now(), cpu());
        work()?;
        Ok(Spent {
            wall_s: began.elapsed().as_secs_f64(),
            cpu_s: cpu() - before,
        })
    })
}

fn joined(reader: std::thread::JoinHandle<Result<Spent>>) -> Result<Spent> {
    reader
        .join()
        .map_err(|_| Trouble::Setup("a reader panicked".into()))?
}

/// One pipe, `total` bytes in 64 KiB writes.
fn drained(drain: Drain, total: u64) -> Result<Spent> {
    let (pipe, writer) = rustix::pipe::pipe().during("pipe")?;
    let reader = on_thread(move || drain(pipe, total));
    let block = vec![b'x'; session::BLOCK];
    let mut left = total;
    while left > 0 {
        match rustix::io::write(&writer, &block[..block.len().min(left as usize)]) {
            Ok(count) => left -= count as u64,
            // The reader has failed; its own error says more.
            Err(_) => break,
        }
    }
    joined(reader)
}

/// Many pipes; every millisecond some of them get one line.
fn lines_read(lines: Lines, count: usize) -> Result<Spent> {
    let mut writers = Vec::new();
    let mut readers = Vec::new();
    for _ in 0..PIPES {
        let (reader, writer) = rustix::pipe::pipe().during("pipe")?;
        readers.push(reader);
        writers.push(writer);
    }
    let reader = on_thread(move || lines(readers, (count * LINE) as u64));
    let line = [b'x'; LINE];
    let began = Instant::now();
    for number in 0..count {
        if number % LINES_PER_MS == 0 {
            let due = Duration::from_millis((number / LINES_PER_MS) as u64);
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
        if rustix::io::write(&writers[number * 7 % PIPES], &line).is_err() {
            break;
        }
    }
    joined(reader)
}
